/* data.c - sets of data are what they say, or refused: packed, cut and foreign
 * files, IDX in every spelling, folders of PNG in every form. */
#include "test.h"

#include "../analysis/bytes.h"
#include "../analysis/data.h"
#include "../analysis/picture.h"
#include "../analysis/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][300];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void put_gz(const char *path, const void *bytes, size_t n)
{
    gzFile f = gzopen(path, "wb");
    assert_int_equal(gzwrite(f, bytes, (unsigned)n), (int)n);
    gzclose(f);
}

static void make(const char *name)
{
    assert_int_equal(mkdir(in_folder(name), 0777), 0);
}

static void opened(data *d, const char *path, const data *like)
{
    error e;
    if (data_open(d, path, like, &e)) fail_msg("%s", e.text);
}

/* One line that names the file and says `what`. */
static void refused_beside(const char *path, const data *like, const char *what)
{
    data d;
    error e = { "" };
    if (data_open(&d, path, like, &e) == 0) fail_msg("%s was taken", path);
    if (!strstr(e.text, what) || !strstr(e.text, path) || strchr(e.text, '\n'))
        fail_msg("'%s' does not say '%s'", e.text, what);
}

static void refused(const char *path, const char *what)
{
    refused_beside(path, NULL, what);
}

/* ---- bytes ------------------------------------------------------------------------- */

enum { TEXT = 100000 };
static unsigned char text[TEXT];

static void make_text(void)
{
    uint64_t s = 5;
    for (int i = 0; i < TEXT; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        text[i] = "abcdefgh ijklmnop\nqrstuvwxyz.,;:"[s >> 59];
    }
}

static void packed_text(void **state)
{
    unsigned char a[101], b[101];
    unsigned char *gz = malloc(TEXT);
    data plain, packed;
    (void)state;
    put(in_folder("t"), text, TEXT);
    put_gz(in_folder("t.gz"), text, TEXT);
    put_gz(in_folder("named.txt"), text, TEXT); /* the bytes tell, not the name */
    opened(&plain, in_folder("t"), NULL);
    for (int k = 0; k < 2; k++) {
        opened(&packed, in_folder(k ? "t.gz" : "named.txt"), NULL);
        assert_true(packed.text);
        assert_int_equal(packed.count, TEXT);
        for (uint64_t i = 0; i < 5; i++) {
            data_bytes(&plain, 3, i, 100, a, NULL, NULL);
            data_bytes(&packed, 3, i, 100, b, NULL, NULL);
            assert_memory_equal(a, b, 101);
        }
        data_close(&packed);
    }
    data_close(&plain);

    FILE *f = fopen(in_folder("t.gz"), "rb");
    const size_t n = fread(gz, 1, TEXT, f);
    fclose(f);
    put(in_folder("cut.gz"), gz, n - 4); /* all of the text, no sum            */
    refused(in_folder("cut.gz"), "end too early");
    put(in_folder("cut.gz"), gz, n - n / 8);
    refused(in_folder("cut.gz"), "end too early");
    gz[n - 6] ^= 1; /* the sum is wrong */
    put(in_folder("wrong.gz"), gz, n);
    refused(in_folder("wrong.gz"), "broken gzip data");
    gz[n - 6] ^= 1;
    put_gz(in_folder("twice.gz"), gz, n);
    refused(in_folder("twice.gz"), "gzip data within gzip data");
    put(in_folder("short"), text, 1000);
    refused(in_folder("short"), "too few");
    put(in_folder("empty"), text, 0);
    refused(in_folder("empty"), "0 bytes are too few");
    put_gz(in_folder("empty.gz"), text, 0);
    refused(in_folder("empty.gz"), "0 bytes are too few");
    free(gz);
}

