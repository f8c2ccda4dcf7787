/* caption.c - what a figure does not show, and its caption. */
#include "caption.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- what is not shown --------------------------------------------------- */

static void append(char *out, size_t size, const char *separator,
                   const char *text)
{
    const size_t n = strlen(out);
    snprintf(out + n, size - n, "%s%s", n ? separator : "", text);
}

enum { STATUSES = 16 };

static void note_failed(const slice *s, char *out, size_t size)
{
    const char *status[STATUSES];
    int number[STATUSES], count = 0, failed = 0;
    char text[256] = "";
    for (int i = 0; i < s->count; i++) {
        int k = 0;
        if (s->item[i]->ok) continue;
        failed++;
        while (k < count && strcmp(status[k], s->item[i]->status)) k++;
        if (k == STATUSES) continue;
        if (k == count) {
            status[k] = s->item[i]->status;
            number[count++] = 0;
        }
        number[k]++;
    }
    if (!failed) return;
    for (int k = 0; k < count; k++) {
        char one[64];
        snprintf(one, sizeof one, "%d %.40s", number[k], status[k]);
        append(text, sizeof text, ", ", one);
    }
    char whole[320];
    snprintf(whole, sizeof whole, "%d case%s without a point: %s.", failed,
             failed == 1 ? "" : "s", text);
    append(out, size, " ", whole);
}

static void note_zeros(const lines *all, const char *what, char *out,
                       size_t size)
{
    char list[512] = "", text[600];
    for (int i = 0; i < all->count; i++)
        if (all->item[i].zeros)
            append(list, sizeof list, ", ", all->item[i].label);
    if (!*list) return;
    snprintf(text, sizeof text, "No %s (0): %s.", what, list);
    append(out, size, " ", text);
}

static bool any_hollow(const lines *all)
{
    for (int i = 0; i < all->count; i++)
        for (int k = 0; k < all->item[i].count; k++)
            if (all->item[i].at[k].point.hollow) return true;
    return false;
}

void caption_note(const results *r, const slice *s, const lines *all,
                  const char *zero, char *out, size_t size)
{
    char text[160];
    *out = 0;
    if (zero) note_zeros(all, zero, out, size);
    if (any_hollow(all))
        append(out, size, " ", "Hollow: unreliable (attnbench check says why).");
    note_failed(s, out, size);
    if (all->lonely) {
        snprintf(text, sizeof text, "%d kernel%s measured at one place only %s "
                                    "left out.", all->lonely,
                 all->lonely == 1 ? "" : "s", all->lonely == 1 ? "is" : "are");
        append(out, size, " ", text);
    }
    if (all->duplicates) {
        snprintf(text, sizeof text, "%d case%s of other grid shapes at the "
                                    "same number of tokens left out.",
                 all->duplicates, all->duplicates == 1 ? "" : "s");
        append(out, size, " ", text);
    }
    if (r->left_out) {
        snprintf(text, sizeof text, "%d case%s of other machines or of other "
                                    "code in this journal left out.",
                 r->left_out, r->left_out == 1 ? "" : "s");
        append(out, size, " ", text);
    }
    if (r->env_count > 1) {
        snprintf(text, sizeof text, "Mixed: cases of %d machines or programs, "
                                    "@ says which.", r->env_count);
        append(out, size, " ", text);
    }
}

/* ---- caption ------------------------------------------------------------- */

static void how_timed(const slice *s, char *out, size_t size)
{
    double least = INFINITY, most = 0, processes = 0;
    for (int i = 0; i < s->count; i++) {
        if (!s->item[i]->ok) continue;
        const double n = s->item[i]->row->time_ns.n;
        least = fmin(least, n);
        most = fmax(most, n);
        processes = fmax(processes,
                         s->item[i]->row->time_ns.processes);
    }
    char range[64];
    snprintf(range, sizeof range, least < most ? "%.0f to %.0f" : "%.0f", least,
             most);
    snprintf(out, size, " Times are medians of %s samples from %.0f process%s "
                        "with 95 %% intervals; samples that lost time to other "
                        "processes or guests are left out.",
             range, processes, processes == 1 ? "" : "es");
}

