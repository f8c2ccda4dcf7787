/* counters.c - harness/counters*.c on a processor with counters, which
 * tests/papi/pmu.c plays: events chosen, packed into passes, added up over
 * threads; and what is said of those that cannot be had. */
#include "test.h"

#include "../harness/counters.h"
#include "../harness/counters_sources.h"
#include "../harness/energy.h"
#include "../harness/isolate.h"
#include "../harness/json.h"
#include "papi/pmu.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

/* The hardware roles, as presets; four passes of two counters. */
#define SIX_PRESETS                                                            \
    "PAPI_TOT_CYC=100 PAPI_TOT_INS=70 PAPI_L1_DCM=11 PAPI_L2_DCM=5 "           \
    "PAPI_L3_TCM=3 PAPI_TLB_DM=2 "
#define PRESETS SIX_PRESETS "PAPI_SP_OPS=64 PAPI_RES_STL=13 "

static const char *const hardware[] = {"cycles",   "instructions", "l1d_miss",
                                       "l2_miss",  "llc_miss",     "dtlb_miss",
                                       "flops_sp", "stalls"};
static const long long per_unit[] = { 100, 70, 11, 5, 3, 2, 64, 13 };
enum { ROLES = sizeof hardware / sizeof *hardware };

static const struct candidate {
    const char *role, *event;
} candidates[] = {
#define ROLE(name, meaning)
#define EVENT(role, where, event, note) { #role, event },
#include "../harness/counters.txt"
#undef ROLE
#undef EVENT
};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

static const att_cost cost = {.mul_add = 1000,
                              .add = 10,
                              .mul = 20,
                              .div = 30,
                              .exp = 40,
                              .pairs = 50,
                              .read = 60,
                              .write = 70};

/* ---- one run in a process of its own --------------------------------------
 */

typedef struct setup {
    const char *script;
    int threads;
    bool multiplex;
    int calls;
    int before; /* calls of before()                                         */
} setup;

/* Work before a call is not counted. */
static void before(void *arg)
{
    setup *s = arg;
    assert_int_equal(s->before++, s->calls);
    pmu_work(1000000);
}

/* Thread t does 10 (1 + t) units of work. */
static void job(void *arg)
{
    setup *s = arg;
    s->calls++;
#pragma omp parallel num_threads(s->threads)
    pmu_work(10 * (1 + omp_get_thread_num()));
}

static json *child(void *arg)
{
    setup *s = arg;
    const counters_job what = {.run = job,
                               .arg = s,
                               .before = s->multiplex ? NULL : before,
                               .before_arg = s,
                               .threads = s->threads,
                               .cost = &cost,
                               .workspace = 4096,
                               .multiplex = s->multiplex};
    setenv("PMU", s->script, 1);
    json *out = counters_measure(&what);
    if (!s->multiplex) assert_int_equal(s->before, s->calls);
    json_put_number(out, "calls", s->calls);
    json_put(out, "described", counters_describe());
    json_put_number(out, "open_sets", pmu_open_sets());
    json_put_number(out, "misuses", pmu_misuses());
    return out;
}

static json *run(const char *script, int threads, bool multiplex)
{
    setup s = { script, threads, multiplex, 0, 0 };
    const isolate_limits limits = { .seconds = 60 };
    isolate_result result;
    error e;
    if (isolate_run(child, &s, &limits, &result, &e) < 0)
        fail_msg("%s", e.text);
    if (strcmp(result.status, "ok"))
        fail_msg("%s: %s, %s", script, result.status, result.reason);
    assert_int_equal(json_number(json_get(result.value, "open_sets"), -1), 0);
    assert_int_equal(json_number(json_get(result.value, "misuses"), -1), 0);
    return result.value;
}

static double number(const json *out, const char *role, const char *key)
{
    return json_number(json_get(json_get(out, role), key), NAN);
}

static const char *text(const json *out, const char *role, const char *key)
{
    const char *s = json_text(json_get(json_get(out, role), key));
    return s ? s : "";
}

static void expect(const json *out, const char *role, double value)
{
    if (number(out, role, "value") != value)
        fail_msg("%s is %g (%s), expected %g", role, number(out, role, "value"),
                 text(out, role, "reason"), value);
}

