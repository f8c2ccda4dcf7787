#!/bin/bash
# cli.sh PROGRAM [quick] - what the program does with input that is wrong: the
# exit code of harness/error.h, one clear line on stderr, no crash, no half file.
program=$(realpath "$1")
root=$PWD
# PNGs and others are made here; gone at the end.
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-cli.XXXXXX") || exit 1
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache COLUMNS=80
unset NO_COLOR
passed=0 failed=0 skipped=0

fail() { # what, why
    failed=$((failed + 1))
    echo "FAIL $1: $2"
    sed 's/^/    | /' "$work/err" | head -5
}
skip() { # what, why
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}

# bad STATUS REGEX ARGUMENT... - fails with one line on stderr that matches, and
# leaves no temporary file.  Runs in $work.
bad() {
    local want=$1 regex=$2 status lines left
    shift 2
    (cd "$work" && timeout 60 "$program" "$@" >out 2>err </dev/null)
    status=$?
    lines=$(wc -l <"$work/err")
    left=$(find "$work" -name '*.tmp' -print -quit)
    if [ "$status" != "$want" ]; then
        fail "$*" "exit code $status, not $want"
    elif [ "$lines" != 1 ]; then
        fail "$*" "$lines lines on stderr"
    elif ! grep -qE "^attnbench[ a-z]*: " "$work/err"; then
        fail "$*" "the line does not start with the command"
    elif ! grep -qE -- "$regex" "$work/err"; then
        fail "$*" "the line lacks /$regex/"
    elif [ -n "$left" ]; then
        fail "$*" "left $left"
        rm -f "$left"
    else
        passed=$((passed + 1))
    fi
}

# good ARGUMENT... - exits with 0 and says nothing on stderr, but how busy the
# machine is.
good() {
    local status
    (cd "$work" && timeout 60 "$program" "$@" >out 2>err </dev/null)
    status=$?
    if [ "$status" != 0 ]; then fail "$*" "exit code $status"
    elif [ ! -s "$work/out" ]; then fail "$*" "no output"
    elif grep -v '^! ' "$work/err"; then fail "$*" "says something on stderr"
    else passed=$((passed + 1)); fi
}

# absent PATH - nothing under a final name; an empty folder may be there.
absent() {
    if [ -n "$(find "$work/$1" -type f 2>/dev/null)" ]; then fail "$1" "is there after a failure"
    else passed=$((passed + 1)); fi
}

commands=$("$program" completion bash | sed -nE "s/.*compgen -W '([a-z ]*sweep[a-z ]*)'.*/\1/p" | head -1)
[ -n "$commands" ] || commands=$("$program" --help | awk '/^  [a-z]+ / && !/attnbench/ { print $1 }')

# ---- help ---------------------------------------------------------------------
good --help
good --version
good help
for command in $commands; do
    good "$command" --help
    good "$command" --usage
    good "$command" --version
    good help "$command"
    bad 2 'unknown option --no-such-thing' "$command" --no-such-thing
    bad 2 'unknown option -Z' "$command" -Z
    bad 2 '--help takes no value' "$command" --help=3
done

# ---- words of the command line ------------------------------------------------
while IFS='|' read -r status regex line; do
    [ -n "$status" ] || continue
    case $status in \#*) continue ;; esac
    eval "words=($line)"
    bad "$status" "${regex//¦/|}" "${words[@]}"
