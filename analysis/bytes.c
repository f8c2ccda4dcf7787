/* bytes.c - user data: unpacked, and recognised by their first bytes. */
#define _DEFAULT_SOURCE /* S_ISSOCK */
#include "bytes.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* Largest file that is read into memory, unpacked. */
#define MOST_BYTES ((size_t)1 << (sizeof(size_t) > 4 ? 32 : 31))

/* ---- reading ---------------------------------------------------------------------- */

static int check_kind(const char *path, error *e)
{
    struct stat about;
    if (stat(path, &about))
        return error_set(e, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISREG(about.st_mode)) return 0;
    return error_set(e, "%s: is %s, not a file: data are read more than once, "
                        "so write them to a file first", path,
                     S_ISDIR(about.st_mode)    ? "a folder"
                     : S_ISFIFO(about.st_mode) ? "a pipe"
                     : S_ISSOCK(about.st_mode) ? "a socket"
                                               : "a device");
}

/* All that gzread gives.  -1: an error of zlib or of the file; -2: too large. */
static int read_all(gzFile f, bytes_file *out)
{
    const size_t most_at_once = (size_t)1 << 28;
    size_t room = (size_t)1 << 20;
    if (!(out->at = malloc(room))) abort();
    for (;;) {
        const size_t left = room - out->size;
        const int got = gzread(f, out->at + out->size,
                               (unsigned)(left < most_at_once ? left
                                                              : most_at_once));
        if (got <= 0) return got;
        out->size += (size_t)got;
        if (out->size > MOST_BYTES) return -2;
        if (out->size < room) continue;
        unsigned char *more = realloc(out->at, room *= 2);
        if (!more) abort();
        out->at = more;
    }
}

int bytes_read(const char *path, bytes_file *out, error *e)
{
    *out = (bytes_file){ 0 };
    if (check_kind(path, e)) return -1;
    gzFile f = gzopen(path, "rbe");
    if (!f)
        return error_set(e, "%s: cannot open: %s", path, strerror(errno));
    const int rc = read_all(f, out);
    if (rc == 0) {
        out->cut = gzclose(f) == Z_BUF_ERROR;
        return 0;
    }
    int code;
    const char *why = gzerror(f, &code);
    if (rc == -2)
        error_set(e, "%s: is larger than %zu GiB%s: give a part of it", path,
                  MOST_BYTES >> 30, gzdirect(f) ? "" : " unpacked");
    else if (code == Z_ERRNO)
        error_set(e, "%s: cannot read: %s", path, strerror(errno));
    else
        error_set(e, "%s: byte %zu: broken gzip data: %s", path, out->size, why);
    gzclose(f);
    free(out->at);
    *out = (bytes_file){ 0 };
    return -1;
}

/* ---- recognising ------------------------------------------------------------------- */

#define UNPACK "unpack it first"
#define PNGS   "convert it to PNG, and give the folder"
#define PLAIN  "extract its text first"

