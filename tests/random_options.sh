#!/bin/bash
# random_options.sh PROGRAM [quick] - sweeps with options, environment variables,
# streams, limits and folders drawn at random: each ends in time, by itself, with
# a documented exit code, tells an error in one line of its own and leaves a
# journal that can be read.
# DRAWS=N: so many (10 quick, 25 otherwise); SEED=N: others.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
draws=${DRAWS:-25}
if [ "$2" = quick ]; then draws=${DRAWS:-10}; fi
RANDOM=${SEED:-1}
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-options.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
log=$work/told
echo file >file

# pick VALUE... - one of them in $picked.
pick() { shift $((RANDOM % $#)); picked=$1; }
chance() { [ $((RANDOM % 100)) -lt "$1" ]; } # per cent

# option CHANCE NAME VALUE... NONSENSE - perhaps with a value; with the last one
# only in draws that are wild.
option() {
    local percent=$1 name=$2
    shift 2
    pick "${@:1:$#-1}"
    if [ "$wild" = 1 ] && chance 20; then picked=${*: -1}; fi
    if chance "$percent"; then words+=("--$name=$picked"); fi
}
variable() {
    local percent=$1 name=$2
    shift 2
    pick "$@"
    if chance "$percent"; then settings+=("$name=$picked"); fi
}
limit() {
    local percent=$1 flag=$2
    shift 2
    pick "$@"
    if chance "$percent"; then limits+=("$flag $picked"); fi
}

draw_options() {
    words=() wild=0
    chance 40 && wild=1
    option 100 kernel softmax.flash 'linear.*' gelu.fused na1d.direct \
        softmax.naive layernorm.fused softmax.flash,gelu.fused no.such
    option 95 seq 16 8,16 5 1 7..28*2 abc
    option 60 head-dim 4 8 4,8 1 17 33 ''
    option 30 heads 1 2 1,2 0
    option 50 threads 1 2 1,2 3 all x
    option 30 level best best all v2 v9
    option 40 pass forward backward forward,backward up
    option 40 bind close spread none nowhere
    option 20 ci 5% 20% 2% 10% 50% x
    option 20 shard 1/2 2/2 1/1 3/3 7/9 3/2
    option 20 max-memory 1G 10M 1K 100% 5Q
    option 20 check 0 1e6 1e3 1e9 x
    option 20 plain all one none only fallback most
    option 10 causal 0 1 1 maybe
    option 10 dtype f32 f16 f32,bf16 f8
    option 10 window 3 7 300 -3
    chance 30 && words+=(--dry-run)
    chance 10 && words+=(--retry)
    option 100 processes 1 0
    words+=(--time=0.01 --timeout=20)
}

draw_environment() {
    settings=()
    chance 20 && settings+=(-u HOME)
    chance 10 && settings+=(-u PATH)
    variable 25 OMP_NUM_THREADS 1 2 99999 0 abc '' 2,1
    variable 25 OMP_PLACES cores threads sockets '{0}' '{9999}' nonsense
    variable 25 OMP_PROC_BIND close spread true false nonsense
    variable 15 OMP_DYNAMIC true false x
    variable 15 OMP_THREAD_LIMIT 1 2 0 99
    variable 15 OMP_STACKSIZE 64k 1M x 1
    variable 15 OMP_WAIT_POLICY active passive x
    variable 15 OMP_SCHEDULE static dynamic,1 guided x
    variable 10 OMP_MAX_ACTIVE_LEVELS 0 1 5
    variable 10 OMP_CANCELLATION true x
    variable 10 GOMP_CPU_AFFINITY 0 0-1 999 x
    variable 10 GOMP_SPINCOUNT 0 infinity x
    variable 15 OPENBLAS_NUM_THREADS 1 2 abc
    variable 20 TMPDIR /nonexistent "$work" '' "$work/file"
    variable 10 HOME /nonexistent "$work/file" ''
    variable 20 LC_ALL C de_DE.UTF-8 nonsense ''
    variable 10 TERM dumb '' nonsense
    variable 10 COLUMNS 1 0 x
    variable 10 NO_COLOR 1 ''
    variable 10 PATH /nonexistent ''
}

draw_place() {
    limits=() streams=
    limit 12 -n 64 256 1024 20
    limit 12 -s 512 8192 256
    limit 12 -f 1 100 10000
    limit 8 -v 4000000 16000000
    limit 8 -c 0 unlimited
    pick '' '' '' '' '' '<&-' '>&-' '2>&-' '<&- >&- 2>&-' '>/dev/full'
    streams=$picked
    pick run run run "new$1" "new$1" "deep/er$1" "white space $1" file file/below \
        /proc/no
    words+=("--out=$picked")
    out=$picked
}

# Lines that libraries or the shell write, not this program.
own_lines() {
    grep -vE '^$|libgomp:|OPENBLAS|OpenBLAS|setlocale|OMP_|^[ ]+\[host\]|^ *(_OPENMP|GOMP_)|DISPLAY' err
}

judge() { # draw status
    local what="draw $1 (SEED=${SEED:-1}): env ${settings[*]} ulimit ${limits[*]} sweep ${words[*]} $streams: exit code $2"
    own_lines >told 2>/dev/null
    case $2 in
    0 | 2 | 3 | 4) ;;
    *) false ;;
    esac
    check "$what" $?
    if { [ "$2" = 2 ] || [ "$2" = 3 ]; } && [[ $streams != *2\>\&-* ]]; then
        [ "$(grep -c '^attnbench' told)" = 1 ]
        check "$what: not told in one line" $?
    fi
    # a file that was cut by a limit of its size is repaired by the next sweep
    if [ -s "$out/journal.jsonl" ]; then
        "$program" table "$out" >table 2>told </dev/null
        rc=$?; check "$what: the journal cannot be read: $(tail -1 told)" "$rc"
        ! tail -n +1 "$out/journal.jsonl" | grep -qavE '^\{.*\}$'
        check "$what: a line of the journal is no row" $?
    fi
    codes[$2]=$((${codes[$2]:-0} + 1))
}

codes=()
for ((i = 0; i < draws; i++)); do
    draw_options
    draw_environment
    draw_place $i
    printf -v command ' %q' "$program" sweep "${words[@]}"
    printf -v before ' %q' "${settings[@]}"
    [ ${#settings[@]} -gt 0 ] || before=
    timeout=$(command -v timeout)
    env=$(command -v env)
    : >err
    (
        for l in "${limits[@]}"; do ulimit $l 2>/dev/null; done
        exec </dev/null >outs 2>err
        eval "exec $timeout --kill-after=5 120 $env$before$command $streams"
    ) 2>/dev/null
    judge $i $?
done
for code in 0 2 3; do
    [ "${codes[$code]:-0}" -gt 0 ]
    check "no draw ended with exit code $code: they are not random enough" $?
done
for code in "${!codes[@]}"; do echo "exit code $code: ${codes[$code]} draws"; done
finish
