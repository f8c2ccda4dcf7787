#!/bin/bash
# tests/peers.sh PROGRAM - rows that harness/peers/peers.py writes are read by table
# and compare.  A loop of Python stands in for torch.
. "$(dirname "$0")/check.sh"
program=$1
needs python3 peers.py || finish
dir=$(mktemp -d) || exit 3
trap 'rm -rf "$dir"' EXIT

python3 harness/peers/peers.py --program "$program" --fake --quick \
    --time 0.02 --out "$dir" > "$dir/summary.md"
check "peers.py --fake" $?
grep -q '^| softmax.flash/.* | fake | [0-9.]* | [0-9.]* |' "$dir/summary.md"
check "a line of the summary" $?
"$program" table "$dir/both" --format csv > "$dir/both.csv"
check "table reads the rows" $?
grep -q '^softmax.flash,' "$dir/both.csv" && grep -q '^fake,' "$dir/both.csv"
check "table has both kernels" $?
"$program" compare "$dir/ours" "$dir/peers" | grep -q '^softmax.flash/'
check "compare has the pair" $?
python3 harness/peers/table.py "$dir/ours" "$dir" | \
    tee "$dir/table.md" |
    grep -qE '^\| softmax.flash \| n=[^|]* \| [0-9]+ \| [^|]* \| fake \| ([0-9.]+ \([0-9.]+ to [0-9.]+\)|[0-9.]+ \(one process\)|unreliable) \|'
check "table.py has the pair, with the interval of its ratio or none" $?
python3 harness/peers/peers.py --fake --only nothing 2>"$dir/error"
[ $? = 2 ] && grep -q 'matches nothing' "$dir/error"
check "an unknown peer is named" $?
# The rule of harness/clean.h: 3 clean samples of all rounds, or else all samples.
(cd harness/peers && PYTHONDONTWRITEBYTECODE=1 python3 - <<'P') 2>"$dir/error"
from peers import clean
def of(*rounds):
    return clean([{"ns": ns, "touched": touched} for ns, touched in rounds])
assert of(([4, 5], [1]), ([9, 8], [0, 1])) == (True, [[4, 5], [9, 8]])
assert of(([4, 5], []), ([9, 8], [0, 1]), ([6, 7], [1])) == (False, [[4, 5], [6]])
P
check "which samples count" $?

finish
