/* metrics.c - entropy, mass, distance, rank of an effective matrix. */
#include "metrics.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"

enum { RADII = 4 };
static const int radii[RADII] = { 1, 2, 3, 5 };

/* p_ij differs from A_ij by an eps in a denominator at most. */
#define SUMS_TO_ONE 1e-4

/* ---- tables of the grid ------------------------------------------------- */

/* Offsets key - query are numbered row-major over [2 side - 1] per axis. */
typedef struct offsets {
    size_t tokens;    /* on the grid                                        */
    size_t count;     /* offsets                                            */
    ptrdiff_t *place; /* [tokens]: offset(i, j) = place[j] - place[i] + zero  */
    ptrdiff_t zero;   /* offset of a token to itself                        */
    double *distance; /* [count], Euclidean                                 */
    int *chebyshev;   /* [count]                                            */
    double *pairs;    /* [count]: pairs of tokens with that offset          */
} offsets;

static void offsets_free(offsets *t)
{
    free(t->place);
    free(t->distance);
    free(t->chebyshev);
    free(t->pairs);
}

static void fill_places(const metrics_grid *g, offsets *t)
{
    for (size_t i = 0; i < t->tokens; i++) {
        size_t rest = i;
        ptrdiff_t stride = 1;
        t->place[i] = 0;
        for (int a = g->axes - 1; a >= 0; a--) {
            t->place[i] += (ptrdiff_t)(rest % (size_t)g->side[a]) * stride;
            rest /= (size_t)g->side[a];
            stride *= 2 * g->side[a] - 1;
        }
    }
}

static void fill_offsets(const metrics_grid *g, offsets *t)
{
    for (size_t o = 0; o < t->count; o++) {
        size_t rest = o;
        double square = 0, pairs = 1;
        int most = 0;
        for (int a = g->axes - 1; a >= 0; a--) {
            const int wide = 2 * g->side[a] - 1;
            const int gap = abs((int)(rest % (size_t)wide) - (g->side[a] - 1));
            square += (double)gap * gap;
            pairs *= g->side[a] - gap;
            most = gap > most ? gap : most;
            rest /= (size_t)wide;
        }
        t->distance[o] = sqrt(square);
        t->chebyshev[o] = most;
        t->pairs[o] = pairs;
    }
    t->zero = (ptrdiff_t)(t->count / 2); /* the middle of odd sides */
}

static int offsets_make(const metrics_grid *g, offsets *t, error *e)
{
    *t = (offsets){ .tokens = 1, .count = 1 };
    for (int a = 0; a < g->axes; a++) {
        t->tokens *= (size_t)g->side[a];
        t->count *= 2 * (size_t)g->side[a] - 1;
    }
    t->place = malloc(t->tokens * sizeof *t->place);
    t->distance = malloc(t->count * sizeof *t->distance);
    t->chebyshev = malloc(t->count * sizeof *t->chebyshev);
    t->pairs = malloc(t->count * sizeof *t->pairs);
    if (!t->place || !t->distance || !t->chebyshev || !t->pairs) {
        offsets_free(t);
        return error_set(e, "not enough memory for %zu tokens", t->tokens);
    }
    fill_places(g, t);
    fill_offsets(g, t);
    return 0;
}

static size_t offset_of(const offsets *t, size_t i, size_t j)
{
    return (size_t)(t->place[j] - t->place[i] + t->zero);
}

/* ---- one row ------------------------------------------------------------ */

