#!/bin/bash
# journal.sh PROGRAM - a row answers exactly the question that is asked: what is
# measured again and what is not, which rows tables and comparisons take, what a
# gate and a merge need to pass, and what is done to files that are not ours.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
root=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-journal.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
log=$work/err

few=(--head-dim 8 --processes 1 --time 0.02 --check 0)
one=(--kernel softmax.flash --seq 64 "${few[@]}")
attnbench() { "$program" "$@" >out 2>err </dev/null; }
sweep() { attnbench sweep "${one[@]}" "$@"; }
# fresh DIR - begins with an env row, so that the ceilings are not measured again.
fresh() { mkdir -p "$1" && head -1 r/journal.jsonl >"$1/journal.jsonl"; }
rows() { grep -c "\"kind\":\"$2\"" "$1/journal.jsonl"; }

# measures WHAT ROWS OPTION... - how many case rows DIR has after that sweep.
measures() {
    local what=$1 want=$2
    shift 2
    sweep --out r "$@"
    [ "$(rows r case)" = "$want" ]
    rc=$?; check "$what: $(rows r case) rows, not $want" "$rc"
}

# ---- settings ---------------------------------------------------------------------
sweep --out r
check "a sweep" $?
measures "the same again" 1
measures "--bind none" 2 --bind none
grep -q 'other settings (softmax.flash/.*: bind "close", asked for "none")' err
check "what differs is told" $?
measures "--processes 2" 3 --processes 2
measures "more time" 4 --time 0.03
measures "another --ci" 5 --ci 1%
measures "with its check" 6 --check 1e7
measures "--multiplex" 7 --multiplex
measures "a variable of OpenMP" 7
OMP_WAIT_POLICY=active measures "a variable of OpenMP" 8
OMP_NUM_THREADS=2 measures "a number of threads that the program sets itself" 8
if [ "$(nproc)" -gt 1 ]; then
    before=$(taskset -cp $$ | sed 's/.*: //')
    taskset -cp "${before%%[-,]*}" $$ >/dev/null
    measures "fewer processors" 9
    taskset -cp "$before" $$ >/dev/null
    measures "all of them again" 9
fi
count=$(rows r case)
measures "a time limit that nothing met" "$count" --timeout 60
measures "a limit of memory that nothing met" "$count" --max-memory 1G
for option in '--bind none' '--processes 2' '--ci 1%' '--check 1e7' ''; do
    measures "asked before: $option" "$count" $option
done
fresh t
attnbench sweep --kernel softmax.naive --seq 16384 "${few[@]}" --head-dim 128 --out t --timeout 0.1
attnbench sweep --kernel softmax.naive --seq 16384 "${few[@]}" --head-dim 128 --out t --timeout 0.1
[ "$(rows t case)" = 1 ] && grep -q '"status":"timeout"' t/journal.jsonl
check "what timed out stays" $?
attnbench sweep --kernel softmax.naive --seq 16384 "${few[@]}" --head-dim 128 --out t --timeout 0.2
[ "$(rows t case)" = 2 ]
check "with more time it is tried again" $?
attnbench sweep "${one[@]}" --out t --max-memory 1K
attnbench sweep "${one[@]}" --out t --max-memory 1K
n=$(rows t case)
attnbench sweep "${one[@]}" --out t --max-memory 1G
[ "$n" = 3 ] && [ "$(rows t case)" = 4 ]
check "with more memory, too" $?
fresh aa
sweep --aa --pairs 1 --out aa
sweep --aa --pairs 1 --bind none --out aa
[ "$(rows aa aa)" = 2 ]
check "pairs of A/A, too" $?
# shares of a block's seconds depend on how many cases there are: no question
cat >shared.json <<'END'
{ "version": 1, "brief": "shared", "processes": 1, "check": 0,
  "blocks": [ { "kernels": [ "softmax.flash", "linear.fused" ],
                "axes": { "seq": "16,32", "head-dim": 8 }, "seconds": 0.4 } ] }
END
fresh s
attnbench sweep --suite ./shared.json --kernel linear.fused --out s
attnbench sweep --suite ./shared.json --out s
[ "$(rows s case)" = 4 ]
rc=$?; check "other cases of a block change no question: $(rows s case) rows" "$rc"