/* Without a value, with a reason that has these words. */
static void expect_none(const json *out, const char *role, const char *words)
{
    if (!isnan(number(out, role, "value")) ||
        !strstr(text(out, role, "reason"), words))
        fail_msg("%s is %g, reason '%s', expected none and '%s'", role,
                 number(out, role, "value"), text(out, role, "reason"), words);
}

static void expect_source(const json *out, const char *role, const char *source)
{
    if (strcmp(text(out, role, "source"), source))
        fail_msg("%s is of '%s', not %s", role, text(out, role, "source"),
                 source);
}

/* The model's counts need no processor. */
static void expect_model(const json *out)
{
    expect(out, "FLOP_MULADD", 1000);
    expect(out, "FLOP_TOTAL", 2100);
    expect(out, "PAIRS", 50);
    expect(out, "BYTES_WRITTEN", 70);
    expect(out, "WORKSPACE", 4096);
    expect_source(out, "PAIRS", "papi-sde");
}

/* All hardware roles, of one thread: 10 units. */
static void expect_all(const json *out)
{
    for (int r = 0; r < ROLES; r++) {
        expect(out, hardware[r], 10 * (double)per_unit[r]);
        expect_source(out, hardware[r], "papi-hw");
    }
}

/* ---- choosing ---------------------------------------------------------------
 */

/* "A + 4*B" as "A=1 B=1 "; returns 1 + 4. */
static double offer(const char *sum, char *script, size_t size)
{
    double factors = 0;
    for (const char *p = sum; *p;) {
        const size_t length = strcspn(p, "+");
        char name[160];
        double factor = 1;
        if (memchr(p, '*', length)) factor = strtod(p, NULL);
        const char *start = memchr(p, '*', length);
        sscanf(start ? start + 1 : p, " %159[^ +]", name);
        const size_t at = strlen(script);
        snprintf(script + at, size - at, "%s=1 ", name);
        factors += factor;
        p += length + (p[length] == '+');
    }
    return factors;
}

static bool of_papi(const struct candidate *c)
{
    return strncmp(c->event, "perf:", 5) && strncmp(c->event, "sde:::", 6);
}

/* Every event of the table is found where it is the only one, sums with their
 * factors. */
static void every_candidate(void **state)
{
    int tried = 0;
    (void)state;
    for (int i = 0; i < CANDIDATES; i++) {
        const struct candidate *c = &candidates[i];
        char script[600] = "counters=8 ";
        if (!of_papi(c)) continue;
        const double factors = offer(c->event, script, sizeof script);
        json *out = run(script, 1, false);
        assert_string_equal(text(out, c->role, "event"), c->event);
        expect(out, c->role, 10 * factors);
        expect_source(out, c->role, "papi-hw");
        json_free(out);
        tried++;
    }
    assert_true(tried >= 30);
}

/* Where all are there, the first of each role is taken; without it the second.
 */
static void table_order(void **state)
{
    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        char script[8000] = "counters=8 ";
        const char *wanted[CANDIDATES];
        int roles = 0, before = 0;
        for (int i = 0; i < CANDIDATES; i++) {
            const bool new =
                i == 0 || strcmp(candidates[i].role, candidates[i - 1].role);
            before = new ? 0 : before + 1;
            if (before < skip || !of_papi(&candidates[i])) continue;
            if (before == skip) wanted[roles++] = candidates[i].event;
            if (!strchr(candidates[i].event, '+'))
                offer(candidates[i].event, script, sizeof script);
        }
        json *out = run(script, 1, false);
        for (int r = 0; r < roles && r < ROLES; r++)
            if (!strchr(wanted[r], '+'))
                assert_string_equal(text(out, hardware[r], "event"), wanted[r]);
        json_free(out);
    }
}

/* A preset that PAPI lists, but that cannot be added. */
static void native_instead(void **state)
{
    (void)state;
    json *out =
        run("PAPI_L1_DCM=9~0 L1D:REPLACEMENT=4 PAPI_TOT_CYC=1", 1, false);
    expect(out, "l1d_miss", 40);
    assert_string_equal(text(out, "l1d_miss", "event"), "L1D:REPLACEMENT");
    json_free(out);
}

