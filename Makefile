# attnbench.  Two targets do the main job on a fresh machine:
#
#     make sweep    packages, build, default suite, figures, tables, maps
#     make test     packages, build, all tests
#
# `make help` lists the others.  Nothing in this file names a kernel: sources are
# found by wildcard, and every kernel file is compiled once per level.

ifeq ($(origin CC),default)
CC := gcc
endif
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
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES))
# PAPI's software-defined events need libsde even if the linker sees no use.
LDLIBS = $(shell pkg-config --libs $(filter-out cmocka,$(PACKAGES))) \
	-Wl,--no-as-needed -lsde -Wl,--as-needed -ldl -lm

COMMON := -std=gnu17 -g -Wall -Wextra -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wno-unknown-pragmas -fopenmp -fPIC $(WERROR)
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
SANITIZE_tsan := -fsanitize=thread -fno-omit-frame-pointer
SANITIZE := $(SANITIZE_$(FLAVOUR))
# References and everything that is not a kernel: plain, nothing contracted.
PLAIN  := $(COMMON) $(SANITIZE) $(if $(SANITIZE),-O1,-O2) -ffp-contract=off
# Kernels: FMA, but no -ffast-math: masks are infinities.
# Line tables alone (-g1) halve the time of compiling vector code.
KERNEL := $(COMMON) -g1 $(SANITIZE) $(if $(SANITIZE),-O1,-O3) -ffp-contract=fast \
	-fno-math-errno -fno-trapping-math

LEVELS := $(if $(filter x86_64,$(shell uname -m)),v2 v3 v4,base)
MARCH_v2 := -march=x86-64-v2
MARCH_v3 := -march=x86-64-v3
MARCH_v4 := -march=x86-64-v4 -mprefer-vector-width=512

# ---- sources ------------------------------------------------------------------------

