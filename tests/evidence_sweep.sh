#!/bin/bash
# tests/evidence_sweep.sh PROGRAM - `sweep --aa` and `sweep --bind`, end to end.
. "$(dirname "$0")/check.sh"
program=$1
out=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-evidence-XXXXXX")
trap 'rm -rf "$out"' EXIT

small=(--seq 64 --time 0.02 --check 0)
rows() { grep -c "\"kind\":\"$2\"" "$out/$1/journal.jsonl"; }

# ---- A/A ----
aa=("$program" sweep --aa "${small[@]}" --kernel softmax.flash,linear.fused
    --plain none --out "$out/aa")
"${aa[@]}" --pairs 3 >"$out/log" 2>&1
check "sweep --aa succeeds" $?
[ "$(rows aa aa)" = 3 ] && [ "$(rows aa case)" = 0 ]
check "three pairs are three aa rows and no case row" $?
grep -qE '^intervals of the ratio without 1: [0-3] of 3, .*95 % interval' "$out/log"
check "the rate comes with its interval" $?
"${aa[@]}" --pairs 5 >"$out/log" 2>&1
[ "$(rows aa aa)" = 5 ]
check "the same command with more pairs measures what is missing" $?
grep -o '"id":"[^"]*#[0-9]*"' "$out/aa/journal.jsonl" | sort | uniq -d | grep -q .
[ $? = 1 ]
check "no pair is there twice" $?
"$program" table "$out/aa" >"$out/table" 2>&1
! grep -q 'softmax.flash' "$out/table"
check "no table shows rows of A/A" $?
"$program" sweep --pairs 3 --out "$out/none" >/dev/null 2>&1
[ $? = 2 ]
check "--pairs without --aa is a usage error" $?

# ---- binding ----
threads=1
[ "$(nproc)" -gt 1 ] && threads=1,2
for policy in close spread none; do
    "$program" sweep "${small[@]}" --kernel softmax.flash --bind $policy \
        --threads $threads --out "$out/$policy" >"$out/log" 2>&1
    check "sweep --bind $policy succeeds" $?
    ! grep '"kind":"case"' "$out/$policy/journal.jsonl" |
        grep -vq "\"binding\":{\"policy\":\"$policy\""
    check "every row says $policy" $?
done
! grep '"kind":"case"' "$out/close/journal.jsonl" | grep -vq '"held":true'
check "threads stay where they were put" $?
grep -qE 'kernels ran in [0-9]+ % of' "$out/log"
check "a sweep tells the kernels' part of its time" $?
"$program" sweep --bind here --out "$out/none" >/dev/null 2>&1
[ $? = 2 ]
check "--bind with another word is a usage error" $?
# The program may run on fewer processors than threads are asked for.
taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" \
    "$program" sweep "${small[@]}" --kernel softmax.flash --threads 2 \
    --out "$out/few" >"$out/log" 2>&1
grep -q '"status":"threads","reason":"more threads than processors' \
    "$out/few/journal.jsonl"
check "more threads than processors are not measured as if they ran side by side" $?
taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" \
    "$program" sweep "${small[@]}" --kernel softmax.flash --threads 2 \
    --bind none --out "$out/shared" >"$out/log" 2>&1
grep -q '"status":"ok","reason":"more threads than processors"' \
    "$out/shared/journal.jsonl"
check "--bind none lets them share, with the reason" $?

finish