# ---- machine ----------------------------------------------------------------------
mkdir empty
PATH=$work/empty "$program" sweep "${one[@]}" --out r >out 2>err </dev/null
[ "$(rows r case)" = "$count" ]
check "without any tool in PATH nothing is measured again" $?
[ "$(grep -o '"machine_id":"[^"]*"' r/journal.jsonl | sort -u | wc -l)" = 1 ]
check "all of these rows are of one machine" $?
[ "$(rows r env)" -ge 7 ] &&
    ! grep '"kind":"env"' r/journal.jsonl | grep -vq '"load":\[.*"roofline":{.*"when"'
check "each run that measured has an env row, with its load and the ceilings' time" $?
! grep '"kind":"case"' r/journal.jsonl | grep -vq '"noise":{[^}]*"load":[0-9]'
check "each row has the load at its time" $?

# ---- code -------------------------------------------------------------------------
attnbench sweep --kernel softmax.flash,linear.fused --seq 64 "${few[@]}" --out c
check "two kernels" $?
hash=$(grep -o '"binary":"[^"]*"' c/journal.jsonl | head -1)
# the same rows, measured by an earlier build: of it, only linear was other code
mkdir old
sed -E "s/$hash/\"binary\":\"0123456789abcdef\"/" c/journal.jsonl |
    sed -E 's/("linear\.fused\/v?[a-z0-9]+":)"[^"]*"/\1"00000000deadbeef"/' |
    sed -E '/"kernel":"linear.fused"/s/"code":"[^"]*"/"code":"00000000deadbeef"/' \
        >old/journal.jsonl
cp -r old was
attnbench table old
[ $? = 0 ] && grep -q linear.fused out && ! grep -q 'left out' err
check "an old journal alone is shown whole" $?
attnbench sweep --kernel softmax.flash,linear.fused --seq 64 "${few[@]}" --out old
[ "$(rows old case)" = 3 ] && grep -q '1 of 2 cases are in' out &&
    grep -q '1 rows of .* are of other code' err
check "after a rebuild only the kernel whose code changed is measured" $?
attnbench table old --format csv
[ $? = 0 ] && [ "$(grep -c '^softmax.flash,' out)" = 1 ] &&
    [ "$(grep -c '^linear.fused,' out)" = 1 ] &&
    grep -q '1 case of .* other code is left out (of linear.fused); --env all' err
check "the table has both, and tells what it leaves out" $?
attnbench table old --format csv --env all
[ "$(grep -c '^linear.fused,' out)" = 2 ]
check "--env all shows the older row" $?
attnbench table old --format csv --env "$(grep -o '"id":"[^"]*"' old/journal.jsonl | head -1 | cut -d'"' -f4)"
[ "$(grep -c '^softmax.flash,' out)" = 1 ] && [ "$(grep -c '^linear.fused,' out)" = 1 ]
check "--env ID shows what that program measured" $?
cp -r was older
sweep --seq 32 --out older
attnbench table older --kernel linear.fused
[ $? = 2 ] && grep -q -- '--env all' err
check "a kernel that is there under other code only: the option is told" $?
attnbench compare older c
grep -q '1 case only in B (A has 1 of them of other code.*--env-a all' out
check "compare: what A holds under other code is not only in B" $?
attnbench compare older c --env-a all
grep -q '^linear.fused' out
check "compare --env-a all compares it" $?
[ "$(grep -o '"softmax.flash/[^,]*' c/journal.jsonl | sort -u | wc -l)" -ge 1 ]
check "an env row lists the code of every kernel" $?

# ---- lost processes ---------------------------------------------------------------
# To a machine whose probes ran ten times as fast once, every core is slow now.
again() { grep -oE '^[0-9]+ more process' out | grep -oE '^[0-9]+'; }
processes() { grep '"kind":"case"' "$1/journal.jsonl" | grep -oE '"processes":[0-9]+,"passes":[0-9]+,"units"' | grep -oE '^"processes":[0-9]+'; }
mkdir slow
head -1 r/journal.jsonl |
    sed -E 's/"probe":\{"core":([0-9.e+]+)/"probe":{"core":99e\1/g; s/99e([0-9]+)/\10/g' \
        >slow/journal.jsonl
sweep --out slow --processes 2
[ $? = 0 ] && [ "$(again)" -ge 1 ]
check "processes without a clean sample are measured again" $?
[ "$(processes slow)" = "\"processes\":$((2 + $(again)))" ]
rc=$?; check "and count, all of them: $(processes slow)" "$rc"
mkdir slow_one && head -1 slow/journal.jsonl >slow_one/journal.jsonl
sweep --out slow_one --processes 1
[ $? = 0 ] && [ -z "$(again)" ]
check "who asks for one process gets one" $?

# ---- gates ------------------------------------------------------------------------
gate() { # CODE REGEX ARGUMENT...
    local code=$1 regex=$2 status
    shift 2
    attnbench compare --fail-on slower "$@"
    status=$?
    [ $status = "$code" ] && { [ -z "$regex" ] || grep -qE "$regex" err; }
    check "compare --fail-on slower $*: exit code $status, or not /$regex/" $?
}
more=(--processes 2 --time 0.3 --ci 1%)
for dir in one two other single; do fresh $dir; done
for seq in 64 96; do sweep --seq $seq "${more[@]}" --out two; done
sweep "${more[@]}" --out one
sweep --seq 200 --out other
sweep --time 0.3 --ci 1% --out single
# Times that are invented: what a busy machine measures decides no test, nor does a
# neighbour who leaves one of the processes without a clean sample.
sed -i -E -e 's/"unreliable":true/"unreliable":false/' -e 's/"probe":\[[^]]*\],//g' \
    -e 's/"ns":\[[^]]*\],"touched":\[[^]]*\]/"ns":[1000,1010,990,1000,1005],"touched":[]/g' \
    {one,two,single}/journal.jsonl
! grep '"kind":"case"' {one,two,single}/journal.jsonl | grep -qv '"ns":\[1000,'
check "the times are invented" $?
gate 0 '' two two --min-effect 100%
gate 1 '1 missing in B' two one --min-effect 100%
gate 1 'of one process only' single single
gate 1 'no measured case in common' one other
mkdir doubt
sed -E '/"kind":"case"/s/"unreliable":false/"unreliable":true/' one/journal.jsonl >doubt/journal.jsonl
gate 1 '1 unreliable' one doubt --min-effect 100%
mkdir broken
sed -E '/"kind":"case"/s/"status":"ok"/"status":"wrong"/' one/journal.jsonl >broken/journal.jsonl
gate 1 '1 broken' one broken
gate 1 'maybe slower' one one --min-effect 0.001%

# ---- parts ------------------------------------------------------------------------
sweep --shard 2/2 --out part
[ $? = 0 ] && grep -q '^0 cases' out
check "a part without a case is done" $?
sweep --aa --shard 2/2 --out part
check "one of A/A, too" $?
attnbench cache "${one[@]:0:6}" --level best --shard 2/2 --out part
check "and one of simulated caches" $?
for part in 1 2 4; do fresh array/part-$part; done
for part in 1 2 4; do
    attnbench sweep "${one[@]}" --seq 16,24,32,48 --shard $part/4 --out array/part-$part
done
mkdir array/part-3
attnbench merge joined array/part-*
[ $? = 1 ] && [ "$(rows joined case)" = 3 ] && grep -q 'part-3/journal.jsonl' err &&
    grep -q 'part 3 of 4 is missing' err
check "merge: a part that is empty is named, the others are joined" $?
rmdir array/part-3
"$root/harness/slurm/merge.sbatch" "$program" array >out 2>err
[ $? = 1 ] && [ "$(rows array case)" = 3 ] && grep -q 'part 3 of 4 is missing' err
check "the merge of a job array: a part that is not there" $?
grep -v '"kind":"end"' array/part-2/journal.jsonl >x && cp x array/part-2/journal.jsonl
attnbench merge joined2 array/part-1 array/part-2
[ $? = 1 ] && grep -q 'part 2 of 4 did not come to its end' err &&
    grep -q 'part 4 of 4 is missing' err
check "merge: a part that was interrupted" $?
for part in 2 3; do
    attnbench sweep "${one[@]}" --seq 16,24,32,48 --shard $part/4 --out array/part-$part
done
"$root/harness/slurm/merge.sbatch" "$program" array >out 2>err
[ $? = 0 ] && [ "$(rows array case)" = 4 ]
check "with all parts there it passes" $?
"$root/harness/slurm/merge.sbatch" "$program" "$work/empty" >out 2>err
[ $? = 1 ] && grep -q 'no part' err
check "the merge of an array of which nothing began" $?
attnbench merge --prefer last joined joined array/part-{1,2,3,4}
check "merge into a folder that is one of the runs" $?
attnbench merge all array r
grep -q 'tables take the last row' err || [ "$(rows all case)" -gt 4 ]
check "merge tells cases that several runs measured" $?

# ---- files ------------------------------------------------------------------------
mkdir linked && mv joined/journal.jsonl real.jsonl && ln -s ../real.jsonl joined/journal.jsonl
attnbench merge --prefer last joined joined array/part-3
[ -L joined/journal.jsonl ] && [ "$(rows joined case)" = 4 ]
check "merge writes the file that a link names" $?
sweep --seq 40 --out joined
[ -L joined/journal.jsonl ] && grep -q 'n=40' real.jsonl
check "sweep, too" $?
ln -s new.csv link.csv
attnbench table c --format csv --out link.csv
[ -L link.csv ] && grep -q '^kernel,' new.csv
check "table, a link to nothing" $?
attnbench table c --format csv --out -
[ ! -e ./- ] && grep -q '^kernel,' out
check "--out - is the standard output of table" $?
attnbench sweep "${one[@]}" --out -
[ $? = 3 ] && [ ! -e ./- ] && grep -q 'standard output' err
check "and refused where a folder is meant" $?
attnbench train --data stripes --steps 100000 --out -
[ $? = 3 ] && [ ! -e ./-.checkpoint ] && grep -q 'standard output' err
check "and before a training, not after it" $?
mkdir foreign
for form in array pretty joined; do
    case $form in
    array) { printf '['; paste -sd, c/journal.jsonl | tr -d '\n'; printf ']'; } ;;
    pretty) sed 's/^{/{\n  /; s/}$/\n}/' c/journal.jsonl ;;
    joined) tr -d '\n' <c/journal.jsonl ;;
    esac >foreign/journal.jsonl
    sum=$(cksum foreign/journal.jsonl)
    sweep --out foreign
    [ $? = 3 ] && [ "$(cksum foreign/journal.jsonl)" = "$sum" ]
    check "a journal in another form ($form) is refused and stays" $?
done

# ---- streams ----------------------------------------------------------------------
(ulimit -n 10; "$program" sweep "${one[@]}" --out few >out 2>err </dev/null)
[ $? = 3 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'ulimit -n' err && [ ! -e few ]
check "few descriptors are one line" $?
fresh few
(ulimit -Sn 10; "$program" sweep "${one[@]}" --out few >out 2>err </dev/null)
[ $? = 0 ] && ! grep -qv '^{"kind":' few/journal.jsonl
check "or more, where more are allowed" $?
fresh closed
"$program" sweep "${one[@]}" --out closed <&- >&- 2>&-
[ "$(rows closed case)" = 1 ] && ! grep -qv '^{"kind":' closed/journal.jsonl
check "streams that are closed: rows alone are in the journal" $?
"$program" table c --out closed.md <&- >&- 2>&-
[ $? = 0 ] && grep -q softmax.flash closed.md
check "and tables in their file" $?
"$program" list >&- 2>err
[ $? != 0 ] && grep -q 'cannot write' err
check "results for a closed output are not lost without a word" $?

# ---- what a sweep would do ---------------------------------------------------------
attnbench sweep --suite paper --dry-run
[ $? = 0 ] && grep -qE '^[0-9]+ cases, [0-9]+ processes: about [0-9]+ h' out
check "the largest suite is listed, with the time that it takes" $?
attnbench sweep "${few[@]}" --dry-run --kernel softmax,masked,sparse_strided --seq 12544
[ $? = 0 ] && ! grep -q 'not counted' out && grep -q 'process.*about' out
check "large cases are counted" $?
finish
