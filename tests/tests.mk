# Tests; included by the Makefile.  tests/run sums what the sections count into
# the closing line "N passed, N failed, N skipped".

TEST_PROGRAMS := problem files numbers evidence counters zoo matrix models simd properties references kernels
TEST_SCRIPTS := golden readme cache evidence_sweep papi plugin cli faults layout peers
TEST_QUICK := $(TEST_PROGRAMS) $(TEST_SCRIPTS)

TEST_OBJECTS := $(filter-out $(B)/harness/main.o,$(OBJECTS))
TEST_BUILT := $(TEST_PROGRAMS:%=$(B)/tests/%)

$(TEST_BUILT): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/guard.o $(TEST_OBJECTS)
	$(call say,link,$@)
	$(Q)$(CC) $(COMMON) $(SANITIZE) -rdynamic $(filter %.o,$^) $(LDLIBS) -lcmocka -o $@
# The vector vocabulary is compiled like kernels, once per level.
$(B)/tests/simd: $(LEVELS:%=$(B)/tests/simd_level.%.o)
-include $(LEVELS:%=$(B)/tests/simd_level.%.d)
# A stand-in for PAPI: linked into one test, loaded by the program in another.
PMU := $(B)/tests/papi/pmu
$(B)/tests/counters: $(PMU).o
$(PMU).so: $(PMU).o
	$(call say,link,$@)
	$(Q)$(CC) $(COMMON) $(SANITIZE) -shared $< -o $@
-include $(PMU).d
.SECONDARY: $(TEST_BUILT:%=%.o) $(B)/tests/guard.o
-include $(TEST_BUILT:%=%.d) $(B)/tests/guard.d

.PHONY: test test-quick tests asan tsan
tests: all $(TEST_BUILT) $(PMU).so

test: deps
	@$(MAKE) --no-print-directory $(JOBS) tests
	@tests/run $(B) $(PROGRAM) $(TEST_PROGRAMS) $(TEST_SCRIPTS)

test-quick: tests
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
	    ! OMP_TOOL_LIBRARIES=libarcher.so ARCHER_OPTIONS=verbose=1 TSAN_OPTIONS= build/tsan-try 2>&1 | \
	    grep -q 'Archer detected'; then \
	    echo "make tsan needs clang with ThreadSanitizer and its OpenMP with Archer;"; \
	    echo "as root: apt-get install clang libomp-dev"; exit 3; fi
tsan: tsan-tools
	@$(MAKE) --no-print-directory $(JOBS) FLAVOUR=tsan CC=$(TSAN_CC) all
	@LIMIT=3600 CC=$(TSAN_CC) tests/run build/tsan build/tsan/attnbench tsan