/* Bytes at a place that no text begins with. */
static const struct mark {
    size_t at, length;
    const char *bytes, *what;
} marks[] = {
#define MARK(at, bytes, what) { at, sizeof bytes - 1, bytes, what }
    MARK(0, "\x1f\x8b", "gzip data within gzip data: unpack it twice"),
    MARK(0, "\x1f\x9d", "packed by compress: " UNPACK),
    MARK(0, "BZh", "a bzip2 file: " UNPACK),
    MARK(0, "\xfd" "7zXZ", "an xz file: " UNPACK),
    MARK(0, "\x5d\0\0", "an lzma file: " UNPACK),
    MARK(0, "\x28\xb5\x2f\xfd", "a Zstandard file: " UNPACK),
    MARK(0, "\x04\x22\x4d\x18", "an LZ4 file: " UNPACK),
    MARK(0, "\xff\x06\0\0sNaPpY", "a Snappy file: " UNPACK),
    MARK(0, "\x89LZO", "an LZO file: " UNPACK),
    MARK(0, "LZIP", "an lzip file: " UNPACK),
    MARK(0, "\x78\x9c", "zlib data: " UNPACK),
    MARK(0, "\x78\xda", "zlib data: " UNPACK),
    MARK(0, "PK\3\4", "a zip archive (.zip, .npz, .pt, .docx ...): " UNPACK),
    MARK(0, "PK\5\6", "an empty zip archive"),
    MARK(0, "7z\xbc\xaf\x27\x1c", "a 7z archive: " UNPACK),
    MARK(0, "Rar!\x1a", "a RAR archive: " UNPACK),
    MARK(257, "ustar", "a tar archive: " UNPACK),
    MARK(0, "\x89PNG", "a PNG picture: give the folder that it is in"),
    MARK(0, "\xff\xd8\xff", "a JPEG picture: " PNGS),
    MARK(0, "GIF8", "a GIF picture: " PNGS),
    MARK(8, "WEBP", "a WebP picture: " PNGS),
    MARK(0, "II*\0", "a TIFF picture: " PNGS),
    MARK(0, "MM\0*", "a TIFF picture: " PNGS),
    MARK(0, "8BPS", "a Photoshop picture: " PNGS),
    MARK(0, "%PDF-", "a PDF document: " PLAIN),
    MARK(0, "\xd0\xcf\x11\xe0", "an Office document: " PLAIN),
    MARK(0, "\xff\xfe\0\0", "UTF-32 text: iconv -f UTF-32 -t UTF-8 makes bytes "
                            "of it"),
    MARK(0, "\0\0\xfe\xff", "UTF-32 text: iconv -f UTF-32 -t UTF-8 makes bytes "
                            "of it"),
    MARK(0, "\xff\xfe", "UTF-16 text: iconv -f UTF-16 -t UTF-8 makes bytes of it"),
    MARK(0, "\xfe\xff", "UTF-16 text: iconv -f UTF-16 -t UTF-8 makes bytes of it"),
    MARK(0, "\0\0\x08\1", "IDX labels: give the file of the pictures"),
    MARK(0, "\x93NUMPY", "a NumPy array"),
    MARK(0, "\x89HDF", "an HDF5 file"),
    MARK(0, "MATLAB 5.0 MAT-file", "a MATLAB file"),
    MARK(0, "PAR1", "a Parquet file: " PLAIN),
    MARK(0, "ARROW1", "an Arrow file: " PLAIN),
    MARK(0, "SQLite format 3", "an SQLite database"),
    MARK(0, "\x80\2", "a Python pickle"),
    MARK(0, "\x80\3", "a Python pickle"),
    MARK(0, "\x80\4", "a Python pickle"),
    MARK(0, "\x80\5", "a Python pickle"),
    MARK(8, "{\"", "a safetensors file"), /* with its length: see below */
    MARK(0, "\x7f" "ELF", "a program"),
    MARK(0, "MZ\x90\0", "a program"),
    MARK(8, "WAVE", "a sound"),
    MARK(0, "OggS", "a sound or film"),
    MARK(0, "fLaC", "a sound"),
    MARK(0, "ID3\3", "a sound"),
    MARK(0, "ID3\4", "a sound"),
    MARK(4, "ftyp", "a film"),
#undef MARK
};

static bool is(const struct mark *m, const unsigned char *at, size_t size)
{
    if (size < m->at + m->length || memcmp(at + m->at, m->bytes, m->length))
        return false;
    if (m->at != 8) return true;
    if (m->bytes[0] != '{') return !memcmp(at, "RIFF", 4);
    uint64_t header = 0; /* of a safetensors file: its length, little endian */
    for (int i = 7; i >= 0; i--) header = header << 8 | at[i];
    return header >= 2 && header <= size - 8;
}

/* Text of 2 or 4 bytes a character without a mark at its start: of every such
 * group all bytes but one are nearly always 0, and that one nearly never. */
static bool is_wide(const unsigned char *at, size_t size, size_t width)
{
    size_t zero[4] = { 0 }, groups = (size < 4096 ? size : 4096) / width;
    int empty = 0, full = 0;
    for (size_t i = 0; i < groups * width; i++) zero[i % width] += !at[i];
    for (size_t k = 0; k < width; k++) {
        empty += zero[k] >= groups - groups / 10;
        full += zero[k] <= groups / 100;
    }
    return groups >= 16 && full == 1 && empty == (int)width - 1;
}

const char *bytes_foreign(const unsigned char *at, size_t size)
{
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (is(&marks[i], at, size)) return marks[i].what;
    if (is_wide(at, size, 2))
        return "UTF-16 text: iconv -f UTF-16LE (or BE) -t UTF-8 makes bytes of it";
    if (is_wide(at, size, 4))
        return "UTF-32 text: iconv -f UTF-32LE (or BE) -t UTF-8 makes bytes of it";
    return NULL;
}
