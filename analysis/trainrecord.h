/* trainrecord.h - what a training came to, as JSON beside the model file. */
#ifndef TRAINRECORD_H
#define TRAINRECORD_H

#include "trainer.h"

/* Writes MODEL.json for MODEL.safetensors (any other name: NAME.json): command,
 * data, steps, parameters, score, speed, build.  argv as the command had it.
 * 0; -1 with e. */
int train_record(const char *file, const trainer *t, const train_score *score,
                 const train_speed *speed, int argc, char **argv, error *e);

/* MODEL.json, allocated. */
char *train_record_path(const char *file);

#endif
