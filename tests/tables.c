/* tables.c - what tables, figures, comparisons and merges make of journals that are
 * written here by hand, to the letter.  (plots/)
 */
#include "test.h"

#include "../harness/commands.h"
#include "../harness/error.h"
#include "../harness/file.h"
#include "../plots/columns.h"
#include "../plots/figures.h"
#include "../plots/quantity.h"
#include "../plots/results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[200];

static const char *in_folder(const char *name)
{
    static char path[4][300];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static char *text_of(const char *name)
{
    char *text;
    size_t size;
    error e;
    if (file_read(in_folder(name), 1 << 20, &text, &size, &e)) fail_msg("%s", e.text);
    return text;
}

/* ---- journals ------------------------------------------------------------------ */

static FILE *journal_begin(const char *run)
{
    char path[300];
    error e;
    if (folder_make(in_folder(run), &e)) fail_msg("%s", e.text);
    snprintf(path, sizeof path, "%s/%s/journal.jsonl", folder, run);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    return f;
}

/* Program `binary` on machine `machine`, in which flash has that code. */
static void put_env(FILE *f, const char *id, const char *machine, const char *binary,
                    const char *code)
{
    fprintf(f, "{\"kind\":\"env\",\"schema\":1,\"id\":\"%s\",\"machine_id\":\"%s\","
               "\"binary\":\"%s\",\"codes\":{\"softmax.flash/v3\":\"%s\","
               "\"linear.fused/v3\":\"cl\"},\"compiler\":\"gcc 12\","
               "\"flags\":\"-g -O3 -Wall -fPIC -march=x -fopenmp\","
               "\"git_revision\":\"1a2b3c4\",\"cpu\":{\"name\":\"CPU of %s\"},"
               "\"topology\":{\"usable_cores\":2},\"virtualisation\":\"KVM\","
               "\"roofline\":{\"cache_bytes\":{\"L1\":24000,\"L2\":1000000},"
               "\"ceilings\":[{\"level\":\"v2\",\"threads\":1,\"fma_flop_per_s\":5e10},"
               "{\"level\":\"v3\",\"threads\":1,\"fma_flop_per_s\":1e11,"
               "\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":1e11,\"copy\":2e11},"
               "\"memory\":{\"read\":2e10,\"copy\":1e10}}}]}}\n",
            id, machine, binary, code, machine);
}

/* A timed case.  Zero: the usual: env e1, code of the kernel, ok. */
typedef struct timed {
    const char *kernel;
    int tokens, head_dim;
    double ns, lo, hi;
    const char *env, *code, *status;
    double fraction;
    bool unreliable;
    int threads, touched;
    const char *samples; /* JSON                                               */
    const char *level, *pass;
    int rows; /* of a grid of two axes; 0: one axis                            */
} timed;

/* N = 64: 20000 operations, of which 2 x 9000, on 8000 bytes. */
static void put_case(FILE *f, const timed *c)
{
    const bool soft = !strncmp(c->kernel, "softmax", 7);
    const char *mechanism = soft ? "softmax" : "linear";
    const double k = c->tokens / 64.0, d = c->head_dim ? c->head_dim : 8;
    const int threads = c->threads ? c->threads : 1;
    char grid[40];
    if (c->rows) snprintf(grid, sizeof grid, "%d,%d", c->rows, c->tokens / c->rows);
    else snprintf(grid, sizeof grid, "%d", c->tokens);
    const char *level = c->level ? c->level : "v3", *pass = c->pass ? c->pass : "forward";
    fprintf(f, "{\"kind\":\"case\",\"schema\":1,\"case\":\"%s/%s=%s,d=%g,h=1,b=1,t=%d,%s,"
               "%s\",\"env\":\"%s\",\"code\":\"%s\",\"mechanism\":\"%s\","
               "\"family\":\"%s\",\"kernel\":\"%s\",\"level\":\"%s\",\"threads\":%d,"
               "\"pass\":\"%s\",\"problem\":{\"grid\":[%s],\"head_dim\":%g,"
               "\"heads\":1,\"batch\":1,\"dtype\":\"f32\",\"tokens\":%d},"
               "\"status\":\"%s\",\"reason\":%s,",
            c->kernel, c->rows ? "g" : "n", grid, d, threads, level, pass, c->env ? c->env : "e1",
            c->code ? c->code : soft ? "cs" : "cl", mechanism, mechanism, c->kernel,
            level, threads, pass, grid, d, c->tokens, c->status ? c->status : "ok",
            c->status ? "\"why\"" : "null");
    if (c->status) fputs("\"time_ns\":null,\"roofline\":null,", f);
    else
        fprintf(f, "\"time_ns\":{\"median\":%.10g,\"lo\":%.10g,\"hi\":%.10g,"
                   "\"min\":%.10g,\"mad\":10,\"n\":%d,\"touched\":%d,\"processes\":5,"
                   "\"stop\":\"ci\",\"unreliable\":%s,\"samples\":%s},"
                   "\"roofline\":{\"bound\":\"compute\",\"peak_gflops\":100,"
                   "\"attainable_gflops\":80,\"fraction\":%g,\"implausible\":%s},",
                c->ns, c->lo, c->hi, c->ns - 50, 25 - c->touched, c->touched,
                c->unreliable ? "true" : "false", c->samples ? c->samples : "[]",
                c->fraction, c->fraction > 1.02 ? "true" : "false");
    fprintf(f, "\"flop\":{\"mul_add\":%g,\"add\":%g,\"mul\":%g,\"div\":0,\"exp\":%g,"
               "\"total\":%g},\"pairs\":%d,\"bytes\":{\"compulsory\":%g,"
               "\"workspace\":%g,\"state\":0,\"saved\":0,\"parameters\":0,"
               "\"inputs\":%g,\"peak_rss\":%g},\"check\":{\"max_abs\":1e-6}}\n",
            9000 * k * k, 1000 * k * k, 500 * k * k, 500 * k * k, 20000 * k * k,
            c->tokens * c->tokens, 8000 * k, soft ? 0 : 4096 * k, 8000 * k, 1e6 * k);
}

/* 5 processes of 5 samples around ns, all within 0.2 %. */
static const char *samples_of(double ns)
{
    static char text[4][2000];
    static int turn;
    char *t = text[turn++ % 4], *at = t;
    *at++ = '[';
    for (int p = 0; p < 5; p++) {
        at += sprintf(at, "%s{\"calls\":10,\"ns\":[", p ? "," : "");
        for (int i = 0; i < 5; i++)
            at += sprintf(at, "%s%.8g", i ? "," : "",
                          ns * (1 + 0.0002 * (p - 2) + 0.0003 * (i - 2)));
        at += sprintf(at, "],\"touched\":[],\"stop\":\"ci\"}");
    }
    strcpy(at, "]");
    return t;
}

static void put_end(FILE *f)
{
    fputs("{\"kind\":\"end\",\"schema\":1,\"env\":\"e1\",\"fits\":["
          "{\"series\":\"softmax.flash/d=8,h=1,b=1,t=1,v3,forward\",\"kernel\":"
          "\"softmax.flash\",\"level\":\"v3\",\"pass\":\"forward\",\"regime\":\"all\","
          "\"exponent\":1.9876,\"lo\":1.98,\"hi\":2.02,\"points\":3,\"tokens_min\":64,"
          "\"tokens_max\":256,\"workspace_exponent\":-0.001},"
          "{\"series\":\"linear.fused/d=8,h=1,b=1,t=1,v3,forward\",\"kernel\":"
          "\"linear.fused\",\"level\":\"v3\",\"pass\":\"forward\",\"regime\":\"L1\","
          "\"exponent\":1,\"lo\":0.9,\"hi\":1.1,\"points\":3,\"tokens_min\":64,"
          "\"tokens_max\":256}],\"crossings\":[{\"series\":"
          "\"linear.fused/d=8,h=1,b=1,t=1,v3,forward\",\"kernel\":\"linear.fused\","
          "\"baseline\":\"softmax.flash/d=8,h=1,b=1,t=1,v3,forward\",\"faster\":\"above\","
          "\"tokens\":192.3,\"lo\":180.6,\"hi\":null}]}\n", f);
}

/* Softmax in N^2, linear in N: 3, 1.5 and 0.75 of its time. */
static void usual_run(const char *name)
{
    static const timed cases[] = {
        { "softmax.flash", 64, 8, 1100, 1000, 1200, .fraction = .3 }, /* replaced */
        { "softmax.flash", 64, 8, 1000, 980, 1020, .fraction = .5 },
        { "softmax.flash", 128, 8, 4000, 3900, 4200, .fraction = .4 },
        { "softmax.flash", 256, 8, 16000, 15900, 16100, .fraction = .25 },
        { "linear.fused", 64, 8, 3000, 2900, 3100, .fraction = .1 },
        { "linear.fused", 128, 8, 6000, 5950, 6050, .fraction = 1.25 },
        { "linear.fused", 256, 8, 12000, 11000, 13000, .fraction = .2,
          .unreliable = true },
        { "linear.fused", 512, 8, .status = "timeout" },
    };
    FILE *f = journal_begin(name);
    put_env(f, "e1", "m1", "b1", "cs");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) put_case(f, &cases[i]);
    put_end(f);
    fclose(f);
}

