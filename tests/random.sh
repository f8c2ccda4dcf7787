#!/bin/bash
# random.sh PROGRAM [quick] - verify --random finds the faults of
# tests/plugin/faulty.c, each in a few of its problems; makes them as small as
# they are, writes files that fail again; says the same each time; nothing
# verified is no success.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-random.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
log=$work/out

${CC:-cc} -O2 -fopenmp -shared -fPIC -Ikernels -Wall -Wextra -Werror \
    tests/plugin/faulty.c -o "$work/faulty.so" 2>"$log"
check "tests/plugin/faulty.c compiles without a warning" $?
cd "$work" || exit 1

# run STATUS ARGUMENT... - `verify ARGUMENT...` with the plugin.
run() {
    local want=$1 status
    shift
    timeout 300 "$program" --plugin ./faulty.so verify "$@" >out 2>err </dev/null
    status=$?
    [ $status = "$want" ]
    check "verify $*: exit code $status, not $want" $?
}

has() { # what, pattern of a line
    grep -qE "$2" out
    check "$1" $?
}

# again WHAT - the command of the last line WHAT (repeat, drawn by) fails too.
again() {
    local command
    command=$(sed -nE "s/^ *$1: attnbench //p" out | tail -1)
    [ -n "$command" ]
    check "a line '$1' tells a command" $?
    (eval "timeout 300 '$program' $command --timeout 2" </dev/null) >again 2>&1
    [ $? = 1 ] && grep -q FAIL again
    check "$command: fails again" $?
}

# finds KERNEL PROBLEMS PATTERN SMALLEST OPTION... - that many problems show it
# with a line like PATTERN, and what is left of the problem is SMALLEST.
finds() {
    local kernel=$1 problems=$2 pattern=$3 smallest=$4
    shift 4
    rm -rf found
    run 1 --kernel "twice.$kernel" --random "$problems" --seed 3 --out found "$@"
    has "twice.$kernel is found" "^FAIL  twice.$kernel .*$pattern"
    sed -E 's/g=1x1(x1)?,/n=1,/' out | grep -qE "^ *twice.$kernel/$smallest"
    check "twice.$kernel is made as small as $smallest" $?
    ls found/twice-*.safetensors >/dev/null 2>&1
    check "twice.$kernel: a case file is written" $?
    again repeat
    grep -qE "FAIL.*$pattern" again
    check "twice.$kernel: the file fails in the same way" $?
    again 'drawn by'
    grep -qE "^FAIL  twice.$kernel .*$pattern" again
    check "twice.$kernel: the seed brings the same failure" $?
}

finds odd 40 'out' 'n=1,d=17,h=1,b=1,t=1,[a-z0-9]+,forward: v zero' --no-time
finds crash 120 'signal:11' 'n=8,d=1,h=1,b=1,t=1,[a-z0-9]+,forward: v zero' --no-time
finds beside 120 'signal:6' 'n=1,d=3,h=1,b=1,t=1,[a-z0-9]+,forward: v zero' --no-time
finds hang 40 'timeout' 'n=1,d=1,h=4,b=1,t=1,[a-z0-9]+,forward: v zero' --no-time \
    --timeout 2
finds slow 60 'slow' 'n=' --timeout 60
has "twice.slow: on denormals" '^FAIL .* on denormal inputs'
run 0 --kernel twice.slow --random 60 --seed 3 --no-time --out found

# ---- what is right --------------------------------------------------------------
run 0 --kernel twice.right --random 60 --seed 3 --out nothing
has "nothing is found in twice.right" 'nothing found'
! [ -e nothing ]
check "a folder is made for nothing" $?
run 0 --kernel softmax.flash --random 15 --seed 5 --no-time --threads 2
has "the table counts" '^softmax +15 '

# ---- the same each time ---------------------------------------------------------
for seed in 7 7 8; do
    run 0 --kernel 'twice.right,linear.fused' --random 12 --seed $seed --no-time
    mv out out.$seed.$((++times))
done
cmp -s out.7.1 out.7.2
check "a seed brings the same problems" $?
! cmp -s out.7.1 out.8.3
check "another seed brings others" $?
run 0 --kernel 'twice.right' --seconds 1 --no-time
has "seconds alone bring problems" '^all +[1-9]'

# ---- nothing verified -----------------------------------------------------------
run 1 --kernel twice.refuse --random 5 --no-time
has "that nothing was verified is told" 'nothing was verified'
run 1 --kernel twice.right --mechanism softmax --random 5
[ "$(wc -l <err)" = 1 ] && grep -q 'nothing would be verified' err
check "that no kernel is chosen is told in a line" $?
run 2 --random 0
run 2 --random 5 --seed x
run 2 --random 5 "case.safetensors"
run 2 --seed 5
finish
