#!/bin/bash
# tsan.sh PROGRAM - every kernel, at every level of this machine, with two threads
# under ThreadSanitizer.  PROGRAM is compiled by clang with -fsanitize=thread and
# uses clang's OpenMP, whose tool Archer tells ThreadSanitizer what barriers, forks
# and reductions order; gcc's OpenMP tells nothing, and all would look like races.
#
# tests/plugin/race.c holds a kernel that does race and one that does not, so that
# silence means something.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-tsan.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# Libraries that are not compiled with it (OpenMP itself, a BLAS) are not judged.
OMP_TOOL_LIBRARIES=$(${CC:-clang} -print-file-name=libarcher.so)
export OMP_TOOL_LIBRARIES ARCHER_OPTIONS=verbose=1
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 log_path=$work/report"

# ThreadSanitizer of clang 14 dies now and then where addresses are random in 32
# bits: they are fixed where that is allowed.
fixed=
setarch -R true 2>/dev/null && fixed='setarch -R'

# reports: how many since the last call; shows the first.
reports() {
    local n
    n=$(cat "$work"/report* 2>/dev/null | grep -c 'WARNING: ThreadSanitizer')
    cat "$work"/report* 2>/dev/null | grep -A8 -m1 'WARNING: ThreadSanitizer' >"$work/first"
    rm -f "$work"/report*
    echo "$n"
}

run() {
    timeout 600 $fixed "$program" "$@" >"$work/out" 2>"$work/err" </dev/null
}

# ---- that races are seen, and barriers understood -----------------------------------
${CC:-clang} -std=gnu17 -O1 -g -fsanitize=thread -fopenmp -shared -fPIC -Ikernels \
    tests/plugin/race.c -o "$work/race.so" 2>"$work/err"
check "tests/plugin/race.c compiles" $?
run --plugin "$work/race.so" verify --threads 2 --kernel copy.races
[ "$(reports)" -gt 0 ] && grep -q 'data race' "$work/first"
check "a kernel whose threads write one number is not reported" $?
grep -q 'races.*race.c' "$work/first" || grep -q 'race.c:' "$work/first"
check "the report does not name its source" $?
run --plugin "$work/race.so" verify --threads 2 --kernel copy.waits
check "a kernel whose threads wait for each other fails" $?
[ "$(reports)" = 0 ]
check "a kernel whose threads wait for each other is reported" $?
grep -q 'Archer detected OpenMP application with TSan' "$work/out" "$work/err"
check "Archer did not start" $?

# ---- every kernel ---------------------------------------------------------------------
run list kernels
while read -r kernel rest; do
    for level in $rest; do
        case $level in v2 | v3 | v4 | base) echo "$kernel $level" ;; *) break ;; esac
    done
done <"$work/out" | sort >"$work/kernels"
[ "$(wc -l <"$work/kernels")" -ge 70 ]
check "fewer than 70 kernels are listed" $?
for level in $(awk '{ print $2 }' "$work/kernels" | sort -u); do
    for kernel in $(awk -v l="$level" '$2 == l { print $1 }' "$work/kernels"); do
        run verify --threads 2 --level "$level" --kernel "$kernel"
        status=$?
        n=$(reports) last=$(tail -1 "$work/out") first=$(head -3 "$work/first" | xargs)
        [ $status = 0 ] && [ "$n" = 0 ] && [[ $last =~ ^[1-9][0-9]*' passed, 0 failed' ]]
        check "$kernel $level: $n reports, exit code $status, $last $first" $?
    done
done

# ---- the harness around them ----------------------------------------------------------
run sweep --kernel softmax.flash,na2d.tiled --seq 196 --threads 2 \
    --pass forward,backward --processes 1 --time 0.01 --out "$work/run"
check "a sweep ends with $?" $?
[ "$(reports)" = 0 ]
check "a sweep with two threads is reported" $?

finish
