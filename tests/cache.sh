#!/bin/bash
# tests/cache.sh PROGRAM - `attnbench cache`: simulated misses against closed forms
# (results/README.md derives them), twice the same, without valgrind, and its
# figure.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
out=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-cache-test-XXXXXX")
trap 'rm -rf "$out"' EXIT

log=$out/log

# count DIR PASS NAME: value of a counter of the last cache row
count() {
    grep '"kind":"cache"' "$out/$1/journal.jsonl" | tail -1 |
        sed -E "s/.*\"$2\":\{/{/" | grep -oE "\"$3\":\{\"value\":[0-9]+" |
        head -1 | grep -oE '[0-9]+$'
}

# within WHAT COUNT EXPECTED: 1 %
within() {
    local off
    [ -n "$2" ] && off=$(($2 - $3)) && [ $((100 * ${off#-})) -le "$3" ]
    check "$1: $2 misses, $3 by the closed form" $?
}

# ---- without valgrind: a row with the reason, a line with the remedy ----
mkdir "$out/empty"
# the least level that this build has
level=$("$program" list kernels | awk '$1 == "softmax.flash" { print $2 }')
few=(cache --kernel softmax.flash --level "$level" --seq 32 --out "$out/none")
PATH=$out/empty "$program" "${few[@]}" >"$out/stdout" 2>"$out/log"
[ $? = 3 ] && [ "$(wc -l <"$out/log")" = 1 ] &&
    grep -q 'apt-get install valgrind' "$out/log"
check "without valgrind: exit code 3 and one line with the remedy" $?
grep -q '"l1d_miss":{"value":null,"reason":"valgrind is not installed' \
    "$out/none/journal.jsonl"
check "without valgrind: a row with null and the reason" $?

# ---- usage ----
for wrong in '--D1 1000,3,64' '--D1 32768,8' '--ci 3%' '--LL -1,1,64'; do
    # shellcheck disable=SC2086
    "$program" cache $wrong --out "$out/none" >"$out/stdout" 2>"$out/log"
    [ $? = 2 ] && [ "$(wc -l <"$out/log")" = 1 ]
    check "cache $wrong is a usage error of one line" $?
done

if ! command -v valgrind >/dev/null; then
    echo "skip simulation: valgrind is not installed (apt-get install valgrind)"
    skipped=1
    finish
fi
case $("$program" --version; nm "$program" 2>/dev/null | grep -cE ' __(asan|tsan)_init') in
*[1-9]) # the sanitizers' own address space is not for valgrind
    echo "skip simulation: built with a sanitizer"
    echo "$passed passed, $failed failed, $((skipped + 1)) skipped"
    [ "$failed" = 0 ]
    exit ;;
esac

# The row of the first call is there now, too.
"$program" "${few[@]}" >"$out/stdout" 2>"$out/log"
check "what lacked valgrind is simulated once it is there" $?
grep -q 'source":"simulated: callgrind [0-9]' "$out/none/journal.jsonl"
check "counts name their source" $?
"$program" "${few[@]}" >"$out/stdout" 2>"$out/log"
grep -q '^# 1 of 1 cases are in' "$out/stdout"
check "what was simulated is kept" $?

# ---- softmax.naive: every query reads all of K and of V ----
n=512 d=64
softmax=(cache --kernel softmax.naive --seq $n --head-dim $d
    --D1 8192,8,64 --L2 524288,16,64 --LL 33554432,16,64)
"$program" "${softmax[@]}" --out "$out/softmax" >"$out/stdout" 2>"$out/log"
check "softmax.naive is simulated" $?
line=16 # floats
within "softmax.naive, D1" "$(count softmax counters l1d_miss)" \
    $((n * (2 * n * d + 3 * n + 2 * d) / line))
within "softmax.naive, L2" "$(count softmax counters l2_miss)" \
    $(((n * n + 2 * n * d) / line))
within "softmax.naive, LL, cold" "$(count softmax counters_cold llc_miss)" \
    $(((n * n + 4 * n * d) / line))
[ "$(count softmax counters llc_miss)" -lt 100 ]
check "softmax.naive: a warm last level that holds all has no misses" $?

# ---- na2d.direct: a column of keys enters the window with each query ----
h=56 w=56 k=7 d=64
na2d=(cache --kernel na2d.direct --grid ${h}x$w --window $k --head-dim $d
    --D1 65536,8,64 --L2 1048576,16,64 --LL 33554432,16,64)
"$program" "${na2d[@]}" --out "$out/na2d" >"$out/stdout" 2>"$out/log"
check "na2d.direct is simulated" $?
within "na2d.direct, D1" "$(count na2d counters l1d_miss)" \
    $((h * w * (2 * k + 2) * d / line))
within "na2d.direct, L2" "$(count na2d counters l2_miss)" \
    $((4 * h * w * d / line))
within "na2d.direct, LL, cold" "$(count na2d counters_cold llc_miss)" \
    $((4 * h * w * d / line))

# ---- the same counts again, from another folder and environment ----
counters() { grep '"kind":"cache"' "$1" | sed 's/.*"caches"/"caches"/; s/,/,\n/g'; }
(cd "$out" && ANOTHER=$(seq 999) "$program" "${na2d[@]}" --out again) \
    >"$out/stdout" 2>"$out/log"
diff <(counters "$out/na2d/journal.jsonl") <(counters "$out/again/journal.jsonl") \
    >"$out/log"
check "two simulations of one case are identical" $?

# ---- what cannot be simulated is a row with its reason ----
"$program" cache --kernel softmax.flash --seq 32 --threads 2 --out "$out/two" \
    >"$out/stdout" 2>"$out/log"
check "a case of two threads is no failure" $?
grep -q '"status":"unsupported","reason":"callgrind runs threads' \
    "$out/two/journal.jsonl"
check "it is a row with the reason" $?

# ---- backward, and journals together ----
"$program" cache --kernel softmax.flash,linear.fused --seq 32,64,128 \
    --pass forward,backward --out "$out/both" >"$out/stdout" 2>"$out/log"
check "forward and backward are simulated" $?
[ "$(grep -c '"kind":"cache".*"status":"ok"' "$out/both/journal.jsonl")" = 12 ]
check "12 rows are ok" $?
"$program" merge "$out/all" "$out/both" "$out/na2d" "$out/softmax" \
    >"$out/stdout" 2>"$out/log"
[ "$(grep -c '"kind":"cache"' "$out/all/journal.jsonl")" = 14 ]
check "merge keeps every row" $?
if command -v gnuplot >/dev/null; then
    "$program" plot "$out/both" >"$out/stdout" 2>"$out/log" &&
        [ -s "$out/both/figures/scaling-misses.png" ] &&
        [ -s "$out/both/figures/scaling-misses-backward.png" ] &&
        grep -q 'simulated: callgrind' "$out/both/figures/scaling-misses.md"
    check "plot draws misses against sequence length and names their source" $?
else
    echo "skip figure: gnuplot is not installed"
    skipped=$((skipped + 1))
fi

finish