/* ---- passes -----------------------------------------------------------------
 */

static void passes(void **state)
{
    static const struct {
        const char *more;
        int calls;
    } cases[] = {
        { "", 4 },
        { "counters=1", 8 },
        { "counters=3", 3 },
        { "counters=16", 1 },
        { "counters=16 PAPI_TOT_CYC!PAPI_TOT_INS", 2 },
        {"counters=16 PAPI_TOT_CYC!PAPI_TOT_INS PAPI_TOT_INS!PAPI_L1_DCM "
         "PAPI_L1_DCM!PAPI_TOT_CYC",
         3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char script[400];
        snprintf(script, sizeof script, PRESETS "%s", cases[i].more);
        json *out = run(script, 1, false);
        expect_all(out);
        expect_model(out);
        assert_int_equal(json_number(json_get(out, "calls"), 0),
                         cases[i].calls);
        for (int r = 0; r < ROLES; r++) {
            assert_int_equal(number(out, hardware[r], "passes"), 1);
            assert_null(json_get(json_get(out, hardware[r]), "estimate"));
            assert_null(json_get(json_get(out, hardware[r]), "imbalance"));
        }
        json_free(out);
    }
}

/* A derived preset takes two counters, a sum of four events two passes. */
static void wide_events(void **state)
{
    (void)state;
    json *out = run(SIX_PRESETS "PAPI_SP_OPS=64/2 PAPI_RES_STL=13", 1, false);
    expect_all(out);
    assert_int_equal(json_number(json_get(out, "calls"), 0), 5);
    json_free(out);

    out =
        run(SIX_PRESETS "PAPI_RES_STL=13 FP_ARITH_INST_RETIRED:SCALAR_SINGLE=7 "
                        "FP_ARITH_INST_RETIRED:128B_PACKED_SINGLE=5 "
                        "FP_ARITH_INST_RETIRED:256B_PACKED_SINGLE=3 "
                        "FP_ARITH_INST_RETIRED:512B_PACKED_SINGLE=1",
            1, false);
    expect(out, "flops_sp", 10 * (7 + 4 * 5 + 8 * 3 + 16 * 1));
    assert_int_equal(number(out, "flops_sp", "passes"), 2);
    json_free(out);
}

static void multiplexed(void **state)
{
    (void)state;
    json *out = run(PRESETS, 2, true);
    const double calls = number(out, "cycles", "passes");
    assert_true(calls > 1);
    for (int r = 0; r < ROLES; r++) {
        const double exact = 30 * (double)per_unit[r];
        const double value = number(out, hardware[r], "value");
        if (!(fabs(value - 1.01 * exact) < 0.001 * exact))
            fail_msg("%s is %g, not an estimate of %g", hardware[r], value,
                     exact);
        assert_true(number(out, hardware[r], "passes") == calls);
        assert_true(
            json_true(json_get(json_get(out, hardware[r]), "estimate")));
    }
    expect_model(out); /* of one call, in a pass of its own */
    assert_null(json_get(json_get(out, "PAIRS"), "estimate"));
    json_free(out);

    /* What cannot be multiplexed is counted exactly. */
    out = run(PRESETS "multiplex=-4", 1, true);
    expect_all(out);
    assert_null(json_get(json_get(out, "cycles"), "estimate"));
    json_free(out);
}

/* ---- threads
 * ------------------------------------------------------------------ */

static void two_threads(void **state)
{
    (void)state;
    json *out = run(PRESETS, 2, false);
    for (int r = 0; r < ROLES; r++) {
        expect(out, hardware[r], 30 * (double)per_unit[r]);
        assert_true(number(out, hardware[r], "min") == 10. * per_unit[r]);
        assert_true(number(out, hardware[r], "max") == 20. * per_unit[r]);
        assert_true(fabs(number(out, hardware[r], "imbalance") - 4. / 3) <
                    1e-12);
        assert_string_equal(text(out, hardware[r], "scope"), "thread-sum");
    }
    expect_model(out); /* not twice */
    assert_string_equal(text(out, "PAIRS", "scope"), "process");
    json_free(out);
}

static void failing_thread(void **state)
{
    static const char *const calls[] = {"register", "create", "add",
                                        "start",    "read",   "stop"};
    enum { ESYS = -3 }; /* of papi.h */
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char script[400];
        snprintf(script, sizeof script, PRESETS "%s@1=%d", calls[i], ESYS);
        json *out = run(script, 2, false);
        for (int r = 0; r < ROLES; r++) {
            expect_none(out, hardware[r], "thread 1: ");
            expect_none(out, hardware[r], "A System/C library call failed");
        }
        expect_model(out);
        json_free(out);
    }
}