done <<'TABLE'
2|sweeep.*did you mean 'sweep'|sweeep
2|unknown command 'frobnicate'|frobnicate
2|--plugn.*did you mean '--plugin'|--plugn x.so list
2|--plugin needs a file|--plugin
2|--color.*'blue'.*auto, always, never|--color=blue list
3|nothing.so|--plugin ./nothing.so list
# sweep
2|did you mean 'softmax.flash'|sweep --kernel softmax.flahs --out o
2|did you mean 'softmax'|sweep --kernel sofmax --out o
2|no kernel matches|sweep --kernel '' --out o
2|no kernel matches 'zzzzzzzz'|sweep --not zzzzzzzz --out o
2|did you mean '?smoke|sweep --suite smok --out o
2|nothing.json|sweep --suite ./nothing.json --out o
2|head-dim|sweep --head-dimm 3 --out o
2|seq|sweep --seq abc --out o
2|seq|sweep --seq '' --out o
2|seq|sweep --seq 1,,2 --out o
2|seq|sweep --seq 1, --out o
2|seq|sweep --seq 0 --out o
2|seq|sweep --seq -5 --out o
2|seq|sweep --seq 99999999999999999999 --out o
2|seq|sweep --seq 1e400 --out o
2|seq|sweep --seq 1.5 --out o
2|seq|sweep --seq 8..4*2 --out o
2|seq|sweep --seq 4..8*1 --out o
2|seq|sweep --seq 4..8+0 --out o
2|seq|sweep --seq 4..8 --out o
2|seq|sweep --seq 4..8*x --out o
2|seq|sweep --seq 1..100000000+1 --out o
2|grid|sweep --grid 0x5 --out o
2|grid|sweep --grid 3x --out o
2|grid|sweep --grid x3 --out o
2|grid|sweep --grid 1x2x3x4x5 --out o
2|window|sweep --window -1 --out o
2|heads|sweep --heads 0 --out o
2|batch|sweep --batch -1 --out o
2|threads|sweep --threads 0 --out o
2|threads|sweep --threads 100000000 --out o
2|level|sweep --level v9 --out o
2|pass|sweep --pass sideways --out o
2|feature-map.*(relu¦elu1)|sweep --feature-map rleu --out o
2|causal|sweep --causal maybe --out o
2|ci.*'x'|sweep --ci x --out o
2|ci|sweep --ci 0 --out o
2|time|sweep --time -1 --out o
2|time|sweep --time nan --out o
2|timeout|sweep --timeout 0 --out o
2|processes|sweep --processes 0 --out o
2|max-memory|sweep --max-memory 5Q --out o
2|max-memory|sweep --max-memory -5 --out o
2|shard|sweep --shard 3/2 --out o
2|shard|sweep --shard 1 --out o
2|plain|sweep --plain som --out o
3|folder.*empty|sweep --out '' --kernel softmax.flash --seq 16
2|extra|sweep extra
# the other commands
2|did you mean 'softmax'|explain sofmax
2|.|explain
2|--window.*not be negative|explain na2d --window -3
2|--out needs a value|sweep --out
2|-k needs a value|sweep -k
2|may stand for|sweep --h 3
2|mechanism.*did you mean 'softmax'|cite sofmax
2|.|list kernel --jsonn
2|.|list nothings
2|.|completion fis
2|.|completion
2|did you mean|verify --kernel softmax.flahs
2|did you mean|verify --mechanism sofmax
2|level|verify --level v9
2|threads|verify --threads 0
2|.|table
2|.|plot
2|.|compare a
2|.|merge
2|did you mean 'softmax'|maps sofmax --out m
2|.|maps
2|grid|maps softmax --grid 0x0 --out m
2|head|maps softmax --grid 4x4 --head 99 --out m
2|'sofmax' is not a mechanism|train --mechanism sofmax --data stripes --out m.safetensors
2|depth|train --depth 0 --out m.safetensors
# options that would change nothing
2|--window does not change softmax|train --window 5 --out m.safetensors
2|--eps does not change|train --eps 1e-3 --out m.safetensors
2|--masked.*classify|train --masked 0.3 --out m.safetensors
2|--context.*classify|train --context 64 --out m.safetensors
2|--patch.*next|train --data documents --patch 4 --out m.safetensors
2|--power changes none|maps swin na2d --power 4 --out m
2|--normalize is of models|maps softmax --normalize 0.5 --out m
2|--assume is of models|maps softmax --assume heads=4 --out m
2|--weights means nothing to 'models list'|models --weights x
2|--format means nothing to 'models run'|models run deit_ti --format md
2|--interleave needs two|models run deit_ti --interleave
2|no such journal|table nothing
2|no such journal|plot nothing
2|no such journal|compare nothing nothing
2|no such journal|merge joined nothing
2|nothing.png|maps softmax --image nothing.png --out m
2|nothing.safetensors|maps nothing.safetensors --out m
TABLE
absent o
absent m
absent m.safetensors

# ---- a small run to break ------------------------------------------------------
cat >"$work/few.json" <<'END'
{ "version": 1, "brief": "two cases", "processes": 1, "timeout": 20,
  "blocks": [ { "kernels": [ "softmax.flash" ],
                "axes": { "seq": "16,32", "head-dim": 8 }, "seconds": 0.1 } ] }
END
(cd "$work" && "$program" sweep --suite ./few.json --out run >out 2>err </dev/null)
status=$?
if [ $status != 0 ]; then fail "sweep --suite ./few.json" "exit code $status"
else passed=$((passed + 1)); fi
journal=$work/run/journal.jsonl

