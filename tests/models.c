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
    snprintf(text, sizeof text, "%s%s --out %s", words,
             strstr(words, "--format") ? "" : " --format none", out);
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

/* ---- what a file says, what is assumed, what options say ------------------------------ */

enum { WAVE = 48 };

/* A small ViT of timm's form with weights that anyone can make again: the sine of
 * the sum of a name's letters + 1.7 i.  3 channels, patches of 8, 64 channels,
 * 2 blocks, an MLP of 96, 5 classes. */
typedef struct form {
    bool no_class, layer_scale, pooled_norm, no_head;
    int registers, positions; /* tokens of pos_embed                         */
} form;

typedef struct wave {
    archive_item item[WAVE];
    char name[WAVE][64];
    int count;
} wave;

static void put(wave *m, const char *name, int d0, int d1, int d2, int d3)
{
    const int dim[] = { d0, d1, d2, d3 };
    const size_t length = strlen(name);
    const bool norm = strstr(name, "norm") && length > 6 &&
                      !strcmp(name + length - 6, "weight");
    const bool gamma = length > 5 && !strcmp(name + length - 5, "gamma");
    double phase = 0;
    size_t n = 1;
    assert_true(m->count < WAVE);
    for (const char *c = name; *c; c++) phase += *c;
    archive_item *t = &m->item[m->count];
    snprintf(m->name[m->count], sizeof m->name[0], "%s", name);
    *t = (archive_item){ .name = m->name[m->count++], .type = ARRAY_F32 };
    for (; t->dims < 4 && dim[t->dims]; t->dims++)
        n *= t->dim[t->dims] = (size_t)dim[t->dims];
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        const double s = sin(phase + 1.7 * (double)i);
        x[i] = (float)(norm ? 1 + 0.2 * s : gamma ? 0.5 + 0.2 * s : 0.3 * s);
    }
    t->data = x;
}

static void put_both(wave *m, const char *name, int out, int in)
{
    char text[64];
    snprintf(text, sizeof text, "%s.weight", name);
    put(m, text, out, in, 0, 0);
    snprintf(text, sizeof text, "%s.bias", name);
    put(m, text, out, 0, 0, 0);
}

static const char *write_wave(const form *f, const char *name,
                              const char *const *metadata)
{
    static const struct { const char *name; int out, in; } part[] = {
        { "norm1", 64, 0 },      { "attn.qkv", 192, 64 }, { "attn.proj", 64, 64 },
        { "norm2", 64, 0 },      { "mlp.fc1", 96, 64 },   { "mlp.fc2", 64, 96 },
    };
    wave m = { .count = 0 };
    char text[64];
    error e;
    if (!f->no_class) put(&m, "cls_token", 1, 1, 64, 0);
    if (f->registers) put(&m, "reg_token", 1, f->registers, 64, 0);
    put(&m, "pos_embed", 1, f->positions ? f->positions : 17, 64, 0);
    put(&m, "patch_embed.proj.weight", 64, 3, 8, 8);
    put(&m, "patch_embed.proj.bias", 64, 0, 0, 0);
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            snprintf(text, sizeof text, "blocks.%d.%s", l, part[i].name);
            put_both(&m, text, part[i].out, part[i].in);
        }
        for (int k = 1; k <= 2 && f->layer_scale; k++) {
            snprintf(text, sizeof text, "blocks.%d.ls%d.gamma", l, k);
            put(&m, text, 64, 0, 0, 0);
        }
    }
    put_both(&m, f->pooled_norm ? "fc_norm" : "norm", 64, 0);
    if (!f->no_head) put_both(&m, "head", 5, 64);
    const char *path = made(name);
    if (archive_write(path, m.item, m.count, metadata, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < m.count; i++) free((void *)m.item[i].data);
    return path;
}

/* A picture of bytes [1][3][height][width], as a file that archive_write() does
 * not write. */
