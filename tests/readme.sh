#!/bin/bash
# tests/readme.sh PROGRAM - README.md says what is there: its table of mechanisms is
# the program's, its commands exist, its pictures are in the repository.
program=$1 passed=0 failed=0

check() { # what status
    if [ "$2" = 0 ]; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
}

diff <("$program" list --markdown) \
    <(sed -n '/^<!-- mechanisms/,/^<!-- end/p' README.md | sed '1d;$d')
check "the table of mechanisms is old: run 'make readme'" $?

for command in $(grep -oE '^    attnbench( --plugin [^ ]+)? [a-z]+' README.md |
                 awk '{ print $NF }' | sort -u); do
    "$program" "$command" --help >/dev/null
    check "README.md shows 'attnbench $command'" $?
done

for link in $(grep -oE '\]\([^)]+\)' README.md | tr -d ']()'); do
    test -e "$link"
    check "README.md shows $link" $?
done

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