# suite FIND REPLACE REGEX - the suite with one thing wrong.
suite() {
    sed "s|$1|$2|" "$work/few.json" >"$work/bad.json"
    cmp -s "$work/few.json" "$work/bad.json" && fail "suite $1" "same file"
    bad 2 "$3" sweep --suite ./bad.json --out o
}
suite '"version": 1,' '"version": 1' 'bad.json:[0-9]+'
suite '} ] }' '} ]' 'bad.json:[0-9]+'
suite processes procesess "bad.json.*procesess.*did you mean 'processes'"
suite '"processes": 1' '"processes": "x"' 'bad.json.*processes'
suite '"processes": 1' '"processes": -1' 'bad.json.*processes'
suite '"timeout": 20' '"timeout": [1]' 'bad.json.*timeout'
suite '"version": 1' '"version": "x"' 'bad.json.*version'
suite head-dim head-dmi "bad.json.*head-dmi.*did you mean 'head-dim'"
suite '16,32' '16,,32' 'bad.json.*seq'
suite '16,32' '0' 'bad.json.*seq'
suite 'softmax.flash' 'softmax.flahs' "bad.json.*did you mean 'softmax.flash'"
suite '"axes"' '"axess"' 'bad.json.*axess'
suite '"blocks": \[ {' '"blocks": [ 3, {' 'bad.json.*blocks'
mkdir "$work/run.json"
printf '' >"$work/bad.json"; bad 2 'bad.json' sweep --suite ./bad.json --out o
printf '[]' >"$work/bad.json"; bad 2 'bad.json' sweep --suite ./bad.json --out o
head -c 200000 /dev/zero | tr '\0' '[' >"$work/bad.json"
bad 2 'bad.json' sweep --suite ./bad.json --out o
bad 2 'a folder' sweep --suite ./run.json --out o
absent o

# ---- too few passes --------------------------------------------------------------
good models run deit_ti --image 16 --seconds 1e-6
! grep -qi nan "$work/out" && grep -q 'needs 6 passes' "$work/out"
status=$?
[ $status = 0 ] || fail "models run of one pass" "no reason instead of an interval"
passed=$((passed + (status == 0)))

# ---- tables of it --------------------------------------------------------------
good table run
bad 2 "docx" table --format docx run
bad 2 "did you mean 'softmax.flash'" table --kernel softmax.flahs run
bad 2 "no case" table --not '*' run
bad 2 "unknown column .nothing." table --columns nothing run
bad 2 "." table --rows kernel run
bad 2 "." plot run nothing
bad 2 "." plot --format docx run
bad 2 "width" plot --width 5 run
bad 2 "fail-on" compare --fail-on faster run run
bad 2 "min-effect" compare --min-effect x run run

# ---- broken journals ------------------------------------------------------------
broken() { # REGEX: the journal in $work/b is refused by readers and by sweep
    for command in 'table b' 'plot b' 'compare run b' 'merge joined b'; do
        bad 2 "b/journal.jsonl.*$1" $command
    done
    bad 3 "b/journal.jsonl.*$1" sweep --suite ./few.json --out b
    rm -rf "$work/b"
}
mkdir "$work/b"
(head -1 "$journal"; echo garbage; tail -n +2 "$journal") >"$work/b/journal.jsonl"
broken ':2: .*broken'
mkdir "$work/b"; sed 's/"schema":[0-9]*/"schema":99/' "$journal" >"$work/b/journal.jsonl"
broken ':1: schema 99'
mkdir "$work/b"; (echo '[1]'; cat "$journal") >"$work/b/journal.jsonl"
broken ':1: not a row'
mkdir -p "$work/b/journal.jsonl"
broken ''
mkdir "$work/b"; : >"$work/b/journal.jsonl"
bad 2 'b/journal.jsonl' table b
# torn at any place: the last line goes, the others stay, nothing is measured twice
lines=$(wc -l <"$journal")
head -c -7 "$journal" >"$work/b/journal.jsonl"
(cd "$work" && "$program" table b >out 2>err)
if [ $? = 0 ] && [ "$(wc -l <"$work/err")" = 1 ]; then passed=$((passed + 1))
else fail "table of a torn journal" "not read, or said nothing"; fi
(cd "$work" && "$program" sweep --suite ./few.json --out b >out 2>err </dev/null)
if [ "$(wc -l <"$work/b/journal.jsonl")" = "$lines" ] &&
    cmp -s <(head -n $((lines - 1)) "$journal") \
        <(head -n $((lines - 1)) "$work/b/journal.jsonl"); then
    passed=$((passed + 1))
else fail "sweep into a torn journal" "not repaired"; fi