/* ---- commands ------------------------------------------------------------------ */

typedef int command(int argc, char **argv);

/* Runs "attnbench ...", whose output goes to the files out and err of the folder.
 * Words of `line` that begin with @ are folders there. */
static int run(command *what, const char *line)
{
    char copy[1000], *argv[40], paths[40][300];
    int argc = 0, saved[2];
    static const char *const names[2] = { "out", "err" };
    snprintf(copy, sizeof copy, "%s", line);
    argv[argc++] = (char[]){ "attnbench test" };
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        if (*word == '@') {
            snprintf(paths[argc], sizeof *paths, "%s/%s", folder, word + 1);
            word = paths[argc];
        }
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        saved[i] = dup(i + 1);
        if (!freopen(in_folder(names[i]), "w", i ? stderr : stdout)) abort();
    }
    const int code = what(argc, argv);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
    }
    return code;
}

/* Words as they are, numbers to 10 digits. */
static void same_cells(const char *is, const char *want)
{
    const char *a = is, *b = want;
    while (*a || *b) {
        const size_t n = strcspn(a, ",\t\n"), m = strcspn(b, ",\t\n");
        char *end_a, *end_b;
        const double x = strtod(a, &end_a), y = strtod(b, &end_b);
        const bool numbers = n && m && end_a == a + n && end_b == b + m;
        const bool same = numbers ? fabs(x - y) <= 1e-10 * fabs(y) ||
                                        (isnan(x) && isnan(y))
                                  : n == m && !strncmp(a, b, n);
        if (!same || a[n] != b[m])
            fail_msg("'%.*s', not '%.*s' in:\n%s", (int)n, a, (int)m, b, is);
        a += n + (a[n] != 0);
        b += m + (b[m] != 0);
    }
}

static void prints(command *what, const char *line, int code, const char *want)
{
    const int is = run(what, line);
    char *text = text_of("out"), *told = text_of("err");
    if (is != code) fail_msg("%s: exit code %d: %s", line, is, told);
    same_cells(text, want);
    free(text);
    free(told);
}

/* Several spaces count as one: the widths of columns are no matter here. */
static void says(const char *file, const char *part, bool wanted)
{
    char *text = text_of(file), *to = text;
    for (const char *from = text; *from; from++)
        if (*from != ' ' || from[1] != ' ') *to++ = *from;
    *to = 0;
    if (!strstr(text, part) == wanted)
        fail_msg("%s '%s':\n%s", wanted ? "nothing says" : "something says", part, text);
    free(text);
}

/* Data of a figure of a run, from the head of its columns on. */
static char *figure_of(const char *dir, const char *name, bool caches)
{
    char file[100];
    results r;
    columns c;
    error e;
    const figure_request q = { .name = name, .file = name, .dir = folder, .width = 490,
                               .caches = caches };
    if (results_read(&r, in_folder(dir), RESULTS_TIMED, NULL, &e)) fail_msg("%s", e.text);
    columns_make(&c, &r);
    if (figures_draw(&q, &r, &c, &e) != 1) fail_msg("%s: %s", name, e.text);
    columns_free(&c);
    results_free(&r);
    snprintf(file, sizeof file, "%s.tsv", name);
    char *text = text_of(file), *from = strstr(text, "# x\t");
    assert_non_null(from);
    memmove(text, from, strlen(from) + 1);
    return text;
}

