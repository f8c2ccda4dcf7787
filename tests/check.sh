# tests/check.sh - what the shell tests share; they read it first.  $log, if set, is
# the file that tells why something failed.
passed=0 failed=0 skipped=0 log=

check() { # what status
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        return 0
    fi
    failed=$((failed + 1))
    echo "FAIL $1"
    if [ -n "$log" ] && [ -s "$log" ]; then tail -3 "$log" | sed 's/^/    | /'; fi
    return 1
}

# needs PROGRAM WHAT: false, and one check skipped by name, where it is not installed.
needs() {
    if command -v "$1" >/dev/null; then return 0; fi
    skipped=$((skipped + 1))
    echo "SKIP $2: there is no $1"
    return 1
}

# The closing line, which tests/run adds up.
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}
