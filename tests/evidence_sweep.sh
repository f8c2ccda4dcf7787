#!/bin/bash
# tests/evidence_sweep.sh PROGRAM - `sweep --aa`, `--bind` and `--inputs`, and what
# a sweep says of its own numbers, end to end.
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

# ---- inputs ----
sharp=("$program" sweep "${small[@]}" --kernel softmax.flash --processes 1
    --inputs normal,sharp --out "$out/sharp")
"${sharp[@]}" >"$out/log" 2>&1
check "sweep --inputs normal,sharp succeeds" $?
[ "$(grep -c '"case":"[^"]*,in=sharp,t=1,[^"]*".*"inputs":"sharp"' "$out/sharp/journal.jsonl")" = 1 ] &&
    [ "$(rows sharp case)" = 2 ] && [ "$(grep -c '"inputs":"sharp"' "$out/sharp/journal.jsonl")" = 1 ]
check "sharp inputs are in the case's name and in its row" $?
grep -qE '^time with sharp inputs over that with normal ones: 1 cases?, median [0-9.]+' "$out/log"
check "a sweep tells the ratio of sharp and normal inputs" $?
"${sharp[@]}" 2>&1 | grep -q '^# 2 of 2 cases are in'
check "both are found again" $?
"$program" table "$out/sharp" --columns kernel,inputs --format csv >"$out/table" 2>&1
grep -q '^softmax.flash,normal' "$out/table" && grep -q '^softmax.flash,sharp' "$out/table"
check "a table tells them apart" $?
"$program" table "$out/sharp" --rows kernel --cols n >"$out/table" 2>&1
[ "$(grep -c softmax.flash "$out/table")" = 1 ]
check "a pivot does not mix them" $?
"$program" sweep "${small[@]}" --kernel softmax.flash --check 1e8 --processes 1 \
    --inputs sharp --out "$out/checked" >"$out/log" 2>&1 &&
    grep '"in' "$out/checked/journal.jsonl" | grep -q '"pass":true'
check "sharp inputs are checked against the reference" $?
"$program" sweep --inputs flat --out "$out/none" >"$out/log" 2>&1
[ $? = 2 ] && grep -q "'flat' is neither normal nor sharp" "$out/log"
check "--inputs with another word is a usage error" $?

# ---- caches ----
cold=("$program" sweep "${small[@]}" --seq 256,512 --kernel softmax.flash,layernorm.fused
    --processes 1 --check 1e8 --cache warm,cold --out "$out/cold")
"${cold[@]}" >"$out/log" 2>&1
check "sweep --cache warm,cold succeeds" $?
colds() { grep -cE '"case":"[^"]*,cache=cold,t=1,[^"]*".*"status":"ok".*"cache":"cold"' "$out/cold/journal.jsonl"; }
[ "$(colds)" = 4 ] && [ "$(grep -c '"settings":{"cache":"warm"' "$out/cold/journal.jsonl")" = 4 ]
check "a cold case says so in its name and its settings, a warm one in its settings" $?
! grep -q '"case":"[^"]*cache=warm' "$out/cold/journal.jsonl"
check "names of warm cases stay as they are" $?
grep 'layernorm.*cache=cold' "$out/cold/journal.jsonl" | grep -q '"bound":' &&
    ! grep 'cache=cold' "$out/cold/journal.jsonl" | grep -qE '"bound":"L[123]"'
check "cold data come from memory" $?
[ "$(grep -o '"predicted":[0-9]*' "$out/cold/journal.jsonl" | sort | uniq -c | grep -c ' 2 ')" = 4 ]
check "flushing needs no memory" $?
grep -qE '^time with cold caches over that with warm ones: 4 cases, median [0-9.]+' "$out/log"
check "a sweep tells the ratio of cold and warm caches" $?
"${cold[@]}" 2>&1 | grep -q '^# 8 of 8 cases are in'
check "all are found again" $?
"$program" table "$out/cold" --columns kernel,cache,n --format csv >"$out/table" 2>&1
grep -q '^layernorm.fused,cold,256' "$out/table" && grep -q '^layernorm.fused,warm,256' "$out/table"
check "a table tells them apart" $?
"$program" table "$out/cold" --rows kernel --cols n >"$out/table" 2>"$out/log"
[ "$(grep -c softmax.flash "$out/table")" = 1 ] && grep -q 'left out: cache cold' "$out/log"
check "a pivot does not mix them, and says what it leaves out" $?
"$program" plot "$out/cold" >"$out/log" 2>&1
grep -q '^# .*layernorm.fused cold$' "$out/cold/figures/scaling-time.tsv" &&
    [ "$(grep -c 'with lines .*dashtype (2,2)' "$out/cold/figures/scaling-time.gp")" = 2 ]
check "a figure has a dashed line for cold cases" $?
"$program" sweep "${small[@]}" --seq 16 --head-dim 8 --kernel gelu.fused --processes 1 \
    --cache cold --out "$out/short" >"$out/log" 2>&1
grep '"kind":"case"' "$out/short/journal.jsonl" |
    grep -qE '"status":"(ok|unsupported","reason":"a cold call of .* is too short)'
check "a cold call is long enough to be timed by itself, or refused" $?
"$program" sweep --cache tepid --out "$out/none" >"$out/log" 2>&1
[ $? = 2 ] && grep -q "'tepid' is neither warm nor cold" "$out/log"
check "--cache with another word is a usage error" $?
"$program" cache --cache cold --kernel softmax.naive >"$out/log" 2>&1
[ $? = 2 ]
check "simulated caches are always both" $?

# ---- a level that does not pay ----
levels=("$program" sweep "${small[@]}" --kernel softmax.naive,softmax.flash
    --processes 1 --level all --out "$out/levels")
"${levels[@]}" >"$out/log" 2>&1
best=$(grep -oE '"level":"v[34]"' "$out/levels/journal.jsonl" | sort -u | sed -n '$s/.*"\(v.\)"/\1/p')
if [ -n "$best" ]; then
    # the same journal, in which the highest level is slower
    times() { echo "s/\"median\":[^,]*,\"lo\":[^,]*,\"hi\":[^,]*/\"median\":$1,\"lo\":$2,\"hi\":$3/"; }
    sed -i -e "/\"softmax.flash\"/$(times 5000 4000 6000)" \
        -e "/\"softmax.flash\".*\"level\":\"$best\"/$(times 9000 8000 9500)" \
        -e "/\"softmax.naive\"/$(times 5000 4000 6000)" "$out/levels/journal.jsonl"
    "${levels[@]}" >"$out/log" 2>&1
    [ "$(grep -c '^slower at ' "$out/log")" = 1 ] &&
        grep -q "^slower at $best than at v[0-9], by a factor of 1.80: softmax.flash/" "$out/log"
    check "a level slower than the one below it is said" $?
fi

finish
