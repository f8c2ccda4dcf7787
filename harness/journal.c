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
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

static const char file_name[] = "journal.jsonl";
enum { READ_LIMIT = 1 << 30 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- reading ------------------------------------------------------------- */

static int check_row(const json *row, const char *path, int line, error *e)
{
    const double schema = json_number(json_get(row, "schema"), 0);
    if (!json_is_object(row) || !json_text(json_get(row, "kind")))
        return error_set(e, "%s:%d: not a row (an object with a \"kind\")",
                         path, line);
    if (schema < 1 || schema > JOURNAL_SCHEMA || schema != (int)schema)
        return error_set(e,
                         "%s:%d: schema %g, this program reads schema 1 to %d: "
                         "use the version of attnbench that wrote it",
                         path, line, schema, JOURNAL_SCHEMA);
    return 0;
}

/* Takes the row over. */
static int add_row(journal *j, json *row, int line, error *e)
{
    const size_t room = (size_t)j->count + 256;
    if (j->count % 256 == 0) {
        j->rows = sure(realloc(j->rows, room * sizeof *j->rows));
        j->row = sure(realloc(j->row, room * sizeof *j->row));
        j->line = sure(realloc(j->line, room * sizeof *j->line));
    }
    if (row_read(&j->row[j->count], row, j->path, line, e) < 0) {
        json_free(row);
        return -1;
    }
    j->line[j->count] = line;
    j->rows[j->count++] = row;
    if (!row_has(j->row[j->count - 1].kind, "env")) return 0;
    j->env = sure(realloc(j->env, (size_t)(j->envs + 1) * sizeof *j->env));
    j->env[j->envs++] = row;
    return 0;
}

/* Whether the text begins as rows do that this program prints (env rows of
 * earlier versions began with its name). */
static bool begins_as_row(const char *text, size_t size)
{
    static const char *const starts[] = { "{\"kind\":\"", "{\"attnbench\":\"" };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        const size_t n = strlen(starts[i]);
        if (!strncmp(text, starts[i], n < size ? n : size)) return true;
    }
    return false;
}

/* Whether the text is a row that breaks off: what a crash leaves of it.  Zeros
 * at its end are blocks that never reached the disk. */
static bool breaks_off(const char *text, size_t size)
{
    int depth = 0;
    bool quoted = false;
    while (size && !text[size - 1]) size--;
    if (!begins_as_row(text, size)) return false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && text[i] == '\\') i++;
        else if (text[i] == '"') quoted = !quoted;
        else if (quoted) continue;
        else if (text[i] == '{' || text[i] == '[') depth++;
        else if ((text[i] == '}' || text[i] == ']') && --depth == 0)
            return false; /* an object, and something behind it */
    }
    return true;
}

static bool is_blank(const char *text, size_t size)
{
    while (size && strchr(" \t\r", text[size - 1]) && text[size - 1]) size--;
    return size == 0;
}

/* Line number `line` is text[0..size), without its newline. */
static int read_line(journal *j, const char *text, size_t size, int line,
                     bool ended, error *e)
{
    json *row;
    if (is_blank(text, size)) return 0;
    row = json_parse(text, size, "", NULL);
    if (!row && !ended && breaks_off(text, size)) {
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
    j->open_end = !ended;
    return add_row(j, row, line, e);
}

static int read_lines(journal *j, const char *text, size_t size, error *e)
{
    static const char mark[] = "\xef\xbb\xbf";
    const char *start = text, *end = text + size;
    if (size >= 3 && !memcmp(text, mark, 3)) text += 3;
    for (int line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        if (read_line(j, text, (size_t)(stop - text), line, newline != NULL,
                      e) < 0)
            return -1;
        if (j->torn) break;
        text = newline ? newline + 1 : end;
    }
    j->whole = (size_t)(text - start);
    return 0;
}

/* The file, if it is there and no device or pipe, which may have no end. */
static int read_file(const char *dir, const char *path, char **text,
                     size_t *size, error *e)
{
    struct stat about;
    if (stat(path, &about) < 0 && errno == ENOENT)
        return error_set(e, "%s: there is no such journal; 'attnbench sweep "
                            "--out %s' would make one",
                         path, dir);
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode) &&
        !S_ISDIR(about.st_mode))
        return error_set(e, "%s: is not a regular file", path);
    return file_read(path, READ_LIMIT, text, size, e);
}

int journal_read(journal *j, const char *dir, error *e)
{
    char *text;
    size_t size;

    *j = (journal){ .path = path_join(dir, file_name) };
    if (read_file(dir, j->path, &text, &size, e) == 0) {
        const int rc = read_lines(j, text, size, e);
        free(text);
        if (rc == 0) return 0;
    }
    journal_free(j);
    return -1;
}

void journal_free(journal *j)
{
    for (int i = 0; i < j->count; i++) {
        row_free(&j->row[i]);
        json_free(j->rows[i]);
    }
    free(j->rows);
    free(j->row);
    free(j->line);
    free(j->env);
    free(j->path);
    *j = (journal){ 0 };
}

const json *journal_env(const journal *j, const struct row *row)
{
    for (int i = 0; row->env && i < j->envs; i++)
        if (row_has(json_text(json_get(j->env[i], "id")), row->env))
            return j->env[i];
    return NULL;
}

/* ---- appending ----------------------------------------------------------- */

/* Leaves the file at the end of a line: cuts off what was never finished, and
 * ends a last row that lacks its newline. */
static int repair(const journal_writer *w, const journal *before, error *e)
{
    int rc = 0;
    if (before->torn) rc = ftruncate(w->fd, (off_t)before->whole);
    else if (before->open_end) rc = write(w->fd, "\n", 1) == 1 ? 0 : -1;
    return rc == 0 ? 0
                   : error_set(e, "%s: cannot repair the last line: %s",
                               w->path, strerror(errno));
}

static void sync_folder(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd); /* some file systems cannot; rows are synced themselves */
    close(fd);
}

/* A pipe would be waited for, a device be written to. */
static int open_file(journal_writer *w, error *e)
{
    struct stat about;
    if (stat(w->path, &about) == 0 && !S_ISREG(about.st_mode))
        return error_set(e, "%s: is not a regular file: choose another folder",
                         w->path);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (w->fd < 0)
        return error_set(e, "%s: cannot open: %s", w->path, strerror(errno));
    if (flock(w->fd, LOCK_EX | LOCK_NB) == 0) return 0;
    return error_set(e,
                     errno == EWOULDBLOCK
                         ? "%s: another run is writing to it: wait for that, or "
                           "choose another folder"
                         : "%s: cannot lock it; choose a folder on a local disk",
                     w->path);
}

int journal_open(journal_writer *w, const char *dir, journal *before, error *e)
{
    journal own = { 0 }, *j = before ? before : &own;
    *w = (journal_writer){ .fd = -1 };
    *j = own;
    if (folder_make(dir, e) < 0) return -1;
    w->path = path_join(dir, file_name);
    int rc = open_file(w, e);
    if (rc == 0) rc = journal_read(j, dir, e);
    if (rc == 0) rc = repair(w, j, e);
    if (rc < 0 || !before) journal_free(j);
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
