#!/bin/bash
# limits.sh PROGRAM [quick] - what a run inherits: limits, signals that are ignored,
# stops, variables of the environment, locales, a cache of ceilings; and figures that
# must not depend on it.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-limits.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
log=$work/err
small=(--seq 64 --head-dim 8 --processes 1 --time 0.05 --check 0)

# run STATUS ARGUMENT...: output in $work/out and err; in $environment and under
# $limit, a command of the shell.
environment=() limit=:
run() {
    local want=$1 status
    shift
    (eval "$limit"; exec timeout 120 env "${environment[@]}" "$program" "$@") \
        >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ $status = "$want" ]
    check "$limit; ${environment[*]} $*: exit code $status, not $want" $?
}
sweep() { # DIR ARGUMENT...
    local dir=$1
    shift
    run "${want:-0}" sweep "${small[@]}" --out "$work/$dir" "$@"
}
rows() { grep '"kind":"case"' "$work/$1/journal.jsonl"; }
has() { # what, pattern, file
    grep -qE -- "$2" "$3"
    check "$1" $?
}

# ---- memory ---------------------------------------------------------------------
# A case alone, and behind a journal of thousands of rows.
peak() { rows "$1" | grep '"external.direct"' | tail -1 |
    sed -E 's/.*"peak_rss":([0-9]+).*/\1/'; }
sanitized=
"$program" doctor 2>/dev/null | grep -q 'this build is instrumented' && sanitized=1
memory=(--kernel external.direct --grid 14x14 --processes 1 --time 0.02)
run 0 sweep "${memory[@]}" --out "$work/alone"
# What a quiet machine would have left in the cache.
mkdir -p "$work/cache/attnbench"
grep '"kind":"env"' "$work/alone/journal.jsonl" | tail -1 >"$work/row"
machine=$(sed -E 's/.*"machine_id":"([0-9a-f]*)".*/\1/' "$work/row")
kept() { # AGE: the row as if its ceilings were measured so long ago, in quiet
    sed -E "s/\"when\":\"[^\"]*\",\"age_s\"/\"when\":\"$(date -u -d "-$1" +%FT%TZ)\",\"age_s\"/
        s/\"load\":\[[^]]*\]/\"load\":[0.1,0.1,0.1]/; s/\"clean\":[0-9.]+/\"clean\":1/" \
        "$work/row" >"$work/cache/attnbench/ceilings-$machine.json"
}
# From here on the sweeps of this file need not measure their ceilings.
export XDG_CACHE_HOME=$work/cache
age() { grep '"kind":"env"' "$work/$1/journal.jsonl" | tail -1 |
    sed -E 's/.*"age_s":([0-9]+).*/\1/'; }
mkdir "$work/behind"
kept '1 minute'
cp results/reference/journal.jsonl "$work/behind/"
run 0 sweep "${memory[@]}" --out "$work/behind"
alone=$(peak alone) behind=$(peak behind)
if [ -z "$sanitized" ]; then
    [ $((alone > behind ? alone - behind : behind - alone)) -le $((16384 + alone / 20)) ]
    check "peak memory depends on what was before: $alone and $behind bytes" $?
    [ "$alone" -lt 1000000 ]
    check "peak memory of a small case is small: $alone bytes" $?
fi

# ---- limits ---------------------------------------------------------------------
refused() { # LIMIT REMEDY
    limit=$1
    run 3 doctor
    limit=:
    [ "$(wc -l <"$work/err")" = 1 ] && grep -qE "^attnbench: .* limited to .*$2" "$work/err"
    check "$1: one line with what to do" $?
}
if [ -z "$sanitized" ]; then # which needs much more itself
    refused 'ulimit -s 16' 'ulimit -s 8192'
    refused 'ulimit -s 64' 'ulimit -s 8192'
    refused 'ulimit -v 200000' 'ulimit -v unlimited'
    refused 'ulimit -t 1' 'ulimit -t unlimited'
    limit='ulimit -s 1024'
    sweep stack --kernel softmax.flash,softmax.gemm,softmax.naive
    limit=:
else
    skipped=$((skipped + 1))
    echo "skip limits of stack and address space: the build is instrumented"
