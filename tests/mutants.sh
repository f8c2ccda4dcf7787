#!/bin/bash
# mutants.sh [PATTERN] - what the tests are worth: each fault of tests/mutants.txt is put
# into a copy of the tree, one at a time, and a section of the tests must fail of it.
#
# The copy lies in build/mutants and is compiled at one level, with little optimisation;
# after each fault only what depends on that file is.  No network, nothing beside the
# copy: a test that skips there finds nothing.  What is known of a fault and a tree is
# kept, so that a run that was broken off goes on where it was.  PATTERN: names of
# faults, such as 'metrics-*'.  LIST: another list.  LEVELS, LIMIT: as everywhere.
#
# Ends with the counts; status 1 if a fault survived, does not build or no longer fits
# the code.
cd "$(dirname "$0")/.." || exit 1
pattern=${1:-*}
list=${LIST:-tests/mutants.txt}
work=$PWD/build/mutants
tree=$work/tree known=$work/known
if [ -z "$LEVELS" ]; then
    LEVELS=base
    grep -qw avx2 /proc/cpuinfo && LEVELS=v3
fi
export LIMIT=${LIMIT:-300} QUICK=1 GIT_CEILING_DIRECTORIES=$work XDG_CACHE_HOME=$work/cache
unset MAKEFLAGS MFLAGS MAKEOVERRIDES FLAVOUR
mkdir -p "$tree" || exit 1
touch "$known"

# ---- the copy -----------------------------------------------------------------------

# Files of the tree, those of git where there is one.
files() {
    if [ -e .git ]; then git ls-files -co --exclude-standard
    else find . -name build -prune -o -type f -print | sed 's|^\./||'; fi |
        while IFS= read -r file; do [ -f "$file" ] && echo "$file"; done | LC_ALL=C sort
}

# What differs is copied, and so is newer than what was compiled of it: also a fault that
# an earlier run left behind.
copy() {
    files >"$work/files"
    (cd "$tree" && find . -name build -prune -o -type f -print | sed 's|^\./||' | LC_ALL=C sort) |
        LC_ALL=C comm -13 "$work/files" - | while IFS= read -r file; do rm "$tree/$file"; done
    while IFS= read -r file; do
        cmp -s "$file" "$tree/$file" && continue
        mkdir -p "$tree/$(dirname "$file")" && cp --preserve=mode "$file" "$tree/$file" || exit 1
    done <"$work/files"
}

# build TARGET... in the copy
build() {
    make -C "$tree" -s --no-print-directory "-j$(nproc)" B=build/x PROGRAM=build/x/attnbench \
        "LEVELS=$LEVELS" CFLAGS="-O1" WERROR= "$@" >"$work/log" 2>&1
}

# What a section is run with.
targets() {
    if [ -e "tests/$1.sh" ]; then echo build/x/attnbench; else echo "build/x/tests/$1"; fi
}

passes() { "$tree/tests/run" build/x build/x/attnbench "$1" >/dev/null 2>&1; }

# The first test of a section that failed, or what it says.
complaint() {
    local log=$tree/build/x/tests/$1.log
    { sed -nE 's/^\[  FAILED  \] ([a-z][^ ]*).*/\1/p' "$log"
      sed -nE 's/^(FAIL|ERROR:) (.*)/\2/p' "$log"; } | head -1 | cut -c1-60
}

# ---- the list -----------------------------------------------------------------------

# One line for each fault: name, file, sections, after, old, new, with tabs between.
faults() {
    awk 'function put() { if (name != "") print name "\t" file "\t" by "\t" after "\t" old "\t" new; name = "" }
         /^#/ || /^$/ { next }
         /^[^ ]/ { put(); name = $1; file = $2; by = ""; after = "-"; old = new = ""
                   for (i = 3; i <= NF; i++) by = by (i > 3 ? " " : "") $i; next }
         /^  @ / { after = substr($0, 5) }
         /^  - / { old = substr($0, 5) }
         /^  \+/ { new = substr($0, 5) }
         END { put() }' $list
}