typedef struct row {
    double sum, absolute; /* of A_ij, |A_ij|                                */
    double entropy, max, top5, top10;
    double least;         /* smallest A_ij                                  */
    bool placed;          /* the query and some of its weight are on the grid */
    double distance, mass[RADII];
} row;

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* p: scratch of `columns`. */
static void weigh(const double *a, size_t columns, double *p, row *out)
{
    const size_t twentieth = (columns + 19) / 20;
    *out = (row){ .least = INFINITY };
    for (size_t j = 0; j < columns; j++) {
        p[j] = fabs(a[j]);
        out->sum += a[j];
        out->absolute += p[j];
        out->least = fmin(out->least, a[j]);
    }
    if (out->absolute == 0) return;
    for (size_t j = 0; j < columns; j++) {
        p[j] /= out->absolute;
        if (p[j] > 0) out->entropy -= p[j] * log(p[j]);
    }
    qsort(p, columns, sizeof *p, descending);
    out->max = p[0];
    for (size_t j = 0; j < columns && j < twentieth; j++) out->top5 += p[j];
    for (size_t j = 0; j < columns && j < 10; j++) out->top10 += p[j];
}

/* Tokens without a place are left out of both sides and of the sum. */
static void place(const double *a, const offsets *t, size_t first, size_t i,
                  row *out)
{
    double sum = 0;
    if (i < first) return;
    for (size_t j = 0; j < t->tokens; j++) {
        const size_t o = offset_of(t, i - first, j);
        const double p = fabs(a[first + j]);
        sum += p;
        out->distance += p * t->distance[o];
        for (int r = 0; r < RADII; r++)
            if (t->chebyshev[o] <= radii[r]) out->mass[r] += p;
    }
    if (sum == 0) return;
    out->placed = true;
    out->distance /= sum;
    for (int r = 0; r < RADII; r++) out->mass[r] /= sum;
}

static int measure_rows(const double *a, size_t rows, size_t columns,
                        const offsets *t, size_t first, row *out, error *e)
{
    bool failed = false;
    #pragma omp parallel
    {
        double *p = malloc(columns * sizeof *p);
        if (!p) {
            #pragma omp atomic write
            failed = true;
        }
        #pragma omp for
        for (size_t i = 0; i < rows; i++) {
            if (!p) continue;
            weigh(a + i * columns, columns, p, &out[i]);
            if (t) place(a + i * columns, t, first, i, &out[i]);
        }
        free(p);
    }
    return failed ? error_set(e, "not enough memory for a row of %zu", columns)
                  : 0;
}

/* ---- means over rows ---------------------------------------------------- */

/* Linear interpolation between order statistics of x, which is sorted here. */
static void quartiles(double *x, size_t n, double out[METRICS_QUARTILES])
{
    qsort(x, n, sizeof *x, descending);
    for (int q = 0; q < METRICS_QUARTILES; q++) {
        const double at = (double)(n - 1) * (METRICS_QUARTILES - 1 - q) /
                          (METRICS_QUARTILES - 1);
        const size_t i = (size_t)at;
        const double more = at - (double)i;
        out[q] = x[i] + (more > 0 ? more * (x[i + 1] - x[i]) : 0);
    }
}

static int average_rows(const row *x, size_t n, metrics *m, error *e)
{
    size_t used = 0;
    double *h = malloc((n + 1) * sizeof *h);
    if (!h) return error_set(e, "not enough memory for %zu rows", n);
    /* one key: no entropy, and ln 1 = 0 */
    const double most = m->columns > 1 ? log((double)m->columns) : 1;

    m->zero_rows = m->entropy = m->support = m->maxw = m->top5 = m->top10 = 0;
    m->row_sum_min = INFINITY;
    m->row_sum_max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        m->row_sum_min = fmin(m->row_sum_min, x[i].sum);
        m->row_sum_max = fmax(m->row_sum_max, x[i].sum);
        m->negative |= x[i].least < 0;
        if (x[i].absolute == 0) {
            m->zero_rows++;
            continue;
        }
        m->renormalised |= fabs(x[i].sum - 1) > SUMS_TO_ONE;
        h[used++] = x[i].entropy / most;
        m->entropy += x[i].entropy;
        m->support += exp(x[i].entropy);
        m->maxw += x[i].max;
        m->top5 += x[i].top5;
        m->top10 += x[i].top10;
    }
    m->renormalised |= m->negative;
    m->zero_matrices = used == 0;
    /* 0 / 0 = NAN where every row is zero */
    m->entropy /= (double)used;
    m->entropy_norm = m->entropy / most;
    m->support /= (double)used;
    m->maxw /= (double)used;
    m->top5 /= (double)used;
    m->top10 /= (double)used;
    for (int q = 0; q < METRICS_QUARTILES; q++) m->entropy_quartile[q] = NAN;
    if (used > 0) quartiles(h, used, m->entropy_quartile);
    free(h);
    return 0;
}

