#!/bin/bash
# faults.sh PROGRAM [quick] - sweeps that are killed, find the disk full, are
# interrupted or meet another sweep: no row that was reported is lost, none is
# there twice, and the same command finishes the run.
# KILLS=N: so many kills (2 quick, 6 otherwise); SEED=N: other moments.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
kills=${KILLS:-6} limits='30 60'
if [ "$2" = quick ]; then kills=${KILLS:-2} limits=60; fi
RANDOM=${SEED:-1}
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-faults.XXXXXX") || exit 1
mounted=
trap '[ -z "$mounted" ] || umount "$work/disk"; rm -rf "$work"' EXIT
cd "$work" || exit 1

# sweep DIR, and begin DIR in the background as $pid; output in out and err.
options=(--kernel 'softmax.*,linear.*,na2d.*' --seq 16,64 --window 3
    --head-dim 8 --processes 3 --passes 3 --time 0.03 --timeout 60)
sweep() {
    "$program" sweep "${options[@]}" --out "$1" >out 2>err </dev/null
}
# With job control: without it a shell has its background jobs ignore SIGINT, and
# what a sweep was told to ignore it ignores.
begin() {
    set -m
    "$program" sweep "${options[@]}" --out "$1" >out 2>err </dev/null &
    pid=$!
    set +m
}

# "CASE STATUS" of every row, sorted.
rows() {
    grep '"kind":"case"' "$1/journal.jsonl" |
        sed -E 's/.*"case":"([^"]*)".*"status":"([^"]*)".*/\1 \2/' | sort
}

# "CASE PROCESS" of every process that has a row of its own, sorted.
measured() {
    grep '"kind":"pass"' "$1/journal.jsonl" |
        sed -E 's/.*"case":"([^"]*)".*"process":([0-9]+).*/\1 \2/' | sort
}

# What the last sweep told of cases is in the journal of DIR.  A killed sweep
# may have been stopped within its last line.
reported() {
    local case lost=0
    while read -r case _; do
        grep -qF "\"case\":\"$case\"" "$1/journal.jsonl" || lost=1
    done < <(grep -E '^[a-z0-9_.]+/.* ok( |$)' out)
    return $lost
}

same_as_whole() { # what DIR
    cmp -s <(rows whole) <(rows "$2")
    check "$1: cases and statuses differ from an uninterrupted run" $?
    [ -z "$(rows "$2" | cut -d' ' -f1 | uniq -d)" ]
    check "$1: a case is there twice" $?
    [ -z "$(measured "$2" | uniq -d)" ]
    check "$1: a process of a case is there twice" $?
    # more of those that a neighbour spoilt
    [ "$(grep -oE '"processes":([3-9]|[1-9][0-9]+),"passes":([3-9]|[1-9][0-9]+),"units"' "$2/journal.jsonl" |
        wc -l)" = "$cases" ]
    check "$1: not all cases have the processes of all passes" $?
}

sweep whole
check "an uninterrupted sweep ends with $?" $?
cases=$(rows whole | wc -l)
[ "$cases" -ge 10 ]
check "the sweep has $cases cases, too few to be interrupted" $?

# ---- kill -9 --------------------------------------------------------------------
# Every other kill comes at any moment of a run, the others after its next row.
start=$(date +%s%N)
sweep timed
check "a second sweep" $?
length=$((($(date +%s%N) - start) / 1000000))
middle=0
for ((k = 0; k < kills; k++)); do
    dir=killed$((k / 3))
    before=$(cat $dir/journal.jsonl 2>/dev/null | wc -l)
    begin $dir
    moment=$((RANDOM % length))
    if [ $((k % 2)) = 0 ]; then
        moment=$((RANDOM % 200))
        for _ in $(seq 200); do
            [ "$(cat $dir/journal.jsonl 2>/dev/null | wc -l)" -le $((before + 1)) ] || break
            sleep 0.05
        done
    fi
    sleep $((moment / 1000)).$(printf %03d $((moment % 1000)))
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    if [ -e $dir/journal.jsonl ]; then
        n=$(rows $dir | wc -l)
        [ -z "$(measured $dir)" ] || [ "$n" = "$cases" ] || middle=$((middle + 1))
        reported $dir
        check "kill $k after $moment ms (SEED=${SEED:-1}): a reported row is lost" $?
    fi
    if [ $((k % 3)) = 2 ] || [ $k = $((kills - 1)) ]; then
        sweep $dir
        check "resume after kill $k ends with $?" $?
        same_as_whole "resume after kill $k" $dir
    fi
done
[ "$middle" -gt 0 ]
check "no kill left a run in the middle: the sweep is too short" $?
# A journal torn inside each of its rows, as a power failure would leave it.
mkdir torn
bytes=$(wc -c <whole/journal.jsonl)
for part in $limits; do
    head -c $((bytes * part / 100)) whole/journal.jsonl >torn/journal.jsonl
    sweep torn
    check "resume of a journal torn at $part % ends with $?" $?
    same_as_whole "torn at $part %" torn
done

# ---- full disk ------------------------------------------------------------------
# full WHAT DIR - judges a sweep into a full disk that has just ended with $status.
full() {
    [ $status = 3 ]
    check "$1: exit code $status, not 3" $?
    [ "$(grep -c 'cannot add a row' err)" = 1 ]
    check "$1: not one line that says so" $?
    [ -z "$(tail -c1 "$2/journal.jsonl" | tr -d '\n')" ]
    check "$1: the journal ends in the middle of a row" $?
    reported "$2"
    check "$1: a reported row is lost" $?
}
mkdir disk
if mount -t tmpfs -o size=$(((bytes / 2 + 4095) / 4096 * 4))k none disk 2>/dev/null
then
    mounted=1
    sweep disk/run
    status=$?
    full "full disk" disk/run
    mount -o remount,size=16m disk
    sweep disk/run
    check "resume with room on the disk ends with $?" $?
    same_as_whole "full disk" disk/run
    umount disk && mounted=
else
    skipped=$((skipped + 1))
    echo "skip full disk: no tmpfs may be mounted here; file sizes are limited instead"
fi
for part in $limits; do
    (ulimit -f $((bytes * part / 100 / 1024 + 1)); sweep limited$part)
    status=$?
    full "file limited to $part %" limited$part
    sweep limited$part
    check "resume after a limit of $part % ends with $?" $?
    same_as_whole "limit of $part %" limited$part
done

# ---- signals, two at once -------------------------------------------------------
for signal in INT TERM; do
    begin signal$signal
    for _ in $(seq 100); do
        [ "$(measured signal$signal 2>/dev/null | wc -l)" -lt 2 ] || break
        sleep 0.02
    done
    if [ $signal = TERM ]; then
        "$program" sweep --kernel softmax.flash --seq 16 --out signal$signal \
            >out2 2>err2 </dev/null
        status=$?
        [ $status = 3 ] && grep -q 'another run is writing' err2 &&
            [ "$(wc -l <err2)" = 1 ]
        check "two sweeps into one folder: exit code $status, or not told in one line" $?
    fi
    kill -$signal $pid
    wait $pid
    status=$?
    [ $status = 130 ]
    check "SIG$signal: exit code $status, not 130" $?
    grep -q -- "--out signal$signal" err
    check "SIG$signal: how to resume is not told" $?
    reported signal$signal
    check "SIG$signal: a reported row is lost" $?
    sweep signal$signal
    same_as_whole "after SIG$signal" signal$signal
done

echo "$middle of $kills kills left a run in the middle"
finish