/* ---- tables -------------------------------------------------------------------- */

/* Rates are amounts over times, and their ends are turned round; the later of two rows
 * of a case counts; what failed has its status and no numbers. */
static void numbers_for_programs(void **state)
{
    (void)state;
    usual_run("run");
    prints(command_table,
           "@run --format csv --columns kernel,n,status,time,time_lo,time_hi,time_min,"
           "samples", 0,
           "kernel,tokens,status,time_ns,time_lo_ns,time_hi_ns,time_min_ns,samples\n"
           "linear.fused,64,ok,3000,2900,3100,2950,25\n"
           "linear.fused,128,ok,6000,5950,6050,5950,25\n"
           "linear.fused,256,ok,12000,11000,13000,11950,25\n"
           "linear.fused,512,timeout,,,,,\n"
           "softmax.flash,64,ok,1000,980,1020,950,25\n"
           "softmax.flash,128,ok,4000,3900,4200,3950,25\n"
           "softmax.flash,256,ok,16000,15900,16100,15950,25\n");
    prints(command_table,
           "@run --format csv --kernel softmax.flash --columns n,gflops,fraction,peak,"
           "attainable,bandwidth,intensity,pairs,flop,mul_add,add,mul,div,exp", 0,
           "tokens,flop_per_s,fraction_of_roof,peak_flop_per_s,attainable_flop_per_s,"
           "bytes_per_s,flop_per_byte,pairs,flop,flop_mul_add,flop_add,flop_mul,"
           "flop_div,flop_exp\n"
           "64,20000000000,0.5,100000000000,80000000000,8000000000,2.5,4096,20000,9000,"
           "1000,500,0,500\n"
           "128,20000000000,0.4,100000000000,80000000000,4000000000,5,16384,80000,36000,"
           "4000,2000,0,2000\n"
           "256,20000000000,0.25,100000000000,80000000000,2000000000,10,65536,320000,"
           "144000,16000,8000,0,8000\n");
    prints(command_table,
           "@run --format csv --where n=256 --columns kernel,workspace,peak_rss,"
           "compulsory,max_abs", 0,
           "kernel,workspace_bytes,peak_rss_bytes,compulsory_bytes,max_abs_error\n"
           "linear.fused,16384,4000000,32000,1e-06\n"
           "softmax.flash,0,4000000,32000,1e-06\n");
}

/* Digits end where the interval begins; a dagger where a time is not to be relied on,
 * or above the roof. */
static void numbers_for_people(void **state)
{
    (void)state;
    usual_run("run");
    run(command_table, "@run --columns kernel,n,time,fraction,gflops");
    says("out", "| linear.fused | 64 | 3.0 | 0.100 | 6.7 |\n", true);
    says("out", "| linear.fused | 128 | 6.00† | 1.25† | 13.3† |\n", true);
    says("out", "| linear.fused | 256 | 12† | 0.20† | 27† |\n", true);
    says("out", "| softmax.flash | 64 | 1.00 | 0.50 | 20.0 |\n", true);
    says("out", "| softmax.flash | 128 | 4.0 | 0.40 | 20.0 |\n", true);
    says("out", "CPU of m1, 2 cores, KVM guest; gcc 12 -O3 -march=x -fopenmp; "
                "revision 1a2b3c4.", true);
}

/* The best of a column is bold where its interval is clear of the next one's. */
static void pivots(void **state)
{
    (void)state;
    usual_run("run");
    run(command_table, "@run --rows kernel --cols n --metric time");
    says("out", "|---------------|---------:|--------:|--------:|--------:|\n"
                "| linear.fused | 3.0 | 6.00† | **12†** | timeout |\n", true);
    says("out", "| softmax.flash | **1.00** | **4.0** | 16.0 | - |\n", true);
    says("out", "time per call (µs) over sequence length N.", true);
    run(command_table, "@run --rows kernel --cols n --metric gflops");
    says("out", "| softmax.flash | **20.0** | **20.0** | 20.0 | - |\n", true);
    run(command_table, "@run --rows kernel --cols n --metric workspace");
    says("out", "| linear.fused | 4.10 | 8.19 | 16.4 | timeout |\n", true);
    says("out", "| softmax.flash | **0** | **0** | **0** | - |\n", true);
    FILE *f = journal_begin("tie"); /* intervals that touch decide nothing */
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 950, 1100, .env = "e1" });
    put_case(f, &(timed){ "linear.fused", 64, 8, 1200, 1050, 1300, .env = "e1" });
    fclose(f);
    run(command_table, "@tie --rows kernel --cols n");
    says("out", "**", false);
}

static void fits_and_crossings(void **state)
{
    (void)state;
    usual_run("run");
    run(command_table, "@run --fits");
    says("out", "| softmax.flash/d=8,h=1,b=1,t=1,v3,forward | softmax.flash | v3 | forward "
                "| all | 1.99 | 1.98 | 2.02 | 3 | 64 | 256 | 0.00 |\n", true);
    says("out", "| L1 | 1.00 | 0.90 | 1.10 | 3 | 64 | 256 | - |\n", true);
    says("out", "| linear.fused | softmax.flash/d=8,h=1,b=1,t=1,v3,forward | above | 192 | "
                "181 | - |\n", true);
    run(command_table, "@run --fits --format csv");
    says("out", ",all,1.9876,1.98,2.02,3,64,256,-0.001\n", true);
}

/* Of a machine's rows those of the newest program, and those of earlier ones whose
 * kernel is the same; others are left out and told. */
