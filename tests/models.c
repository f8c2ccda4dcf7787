/* models.c - maps of model files: the trained models that the statistics in
 * their *_stats.json were computed from (where they are at hand: they are not
 * part of the project), and checkpoints in timm's names made here, good and bad.
 *
 * ATTNBENCH_MODELS: their folder; ../shared/models if it is not set. */
#include "test.h"

#include "../harness/array.h"
#include "../harness/commands.h"
#include "../harness/error.h"
#include "../harness/json.h"
#include "../kernels/plan.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[200];

/* "FOLDER/name"; four at a time. */
static const char *made(const char *name)
{
    static char path[4][300];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static const char *given(const char *name)
{
    static char path[4][512];
    static int turn;
    const char *where = getenv("ATTNBENCH_MODELS");
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", where ? where : "../shared/models",
             name);
    return out;
}

/* ---- running --------------------------------------------------------------- */

enum { WORDS = 24 };

/* `attnbench maps` with these words and --out OUT; its exit code, or 128 + the
 * signal.  stderr goes to FOLDER/err. */
static int maps(const char *words, const char *out)
{
    char text[1024], *argv[WORDS] = { (char *)"attnbench maps" };
    int argc = 1, status;
    snprintf(text, sizeof text, "%s --format none --out %s", words, out);
    for (char *w = strtok(text, " "); w; w = strtok(NULL, " ")) {
        assert_true(argc + 1 < WORDS);
        argv[argc++] = w;
    }
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        const int err = open(made("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        const int none = open("/dev/null", O_WRONLY);
        dup2(err, 2);
        dup2(none, 1);
        exit(command_maps(argc, argv));
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *said(void)
{
    static char text[2048];
    FILE *f = fopen(made("err"), "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static void maps_well(const char *words, const char *out)
{
    const int code = maps(words, out);
    if (code != 0) fail_msg("maps %s: exit code %d: %s", words, code, said());
}

static json *read_json(const char *dir, const char *file)
{
    char path[600];
    error e;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    json *j = json_read_file(path, &e);
    if (!j) fail_msg("%s", e.text);
    return j;
}

/* ---- trained models ------------------------------------------------------------ */

static void need_models(void)
{
    if (access(given("README.md"), R_OK) == 0) return;
    printf("skip models: no %s: trained models are not part of the project\n",
           given(""));
    skip();
}

/* Largest relative or, where that is less, absolute difference of two trees of
 * numbers; `other` may have more members.  *name: of the worst one. */
static double tree_difference(const json *x, const json *other, char name[64])
{
    double worst = 0;
    char inner[64] = "";
    const char *key = json_key(x) ? json_key(x) : "";
    if (!other) {
        snprintf(name, 64, "%s (missing)", key);
        return INFINITY;
    }
    if (!json_first(x)) {
        const double a = json_number(x, NAN), b = json_number(other, NAN);
        if (isnan(a)) return 0; /* a word */
        snprintf(name, 64, "%s", key);
        const bool rank = !strncmp(key, "rank_", 5);
        const double d = fabs(a - b) / (rank ? 1e6 : fmax(1, fabs(a)));
        return isnan(d) ? INFINITY : d;
    }
    const json *y = json_first(other);
    for (const json *c = json_first(x); c; c = json_next(c)) {
        const json *match = json_key(c) ? json_get(other, json_key(c)) : y;
        const double d = tree_difference(c, match, inner);
        if (d > worst) {
            worst = d;
            snprintf(name, 64, "%s", *inner ? inner : key);
        }
        if (y) y = json_next(y);
    }
    return worst;
}

static void logits_agree(const char *out, const char *key, double tolerance,
                         const archive *stored, const char *tensor)
{
    json *j = read_json(out, "logits.json");
    const array *a = archive_find(stored, tensor);
    assert_non_null(a);
    double *want = malloc(a->elements * sizeof *want), worst = 0;
    assert_non_null(want);
    array_to_double(a, want);
    size_t at = 0;
    for (const json *row = json_first(json_get(j, key)); row;
         row = json_next(row)) {
        size_t best = 0, right = 0;
        for (const json *x = json_first(row); x; x = json_next(x), at++) {
            const size_t c = at % a->dim[1], first = at - c;
            worst = fmax(worst, fabs(json_number(x, INFINITY) - want[at]));
            if (want[at] > want[first + right]) right = c;
            if (json_number(x, NAN) >
                json_number(json_at(row, (int)best), NAN))
                best = c;
        }
        assert_int_equal(best, right);
    }
    if (at != a->elements) fail_msg("%s: %zu of %zu", key, at, a->elements);
    if (!(worst <= tolerance)) fail_msg("%s: differ by %g", key, worst);
    free(want);
    json_free(j);
}

static void model_agrees(const char *name, const char *inputs,
                         const char *tensor)
{
    char words[1024], file[64], worst[64] = "";
    archive stored;
    error e;
    need_models();
    snprintf(file, sizeof file, "%s.safetensors", name);
    snprintf(words, sizeof words, "%s --input %s", given(file), given(inputs));
    const char *out = made(name);
    maps_well(words, out);
    if (archive_read(&stored, given(inputs), &e) < 0) fail_msg("%s", e.text);
    logits_agree(out, "logits", 1e-9, &stored, tensor);
    logits_agree(out, "logits_f32", 1e-4, &stored, tensor);
    archive_free(&stored);
    snprintf(file, sizeof file, "%s_stats.json", name);
    json *got = read_json(out, "metrics.json"), *want = read_json(given("."), file);
    if (json_number(json_get(want, "N"), 0) == 0) { /* not keyed by mechanism */
        const double d = tree_difference(json_get(want, "layers"),
                                         json_get(got, "layers"), worst);
        if (!(d <= 1e-6)) fail_msg("%s differs by %g", worst, d);
    }
    json_free(got);
    json_free(want);
}

static void fm7_softmax(void **state)
{
    (void)state;
    model_agrees("fm7_softmax", "samples.safetensors", "logits_fm7_softmax");
}

static void fm7_focused_linear(void **state)
{
    (void)state;
    model_agrees("fm7_focused_linear", "samples_ops.safetensors",
                 "logits_fm7_focused_linear");
}

static void fm7_na2d(void **state)
{
    (void)state;
    model_agrees("fm7_na2d", "samples_ops.safetensors", "logits_fm7_na2d");
}

static void kwt1(void **state)
{
    (void)state;
    model_agrees("kwt1", "kwt1_inputs.safetensors", "logits");
}

/* The same q and k under other mechanisms.  The file's ReLU maps have 1e-6
 * inside, as focused linear attention of power 1. */
static void kwt1_as(void **state)
{
    static const struct {
        const char *words, *key;
        double tolerance;
    } as[] = {
        { "", "softmax", 1e-6 },
        { "--as linear --feature-map elu1", "elu1_linear", 1e-6 },
        /* its D has another constant, which weak rows feel */
        { "--as focused_linear --power 1 --conv 1", "relu_linear", 5e-6 },
    };
    (void)state;
    need_models();
    json *all = read_json(given("."), "kwt1_stats.json");
    for (size_t i = 0; i < sizeof as / sizeof *as; i++) {
        char words[1024], worst[64] = "";
        const char *out = made(as[i].key);
        snprintf(words, sizeof words, "%s --input %s %s",
                 given("kwt1.safetensors"), given("kwt1_inputs.safetensors"),
                 as[i].words);
        maps_well(words, out);
        json *got = read_json(out, "metrics.json");
        const json *layer = json_first(json_get(got, "layers"));
        for (const json *l = json_first(json_get(all, "layers")); l;
             l = json_next(l), layer = json_next(layer)) {
            assert_non_null(layer);
            const double d = tree_difference(json_get(l, as[i].key),
                                             json_first(layer), worst);
            if (!(d <= as[i].tolerance))
                fail_msg("%s: %s differs by %g", as[i].key, worst, d);
        }
        json_free(got);
    }
    json_free(all);
}

/* Attention matrices of the first clip. */
static void kwt1_matrices(void **state)
{
    (void)state;
    char words[1024], file[400];
    archive stored;
    error e;
    need_models();
    snprintf(words, sizeof words, "%s --input %s --count 1",
             given("kwt1.safetensors"), given("kwt1_inputs.safetensors"));
    const char *out = made("clip");
    maps_well(words, out);
    if (archive_read(&stored, given("kwt1_inputs.safetensors"), &e) < 0)
        fail_msg("%s", e.text);
    const array *a = archive_find(&stored, "attn_clip0");
    double *want = malloc(a->elements * sizeof *want), *got, worst = 0;
    assert_non_null(want);
    array_to_double(a, want);
    const size_t one = a->dim[1] * a->dim[2];
    for (size_t l = 0; l < a->dim[0]; l++) {
        size_t dim[ARRAY_DIMS];
        int dims;
        snprintf(file, sizeof file, "%s/softmax-L%zu-h0.npy", out, l);
        if (npy_read(file, &dims, dim, &got, &e) < 0) fail_msg("%s", e.text);
        assert_int_equal(dims, 2);
        assert_int_equal(dim[0] * dim[1], one);
        for (size_t i = 0; i < one; i++)
            worst = fmax(worst, fabs(got[i] - want[l * one + i]));
        free(got);
    }
    free(want);
    archive_free(&stored);
    if (!(worst <= 1e-9)) fail_msg("differ by %g", worst);
}

/* ---- checkpoints in timm's names --------------------------------------------------- */

enum { DIM = 64, DEPTH = 2, PATCH = 8, TOKENS = 17, HIDDEN = 96, CLASSES = 5,
       TENSORS = 8 + 12 * DEPTH };

typedef struct checkpoint {
    archive_item item[TENSORS];
    char name[TENSORS][64];
    float *data[TENSORS];
    int count;
} checkpoint;

static void add(checkpoint *c, const char *name, double mean, double std,
                int dims, size_t d0, size_t d1, size_t d2, size_t d3)
{
    const size_t dim[] = { d0, d1, d2, d3 };
    archive_item *t = &c->item[c->count];
    size_t n = 1;
    uint64_t seed = 17 + (uint64_t)c->count;
    assert_true(c->count < TENSORS);
    snprintf(c->name[c->count], sizeof c->name[0], "%s", name);
    *t = (archive_item){ .name = c->name[c->count], .dims = dims };
    for (int a = 0; a < dims; a++) n *= t->dim[a] = dim[a];
    float *x = c->data[c->count++] = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(mean + std * att_normal(&seed));
    t->data = x;
}

static void add_block(checkpoint *c, int layer)
{
    static const struct {
        const char *name;
        size_t out, in;
    } linear[] = { { "attn.qkv", 3 * DIM, DIM },
                   { "attn.proj", DIM, DIM },
                   { "mlp.fc1", HIDDEN, DIM },
                   { "mlp.fc2", DIM, HIDDEN } };
    char name[64];
    for (int k = 1; k <= 2; k++) {
        snprintf(name, sizeof name, "blocks.%d.norm%d.weight", layer, k);
        add(c, name, 1, 0.1, 1, DIM, 0, 0, 0);
        snprintf(name, sizeof name, "blocks.%d.norm%d.bias", layer, k);
        add(c, name, 0, 0.1, 1, DIM, 0, 0, 0);
    }
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) {
        snprintf(name, sizeof name, "blocks.%d.%s.weight", layer, linear[i].name);
        add(c, name, 0, 0.15, 2, linear[i].out, linear[i].in, 0, 0);
        snprintf(name, sizeof name, "blocks.%d.%s.bias", layer, linear[i].name);
        add(c, name, 0, 0.1, 1, linear[i].out, 0, 0, 0);
    }
}

static void build(checkpoint *c)
{
    *c = (checkpoint){ 0 };
    add(c, "cls_token", 0, 0.5, 3, 1, 1, DIM, 0);
    add(c, "pos_embed", 0, 0.5, 3, 1, TOKENS, DIM, 0);
    add(c, "patch_embed.proj.weight", 0, 0.1, 4, DIM, 3, PATCH, PATCH);
    add(c, "patch_embed.proj.bias", 0, 0.1, 1, DIM, 0, 0, 0);
    for (int l = 0; l < DEPTH; l++) add_block(c, l);
    add(c, "norm.weight", 1, 0.1, 1, DIM, 0, 0, 0);
    add(c, "norm.bias", 0, 0.1, 1, DIM, 0, 0, 0);
    add(c, "head.weight", 0, 0.15, 2, CLASSES, DIM, 0, 0);
    add(c, "head.bias", 0, 0.1, 1, CLASSES, 0, 0, 0);
}

static const char *write_as(checkpoint *c, const char *name,
                            enum array_type type)
{
    const char *path = made(name);
    error e;
    for (int i = 0; i < c->count; i++) c->item[i].type = type;
    if (archive_write(path, c->item, c->count, NULL, &e) < 0)
        fail_msg("%s", e.text);
    return path;
}

static void drop(checkpoint *c)
{
    for (int i = 0; i < c->count; i++) free(c->data[i]);
}

static void checkpoints_run(void **state)
{
    static const struct { enum array_type type; const char *name; } types[] = {
        { ARRAY_F32, "f32" }, { ARRAY_F16, "f16" }, { ARRAY_BF16, "bf16" } };
    (void)state;
    checkpoint c;
    build(&c);
    double first[CLASSES];
    for (size_t i = 0; i < 3; i++) {
        char file[32];
        snprintf(file, sizeof file, "%s.safetensors", types[i].name);
        const char *out = made(types[i].name);
        maps_well(write_as(&c, file, types[i].type), out);
        json *j = read_json(out, "logits.json");
        const json *row = json_first(json_get(j, "logits"));
        assert_int_equal(json_size(row), CLASSES);
        assert_true(json_number(json_get(j, "f32_difference"), INFINITY) < 1e-4);
        for (int k = 0; k < CLASSES; k++) {
            const double x = json_number(json_at(row, k), NAN);
            if (i == 0) first[k] = x;
            /* weights rounded to 8 or 11 bits */
            assert_true(fabs(x - first[k]) < (i == 0 ? 1e-12 : 0.5));
        }
        json *m = read_json(out, "metrics.json");
        assert_int_equal(json_size(json_get(m, "layers")), DEPTH);
        json_free(m);
        json_free(j);
    }
    drop(&c);
}

/* Exit code 2 and one line that names the tensor or file. */
static void refused(const char *path, const char *what)
{
    const int code = maps(path, made("refused"));
    const char *text = said(), *end = strchr(text, '\n');
    if (code != 2) fail_msg("%s: exit code %d: %s", what, code, text);
    if (!strstr(text, what)) fail_msg("no word of '%s': %s", what, text);
    if (!end || end[1]) fail_msg("not one line: %s", text);
    if (access(made("refused"), F_OK) == 0 &&
        access(made("refused/metrics.json"), F_OK) == 0)
        fail_msg("%s: wrote metrics.json", what);
}

static int find(const checkpoint *c, const char *name)
{
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->name[i], name)) return i;
    fail_msg("no tensor %s", name);
    return -1;
}

static void bad_checkpoints(void **state)
{
    (void)state;
    checkpoint c;
    build(&c);
    const int fc2 = find(&c, "blocks.1.mlp.fc2.weight");
    const int qkv = find(&c, "blocks.0.attn.qkv.weight");
    const int pos = find(&c, "pos_embed");

    c.data[fc2][5] = NAN;
    refused(write_as(&c, "nan.safetensors", ARRAY_F32),
            "blocks.1.mlp.fc2.weight");
    c.data[fc2][5] = 0;

    c.item[qkv].dim[0] = 3 * DIM - 2;
    refused(write_as(&c, "shape.safetensors", ARRAY_F32), "blocks.0.attn.qkv");
    c.item[qkv].dim[0] = 3 * DIM;

    c.item[pos].dim[1] = TOKENS - 3;
    refused(write_as(&c, "pos.safetensors", ARRAY_F32), "pos_embed");
    c.item[pos].dim[1] = TOKENS;

    snprintf(c.name[fc2], sizeof c.name[0], "blocks.1.mlp.fc9.weight");
    refused(write_as(&c, "missing.safetensors", ARRAY_F32),
            "blocks.1.mlp.fc2.weight");
    snprintf(c.name[fc2], sizeof c.name[0], "blocks.1.mlp.fc2.weight");

    const char *cut = write_as(&c, "cut.safetensors", ARRAY_F32);
    assert_int_equal(truncate(cut, 5000), 0);
    refused(cut, "cut.safetensors");
    drop(&c);
}

/* ---- main --------------------------------------------------------------------------- */

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/attnbench-models-XXXXXX", test_tmp());
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[300];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints_run),   cmocka_unit_test(bad_checkpoints),
        cmocka_unit_test(fm7_softmax),       cmocka_unit_test(fm7_na2d),
        cmocka_unit_test(fm7_focused_linear), cmocka_unit_test(kwt1),
        cmocka_unit_test(kwt1_as),           cmocka_unit_test(kwt1_matrices),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
