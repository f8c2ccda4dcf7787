/* mapfile.h - one matrix as files: STEM.png with its meaning in text chunks,
 * STEM.npy, STEM-relative.npy.
 */
#ifndef MAPFILE_H
#define MAPFILE_H

#include "../harness/error.h"
#include "../harness/json.h"
#include "../kernels/plan.h"
#include "heatmap.h"
#include "metrics.h"

enum { MAPFILE_NOTES = 14, MAPFILE_TEXT = 320 };

/* Text chunks; begins with the program and its revision. */
typedef struct mapfile_notes {
    png_note note[MAPFILE_NOTES];
    char text[MAPFILE_NOTES][MAPFILE_TEXT];
    int count;
} mapfile_notes;

void mapfile_begin(mapfile_notes *n);
/* key: static text. */
__attribute__((format(printf, 3, 4)))
void mapfile_note(mapfile_notes *n, const char *key, const char *format, ...);

/* Git revision of the program, or NULL. */
const char *mapfile_revision(void);

/* "DIR/STEMEND", allocated. */
char *mapfile_path(const char *dir, const char *stem, const char *end);

/* The picture (STEM.png; with the view and the pooling in its name where there
 * are any) and the numbers.  Adds the scale to the notes. */
int mapfile_write(const char *dir, const char *stem, const double *a,
                  size_t rows, size_t columns, const heatmap_scale *scale,
                  mapfile_notes *notes, error *e);

/* The averaged relative map; nothing if there is none. */
int mapfile_relative(const char *dir, const char *stem, const metrics *m,
                     error *e);

/* A picture as 8-bit RGB. */
int mapfile_picture(const char *dir, const char *name, const picture *p,
                    error *e);

/* {"of", "lo", "hi", ...} of a scale. */
json *mapfile_scale(const heatmap_scale *s);

/* Fields that the mechanism has, numbers as numbers, as in a journal. */
json *mapfile_problem(const att_mechanism *m, const att_problem *p);
/* "grid=14x14 head_dim=32 ...": grid, sizes, and what is not the default. */
void mapfile_problem_text(const att_mechanism *m, const att_problem *p,
                          char *out, size_t size);

#endif
