#!/bin/bash
# tests/training_cli.sh PROGRAM [quick] - `attnbench train` that is killed, finds
# the disk full, or is given what it cannot use.
. "$(dirname "$0")/check.sh"
cd "$(dirname "$0")/.." || exit 1
program=$(realpath "$1")
kills=$([ "$2" = quick ] && echo 2 || echo 6)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

log=err

# Small, but long enough to be killed in.
export OMP_WAIT_POLICY=passive
small=(--data leaves --dim 16 --heads 2 --depth 2 --mlp 16 --patch 8 --batch 8
    --warmup 10 --items 20 --threads 2 --steps 200 --checkpoint 10)
train() {
    "$program" train "${small[@]}" "$@" >out 2>err </dev/null
}
# begin OPTION... - in the background, as $pid; with job control: without it a
# shell has its background jobs ignore SIGINT, and what was ignored stays so.
begin() {
    set -m
    "$program" train "${small[@]}" "$@" >out 2>err </dev/null &
    pid=$!
    set +m
}
# Waits for a file.
until_there() {
    for _ in $(seq 200); do
        [ -e "$1" ] && return
        sleep 0.02
    done
}
# one CODE WHAT PATTERN: the status and the one line that must have been said.
one() {
    [ "$status" = "$1" ]
    check "$2: exit code $status, not $1" $?
    [ "$(wc -l <err)" = 1 ] && grep -q -- "$3" err
    check "$2: not one line that says '$3'" $?
}

start=$(date +%s%N)
train --out whole
status=$?
[ $status = 0 ]
check "training ends with $status" $?
length=$((($(date +%s%N) - start) / 1000000))
grep -q 'useful GFLOP/s, .* of sgemm' out
check "the speed is not told" $?
train --out again
cmp -s whole again
check "the same seed gives other bytes" $?
[ ! -e whole.checkpoint ]
check "the checkpoint is left behind" $?

# ---- kill -9, and going on -------------------------------------------------------
for ((k = 0; k < kills; k++)); do
    begin --out killed
    moment=$((length * (RANDOM % 900) / 1000))
    sleep $((moment / 1000)).$(printf %03d $((moment % 1000)))
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ -e killed ] && break
done
train --out killed
cmp -s whole killed
check "going on after kill -9 gives other bytes" $?

for signal in INT TERM; do
    rm -f stopped*
    begin --out stopped
    until_there stopped.checkpoint
    kill -$signal $pid
    wait $pid
    status=$?
    one 130 "SIG$signal" 'the same command goes on'
    train --out stopped
    grep -q 'going on from step' err && cmp -s whole stopped
    check "going on after SIG$signal gives other bytes" $?
done

# ---- full disk --------------------------------------------------------------------
# The model fits, the checkpoint (three times as large) does not.
size=$(($(wc -c <whole) / 1024 + 2))
(trap '' XFSZ; ulimit -f $size; train --out full)
status=$?
[ $status = 4 ] && cmp -s whole full
check "no room for checkpoints: exit code $status, or another model" $?
grep -q 'step 10: no checkpoint: .*training goes on' err &&
    grep -q 'full is complete, but 19 checkpoints' err && [ "$(wc -l <err)" = 2 ]
check "no room for checkpoints: not told so" $?
(trap '' XFSZ; ulimit -f 4; train --out none --checkpoint 0)
status=$?
one 3 "no room for the model" 'none: cannot write'
[ ! -e none ]
check "no room for the model: a part of it is left" $?

# ---- what cannot be used ----------------------------------------------------------
printf 'not a checkpoint' >odd.checkpoint
train --out odd
status=$?
one 2 "broken checkpoint" 'odd.checkpoint'
begin --out other
until_there other.checkpoint
kill -9 $pid
wait $pid 2>/dev/null
train --out other --rate 1e-3
status=$?
one 2 "checkpoint of another training" 'another training'
train --data absent --out x
status=$?
one 2 "no such data" "no data set 'absent'"
"$program" train --mechanism external --data documents --out x >out 2>err
status=$?
one 2 "no causal form" 'no causal form'
train --task classify --out x
status=$?
one 2 "no labels" 'no labels'
train --rate 1e6 --steps 60 --out x --checkpoint 0
status=$?
one 1 "divergence" 'lower --rate'
mkdir empty
train --data empty --out x
status=$?
one 2 "empty folder" 'no PNG files'
[ ! -e x ]
check "a failed training leaves a file" $?

finish