static void average_places(const row *x, size_t n, const offsets *t, metrics *m)
{
    double *const mass[RADII] = { &m->mass_r1, &m->mass_r2, &m->mass_r3,
                                  &m->mass_r5 };
    double *const uniform[RADII] = { &m->u_r1, &m->u_r2, &m->u_r3, &m->u_r5 };
    const double tokens = (double)t->tokens;
    size_t used = 0;

    m->dist = m->dist_uniform = 0;
    for (int r = 0; r < RADII; r++) *mass[r] = *uniform[r] = 0;
    for (size_t i = 0; i < n; i++) {
        if (!x[i].placed) continue;
        used++;
        m->dist += x[i].distance;
        for (int r = 0; r < RADII; r++) *mass[r] += x[i].mass[r];
    }
    m->dist /= (double)used;
    for (int r = 0; r < RADII; r++) *mass[r] /= (double)used;

    for (size_t o = 0; o < t->count; o++) {
        const double share = t->pairs[o] / (tokens * tokens);
        m->dist_uniform += share * t->distance[o];
        for (int r = 0; r < RADII; r++)
            if (t->chebyshev[o] <= radii[r]) *uniform[r] += share;
    }
}

/* ---- maps and histogram ------------------------------------------------- */

/* rows: divide by the sum of the row over the grid. */
static double *relative_map(const double *a, const offsets *t,
                            enum metrics_divisor divisor, const metrics *m,
                            bool rows)
{
    double *out = calloc(t->count, sizeof *out);
    for (size_t i = 0; out && i < t->tokens; i++) {
        const double *p = a + (m->grid.first + i) * m->columns + m->grid.first;
        double sum = rows ? 0 : 1;
        for (size_t j = 0; rows && j < t->tokens; j++) sum += p[j];
        for (size_t j = 0; j < t->tokens && sum != 0; j++)
            out[offset_of(t, i, j)] += p[j] / sum;
    }
    for (size_t o = 0; out && o < t->count; o++)
        out[o] /= divisor == METRICS_VALID ? t->pairs[o] : (double)t->tokens;
    return out;
}

static int relative_maps(const double *a, const offsets *t,
                         enum metrics_divisor divisor, metrics *m, error *e)
{
    m->relative = relative_map(a, t, divisor, m, false);
    if (m->grid.first > 0)
        m->relative_rows = relative_map(a, t, divisor, m, true);
    if (m->relative && (m->grid.first == 0 || m->relative_rows)) return 0;
    return error_set(e, "not enough memory for %zu offsets", t->count);
}

static void histogram(const double *a, metrics *m)
{
    for (size_t i = 0; i < m->rows * m->columns; i++) {
        const double x = fabs(a[i]) * (double)m->columns;
        if (x == 0) {
            m->zeros++;
            continue;
        }
        const double bin = 1 + floor((log10(x) + 6) * 4);
        m->bin[(int)fmin(fmax(bin, 0), METRICS_BINS - 1)]++;
    }
}

/* ---- spectrum ----------------------------------------------------------- */

/* Singular values above tolerance * largest; NAN if more may be unknown. */
static double rank_at(const metrics *m, double tolerance)
{
    size_t rank = 0;
    while (rank < m->sigmas && m->sigma[rank] > tolerance * m->sigma[0]) rank++;
    return m->estimated && rank == m->sigmas ? NAN : (double)rank;
}