fi
limit='ulimit -f 1'
run 3 table results/reference --out "$work/large.md"
limit=:
[ "$(wc -l <"$work/err")" = 1 ] && grep -q 'File too large' "$work/err"
check "a file that may not be as large: one line" $?

# ---- signals --------------------------------------------------------------------
# Long enough to be met: one case of about two seconds.
long=(--kernel softmax.flash --seq 64 --head-dim 8 --processes 1 --time 2 --ci
    0.0001% --check 0 --timeout 20)
begin() { # DIR
    "$program" sweep "${long[@]}" --out "$work/$1" >"$work/out" 2>"$work/err" \
        </dev/null &
    pid=$!
    for _ in $(seq 300); do # until its env row is there, then its case runs
        [ -s "$work/$1/journal.jsonl" ] && break
        sleep 0.1
    done
}
(
    trap '' HUP INT TERM
    begin ignored
    kill -HUP $pid
    kill -INT $pid
    kill -TERM $pid
    wait $pid
)
[ $? = 0 ] && rows ignored | grep -q '"status":"ok"'
check "signals that were ignored when it started (nohup) do not end a sweep" $?

begin stopped
child=$(cat /proc/$pid/task/$pid/children | awk '{ print $1 }')
kill -TSTP $pid
sleep 0.5
state() { awk '/^State/ { print $2 }' "/proc/$1/status" 2>/dev/null; }
[ "$(state $pid)" = T ]
check "Ctrl-Z stops a sweep" $?
[ "$(state "${child:-0}")" = T ] || ! [ -e "/proc/${child:-0}" ]
check "and its child" $?
kill -CONT $pid
wait $pid
[ $? = 0 ] && rows stopped | grep -q '"status":"ok"'
check "which go on when they are continued" $?

# ---- variables ------------------------------------------------------------------
environment=(OMP_PLACES=cores OMP_PROC_BIND=close)
[ "$(nproc)" -gt 1 ] && {
    sweep bound --kernel linear.fused --threads 2
    rows bound | grep -q '"policy":"close","processors":\[[0-9]*,[0-9]*\]'
    check "OMP_PROC_BIND does not hide processors" $?
    rows bound | grep -q '"held":true'
    check "threads are where sweep puts them" $?
}
run 0 doctor --json
tr -d ' \t\n' <"$work/out" | grep -q "\"usable_threads\":$(nproc)[,}]"
check "nor from doctor" $?
has "variables that have no effect are told" 'does not follow OMP_PLACES, OMP_PROC_BIND' \
    <(env "${environment[@]}" "$program" doctor | tr '\n' ' ' | tr -s ' ')
environment=(GOMP_CPU_AFFINITY=0 OMP_NUM_THREADS=1)
run 0 doctor --json
tr -d ' \t\n' <"$work/out" |
    grep -q '"overridden":{"GOMP_CPU_AFFINITY":"0","OMP_NUM_THREADS":"1"}'
check "overridden variables are in the env row" $?
for variable in OMP_THREAD_LIMIT=1 OMP_MAX_ACTIVE_LEVELS=0; do
    environment=($variable)
    want=4 sweep "few-$variable" --kernel linear.fused --threads 2 --bind none
    rows "few-$variable" | grep -q '"status":"threads","reason":"runs with 1 of 2 threads'
    check "$variable: a row whose threads did not run is not ok" $?
done
environment=(OMP_STACKSIZE=16k)
want=4 sweep stacks --kernel linear.fused --threads 2 --bind none
rows stacks | grep -q '"status":"ok"'
[ $? = 1 ]
check "threads without a stack: not ok" $?
environment=(MALLOC_ARENA_MAX=1 LD_PRELOAD=/home/someone/none.so)
run 0 doctor --json
tr -d ' \t\n' <"$work/out" |
    grep -q '"binding":{[^}]*"LD_PRELOAD":"none.so","MALLOC_ARENA_MAX":"1"'
check "what acts on a measurement is in the env row, without folders" $?
environment=()

# ---- locales --------------------------------------------------------------------
cat >"$work/comma.c" <<'END'
#include <locale.h>
#include <stdlib.h>
#define _GNU_SOURCE
__attribute__((constructor)) static void choose(void)
{
    if (!setlocale(LC_ALL, "comma")) abort();
}
END
sed 's|^static void forward(const att_call \*c)|#include <locale.h>\n&|
    /memset(sum, 0, d \* sizeof \*sum);/s|^|setlocale(LC_ALL, "comma");|' \
    tests/plugin/example.c >"$work/example.c"
