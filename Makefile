# attnbench: see README.md.  Two targets do the main job: `make sweep`, `make test`.

CC      ?= gcc
FLAVOUR ?= release
B       := build/$(FLAVOUR)
PROGRAM := build/attnbench

PACKAGES := libpng papi libcjson openblas lapacke hwloc cmocka zlib
CFLAGS_COMMON := -std=gnu17 -g -Wall -Wextra -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wno-unknown-pragmas -fopenmp -fPIC $(WERROR)
CFLAGS_release := -O2
CFLAGS_asan := -O1 -fsanitize=address,undefined -fno-omit-frame-pointer \
	-fno-sanitize-recover=undefined
CFLAGS_tsan := -O1 -fsanitize=thread -fno-omit-frame-pointer
PLAIN  := $(CFLAGS_COMMON) $(CFLAGS_$(FLAVOUR)) -ffp-contract=off
# Kernels: vector code at full tilt, but masks are infinities: no -ffast-math.
KERNEL := $(CFLAGS_COMMON) $(if $(filter release,$(FLAVOUR)),-O3,$(CFLAGS_$(FLAVOUR))) \
	-ffp-contract=fast -fno-math-errno -fno-trapping-math
LDLIBS = $(shell pkg-config --libs $(filter-out cmocka,$(PACKAGES))) \
	-Wl,--no-as-needed -lsde -Wl,--as-needed -ldl -lm
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES))

ifeq ($(shell uname -m),x86_64)
LEVELS := v2 v3 v4
else
LEVELS := base
endif
MARCH_base :=
MARCH_v2 := -march=x86-64-v2
MARCH_v3 := -march=x86-64-v3
MARCH_v4 := -march=x86-64-v4 -mprefer-vector-width=512

# ---- sources: nothing below names a kernel ------------------------------------

UNITS   := $(sort $(wildcard kernels/*/*.c))
MECHS   := $(shell grep -l '^ATT_MECHANISMS' $(UNITS))
KERNS   := $(shell grep -l '^ATT_KERNELS' $(UNITS))
CORE    := $(wildcard kernels/*.c)
PEAK    := harness/peak.c
PROGRAM_SRC := $(filter-out $(PEAK),$(wildcard harness/*.c analysis/*.c plots/*.c))
unit     = $(subst /,_,$(patsubst kernels/%.c,%,$(1)))

OBJ := $(CORE:%.c=$(B)/%.o) $(PROGRAM_SRC:%.c=$(B)/%.o) \
	$(MECHS:%.c=$(B)/%.plain.o) \
	$(foreach l,$(LEVELS),$(KERNS:%.c=$(B)/%.$(l).o) $(patsubst %.c,$(B)/%.$(l).o,$(wildcard $(PEAK))))

.PHONY: all
all: $(PROGRAM)

ifneq ($(PROGRAM),$(B)/attnbench)
$(PROGRAM): $(B)/attnbench
	@ln -sf $(notdir $(B))/attnbench $@
endif

$(B)/attnbench: $(OBJ)
	$(CC) $(CFLAGS_COMMON) $(CFLAGS_$(FLAVOUR)) -rdynamic $(filter %.o,$^) $(LDLIBS) -o $@

$(B)/registry.inc: Makefile $(MECHS) $(KERNS) | $(B)/flags
	@printf '%s\n' $(foreach u,$(MECHS),'M(att_mechanisms_$(call unit,$(u))_plain)') \
	  $(foreach l,$(LEVELS),$(foreach u,$(KERNS),'K(att_kernels_$(call unit,$(u))_$(l), ATT_$(shell echo $(l) | tr a-z A-Z))')) > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# Recompile when the flags change.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(PLAIN) $(KERNEL)' | cmp -s - $@ || echo '$(CC) $(PLAIN) $(KERNEL)' > $@
.PHONY: FORCE

$(B)/kernels/registry.o: $(B)/registry.inc

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PLAIN) $(PKG_CFLAGS) -I$(B) -MMD -MP -c $< -o $@

$(B)/%.plain.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(CC) $(PLAIN) -DATT_UNIT=$(call unit,$<)_plain -MMD -MP -c $< -o $@

define LEVEL_RULE
$(B)/%.$(1).o: %.c $(B)/flags
	@mkdir -p $$(@D)
	$$(CC) $$(KERNEL) $$(PKG_CFLAGS) $$(MARCH_$(1)) -DATT_UNIT=$$(call unit,$$<)_$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach l,$(LEVELS),$(eval $(call LEVEL_RULE,$(l))))

-include $(OBJ:.o=.d)

.PHONY: clean
clean:
	rm -rf build

-include tests/tests.mk