static const char *write_bytes(const char *name, int height, int width)
{
    const char *path = made(name);
    const int n = 3 * height * width;
    char header[160];
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    const uint64_t length = (uint64_t)snprintf(
        header, sizeof header,
        "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,3,%d,%d],\"data_offsets\":[0,%d]}}",
        height, width, n);
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, (size_t)length, f);
    for (int i = 0; i < n; i++) fputc((37 * i + i / 11 * 5) % 256, f);
    fclose(f);
    return path;
}

/* Row 3 of the last head's matrix of the second layer. */
static void attention_is(const char *out, const char *stem, const double want[3])
{
    char file[400];
    size_t dim[ARRAY_DIMS];
    int dims;
    double *a;
    error e;
    snprintf(file, sizeof file, "%s/%s.npy", out, stem);
    if (npy_read(file, &dims, dim, &a, &e) < 0) fail_msg("%s", e.text);
    for (size_t k = 0; k < 3; k++)
        if (!(fabs(a[3 * dim[1] + k] - want[k]) <= 1e-6))
            fail_msg("%s: A[3][%zu] is %.12g, timm says %.12g", stem, k,
                     a[3 * dim[1] + k], want[k]);
    free(a);
}

static void logits_are(const char *out, const double want[CLASSES])
{
    json *j = read_json(out, "logits.json");
    const json *row = json_first(json_get(j, "logits"));
    for (int k = 0; k < CLASSES; k++) {
        const double x = json_number(json_at(row, k), NAN);
        if (!(fabs(x - want[k]) <= 1e-6))
            fail_msg("%s: class %d is %.12g, timm says %.12g", out, k, x,
                     want[k]);
    }
    json_free(j);
}

/* timm 1.0.31 in double on the same weights and pixels.  Options and metadata
 * say the same thing in turn. */
