#!/bin/bash
# layout.sh PROGRAM [quick] - rules of the code base that a machine can check:
# who includes whom, where external libraries are met, that C code names no
# kernel, that citations, keys of the journal and versions are documented, that
# what a header declares is defined and used.
program=$1
shopt -s lastpipe # counts of `... | none` are those of this shell
work=$(mktemp -d "${TMPDIR:-/tmp}/attnbench-layout.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# none WHAT - standard input must be empty: each line is a place.
none() {
    local found
    found=$(cat)
    if [ -z "$found" ]; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s:\n%s\n' "$1" "$(printf '%s\n' "$found" | head -8)"
    fi
}

# ---- includes -------------------------------------------------------------------
grep -rnE '#include "[^"]*(harness|analysis|plots|tests)/' kernels |
    none "kernels/ includes nothing of other folders"
# The registry's header and the contract alone; not a kernel's own headers.
grep -rnE '#include "\.\./kernels/' harness analysis |
    grep -vE '/kernels/(plan|att)\.h"' |
    # peak.c and roofline.c measure the machine with the kernels' vectors
    grep -vE '^harness/(peak|roofline)\.[ch]:.*/(simd|tile|levels)\.h"' |
    none "harness/ and analysis/ reach kernels by plan.h"
grep -rnE '#include "\.\./(kernels|analysis)/' plots |
    none "plots/ includes neither kernels nor analysis"
# Shared infrastructure: results are read by journal and json, errors and
# options are told as everywhere, intervals of ratios come from the statistics.
grep -rnE '#include "\.\./harness/' plots |
    grep -vE '/(array|clean|commands|error|file|journal|json|progress|ratio|row|spelling|stats)\.h"' |
    none "plots/ includes of harness/ what reads results, and infrastructure"
grep -rnE '#include "\.\./(analysis|plots)/' harness |
    none "harness/ includes neither analysis nor plots"
# Pictures and figures of maps are made with the modules of plots/.
grep -rnE '#include "\.\./plots/' analysis |
    grep -vE '/(png|gnuplot|palette|layout|caption)\.h"' |
    none "analysis/ includes of plots/ pictures, colours and gnuplot alone"
for header in kernels/*.h kernels/*/*.h harness/*.h analysis/*.h plots/*.h; do
    guard=$(grep -m1 '^#ifndef' "$header" | awk '{ print $2 }')
    # bodies for two types, included twice on purpose
    [ -n "$guard" ] || [ "$header" = analysis/network_real.h ] ||
        [ "$header" = kernels/aft/conv_products.h ] || echo "$header"
done | none "headers have include guards"

# ---- one file for each external library -----------------------------------------
# library HEADER FILE... - files that may include it.
library() {
    local header=$1
    shift
    grep -rlE "#include <([a-z]*/)?$header" kernels harness analysis plots |
        grep -vxF "$(printf '%s\n' "$@")" | none "<$header> is met in $* alone"
    grep -LE "#include <([a-z]*/)?$header" "$@" | none "<$header> is met in $*"
}
library cJSON harness/json.c
library papi harness/counters_papi.c
library sde_lib harness/counters_papi.c
library png.h plots/png.c
library lapacke analysis/linalg.c
library hwloc harness/machine.c
library zlib analysis/bytes.c
# The gemm kernels and the products of models.
library cblas analysis/blas.c kernels/softmax/gemm.c
# Their ceilings are those of the BLAS's own code: sweep must know of it.
{ grep -rlE '#include <cblas.h>' kernels | xargs grep -L '\.blas = true'
  grep -rlE '\.blas = true' kernels | xargs grep -L '#include <cblas.h>'; } |
    none "kernels that call the BLAS, and they alone, say .blas"
grep -rnE '\b(popen|execvp?|execlp?|posix_spawnp?)\(' kernels harness analysis plots \
    --include='*.c' |
    # capture.c runs a program for its output, cache starts callgrind, findings
    # starts this program
    grep -vE '^(plots/gnuplot\.c|harness/capture\.c|harness/cache[a-z_]*\.c|analysis/findings\.c):' |
    none "programs are started in few places"

# ---- names of kernels and mechanisms --------------------------------------------
{ "$program" list mechanisms; "$program" list kernels; } |
    awk '/^[a-z]/ { print $1 }' | sort -u | sed 's/\./\\./' | paste -sd'|' \
    >"$work/regex"
