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

/* ---- writing ------------------------------------------------------------- */

int file_begin(file_writer *w, const char *path, error *e)
{
    char suffix[32];
    struct stat about;
    /* the rename would put a file in the place of a device or pipe */
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
        return error_set(e, "%s: is not a regular file: choose another name",
                         path);
    snprintf(suffix, sizeof suffix, ".%ld.tmp", (long)getpid());
    w->path = sure(strdup(path));
    w->temporary = sure(malloc(strlen(path) + sizeof suffix));
    sprintf(w->temporary, "%s%s", path, suffix);

    const int fd = open(w->temporary,
                        O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    w->stream = fd < 0 ? NULL : fdopen(fd, "wb");
    if (w->stream) return 0;
    error_set(e, "%s: cannot write: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
        unlink(w->temporary);
    }
    free(w->path);
    free(w->temporary);
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

int file_commit(file_writer *w, error *e)
{
    errno = 0;
    bool bad = ferror(w->stream);
    bad |= fflush(w->stream) != 0;
    /* EINVAL: a pipe or device, which has nothing to sync */
    bad |= !bad && fsync(fileno(w->stream)) != 0 && errno != EINVAL;
    int why = errno;
    bad |= fclose(w->stream) != 0 && (why = errno, true);
    w->stream = NULL;
    if (!bad && rename(w->temporary, w->path) == 0) {
        forget(w);
        return 0;
    }
    if (!bad) why = errno;
    error_set(e, "%s: cannot write: %s", w->path,
              why ? strerror(why) : "the disk may be full");
    file_abandon(w);
    return -1;
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

int folder_make(const char *path, error *e)
{
    if (!*path) return error_set(e, "the name of a folder is empty");
    char *part = sure(strdup(path));
    for (char *c = part + 1;; c++) {
        const char saved = *c;
        if (saved && saved != '/') continue;
        *c = 0;
        const int why = mkdir(part, 0777) < 0 ? errno : 0;
        if (why && !is_folder(part)) {
            error_set(e, "%s: cannot make this folder: %s", part,
                      strerror(why == EEXIST ? ENOTDIR : why));
            free(part);
            return -1;
        }
        if (!saved) break;
        *c = saved;
    }
    free(part);
    return 0;
}
