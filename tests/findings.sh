#!/bin/bash
# tests/findings.sh PROGRAM [quick] - `attnbench findings`: each verdict from a
# small ledger, ledgers with mistakes, models that are not there.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

log=err
# findings OPTION...: status, out, err
findings() {
    "$program" findings --claims claims.json --out found "$@" >out 2>err </dev/null
    status=$?
}
# claim ID RULES: one more claim, of quantities that all claims have.
claim() {
    printf '%s{"id": "%s", "title": "Title of %s", "paper": "hassani2023nat",
        "section": "section 1", "says": "a & b_c.", "experiment": "none",
        "quantities": [
          {"name": "exact", "text": "moved", "run": "na", "path": "shift_equivariance.interior"},
          {"name": "first", "text": "one layer", "run": "na", "path": "receptive_field.mean.0"},
          {"name": "second", "text": "two", "run": "na", "path": "receptive_field.mean.1"},
          {"name": "growth", "text": "growth", "ratio": ["second", "first"]},
          {"name": "faster", "text": "turns", "run": "sweep", "rounds": ["[kernel=softmax.naive]", "[kernel=softmax.flash][problem.head_dim=16]"]},
          {"name": "loss", "text": "loss", "run": ["zero", "one"], "path": "score.loss"},
          {"name": "same", "text": "loss twice", "run": "zero", "path": ["score.loss", "score.loss"], "reduce": "mean"}],
        "rules": [%s],
        "figure": {"x": "x", "y": "y", "labels": ["a"], "series": [{"label": "s", "of": "loss"}]},
        "pictures": [{"run": "maps", "file": "metrics.json", "text": "a file"}]}' "$comma" "$1" "$1" "$2"
    comma=,
}
ledger() {
    comma=
    printf '{"version": 1, "runs": [
      {"name": "sweep", "command": ["sweep", "--kernel", "softmax.naive,softmax.flash", "--seq", "64", "--head-dim", "16", "--time", "0.01", "--processes", "3"]},
      {"name": "na", "command": ["maps", "na2d", "--grid", "8x8", "--window", "3", "--format", "none"]},
      {"name": "zero", "command": ["train", "--data", "leaves", "--dim", "16", "--heads", "2", "--depth", "1", "--mlp", "16", "--steps", "0", "--items", "10"], "ships": "models/zero.safetensors"},
      {"name": "one", "command": ["train", "--data", "leaves", "--dim", "16", "--heads", "2", "--depth", "1", "--mlp", "16", "--steps", "0", "--items", "10", "--seed", "1"], "ships": "models/one.safetensors"},
      {"name": "maps", "command": ["maps", "@zero", "--input", "leaves", "--count", "1", "--format", "none"]}%s],
      "claims": [%s]}' "$2" "$1" >claims.json
}
rule() { # CONDITION KEY
    printf '{"if": "%s", "text": "yes", "else": "no: %s", "key": %s}' "$1" "$1" "$2"
}
verdict() { # ID WORDS
    grep -q "^$2 *$1 " out
    check "$1: not '$2'" $?
}

claims=$(claim stands "$(rule 'exact <= 1e-12' true), $(rule 'growth > 1' true), $(rule 'loss.lo > 0' false)"
    comma=,
    claim differs "$(rule 'exact <= 1e-12' true), $(rule 'second < first' false)"
    claim wide "$(rule 'loss >= 1 * same' true)"
    claim other "$(rule 'exact <= 1e-12' true), $(rule 'loss > 1' false)"
    claim fails "$(rule 'second < first' true), $(rule 'exact < 1' false)")

ledger "$claims"
findings --list
[ "$status" = 0 ] && [ "$(wc -l <out)" = 5 ] && [ ! -e found ]
check "--list: $status" $?

findings
[ "$status" = 4 ] && grep -q 'needs models/zero.safetensors' err
check "models that do not ship: $status" $?
grep -q 'not known: .*needs models/zero.safetensors\|not known: .*zero' found/findings.md
check "the reason is not in findings.md" $?

