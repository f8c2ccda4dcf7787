/* dwc_reference.h - the depthwise convolution branch in double; dwc.h has the
 * definition. */
#ifndef LINEAR_DWC_REFERENCE_H
#define LINEAR_DWC_REFERENCE_H

#include "../reference.h"
#include "dwc.h"

#include <math.h>
#include <stdlib.h>

/* The same call with tokens_k told, in memory of the caller. */
static inline att_ref dwc_call(const att_ref *r, att_problem *p)
{
    att_ref out = *r;
    *p = dwc_problem(r->p);
    out.p = p;
    return out;
}

/* Entries w of `parameters`: the filters [d][k][k] and the bias [d]. */
static inline void dwc_parameters(const att_problem *p, att_tensor *w,
                                  att_tensor *b)
{
    const int k = dwc_side(p);
    *w = (att_tensor){ .name = "dwc_w",
                       .dims = 3,
                       .dim = { p->head_dim, k, k },
                       .init = ATT_INIT_NORMAL,
                       .std = 1 / (sqrt(3) * k) };
    *b = (att_tensor){ .name = "dwc_b",
                       .dims = 1,
                       .dim = { p->head_dim },
                       .init = ATT_INIT_NORMAL,
                       .std = 1 / (sqrt(3) * k) };
}

/* Taps of one channel. */
static inline double dwc_taps(const att_problem *p)
{
    return ref_taps(att_height(p), dwc_side(p)) *
           ref_taps(att_width(p), dwc_side(p));
}

/* Adds the operations and the traffic of the parameters. */
static inline void dwc_cost(const att_problem *p, enum att_pass pass,
                            att_cost *out)
{
    const double maps = (double)p->batch * p->heads, d = p->head_dim;
    const double tokens = maps * (double)att_tokens(p) * d;
    const double k = dwc_side(p), bytes = 4 * (k * k + 1) * d;
    const bool resized = att_keys(p) != att_tokens(p);
    out->mul_add += (1 + pass) * maps * dwc_taps(p) * d +
                    (1 + 2 * pass) * resized * tokens;
    out->mul += resized * tokens;
    out->add += pass == ATT_FORWARD ? 2 * tokens : tokens;
    out->read += bytes;
    out->write += pass == ATT_FORWARD ? 0 : bytes;
}

/* v [m][d] of one head resized to n tokens; release with free(). */
static inline double *dwc_resized(const att_ref *r, const double *v)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    double *x = ref_new(n * d);
    for (size_t i = 0; i < n; i++) {
        const dwc_source s = dwc_resize(i, n, m);
        for (size_t c = 0; c < d; c++)
            x[i * d + c] = (1 - s.w) * v[s.a * d + c] + s.w * v[s.b * d + c];
        REF_COUNT(r, mul, m != n ? d : 0);
        REF_COUNT(r, mul_add, m != n ? d : 0);
    }
    return x;
}

/* Calls visit for every tap: token i of the output meets token j of the input
 * through entry `tap` of a channel's filter. */
typedef struct dwc_visit {
    const att_ref *r;
    const double *w, *x, *g; /* filters, resized v, gradient of o            */
    double *o, *dx, *dw;     /* those that are wanted                        */
} dwc_visit;

static inline void dwc_each(const dwc_visit *t,
                            void (*visit)(const dwc_visit *, size_t i, size_t j,
                                          size_t tap))
{
    const int height = att_height(t->r->p), width = att_width(t->r->p);
    const int k = dwc_side(t->r->p), half = k / 2;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int a = 0; a < k; a++)
                for (int b = 0; b < k; b++) {
                    const int yy = y + a - half, xx = x + b - half;
                    if (yy < 0 || yy >= height || xx < 0 || xx >= width)
                        continue;
                    visit(t, (size_t)y * (size_t)width + (size_t)x,
                          (size_t)yy * (size_t)width + (size_t)xx,
                          (size_t)(a * k + b));
                }
}

static inline void dwc_visit_forward(const dwc_visit *t, size_t i, size_t j,
                                     size_t tap)
{
    const size_t d = (size_t)t->r->p->head_dim, k = (size_t)dwc_side(t->r->p);
    for (size_t c = 0; c < d; c++)
        t->o[i * d + c] += t->w[c * k * k + tap] * t->x[j * d + c];
    REF_COUNT(t->r, mul_add, d);
}

static inline void dwc_visit_backward(const dwc_visit *t, size_t i, size_t j,
                                      size_t tap)
{
    const size_t d = (size_t)t->r->p->head_dim, k = (size_t)dwc_side(t->r->p);
    for (size_t c = 0; c < d; c++) {
        const double g = t->g[i * d + c];
        if (t->dx) t->dx[j * d + c] += t->w[c * k * k + tap] * g;
        if (t->dw) t->dw[c * k * k + tap] += g * t->x[j * d + c];
    }
    REF_COUNT(t->r, mul_add, 2 * d);
}

/* o [h][n][d] += M v + b for all heads; w and b are parameters' numbers. */
static inline void dwc_forward(const att_ref *r, int w, int b)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    for (size_t h = 0; h < (size_t)r->p->heads; h++) {
        double *x = dwc_resized(r, r->v + h * m * d), *o = r->o + h * n * d;
        for (size_t i = 0; i < n * d; i++) o[i] += r->param[b][i % d];
        REF_COUNT(r, add, 2 * n * d);
        dwc_each(&(dwc_visit){ .r = r, .w = r->param[w], .x = x, .o = o },
                 dwc_visit_forward);
        free(x);
    }
}

/* dv_c += M_c' g_c, dW, db. */
static inline void dwc_backward(const att_ref *r, int w, int b)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    for (size_t h = 0; h < (size_t)r->p->heads; h++) {
        const double *g = r->dout + h * n * d;
        double *x = dwc_resized(r, r->v + h * m * d), *dx = ref_new(n * d);
        dwc_each(&(dwc_visit){ .r = r, .w = r->param[w], .x = x, .g = g,
                               .dx = dx, .dw = r->dparam[w] },
                 dwc_visit_backward);
        for (size_t i = 0; r->dparam[b] && i < n * d; i++)
            r->dparam[b][i % d] += g[i];
        REF_COUNT(r, add, n * d);
        for (size_t i = 0; i < n; i++) {
            const dwc_source s = dwc_resize(i, n, m);
            for (size_t c = 0; r->dv && c < d; c++) {
                double *dv = r->dv + h * m * d + c;
                dv[s.a * d] += (1 - s.w) * dx[i * d + c];
                dv[s.b * d] += s.w * dx[i * d + c];
            }
            REF_COUNT(r, mul_add, m != n ? 2 * d : 0);
        }
        free(x);
        free(dx);
    }
}

/* Rows of M_c (times the resizing matrix) are added to a [i1 - i0][m]. */
static inline void dwc_rows(const att_ref *r, int w, int ch, size_t i0,
                            size_t i1, double *a)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const int width = att_width(r->p), height = att_height(r->p);
    const int k = dwc_side(r->p), half = k / 2;
    for (size_t i = i0; i < i1; i++)
        for (int t = 0; t < k * k; t++) {
            const int y = (int)i / width + t / k - half;
            const int x = (int)i % width + t % k - half;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            const double tap = r->param[w][ch * k * k + t];
            const dwc_source s =
                dwc_resize((size_t)(y * width + x), n, m);
            a[(i - i0) * m + s.a] += (1 - s.w) * tap;
            a[(i - i0) * m + s.b] += s.w * tap;
        }
}

#endif