static void as_timm(void **state)
{
    static const struct {
        const char *name;
        form form;
        const char *metadata[8], *words, *last;
        double logits[CLASSES], attention[3];
    } want[] = {
        { "heads", { 0 }, { NULL }, "--heads 4", "h3",
          { -5.81602931548, -0.115173172628, 5.79525147977, -4.66203544099,
            -1.89509896574 },
          { 0.999433809725, 1.56516867923e-06, 0 } },
        { "width", { 0 }, { NULL }, "--head-dim 16", "h3",
          { -5.81602931548, -0.115173172628, 5.79525147977, -4.66203544099,
            -1.89509896574 },
          { 0.999433809725, 1.56516867923e-06, 0 } },
        { "one", { 0 }, { NULL }, "", "h0",
          { -5.952102681, -0.0901371143085, 5.91113382605, -4.78052802298,
            -1.91541968908 },
          { 0.999999984197, 0, 0 } },
        { "half", { 0 }, { NULL }, "--heads 4 --normalize 0.5", "h3",
          { -4.98900765223, -0.106884889376, 4.96154540371, -3.99795837755,
            -1.59695612949 },
          { 0.530732035695, 7.7076935256e-06, 0 } },
        { "half-said", { 0 },
          { "num_heads", "4", "image_mean", "[0.5, 0.5, 0.5]", "image_std",
            "0.5" }, "", "h3",
          { -4.98900765223, -0.106884889376, 4.96154540371, -3.99795837755,
            -1.59695612949 },
          { 0.530732035695, 7.7076935256e-06, 0 } },
        { "mean", { 0 }, { NULL }, "--heads 4 --pool mean", "h3",
          { -3.87110646127, -0.477118566277, 4.14222945379, -2.96696470373,
            -1.60911366827 },
          { 0.999433809725, 1.56516867923e-06, 0 } },
        { "mean-said", { 0 }, { "global_pool", "avg", "heads", "\"4\"" }, "",
          "h3",
          { -3.87110646127, -0.477118566277, 4.14222945379, -2.96696470373,
            -1.60911366827 },
          { 0.999433809725, 1.56516867923e-06, 0 } },
        { "wide", { 0 }, { NULL }, "--heads 4 --grid 2x8", "h3",
          { -5.52123873871, -0.0272450879467, 5.42954879173, -4.45503246311,
            -1.69633947758 },
          { 0.999263443437, 1.01891055943e-07, 0 } },
        { "wide-said", { 0 }, { "img_size", "(16, 64)", "n_heads", "4.0" }, "",
          "h3",
          { -5.52123873871, -0.0272450879467, 5.42954879173, -4.45503246311,
            -1.69633947758 },
          { 0.999263443437, 1.01891055943e-07, 0 } },
        { "registers", { .registers = 4, .positions = 16, .layer_scale = true },
          { NULL }, "--heads 4", "h3",
          { -3.78517637603, -0.827729243799, 4.33905898011, -2.77509262979,
            -1.96068363193 },
          { 0.00457848826961, 0, 4.45049663182e-07 } },
        { "registers-mean", { .registers = 4, .positions = 21 }, { NULL },
          "--heads 4 --pool mean", "h3",
          { -3.76624404171, -0.461155944095, 4.0244935279, -2.88797592693,
            -1.55508040952 },
          { 0.129027130096, 0.000138201206359, 1.09438247786e-07 } },
        { "fc-norm", { .pooled_norm = true }, { NULL }, "--heads 4", "h3",
          { -2.93658455846, -1.99733749129, 4.43373021869, -1.68183464966,
            -2.93704316016 },
          { 0.999433809725, 1.56516867923e-06, 0 } },
        { "eps", { 0 }, { NULL }, "--heads 4 --ln-eps 1e-3", "h3",
          { -5.81235146445, -0.115402484849, 5.79175856369, -4.65898917002,
            -1.89406279901 },
          { 0.999435016973, 1.5539321475e-06, 0 } },
        { "no-class", { .no_class = true, .positions = 16 }, { NULL },
          "--assume heads=4", "h3",
          { -3.75926660228, -0.409479711535, 3.97584033017, -2.90041444309,
            -1.49639579551 },
          { 0.699841393295, 0.00125571964174, 7.35953294989e-07 } },
    };
    (void)state;
    char square[300], wide[300];
    snprintf(square, sizeof square, "%s", write_bytes("square.safetensors", 32, 32));
    snprintf(wide, sizeof wide, "%s", write_bytes("wide.safetensors", 16, 64));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char words[1024], file[64], stem[32];
        snprintf(file, sizeof file, "wave-%s.safetensors", want[i].name);
        snprintf(stem, sizeof stem, "softmax-L1-%s", want[i].last);
        snprintf(words, sizeof words, "%s --input %s %s",
                 write_wave(&want[i].form, file, want[i].metadata),
                 strstr(want[i].name, "wide") ? wide : square, want[i].words);
        const char *out = made(want[i].name);
        maps_well(words, out);
        logits_are(out, want[i].logits);
        attention_is(out, stem, want[i].attention);
    }
}

/* A backbone answers nothing, but has maps. */
static void backbone(void **state)
{
    static const double want[3] = { 0.999433809725, 1.56516867923e-06, 0 };
    (void)state;
    char words[1024], path[300];
    const form f = { .no_head = true };
    snprintf(path, sizeof path, "%s", write_wave(&f, "nohead.safetensors", NULL));
    snprintf(words, sizeof words, "%s --heads 4 --input %s", path,
             write_bytes("bytes.safetensors", 32, 32));
    const char *out = made("nohead");
    maps_well(words, out);
    attention_is(out, "softmax-L1-h3", want);
    json *j = read_json(out, "logits.json");
    assert_true(json_is_null(json_get(j, "logits")));
    assert_true(json_is_null(json_get(j, "logits_f32")));
    assert_non_null(json_text(json_get(j, "reason")));
    json_free(j);
    snprintf(words, sizeof words, "%s --pool mean", path);
    refused(words, "head.weight");
}

/* What is not said is told, on one line and in metrics.json, each with a reason;
 * what is said is not. */
