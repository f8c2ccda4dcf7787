/* file.c - whole files in, whole files out. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

char *path_join(const char *dir, const char *name)
{
    const size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    char *path = sure(malloc(n + strlen(name) + 2));
    sprintf(path, "%s%s%s", dir, n ? slash : "", name);
    return path;
}

/* ---- reading ------------------------------------------------------------- */

/* Reads to the end; works for pipes too, whose size is not known before. */
static int read_all(FILE *f, const char *path, size_t limit, char **data,
                    size_t *size, error *e)
{
    size_t room = 1 << 16, n = 0;
    char *bytes = malloc(room);

    while (bytes) {
        n += fread(bytes + n, 1, room - 1 - n, f);
        if (n < room - 1 || n > limit) break;
        char *more = realloc(bytes, room *= 2);
        if (!more) free(bytes);
        bytes = more;
    }
    if (!bytes)
        return error_set(e, "%s: not enough memory to read it", path);
    if (ferror(f)) {
        free(bytes);
        return error_set(e, "%s: cannot read: %s", path, strerror(errno));
    }
    if (n > limit) {
        free(bytes);
        return error_set(e, "%s: larger than the limit of %zu bytes", path,
                         limit);
    }
    bytes[n] = 0;
    *data = bytes;
    *size = n;
    return 0;
}

int file_read(const char *path, size_t limit, char **data, size_t *size,
              error *e)
{
    struct stat about;
    FILE *f = fopen(path, "rbe");
    if (!f) return error_set(e, "%s: %s", path, strerror(errno));
    int rc;
    if (fstat(fileno(f), &about) == 0 && S_ISDIR(about.st_mode))
        rc = error_set(e, "%s: is a folder, not a file", path);
    else rc = read_all(f, path, limit, data, size, e);
    fclose(f);
    return rc;
}

/* ---- where a path leads --------------------------------------------------- */

/* The name in place of a symbolic link: relative ones are of the link's folder.
 * NULL if the path is no link. */
static char *read_link(const char *path)
{
    char to[4096];
    const ssize_t n = readlink(path, to, sizeof to - 1);
    if (n <= 0) return NULL;
    to[n] = 0;
    const char *slash = strrchr(path, '/');
    if (*to == '/' || !slash) return sure(strdup(to));
    char *folder = sure(strndup(path, (size_t)(slash - path) + 1));
    char *whole = path_join(folder, to);
    free(folder);
    return whole;
}

/* Follows symbolic links to their end, which need not be there (realpath() would
 * want it to be); allocated.  NULL with errno: they lead in a circle. */
static char *follow(const char *path)
{
    enum { LINKS = 40 }; /* as the kernel has it */
    char *at = sure(strdup(path));
    for (int i = 0; i < LINKS; i++) {
        char *next = read_link(at);
        if (!next) return at;
        free(at);
        at = next;
    }
    free(at);
    errno = ELOOP;
    return NULL;
}

/* ---- writing ------------------------------------------------------------- */

/* "-" is where a stream is meant; a device or pipe must not be replaced, nor
 * what this process itself prints to. */
static int check_name(const char *path, const struct stat *about, bool there,
                      error *e)
{
    if (!strcmp(path, "-"))
        return error_set(e, "-: this cannot be written to the standard output: "
                            "name a file (./- if it is called so)");
    if (there && S_ISDIR(about->st_mode))
        return error_set(e, "%s: is a folder, not a file: choose another name",
                         path);
    if ((there && !S_ISREG(about->st_mode)) || !strncmp(path, "/dev/", 5) ||
        !strncmp(path, "/proc/", 6))
        return error_set(e, "%s: is not a regular file: choose another name",
                         path);
    return 0;
}

/* Opens the temporary file; where the folder takes none, one without a name, to
 * be copied into the file that is there. */
static FILE *open_temporary(file_writer *w, const struct stat *old)
{
    const int fd = open(w->temporary,
                        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0) {
        FILE *f = fdopen(fd, "wb");
        if (old && fchmod(fd, old->st_mode & 07777) < 0) errno = 0; /* a wish */
        if (f) return f;
        close(fd);
        unlink(w->temporary);
        return NULL;
    }
    const int why = errno;
    if (!old || access(w->path, W_OK) < 0) {
        errno = why;
        return NULL;
    }
    free(w->temporary);
    w->temporary = NULL;
    return tmpfile();
}

