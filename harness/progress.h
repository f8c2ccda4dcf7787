/* progress.h - one line on a terminal: [####----] 24/40  1:12  left ~0:46  text
 *
 * Drawn on stderr, only if that is a terminal (not TERM=dumb); otherwise
 * silent, or a line a stage.  Also the project's colour switch.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

typedef struct progress {
    double done, total; /* in any unit of work                              */
    double start;       /* seconds, monotonic                               */
    bool visible;
    double drawn;
    double told; /* when the last plain line was written                     */
} progress;

void progress_begin(progress *p, double total);
/* At most ten redraws a second; text says what is being done now. */
void progress_show(progress *p, double done, const char *text);
/* A stage is done.  Where no bar is drawn, a plain line on f instead, if the last
 * one is ten seconds old: "12/40  1:12  left ~0:46  text". */
void progress_stage(progress *p, FILE *f, double done, const char *text);
/* Removes the bar, for a message or at the end. */
void progress_clear(progress *p);

/* auto, always, never (--color); NO_COLOR and TERM=dumb count for auto. */
bool color_set(const char *when); /* false: not one of the three             */
bool color_on(FILE *stream);

#endif