static void environments(void **state)
{
    (void)state;
    FILE *f = journal_begin("envs");
    put_env(f, "e1", "m1", "b1", "old");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 990, 1010, .code = "old" });
    put_case(f, &(timed){ "linear.fused", 64, 8, 3000, 2990, 3010, .env = "e1" });
    put_env(f, "e2", "m2", "b2", "cs");
    put_case(f, &(timed){ "softmax.flash", 96, 8, 500, 490, 510, .env = "e2" });
    put_env(f, "e3", "m1", "b3", "cs");
    put_case(f, &(timed){ "softmax.flash", 128, 8, 4000, 3990, 4010, .env = "e3" });
    fclose(f);
    prints(command_table, "@envs --format csv --columns kernel,n", 0,
           "kernel,tokens\nlinear.fused,64\nsoftmax.flash,128\n");
    says("err", "2 cases of another machine or of other code are left out (of "
                "softmax.flash); --env all mixes them in", true);
    prints(command_table, "@envs --format csv --columns kernel,n --env all", 0,
           "kernel,tokens\nlinear.fused,64\nsoftmax.flash,64\nsoftmax.flash,96\n"
           "softmax.flash,128\n");
    prints(command_table, "@envs --format csv --columns kernel,n --env e1", 0,
           "kernel,tokens\nlinear.fused,64\nsoftmax.flash,64\n");
    f = journal_begin("machines"); /* one program on two machines */
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 990, 1010, .env = "e1" });
    put_env(f, "e2", "m2", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 96, 8, 500, 490, 510, .env = "e2" });
    fclose(f);
    prints(command_table, "@machines --format csv --columns kernel,n", 0,
           "kernel,tokens\nsoftmax.flash,96\n");
}

/* Axes that are no keys stand at one value: forward, the highest level, else that of
 * most cases, of as many the first; what that leaves out is told. */
static void held_axes(void **state)
{
    (void)state;
    static const timed cases[] = {
        { "softmax.flash", 64, 8, 1000, 990, 1010, .level = "v3" },
        { "softmax.flash", 128, 8, 4000, 3990, 4010, .level = "v3" },
        { "softmax.flash", 64, 16, 1600, 1590, 1610, .level = "v3" },
        { "softmax.flash", 64, 8, 700, 690, 710, .threads = 2 },
        { "softmax.flash", 64, 8, 3000, 2990, 3010, .pass = "backward" },
        { "softmax.flash", 64, 8, 2000, 1990, 2010, .level = "v2" },
        { "softmax.flash", 128, 8, 8000, 7990, 8010, .level = "v2" },
        { "softmax.flash", 256, 8, 9000, 8990, 9010, .level = "v2" },
        { "softmax.flash", 512, 8, 9500, 9490, 9510, .level = "v2" },
    };
    FILE *f = journal_begin("held");
    put_env(f, "e1", "m1", "b1", "cs");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) put_case(f, &cases[i]);
    fclose(f);
    run(command_table, "@held --rows kernel --cols n --env all");
    says("out", "over sequence length N. Fixed: forward, v3, dtype f32, threads 1, batch 1, "
                "heads 1, head_dim 8.", true);
    says("out", "| kernel | 64 | 128 |\n", true);
    says("out", "| softmax.flash | 1.00 | 4.00 |\n", true);
    says("err", "left out: pass backward; level v2; threads 2; head_dim 16; --where chooses",
         true);
    run(command_table, "@held --rows kernel --cols n --env all --where level=v2");
    says("out", "| softmax.flash | 2.00 | 8.00 | 9.00 | 9.50 |\n", true);
    run(command_table, "@held --rows n --cols threads --env all --where d=8");
    says("out", "|-------:|-----:|-----:|\n| 64 | 1.00 | 0.70 |\n", true);
    assert_int_equal(run(command_table, "@held --rows kernel --cols n --env all "
                                        "--where d=12"), 2);
    says("err", "no case with head_dim=12; there is 8, 16", true);
}

/* A map that cannot have exactly N tokens stands at N within 7 %, if its kernel has
 * nothing closer. */
static void near_lengths(void **state)
{
    (void)state;
    static const timed cases[] = {
        { "softmax.flash", 200, 8, 1000, 990, 1010, .env = "e1" },
        { "softmax.flash", 200, 16, 2000, 1990, 2010, .env = "e1" },
        { "softmax.flash", 196, 32, 1900, 1890, 1910, .env = "e1" },
        { "softmax.flash", 200, 64, 8000, 7990, 8010, .env = "e1" },
        { "linear.fused", 188, 8, 500, 490, 510, .env = "e1" },
        { "linear.fused", 188, 16, 900, 890, 910, .env = "e1" },
        { "linear.fused", 184, 32, 1900, 1890, 1910, .env = "e1" },
    };
    FILE *f = journal_begin("near");
    put_env(f, "e1", "m1", "b1", "cs");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) put_case(f, &cases[i]);
    fclose(f);
    char *text = figure_of("near", "headdim-time", false);
    same_cells(text, "# x\ty\tlo\thi\tunreliable\n# softmax.flash\n"
                     "8\t1e-06\t9.9e-07\t1.01e-06\t0\n16\t2e-06\t1.99e-06\t2.01e-06\t0\n"
                     "64\t8e-06\t7.99e-06\t8.01e-06\t0\n\n\n# linear.fused\n"
                     "8\t5e-07\t4.9e-07\t5.1e-07\t0\n16\t9e-07\t8.9e-07\t9.1e-07\t0\n");
    free(text);
    test_drawn(folder, "headdim-time");
}

/* What one in three of the clean samples says is no median to rely on. */
static void few_samples(void **state)
{
    (void)state;
    FILE *f = journal_begin("few");
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 990, 1010, .touched = 22 });
    put_case(f, &(timed){ "softmax.flash", 96, 8, 1000, 990, 1010, .touched = 23 });
    fclose(f);
    results r;
    error e;
    if (results_read(&r, in_folder("few"), RESULTS_TIMED, NULL, &e))
        fail_msg("%s", e.text);
    assert_int_equal(r.count, 2);
    assert_false(r.item[0].unreliable);
    assert_true(r.item[1].unreliable);
    results_free(&r);
}