/* First bytes of files that once were text to be trained on. */
static void foreign_bytes(void **state)
{
    static const struct { size_t at, n; const char *bytes, *what; } of[] = {
        { 0, 4, "BZh9", "bzip2" },
        { 0, 6, "\xfd" "7zXZ\0", "an xz file" },
        { 0, 4, "\x28\xb5\x2f\xfd", "Zstandard" },
        { 0, 4, "\x04\x22\x4d\x18", "LZ4" },
        { 0, 4, "PK\3\4", "zip archive" },
        { 0, 6, "7z\xbc\xaf\x27\x1c", "7z" },
        { 257, 5, "ustar", "tar archive" },
        { 0, 8, "\x89PNG\r\n\x1a\n", "PNG picture" },
        { 0, 4, "\xff\xd8\xff\xe0", "JPEG" },
        { 0, 6, "GIF89a", "GIF" },
        { 0, 12, "RIFF\1\2\3\4WEBP", "WebP" },
        { 0, 12, "RIFF\1\2\3\4WAVE", "sound" },
        { 0, 8, "%PDF-1.7", "PDF" },
        { 0, 2, "\xff\xfe", "UTF-16" },
        { 0, 2, "\xfe\xff", "UTF-16" },
        { 0, 4, "\xff\xfe\0\0", "UTF-32" },
        { 0, 6, "\x93NUMPY", "NumPy" },
        { 0, 8, "\x89HDF\r\n\x1a\n", "HDF5" },
        { 0, 10, "\x40\0\0\0\0\0\0\0{\"", "safetensors" },
        { 0, 4, "PAR1", "Parquet" },
        { 0, 2, "\x80\4", "pickle" },
        { 0, 4, "\x7f" "ELF", "program" },
        { 0, 8, "\0\0\x08\1\0\0\0\1", "IDX labels" },
    };
    unsigned char *bytes = malloc(2 * TEXT);
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        memcpy(bytes, text, TEXT);
        memcpy(bytes + of[i].at, of[i].bytes, of[i].n);
        put(in_folder("foreign"), bytes, TEXT);
        refused(in_folder("foreign"), of[i].what);
        put_gz(in_folder("foreign.gz"), bytes, TEXT);
        refused(in_folder("foreign.gz"), of[i].what);
    }
    for (size_t first = 0; first < 2; first++) { /* without a mark */
        memset(bytes, 0, 2 * TEXT);
        for (size_t i = 0; i < TEXT; i++) bytes[2 * i + first] = text[i];
        put(in_folder("wide"), bytes, 2 * TEXT);
        refused(in_folder("wide"), "UTF-16");
    }
    memset(bytes, 0, TEXT); /* of bytes that are all 0 nothing is known */
    assert_null(bytes_foreign(bytes, TEXT));
    static const char *const fine[] = { "RIFFraff and WAVEs", "PKZIP", "BZ",
                                        "x^2 + 1", "II", "MZ was a name", "" };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_null(bytes_foreign((const unsigned char *)fine[i],
                                  strlen(fine[i])));
    free(bytes);
}

static void no_files(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_folder("pipe"), 0666), 0);
    refused(in_folder("pipe"), "is a pipe");
    refused("/dev/zero", "is a device");
    make("pipes");
    assert_int_equal(mkfifo(in_folder("pipes/a.png"), 0666), 0);
    refused(in_folder("pipes"), "has no PNG files");
}

/* ---- IDX ---------------------------------------------------------------------------- */

enum { PICTURES = 20, SIDE = 8, IDX = 16 + PICTURES * SIDE * SIDE };
static unsigned char pictures[IDX], labels[8 + PICTURES];

static void make_idx(void)
{
    memcpy(pictures, "\0\0\10\3\0\0\0\24\0\0\0\10\0\0\0\10", 16);
    memcpy(labels, "\0\0\10\1\0\0\0\24", 8);
    for (int i = 16; i < IDX; i++) pictures[i] = (unsigned char)(i * i);
    for (int i = 0; i < PICTURES; i++) labels[8 + i] = (unsigned char)(i % 5);
}