static void assumptions(void **state)
{
    static const char *const all[] = {
        "heads", "4", "grid", "4x4", "normalize", "imagenet", "pool", "token",
        "norm", "pre", "ln_eps", "1e-6", "gelu", "gelu", "attention", "softmax",
        NULL
    };
    (void)state;
    const form f = { 0 };
    const char *out = made("told");
    maps_well(write_wave(&f, "told.safetensors", NULL), out);
    const char *text = said();
    json *j = read_json(out, "metrics.json");
    for (int i = 0; all[i]; i += 2) {
        char word[64];
        snprintf(word, sizeof word, " %s=", all[i]);
        if (!strstr(text, word)) fail_msg("%s is not told: %s", all[i], text);
        const json *a = json_get(json_get(j, "assumed"), all[i]);
        assert_non_null(json_text(json_get(a, "value")));
        assert_non_null(json_text(json_get(a, "why")));
    }
    assert_string_equal(json_text(json_get(json_get(json_get(j, "assumed"),
                                                    "heads"), "value")), "1");
    json_free(j);
    const char *end = strchr(text, '\n');
    assert_true(end && !end[1]);

    out = made("quiet");
    maps_well(write_wave(&f, "quiet.safetensors", all), out);
    if (*said()) fail_msg("told what the file says: %s", said());
    j = read_json(out, "metrics.json");
    assert_int_equal(json_size(json_get(j, "assumed")), 0);
    json_free(j);
}

/* Neighbourhood attention with the metadata given; A of the first head. */
static double *na2d_with(const char *key, const char *value, size_t *bytes)
{
    const char *const metadata[] = { "attention", "na2d", "heads", "4",
                                     strcmp(key, "window") ? "window" : "note",
                                     "3", key, value, NULL };
    char file[400];
    size_t dim[ARRAY_DIMS];
    int dims;
    double *a;
    error e;
    const form f = { .no_class = true, .positions = 16 };
    const char *out = made("na2d");
    maps_well(write_wave(&f, "na2d.safetensors", metadata), out);
    snprintf(file, sizeof file, "%s/na2d-L0-h0.npy", out);
    if (npy_read(file, &dims, dim, &a, &e) < 0) fail_msg("%s", e.text);
    *bytes = dim[0] * dim[1] * sizeof *a;
    return a;
}

/* One value in the spellings of Python, JSON and configuration files. */
static void spellings(void **state)
{
    static const struct { const char *key, *value, *as_key, *as; } same[] = {
        { "causal", "True", "causal", "1" },
        { "causal", "[true, true]", "causal", "1" },
        { "is_causal", "(1, 1)", "causal", "1" },
        { "causal", "\"1x1\"", "causal", "1" },
        { "causal", "None", "causal", "0" },
        { "causal", "False", "causal", "0" },
        { "window", "[3, 3]", "causal", "0" },
        { "kernel_size", "'3'", "causal", "0" },
        { "window", "3.0", "causal", "0" },
        { "qk_scale", "null", "causal", "0" },
        { "dilation", "[1,1]", "causal", "0" },
        { "patch_size", "(8, 8)", "causal", "0" },
        { "in_chans", "3", "causal", "0" },
        { "act_layer", "GELU", "causal", "0" },
        { "mlp_ratio", "1.5", "causal", "0" },
        { "qkv_bias", "True", "causal", "0" },
        { "train_epochs", "300", "causal", "0" },
    };
    (void)state;
    size_t n, m;
    double *causal = na2d_with("causal", "1", &n);
    double *plain = na2d_with("causal", "0", &m);
    assert_int_equal(n, m);
    assert_memory_not_equal(causal, plain, n);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        double *a = na2d_with(same[i].key, same[i].value, &m);
        if (m != n || memcmp(a, *same[i].as == '1' ? causal : plain, n))
            fail_msg("%s=%s is not %s=%s", same[i].key, same[i].value,
                     same[i].as_key, same[i].as);
        free(a);
    }
    free(causal);
    free(plain);
}

