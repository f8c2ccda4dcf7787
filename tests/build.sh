#!/bin/bash
# build.sh PROGRAM [quick] - what the Makefile promises packagers and authors of kernels,
# and that tests are counted whatever their library prints.
. "$(dirname "$0")/check.sh"
program=$(realpath "$1")
cd "$(dirname "$0")/.." || exit 1
top=$PWD
build=$(realpath --relative-to=. "${BUILD:-build/release}")
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench build.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
# As from a shell, not from the make that runs the tests.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL LEVELS FLAVOUR WERROR
log=$work/log

says() { # what, pattern of a line of the log
    grep -qE -- "$2" "$log"
    check "$1" $?
}

# ---- counts of tests ------------------------------------------------------------
mkdir -p "$work/b/tests"
cat >"$work/count.c" <<'END'
#include "test.h"
#include <stdlib.h>
static void right(void **state) { assert_int_equal(*(int *)*state, 7); }
static void wrong(void **state) { (void)state; assert_int_equal(1, 2); }
static void left_out(void **state) { (void)state; skip(); }
static void ends(void **state) { (void)state; if (getenv("ENDS")) exit(0); }
int main(int argc, char **argv)
{
    static int seven = 7;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(right, &seven), cmocka_unit_test(ends),
        cmocka_unit_test(wrong), cmocka_unit_test(left_out),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
END
${CC:-cc} -std=gnu17 -Itests "$work/count.c" tests/test.c -lcmocka -o "$work/b/tests/count" 2>"$log"
check "a program of tests compiles" $?
tests/run "$work/b" none count >"$log"
check "a section with a failure: status 0" $((!$?))
says "counts of a section" '^count +2 passed, 1 failed, 1 skipped '
says "the message of a failure" '1 != (0x)?2'
ENDS=1 tests/run "$work/b" none count >"$log"
says "a program that ends early is a failure" '^count +0 passed, 1 failed, 0 skipped '
"$work/b/tests/count" 'r*' >"$log" 2>&1
says "tests that a pattern leaves out are not counted" '^1 passed, 0 failed, 0 skipped$'

# ---- install --------------------------------------------------------------------
to="$work/root/opt/a b"
make -s install B="$build" PROGRAM="$program" DESTDIR="$work/root" PREFIX="/opt/a b" >"$log" 2>&1
check "make install into a folder with a space" $?
! grep -qE '^(gcc|clang|cc|link) ' "$log"
check "make install builds nothing" $?
cmp -s "$build/attnbench" "$to/bin/attnbench"
check "make install installs the program as it was built" $?
(cd / && "$to/bin/attnbench" list suites) >"$log" 2>&1
says "the installed program finds its suites" '^default '
flags=$(PKG_CONFIG_PATH="$to/share/pkgconfig" pkg-config --define-variable=x=y --cflags attnbench 2>"$log")
check "pkg-config knows attnbench" $?
eval "flags=($flags)"
[ "${flags[*]}" = "-I/opt/a b/include/attnbench" ]
check "pkg-config --cflags attnbench: ${flags[*]}" $?
for source in "$to/share/doc/attnbench/example.c" "$work/fast.c"; do
    printf '#include "att.h"\n#include "store.h"\n#include "tile.h"\nATT_KERNELS = { { 0 } };\n' >"$work/fast.c"
    ${CC:-cc} -O1 -fopenmp -shared -fPIC -I"$to/include/attnbench" "$source" -o "$work/mine.so" 2>"$log"
    check "${source##*/} compiles with the installed headers" $?
    (cd "$work" && "$to/bin/attnbench" --plugin mine.so list mechanisms) >"$log" 2>&1
    check "${source##*/} is loaded, without ./" $?
done
make -s uninstall B="$build" DESTDIR="$work/root" PREFIX="/opt/a b" >"$log" 2>&1 &&
    [ -z "$(find "$work/root" -type f)" ]
rc=$?; check "make uninstall leaves $(find "$work/root" -type f | wc -l) files" "$rc"

# ---- a small tree: revision, list of kernels, flags -----------------------------
tree=$work/outer/tree
mkdir -p "$tree/harness" "$tree/tests" "$tree/kernels/softmax"
cp Makefile "$tree"
cp tests/tests.mk "$tree/tests"
cp harness/revision harness/error.[ch] "$tree/harness"
cp kernels/*.[ch] "$tree/kernels"
cp kernels/softmax/*.c "$tree/kernels/softmax"
tree() { make -s -C "$tree" B=b "$@" >"$log" 2>&1; }

if needs git "the revision"; then
    keep() { git -C "$1" -c user.name=a -c user.email=a@b "${@:2}" >"$log" 2>&1; }
    keep "$work/outer" init -q
    keep "$work/outer" commit -q --allow-empty -m outer
    revision() { # what, pattern
        tree b/revision
        grep -qxE -- "$2" "$tree/b/revision"
        rc=$?; check "revision of $1: $(cat "$tree/b/revision")" "$rc"
    }
    revision "sources within another repository" unknown
    says "why it is unknown" '^note: .*unknown.*no git checkout'
    keep "$tree" init -q
    echo b/ >"$tree/.gitignore"
    keep "$tree" add -A && keep "$tree" commit -q -m tree
    own=$(git -C "$tree" rev-parse --short HEAD)
    revision "a checkout" "$own"
    GIT_DIR=$work/outer/.git revision "a checkout, from a hook of another" "$own"
    if [ "$(id -u)" = 0 ]; then
        chown -R 12345 "$tree"
        revision "another user's checkout" "$own"
        chown -R 0 "$tree"
    fi
    touch "$tree/kernels/new.c"
    revision "a checkout with a new source" "$own-dirty"
    rm "$tree/kernels/new.c"
    echo >>"$tree/kernels/plan.c"
    revision "a checkout with a change" "$own-dirty"
fi

tree b/registry.inc LEVELS=v3
grep -q 'K(att_kernels_softmax_flash_v3, ATT_V3)' "$tree/b/registry.inc"
check "kernels are listed" $?
stamp=$(stat -c %y "$tree/b/registry.inc")
tree b/registry.inc LEVELS=v3
[ "$stamp" = "$(stat -c %y "$tree/b/registry.inc")" ]
check "the same list is not written again" $?
mv "$tree/kernels/softmax/flash.c" "$tree/kernels/my-own.c"
tree b/registry.inc b/objects LEVELS=v3
! grep -q flash "$tree/b/registry.inc" "$tree/b/objects" &&
    grep -q 'K(att_kernels_my_own_v3, ATT_V3)' "$tree/b/registry.inc"
check "a file that was renamed, to one of kernels/ itself, is listed" $?
cp tests/plugin/example.c "$tree/kernels/softmax/mine.c"
tree b/kernels/softmax/mine.v3.o b/kernels/softmax/mine.plain.o LEVELS=v3
check "the example compiles in the tree as it is" $?

tree b/harness/error.o CFLAGS='-O0 -DTEXT="a b" -Wl,-x' LDFLAGS='-Wl,-z,now'
check "CFLAGS with quotes and commas" $?
grep -q -- '-O0 -DTEXT="a b" -Wl,-x .*-Wl,-z,now' "$tree/b/flags"
check "CFLAGS and LDFLAGS are recorded" $?
tree -n V=1 b/kernels/tile.v3.o LEVELS=v3 CPPFLAGS=-DONE CFLAGS='-march=native -O1' LDFLAGS=-DNOT
says "the level's own -march comes after CFLAGS" '-DONE -march=native -O1 .*-march=x86-64-v3 '
echo __x86_64__ | ${CC:-cc} -E -P -x c - | grep -qx 1 &&
    tree -n V=1 b/kernels/tile.base.o LEVELS=base CFLAGS=-march=native
! grep -q 'march=native' "$log" || grep -q -- '-march=native .*-march=x86-64 ' "$log"
check "base is not this processor" $?
tree b/flags CFLAGS='-O2 -ffast-math'
check "-ffast-math is taken" $((!$?))
says "why -ffast-math is refused" 'masks are infinities'
tree b/flags LEVELS='v3 v5'
says "a level that there is not" 'LEVELS="v3 v5"'
printf '#!/bin/sh\necho arm-none\n' >"$work/other-cc"
chmod +x "$work/other-cc"
tree -pn b/objects CC="'$work/other-cc'"
says "levels are those of the compiler's machine" '^LEVELS := base$'
make -s -f "$top/Makefile" -C / >"$log" 2>&1
says "make -f from elsewhere" "make -C $top"
tree -pn FORCE && ! grep -q '^\.NOTPARALLEL' "$log" && tree -pn -j4 FORCE clean
says "jobs that measure run one after the other" '^\.NOTPARALLEL'

# ---- a processor that no kernel is built for ------------------------------------
least=$("$program" list kernels | awk '{ print $2; exit }')
if [ "$least" = base ] || [ -z "${least#base*}" ]; then
    echo "SKIP an old processor: this program has level base"
    skipped=$((skipped + 1))
elif ldd "$program" 2>/dev/null | grep -q asan; then
    echo "SKIP an old processor: the emulator has no room for sanitizers"
    skipped=$((skipped + 1))
elif needs qemu-x86_64 "an old processor"; then
    old() { # COMMAND...
        qemu-x86_64 -cpu qemu64 "$program" "$@" >"$work/out" 2>"$log"
        [ $? = 3 ] && grep -q 'no kernel of this program runs here: .*make LEVELS=base' \
            "$work/out" "$log"
        check "$* on an old processor" $?
    }
    old list kernels
    old doctor
    old verify
    old sweep --kernel softmax.naive --out "$work/old"
fi
finish