static void spellings_of_idx(void **state)
{
    static const char *const names[][2] = {
        { "train-images-idx3-ubyte", "train-labels-idx1-ubyte" },
        { "train-images.idx3-ubyte", "train-labels.idx1-ubyte" },
        { "train_images_idx3_ubyte", "train-labels-idx1-ubyte" },
        { "Train-Images.IDX3-UByte", "train-labels.idx1-ubyte" },
        { "t10k-images.idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz" },
        { "T10K-IMAGES-IDX3-UBYTE.GZ", "t10k-labels-idx1-ubyte.gz" },
        { "images-idx3-ubyte", "labels-idx1-ubyte" },
        { "my-images", "my-labels" },
    };
    (void)state;
    make("images-idx3"); /* a folder whose name is like that of a file */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[2][200];
        data d;
        for (int k = 0; k < 2; k++) {
            snprintf(path[k], sizeof path[k], "%s/%s",
                     in_folder("images-idx3"), names[i][k]);
            const size_t n = strlen(path[k]);
            (strcasecmp(path[k] + n - 3, ".gz") ? put : put_gz)(
                path[k], k ? labels : pictures, k ? sizeof labels : IDX);
        }
        opened(&d, path[0], NULL);
        assert_int_equal(d.count, PICTURES);
        assert_int_equal(d.classes, 5);
        assert_int_equal(d.labels[7], 2);
        data_close(&d);
        unlink(path[1]);
        refused(path[0], "has no file of labels");
        unlink(path[0]);
    }
    put(in_folder("images-idx3/text"), text, TEXT);
    data d;
    opened(&d, in_folder("images-idx3/text"), NULL);
    assert_true(d.text);
    data_close(&d);
}

static void wrong_idx(void **state)
{
    unsigned char more[IDX + 1] = { 0 };
    const char *path = in_folder("w-images-idx3-ubyte");
    (void)state;
    put(in_folder("w-labels-idx1-ubyte"), labels, sizeof labels);
    memcpy(more, pictures, IDX);
    put(path, more, IDX + 1); /* more pictures than the header says */
    refused(path, "header says 20 pictures");
    more[2] = 13;
    put(path, more, IDX);
    refused(path, "not an IDX file");
    put(path, "BZh91AY", 7);
    refused(path, "bzip2");
    put(path, pictures, IDX);
    memcpy(more, labels, sizeof labels);
    more[7] = 21; /* labels of one more picture */
    put(in_folder("w-labels-idx1-ubyte"), more, sizeof labels + 1);
    refused_beside(in_folder("w-labels-idx1-ubyte"), NULL, "IDX labels");
    data d;
    error e = { "" };
    assert_int_equal(data_open(&d, in_folder("w-images-idx3-ubyte"), NULL, &e), -1);
    assert_non_null(strstr(e.text, "not the labels of 20 pictures"));
    put(in_folder("noname"), pictures, IDX);
    refused(in_folder("noname"), "needs 'images' in its name");
}

/* ---- folders ------------------------------------------------------------------------- */

static void chunk(FILE *f, const char *type, const unsigned char *bytes, size_t n)
{
    unsigned char head[8], tail[4];
    uLong sum = crc32(0, (const unsigned char *)type, 4);
    if (n) sum = crc32(sum, bytes, (uInt)n);
    for (int i = 0; i < 4; i++) {
        head[i] = (unsigned char)(n >> (24 - 8 * i));
        tail[i] = (unsigned char)(sum >> (24 - 8 * i));
    }
    memcpy(head + 4, type, 4);
    fwrite(head, 1, 8, f);
    if (n) fwrite(bytes, 1, n, f);
    fwrite(tail, 1, 4, f);
}

/* How a picture can be stored. */
enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGBA = 6 };
typedef struct form {
    const char *name;
    int type, depth;
    bool interlaced, transparent; /* a colour that is transparent, or alpha     */
} form;

enum { PNG = 43 };

/* Grey of a pixel, 0 to 255, and its alpha; the corner is transparent. */
static int ink(int y, int x)
{
    return y < 12 && x < 12 ? 7 : 20 + (y * 5 + x * 3) % 200;
}
static int alpha_of(const form *f, int y, int x)
{
    return f->transparent && y < 12 && x < 12 ? 0 : 255;
}

