/* journal.c - the append-only file of rows.
 *
 * A row exists when its newline is on the disk: it is written by one write()
 * and synced before anybody is told about it.  So after a crash at most the
 * last line is broken, and it was never reported.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "file.h"

static const char file_name[] = "journal.jsonl";
enum { READ_LIMIT = 1 << 30 };

/* ---- reading ------------------------------------------------------------- */

static int check_row(const json *row, const char *path, int line, error *e)
{
    const double schema = json_number(json_get(row, "schema"), 0);
    if (!json_is_object(row) || !json_text(json_get(row, "kind")))
        return error_set(e, "%s:%d: not a row (an object with a \"kind\")",
                         path, line);
    if (schema != JOURNAL_SCHEMA)
        return error_set(e,
                         "%s:%d: schema %g, this program reads schema %d: use "
                         "the version of attnbench that wrote it",
                         path, line, schema, JOURNAL_SCHEMA);
    return 0;
}

static int add_row(journal *j, json *row)
{
    if (j->count % 256 == 0) {
        const size_t room = (size_t)j->count + 256;
        json **rows = realloc(j->rows, room * sizeof *rows);
        if (!rows) return -1;
        j->rows = rows;
    }
    j->rows[j->count++] = row;
    return 0;
}

/* Line number `line` is text[0..size), without its newline. */
static int read_line(journal *j, const char *text, size_t size, int line,
                     bool last, error *e)
{
    error why;
    json *row = json_parse(text, size, "", &why);
    if (!row && last) {
        j->torn = 1;
        return 0;
    }
    if (!row)
        return error_set(e,
                         "%s:%d: this line is broken (not JSON): remove it, or "
                         "restore the file from a copy",
                         j->path, line);
    if (check_row(row, j->path, line, e) < 0) {
        json_free(row);
        return -1;
    }
    if (add_row(j, row) == 0) return 0;
    json_free(row);
    return error_set(e, "%s: not enough memory to read it", j->path);
}

static int read_lines(journal *j, const char *text, size_t size, error *e)
{
    const char *end = text + size;
    for (int line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        if (!newline) { /* never finished, even if it looks whole */
            j->torn = 1;
            break;
        }
        if (read_line(j, text, (size_t)(newline - text), line,
                      newline + 1 == end, e) < 0)
            return -1;
        text = newline + 1;
    }
    return 0;
}

int journal_read(journal *j, const char *dir, error *e)
{
    char *text;
    size_t size;

    *j = (journal){ .path = path_join(dir, file_name) };
    if (access(j->path, F_OK) < 0 && errno == ENOENT)
        error_set(e, "%s: there is no such journal; 'attnbench sweep --out %s' "
                     "would make one",
                  j->path, dir);
    else if (file_read(j->path, READ_LIMIT, &text, &size, e) == 0) {
        const int rc = read_lines(j, text, size, e);
        free(text);
        if (rc == 0) return 0;
    }
    journal_free(j);
    return -1;
}

void journal_free(journal *j)
{
    for (int i = 0; i < j->count; i++) json_free(j->rows[i]);
    free(j->rows);
    free(j->path);
    *j = (journal){ 0 };
}

const json *journal_env(const journal *j, const json *row)
{
    const char *id = json_text(json_get(row, "env"));
    for (int i = 0; id && i < j->count; i++) {
        const char *kind = json_text(json_get(j->rows[i], "kind"));
        const char *other = json_text(json_get(j->rows[i], "id"));
        if (other && !strcmp(kind, "env") && !strcmp(id, other))
            return j->rows[i];
    }
    return NULL;
}

/* ---- appending ----------------------------------------------------------- */

/* Start of the last line that ends before `end`. */
static off_t line_start(int fd, off_t end)
{
    char block[4096];
    while (end > 0) {
        const off_t from = end > (off_t)sizeof block
                               ? end - (off_t)sizeof block : 0;
        const ssize_t n = pread(fd, block, (size_t)(end - from), from);
        if (n != end - from) return -1;
        for (ssize_t i = n; i > 0; i--)
            if (block[i - 1] == '\n') return from + i;
        end = from;
    }
    return 0;
}

/* Whether bytes [from, to) of the file are one JSON value. */
static bool parses(int fd, off_t from, off_t to)
{
    const size_t size = (size_t)(to - from);
    char *text = malloc(size + 1);
    json *row = NULL;
    if (text && pread(fd, text, size, from) == (ssize_t)size)
        row = json_parse(text, size, "", NULL);
    free(text);
    json_free(row);
    return row != NULL;
}

/* Cuts off a last line that has no newline or is not JSON. */
static int repair(const journal_writer *w, error *e)
{
    const off_t size = lseek(w->fd, 0, SEEK_END);
    char last = 0;
    if (size == 0) return 0;
    off_t keep = size;
    if (size > 0 && pread(w->fd, &last, 1, size - 1) == 1) {
        const off_t start = line_start(w->fd, last == '\n' ? size - 1 : size);
        if (start >= 0 && (last != '\n' || !parses(w->fd, start, size - 1)))
            keep = start;
        if (start >= 0 && (keep == size || ftruncate(w->fd, keep) == 0))
            return 0;
    }
    return error_set(e, "%s: cannot repair the last line: %s", w->path,
                     strerror(errno));
}

static void sync_folder(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* some file systems cannot; rows are synced themselves */
    close(fd);
}

int journal_open(journal_writer *w, const char *dir, error *e)
{
    *w = (journal_writer){ .fd = -1 };
    if (folder_make(dir, e) < 0) return -1;
    w->path = path_join(dir, file_name);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int rc = -1;
    if (w->fd < 0)
        error_set(e, "%s: cannot open: %s", w->path, strerror(errno));
    else if (flock(w->fd, LOCK_EX | LOCK_NB) < 0)
        error_set(e,
                  errno == EWOULDBLOCK
                      ? "%s: another run is writing to it: wait for that, or "
                        "choose another folder"
                      : "%s: cannot lock it; choose a folder on a local disk",
                  w->path);
    else rc = repair(w, e);
    if (rc < 0) journal_close(w);
    else sync_folder(dir);
    return rc;
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

int journal_append(journal_writer *w, const json *row, error *e)
{
    const off_t before = lseek(w->fd, 0, SEEK_END);
    char *text = json_print(row, false);
    const size_t size = strlen(text);
    text[size] = '\n'; /* one write; the terminator is not needed any more */
    int rc = before < 0 ? -1 : write_all(w->fd, text, size + 1);
    if (rc == 0) rc = fdatasync(w->fd);
    if (rc < 0) {
        error_set(e, "%s: cannot add a row: %s; finished rows are safe",
                  w->path, strerror(errno));
        /* if even that fails, the next journal_open() repairs the line */
        if (before >= 0 && ftruncate(w->fd, before) < 0) errno = 0;
    }
    free(text);
    return rc;
}

void journal_close(journal_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    *w = (journal_writer){ .fd = -1 };
}
