# attnbench.  Two targets do the main job on a fresh machine:
#
#     make sweep    packages, build, default suite, figures, tables, maps
#     make test     packages, build, all tests
#
# `make help` lists the others.  Nothing in this file names a kernel: sources are
# found by wildcard, and every kernel file is compiled once per level.

ifeq ($(wildcard kernels/att.h),)
$(error this Makefile works in its own folder: make -C $(dir $(firstword $(MAKEFILE_LIST))))
endif
ifeq ($(origin CC),default)
CC := gcc
endif
PKG_CONFIG ?= pkg-config
FLAVOUR ?= release
B       := build/$(FLAVOUR)
PROGRAM := $(if $(filter release,$(FLAVOUR)),build/attnbench,$(B)/attnbench)
PREFIX  ?= /usr/local
OUT     ?= results/run
MAPS    ?= results/maps
FINDINGS ?= results/findings

# All cores, unless -j says otherwise.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# ---- what it is built with ---------------------------------------------------------

PACKAGES := libpng papi libcjson openblas lapacke hwloc cmocka zlib
PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
# PAPI's software-defined events need libsde even if the linker sees no use.
LDLIBS = $(shell $(PKG_CONFIG) --libs $(filter-out cmocka,$(PACKAGES))) \
	-Wl,--no-as-needed -lsde -Wl,--as-needed -ldl -lm

# CPPFLAGS, CFLAGS and LDFLAGS are the user's (packagers' hardening, another -O); what
# gives the numbers their meaning comes after them.
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wno-unknown-pragmas
# gcc's frames for use after return are aligned to less than a vector of AVX-512.
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer \
	$(if $(filter asan,$(FLAVOUR)),$(shell $(CC) -Werror --param=asan-use-after-return=0 -fsyntax-only -x c /dev/null 2>/dev/null && echo --param=asan-use-after-return=0))
SANITIZE_tsan := -fsanitize=thread -fno-omit-frame-pointer
SANITIZE := $(SANITIZE_$(FLAVOUR))
COMMON := $(CPPFLAGS) $(CFLAGS) -std=gnu17 -fopenmp -fPIC $(SANITIZE) $(WERROR)
# References and everything that is not a kernel: plain, nothing contracted.
PLAIN  := -g $(WARNINGS) $(if $(SANITIZE),-O1,-O2) $(COMMON) -ffp-contract=off
# Kernels: FMA, but no -ffast-math: masks are infinities.
# Line tables alone (-g1) halve the time of compiling vector code.
KERNEL := -g1 $(WARNINGS) $(if $(SANITIZE),-O1,-O3) $(COMMON) -ffp-contract=fast \
	-fno-math-errno -fno-trapping-math
LINK    = $(CC) $(COMMON) $(LDFLAGS) -rdynamic
ifneq ($(filter -Ofast -ffast-math -ffinite-math-only,$(CFLAGS) $(CPPFLAGS)),)
$(error masks are infinities here: build without -Ofast, -ffast-math and -ffinite-math-only)
endif

# The compiler's machine, not this one.  A processor that builds for itself and is older
# than v2 gets base as well.
X86 := $(shell echo __x86_64__ | $(CC) $(CPPFLAGS) $(CFLAGS) -E -P -x c - 2>/dev/null | grep -x 1)
ifndef LEVELS
OLD    := $(shell grep -qw sse4_2 /proc/cpuinfo || echo base)
LEVELS := $(if $(X86),$(OLD) v2 v3 v4,base)
endif
ifneq ($(or $(filter-out base v2 v3 v4,$(LEVELS)),$(if $(LEVELS),,none)),)
$(error LEVELS="$(LEVELS)": name some of base, v2, v3 and v4)
endif
MARCH_base := $(if $(X86),-march=x86-64)
MARCH_v2 := -march=x86-64-v2
MARCH_v3 := -march=x86-64-v3
MARCH_v4 := -march=x86-64-v4 -mprefer-vector-width=512

# ---- sources ------------------------------------------------------------------------