/* A grid has a side if all are equal; tokens are the product. */
static void axes_of_lists(void **state)
{
    (void)state;
    static const struct { const char *grid; double side, tokens; const char *text; } c[] = {
        { "[7]", 7, 7, "7" }, { "[56,56]", 56, 3136, "56x56" },
        { "[8,7,4]", NAN, 224, "8x7x4" }, { "[]", NAN, NAN, "" },
    };
    enum { N = sizeof c / sizeof *c };
    FILE *f = journal_begin("grids");
    for (int i = 0; i < N; i++)
        fprintf(f, "{\"kind\":\"case\",\"schema\":1,\"case\":\"k/%d\",\"mechanism\":\"m\","
                   "\"kernel\":\"k\",\"level\":\"v3\",\"pass\":\"forward\",\"status\":"
                   "\"unsupported\",\"problem\":{\"grid\":%s}}\n", i, c[i].grid);
    fclose(f);
    results r;
    error e;
    if (results_read(&r, in_folder("grids"), RESULTS_TIMED, NULL, &e))
        fail_msg("%s", e.text);
    assert_int_equal(r.count, N);
    for (int i = 0; i < N; i++) {
        char out[RESULT_TEXT];
        const double side = result_axis_number(&r.item[i], "grid");
        const double tokens = result_axis_number(&r.item[i], "tokens");
        assert_true(side == c[i].side || (isnan(side) && isnan(c[i].side)));
        assert_true(tokens == c[i].tokens || (isnan(tokens) && isnan(c[i].tokens)));
        result_axis(&r.item[i], "grid", out);
        assert_string_equal(out, c[i].text);
    }
    results_free(&r);
}

/* No more digits than the half width of an interval has, or three. */
static void digits_and_units(void **state)
{
    (void)state;
    static const struct { double value, half; const char *text; } n[] = {
        { 1234.5, 20, "1230" }, { 1234.5, 3, "1234" },   { 1.2345, .02, "1.23" },
        { 1.2345, .002, "1.234" }, { 1.5, 0, "1.50" },   { 12.345, 0, "12.3" },
        { 0.0123456, 0, "0.0123" }, { 4096, 0, "4096" }, { NAN, 1, "-" },
        { 0.00000123, 0, "1.23e-06" }, { 987.4, 100, "1000" },
    };
    static const struct { enum quantity q; double value; const char *text; } u[] = {
        { QUANTITY_SECONDS, 1.5e-6, "1.5 µs" },  { QUANTITY_SECONDS, 9.999e-4, "1 ms" },
        { QUANTITY_SECONDS, 2e-10, "0.2 ns" },   { QUANTITY_BYTES, 64000, "64 kB" },
        { QUANTITY_BYTES, 1e9, "1 GB" },         { QUANTITY_FLOP_PER_S, 1.25e11, "125 GFLOP/s" },
        { QUANTITY_BYTES_PER_S, 4.1e10, "41 GB/s" }, { QUANTITY_EVENTS, 1e7, "10 M" },
        { QUANTITY_COUNT, 4096, "4096" },
    };
    char text[64];
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        number_text(n[i].value, n[i].half, text);
        assert_string_equal(text, n[i].text);
    }
    for (size_t i = 0; i < sizeof u / sizeof *u; i++) {
        quantity_text(u[i].q, u[i].value, text, sizeof text);
        assert_string_equal(text, u[i].text);
    }
}

/* ---- figures ------------------------------------------------------------------- */

static void draws(const char *name, const char *want)
{
    char *text = figure_of("run", name, false);
    same_cells(text, want);
    free(text);
}

/* A block of a kernel: x, y in SI units, its ends, and whether it is hollow. */
static void data_of_figures(void **state)
{
    (void)state;
    usual_run("run");
    draws("scaling-time", "# x\ty\tlo\thi\tunreliable\n# softmax.flash\n"
                          "64\t1e-06\t9.8e-07\t1.02e-06\t0\n"
                          "128\t4e-06\t3.9e-06\t4.2e-06\t0\n"
                          "256\t1.6e-05\t1.59e-05\t1.61e-05\t0\n\n\n"
                          "# linear.fused\n64\t3e-06\t2.9e-06\t3.1e-06\t0\n"
                          "128\t6e-06\t5.95e-06\t6.05e-06\t1\n"
                          "256\t1.2e-05\t1.1e-05\t1.3e-05\t1\n");
    draws("scaling-gflops", "# x\ty\tlo\thi\tunreliable\n# softmax.flash\n"
                            "64\t20\t19.60784314\t20.40816327\t0\n"
                            "128\t20\t19.04761905\t20.51282051\t0\n"
                            "256\t20\t19.87577640\t20.12578616\t0\n\n\n"
                            "# linear.fused\n64\t6.666666667\t6.451612903\t6.896551724\t0\n"
                            "128\t13.33333333\t13.2231405\t13.44537815\t1\n"
                            "256\t26.66666667\t24.61538462\t29.09090909\t1\n");
    draws("scaling-memory",
          "# x\ty\tlo\thi\tunreliable\n"
          "# workspace: linear.fused\n64\t4096\tNaN\tNaN\t0\n128\t8192\tNaN\tNaN\t0\n"
          "256\t16384\tNaN\tNaN\t0\n\n\n"
          "# peak resident memory: softmax.flash\n64\t1000000\tNaN\tNaN\t0\n"
          "128\t2000000\tNaN\tNaN\t0\n256\t4000000\tNaN\tNaN\t0\n\n\n"
          "# peak resident memory: linear.fused\n64\t1000000\tNaN\tNaN\t0\n"
          "128\t2000000\tNaN\tNaN\t0\n256\t4000000\tNaN\tNaN\t0\n");
    /* 2 x 9000 operations on 8000 bytes, 18 a nanosecond */
    draws("roofline", "# x\ty\tlo\thi\tunreliable\n# softmax.flash\n"
                      "2.25\t18\t17.64705882\t18.36734694\t0\n"
                      "4.5\t18\t17.14285714\t18.46153846\t0\n"
                      "9\t18\t17.88819876\t18.11320755\t0\n\n\n"
                      "# linear.fused\n2.25\t6\t5.806451613\t6.206896552\t0\n"
                      "4.5\t12\t11.90082645\t12.10084034\t1\n"
                      "9\t24\t22.15384615\t26.18181818\t1\n");
}