int file_begin(file_writer *w, const char *path, error *e)
{
    char suffix[32];
    struct stat about;
    const bool there = stat(path, &about) == 0;
    *w = (file_writer){ 0 };
    if (check_name(path, &about, there, e) < 0) return -1;
    snprintf(suffix, sizeof suffix, ".%ld.tmp", (long)getpid());
    w->path = follow(path);
    if (!w->path)
        return error_set(e, "%s: cannot write: %s", path, strerror(errno));
    w->temporary = sure(malloc(strlen(w->path) + sizeof suffix));
    sprintf(w->temporary, "%s%s", w->path, suffix);
    w->stream = open_temporary(w, there ? &about : NULL);
    if (w->stream) return 0;
    error_set(e, "%s: cannot write: %s", path, strerror(errno));
    free(w->path);
    free(w->temporary);
    *w = (file_writer){ 0 };
    return -1;
}

static void forget(file_writer *w)
{
    free(w->path);
    free(w->temporary);
    *w = (file_writer){ 0 };
}

void file_abandon(file_writer *w)
{
    if (w->stream) fclose(w->stream);
    if (w->temporary) unlink(w->temporary);
    forget(w);
}

/* Writes the contents of a stream over a file, whose room is made sure of
 * first; false with errno. */
static bool copy_over(FILE *from, const char *path)
{
    char block[1 << 16];
    size_t n;
    const off_t size = ftello(from);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    int why = size > 0 ? posix_fallocate(fd, 0, size) : 0;
    if (why == EOPNOTSUPP || why == EINVAL) why = 0; /* cannot be asked */
    rewind(from);
    while (!why && (n = fread(block, 1, sizeof block, from)) > 0)
        if (write(fd, block, n) != (ssize_t)n) why = errno ? errno : ENOSPC;
    if (!why && (ferror(from) || ftruncate(fd, size) < 0 || fsync(fd) < 0))
        why = errno;
    if (close(fd) < 0 && !why) why = errno;
    errno = why;
    return !why;
}

int file_commit(file_writer *w, error *e)
{
    errno = 0;
    bool bad = ferror(w->stream);
    bad |= fflush(w->stream) != 0;
    /* EINVAL: a file system that cannot sync */
    bad |= !bad && fsync(fileno(w->stream)) != 0 && errno != EINVAL;
    bad |= !bad && !w->temporary && !copy_over(w->stream, w->path);
    int why = errno;
    bad |= fclose(w->stream) != 0 && (why = errno, true);
    w->stream = NULL;
    if (!bad && (!w->temporary || rename(w->temporary, w->path) == 0)) {
        forget(w);
        return 0;
    }
    if (!bad) why = errno;
    error_set(e, "%s: cannot write: %s", w->path,
              why ? strerror(why) : "the disk may be full");
    file_abandon(w);
    return -1;
}

int file_check(const char *path, error *e)
{
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    file_abandon(&w);
    return 0;
}

int file_write(const char *path, const void *data, size_t size, error *e)
{
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    fwrite(data, 1, size, w.stream); /* file_commit sees a failure */
    return file_commit(&w, e);
}

/* ---- folders ------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static int make_one(const char *path)
{
    char *real = follow(path);
    if (!real) return -1;
    const int why = mkdir(real, 0777) < 0 ? errno : 0;
    const bool there = !why || is_folder(real);
    free(real);
    errno = why == EEXIST ? ENOTDIR : why;
    return there ? 0 : -1;
}

int folder_make(const char *path, error *e)
{
    if (!*path) return error_set(e, "the name of a folder is empty");
    if (!strcmp(path, "-"))
        return error_set(e, "-: results are a folder of files, which the "
                            "standard output cannot take: name a folder (./- "
                            "if it is called so)");
    char *part = sure(strdup(path));
    for (char *c = part + 1;; c++) {
        const char saved = *c;
        if (saved && saved != '/') continue;
        *c = 0;
        if (make_one(part) < 0) {
            error_set(e, "%s: cannot make this folder: %s", part,
                      strerror(errno));
            free(part);
            return -1;
        }
        if (!saved) break;
        *c = saved;
    }
    free(part);
    return 0;
}