findings --retrain
[ "$status" = 0 ]
check "--retrain: $status" $?
verdict stands reproduced
verdict differs differs
verdict wide unclear
verdict other unclear
grep -q '^reproduced .*moved.*intervals too wide\|Reproduced: ' found/findings.md
check "a claim is reproduced whose intervals are too wide to tell" $((! $?))
grep -q 'load was [0-9.]* before' found/findings.md
check "the load of the machine is not told" $?
[ "$(wc -l <out)" = 5 ] && grep -q '^not reproduced .*\[.* < ' out
check "verdicts do not tell their numbers" $?
verdict fails 'not reproduced'
[ -s models/zero.safetensors ] && [ -s models/one.json ]
check "--retrain writes no models" $?
grep -q '^\*\*Not reproduced: no: second < first.\*\*  Measured: 20.2 < 9' found/findings.md
check "findings.md does not say how a claim fails" $?
grep -q 'attnbench maps models/zero.safetensors\|attnbench train .*--out models/zero.safetensors' found/findings.md
check "findings.md does not say how its numbers were obtained" $?
grep -q 'a \\& b\\_c\|Title of stands' found/findings.tex
check "findings.tex" $?
if needs python3 "the numbers of findings.json"; then
python3 - <<'P' 2>err
import glob, json, math, statistics
f = json.load(open('found/findings.json'))
assert [c['verdict'] for c in f['claims']] == ['reproduced', 'differs', 'unclear', 'unclear', 'not reproduced'], f
assert len(f['load']) == 2 and isinstance(f['warnings'], list), f
assert f['claims'][0]['quantities'][0]['exact'] is True
q = {x['name']: x for x in f['claims'][0]['quantities']}
a, b = (json.load(open(f'models/{n}.json'))['score']['loss'] for n in ('zero', 'one'))
assert abs(q['loss']['value'][0] - (a + b) / 2) < 1e-12
half = 12.706 * abs(a - b) / 2  # Student, one degree of freedom
assert abs(q['loss']['hi'][0] - q['loss']['value'][0] - half) < 1e-3 * half, q
assert q['loss']['seeds'] == 2 and abs(q['same']['value'][0] - a) < 1e-12
rows = [json.loads(x) for x in open(glob.glob('found/runs-*/sweep/journal.jsonl')[0])]
def samples(kernel):  # [(ns, probe, touched)] of each process
    row = next(r for r in rows if r['kind'] == 'case' and r['kernel'] == kernel)
    return [[(ns, (s.get('probe') or [None] * len(s['ns']))[i], i in s['touched'])
             for i, ns in enumerate(s['ns'])] for s in row['time_ns']['samples']]
def kept(of, *rules, least):  # by the first rule that leaves enough
    for rule in rules:
        left = [[x for x in p if rule(*x)] for p in of]
        if sum(map(len, left)) >= least: break
    return left
quiet = lambda ns, probe, touched: not touched
fast = lambda ns, probe, touched: not touched and not (probe is not None and probe < 0.9)
known = lambda rule: lambda *x: rule(*x) and x[1] is not None
def of_core(of): return kept(of, known(fast), known(quiet), least=6)
def medians(of, core):
    if core: return [statistics.median(ns * probe for ns, probe, _ in s) if s else None for s in of_core(of)]
    return [statistics.median(x[0] for x in s) if s else None
            for s in kept(of, fast, quiet, lambda *x: True, least=3)]
def passes(kernel):
    row = next(r for r in rows if r['kind'] == 'case' and r['kernel'] == kernel)
    return [s['pass'] for s in row['time_ns']['samples']]