/* Of grids of one number of tokens the last counts; lines cross the kernel of softmax
 * that is the fastest at the greatest length. */
static void one_of_several(void **state)
{
    (void)state;
    static const timed cases[] = {
        { "softmax.naive", 64, 8, 3000, 2990, 3010, .env = "e1" },
        { "softmax.naive", 256, 8, 48000, 47900, 48100, .env = "e1" },
        { "softmax.flash", 64, 8, 1000, 990, 1010, .rows = 8 },
        { "softmax.flash", 256, 8, 16000, 15900, 16100, .rows = 16 },
        { "softmax.flash", 64, 8, 1100, 1090, 1110, .rows = 4 },
        { "linear.fused", 64, 8, 3300, 3290, 3310, .env = "e1" },
        { "linear.fused", 256, 8, 12000, 11900, 12100, .env = "e1" },
    };
    FILE *f = journal_begin("several");
    put_env(f, "e1", "m1", "b1", "cs");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) put_case(f, &cases[i]);
    fclose(f);
    char *text = figure_of("several", "scaling-time", false);
    same_cells(text, "# x\ty\tlo\thi\tunreliable\n# softmax.flash\n"
                     "64\t1.1e-06\t1.09e-06\t1.11e-06\t0\n"
                     "256\t1.6e-05\t1.59e-05\t1.61e-05\t0\n\n\n# softmax.naive\n"
                     "64\t3e-06\t2.99e-06\t3.01e-06\t0\n"
                     "256\t4.8e-05\t4.79e-05\t4.81e-05\t0\n\n\n# linear.fused\n"
                     "64\t3.3e-06\t3.29e-06\t3.31e-06\t0\n"
                     "256\t1.2e-05\t1.19e-05\t1.21e-05\t0\n");
    free(text);
    says("scaling-time.md", "Diamonds: where a line crosses that of softmax.flash.", true);
}

/* The number behind `key` in a line of the script that holds `line`; the lines are
 * found one after the other from *at on. */
static double behind(const char **at, const char *line, const char *key)
{
    const char *found = strstr(*at, line);
    if (!found) fail_msg("no line has '%s'", line);
    *at = found + 1;
    found = strstr(found, key);
    assert_non_null(found);
    return strtod(found + strlen(key), NULL);
}

/* The ranges are 2 % wider than the data along N; .12 decades or 5 % along times.  The
 * lines cross at N = 192, where softmax takes 9 us. */
static void commands_of_figures(void **state)
{
    (void)state;
    usual_run("run");
    free(figure_of("run", "scaling-time", true));
    char *text = text_of("scaling-time.gp");
    const char *at = text;
    const double decades = log10(256.0 / 64), x0 = 64 / pow(10, .02 * decades);
    const double x1 = 256 * pow(10, .02 * decades);
    const double y0 = 9.8e-7 / pow(10, .12), y1 = 1.61e-5 * pow(10, .12);
    const double left = behind(&at, "set lmargin", "screen ");
    const double right = behind(&at, "set rmargin", "screen ");
    const double low = behind(&at, "set bmargin", "screen ");
    const double high = behind(&at, "set tmargin", "screen ");
    const struct { const char *line, *key; double want; } range[] = {
        { "set xrange", "[", x0 }, { "", ":", x1 }, { "set yrange", "[", y0 }, { "", ":", y1 },
    };
    for (int i = 0; i < 4; i++) {
        const double is = behind(&at, range[i].line, range[i].key);
        if (fabs(is / range[i].want - 1) > 1e-6) fail_msg("%g, not %g", is, range[i].want);
    }
    assert_non_null(strstr(text, "'2^{6}' 2**6"));
    /* q, k, v, o of 8000 bytes at 64 fill 24000 bytes at 192 */
    const double share = log(192 / x0) / log(x1 / x0);
    const double mark = behind(&at, "set arrow", "from screen ");
    if (fabs(mark - (left + share * (right - left))) > 1e-4) fail_msg("mark at %g", mark);
    assert_non_null(strstr(text, "q, k, v, o fill L1"));
    assert_null(strstr(text, "fill L2"));
    /* exponent of the fit of all lengths, and none of a part of them */
    assert_non_null(strstr(text, "'softmax.flash  N^{1.99}'"));
    assert_non_null(strstr(text, "'linear.fused'"));
    at = strstr(text, "front point pointtype 12");
    assert_non_null(at);
    while (at[-1] != '\n') at--;
    double cross[2];
    assert_int_equal(sscanf(at, "set label '' at screen %lf,%lf", &cross[0], &cross[1]), 2);
    const double up = log(9e-6 / y0) / log(y1 / y0);
    if (fabs(cross[0] - (left + share * (right - left))) > 1e-4 ||
        fabs(cross[1] - (low + up * (high - low))) > 1e-4)
        fail_msg("the lines cross at %g, %g", cross[0], cross[1]);
    free(text);
    free(figure_of("run", "scaling-gflops", false));
    says("scaling-gflops.gp", "measured FMA peak 100 GFLOP/s", true);
    says("scaling-gflops.gp", "using 1:3:4 notitle with filledcurves", true);
    says("scaling-gflops.gp", "using 1:($5==1?$2:NaN) notitle with points", true);
    free(figure_of("run", "roofline", false));
    says("roofline.gp", "L1 200 GB/s", true);
    says("roofline.gp", "memory 10 GB/s", true);
}

