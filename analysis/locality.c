/* locality.c - shift equivariance and receptive fields. */
#include "locality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- shift equivariance -------------------------------------------------- */

/* Token at one cell further along every axis, cyclically. */
static size_t moved(const att_list *grid, size_t token)
{
    size_t out = 0, stride = 1;
    for (int a = grid->n - 1; a >= 0; a--) {
        const size_t side = (size_t)grid->v[a];
        out += (token % side + 1) % side * stride;
        token /= side;
        stride *= side;
    }
    return out;
}

/* Whether a token and its moved twin have `reach` cells to every border. */
static bool inside(const att_list *grid, size_t token, int reach)
{
    for (int a = grid->n - 1; a >= 0; a--) {
        const int side = grid->v[a], at = (int)(token % (size_t)side);
        if (at < reach || at + 1 > side - 1 - reach) return false;
        token /= (size_t)side;
    }
    return true;
}

static int chebyshev(const att_list *grid, size_t i, size_t j)
{
    int most = 0;
    for (int a = grid->n - 1; a >= 0; a--) {
        const size_t side = (size_t)grid->v[a];
        const int gap = abs((int)(i % side) - (int)(j % side));
        most = gap > most ? gap : most;
        i /= side;
        j /= side;
    }
    return most;
}

static size_t middle_of(const att_list *grid)
{
    size_t out = 0;
    for (int a = 0; a < grid->n; a++)
        out = out * (size_t)grid->v[a] + (size_t)grid->v[a] / 2;
    return out;
}

/* Farthest key of the middle query in any head. */
static int find_reach(const check_values *v, const matrix_shape *shape,
                      int *reach, error *e)
{
    const att_list *grid = &v->problem.grid;
    const size_t middle = middle_of(grid), n = shape->columns;
    double *a = malloc((shape->rows * n + 1) * sizeof *a);
    int rc = a ? 0 : error_set(e, "not enough memory for a map");
    *reach = 0;
    for (int h = 0; h < shape->heads && rc == 0; h++) {
        rc = matrix_get(v, h, 0, ATT_PART_TOTAL, a, e);
        for (size_t j = 0; j < n && rc == 0; j++) {
            const int far = chebyshev(grid, middle, j);
            if (fabs(a[middle * n + j]) >= LOCALITY_LEAST && far > *reach)
                *reach = far;
        }
    }
    free(a);
    return rc;
}

static void move_tokens(const att_list *grid, const att_shape *s,
                        const double *from, double *to)
{
    const size_t n = (size_t)s->tokens, wide = (size_t)s->channels;
    for (size_t h = 0; h < (size_t)s->heads; h++)
        for (size_t i = 0; i < n; i++)
            memcpy(to + (h * n + moved(grid, i)) * wide,
                   from + (h * n + i) * wide, wide * sizeof *to);
}

static void compare(const check_values *v, const double *before,
                    locality_shift *out)
{
    const att_list *grid = &v->problem.grid;
    att_shape o;
    att_shape_of(v->mechanism, &v->problem, ATT_O, &o);
    const size_t n = (size_t)o.tokens, wide = (size_t)o.channels;
    double largest = 0, inner = NAN;
    out->all = 0;
    for (size_t h = 0; h < (size_t)o.heads; h++)
        for (size_t i = 0; i < n; i++) {
            const double *x = before + (h * n + i) * wide;
            const double *y = v->o + (h * n + moved(grid, i)) * wide;
            for (size_t c = 0; c < wide; c++) {
                const double gap = fabs(x[c] - y[c]);
                largest = fmax(largest, fabs(x[c]));
                out->all = fmax(out->all, gap);
                if (inside(grid, i, out->reach)) inner = fmax(inner, gap);
            }
        }
    const double scale = largest > 0 ? largest : 1;
    out->all /= scale;
    out->interior = inner / scale;
}

int locality_shifted(check_values *v, locality_shift *out, error *e)
{
    matrix_shape shape;
    double *kept[3] = { NULL };
    *out = (locality_shift){ .all = NAN, .interior = NAN };
    matrix_shape_of(v->mechanism, &v->problem, &shape);
    if (shape.grid.axes == 0 || !matrix_exists(v->mechanism)) return 0;
    if (find_reach(v, &shape, &out->reach, e) < 0) return -1;
    double *before = malloc((v->elements[ATT_O] + 1) * sizeof *before);
    bool made = before;
    check_reference(v, NULL);
    for (enum att_slot s = ATT_Q; s <= ATT_V && made; s++) {
        att_shape in;
        att_shape_of(v->mechanism, &v->problem, s, &in);
        if (!v->in[s] || (size_t)in.tokens != shape.rows) continue;
        kept[s] = v->in[s];
        v->in[s] = malloc((v->elements[s] + 1) * sizeof *v->in[s]);
        made = v->in[s];
        if (made) move_tokens(&v->problem.grid, &in, kept[s], v->in[s]);
    }
    if (made) {
        memcpy(before, v->o, v->elements[ATT_O] * sizeof *before);
        check_reference(v, NULL);
        compare(v, before, out);
        out->exists = true;
    }
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        if (!kept[s]) continue;
        free(v->in[s]);
        v->in[s] = kept[s];
    }
    free(before);
    return made ? 0 : error_set(e, "not enough memory for a moved input");
}

/* ---- receptive field ------------------------------------------------------- */

/* Rows of bits. */
typedef struct relation {
    size_t n, words;
    uint64_t *bit;
} relation;

static int relation_make(size_t n, relation *r, error *e)
{
    *r = (relation){ .n = n, .words = (n + 63) / 64 };
    r->bit = calloc(n * r->words + 1, sizeof *r->bit);
    return r->bit ? 0 : error_set(e, "not enough memory for %zu tokens", n);
}