/* ---- counts that are none
 * ------------------------------------------------------- */

static void overflow(void **state)
{
    (void)state;
    static const char *const bad[] = { "11^", "-1" };
    for (int i = 0; i < 2; i++) {
        char script[400];
        snprintf(script, sizeof script,
                 "PAPI_TOT_CYC=100 PAPI_TOT_INS=70 PAPI_L2_DCM=5 "
                 "PAPI_L3_TCM=3 PAPI_TLB_DM=2 PAPI_SP_OPS=64 PAPI_RES_STL=13 "
                 "PAPI_L1_DCM=%s",
                 bad[i]);
        json *out = run(script, 1, false);
        expect_none(out, "l1d_miss",
                    "PAPI_L1_DCM: counter overflowed or ran "
                    "backwards");
        for (int r = 0; r < ROLES; r++) /* those of the same pass too */
            if (r != 2) expect(out, hardware[r], 10 * (double)per_unit[r]);
        json_free(out);
    }
}

/* Gone once it was added so many times; the others are counted whenever that
 * happens. */
static void disappears(void **state)
{
    (void)state;
    bool had = false, lost = false;
    for (int adds = 1; adds <= 8; adds++) {
        char script[400];
        snprintf(script, sizeof script,
                 "PAPI_TOT_CYC=100 PAPI_TOT_INS=70~%d PAPI_L1_DCM=11 "
                 "PAPI_L2_DCM=5 PAPI_L3_TCM=3 PAPI_TLB_DM=2 PAPI_SP_OPS=64 "
                 "PAPI_RES_STL=13 counters=3",
                 adds);
        json *out = run(script, 2, false);
        const bool there = number(out, "instructions", "value") == 2100;
        if (!there)
            expect_none(out, "instructions",
                        "PAPI_TOT_INS: Event does not exist");
        had |= there;
        lost |= !there;
        for (int r = 0; r < ROLES; r++)
            if (r != 1) expect(out, hardware[r], 30 * (double)per_unit[r]);
        json_free(out);
    }
    assert_true(had && lost);
}

/* ---- no counters
 * ------------------------------------------------------------------ */

static const json *described(const json *out, const char *name)
{
    for (const json *x = json_first(json_get(out, "described")); x;
         x = json_next(x))
        if (!strcmp(json_text(json_get(x, "name")), name)) return x;
    fail_msg("%s is not described", name);
    return NULL;
}

/* Whatever is missing has a reason, in rows and for `doctor`, and a remedy. */
static void explained(const json *out)
{
    for (const json *x = json_first(json_get(out, "described")); x;
         x = json_next(x)) {
        const char *name = json_text(json_get(x, "name"));
        if (json_true(json_get(x, "available"))) continue;
        expect_none(out, name, "");
        if (!*text(out, name, "reason")) fail_msg("%s: no reason", name);
        if (!json_text(json_get(x, "remedy"))) fail_msg("%s: no remedy", name);
    }
}

static void no_counters(void **state)
{
    (void)state;
    json *out = run("", 2, false);
    explained(out);
    expect_model(out);
    for (int r = 0; r < ROLES; r++) /* the kernel may know some */
        if (!isnan(number(out, hardware[r], "value")))
            expect_source(out, hardware[r], "perf-hw");
    json_free(out);

    /* PAPI knows one event, so that there is a PMU and an event is missing. */
    out = run("PAPI_TOT_CYC=1", 1, false);
    explained(out);
    expect(out, "cycles", 10);
    if (isnan(number(out, "l2_miss", "value"))) {
        expect_none(out, "l2_miss", "PAPI_L2_DCM: Event does not exist");
        assert_non_null(
            strstr(json_text(json_get(described(out, "l2_miss"), "remedy")),
                   "harness/counters.txt"));
    }
    json_free(out);
}

