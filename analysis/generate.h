/* generate.h - seeded procedural data: pictures on which trained attention
 * becomes local, a classification task that does not saturate, and bytes whose
 * ideal code length is known.
 *
 * Item i of seed S is independent of all others, so that results depend neither
 * on the order nor on the number of threads.  Recipes and constants are stated
 * in generate.c.
 */
#ifndef GENERATE_H
#define GENERATE_H

#include <stddef.h>
#include <stdint.h>

enum {
    GENERATE_PICTURE = 40, /* side of leaves and clouds                       */
    GENERATE_STRIPES = 28, /* side of stripes                                 */
    GENERATE_CLASSES = 8   /* of stripes                                      */
};

/* State of the random generator for one item. */
uint64_t generate_state(uint64_t seed, uint64_t item);

/* Dead leaves: large shaded overlapping ellipses, front to back.  40 x 40 values
 * with mean 0 and deviation near 1. */
void generate_leaves(uint64_t seed, uint64_t item, float *picture);

/* Clouds: five octaves of value noise, the same size and normalisation. */
void generate_clouds(uint64_t seed, uint64_t item, float *picture);

/* Three striped discs in noise, 28 x 28.  Returns the class: 2 * direction of
 * the large disc + (the small disc has the same direction). */
int generate_stripes(uint64_t seed, uint64_t item, float *picture);

/* What a byte of a document is, for losses by class. */
enum generate_class { BYTE_FIXED, BYTE_KIND, BYTE_CHOICE, BYTE_MARKOV,
                      BYTE_COPY, BYTE_BRACKET, BYTE_CLOSING, BYTE_RECALL,
                      BYTE_END, BYTE_CLASSES };
extern const char *const generate_class_name[BYTE_CLASSES];

/* Longest document, in bytes. */
enum { GENERATE_DOCUMENT = 4096 };

/* Writes document `item`: its bytes, the ideal code length of each in bits given
 * all earlier ones, and its class.  Returns the number of bytes; words are cut
 * so that it stays below GENERATE_DOCUMENT (probability below 1e-60). */
size_t generate_document(uint64_t seed, uint64_t item, unsigned char *byte,
                         float *bits, unsigned char *class_);

#endif
