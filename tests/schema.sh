#!/bin/bash
# schema.sh PROGRAM [quick] - every row that is written is as the list of keys says: of all
# kernels, of cases that fail, of pairs, of simulated caches; by the program's own
# check and by another reader of JSON Schema.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
references=$PWD/results/reference
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-schema.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
log=$work/err
attnbench() { "$program" "$@" >out 2>err </dev/null; }

attnbench journal --schema
check "the schema is printed" $?
cp out schema.json
cat >with_python.py <<'END'
import json, sys, jsonschema
schema = json.load(open("schema.json"))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
wrong = 0
for n, line in enumerate(open(sys.argv[1] + "/journal.jsonl"), 1):
    for e in validator.iter_errors(json.loads(line)):
        wrong += 1
        print(n, "/".join(map(str, e.absolute_path)), e.message[:200])
sys.exit(wrong > 0)
END
python=
if needs python3 "rows by another reader of JSON Schema"; then
    if python3 -c 'import jsonschema; jsonschema.Draft202012Validator' 2>err; then
        python=yes
    else
        skipped=$((skipped + 1))
        echo "SKIP rows by another reader of JSON Schema: no python3-jsonschema of version 4"
    fi
fi
# fit WHAT DIR - both say so of all rows.
fit() {
    attnbench journal "$2"
    rc=$?; check "$1: $(head -1 out)" "$rc"
    [ -z "$python" ] && return
    python3 with_python.py "$2" >out 2>&1
    rc=$?; check "$1, by another reader: $(head -1 out)" "$rc"
}

small=(--seq 16 --head-dim 8 --time 0.001 --processes 1)
kernels='*'
[ "$2" = quick ] && kernels='softmax.*,linear.*,na2d.*'
attnbench sweep --kernel "$kernels" --window 3 --pass forward,backward "${small[@]}" --out all
check "a sweep of kernels" $?
fit "rows of every kernel" all
one=(--kernel softmax.flash "${small[@]}" --check 0)
attnbench sweep "${one[@]}" --max-memory 1K --out all
attnbench sweep "${one[@]}" --inputs sharp --processes 2 --bind none --multiplex --out all
attnbench sweep "${one[@]}" --threads 64 --out all
attnbench sweep --kernel softmax.naive --seq 16384 --head-dim 128 --timeout 0.1 \
    --check 0 --processes 1 --out all
for status in memory threads timeout; do
    grep -q "\"status\":\"$status\"" all/journal.jsonl
    check "a row of status $status" $?
done
fit "rows of cases that fail" all
mkdir aa
head -1 all/journal.jsonl >aa/journal.jsonl
attnbench sweep --aa --pairs 2 "${one[@]}" --out aa
grep -q '"kind":"aa"' aa/journal.jsonl
check "rows of pairs" $?
fit "rows of pairs" aa
if needs valgrind "rows of simulated caches"; then
    attnbench cache --kernel softmax.naive --seq 16 --head-dim 8 --out simulated
    grep -q '"kind":"cache"' simulated/journal.jsonl
    check "rows of simulated caches" $?
    fit "rows of simulated caches" simulated
fi
for run in . speed peers; do
    [ -e "$references/$run/journal.jsonl" ] && fit "rows of reference/$run" "$references/$run"
done

# ---- what no row is ----------------------------------------------------------------
# refused WHAT SED REGEX - rows that were changed so are refused by both.
refused() {
    mkdir -p bad
    head -3 all/journal.jsonl | sed -E "$2" >bad/journal.jsonl
    attnbench journal bad
    [ $? != 0 ] && cat out err | grep -qE "$3"
    rc=$?; check "$1: $(cat out err | head -1)" "$rc"
    [ -z "$python" ] && return
    ! python3 with_python.py bad >out 2>&1
    check "$1, by another reader" $?
}
refused "a key that is in no list" 's/"pairs":/"twins":/' 'twins: there is no such key'
refused "a text for a number" 's/"median":[0-9.]+/"median":"2"/' \
    ':[23]: "time_ns.median" is a text and should be a number'
refused "a number in a list of texts" 's/"levels":\["/"levels":[7,"/' \
    ':1: cpu.levels\[\]: integer, and it should be string'
refused "a row without its case" 's/"case":"[^"]*",//' ':2: case: it is not there'
refused "half a thread" 's/"threads":1,"pass"/"threads":1.5,"pass"/' \
    '"threads" is a number that is not whole'
refused "a kind that is none" 's/"kind":"case"/"kind":"cases"/' 'kind: cases is none'
attnbench journal
[ $? = 2 ] && [ "$(wc -l <err)" -le 3 ]
check "no run at all is a usage error" $?
attnbench journal --document /dev/null
[ $? = 2 ] && grep -q 'lists of keys' err
check "a page without the tables is refused" $?
finish
