#!/bin/bash
# golden.sh PROGRAM - every case file, the reference and every kernel at every
# level.  A case file that nothing answers for is a failure.
program=$1
out=$("$program" verify tests/golden/*.safetensors)
status=$?
files=$(ls tests/golden/*.safetensors | wc -l)
told=$(printf '%s\n' "$out" | awk '/ (PASS|FAIL) /{ print $1 }' | sort -u | wc -l)
printf '%s\n' "$out" | grep -vE ' PASS |passed, '
closing=$(printf '%s\n' "$out" | tail -1)
if [ "$told" != "$files" ]; then
    echo "FAIL only $told of $files case files have a verdict"
    status=1
fi
echo "$closing"
exit $status
