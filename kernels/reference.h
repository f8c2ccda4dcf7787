/* reference.h - what the double-precision references share.
 *
 * References are written from the definitions: plain loops, no blocking, no
 * SIMD, nothing in common with the kernels they judge.  Most mechanisms with a
 * softmax differ only in which keys a query sees and in what is added to the
 * logit; they describe that with a ref_visible and share the loops below
 * (specification of the windowed family, section 0).
 */
#ifndef ATT_REFERENCE_H
#define ATT_REFERENCE_H

#include "att.h"

/* Counts an operation where it is done, if somebody counts. */
#define REF_COUNT(r, op, n)                                                    \
    do {                                                                       \
        if ((r)->tally) (r)->tally->op += (double)(n);                         \
    } while (0)

/* n zeroed doubles; aborts when memory is out.  Release with free(). */
double *ref_new(size_t n);

double ref_dot(const double *a, const double *b, size_t n);

/* Taps of a centred filter of odd side that meet a line of n, over all its
 * positions. */
double ref_taps(int n, int side);

/* One key in the sight of a query.  key < 0: a padding position with k = v = 0
 * that takes part in the softmax. */
typedef struct ref_pair {
    ptrdiff_t key;
    double bias; /* added to scale * q.k                                     */
    int tag;     /* for dbias: which entry of a bias table was read          */
} ref_pair;

typedef struct ref_visible {
    double scale;
    size_t most; /* largest number of pairs of one query                     */
    /* Writes the pairs of query i of head h, returns their number. */
    size_t (*pairs)(const att_ref *r, int h, size_t i, ref_pair *out);
    /* Adds ds to the gradient of what pair's bias was made from. NULL: none. */
    void (*dbias)(const att_ref *r, int h, size_t i, const ref_pair *pair,
                  double ds);
    double *lse; /* [h][N], or NULL                                          */
} ref_visible;

/* o = softmax(scale q.k + bias) v over the visible pairs; a query that sees
 * nothing yields a zero row and lse = -inf.  Pairs with a bias of +inf share the
 * row, which is the limit. */
void ref_attend(const att_ref *r, const ref_visible *visible);
void ref_attend_backward(const att_ref *r, const ref_visible *visible);
void ref_attend_rows(const att_ref *r, const ref_visible *visible, int h,
                     size_t i0, size_t i1, double *a);

/* Operations of the softmax family, for P visible pairs in all heads and the
 * whole batch: the usual scores and sums, with `biased` one bias add a pair.
 * Backward recomputes the scores from lse: five products. */
void ref_attend_cost(const att_problem *p, double pairs, bool biased,
                     enum att_pass pass, att_cost *out);

#endif