/* What cannot be read, is not known, or contradicts, is one line with file, key
 * and value. */
static void unreadable(void **state)
{
    static const struct { const char *key, *value, *says; } bad[] = {
        { "causal", "maybe", "causal='maybe'" },
        { "causal", "2", "causal='2'" },
        { "window", "three", "window='three'" },
        { "window_size", "3.5", "window_size='3.5'" },
        { "dilation", "1,two", "dilation='1,two'" },
        { "scale", "sqrt", "scale='sqrt'" },
        { "shift", "1", "shift='1'" },
        { "num_heads", "8", "num_heads='8'" },
        { "head_dim", "sixteen", "head_dim='sixteen'" },
        { "embed_dim", "128", "embed_dim='128'" },
        { "depth", "12", "depth='12'" },
        { "qkv_bias", "False", "qkv_bias='False'" },
        { "class_token", "True", "class_token='True'" },
        { "patch_size", "16", "patch_size='16'" },
        { "img_size", "224", "pos_embed" },
        { "mean", "0.5", "mean='0.5'" },
        { "std", "0", "std='0'" },
        { "mean", "0.5,0.5", "mean='0.5,0.5'" },
        { "kernel", "7", "kernel='7'" },
        { "input", "pixel - 3", "input='pixel - 3'" },
        { "pool", "max", "pool='max'" },
        { "pool", "token", "pool='token'" },
        { "act_layer", "silu", "act_layer='silu'" },
        { "norm", "sandwich", "norm='sandwich'" },
        { "norm_kind", "rmsnorm", "norm_kind='rmsnorm'" },
        { "layer_norm_eps", "small", "layer_norm_eps='small'" },
        { "arch", "resnet", "arch='resnet'" },
        { "drop_path", "0.1", "drop_path='0.1'" },
        { "headz", "4", "did you mean 'heads'" },
    };
    static const struct { const char *words, *says; } options[] = {
        { "--heads 2", "--heads '2'" },
        { "--head-dim 32", "--head-dim '32'" },
        { "--grid 2x8", "--grid '2x8'" },
        { "--grid 16", "--grid '16'" },
        { "--normalize 0.5", "--normalize '0.5'" },
        { "--pool none", "--pool 'none'" },
        { "--ln-eps 1e-3", "--ln-eps '0.001'" },
        { "--gelu tanh", "--gelu 'tanh'" },
        { "--assume heads=8", "--assume '8'" },
        { "--assume headz=4", "headz" },
        { "--assume heads", "--assume" },
        { "--window 3", "--window" },
        { "--patch 4", "--patch" },
        { "--probe", "--probe" },
        { "--parameter-std 1", "--parameter-std" },
        { "--image a.png --input b.png", "--image" },
    };
    (void)state;
    const form f = { .no_class = true, .positions = 16 };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const bool window = strstr("window_size kernel", bad[i].key);
        const char *const metadata[] = { "attention", "na2d", "heads", "4",
                                         window ? "note" : "window", "3",
                                         bad[i].key, bad[i].value, NULL };
        refused(write_wave(&f, "bad.safetensors", metadata), bad[i].says);
        if (!strstr(said(), "bad.safetensors")) fail_msg("no file: %s", said());
    }
    static const char *const all[] = {
        "heads", "4", "image", "32", "normalize", "imagenet", "pool", "mean",
        "ln_eps", "1e-6", "gelu", "erf", NULL
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char words[512];
        snprintf(words, sizeof words, "%s %s",
                 write_wave(&f, "said.safetensors", all), options[i].words);
        refused(words, options[i].says);
    }
}

