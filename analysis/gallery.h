/* gallery.h - the maps of many mechanisms side by side: contact sheets on one
 * scale, entropy boxes, an index with a table.
 */
#ifndef GALLERY_H
#define GALLERY_H

#include "mapset.h"

/* What is kept of each mechanism. */
typedef struct gallery_item {
    const att_mechanism *mechanism;
    char problem[ATT_NAME];
    char why[512];     /* not empty: there are no maps, for this reason      */
    char stem[96];     /* of its matrix (with the convolution, where it has
                          one) of the first head                             */
    char figure[96];   /* name of its annotated figure, without extension    */
    bool pooled;
    double largest;    /* |A| of that matrix                                 */
    metrics attention; /* of its attention part                              */
    metrics whole;     /* of that matrix; same as attention without one      */
    matrix_agreement agreement;
    locality_shift shift;
    locality_fields fields;
} gallery_item;

typedef struct gallery {
    gallery_item *item;
    int count;
} gallery;

/* Adds what s showed; s was written to DIR/<mechanism>. */
void gallery_add(gallery *g, const mapset *s);
/* Adds a mechanism that has no maps here. */
void gallery_add_missing(gallery *g, const att_mechanism *m, const char *why);
void gallery_free(gallery *g);

/* DIR/sheet (matrices), DIR/relative (relative maps), DIR/entropy (boxes),
 * DIR/index.md. */
int gallery_write(const gallery *g, const char *dir,
                  const mapset_options *options, error *e);

#endif
