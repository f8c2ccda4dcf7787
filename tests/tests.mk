# Tests; included by the Makefile.  tests/run sums what the sections count into
# the closing line "N passed, N failed, N skipped".

TEST_PROGRAMS := problem files rows process numbers measure cold roofline accuracy training data evidence coverage ledger counters corpus zoo matrix models simd denormals properties references kernels
TEST_SCRIPTS := build golden random random_options accuracy_cli readme figures cache evidence_sweep journal schema review papi training_cli findings plugin cli faults limits layout peers slurm
TEST_QUICK := $(TEST_PROGRAMS) $(TEST_SCRIPTS)

TEST_OBJECTS := $(filter-out $(B)/harness/main.o,$(OBJECTS))
TEST_BUILT := $(TEST_PROGRAMS:%=$(B)/tests/%)

$(TEST_BUILT): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/test.o $(TEST_OBJECTS)
	$(call say,link,$@)
	$(Q)$(LINK) $(filter %.o,$^) $(LDLIBS) $(shell $(PKG_CONFIG) --libs cmocka) -o $@
# The vector vocabulary is compiled like kernels, once per level.
$(B)/tests/simd: $(LEVELS:%=$(B)/tests/simd_level.%.o)
-include $(LEVELS:%=$(B)/tests/simd_level.%.d)
# A stand-in for PAPI: linked into one test, loaded by the program in another.
PMU := $(B)/tests/papi/pmu
$(B)/tests/counters: $(PMU).o
$(PMU).so: $(PMU).o
	$(call say,link,$@)
	$(Q)$(CC) $(COMMON) $(LDFLAGS) -shared $< -o $@
-include $(PMU).d
# What the fuzzer feeds, played back.  It takes over argp's ways to end the program.
FUZZ_TARGETS := suite journal casefile safetensors model npy png data options
FUZZ_LDFLAGS := -Wl,--wrap=argp_failure,--wrap=argp_error
FUZZ_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/fuzz/*.c))
$(B)/tests/corpus: $(FUZZ_OBJECTS)
$(B)/tests/corpus: LDLIBS += $(FUZZ_LDFLAGS)
-include $(FUZZ_OBJECTS:.o=.d)
.SECONDARY: $(TEST_BUILT:%=%.o) $(B)/tests/test.o
-include $(TEST_BUILT:%=%.d) $(B)/tests/test.d

# Which loop beside a sample tells of which kernel: the table of results/README.md, with
# a neighbour and without; a minute for each kernel.
PROBE_SECONDS ?= 60
.PHONY: probes
$(B)/tests/probes: $(B)/tests/probes.o $(TEST_OBJECTS)
	$(call say,link,$@)
	$(Q)$(LINK) $(filter %.o,$^) $(LDLIBS) -o $@
-include $(B)/tests/probes.d
probes:
	@$(MAKE) --no-print-directory $(JOBS) $(B)/tests/probes
	@echo "a neighbour that multiplies, streams memory and rests"
	@$(B)/tests/probes tests/probes.json $(PROBE_SECONDS)
	@echo "without it"
	@$(B)/tests/probes tests/probes.json $(PROBE_SECONDS) alone

.PHONY: test test-quick tests asan tsan distros
tests: all $(TEST_BUILT) $(PMU).so

test: deps
	@$(MAKE) --no-print-directory $(JOBS) tests
	@tests/run $(B) $(PROGRAM) $(TEST_PROGRAMS) $(TEST_SCRIPTS)

test-quick:
	@$(MAKE) --no-print-directory $(JOBS) tests
	@QUICK=1 tests/run $(B) $(PROGRAM) $(TEST_QUICK)

# Address and undefined behaviour; a leak is a failure too.
asan:
	@$(MAKE) --no-print-directory FLAVOUR=asan test-quick

# Data races.  clang and its OpenMP with Archer; tests/tsan.sh says why.
TSAN_CC ?= clang
.PHONY: tsan-tools
tsan-tools:
	@mkdir -p build; printf '%s\n' 'int main(void) {' 'int n = 0;' \
	    '#pragma omp parallel reduction(+ : n)' 'n++;' 'return n == 0; }' >build/tsan-try.c; \
	if ! $(TSAN_CC) -fsanitize=thread -fopenmp build/tsan-try.c -o build/tsan-try 2>build/tsan-try.log || \
	    ! OMP_TOOL_LIBRARIES="$$($(TSAN_CC) -print-file-name=libarcher.so)" ARCHER_OPTIONS=verbose=1 TSAN_OPTIONS= build/tsan-try 2>&1 | \
	    grep -q 'Archer detected'; then \
	    echo "make tsan needs clang with ThreadSanitizer and its OpenMP with Archer;"; \
	    echo "as root: apt-get install clang libomp-dev"; exit 3; fi
tsan: tsan-tools
	@$(MAKE) --no-print-directory $(JOBS) FLAVOUR=tsan CC=$(TSAN_CC) all
	@LIMIT=3600 CC=$(TSAN_CC) tests/run build/tsan build/tsan/attnbench tsan

# Readers of files and command lines, by libFuzzer.  Kernels are those of the plain
# build: it is not they who read files.
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 60
FUZZ_PLAIN   ?= build/release
FUZZ_KERNELS := $(foreach l,$(LEVELS),$(LEVELLED:%.c=$(B)/%.$(l).o))
FUZZ_LINKED  := $(filter-out $(FUZZ_KERNELS),$(TEST_OBJECTS)) \
	$(FUZZ_KERNELS:$(B)/%=$(FUZZ_PLAIN)/%) $(B)/tests/fuzz/fuzz.o
.PHONY: fuzz fuzz-tools fuzz-targets
fuzz-tools:
	@mkdir -p build; echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { (void)d, (void)n; return 0; }' >build/fuzz-try.c; \
	if ! $(FUZZ_CC) -fsanitize=fuzzer,address,undefined -fopenmp build/fuzz-try.c -o build/fuzz-try 2>build/fuzz-try.log; then \
	    echo "make fuzz needs clang with libFuzzer and its OpenMP;"; \
	    echo "as root: apt-get install clang libomp-dev"; exit 3; fi
fuzz: fuzz-tools
	@$(MAKE) --no-print-directory $(JOBS) FLAVOUR=release B=$(FUZZ_PLAIN) all
	@$(MAKE) --no-print-directory $(JOBS) FLAVOUR=fuzz CC=$(FUZZ_CC) FUZZ_PLAIN=$(FUZZ_PLAIN) \
	    SANITIZE_fuzz='-fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer' fuzz-targets
	@tests/fuzz/run build/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)
fuzz-targets: $(FUZZ_TARGETS:%=$(B)/tests/fuzz/%)
$(FUZZ_TARGETS:%=$(B)/tests/fuzz/%): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.alone.o $(FUZZ_LINKED)
	$(call say,link,$@)
	$(Q)$(LINK) -fsanitize=fuzzer,address,undefined $(filter %.o,$^) $(LDLIBS) $(FUZZ_LDFLAGS) -o $@
$(B)/tests/fuzz/%.alone.o: tests/fuzz/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,$(CC),$@)
	$(Q)$(CC) $(PLAIN) $(PKG_CFLAGS) -DFUZZ_ALONE -MMD -MP -c $< -o $@
-include $(FUZZ_TARGETS:%=$(B)/tests/fuzz/%.alone.d)

# The README's two commands in fresh systems; half an hour for each of them.
DISTROS ?= bookworm trixie testing
distros:
	@tests/distros.sh $(DISTROS)