static void where_from(const results *r, char *out, size_t size)
{
    char machine[160], compiler[400], revision[96];
    const json *env = r->item[r->count - 1].env;
    results_machine(env, machine, sizeof machine);
    results_compiler(env, compiler, sizeof compiler);
    results_revision(env, revision, sizeof revision);
    snprintf(out, size, "%s; %s; revision %s; journal sha256 %.16s.", machine,
             compiler, revision, r->hash);
}

void caption_comment(const results *r, const slice *s, const char *file,
                     char *out, size_t size)
{
    char fixed[512], from[800];
    slice_describe(s, fixed, sizeof fixed);
    where_from(r, from, sizeof from);
    snprintf(out, size, "%s: 'gnuplot %s.gp' in this folder draws it again "
                        "from %s.tsv\nfixed: %s\n%s\n",
             file, file, file, fixed, from);
}

int caption_write(const char *dir, const char *file, const results *r,
                  const slice *s, const char *subject, bool times,
                  const char *note, error *e)
{
    char fixed[512], timed[256] = "", from[800], name[256];
    file_writer w;
    slice_describe(s, fixed, sizeof fixed);
    if (times) how_timed(s, timed, sizeof timed);
    where_from(r, from, sizeof from);
    snprintf(name, sizeof name, "%s.md", file);
    char *path = path_join(dir, name);
    const int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    fprintf(w.stream, "## %s\n\n![%s](%s.png)\n\n**%c%s.** Fixed: %s.%s", file,
            subject, file, toupper((unsigned char)*subject), subject + 1, fixed,
            timed);
    if (*s->hidden)
        fprintf(w.stream, " In the journal, but not in this figure: %s.",
                s->hidden);
    if (*note) fprintf(w.stream, " %s", note);
    fprintf(w.stream, " %s\n\n[SVG](%s.svg), [PDF](%s.pdf), [data](%s.tsv), "
                      "[commands](%s.gp)\n", from, file, file, file, file);
    return file_commit(&w, e);
}

/* ---- index --------------------------------------------------------------- */

typedef struct entry {
    char *file;
    int rank;
} entry;

static bool is_caption(const char *name)
{
    const size_t n = strlen(name);
    return n > 3 && !strcmp(name + n - 3, ".md") && strcmp(name, "index.md");
}

static int rank_of(const char *file, const char *const *first, int count)
{
    for (int i = 0; i < count; i++)
        if (!strncmp(file, first[i], strlen(first[i]))) return i;
    return count;
}

/* The shorter name of one figure first: it is the slice chosen by itself. */
static int by_rank(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const size_t m = strlen(x->file), n = strlen(y->file);
    if (x->rank != y->rank) return x->rank - y->rank;
    return m != n ? (m < n ? -1 : 1) : strcmp(x->file, y->file);
}

static int copy_captions(const char *dir, const entry *list, int count,
                         FILE *out, error *e)
{
    for (int i = 0; i < count; i++) {
        char *path = path_join(dir, list[i].file), *text;
        size_t size;
        const int rc = file_read(path, 1 << 20, &text, &size, e);
        free(path);
        if (rc < 0) return -1;
        fprintf(out, "\n%s", text);
        free(text);
    }
    return 0;
}

static int write_index(const char *dir, const entry *list, int count, error *e)
{
    file_writer w;
    char *path = path_join(dir, "index.md");
    int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    fputs("# Figures\n", w.stream);
    rc = copy_captions(dir, list, count, w.stream, e);
    if (rc == 0) return file_commit(&w, e);
    file_abandon(&w);
    return -1;
}

int caption_index(const char *dir, const char *const *first, int count,
                  error *e)
{
    entry *list = NULL;
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) return error_set(e, "%s: %s", dir, strerror(errno));
    for (const struct dirent *x; (x = readdir(d));) {
        if (!is_caption(x->d_name)) continue;
        list = sure(realloc(list, (size_t)(n + 1) * sizeof *list));
        list[n++] = (entry){ sure(strdup(x->d_name)),
                             rank_of(x->d_name, first, count) };
    }
    closedir(d);
    if (n) qsort(list, (size_t)n, sizeof *list, by_rank);
    const int rc = write_index(dir, list, n, e);
    for (int i = 0; i < n; i++) free(list[i].file);
    free(list);
    return rc;
}