/* "__metadata__": null is none. */
static void null_metadata(void **state)
{
    (void)state;
    static char bytes[1 << 20];
    const form f = { 0 };
    const char *path = write_wave(&f, "plain.safetensors", NULL);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    uint64_t length;
    assert_int_equal(fread(&length, sizeof length, 1, in), 1);
    const size_t n = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_int_equal(bytes[0], '{');
    static const char null[] = "{\"__metadata__\":null,";
    const uint64_t longer = length + sizeof null - 2;
    path = made("null.safetensors");
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    fwrite(&longer, sizeof longer, 1, to);
    fwrite(null, 1, sizeof null - 1, to);
    fwrite(bytes + 1, 1, n - 1, to);
    fclose(to);
    maps_well(path, made("null"));
}

/* The words of metrics.json give its numbers: with a token in front. */
static void words_give_numbers(void **state)
{
    enum { N = 17, SIDE = 4 };
    (void)state;
    char file[400];
    size_t dim[ARRAY_DIMS];
    int dims;
    double *a, dist = 0, mass = 0;
    error e;
    const form f = { 0 };
    const char *out = made("words");
    maps_well(write_wave(&f, "words.safetensors", NULL), out);
    snprintf(file, sizeof file, "%s/softmax-L0-h0.npy", out);
    if (npy_read(file, &dims, dim, &a, &e) < 0) fail_msg("%s", e.text);
    for (int i = 1; i < N; i++) {
        double sum = 0, d = 0, near = 0;
        for (int j = 1; j < N; j++) {
            const int dy = (i - 1) / SIDE - (j - 1) / SIDE;
            const int dx = (i - 1) % SIDE - (j - 1) % SIDE;
            sum += fabs(a[i * N + j]);
            d += fabs(a[i * N + j]) * sqrt(dy * dy + dx * dx);
            if (abs(dy) <= 1 && abs(dx) <= 1) near += fabs(a[i * N + j]);
        }
        dist += d / sum / (N - 1);
        mass += near / sum / (N - 1);
    }
    free(a);
    json *j = read_json(out, "metrics.json");
    const json *m = json_first(json_first(json_get(j, "layers")));
    assert_true(fabs(json_number(json_get(m, "dist"), NAN) - dist) < 1e-12);
    assert_true(fabs(json_number(json_get(m, "mass_r1"), NAN) - mass) < 1e-12);
    const json *how = json_get(j, "how");
    assert_non_null(strstr(json_text(json_get(how, "dist")), "left out"));
    assert_non_null(strstr(json_text(json_get(how, "mass_r1")), "left out"));
    json_free(j);
}

/* 128 maps have 128 lines in the figure of entropies. */
static void every_entropy(void **state)
{
    (void)state;
    char command[600];
    const form f = { 0 };
    if (system("gnuplot --version >/dev/null 2>&1") != 0) {
        printf("skip every_entropy: no gnuplot\n");
        skip();
    }
    snprintf(command, sizeof command, "%s --heads 64 --format svg",
             write_wave(&f, "many.safetensors", NULL));
    const char *out = made("many");
    maps_well(command, out);
    snprintf(command, sizeof command, "%s/entropy.tsv", out);
    FILE *t = fopen(command, "r");
    assert_non_null(t);
    int lines = 0;
    while (fgets(command, sizeof command, t)) lines += *command != '#';
    fclose(t);
    assert_int_equal(lines, 128);
}

/* Weights [in][out], as other frameworks keep them, have as many elements. */
static void transposed(void **state)
{
    (void)state;
    checkpoint c;
    build(&c);
    const int qkv = find(&c, "blocks.1.attn.qkv.weight");
    c.item[qkv].dim[0] = DIM;
    c.item[qkv].dim[1] = 3 * DIM;
    refused(write_as(&c, "transposed.safetensors", ARRAY_F32),
            "blocks.1.attn.qkv.weight");
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
        cmocka_unit_test(as_timm),           cmocka_unit_test(backbone),
        cmocka_unit_test(assumptions),       cmocka_unit_test(spellings),
        cmocka_unit_test(unreadable),        cmocka_unit_test(null_metadata),
        cmocka_unit_test(words_give_numbers), cmocka_unit_test(every_entropy),
        cmocka_unit_test(transposed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
