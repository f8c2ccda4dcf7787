#!/bin/bash
# tests/slurm.sh PROGRAM - harness/slurm on a Slurm of one node, started here for the
# test alone (Debian: slurm-wlm, munge; root), on ports and in folders of its own.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
submit=harness/slurm/submit
out=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-slurm-XXXXXX")
daemons=()
trap 'for p in "${daemons[@]}"; do kill "$p"; done 2>/dev/null; wait; rm -rf "$out"' EXIT

log=$out/log
skip() {
    echo "skip Slurm: $1"
    skipped=$((skipped + 1))
    finish
}

# ---- what needs no Slurm ----
$submit 0 "$out/none" >"$out/stdout" 2>"$out/log"
[ $? = 2 ] && grep -q "'0' is not a number of parts" "$out/log"
check "submit 0 is a usage error" $?

PATH=/usr/sbin:$PATH
for tool in sbatch slurmctld slurmd munged; do
    command -v $tool >/dev/null ||
        skip "$tool is not installed (apt-get install slurm-wlm munge)"
done
[ "$(id -u)" = 0 ] || skip "only root can start its daemons"

# ---- a cluster of this machine ----
host=$(hostname -s)
port=$((20000 + $$ % 20000))
mkdir "$out/munge" "$out/state" "$out/spool"
chmod 755 "$out"
head -c 1024 /dev/urandom >"$out/munge/key"
chmod 400 "$out/munge/key"
cat >"$out/slurm.conf" <<END
ClusterName=attnbench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmctldPidFile=$out/slurmctld.pid
SlurmdPidFile=$out/slurmd.pid
StateSaveLocation=$out/state
SlurmdSpoolDir=$out/spool
AuthType=auth/munge
AuthInfo=socket=$out/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
JobCompType=jobcomp/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=ALL Default=YES MaxTime=10
END
export SLURM_CONF=$out/slurm.conf
munged --foreground --force --key-file "$out/munge/key" \
    --socket "$out/munge/socket" --pid-file "$out/munge/pid" \
    --log-file "$out/munge/log" --seed-file "$out/munge/seed" \
    >"$out/munged.log" 2>&1 &
daemons+=($!)
for _ in $(seq 50); do [ -S "$out/munge/socket" ] && break; sleep 0.1; done
slurmctld -D >"$out/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D >"$out/slurmd.log" 2>&1 &
daemons+=($!)
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && break
    sleep 0.5
done
if [ "$(sinfo --noheader --format=%t 2>&1)" != idle ]; then
    tail -n 2 "$out"/munged.log "$out"/slurm*.log
    skip "a node could not be started on this machine"
fi

# quiet SECONDS: until no job is left
quiet() {
    for _ in $(seq "$1"); do
        [ -z "$(squeue --noheader 2>/dev/null)" ] && return 0
        sleep 1
    done
    squeue >"$out/log"
    return 1
}
cases() { grep -o '"kind":"case".*"case":"[^"]*"' "$1" 2>/dev/null | grep -o '"case".*' | sort; }

# ---- a sweep in three parts ----
sweep=(--kernel 'softmax.flash,linear.fused' --seq 32,48,64,96 --processes 1
    --time 0.02 --check 0)
PROGRAM=$program $submit 3 "$out/run" "${sweep[@]}" >"$out/log" 2>&1
check "submit takes a sweep" $?
quiet 120
check "its jobs come to their end" $?
cat "$out"/run/*.log >"$out/log" 2>/dev/null
[ "$(ls -d "$out"/run/part-[123] | wc -l)" = 3 ] && [ -e "$out/run/journal.jsonl" ]
check "three parts, and their journal" $?
"$program" sweep "${sweep[@]}" --out "$out/alone" >/dev/null 2>&1
[ "$(cases "$out/run/journal.jsonl")" = "$(cases "$out/alone/journal.jsonl")" ] &&
    [ "$(cases "$out/run/journal.jsonl" | wc -l)" = 8 ]
check "together they are the cases of one sweep, each once" $?

# ---- the same command again ----
before=$(cat "$out"/run/part-*/journal.jsonl | grep -c '"kind":"case"')
PROGRAM=$program $submit 3 "$out/run" "${sweep[@]}" >"$out/log" 2>&1 && quiet 120
check "the same again" $?
cat "$out"/run/*.log >"$out/log" 2>/dev/null
[ "$(cat "$out"/run/part-*/journal.jsonl | grep -c '"kind":"case"')" = "$before" ] &&
    [ "$(cases "$out/run/journal.jsonl" | wc -l)" = 8 ]
check "measures nothing twice" $?

# ---- a task that is killed goes on where it was ----
PROGRAM=$program $submit 1 "$out/cut" --kernel 'softmax.flash' \
    --seq 32..512+32 --processes 1 --time 0.3 --ci 0.0001 --check 0 \
    >"$out/log" 2>&1
job=$(grep -oE 'job [0-9]+' "$out/log" | head -1 | grep -oE '[0-9]+')
for _ in $(seq 60); do
    [ "$(cat "$out"/cut/part-1/journal.jsonl 2>/dev/null | grep -c '"kind":"case"')" -ge 3 ] && break
    sleep 0.5
done
scontrol requeue "${job}_1" >>"$out/log" 2>&1
check "a running task is put back into the queue" $?
# Slurm starts it again after two minutes at the earliest, unless it is told to.
for _ in $(seq 20); do
    scontrol update "jobid=${job}_1" starttime=now >/dev/null 2>&1
    squeue --noheader --states=running 2>/dev/null | grep -q . && break
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 1
done
quiet 240
check "and comes to its end" $?
cat "$out"/cut/*.log >"$out/log" 2>/dev/null
[ "$(cases "$out/cut/journal.jsonl" | wc -l)" = 16 ] &&
    [ "$(cases "$out/cut/journal.jsonl" | uniq | wc -l)" = 16 ]
check "with every case once" $?

# ---- mistakes ----
PROGRAM=$program $submit 2 "$out/bad" --kernal x >"$out/stdout" 2>"$out/log"
[ $? = 2 ] && grep -q "unknown option" "$out/log" && ! squeue --noheader | grep -q .
check "a mistake in an option is told before anything is submitted" $?
finish
