#!/bin/bash
# figures.sh PROGRAM - figures do not depend on the user's settings of gnuplot, on a
# locale or on /tmp; what gnuplot says is told.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-figures.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
log=$work/err
needs gnuplot figures || finish
"$program" sweep --kernel softmax.naive --seq 32,64 --head-dim 8 --processes 1 \
    --time 0.02 --check 0 --out run >out 2>err
check "a small run" $?

draws() { # what COMMAND...
    local what=$1
    shift
    rm -rf run/figures
    "$@" "$program" plot run scaling-time --format svg >out 2>err
    check "figures with $what: exit code $?" $?
    cmp -s run/figures/scaling-time.svg plain.svg
    check "figures with $what are as without" $?
}
"$program" plot run scaling-time --format svg >out 2>err && cp run/figures/scaling-time.svg plain.svg
check "a figure" $?
mkdir home
echo 'set title "of the user"; error here' | tee home/.gnuplot >home/gnuplotrc
draws "GNUTERM=qt" env GNUTERM=qt
draws "an empty GNUTERM" env GNUTERM=
draws "~/.gnuplot" env HOME="$work/home" XDG_CONFIG_HOME="$work/home"
draws "GNUPLOT_LIB" env GNUPLOT_LIB="$work/none"
draws "another locale" env LC_ALL=de_DE.UTF-8 LC_NUMERIC=de_DE LANGUAGE=de
draws "no locale" env -u LC_ALL LANG=nothing
draws "no TMPDIR" env TMPDIR="$work/none"
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    draws "a read-only /tmp" unshare --mount sh -ec '
        mount --bind /tmp /tmp && mount --bind "$0" "$0" && mount -o remount,bind,ro /tmp
        cd "$0"
        ! touch /tmp/none 2>/dev/null && exec "$@"' "$work"
fi

# What a gnuplot says before it fails, and what is told of it.
mkdir bin
fails() { # MESSAGES PATTERN
    printf '#!/bin/sh\ncat >/dev/null\nprintf "%s" >&2\nexit 1\n' "$1" >bin/gnuplot
    chmod +x bin/gnuplot
    PATH=$work/bin:$PATH "$program" plot run scaling-time --format svg >out 2>err
    [ $? != 0 ]
    check "a gnuplot that fails" $?
    grep -qE -- "$2" err
    check "its message: $2" $?
}
fails 'iconv failed to convert degree sign\n\n         line 7: undefined variable: x\n' \
    'gnuplot failed: line 7: undefined variable: x'
fails 'warning: iconv failed\ngnuplot> plot x\n         ^\nunknown function\n' \
    'gnuplot failed: unknown function'
fails 'gnuplot: error while loading shared libraries: libx.so\n' 'shared libraries: libx.so'
fails 'Warning: slow font initialization\n' 'slow font'
finish