static unsigned char *put_pixel(const form *f, int y, int x, unsigned char *out)
{
    const int n = f->type == PALETTE ? 1 : f->type & RGB ? 3 : 1;
    for (int c = 0; c < n + (f->type >= GREY_ALPHA); c++) {
        const int v = c == n ? alpha_of(f, y, x) : ink(y, x);
        for (int b = 0; b < f->depth / 8; b++) *out++ = (unsigned char)v;
    }
    return out;
}

/* Rows of pixels y0, y0 + dy ... and x0, x0 + dx ..., each after a filter byte. */
static unsigned char *rows(const form *f, int y0, int dy, int x0, int dx,
                           unsigned char *out)
{
    if (x0 >= PNG) return out;
    for (int y = y0; y < PNG; y += dy) {
        *out++ = 0;
        for (int x = x0; x < PNG; x += dx) out = put_pixel(f, y, x, out);
    }
    return out;
}

static void put_png(const char *path, const form *f)
{
    static const int pass[7][4] = { { 0, 8, 0, 8 }, { 0, 8, 4, 8 }, { 4, 8, 0, 4 },
                                    { 0, 4, 2, 4 }, { 2, 4, 0, 2 }, { 0, 2, 1, 2 },
                                    { 1, 2, 0, 1 } };
    unsigned char *raw = malloc(PNG * PNG * 8 + 4 * PNG), *end = raw;
    unsigned char palette[768], clear[6] = { 0, 7, 0, 7, 0, 7 }, *packed;
    const unsigned char header[13] = { 0, 0, 0, PNG, 0, 0, 0, PNG,
                                       (unsigned char)f->depth,
                                       (unsigned char)f->type, 0, 0,
                                       f->interlaced };
    if (!f->interlaced) end = rows(f, 0, 1, 0, 1, raw);
    for (int p = 0; f->interlaced && p < 7; p++)
        end = rows(f, pass[p][0], pass[p][1], pass[p][2], pass[p][3], end);
    uLongf n = compressBound((uLong)(end - raw));
    packed = malloc(n);
    assert_int_equal(compress(packed, &n, raw, (uLong)(end - raw)), Z_OK);
    FILE *file = fopen(path, "wb");
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, file);
    chunk(file, "IHDR", header, sizeof header);
    for (int i = 0; i < 768; i++) palette[i] = (unsigned char)(i / 3);
    if (f->type == PALETTE) chunk(file, "PLTE", palette, sizeof palette);
    const unsigned char opaque[8] = { 255, 255, 255, 255, 255, 255, 255, 0 };
    if (f->depth == 16) clear[0] = clear[2] = clear[4] = 7;
    if (f->transparent && f->type == PALETTE) chunk(file, "tRNS", opaque, 8);
    if (f->transparent && (f->type == GREY || f->type == RGB))
        chunk(file, "tRNS", clear, f->type == GREY ? 2 : 6);
    chunk(file, "IDAT", packed, n);
    chunk(file, "IEND", NULL, 0);
    fclose(file);
    free(raw);
    free(packed);
}

static const form forms[] = {
    { "grey", GREY, 8, false, false },
    { "grey16", GREY, 16, false, false },
    { "rgb", RGB, 8, false, false },
    { "rgb16", RGB, 16, true, false },
    { "palette", PALETTE, 8, false, false },
    { "clear", GREY, 8, false, true },
    { "clear16", GREY, 16, true, true },
    { "rgbclear", RGB, 8, false, true },
    { "rgbclear16", RGB, 16, false, true },
    { "paletteclear", PALETTE, 8, true, true },
    { "alpha", GREY_ALPHA, 8, true, true },
    { "alpha16", GREY_ALPHA, 16, false, true },
    { "rgba", RGBA, 8, false, true },
    { "rgba16", RGBA, 16, true, true },
};
enum { FORMS = sizeof forms / sizeof *forms };

/* Every way to store the picture gives the same to maps and to a training:
 * what is transparent is white. */