/* rest: sum of the squares of singular values that are not known. */
static double effective_rank(const metrics *m, double rest)
{
    const double side =
        (double)(m->rows < m->columns ? m->rows : m->columns);
    double sum = 0, h = 0;
    for (size_t i = 0; i < m->sigmas; i++) sum += m->sigma[i];
    /* n values with squares that sum to s sum to sqrt(n s) at most */
    if (m->estimated && sqrt(rest * (side - (double)m->sigmas)) > 1e-4 * sum)
        return NAN;
    for (size_t i = 0; i < m->sigmas; i++) {
        const double p = m->sigma[i] / sum;
        if (p > 0) h -= p * log(p);
    }
    return sum > 0 ? exp(h) : 0;
}

static int spectrum(const double *a, metrics *m, error *e)
{
    const size_t side = m->rows < m->columns ? m->rows : m->columns;
    const double largest = fmax((double)m->rows, (double)m->columns);
    double squares = 0, known = 0;

    m->estimated = largest > METRICS_SVD_SIDE && side > METRICS_LEADING;
    m->sigmas = m->estimated ? METRICS_LEADING : side;
    m->sigma = malloc((m->sigmas + 1) * sizeof *m->sigma);
    if (!m->sigma) return error_set(e, "not enough memory for a spectrum");
    const int rc =
        m->estimated ? linalg_leading_values(a, m->rows, m->columns, m->sigmas,
                                             1, m->sigma, e)
                     : linalg_singular_values(a, m->rows, m->columns, m->sigma,
                                              e);
    if (rc < 0) return -1;

    for (size_t i = 0; i < m->rows * m->columns; i++) squares += a[i] * a[i];
    for (size_t i = 0; i < m->sigmas; i++) known += m->sigma[i] * m->sigma[i];
    m->rank_1e3 = rank_at(m, 1e-3);
    m->rank_f32 = rank_at(m, largest * FLT_EPSILON);
    m->rank_f64 = rank_at(m, largest * DBL_EPSILON);
    m->erank = effective_rank(m, fmax(squares - known, 0));
    m->stable_rank =
        m->sigma[0] > 0 ? squares / (m->sigma[0] * m->sigma[0]) : 0;
    return 0;
}

/* ---- all of it ---------------------------------------------------------- */

static int compute(const double *a, const metrics_grid *grid,
                   enum metrics_divisor divisor, bool with_spectrum, metrics *m,
                   error *e)
{
    offsets table = { 0 };
    const offsets *t = grid->axes ? &table : NULL;
    if (t && offsets_make(grid, &table, e) < 0) return -1;
    row *x = malloc((m->rows + 1) * sizeof *x);
    int rc = x ? measure_rows(a, m->rows, m->columns, t, grid->first, x, e)
               : error_set(e, "not enough memory for %zu rows", m->rows);
    if (rc == 0) rc = average_rows(x, m->rows, m, e);
    if (rc == 0 && t) average_places(x, m->rows, t, m);
    if (rc == 0 && t) rc = relative_maps(a, t, divisor, m, e);
    if (rc == 0) histogram(a, m);
    if (rc == 0 && with_spectrum) rc = spectrum(a, m, e);
    free(x);
    offsets_free(&table);
    return rc;
}

int metrics_compute(const double *a, size_t rows, size_t columns,
                    const metrics_grid *grid, enum metrics_divisor divisor,
                    bool spectrum_too, metrics *out, error *e)
{
    *out = (metrics){ .rows = rows, .columns = columns, .grid = *grid };
#define METRICS_UNKNOWN(name, how) out->name = NAN;
    METRICS(METRICS_UNKNOWN)
#undef METRICS_UNKNOWN
    for (size_t i = 0; i < rows * columns; i++)
        if (!isfinite(a[i]))
            return error_set(e, "row %zu, column %zu of the matrix is not "
                                "finite",
                             i / columns, i % columns);
    const int rc = compute(a, grid, divisor, spectrum_too, out, e);
    if (rc < 0) metrics_free(out);
    return rc;
}

void metrics_free(metrics *m)
{
    free(m->sigma);
    free(m->relative);
    free(m->relative_rows);
    m->sigma = m->relative = m->relative_rows = NULL;
}