# spoil FILE AFTER OLD NEW - OLD stands in exactly one line; with AFTER, in the first
# from a line with that on.
spoil() {
    AFTER=$2 OLD=$3 NEW=$4 awk '
        BEGIN { after = ENVIRON["AFTER"]; old = ENVIRON["OLD"]; new = ENVIRON["NEW"]; from = after == "-" }
        index($0, after) { from = 1 }
        from && (after == "-" || !found) && (at = index($0, old)) {
            found++
            $0 = substr($0, 1, at - 1) new substr($0, at + length(old)) }
        { print }
        END { exit found != 1 }' "$work/sound" >"$work/spoilt" && cp "$work/spoilt" "$tree/$1"
}

# Sets `outcome` of one fault.
try() { # FILE SECTIONS AFTER OLD NEW
    local file=$1 section
    if ! cp "$tree/$file" "$work/sound" 2>/dev/null || ! spoil "$file" "$3" "$4" "$5"; then
        outcome="no longer applies"
        return
    fi
    outcome=SURVIVED
    for section in $2; do
        if ! build "$(targets "$section")"; then
            outcome="does not build: $(grep -m1 -E 'error|Error' "$work/log")"
            break
        fi
        passes "$section" && continue
        outcome="killed by $section: $(complaint "$section")"
        break
    done
    cp "$work/sound" "$tree/$file" # newer than what was compiled
}

# ---- all ----------------------------------------------------------------------------

copy
state=$(grep -vx $list "$work/files" | tr '\n' '\0' | xargs -0 sha256sum | sha256sum | cut -c1-16)
: >"$work/chosen"
while IFS= read -r line; do
    # shellcheck disable=SC2053
    [[ ${line%%	*} == $pattern ]] && printf '%s\n' "$line" >>"$work/chosen"
done < <(faults)
total=$(wc -l <"$work/chosen")
[ "$total" != 0 ] || { echo "$list: no fault is called $pattern" >&2; exit 2; }
double=$(faults | cut -f1 | sort | uniq -d | head -1)
[ -z "$double" ] || { echo "$list: two faults are called $double" >&2; exit 2; }

sections=$(cut -f3 "$work/chosen" | tr ' ' '\n' | sort -u)
echo "$total faults; sections $(echo $sections); level $LEVELS"
for section in $sections; do
    grep -qxF "$state $LEVELS $section passes" "$known" && continue
    build $(targets "$section") || { cat "$work/log"; exit 1; }
    passes "$section" || { echo "without a fault $section fails: $(complaint "$section")"; exit 1; }
    echo "$state $LEVELS $section passes" >>"$known"
done

number=0 fresh=0 killed=0 bad=0 begin=$SECONDS
while IFS=$'\t' read -r name file by after old new; do
    number=$((number + 1))
    key=$(printf '%s\n' "$state" "$LEVELS" "$name" "$file" "$by" "$after" "$old" "$new" | sha256sum | cut -c1-16)
    outcome=$(sed -n "s/^$key //p" "$known" | tail -1)
    took=
    if [ -z "$outcome" ]; then
        start=$SECONDS
        try "$file" "$by" "$after" "$old" "$new" </dev/null
        fresh=$((fresh + 1))
        left=$(((SECONDS - begin) * (total - number) / fresh))
        took=" ($((SECONDS - start)) s, $(((left + 59) / 60)) min left)"
        echo "$key $outcome" >>"$known"
    fi
    case $outcome in
    killed*) killed=$((killed + 1)) ;;
    *) bad=$((bad + 1)); printf '%s\n' "$name: $outcome" >>"$work/bad.$$" ;;
    esac
    printf '%3d/%d %-28s %s%s\n' $number "$total" "$name" "$outcome" "$took"
done <"$work/chosen"
if [ "$bad" != 0 ]; then
    echo "not caught:"
    sed 's/^/    /' "$work/bad.$$"
    rm "$work/bad.$$"
fi
echo "$killed of $total faults killed in $((SECONDS - begin)) s"
[ "$bad" = 0 ]