static void no_library(void **state)
{
    static const struct {
        const char *script, *words;
    } cases[] = {
        { "library=-3", "PAPI_library_init: A System/C library call failed" },
        { "library=101", "PAPI_library_init: another version" },
        { "library=-99", "PAPI_library_init: unknown error" },
        { "thread_init=-1", "PAPI_thread_init failed" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json *out = run(cases[i].script, 2, false);
        explained(out);
        expect_none(out, "PAIRS", cases[i].words);
        json_free(out);
    }
}

/* ---- energy ---------------------------------------------------------------- */

/* 50 ms, so that meters count far less than 2^32. */
static void hundred_units(void *arg)
{
    const struct timespec t = { 0, 50000000 };
    (void)arg;
    nanosleep(&t, NULL);
    pmu_work(100);
}

static json *take_energy(void *arg)
{
    setenv("PMU", arg, 1);
    json *out = json_object();
    json_put(out, "energy", energy_measure(hundred_units, NULL));
    json_put(out, "described", energy_describe());
    json_put_number(out, "left", pmu_open_sets() + pmu_misuses());
    return out;
}

static json *energy_of(const char *script)
{
    const isolate_limits limits = { .seconds = 60 };
    isolate_result r;
    error e;
    if (isolate_run(take_energy, (void *)script, &limits, &r, &e) < 0)
        fail_msg("%s", e.text);
    if (strcmp(r.status, "ok")) fail_msg("%s: %s, %s", script, r.status, r.reason);
    assert_int_equal(json_number(json_get(r.value, "left"), -1), 0);
    return r.value;
}

static void joules_are(const json *out, const char *key, double joules)
{
    const double x = number(out, "energy", key);
    if (isnan(joules) ? !isnan(x) : !(fabs(x - joules) <= 1e-12 * joules))
        fail_msg("%s is %.12g (%s), expected %.12g", key, x,
                 text(out, "energy", "reason"), joules);
}

/* Counts of a unit, 100 units a call: nanojoules of rapl, microjoules of
 * powercap; packages are added up. */
static void energy_is_exact(void **state)
{
    static const struct {
        const char *script, *source, *meters;
        double package, cores, dram;
    } cases[] = {
        { "rapl:::PACKAGE_ENERGY:PACKAGE0=5000000", "rapl", "package", 0.5, NAN,
          NAN },
        { "rapl:::PACKAGE_ENERGY:PACKAGE0=7000000 "
          "rapl:::PACKAGE_ENERGY:PACKAGE1=5000000 "
          "rapl:::PP0_ENERGY:PACKAGE0=3000000 rapl:::DRAM_ENERGY:PACKAGE1=20000 "
          "powercap:::ENERGY_UJ:ZONE0=1",
          "rapl", "package, cores, dram", 1.2, 0.3, 0.002 },
        { "rapl=-25 powercap:::ENERGY_UJ:ZONE0=30 powercap:::ENERGY_UJ:ZONE1=12",
          "powercap", "package", 42e-4, NAN, NAN },
        { "rapl:::PACKAGE_ENERGY:PACKAGE0=5000000_1", "rapl", "package", 0.5, NAN,
          NAN }, /* wraps around once */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json *out = energy_of(cases[i].script);
        joules_are(out, "package_j", cases[i].package);
        joules_are(out, "cores_j", cases[i].cores);
        joules_are(out, "dram_j", cases[i].dram);
        const double seconds = number(out, "energy", "seconds");
        const double calls = number(out, "energy", "calls");
        const double dram = isnan(cases[i].dram) ? 0 : cases[i].dram;
        assert_true(seconds >= 0.2 && calls >= 1);
        joules_are(out, "watts", (cases[i].package + dram) * calls / seconds);
        assert_string_equal(text(out, "energy", "source"), cases[i].source);
        assert_string_equal(text(out, "described", "meters"), cases[i].meters);
        json_free(out);
    }
}

static void energy_is_refused(void **state)
{
    static const struct {
        const char *script, *why, *remedy;
    } cases[] = {
        { "", "no meter of energy", "" },
        { "rapl=-25 powercap=-25", "no meter of energy", "" },
        { "rapl=-15 powercap=-25 rapl:::PACKAGE_ENERGY:PACKAGE0=1",
          "PAPI's rapl: Can't open fd for cpu0: Permission denied", "chmod a+r" },
        { "rapl=-25 powercap=-15", "PAPI's powercap: Can't open", "as root" },
        { "library=-3", "PAPI_library_init: A System/C", "install the libpapi" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json *out = energy_of(cases[i].script);
        static const char *const keys[] = { "package_j", "cores_j", "dram_j",
                                            "watts", "seconds", "calls" };
        for (int k = 0; k < 6; k++) {
            joules_are(out, keys[k], NAN);
            assert_non_null(json_get(json_get(out, "energy"), keys[k]));
        }
        if (!strstr(text(out, "energy", "reason"), cases[i].why) ||
            !strstr(text(out, "described", "reason"), cases[i].why) ||
            !*text(out, "described", "remedy") ||
            !strstr(text(out, "described", "remedy"), cases[i].remedy))
            fail_msg("'%s': '%s', remedy '%s'", cases[i].script,
                     text(out, "energy", "reason"),
                     text(out, "described", "remedy"));
        json_free(out);
    }
    /* a meter that fails again: no joules, but a reason */
    json *out = energy_of("rapl:::PACKAGE_ENERGY:PACKAGE0=5_2");
    joules_are(out, "package_j", NAN);
    assert_non_null(strstr(text(out, "energy", "reason"), "ran backwards"));
    json_free(out);
}

/* ---- refusals ------------------------------------------------------------- */

/* perf_event_open fails with this number from here on, as containers do it. */
static bool forbid_perf(int number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = { sizeof code / sizeof *code, code };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static json *ask_filtered(void *arg)
{
    char why[COUNTER_WHY] = "", remedy[COUNTER_WHY] = "";
    json *out = json_object();
    json_put_bool(out, "filtered", forbid_perf(*(int *)arg));
    json_put_bool(out, "none", counter_perf_no_pmu(why, remedy));
    json_put_text(out, "why", why);
    json_put_text(out, "remedy", remedy);
    return out;
}

static void filter_is_named(void **state)
{
    static int numbers[] = { EPERM, ENOSYS, EACCES };
    const isolate_limits limits = { .seconds = 60 };
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        isolate_result r;
        error e;
        int level = 2;
        FILE *f = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
        if (f && fscanf(f, "%d", &level) != 1) level = 2;
        if (f) fclose(f);
        if (numbers[i] == EACCES && level > 2) continue; /* the kernel's own */
        assert_int_equal(isolate_run(ask_filtered, &numbers[i], &limits, &r, &e),
                         0);
        if (strcmp(r.status, "ok")) fail_msg("%s: %s", r.status, r.reason);
        if (!json_true(json_get(r.value, "filtered"))) skip();
        assert_true(json_true(json_get(r.value, "none")));
        const char *why = json_text(json_get(r.value, "why"));
        if (!strstr(why, "seccomp") || strstr(why, "paranoid") ||
            !strstr(json_text(json_get(r.value, "remedy")), "seccomp"))
            fail_msg("error %d is explained by '%s'", numbers[i], why);
        json_free(r.value);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_candidate), cmocka_unit_test(table_order),
        cmocka_unit_test(native_instead),  cmocka_unit_test(passes),
        cmocka_unit_test(wide_events),     cmocka_unit_test(multiplexed),
        cmocka_unit_test(two_threads),     cmocka_unit_test(failing_thread),
        cmocka_unit_test(overflow),        cmocka_unit_test(disappears),
        cmocka_unit_test(no_counters),     cmocka_unit_test(no_library),
        cmocka_unit_test(energy_is_exact), cmocka_unit_test(energy_is_refused),
        cmocka_unit_test(filter_is_named),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