/* What a person has looked at once: two kernels, ceilings, marks; several panels. */
static void figures_as_before(void **state)
{
    (void)state;
    static const char *const names[] = { "scaling-time", "scaling-gflops", "scaling-memory",
                                         "roofline" };
    usual_run("run");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(figure_of("run", names[i], true));
        test_drawn(folder, names[i]);
    }
    /* six kernels of two families: a panel for each, softmax in grey beside linear */
    FILE *f = journal_begin("many");
    put_env(f, "e1", "m1", "b1", "cs");
    for (int k = 0; k < 12; k++)
        for (int n = 64; n <= 512 >> k % 3; n *= 2) {
            char kernel[40];
            snprintf(kernel, sizeof kernel, "%s.k%02d", k < 3 ? "softmax" : "linear", k);
            const double ns = (k < 3 ? 0.25 * n : 48 + 8 * k) * n;
            put_case(f, &(timed){ kernel, n, 8, ns, .97 * ns, 1.04 * ns,
                                  .code = k < 3 ? "cs" : "cl", .unreliable = k == n / 64 });
        }
    fclose(f);
    free(figure_of("many", "scaling-time", false));
    char path[300];
    snprintf(path, sizeof path, "%s/scaling-time.gp", folder);
    assert_int_equal(rename(path, in_folder("panels.gp")), 0);
    test_drawn(folder, "panels");
    free(figure_of("many", "roofline", false));
    snprintf(path, sizeof path, "%s/roofline.gp", folder);
    assert_int_equal(rename(path, in_folder("roofline-panels.gp")), 0);
    test_drawn(folder, "roofline-panels");
}

/* ---- compare ------------------------------------------------------------------- */

static void put_sampled(FILE *f, const char *kernel, int tokens, double ns)
{
    put_case(f, &(timed){ kernel, tokens, 8, ns, ns * .999, ns * 1.001,
                          .samples = samples_of(ns) });
}

static void two_runs(void)
{
    static const struct { const char *kernel; int tokens; double a, b; } c[] = {
        { "softmax.flash", 64, 1000, 800 },  { "softmax.flash", 128, 1000, 1000 },
        { "softmax.flash", 256, 1000, 1250 }, { "linear.fused", 64, 2000, 0 },
        { "linear.fused", 96, 0, 3000 },      { "linear.fused", 128, 2000, 2200 },
    };
    for (int side = 0; side < 2; side++) {
        FILE *f = journal_begin(side ? "b" : "a");
        put_env(f, "e1", "m1", "b1", "cs");
        for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
            const double ns = side ? c[i].b : c[i].a;
            if (ns > 0) put_sampled(f, c[i].kernel, c[i].tokens, ns);
        }
        put_case(f, &(timed){ "linear.fused", 256, 8, 5000, 4900, 5100,
                              .samples = samples_of(5000),
                              .status = side ? "wrong" : NULL });
        put_case(f, &(timed){ "linear.fused", 512, 8, 5000, 4900, 5100,
                              .samples = samples_of(5000),
                              .status = side ? NULL : "wrong" });
        fclose(f);
    }
}

/* The ratio of medians B / A: broken and slower cases first. */
static void compared(void **state)
{
    (void)state;
    two_runs();
    assert_int_equal(run(command_compare, "@a @b --format csv"), 0);
    char *text = text_of("out"), *line = strtok(text, "\n");
    static const struct { const char *name; double a, b, ratio; const char *verdict; } w[] = {
        { "linear.fused/n=256", 5000, NAN, NAN, "broken" },
        { "softmax.flash/n=256", 1000, 1250, 1.25, "slower" },
        { "linear.fused/n=128", 2000, 2200, 1.1, "slower" },
        { "softmax.flash/n=64", 1000, 800, 0.8, "faster" },
        { "softmax.flash/n=128", 1000, 1000, 1, "same" },
    };
    assert_string_equal(line, "case,a_time_ns,b_time_ns,ratio,ratio_lo,ratio_hi,verdict");
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        line = strtok(NULL, "\n");
        assert_non_null(line);
        if (strncmp(line + 1, w[i].name, strlen(w[i].name)) &&
            strncmp(line, w[i].name, strlen(w[i].name)))
            fail_msg("%s comes where %s should", line, w[i].name);
        const char *verdict = strrchr(line, ',') + 1;
        assert_string_equal(verdict, w[i].verdict);
        const char *number = strstr(line, ",forward");
        double is[5] = { NAN, NAN, NAN, NAN, NAN };
        number = strchr(number + 1, ',') + 1;
        for (int k = 0; k < 5; k++, number = strchr(number, ',') + 1)
            if (*number != ',') is[k] = strtod(number, NULL);
        assert_true(is[0] == w[i].a);
        if (i == 0) continue;
        assert_true(is[1] == w[i].b && fabs(is[2] / w[i].ratio - 1) < 1e-6);
        assert_true(is[3] <= is[2] && is[2] <= is[4]);
        assert_true(is[3] > 0.97 * is[2] && is[4] < 1.03 * is[2]);
    }
    assert_null(strtok(NULL, "\n"));
    free(text);
    says("err", "1 faster, 2 slower, 1 same, 0 unclear, 1 broken; 1 case only in A, 1 case "
                "only in B", true);
    run(command_compare, "@a @b");
    says("out", "softmax.flash/n=256,d=8,h=1,b=1,t=1,v3,forward 1 µs 1.25 µs +25.0 %", true);
    says("out", "-20.0 %", true);
    says("out", "same (within 3 %)", true);
    says("out", "broken: why", true);
}

/* Every reason for which it is not shown that nothing is slower. */
static void gates(void **state)
{
    (void)state;
    two_runs();
    assert_int_equal(run(command_compare, "@a @a --fail-on slower"), 0);
    assert_int_equal(run(command_compare, "@a @b --fail-on slower"), 1);
    says("err", "--fail-on slower: 2 slower, 1 broken, 1 missing in B\n", true);
    assert_int_equal(run(command_compare, "@a @b --fail-on slower --kernel softmax.flash "
                                          "--min-effect 30%"), 0);
    assert_int_equal(run(command_compare, "@a @b --fail-on slower --kernel softmax.flash "
                                          "--min-effect 0.2"), 1);
    FILE *f = journal_begin("one");
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 999, 1001,
                          .samples = "[{\"ns\":[1000,1001,999,1000,1002,998],"
                                     "\"touched\":[]}]" });
    fclose(f);
    assert_int_equal(run(command_compare, "@one @one --fail-on slower"), 1);
    says("err", "1 of one process only", true);
    f = journal_begin("half");
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 500, 499, 501,
                          .samples = "[{\"ns\":[500,501,499,500,502,498],"
                                     "\"touched\":[]}]" });
    fclose(f);
    run(command_compare, "@one @half"); /* the ratio is told, but decides nothing */
    says("out", " 1 µs 500 ns -50.0 % - - unclear", true);
    for (int side = 0; side < 2; side++) { /* 1.5 % either way are the same */
        f = journal_begin(side ? "less" : "more");
        put_env(f, "e1", "m1", "b1", "cs");
        put_sampled(f, "softmax.flash", 64, side ? 985 : 1000);
        fclose(f);
    }
    run(command_compare, "@more @less");
    says("out", "-1.5 %", true);
    says("out", "0 faster, 0 slower, 1 same, 0 unclear", true);
    run(command_compare, "@less @more");
    says("out", "0 faster, 0 slower, 1 same, 0 unclear", true);
    f = journal_begin("bound");
    put_env(f, "e1", "m1", "b1", "cs");
    put_case(f, &(timed){ "softmax.flash", 64, 8, 1000, 999, 1001,
                          .samples = samples_of(1000), .unreliable = true });
    fclose(f);
    assert_int_equal(run(command_compare, "@bound @bound --fail-on slower"), 1);
    says("err", "--fail-on slower: 1 unreliable", true);
}