static void forms_of_png(void **state)
{
    float a[40 * 40], b[40 * 40];
    (void)state;
    for (int transparent = 0; transparent < 2; transparent++) {
        data first = { 0 };
        for (int k = 0; k < FORMS; k++) {
            const form *f = &forms[k];
            char name[64];
            picture p;
            data d;
            error e;
            if (f->transparent != transparent) continue;
            make(f->name);
            snprintf(name, sizeof name, "%s/p.png", f->name);
            put_png(in_folder(name), f);
            if (picture_read(in_folder(name), &p, &e)) fail_msg("%s", e.text);
            assert_true(p.channels == 1 || p.channels == 3);
            for (int i = 0; i < PNG * PNG * p.channels; i++) {
                const int y = i / p.channels / PNG, x = i / p.channels % PNG;
                const float want = alpha_of(f, y, x)
                                       ? (float)(ink(y, x) / 255.0) : 1;
                if (fabsf(p.sample[i] - want) > 1e-6f)
                    fail_msg("%s: %d, %d is %g, not %g", f->name, y, x,
                             (double)p.sample[i], (double)want);
            }
            picture_free(&p);
            opened(&d, in_folder(f->name), NULL);
            if (!first.count) {
                first = d;
                continue;
            }
            for (uint64_t i = 0; i < 3; i++) {
                data_picture(&first, 1, i, true, a);
                data_picture(&d, 1, i, true, b);
                for (int j = 0; j < 40 * 40; j++)
                    assert_true(fabsf(a[j] - b[j]) < 1e-4f);
            }
            data_close(&d);
        }
        data_close(&first);
    }
}

/* More classes than a byte counts, each with its number. */
static void many_classes(void **state)
{
    enum { CLASSES = 300 };
    float x[40 * 40];
    char name[64];
    data d;
    (void)state;
    make("many");
    for (int i = 0; i < CLASSES; i++) {
        snprintf(name, sizeof name, "many/%03d", i);
        make(name);
        strcat(name, i % 2 ? "/a.PNG" : "/a.Png");
        put_png(in_folder(name), &forms[0]);
    }
    opened(&d, in_folder("many"), NULL);
    assert_int_equal(d.classes, CLASSES);
    assert_int_equal(d.count, CLASSES);
    for (int i = 0; i < CLASSES; i++)
        assert_int_equal(data_picture(&d, 1, (uint64_t)i, true, x), i);
    data_close(&d);
}

/* A test set has the classes of the training set, by name, not by order. */
static void classes_by_name(void **state)
{
    float x[40 * 40];
    data train, test;
    (void)state;
    static const char *const names[] = { "tr",   "tr/ant", "tr/bee", "tr/cat",
                                         "te",   "te/ant", "te/cat", "odd",
                                         "odd/cow", "gap", "gap/a", "gap/b" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char png[64];
        make(names[i]);
        snprintf(png, sizeof png, "%s/p.png", names[i]);
        if (strchr(names[i], '/') && strcmp(names[i], "gap/b"))
            put_png(in_folder(png), &forms[0]);
    }
    opened(&train, in_folder("tr"), NULL);
    opened(&test, in_folder("te"), &train);
    assert_int_equal(test.classes, 3);
    assert_int_equal(data_picture(&test, 1, 0, true, x), 0);
    assert_int_equal(data_picture(&test, 1, 1, true, x), 2);
    data_close(&test);
    error e = { "" };
    assert_int_equal(data_open(&test, in_folder("odd"), &train, &e), -1);
    assert_non_null(strstr(e.text, "'cow' is no class"));
    data_close(&train);
    assert_int_equal(data_open(&test, in_folder("gap"), NULL, &e), -1);
    assert_non_null(strstr(e.text, "gap/b: the folder of a class has no PNG"));
    put_png(in_folder("tr/loose.png"), &forms[0]);
    refused(in_folder("tr"), "beside the folders of classes");
}