UNITS := $(sort $(wildcard kernels/*/*.c))
MECHS := $(shell grep -l '^ATT_MECHANISMS' $(UNITS))
KERNS := $(shell grep -l '^ATT_KERNELS' $(UNITS))
CORE  := $(filter-out kernels/tile.c,$(wildcard kernels/*.c))
# Register tiles, and the machine's peaks, are compiled at every level too.
LEVELLED := $(KERNS) kernels/tile.c $(wildcard harness/peak.c)
REST  := $(filter-out harness/peak.c,$(wildcard harness/*.c analysis/*.c plots/*.c))
unit   = $(subst /,_,$(patsubst kernels/%,%,$(1:.c=)))

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

$(B)/attnbench: $(OBJECTS)
	$(call say,link,$@)
	$(Q)$(CC) $(COMMON) $(SANITIZE) -rdynamic $^ $(LDLIBS) -o $@

# ---- rules ----------------------------------------------------------------------------

# $(B)/flags and $(B)/revision change only when their text does.
.PHONY: FORCE
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(PLAIN) $(KERNEL) $(LEVELS)' | cmp -s - $@ || \
		echo '$(CC) $(PLAIN) $(KERNEL) $(LEVELS)' > $@
REVISION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
$(B)/revision: FORCE
	@mkdir -p $(@D)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' > $@

upper = $(shell echo $(1) | tr a-z A-Z)
$(B)/registry.inc: $(MECHS) $(KERNS) $(B)/flags
	@printf '%s\n' \
	  $(foreach u,$(MECHS),'M(att_mechanisms_$(call unit,$(u))_plain)') \
	  $(foreach l,$(LEVELS),$(foreach u,$(KERNS),'K(att_kernels_$(call unit,$(u))_$(l), ATT_$(call upper,$(l)))')) > $@
# What the kernels of each file are made of: a hash of its compiled code, without debug
# information, so that rows stay valid where that has not changed.  The core is what runs
# around every kernel while it is measured, and what it is checked against.
KB := $(if $(filter fuzz,$(FLAVOUR)),$(FUZZ_PLAIN),$(B))
CODED := $(addprefix $(B)/,kernels/plan.o kernels/problem.o kernels/reference.o \
	harness/bind.o harness/inputs.o harness/measure.o)
CODES := $(CODED) $(MECHS:%.c=$(B)/%.plain.o) \
	$(foreach l,$(LEVELS),$(patsubst %.c,$(KB)/%.$(l).o,$(KERNS) kernels/tile.c))
OBJCOPY := $(shell $(CC) -print-prog-name=objcopy)
$(B)/codes.inc: $(CODES)
	@hash() { for o; do $(OBJCOPY) -g $$o $@.tmp && cat $@.tmp || exit; done | \
	    sha256sum | cut -c1-16; }; \
	{ $(foreach l,$(LEVELS),echo "CORE(ATT_$(call upper,$(l)), 0x$$(hash $(CODED) $(KB)/kernels/tile.$(l).o))"; ) \
	$(foreach u,$(MECHS),echo "CODE(att_mechanisms_$(call unit,$(u))_plain, 0x$$(hash $(B)/$(u:.c=.plain.o)))"; ) \
	$(foreach l,$(LEVELS),$(foreach u,$(KERNS),echo "CODE(att_kernels_$(call unit,$(u))_$(l), 0x$$(hash $(KB)/$(u:.c=).$(l).o))"; )) \
	} >$@.new && rm -f $@.tmp && mv $@.new $@
$(B)/kernels/registry.o: $(B)/registry.inc $(B)/codes.inc
$(B)/kernels/registry.o: PLAIN += -I$(B)
$(B)/harness/machine.o: $(B)/revision
$(B)/harness/machine.o: PLAIN += -DATT_GIT_REVISION='"$(REVISION)"' \
	-DATT_BUILD_FLAGS='"$(KERNEL)"'

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
	$(Q)$(CC) $(PLAIN) -DATT_UNIT=$(call unit,$<)_plain -MMD -MP -c $< -o $@
define LEVEL_RULE
$(B)/%.$(1).o: %.c $(B)/flags
	@mkdir -p $$(@D)
	$$(call say,$$(CC),$$@)
	$$(Q)$$(CC) $$(KERNEL) $$(PKG_CFLAGS) $$(MARCH_$(1)) -DATT_UNIT=$$(call unit,$$<)_$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach l,$(LEVELS),$(eval $(call LEVEL_RULE,$(l))))
-include $(OBJECTS:.o=.d)

# ---- packages --------------------------------------------------------------------------

DEBIAN := gcc make pkg-config gnuplot-nox fontconfig fonts-dejavu-core libpng-dev \
	libpapi-dev libcjson-dev libopenblas-dev liblapacke-dev libhwloc-dev \
	libcmocka-dev zlib1g-dev

.PHONY: deps
deps:
	@if pkg-config --exists $(PACKAGES) 2>/dev/null && command -v gnuplot >/dev/null && \
	    command -v $(CC) >/dev/null && test -e /usr/include/sde_lib.h; then exit 0; fi; \
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

.PHONY: sweep figures maps
sweep: deps
	@$(MAKE) --no-print-directory $(JOBS) all
	$(PROGRAM) sweep --suite default --out $(OUT)
	@$(MAKE) --no-print-directory figures maps

figures: all
	$(PROGRAM) plot $(OUT)
	$(PROGRAM) table $(OUT) --format md --out $(OUT)/table.md
	$(PROGRAM) table $(OUT) --format csv --out $(OUT)/table.csv
	$(PROGRAM) table $(OUT) --rows kernel --cols n --format tex --out $(OUT)/table.tex

# Claims of papers against this machine; `train` makes the models of those claims
# anew, which otherwise are taken from results/models.
.PHONY: findings train
findings: all
	$(PROGRAM) findings --out $(FINDINGS)
train: all
	$(PROGRAM) findings --retrain --out $(FINDINGS)

# PyTorch for harness/peers, in a folder of its own; nothing else needs it.
.PHONY: peers
peers: all
	test -x build/peers/bin/python || python3 -m venv build/peers
	build/peers/bin/python -c 'import torch, numpy' 2>/dev/null || \
		build/peers/bin/pip install 'torch>=2' numpy
	build/peers/bin/python harness/peers/peers.py --program $(PROGRAM) --verify
	build/peers/bin/python harness/peers/peers.py --program $(PROGRAM)

maps: all
	$(PROGRAM) maps '*' --out $(MAPS)

# The table of mechanisms in README.md, made anew.
.PHONY: readme
readme: all
	@table="$$($(PROGRAM) list --markdown)" awk ' \
	    /^<!-- mechanisms/ { print; print ENVIRON["table"]; old = 1; next } \
	    /^<!-- end/ { old = 0 } \
	    !old' README.md > $(B)/README.md
	@cmp -s $(B)/README.md README.md || cp $(B)/README.md README.md

.PHONY: install clean help
install: all
	install -D $(B)/attnbench $(DESTDIR)$(PREFIX)/bin/attnbench
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/attnbench/suites harness/suites/*.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/attnbench/zoo analysis/zoo/*.json

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
	@echo "make train     the same with every model trained anew (half an hour)"
	@echo "make peers     PyTorch beside our kernels (downloads it; needs the network)"
	@echo "make readme    the table of mechanisms in README.md, made anew"
	@echo "make asan tsan fuzz lint    more checks"
	@echo "make install   program and data into PREFIX ($(PREFIX))"
	@echo "make clean"

-include tests/tests.mk
