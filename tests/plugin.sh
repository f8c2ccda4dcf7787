#!/bin/bash
# plugin.sh PROGRAM [quick] - tests/plugin/example.c as a user would build and use
# it; kernels that crash, hang, eat memory or are wrong; files that are no plugin.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-plugin.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

log=$work/err

# run STATUS ARGUMENT...: output in $work/out and err.
run() {
    local want=$1 status
    shift
    timeout 120 "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ $status = "$want" ]
    check "$*: exit code $status, not $want" $?
}

build() { # NAME
    ${CC:-cc} -O2 -march=native -fopenmp -shared -fPIC -Ikernels -Wall -Wextra \
        -Werror "tests/plugin/$1.c" -o "$work/$1.so" 2>"$work/err"
    check "tests/plugin/$1.c compiles without a warning" $?
}

has() { # what, pattern of a line on stdout
    grep -qE "$2" "$work/out"
    check "$1" $?
}

# status of KERNEL in the journal of folder DIR, one line for each row
statuses() {
    grep '"kind":"case"' "$work/$1/journal.jsonl" |
        grep "\"kernel\":\"$2\"" | sed -E 's/.*"status":"([^"]*)".*/\1/'
}

# ---- the example ----------------------------------------------------------------
build example
plugin=$work/example.so
run 0 --plugin "$plugin" list mechanisms
has "list mechanisms shows it" '^average '
run 0 --plugin "$plugin" list kernels
has "list kernels shows it" '^average.running .*forward backward'
run 0 --plugin "$plugin" explain average
has "explain shows its formula" 'sum_\(j<=i\) v_j'
has "explain shows its kernel" 'average.running'
run 3 --plugin "$plugin" cite average
grep -q "'average' names no paper" "$work/err"
check "cite says that it names no paper" $?
run 0 --plugin "$plugin" verify --mechanism average
has "verify tries it on many shapes" '^[1-9][0-9]+ passed, 0 failed'
run 0 --plugin "$plugin" sweep --kernel average,softmax.flash --seq 32,64 \
    --head-dim 8 --pass forward,backward --processes 1 --time 0.05 \
    --out "$work/run"
for kernel in average.running softmax.flash; do
    test "$(statuses run $kernel | sort | uniq -c | xargs)" = "4 ok"
    check "$kernel has 4 rows that are ok" $?
done
run 0 table "$work/run"
has "the table has it beside softmax.flash" 'average.running'
run 0 --plugin "$plugin" maps average --grid 4x4 --head-dim 4 --heads 1 \
    --format png --out "$work/maps"
test -e "$work/maps/metrics.json" && ls "$work"/maps/*.npy >/dev/null
check "maps makes its matrix" $?

# ---- bad kernels ----------------------------------------------------------------
build bad
# 1: one of them is wrong, which weighs more than those that died
run 1 --plugin "$work/bad.so" sweep --seq 64 --head-dim 8 --processes 1 \
    --kernel 'softmax.crash,softmax.loop,softmax.eat,softmax.wrong,softmax.quit,softmax.naive' \
    --time 0.05 --timeout 2 --max-memory 64M --out "$work/bad"
while read -r kernel status; do
    is=$(statuses bad "$kernel")
    test "$is" = "$status"
    check "$kernel is '$is', not one row '$status'" $?
done <<'END'
softmax.crash signal:11
softmax.loop timeout
softmax.eat oom
softmax.wrong wrong
softmax.quit interrupted
softmax.naive ok
END
grep '"kind":"case"' "$work/bad/journal.jsonl" | grep -v '"status":"ok"' |
    grep -q '"reason":null'
check "every row that is not ok has a reason" $((!$?))
# rows that failed stay as they are, without the wrong one the code is 4
run 4 --plugin "$work/bad.so" sweep --seq 64 --head-dim 8 --processes 1 \
    --kernel 'softmax.crash,softmax.naive' --time 0.05 --out "$work/bad"
test "$(statuses bad softmax.crash)" = signal:11
check "a row that failed is kept" $?
run 1 --plugin "$work/bad.so" verify --kernel softmax.wrong
has "verify finds the wrong one" 'softmax.wrong .*FAIL'

# ---- no plugins -----------------------------------------------------------------
refused() { # FILE REGEX
    run 3 --plugin "$1" list
    test "$(wc -l <"$work/err")" = 1 && grep -qE "^attnbench: .*$2" "$work/err"
    check "one line about ${1##*/}: $2" $?
}
for name in no_table other_abi duplicate; do
    ${CC:-cc} -O1 -shared -fPIC -Ikernels "tests/plugin/$name.c" \
        -o "$work/$name.so" 2>"$work/err"
    check "tests/plugin/$name.c compiles" $?