/* ---- several inputs ----------------------------------------------------- */

static size_t relative_count(const metrics_grid *g)
{
    size_t n = g->axes > 0;
    for (int a = 0; a < g->axes; a++) n *= 2 * (size_t)g->side[a] - 1;
    return n;
}

/* out is NULL where the list is. */
static double *mean_list(const metrics *one, int count, size_t offset, size_t n)
{
    double *out = NULL;
    for (int i = 0; i < count; i++) {
        double *list;
        memcpy(&list, (const char *)&one[i] + offset, sizeof list);
        if (!list) return out;
        if (!out) out = calloc(n + 1, sizeof *out);
        if (!out) abort();
        for (size_t k = 0; k < n; k++) out[k] += list[k] / count;
    }
    return out;
}

static double mean_known(const metrics *one, int count, size_t offset)
{
    double sum = 0, used = 0;
    for (int i = 0; i < count; i++) {
        double x;
        memcpy(&x, (const char *)&one[i] + offset, sizeof x);
        if (isnan(x)) continue;
        sum += x;
        used++;
    }
    return sum / used;
}

void metrics_mean(const metrics *one, int count, metrics *out)
{
    *out = one[0];
#define METRICS_AVERAGE(name, how)                                             \
    out->name = mean_known(one, count, offsetof(metrics, name));
    METRICS(METRICS_AVERAGE)
#undef METRICS_AVERAGE
    for (int q = 0; q < METRICS_QUARTILES; q++)
        out->entropy_quartile[q] = mean_known(
            one, count,
            offsetof(metrics, entropy_quartile) + (size_t)q * sizeof(double));
    out->zeros = mean_known(one, count, offsetof(metrics, zeros));
    for (int b = 0; b < METRICS_BINS; b++)
        out->bin[b] = mean_known(
            one, count, offsetof(metrics, bin) + (size_t)b * sizeof(double));
    for (int i = 0; i < count; i++) {
        out->negative |= one[i].negative;
        out->renormalised |= one[i].renormalised;
        out->estimated |= one[i].estimated;
    }
    out->sigma = mean_list(one, count, offsetof(metrics, sigma), out->sigmas);
    const size_t n = relative_count(&out->grid);
    out->relative = mean_list(one, count, offsetof(metrics, relative), n);
    out->relative_rows =
        mean_list(one, count, offsetof(metrics, relative_rows), n);
}

/* ---- table -------------------------------------------------------------- */

static void print_number(FILE *out, int width, int digits, double x)
{
    if (isnan(x)) fprintf(out, "%*s", width, "-");
    else fprintf(out, "%*.*f", width, digits, x);
}

void metrics_print_head(FILE *out, int wide)
{
    fprintf(out, "%-*s %7s %7s %7s %7s %7s %6s %7s %6s %6s %14s %13s\n", wide,
            "map", "rank64", "rank32", "rank-3", "erank", "stable", "H/lnM",
            "support", "max", "top5%", "dist (unif)", "mass1 (unif)");
}

void metrics_print(FILE *out, int wide, const char *name, const metrics *m)
{
    fprintf(out, "%-*s", wide, name);
    print_number(out, 8, 0, m->rank_f64);
    print_number(out, 8, 0, m->rank_f32);
    print_number(out, 8, 0, m->rank_1e3);
    print_number(out, 8, 2, m->erank);
    print_number(out, 8, 2, m->stable_rank);
    print_number(out, 7, 3, m->entropy_norm);
    print_number(out, 8, 1, m->support);
    print_number(out, 7, 3, m->maxw);
    print_number(out, 7, 3, m->top5);
    print_number(out, 7, 2, m->dist);
    fputs(" (", out);
    print_number(out, 5, 2, m->dist_uniform);
    fputs(")", out);
    print_number(out, 6, 3, m->mass_r1);
    fputs(" (", out);
    print_number(out, 5, 3, m->u_r1);
    fputs(")\n", out);
}

