#!/bin/bash
# papi.sh PROGRAM - hardware counters from end to end on a machine that may have
# none: tests/papi/pmu.c takes the place of libpapi and plays a processor that
# counts two events at a time.  BUILD: where it was compiled.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-papi.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

log=$work/err

library=$(ldd "$program" | grep -oE '^\s*libpapi\.so[.0-9]*' | xargs)
[ -n "$library" ]
check "the program is linked with libpapi" $?
mkdir "$work/lib"
cp "${BUILD:-build/release}/tests/papi/pmu.so" "$work/lib/$library" || exit 1
export PMU_LOG=$work/misuse

# play SCRIPT ARGUMENT... - the program on that processor.
play() {
    local script=$1
    shift
    PMU=$script LD_LIBRARY_PATH=$work/lib timeout 120 "$program" "$@" \
        >"$work/out" 2>"$work/err" </dev/null
}

presets='idle=10 PAPI_TOT_CYC=100 PAPI_TOT_INS=70 PAPI_L1_DCM=11 PAPI_L2_DCM=5
    PAPI_L3_TCM=3 PAPI_TLB_DM=2 PAPI_SP_OPS=64 PAPI_RES_STL=13'
presets=$(echo $presets)

# measure WHAT SCRIPT [OPTION...] - two kernels with one and two threads; all in
# one folder, since that measures the machine's ceilings once, in steps of
# --head-dim.
dim=7
measure() {
    local script=$2
    what=$1
    shift 2
    dim=$((dim + 1))
    play "$script" sweep --kernel softmax.flash,linear.fused --seq 64 \
        --head-dim $dim --threads 1,2 --processes 1 --time 0.02 \
        --out "$work/run" "$@"
    check "$what: a sweep ends with $?" $?
    [ "$(rows | grep -c '"status":"ok"')" = 4 ]
    check "$what: not four cases that are ok" $?
}

rows() { # of the last sweep
    grep '"kind":"case"' "$work/run/journal.jsonl" | grep "\"head_dim\":$dim,"
}

# counter THREADS NAME - that counter in one kernel's row.
counter() {
    rows | grep '"kernel":"softmax.flash"' | grep "\"threads\":$1," |
        grep -oE "\"$2\":\{[^}]*\}" | head -1
}

# shows THREADS NAME REGEX - what it must match.
shows() {
    local found
    found=$(counter "$1" "$2")
    grep -qE -- "$3" <<<"$found"
    check "$what: $2 of $1 threads is '$found', lacks $3" $?
}

# ---- all is well: the counts that are played, thread 1 with twice those of 0 ----
measure well "$presets"
shows 1 cycles '"value":1000,"source":"papi-hw","scope":"thread-sum","passes":1,"event":"PAPI_TOT_CYC"\}'
shows 2 cycles '"value":3000,.*"min":1000,"max":2000,"imbalance":1.333'
shows 2 l2_miss '"value":150,.*"event":"PAPI_L2_DCM","min":50,"max":100'
shows 2 stalls '"value":390,'
shows 2 PAIRS '"value":4096,"source":"papi-sde","scope":"process"'
! rows | grep -q estimate
check "well: what was counted in passes of its own is no estimate" $?
play "$presets" doctor
grep -qE 'hardware, by PAPI +cycles, instructions, l1d_miss, l2_miss, llc_miss' "$work/out"
check "doctor names what is counted" $?
play "$presets" table "$work/run" --format csv --columns kernel,threads,counter.cycles
grep -qxF 'softmax.flash,2,3000' "$work/out"
check "the table has the counts" $?

# ---- multiplexed, on request ------------------------------------------------------
measure turns "$presets" --multiplex
shows 2 cycles '"source":"papi-hw".*"passes":[1-9].*"estimate":true'
shows 1 PAIRS '"passes":1,"event":"[^"]*"\}'

# ---- one thread fails: no counts, but the sweep goes on ----------------------------
measure thread "$presets start@1=-3"
shows 1 cycles '"value":1000,'
shows 2 cycles '"value":null,"reason":"thread 1: PAPI_start: A System/C'
shows 2 PAIRS '"value":4096,'

# ---- a counter overflows, a preset disappears --------------------------------------
measure overflow "${presets/PAPI_L1_DCM=11/PAPI_L1_DCM=11^}"
shows 1 l1d_miss '"reason":"[^"]*PAPI_L1_DCM: counter overflowed'
shows 1 cycles '"value":1000,'
measure gone "${presets/PAPI_TOT_INS=70/PAPI_TOT_INS=70~4}"
shows 2 instructions '"value":null,"reason":".*PAPI_TOT_INS: Event does not exist'
shows 2 cycles '"value":3000,'

# ---- energy ------------------------------------------------------------------------
meters='rapl:::PACKAGE_ENERGY:PACKAGE0=3000000000 rapl:::DRAM_ENERGY:PACKAGE0=1000'
measure energy "$presets $meters"
[ "$(rows | grep -cE '"energy":\{"package_j":[0-9.e-]+,"cores_j":null,"dram_j":[0-9.e-]+,"watts":[0-9.]+,"seconds":0?[0-9.]+,"calls":[1-9][0-9]*,"source":"rapl","reason":null\}')" = 4 ]
check "energy: a row lacks its joules" $?
play "$presets $meters" table "$work/run" --format csv --columns kernel,energy,watts,flop_per_joule
grep -qE '^softmax.flash,[0-9.e+-]+,[0-9.e+-]+,[0-9.e+-]+$' "$work/out"
check "the table has joules, watts and operations per joule" $?
play "$presets $meters" doctor
grep -qE 'energy +joules of a call: package, dram, by PAPI.s rapl' "$work/out"
check "doctor tells which meters there are" $?
play 'rapl=-15' doctor
grep -A3 'energy .*Permission' "$work/out" | grep -q -- '-> as root: chmod'
check "doctor tells how to be permitted" $?

# ---- nothing to count with -----------------------------------------------------------
measure nothing ''
shows 2 cycles '"value":(null,"reason":"[^"]+"|[0-9]+,"source":"perf-hw")'
shows 2 PAIRS '"value":4096,'
measure down 'library=-3'
shows 2 PAIRS '"value":null,"reason":"PAPI_library_init: A System/C library call failed'
play 'library=-3' doctor
grep -A1 'PAPI_library_init: A System' "$work/out" | grep -q -- '-> install the libpapi'
check "doctor tells what to do about a PAPI that does not start" $?
play 'PAPI_TOT_CYC=1' list counters
check "list counters" $?
grep -q 'PAPI_TOT_CYC' "$work/out"
check "list counters shows the event" $?

[ ! -s "$PMU_LOG" ]
check "PAPI is used against its rules, see above" $?
cat "$PMU_LOG" 2>/dev/null

finish