static void what_is_left_out(void **state)
{
    char note[600];
    data d;
    (void)state;
    make("mixed");
    make("mixed/c");
    make("mixed/c/deeper");
    put_png(in_folder("mixed/c/a.png"), &forms[0]);
    opened(&d, in_folder("mixed"), NULL);
    assert_int_equal(d.skipped, 1); /* the folder in the folder of a class */
    data_close(&d);
    put(in_folder("mixed/c/b.jpg"), text, 100);
    put(in_folder("mixed/notes.txt"), text, 100);
    assert_int_equal(symlink("nowhere", in_folder("mixed/c/gone.png")), 0);
    opened(&d, in_folder("mixed"), NULL);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.skipped, 4);
    assert_true(data_note(&d, note, sizeof note));
    assert_non_null(strstr(note, "4 entries"));
    assert_non_null(strstr(note, "mixed/c/b.jpg"));
    data_close(&d);
    make("jpegs");
    put(in_folder("jpegs/a.jpg"), text, 100);
    refused(in_folder("jpegs"), "has no PNG files; it has others, such as");
    make("liars");
    put(in_folder("liars/a.png"), text, 100);
    refused(in_folder("liars"), "not a PNG file");
}

/* ---- scores ------------------------------------------------------------------------- */

/* No record of a test set counts twice; a set without labels is no test of a
 * classifier. */
static void scores(void **state)
{
    trainer t;
    train_score score;
    error e = { "" };
    (void)state;
    put(in_folder("s-images-idx3-ubyte"), pictures, IDX);
    put(in_folder("s-labels-idx1-ubyte"), labels, sizeof labels);
    train_options o = train_default;
    o.model = vit_default;
    o.model.options = att_problem_default;
    o.model.dim = o.model.mlp = 8;
    o.model.depth = o.model.heads = 1;
    o.model.head_dim = 8;
    o.steps = o.warmup = 0;
    o.batch = 4;
    o.data = in_folder("s-images-idx3-ubyte");
    o.task = TRAIN_CLASSIFY;
    if (trainer_open(&t, &o, &e)) fail_msg("%s", e.text);
    assert_int_equal(trainer_evaluate(&t, 2000, &score, &e), 0);
    assert_int_equal(score.items, PICTURES);
    assert_int_equal(trainer_evaluate(&t, 5, &score, &e), 0);
    assert_int_equal(score.items, 5);
    trainer_close(&t);

    o.data = in_folder("many");
    o.test = in_folder("grey");
    assert_int_equal(trainer_open(&t, &o, &e), -1);
    assert_non_null(strstr(e.text, "has no labels"));
}

/* A generated set whose name a folder has, too. */
static void shadowed(void **state)
{
    char note[300], before[256];
    data d;
    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    opened(&d, "leaves", NULL);
    assert_false(data_note(&d, note, sizeof note));
    data_close(&d);
    make("leaves");
    assert_int_equal(chdir(folder), 0);
    opened(&d, "leaves", NULL);
    assert_int_equal(d.kind, DATA_PROCEDURAL);
    assert_true(data_note(&d, note, sizeof note));
    assert_non_null(strstr(note, "./leaves"));
    data_close(&d);
    assert_int_equal(chdir(before), 0);
}

static void labels_of_paths(void **state)
{
    char out[300];
    (void)state;
    static const char *const of[][2] = { { "a/b", "b" }, { "a/b/", "b" },
                                         { "a//b//", "b" }, { "b", "b" },
                                         { "/", "" } };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        assert_string_equal(data_label(of[i][0], out), of[i][1]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_text),     cmocka_unit_test(foreign_bytes),
        cmocka_unit_test(no_files),        cmocka_unit_test(spellings_of_idx),
        cmocka_unit_test(wrong_idx),       cmocka_unit_test(forms_of_png),
        cmocka_unit_test(many_classes),    cmocka_unit_test(classes_by_name),
        cmocka_unit_test(what_is_left_out), cmocka_unit_test(scores),
        cmocka_unit_test(labels_of_paths), cmocka_unit_test(shadowed),
    };
    test_arguments(argc, argv);
    if (!test_folder(folder, sizeof folder, "data")) return 1;
    make_text();
    make_idx();
    const int failed = cmocka_run_group_tests_name("data", tests, NULL, NULL);
    test_folder_remove(folder);
    return failed;
}
