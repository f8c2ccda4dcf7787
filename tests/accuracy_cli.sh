#!/bin/bash
# accuracy_cli.sh PROGRAM [quick] - verify --accuracy: its table, rows that are added
# and known again, columns and the figure made from them; kernels that are wrong or
# die; what is refused.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-accuracy.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
log=$work/err

# run STATUS ARGUMENT...: output in $work/out and err.
run() {
    local want=$1 status
    shift
    timeout 300 "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ $status = "$want" ]
    check "$*: exit code $status, not $want" $?
}

has() { # what, pattern of a line on stdout
    grep -qE "$2" "$work/out"
    check "$1" $?
}

rows() { # how many rows of that kind the run has
    grep -c "\"kind\":\"$1\"" "$work/run/journal.jsonl"
}

# first KERNEL PASS KEY - the first member of that name of the kernel's first row in f32
first() {
    grep "\"kernel\":\"$1\"" "$work/run/journal.jsonl" | grep '"kind":"accuracy"' |
        grep "\"pass\":\"$2\"" | grep '"dtype":"f32"' | head -1 |
        grep -oE "\"$3\":[^,}]*" | head -1 | cut -d: -f2
}

# ---- table and rows -------------------------------------------------------------
run 0 sweep --kernel 'softmax.naive,layernorm.fused' --seq 64 \
    --head-dim 8 --level all --pass forward,backward --processes 1 --time 0.01 \
    --check 0 --out "$work/run"
cases=$(rows case)
run 0 table "$work/run" --columns kernel,max_ulp --format csv
[ "$(grep -c ',$' "$work/out")" = "$cases" ] &&
    grep -q "$cases of $cases cases lack errors in ulp" "$work/err"
check "without rows of errors the column is empty, and it is said why" $?
run 2 plot "$work/run" accuracy --format svg
grep -q "verify --accuracy" "$work/err"
check "the figure says what adds errors" $?

kernels='softmax.naive,layernorm.fused'
run 0 verify --accuracy --kernel "$kernels" --out "$work/run"
has "a line of the table" '^softmax.naive +[a-z0-9]+ +f32 +forward +\| +[0-9.]+ +[0-9.]+ (out|lse) '
has "backward has a line of its own" '^layernorm.fused +[a-z0-9]+ +f32 +backward'
has "the unit is told" '^ulp: unit in the last place'
count=$(rows accuracy)
# levels x storages x passes of two kernels
[ $((count % 12)) = 0 ] && [ "$count" -ge 12 ]
check "$count rows: a kernel, level, storage and pass each" $?
case $(first softmax.naive forward max_ulp) in
[1-9]* | 0.[1-9]*) ok=0 ;;
*) ok=1 ;;
esac
check "softmax.naive is off by $(first softmax.naive forward max_ulp) ulp" $ok
[ "$(first layernorm.fused forward same)" = true ]
check "layernorm.fused gives the same bits again" $?
grep '"kind":"accuracy"' "$work/run/journal.jsonl" | head -1 |
    grep -oE '"name":"(normal|sharp logits|large logits|equal keys|one outlier|tiny|denormal|long rows)"' |
    sort -u >"$work/names"
[ "$(wc -l <"$work/names")" = 8 ]
check "ordinary and stress inputs are rows' inputs[]" $?

run 0 verify --accuracy --kernel "$kernels" --out "$work/run"
[ "$(rows accuracy)" = "$count" ] && grep -q "; $count were known" "$work/out"
check "rows that are there are not measured again" $?
# a row that is missing is added
grep -v '"kernel":"layernorm.fused".*"pass":"backward"' "$work/run/journal.jsonl" \
    >"$work/less" && cp "$work/less" "$work/run/journal.jsonl"
run 0 verify --accuracy --kernel "$kernels" --out "$work/run"
grep -q '"kind":"accuracy".*"kernel":"layernorm.fused".*"pass":"backward"' \
    "$work/run/journal.jsonl"
check "what is missing is measured" $?