# ---- pictures -------------------------------------------------------------------
(cd "$work" && "$program" maps softmax --grid 4x4 --head-dim 8 --out maps \
    --format png >out 2>err </dev/null) || fail "maps softmax" "exit code $?"
picture=$(ls "$work"/maps/*.png 2>/dev/null | head -1)
: >"$work/empty.png"
bad 2 'empty.png' maps softmax --image empty.png --out p
bad 2 'few.json' maps softmax --image few.json --out p
bad 2 'run' maps softmax --image run --out p
if [ -n "$picture" ]; then
    for size in 4 8 20 33 60; do
        head -c $size "$picture" >"$work/cut.png"
        bad 2 'cut.png' maps softmax --image cut.png --out p
    done
    head -c -30 "$picture" >"$work/cut.png"
    bad 2 'cut.png' maps softmax --image cut.png --out p
    # width 0, then 2^31-1
    for width in '\x00\x00\x00\x00' '\x7f\xff\xff\xff'; do
        cp "$picture" "$work/size.png"
        printf "$width" | dd of="$work/size.png" bs=1 seek=16 conv=notrunc 2>/dev/null
        bad 2 'size.png' maps softmax --image size.png --out p
    done
else fail "maps softmax" "no picture"; fi

# Parameters from files: a map of 4x4 tokens that the program wrote itself.
map=$(ls "$work"/maps/*-h0.npy 2>/dev/null | head -1)
if [ -n "$map" ]; then
    cp "$map" "$work/map.npy"
    head -c 100 "$map" >"$work/short.npy"
    good maps masked --grid 4x4 --head-dim 8 --format none --out given \
        --parameter mask=map.npy
    bad 2 '16 x 16.* 25 x 25' maps masked --grid 5x5 --out p --parameter mask=map.npy
    bad 2 "no such parameter; it has mask" maps masked --grid 4x4 --out p \
        --parameter mark=map.npy
    bad 2 'NAME=FILE' maps masked --grid 4x4 --out p --parameter map.npy
    bad 2 'short.npy' maps masked --grid 4x4 --out p --parameter mask=short.npy
    bad 2 'none.png' maps masked --grid 4x4 --out p --parameter mask=none.png
    bad 2 'neither' maps masked --grid 4x4 --out p --parameter mask=few.json
else fail "maps softmax" "no matrix"; fi
absent p

# ---- case files -----------------------------------------------------------------
# tensors HEADER [DATA] - a safetensors file.
tensors() {
    local n=${#1}
    {
        for shift in 0 8 16 24 32 40 48 56; do
            printf "\\x$(printf %02x $(((n >> shift) & 255)))"
        done
        printf '%s' "$1"
        head -c "${2:-0}" /dev/zero
    } >"$work/case.safetensors"
}
# casefile REGEX - one line FAIL with the reason on stdout, exit code 1.
casefile() {
    local status
    (cd "$work" && timeout 60 "$program" verify case.safetensors >out 2>err)
    status=$?
    if [ $status != 1 ]; then fail "case file: $1" "exit code $status, not 1"
    elif ! grep FAIL "$work/out" | head -1 | grep -qE "$1"; then
        fail "case file: $1" "said: $(head -2 "$work/out" | tr '\n' ';')"
    else passed=$((passed + 1)); fi
    (cd "$work" && timeout 60 "$program" maps case.safetensors --out p >out 2>err)
    status=$?
    if [ $status = 2 ] && [ "$(wc -l <"$work/err")" = 1 ]; then
        passed=$((passed + 1))
    else fail "maps case.safetensors: $1" "exit code $status or no one line"; fi
}
meta='"__metadata__":{"op":"softmax","grid":"4","heads":"1","head_dim":"2"}'
: >"$work/case.safetensors"; casefile '.'
head -c 5 /dev/zero >"$work/case.safetensors"; casefile '.'
head -c 8 /dev/zero >"$work/case.safetensors"; casefile '.'
printf '\xff\xff\xff\xff\xff\xff\xff\xff{}' >"$work/case.safetensors"; casefile '.'
tensors '{'; casefile '.'
tensors '[]'; casefile '.'
tensors '{"q":{"dtype":"F32","shape":[1,4,2],"data_offsets":[0,32]}}' 31; casefile q
tensors '{"q":{"dtype":"F32","shape":[1,4,2],"data_offsets":[32,0]}}' 32; casefile q
tensors '{"q":{"dtype":"F32","shape":[1,4,3],"data_offsets":[0,32]}}' 32; casefile q
tensors '{"q":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,32]}}' 32; casefile q
tensors '{"q":{"dtype":"F32","shape":[-1,4,2],"data_offsets":[0,32]}}' 32; casefile q
tensors '{"q":{"dtype":"X9","shape":[1,4,2],"data_offsets":[0,32]}}' 32; casefile q
tensors '{"q":{"dtype":"F32","shape":[1,4,2],"data_offsets":[0,32]},"k":{"dtype":"F32","shape":[1,4,2],"data_offsets":[16,48]}}' 48
casefile 'k|q'
tensors "{$meta}"; casefile '.'
tensors '{"__metadata__":{"op":"nothing","grid":"4"}}'; casefile nothing
tensors '{"__metadata__":{"op":"softmax","grid":"0","heads":"1","head_dim":"2"}}'; casefile grid
tensors '{"__metadata__":{"op":"softmax","grid":"999999999","heads":"9999","head_dim":"9999"}}'; casefile '.'

# ---- places that cannot be written ----------------------------------------------
echo file >"$work/file"
bad 3 'file' sweep --suite ./few.json --out file
bad 3 'file' sweep --suite ./few.json --out file/below
bad 3 '/proc/nothing' sweep --suite ./few.json --out /proc/nothing
bad 3 'file' plot --out file run
bad 3 'file' maps softmax --grid 4x4 --head-dim 8 --out file
bad 3 'file/x.md' table --out file/x.md run
bad 3 'file' merge file run
bad 3 'file' train --data stripes --steps 1 --items 1 --out file/m.safetensors
if [ "$(cat "$work/file")" = file ]; then passed=$((passed + 1))
else fail file "was changed"; fi

# ---- two names of one thing, and what explain tells --------------------------------
# told REGEX ARGUMENT... - succeeds and says so.
told() {
    local regex=$1
    shift
    (cd "$work" && timeout 60 "$program" "$@" >out 2>err </dev/null)
    if [ $? != 0 ]; then fail "$*" "does not succeed"
    elif ! tr -s ' \n' ' ' <"$work/out" | grep -qE -- "$regex"; then
        fail "$*" "does not tell /$regex/"
    else passed=$((passed + 1)); fi
}
told 'radius 4 ' explain sparse_sliding --radius 4
told 'window 9 ' explain sparse_sliding --window 9
told 'sparse_sliding' maps sparse_sliding --seq 36 --radius 4 --out radius
told 'sparse_sliding' maps sparse_sliding --seq 36 --window 3 --out window
for mechanism in softmax pairwise; do
    told 'j <= i \+ \(M - N\).*bottom right' explain $mechanism
done
for mechanism in linear cosformer aft_full sparse_strided; do
    told 'sees no key after i; there must be as many keys' explain $mechanism
done
told 'shift 0x3 ' explain swin --grid 4x12 --window 4x7 --shift 0x3
told 'rpb_table \[91\]\[1\]' explain swin --grid 4x12 --window 7 --shift 3 --bias 1
told 'rpb_table \[169\]\[1\]' explain swin --grid 4x12 --window 7 --shift 3 \
    --bias 1 --padding torchvision
bad 2 'shift must be smaller' explain swin --grid 8x8 --window 4x7 --shift 4x3

# ---- standard output ------------------------------------------------------------
for command in 'list' 'list --json' 'explain softmax' 'cite' 'table run' \
    'compare run run' 'completion bash' 'doctor' '--help' 'sweep --help'; do
    (cd "$work" && timeout 60 "$program" $command >/dev/full 2>err </dev/null)
    status=$?
    if [ $status = 0 ] || [ $status -ge 128 ]; then
        fail "$command > /dev/full" "exit code $status"
    elif [ "$(grep -c 'cannot write' "$work/err")" != 1 ]; then
        fail "$command > /dev/full" "not one line that says so"
    else passed=$((passed + 1)); fi
    (cd "$work" && timeout 60 "$program" $command 2>err </dev/null | true
     exit ${PIPESTATUS[0]})
    status=$?
    # 141: ended by SIGPIPE, as every filter
    if [ $status -ge 128 ] && [ $status != 141 ]; then
        fail "$command | true" "exit code $status"
    else passed=$((passed + 1)); fi
done

# ---- no gnuplot -----------------------------------------------------------------
mkdir "$work/empty"
(cd "$work" && PATH=$work/empty "$program" plot --out figures run >out 2>err)
status=$?
if [ $status = 3 ] && [ "$(grep -c gnuplot "$work/err")" = 1 ] &&
    ls "$work"/figures/*.gp >/dev/null 2>&1; then passed=$((passed + 1))
else fail "plot without gnuplot" "exit code $status, or no commands kept"; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