/* ---- JSON --------------------------------------------------------------- */

static json *list(const double *x, size_t n)
{
    json *out = json_array();
    for (size_t i = 0; i < n; i++) json_push_number(out, x[i]);
    return out;
}

/* Nested arrays, one level per axis. */
static json *nested(const double *x, const metrics_grid *g, int axis)
{
    const int wide = 2 * g->side[axis] - 1;
    size_t part = 1;
    if (axis == g->axes - 1) return list(x, (size_t)wide);
    for (int a = axis + 1; a < g->axes; a++)
        part *= 2 * (size_t)g->side[a] - 1;
    json *out = json_array();
    for (int i = 0; i < wide; i++)
        json_push(out, nested(x + (size_t)i * part, g, axis + 1));
    return out;
}

static json *histogram_json(const metrics *m)
{
    json *j = json_object();
    json_put_text(j, "of", "|A_ij| columns: 1 is uniform attention");
    json_put_number(j, "log10_first", -6);
    json_put_number(j, "log10_step", 0.25);
    json_put_number(j, "zeros", m->zeros);
    json_put_number(j, "below", m->bin[0]);
    json_put(j, "counts", list(m->bin + 1, METRICS_BINS - 2));
    json_put_number(j, "above", m->bin[METRICS_BINS - 1]);
    return j;
}

json *metrics_json(const metrics *m)
{
    json *j = json_object();
    json_put_number(j, "rows", (double)m->rows);
    json_put_number(j, "columns", (double)m->columns);
#define METRICS_PUT(name, how) json_put_number(j, #name, m->name);
    METRICS(METRICS_PUT)
#undef METRICS_PUT
    json_put(j, "entropy_norm_quartiles",
             list(m->entropy_quartile, METRICS_QUARTILES));
    json_put_bool(j, "negative", m->negative);
    json_put_bool(j, "renormalised", m->renormalised);
    json_put(j, "histogram", histogram_json(m));
    if (m->relative) json_put(j, "relmap", nested(m->relative, &m->grid, 0));
    else json_put_null(j, "relmap");
    if (m->relative_rows)
        json_put(j, "relmap_rows", nested(m->relative_rows, &m->grid, 0));
    json_put_bool(j, "spectrum_estimated", m->estimated);
    if (m->sigma) json_put(j, "spectrum", list(m->sigma, m->sigmas));
    else json_put_null(j, "spectrum");
    return j;
}

json *metrics_how(enum metrics_divisor divisor)
{
    json *j = json_object();
#define METRICS_HOW(name, how) json_put_text(j, #name, how);
    METRICS(METRICS_HOW)
#undef METRICS_HOW
    json_put_text(j, "p", "|A_ij| / sum_j |A_ij| over all columns, those of "
                          "tokens in front of the grid too, but where dist and "
                          "mass say otherwise; rows that are all zero are left "
                          "out");
    json_put_text(j, "negative", "A has entries below zero");
    json_put_text(j, "renormalised",
                  "p differs from A: it has entries below zero, or rows that "
                  "do not sum to 1 within 1e-4");
    json_put_text(j, "entropy_norm_quartiles",
                  "least, lower quartile, median, upper quartile, greatest "
                  "H_i / ln(columns)");
    json_put_text(j, "relmap",
                  divisor == METRICS_VALID
                      ? "mean of A over the pairs of grid tokens at each offset "
                        "key - query, index offset + side - 1"
                      : "sum of A over the pairs of grid tokens at each offset "
                        "key - query, divided by the number of grid tokens, "
                        "index offset + side - 1");
    json_put_text(j, "relmap_rows",
                  "the same of rows divided by their sum of A over the grid, "
                  "where tokens (class token, registers) stand in front of it");
    json_put_text(j, "spectrum",
                  "singular values, largest first: all by LAPACK dgesdd in "
                  "double; of matrices with a side above 4096 the leading 128, "
                  "estimated from a random subspace, and ranks only where they "
                  "suffice");
    return j;
}