mkdir "$work/locales"
if localedef -i de_DE -f UTF-8 "$work/locales/comma" >/dev/null 2>&1 ||
    [ -e "$work/locales/comma/LC_NUMERIC" ]; then
    ${CC:-cc} -O2 -fopenmp -shared -fPIC -Ikernels "$work/comma.c" \
        "$work/example.c" -o "$work/comma.so" 2>"$work/err"
    check "the plugin that chooses a locale compiles" $?
    environment=(LOCPATH="$work/locales" LC_ALL=comma)
    run 0 --plugin "$work/comma.so" sweep --kernel average,softmax.flash --seq 64 \
        --head-dim 8 --processes 1 --time 0.05 --ci 2.5% --out "$work/comma"
    [ "$(rows comma | grep -c '"status":"ok"')" = 2 ]
    check "a plugin that chooses a locale with decimal commas: two rows" $?
    run 0 --plugin "$work/comma.so" table "$work/comma" --format csv
    ! grep -E '^[^#]' "$work/out" | grep -qE '[0-9],[0-9]+,[0-9]+,[0-9]+e'
    grep -qE '[0-9]\.[0-9]' "$work/out" &&
        [ "$(grep -v '^#' "$work/out" | awk -F, '{ print NF }' | sort -u | wc -l)" = 1 ]
    check "tables have points, and as many cells in each line" $?
    environment=()
else
    skipped=$((skipped + 1))
    echo "skip locales: localedef makes none here"
fi

# ---- a wrong cost() -------------------------------------------------------------
sed 's|\.add = maps \* n \* p->head_dim,|.mul_add = 1e3 * maps * n * n * n * p->head_dim, &|' \
    tests/plugin/example.c >"$work/wrong.c"
${CC:-cc} -O2 -march=native -fopenmp -shared -fPIC -Ikernels "$work/wrong.c" \
    -o "$work/wrong.so" 2>"$work/err"
check "the plugin with a wrong cost() compiles" $?
run 1 --plugin "$work/wrong.so" verify --mechanism average
has "verify names cost()" 'FAIL  cost\(\) says .* mul_add, the reference does 0' "$work/out"
run 0 --plugin "$work/wrong.so" sweep --kernel average --seq 256 --head-dim 8 \
    --processes 1 --time 0.05 --out "$work/wrong"
rows wrong | grep -q '"reason":"[0-9]* % of the roofline.*cost() of average.*executed() of average.running.*"implausible":true'
check "a row above the roofline has a reason that names cost() and executed()" $?
has "which the sweep shows" 'ok: [0-9]+ % of the roofline' "$work/out"
run 0 table "$work/wrong"
has "and which a table marks" '†' "$work/out"

# ---- ceilings -------------------------------------------------------------------
kept '3 hours'
sweep kept --kernel softmax.flash
[ "$(age kept)" -ge 10800 ] && [ "$(age kept)" -lt 11000 ]
rc=$?; check "ceilings of three hours ago are taken: age $(age kept) s" "$rc"
has "and their age is told" '^# ceilings were measured 3 h ago' "$work/out"
kept '25 hours'
sweep old --kernel softmax.flash
[ "$(age old)" = 0 ]
check "ceilings of yesterday are not taken" $?
environment=(HOME=/proc XDG_CACHE_HOME=/proc/none)
sweep readonly --kernel softmax.flash
environment=()
if [ "$2" != quick ]; then
    kept '3 hours'
    sweep fresh --kernel softmax.flash --ceilings fresh
    [ "$(age fresh)" = 0 ]
    check "--ceilings fresh measures" $?
    kept '3 hours'
    environment=(MALLOC_ARENA_MAX=1)
    sweep other --kernel softmax.flash
    [ "$(age other)" = 0 ]
    check "ceilings of another environment are not taken" $?
    echo '{"machine_id": 3, "roofline": [' >"$work/cache/attnbench/ceilings-$machine.json"
    environment=(-u HOME)
    sweep broken --kernel softmax.flash
    [ "$(age broken)" = 0 ]
    check "a broken cache is none" $?
    environment=()
fi
run 2 sweep --ceilings new --out "$work/none"

finish
