#!/bin/bash
# tests/readme.sh PROGRAM - README.md says what is there: its table of mechanisms is
# the program's, its commands exist, its pictures are in the repository.
. "$(dirname "$0")/check.sh"
program=$1

diff <("$program" list --markdown) \
    <(sed -n '/^<!-- mechanisms/,/^<!-- end/p' README.md | sed '1d;$d')
check "the table of mechanisms is old: run 'make readme'" $?

# results/README.md says of the journal what the program says: its tables of keys.
diff <("$program" journal --document results/README.md) results/README.md
check "the tables of keys in results/README.md are old: run 'make readme'" $?

for command in $(grep -oE '^    attnbench( --plugin [^ ]+)? [a-z]+' README.md |
                 awk '{ print $NF }' | sort -u); do
    "$program" "$command" --help >/dev/null
    check "README.md shows 'attnbench $command'" $?
done

for link in $(grep -oE '\]\([^)]+\)' README.md | tr -d ']()'); do
    test -e "$link"
    check "README.md shows $link" $?
done

finish