# Exceptions.  A model file without metadata means what timm's do: softmax,
# LayerNorm, GELU; they are the defaults of train, too.  Models of the zoo have
# a depthwise convolution as their layer for positions.  Words that are
# something else there: a linear layer or scale of colours, a masked task or
# tensor.  Ratios and crossings are those against softmax, the field's baseline.
grep -rnE "\"($(cat "$work/regex"))\"" harness analysis plots --include='*.[ch]' |
    grep -vE '^analysis/(model|modelkeys|network|train|vit|zoo)\.[ch]:.*"(softmax|layernorm|gelu)"' |
    grep -vE '^analysis/zoo\.[ch]:.*"(dwconv|na2d)"' |
    grep -vE '^analysis/[a-z]*\.[ch]:.*"linear"' |
    grep -vE '^(analysis/train(er)?|harness/casefile)\.c:.*"masked"' |
    grep -vE '^(plots/panels|harness/sweep_fits)\.c:.*baseline\[\] = "softmax"' |
    none "C code names a kernel or mechanism"

# ---- citations ------------------------------------------------------------------
grep -rhoE '\.cite = "[^"]+"' kernels | sed 's/.*"\(.*\)"/\1/' | sort -u |
    while read -r key; do
        grep -qE "^@[a-z]+\{$key," results/references.bib || echo "$key"
    done | none "cited, but not in results/references.bib"
grep -oE '^@[a-z]+\{[^,]+' results/references.bib | sort | uniq -d |
    none "keys that results/references.bib has twice"
"$program" cite >/dev/null 2>"$work/err"
none "attnbench cite knows every paper" <"$work/err"

# ---- versions -------------------------------------------------------------------
version=$("$program" --version | awk '{ print $2 }')
cited=$(sed -nE 's/^version: *"?([^"]*)"?$/\1/p' CITATION.cff)
{ [ "$version" = "$cited" ] || echo "$cited, the program says $version"; } |
    none "version in CITATION.cff"
changed=$(grep -m1 -oE '[0-9]+\.[0-9]+\.[0-9]+' CHANGELOG.md)
{ [ "$version" = "$changed" ] || echo "$changed, the program says $version"; } |
    none "version at the top of CHANGELOG.md"

# ---- keys of the journal --------------------------------------------------------
"$program" sweep --kernel 'softmax.*,na2d.*' --seq 64 --head-dim 8 --window 3 \
    --pass forward,backward --processes 1 --time 0.02 --out "$work/run" \
    >/dev/null 2>"$work/err" || cat "$work/err"
# Every key of a row is a word of a key in results/README.md: the keys between
# backquotes, split at dots.  Free names (NAME there) are left out.
grep -oE '`[^`]+`' results/README.md | tr -d '`' | tr '. []' '\n' | sort -u \
    >"$work/documented"
# Those are named by the machine: libraries, variables, caches, columns of problems.
"$program" list --json | grep -oE '"[a-z_]+":' | tr -d '":' | sort -u >"$work/free"
sed -E 's/"(libraries|binding|environment|bandwidth_bytes_per_s|cache_bytes|statuses|problem)":\{[^{}]*(\{[^{}]*\}[^{}]*)*\}//g' \
    "$work/run/journal.jsonl" | grep -oE '"[A-Za-z0-9_]+":' | tr -d '":' |
    sort -u | grep -vxFf "$work/documented" |
    none "keys of the journal that results/README.md lacks"

# ---- declared, defined, used ----------------------------------------------------
cat kernels/*.[ch] kernels/*/*.[ch] harness/*.[ch] analysis/*.[ch] plots/*.[ch] \
    tests/*.[ch] tests/fuzz/*.c 2>/dev/null >"$work/all.c"
${CC:-cc} -fpreprocessed -dD -E -P "$work/all.c" 2>/dev/null |
    grep -oE '[A-Za-z_][A-Za-z0-9_]*' | sort | uniq -c |
    awk '{ print $2, $1 }' | sort >"$work/words"
# A function has a prototype, a definition and a call: three times its name.
# network_real.h is a body, whose names are pasted together for two types.
for header in kernels/*.h harness/*.h analysis/*.h plots/*.h; do
    [ $header != analysis/network_real.h ] || continue
    ${CC:-cc} -fpreprocessed -dD -E -P "$header" 2>/dev/null | tr '\n' ' ' |
        sed 's/;/;\n/g' |
        grep -vE '\b(static|typedef|define)\b|\{|=' |
        sed -nE "s|^.*[ *]([a-z][a-z0-9_]+)\(.*\) *;\$|\1 $header|p"
done | sort -u >"$work/declared"
{ [ "$(wc -l <"$work/declared")" -gt 100 ] || wc -l "$work/declared"; } |
    none "too few prototypes are found"
# The operations of a network are a complete set: no model needs ReLU yet.
awk 'NR == FNR { n[$1] = $2; next } n[$1] < 3 { print $2 ": " $1 }' \
    "$work/words" "$work/declared" | grep -v '^analysis/network.h: net_relu$' |
    none "declared, but not both defined and used"

# In `check "... $(command)" $?` the status is that of the command in the text.
grep -nE 'check ".*\$\(.*" \$\?' tests/*.sh | grep -v '^tests/layout.sh:' |
    none "checks that judge the status of their own text"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