UNITS := $(sort $(wildcard kernels/*.c kernels/*/*.c kernels/*/*/*.c))
MECHS := $(shell grep -l '^ *ATT_MECHANISMS' $(UNITS))
KERNS := $(shell grep -l '^ *ATT_KERNELS' $(UNITS))
CORE  := $(filter-out kernels/tile.c $(MECHS) $(KERNS),$(wildcard kernels/*.c))
# Register tiles, and the machine's peaks, are compiled at every level too.
LEVELLED := $(KERNS) kernels/tile.c $(wildcard harness/peak.c)
REST  := $(filter-out harness/peak.c,$(wildcard harness/*.c analysis/*.c plots/*.c))
unit   = $(subst .,_,$(subst -,_,$(subst /,_,$(patsubst kernels/%,%,$(1:.c=)))))

# One short line for each file; V=1 shows whole commands.
Q   := $(if $(V),,@)
say  = @$(if $(V),:,printf '%-6s %s\n' $(1) $(2))

OBJECTS := $(CORE:%.c=$(B)/%.o) $(REST:%.c=$(B)/%.o) $(MECHS:%.c=$(B)/%.plain.o) \
	$(foreach l,$(LEVELS),$(LEVELLED:%.c=$(B)/%.$(l).o))

.PHONY: all
all: $(PROGRAM)

ifneq ($(PROGRAM),$(B)/attnbench)
$(PROGRAM): $(B)/attnbench
	@ln -sf $(notdir $(B))/attnbench $@
endif

$(B)/attnbench: $(OBJECTS) $(B)/objects
	$(call say,link,$@)
	$(Q)$(LINK) $(filter %.o,$^) $(LDLIBS) -o $@

# ---- rules ----------------------------------------------------------------------------

# Files that change only when their text does: how it is built, of what, from which
# revision.
.PHONY: FORCE
define text
$(shell mkdir -p $(@D))$(file >$@.new,$(1))
@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; $(2) fi
endef
$(B)/flags: FORCE
	$(call text,$(CC) $(PLAIN) $(KERNEL) $(LDFLAGS) $(LEVELS) $(shell $(CC) --version | head -1))
$(B)/objects: FORCE
	$(call text,$(OBJECTS))
REVISION := $(shell harness/revision 2>/dev/null)
$(B)/revision: FORCE
	$(call text,$(REVISION),harness/revision >/dev/null;)

upper = $(shell echo $(1) | tr a-z A-Z)
define NEWLINE


endef
$(B)/registry.inc: FORCE
	$(call text,$(foreach u,$(MECHS),M(att_mechanisms_$(call unit,$(u))_plain)$(NEWLINE)) \
	$(foreach l,$(LEVELS),$(foreach u,$(KERNS),K(att_kernels_$(call unit,$(u))_$(l), ATT_$(call upper,$(l)))$(NEWLINE))))
# What the kernels of each file are made of: a hash of its compiled code, without debug
# information, so that rows stay valid where that has not changed.  The core is what runs
# around every kernel while it is measured, and what it is checked against.
KB := $(if $(filter fuzz,$(FLAVOUR)),$(FUZZ_PLAIN),$(B))
CODED := $(addprefix $(B)/,kernels/plan.o kernels/problem.o kernels/reference.o \
	harness/bind.o harness/inputs.o harness/measure.o harness/probe.o harness/sampler.o)
CODES := $(CODED) $(MECHS:%.c=$(B)/%.plain.o) \
	$(foreach l,$(LEVELS),$(patsubst %.c,$(KB)/%.$(l).o,$(LEVELLED)))
OBJCOPY := $(shell $(CC) -print-prog-name=objcopy)
$(B)/codes.inc: $(CODES)
	@hash() { for o; do $(OBJCOPY) -g $$o $@.tmp && cat $@.tmp || exit; done | \
	    sha256sum | cut -c1-16; }; \
	{ $(foreach l,$(LEVELS),echo "CORE(ATT_$(call upper,$(l)), 0x$$(hash $(CODED) $(KB)/kernels/tile.$(l).o $(KB)/harness/peak.$(l).o))"; ) \
	$(foreach u,$(MECHS),echo "CODE(att_mechanisms_$(call unit,$(u))_plain, 0x$$(hash $(B)/$(u:.c=.plain.o)))"; ) \
	$(foreach l,$(LEVELS),$(foreach u,$(KERNS),echo "CODE(att_kernels_$(call unit,$(u))_$(l), 0x$$(hash $(KB)/$(u:.c=).$(l).o))"; )) \
	} >$@.new && rm -f $@.tmp && mv $@.new $@
$(B)/kernels/registry.o: $(B)/registry.inc $(B)/codes.inc
$(B)/kernels/registry.o: PLAIN += -I$(B)
# As a string of C, within quotes of the shell.
string = '"$(subst ','\'',$(subst ",\",$(subst \,\\,$(strip $(1)))))"'
$(B)/harness/machine.o: $(B)/revision
$(B)/harness/machine.o: PLAIN += -DATT_GIT_REVISION=$(call string,$(REVISION)) \
	-DATT_BUILD_FLAGS=$(call string,$(KERNEL) $(LDFLAGS))

# Loops over activations and parameters, vectorised; without errno sqrtf is one
# instruction.
$(B)/analysis/network_f32.o $(B)/analysis/trainer.o: PLAIN += \
	$(if $(SANITIZE),,-O3) -fno-math-errno

# Files that a source embeds (harness/embed.h).
$(B)/harness/cite.o: results/references.bib CITATION.cff
$(B)/analysis/ledger.o: results/claims.json

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,$(CC),$@)
	$(Q)$(CC) $(PLAIN) $(PKG_CFLAGS) -MMD -MP -c $< -o $@
$(B)/%.plain.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,$(CC),$@)
	$(Q)$(CC) $(PLAIN) -iquote kernels -DATT_UNIT=$(call unit,$<)_plain -MMD -MP -c $< -o $@
define LEVEL_RULE
$(B)/%.$(1).o: %.c $(B)/flags
	@mkdir -p $$(@D)
	$$(call say,$$(CC),$$@)
	$$(Q)$$(CC) $$(KERNEL) $$(PKG_CFLAGS) $$(MARCH_$(1)) -iquote kernels -DATT_UNIT=$$(call unit,$$<)_$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach l,$(LEVELS),$(eval $(call LEVEL_RULE,$(l))))
-include $(OBJECTS:.o=.d)

# ---- packages --------------------------------------------------------------------------

DEBIAN := gcc make pkg-config gnuplot-nox fontconfig fonts-dejavu-core libpng-dev \
	libpapi-dev libcjson-dev libopenblas-dev liblapacke-dev libhwloc-dev \
	libcmocka-dev zlib1g-dev

.PHONY: deps
deps:
	@missing=; \
	for p in $(PACKAGES); do $(PKG_CONFIG) --exists $$p 2>/dev/null || missing="$$missing $$p"; done; \
	for c in $(firstword $(CC)) gnuplot; do command -v $$c >/dev/null || missing="$$missing $$c"; done; \
	echo '#include <sde_lib.h>' | $(CC) $(CPPFLAGS) $(CFLAGS) $(PKG_CFLAGS) -E -x c - >/dev/null 2>&1 || \
	    missing="$$missing sde_lib.h"; \
	[ -n "$$missing" ] || exit 0; \
	echo "missing:$$missing"; \
	if ! command -v apt-get >/dev/null; then \
	    echo "attnbench needs these libraries and programs (Debian's names): $(DEBIAN)"; \
	    echo "install them with your package manager, then run make again"; exit 3; fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	if [ -n "$$sudo" ] && ! command -v sudo >/dev/null; then \
	    echo "run as root: apt-get update && apt-get install -y $(DEBIAN)"; exit 3; fi; \
	echo "installing with apt-get: $(DEBIAN)"; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(DEBIAN)

# ---- the main jobs ------------------------------------------------------------------------

# What measures, or loads the machine: with several of them named, one after the other,
# whatever -j says.  They build with all cores all the same.
MAIN := sweep figures maps findings evidence train peers readme install clean \
	test test-quick asan tsan fuzz distros
ifneq ($(word 2,$(MAKECMDGOALS)),)
ifneq ($(filter $(MAIN),$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
endif

.PHONY: program
program:
	@$(MAKE) --no-print-directory $(JOBS) all

.PHONY: sweep figures maps
sweep: deps
	@$(MAKE) --no-print-directory $(JOBS) all
	$(PROGRAM) sweep --suite default --out $(OUT)
	@$(MAKE) --no-print-directory figures maps

figures: program
	$(PROGRAM) plot $(OUT)
	$(PROGRAM) table $(OUT) --format md --out $(OUT)/table.md
	$(PROGRAM) table $(OUT) --format csv --out $(OUT)/table.csv
	$(PROGRAM) table $(OUT) --rows kernel --cols n --format tex --out $(OUT)/table.tex

# Claims of papers against this machine; `train` makes the models of those claims
# anew, which otherwise are taken from results/models.
.PHONY: findings train
findings: program
	$(PROGRAM) findings --out $(FINDINGS)
train: program
	$(PROGRAM) findings --retrain --out $(FINDINGS)

# PyTorch for harness/peers, in a folder of its own; nothing else needs it.
.PHONY: peers
peers: program
	test -x build/peers/bin/python || python3 -m venv build/peers
	build/peers/bin/python -c 'import torch, numpy' 2>/dev/null || \
		build/peers/bin/pip install 'torch>=2' numpy
	build/peers/bin/python harness/peers/peers.py --program $(PROGRAM) --verify
	build/peers/bin/python harness/peers/peers.py --program $(PROGRAM)

# What verdicts are worth: coverage and false alarms on invented times, and on this
# machine a thousand pairs of the same code and a thousand with an injected slow-down.
EVIDENCE ?= results/evidence
EVIDENCE_PAIRS ?= 2000
EVIDENCE_PROCESSES ?= 10
# Bound by memory and by the core.
EVIDENCE_COLD := layernorm.fused,gelu.fused,aft_simple.fused,linear.fused,na2d.tiled,softmax.flash
EVIDENCE_KERNELS := softmax.flash,linear.fused,na2d.tiled,swin.tiled,aft_conv.conv,aft_full.gemm,gelu.fused,sasa.tiled,masked.blocked,sla.fused
.PHONY: evidence
evidence: program
	@$(MAKE) --no-print-directory $(JOBS) $(B)/tests/coverage
	@mkdir -p $(EVIDENCE)
	COVERAGE=full $(B)/tests/coverage >$(EVIDENCE)/coverage.txt
	@cat $(EVIDENCE)/coverage.txt
	$(PROGRAM) sweep --aa --inject 3% --pairs $(EVIDENCE_PAIRS) --processes $(EVIDENCE_PROCESSES) \
	    --time 0.02 --kernel $(EVIDENCE_KERNELS) --out $(EVIDENCE) >$(EVIDENCE)/aa.txt
	@cat $(EVIDENCE)/aa.txt
	$(PROGRAM) sweep --kernel $(EVIDENCE_COLD) --head-dim 64 --seq 196..3136*2 --cache warm,cold \
	    --out $(EVIDENCE)/cold >$(EVIDENCE)/cold.txt
	@$(PROGRAM) table $(EVIDENCE)/cold --columns kernel,cache,n,time,bandwidth,bound,fraction \
	    >>$(EVIDENCE)/cold.txt
	@grep -om1 '"level":"v[^"]*","threads":1,"fma.*"memory":{[^}]*}' $(EVIDENCE)/cold/journal.jsonl | \
	    grep -oE '"level":"[^"]*"|"(L3|memory)":\{[^}]*\}' >>$(EVIDENCE)/cold.txt
	@cat $(EVIDENCE)/cold.txt

maps: program
	$(PROGRAM) maps '*' --out $(MAPS)

# The table of mechanisms in README.md and those of keys in results/README.md, made anew.
.PHONY: readme
readme: program
	@table="$$($(PROGRAM) list --markdown)" awk ' \
	    /^<!-- mechanisms/ { print; print ENVIRON["table"]; old = 1; next } \
	    /^<!-- end/ { old = 0 } \
	    !old' README.md > $(B)/README.md
	@cmp -s $(B)/README.md README.md || cp $(B)/README.md README.md
	@$(PROGRAM) journal --document results/README.md > $(B)/README.md
	@cmp -s $(B)/README.md results/README.md || cp $(B)/README.md results/README.md

# Installs what is built, as it is: root finds nothing to build in a user's tree.
HEADERS := att.h reference.h simd.h store.h tile.h
bindir     = $(DESTDIR)$(PREFIX)/bin
sharedir   = $(DESTDIR)$(PREFIX)/share
includedir = $(DESTDIR)$(PREFIX)/include
.PHONY: install uninstall clean help
install:
	@test -x $(B)/attnbench || $(MAKE) --no-print-directory $(JOBS) all
	@[ -z "$$(find Makefile kernels harness analysis plots -newer $(B)/attnbench -name '*.[ch]')" ] || \
	    echo "note: sources are newer than $(B)/attnbench, which is installed as it is"
	install -D $(B)/attnbench "$(bindir)/attnbench"
	install -D -m 644 -t "$(sharedir)/attnbench/suites" harness/suites/*.json
	install -D -m 644 -t "$(sharedir)/attnbench/zoo" analysis/zoo/*.json
	install -D -m 644 -t "$(sharedir)/doc/attnbench" README.md LICENSE tests/plugin/example.c
	install -D -m 644 -t "$(includedir)/attnbench" $(HEADERS:%=kernels/%)
	printf '%s\n' 'Name: attnbench' 'Description: kernels for attnbench --plugin' \
	    'Version: $(shell sed -n 's/^version: *//p' CITATION.cff)' \
	    'Cflags: -I"$(PREFIX)/include/attnbench"' >$(B)/attnbench.pc
	install -D -m 644 -t "$(sharedir)/pkgconfig" $(B)/attnbench.pc
	$(B)/attnbench completion bash >$(B)/completion.bash && \
	install -D -m 644 $(B)/completion.bash "$(sharedir)/bash-completion/completions/attnbench"

uninstall:
	rm -f "$(bindir)/attnbench" "$(sharedir)/pkgconfig/attnbench.pc" \
	    "$(sharedir)/bash-completion/completions/attnbench"
	rm -rf "$(sharedir)/attnbench" "$(sharedir)/doc/attnbench" "$(includedir)/attnbench"

clean:
	rm -rf build

help:
	@echo "make sweep     packages, build, default suite into $(OUT), figures, tables, maps"
	@echo "make test      packages, build, all tests"
	@echo "make           build $(PROGRAM)"
	@echo "make deps      install what is missing (apt-get)"
	@echo "make figures   draw figures and tables of $(OUT) again"
	@echo "make maps      attention maps of the built-in picture into $(MAPS)"
	@echo "make findings  claims of papers against measurements, into $(FINDINGS)"
	@echo "make evidence  what verdicts are worth, into $(EVIDENCE) (half an hour)"
	@echo "make train     the same with every model trained anew (half an hour)"
	@echo "make probes    which loop beside a sample tells of which kernel (20 minutes)"
	@echo "make peers     PyTorch beside our kernels (downloads it; needs the network)"
	@echo "make readme    the table of mechanisms in README.md, made anew"
	@echo "make asan tsan fuzz lint    more checks"
	@echo "make distros   both commands in fresh Debian systems (root, debootstrap)"
	@echo "make install   what is built, suites and headers into PREFIX ($(PREFIX)); uninstall"
	@echo "make clean"

-include tests/tests.mk