# ---- columns --------------------------------------------------------------------
level=$(grep '"kind":"accuracy"' "$work/run/journal.jsonl" | head -1 |
    sed -E 's/.*"level":"([a-z0-9]+)".*/\1/')
run 0 table "$work/run" --format csv --where "level=$level" \
    --columns kernel,pass,max_ulp,rms_ulp,stress_ulp,same_repeat,same_threads,same_levels
head -1 "$work/out" | grep -qx 'kernel,pass,max_error_ulp,rms_error_ulp,stress_error_ulp,same_repeat,same_threads,same_levels'
check "keys of the columns" $?
has "errors beside a case" '^softmax.naive,forward,[0-9.]+,[0-9.]+,[0-9.]+,yes,(yes|no),(yes|no)?$'
awk -F, -v want="$(first softmax.naive forward max_ulp)" \
    '$1 == "softmax.naive" && $2 == "forward" && ($3 - want)^2 < 1e-12 { n++ }
    END { exit n != 1 }' "$work/out"
check "the number is that of the row" $?
run 0 table "$work/run"
has "the table that names no columns has them" '\| rms_ulp \|'
run 0 table "$work/run" --rows kernel --cols pass --metric rms_ulp --format csv
has "a pivot of errors" '^layernorm.fused,'
# other code: no error stands beside a case
cp -r "$work/run" "$work/other"
sed -i '/"kind":"accuracy"/s/"code":"[0-9a-f]*"/"code":"0000000000000000"/' \
    "$work/other/journal.jsonl"
run 0 table "$work/other" --columns kernel,max_ulp --format csv
! grep -q '[0-9]$' "$work/out" && grep -q 'cases lack errors' "$work/err"
check "errors of other code are left out, and it is said" $?
run 0 merge "$work/merged" "$work/run"
run 0 table "$work/merged" --columns kernel,pass,max_ulp --format csv
has "merge keeps rows of errors" '^softmax.naive,forward,[0-9.]+$'

# ---- figure ---------------------------------------------------------------------
if needs gnuplot "the figure of errors"; then
    run 0 plot "$work/run" accuracy --format svg --out "$work/figures"
    test -s "$work/figures/accuracy.svg" &&
        grep -q 'unit in the last place' "$work/figures/accuracy.md"
    check "error against time is drawn, and explained" $?
    grep -q 'softmax.naive' "$work/figures/accuracy.tsv"
    check "its data name the kernels" $?
fi

# ---- bad kernels ----------------------------------------------------------------
${CC:-cc} -O2 -fopenmp -shared -fPIC -Ikernels tests/plugin/bad.c -o "$work/bad.so" \
    2>"$log"
check "tests/plugin/bad.c compiles" $?
run 4 --plugin "$work/bad.so" verify --accuracy --kernel 'softmax.crash,softmax.quit'
has "who dies is told" '^softmax.crash .* signal:11: normal: '
has "who gives up is told" '^softmax.quit .* interrupted: '
run 1 --plugin "$work/bad.so" verify --accuracy --kernel softmax.wrong --out "$work/run"
has "what is no number is wrong" '^softmax.wrong .* f32 +forward +\| +inf .* wrong: normal: infinite or not a number'
[ "$(first softmax.wrong forward max_ulp)" = null ]
check "and null in the journal" $?

# ---- refused --------------------------------------------------------------------
run 2 verify --accuracy --kernel softmax.flahs
grep -q "unknown kernel 'softmax.flahs'; did you mean 'softmax.flash'?" "$work/err"
check "an unknown kernel is refused, with the nearest" $?
run 2 verify --accuracy --random 5
run 2 verify --accuracy --seed 5
run 2 verify --accuracy tests/golden/softmax.safetensors
run 2 verify --out "$work/nothing"
grep -q 'need --random N or --seconds T, or --accuracy' "$work/err"
check "--out alone is refused" $?
run 3 verify --accuracy --kernel reference
run 3 verify --accuracy --kernel layernorm.fused --out "$work/run/journal.jsonl"
run 0 completion bash
has "completion knows the option" 'verify\) .*--accuracy'
finish