both = 'softmax.naive', 'softmax.flash'
sides = [samples(k) for k in both]
core = all(sum(map(len, of_core(x))) >= 3 for x in sides)
rounds = [dict(zip(passes(k), medians(x, core))) for k, x in zip(both, sides)]
common = [p for p in rounds[0] if p in rounds[1]]
logs = [math.log(rounds[0][p] / rounds[1][p]) for p in common if rounds[0][p] and rounds[1][p]]
assert len(common) >= 3, rounds
lost = len(common) - len(logs)
assert not lost or f'{lost} of {len(common)} rounds' in q['faster']['note'], q
n = len(logs)
assert abs(math.log(q['faster']['value'][0]) - sum(logs) / n) < 1e-9
if n == 3:
    half = 4.303 * statistics.stdev(logs) / math.sqrt(3)  # two degrees of freedom
    assert abs(math.log(q['faster']['hi'][0]) - sum(logs) / 3 - half) < 1e-3 * half
assert abs(q['growth']['value'][0] - q['second']['value'][0] / q['first']['value'][0]) < 1e-12
P
check "findings.json" $?
fi
cmp -s found/figures/stands-1.png found/runs-*/maps/metrics.json
check "the picture of a run is not beside the report" $?
if command -v gnuplot >/dev/null; then
    [ -s found/figures/stands.svg ]
    check "no figure" $?
fi
stamp=$(stat -c %Y.%s models/zero.safetensors)
findings --only fails
[ "$status" = 0 ] && [ "$(wc -l <out)" = 1 ] && [ "$stamp" = "$(stat -c %Y.%s models/zero.safetensors)" ]
check "--only, from models that are there: $status" $?

# ---- what was measured for another question -------------------------------------
sed -i 's/"--time", "0.01"/"--time", "0.02"/' claims.json
findings --only fails
grep -q '! sweep: .*another command' err && grep -q 'not known: .*another command' found/findings.md
check "rows of another command are taken" $?
ledger "$claims"
sed -i 's/"--seed", "1"/"--seed", "2"/' claims.json
findings --only stands
[ "$status" = 4 ] && grep -q '! one: .*record of another command' err
check "the record of another training is taken: $status" $?
ledger "$claims"

# bad WHAT PATTERN: refused with one line, before anything is run.
bad() {
    rm -rf found
    findings
    [ "$status" = 2 ] && [ "$(wc -l <err)" = 1 ] && grep -q -- "$2" err && [ ! -e found ]
    check "$1: $status" $?
}
comma=
ledger "$(claim a "$(rule 'nothing < 1' true)")"
bad "rule with an unknown name" 'rule "nothing < 1" is not'
ledger "$(claim a "$(rule 'exact ~ 1' true)")"
bad "rule with an unknown comparison" 'rule "exact ~ 1" is not'
ledger "$(claim a "$(rule 'exact < 1' true)" | sed 's/"run": "na"/"run": "nobody"/')"
bad "quantity of an unknown run" 'no run "nobody"'
ledger "$(claim a "$(rule 'exact < 1' true)")" ', {"name": "late", "command": ["maps", "@nobody"]}'
bad "run of an unknown run" 'no run @nobody'
ledger "$(claim a "$(rule 'loss.lo <= 1' true)")"
bad "rule that holds for want of evidence" 'leave .lo and .hi out'
ledger "$(claim a "$(rule 'exact < 1' true)" | sed 's/"reduce"/"reduse"/')"
bad "key that is not known" 'did you mean "reduce"'
ledger "$(claim a "$(rule 'exact < 1' true)" | sed 's/"of": "loss"/"of": "los"/')"
bad "figure of an unknown quantity" 'no quantity of the claim'
ledger "$(claim a '')"
bad "claim without rules" 'has no rules'
echo '{"runs": [' >claims.json
bad "not JSON" claims.json
rm claims.json
bad "no ledger" claims.json
"$program" findings --only aff --out found >out 2>err
status=$?
[ $status = 2 ] && grep -q "did you mean 'aft'" err
check "--only of an unknown claim: $status" $?

finish