done
# mistake NAME ROW REGEX: one row of a table of kernels, and what is said of it.
mistake() {
    cat >"$work/$1.c" <<END
#include "att.h"
static void forward(const att_call *c) { (void)c; }
extern void nobody(const att_call *c);
ATT_KERNELS = { $2 };
END
    ${CC:-cc} -O1 -shared -fPIC -Ikernels "$work/$1.c" -o "$work/$1.so" 2>"$work/err"
    check "$1.c compiles" $?
    refused "$work/$1.so" "$3"
}
echo 'no shared object' >"$work/text.so"
: >"$work/empty.so"
echo 'int nothing;' | ${CC:-cc} -shared -fPIC -x c - -o "$work/other.so"
refused "$work/text.so" 'text.so'
refused "$work/empty.so" 'empty.so'
refused "$work/none.so" 'none.so'
refused "$work" 'annot'
refused "$work/other.so" 'other.so: is no plugin'
refused "$work/no_table.so" 'no_table.so: has neither'
refused "$work/other_abi.so" 'other_abi.so: was built with another att.h: rebuild it'
refused "$work/duplicate.so" "'softmax.flash' exists already"
mistake unknown '{ "nothing.fast", "nothing", "x", .forward = forward }, { 0 }' \
    "'nothing.fast' is of a mechanism that does not exist"
mistake no_forward '{ "softmax.new", "softmax", "x" }, { 0 }' "'softmax.new' lacks .*forward"
mistake no_brief '{ "softmax.new", "softmax", .forward = forward }, { 0 }' \
    "'softmax.new' lacks .*brief"
mistake spaces '{ "softmax new", "softmax", "x", .forward = forward }, { 0 }' \
    "'softmax new' has a name of other than letters"
mistake reserved '{ "reference", "softmax", "x", .forward = forward }, { 0 }' \
    "'reference' has a name that means"
mistake open_end '{ "softmax.new", "softmax", "x", .forward = forward }' \
    'does not end with \{ 0 \}'
mistake undefined '{ "softmax.new", "softmax", "x", .forward = nobody }, { 0 }' \
    'undefined symbol: nobody'
# A reference without its cost, and one that gives no numbers.
changed() { # NAME SED
    sed -E "$2" tests/plugin/example.c >"$work/$1.c"
    ! cmp -s tests/plugin/example.c "$work/$1.c" &&
        ${CC:-cc} -O2 -fopenmp -shared -fPIC -Ikernels "$work/$1.c" -o "$work/$1.so" 2>"$work/err"
    check "$1.c compiles" $?
}
changed no_cost '/\.cost = cost,/d; s/^static void cost/void cost/'
refused "$work/no_cost.so" "'average' lacks .cost"
for fault in 'inf forward s|sum \* \(1 / \(double\)\(i \+ 1\)\)|sum / 0.|' \
    'nan forward s|sum \* \(1 / \(double\)\(i \+ 1\)\)|i ? sum : NAN|;s|^#include <string.h>|&\n#include <math.h>|' \
    'nan backward s|r->dout\[(.*)\] / \(double\)\(i \+ 1\)|0 * INFINITY|;s|^#include <string.h>|&\n#include <math.h>|'; do
    read -r value pass edit <<<"$fault"
    changed "$value-$pass" "$edit"
    run 1 --plugin "$work/$value-$pass.so" verify --mechanism average
    has "verify tells that the reference gives $value" \
        "reference .*FAIL .*reference of 'average' gives $value in .* mend its $pass"
    [ "$(grep -c FAIL "$work/out")" = 1 ]
    check "verify tells it once" $?
done
run 1 --plugin "$work/inf-forward.so" sweep --kernel average --seq 32 --head-dim 8 \
    --processes 1 --time 0.05 --out "$work/inf"
test "$(statuses inf average.running)" = wrong &&
    grep -q "\"reason\":\"the reference of 'average' gives inf" "$work/inf/journal.jsonl"
check "a row of a wrong reference says so" $?
run 3 --plugin "$plugin" --plugin "$plugin" list
grep -q "'average' exists already" "$work/err"
check "the same plugin twice is told" $?
(cd "$work" && "$program" --plugin example.so list mechanisms) >"$work/out" 2>"$work/err"
has "a plugin of this folder needs no ./" '^average '
run 3 verify --kernel softmax.flash tests/golden/swin_w4_8x12_rpb.safetensors
grep -q 'nothing was verified' "$work/err"
check "verify of nothing says so" $?

finish