static uint64_t *row(const relation *r, size_t i)
{
    return r->bit + i * r->words;
}

static bool sees(const relation *r, size_t i, size_t j)
{
    return row(r, i)[j / 64] >> (j % 64) & 1;
}

static double count(const relation *r, size_t i)
{
    double sum = 0;
    for (size_t w = 0; w < r->words; w++)
        sum += __builtin_popcountll(row(r, i)[w]);
    return sum;
}

/* A token after one layer more: what its keys saw before. */
static void step(const relation *support, const relation *from, relation *to)
{
    #pragma omp parallel for schedule(static)
    for (size_t i = 0; i < support->n; i++) {
        uint64_t *out = row(to, i);
        memset(out, 0, to->words * sizeof *out);
        for (size_t j = 0; j < support->n; j++) {
            if (!sees(support, i, j)) continue;
            for (size_t w = 0; w < to->words; w++) out[w] |= row(from, j)[w];
        }
    }
}

/* Layers with support[0], support[1] ... in turn. */
static void grow(const relation *support, int kinds, relation *now,
                 relation *next, size_t middle, locality_field *out)
{
    for (int same = 0; out->layers < LOCALITY_LAYERS && same < kinds;) {
        double sum = 0;
        step(&support[out->layers % kinds], now, next);
        for (size_t i = 0; i < next->n; i++) sum += count(next, i);
        out->mean[out->layers] = sum / (double)next->n;
        out->middle[out->layers++] = count(next, middle);
        const relation swap = *now;
        const bool equal = !memcmp(now->bit, next->bit,
                                   now->n * now->words * sizeof *now->bit);
        same = equal ? same + 1 : 0;
        *now = *next;
        *next = swap;
    }
}

static int grow_from(const relation *support, int kinds, size_t middle,
                     locality_field *out, error *e)
{
    relation now = { 0 }, next = { 0 };
    const size_t n = support->n;
    int rc = relation_make(n, &now, e);
    if (rc == 0) rc = relation_make(n, &next, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        row(&now, i)[i / 64] |= (uint64_t)1 << (i % 64);
    if (rc == 0) grow(support, kinds, &now, &next, middle, out);
    free(now.bit);
    free(next.bit);
    return rc;
}

/* What any head sees, and the residual path. */
static int add_support(const check_values *v, size_t n, int heads,
                       relation *support, error *e)
{
    double *a = malloc((n * n + 1) * sizeof *a);
    int rc = a ? relation_make(n, support, e)
               : error_set(e, "not enough memory for a map");
    for (int h = 0; h < heads && rc == 0; h++) {
        rc = matrix_get(v, h, 0, ATT_PART_TOTAL, a, e);
        for (size_t i = 0; rc == 0 && i < n; i++)
            for (size_t j = 0; j < n; j++)
                if (i == j || fabs(a[i * n + j]) >= LOCALITY_LEAST)
                    row(support, i)[j / 64] |= (uint64_t)1 << (j % 64);
    }
    free(a);
    return rc;
}

/* The other kind of layer of models with this mechanism: shifted windows by half
 * a window where v has none, without a shift where it has. */
static bool other_layer(const check_values *v, att_problem *p, char *text,
                        size_t size)
{
    char shift[ATT_TEXT], half[ATT_TEXT] = "";
    const att_mechanism *m = v->mechanism;
    *p = v->problem;
    if (!att_uses(m, ATT_FIELD_shift) || p->window.n == 0) return false;
    att_get(p, ATT_FIELD_shift, shift);
    if (strspn(shift, "0x") == strlen(shift) || !strcmp(shift, "none"))
        for (int a = 0; a < p->window.n; a++)
            snprintf(half + strlen(half), sizeof half - strlen(half), "%s%d",
                     a ? "x" : "", p->window.v[a] / 2);
    else snprintf(half, sizeof half, "0");
    snprintf(text, size, "shift=%s", half);
    return att_set(p, ATT_FIELD_shift, half) && !att_reject(m, p);
}

static int open_other(const check_values *v, const att_problem *p,
                      check_values *out, error *e)
{
    if (matrix_open(out, v->mechanism, p, e) < 0) return -1;
    for (int s = 0; s < 3; s++)
        if (v->in[s])
            memcpy(out->in[s], v->in[s], v->elements[s] * sizeof(double));
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i] && out->param[i])
            memcpy(out->param[i], v->param[i],
                   att_elements(&v->parameter[i]) * sizeof(double));
    return 0;
}

int locality_fields_of(const check_values *v, locality_fields *out, error *e)
{
    relation support[2] = { { 0 } };
    matrix_shape shape;
    att_problem p;
    check_values other;
    *out = (locality_fields){ 0 };
    matrix_shape_of(v->mechanism, &v->problem, &shape);
    const size_t n = shape.rows, width = (size_t)att_width(&v->problem);
    if (n == 0 || n != shape.columns || n > LOCALITY_SIDE) return 0;
    size_t middle = n / width / 2 * width + width / 2;
    if (middle >= n) middle = 0;
    int rc = add_support(v, n, shape.heads, &support[0], e);
    if (rc == 0) rc = grow_from(support, 1, middle, &out->equal, e);
    if (rc == 0 && other_layer(v, &p, out->other, sizeof out->other)) {
        rc = open_other(v, &p, &other, e);
        if (rc == 0) {
            rc = add_support(&other, n, shape.heads, &support[1], e);
            check_values_free(&other);
        }
        if (rc == 0) rc = grow_from(support, 2, middle, &out->alternating, e);
    }
    free(support[0].bit);
    free(support[1].bit);
    return rc;
}