/* ---- merge --------------------------------------------------------------------- */

static void put_row(FILE *f, const char *text)
{
    fprintf(f, "%s\n", text);
}

static void run_of(const char *name, const char *const *rows)
{
    FILE *f = journal_begin(name);
    for (; *rows; rows++) put_row(f, *rows);
    fclose(f);
}

#define ENV(id) "{\"kind\":\"env\",\"schema\":1,\"id\":\"" id "\"}"
#define CASE(env, name, rest)                                                            \
    "{\"kind\":\"case\",\"schema\":1,\"case\":\"" name "\",\"env\":\"" env "\"," rest "}"
#define OK "\"status\":\"ok\",\"code\":\"c\""
#define CUT "\"status\":\"interrupted\",\"code\":\"c\""

static void merges(const char *options, int code, const char *const *want)
{
    char line[300], *text, wanted[4000] = "";
    unlink(in_folder("m/journal.jsonl"));
    snprintf(line, sizeof line, "@m @x @y %s", options);
    assert_int_equal(run(command_merge, line), code);
    for (; *want; want++) {
        strcat(wanted, *want);
        strcat(wanted, "\n");
    }
    if (code == 0) {
        text = text_of("m/journal.jsonl");
        assert_string_equal(text, wanted);
        free(text);
    } else assert_true(access(in_folder("m/journal.jsonl"), F_OK) != 0);
}

/* Rows that are the same are kept once, at their first place; of one journal the last
 * row of a case counts; rows that end a run go. */
static void merged_rows(void **state)
{
    (void)state;
    run_of("x", (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":1"),
                                  CASE("e1", "q", CUT), CASE("e1", "p", OK ",\"n\":2"),
                                  CASE("e1", "r", OK),
                                  "{\"kind\":\"end\",\"schema\":1}", NULL });
    run_of("y", (const char *[]){ ENV("e2"), CASE("e2", "r", OK ",\"n\":3"), ENV("e1"),
                                  CASE("e1", "q", OK), CASE("e1", "r", CUT), NULL });
    merges("", 0, (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":2"),
                                    CASE("e1", "q", OK), CASE("e1", "r", OK), ENV("e2"),
                                    CASE("e2", "r", OK ",\"n\":3"), NULL });
    says("err", "4 cases in", true);
    says("err", "1 rows were there twice, 1 closing rows left out", true);
    says("err", "1 case was measured in several of these runs", true);
}

/* Two results of one case in one environment: nothing is written, unless it is said
 * which counts. */
static void merged_conflicts(void **state)
{
    (void)state;
    run_of("x", (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":1"), NULL });
    run_of("y", (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":2"), NULL });
    merges("", 1, (const char *[]){ NULL });
    says("err", "1 conflict, the first: case p:", true);
    merges("--prefer first", 0,
           (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":1"), NULL });
    merges("--prefer last", 0,
           (const char *[]){ ENV("e1"), CASE("e1", "p", OK ",\"n\":2"), NULL });
}

/* Parts of a sweep: which are missing, and which did not end. */
static void merged_parts(void **state)
{
    (void)state;
#define PART(kind, id, part)                                                             \
    "{\"kind\":\"" kind "\",\"schema\":1,\"id\":\"" id "\",\"run\":{\"shard\":" part     \
    ",\"shards\":4}}"
    run_of("x", (const char *[]){ PART("env", "e1", "1"), CASE("e1", "p", OK),
                                  PART("end", "e1", "1"), NULL });
    run_of("y", (const char *[]){ PART("env", "e2", "3"), CASE("e2", "q", OK), NULL });
    unlink(in_folder("m/journal.jsonl"));
    assert_int_equal(run(command_merge, "@m @x @y"), 1);
    says("err", "part 1 of 4", false);
    says("err", "part 2 of 4 is missing", true);
    says("err", "part 3 of 4 did not come to its end", true);
    says("err", "part 4 of 4 is missing", true);
    says("m/journal.jsonl", "\"case\":\"q\"", true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_for_programs),
        cmocka_unit_test(numbers_for_people),
        cmocka_unit_test(pivots),
        cmocka_unit_test(fits_and_crossings),
        cmocka_unit_test(environments),
        cmocka_unit_test(held_axes),
        cmocka_unit_test(near_lengths),
        cmocka_unit_test(few_samples),
        cmocka_unit_test(axes_of_lists),
        cmocka_unit_test(digits_and_units),
        cmocka_unit_test(data_of_figures),
        cmocka_unit_test(one_of_several),
        cmocka_unit_test(commands_of_figures),
        cmocka_unit_test(figures_as_before),
        cmocka_unit_test(compared),
        cmocka_unit_test(gates),
        cmocka_unit_test(merged_rows),
        cmocka_unit_test(merged_conflicts),
        cmocka_unit_test(merged_parts),
    };
    if (!test_folder(folder, sizeof folder, "tables")) return 1;
    test_arguments(argc, argv);
    const int rc = cmocka_run_group_tests_name("tables", tests, NULL, NULL);
    test_folder_remove(folder);
    return rc;
}
