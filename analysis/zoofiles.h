/* zoofiles.h - the model files that come with the program, by name. */
#ifndef ZOOFILES_H
#define ZOOFILES_H

#include "../harness/error.h"

/* Names ("nat_tiny": files without .json) in alphabetical order; the count, or
 * -1.  zoo_names_free() gives them back. */
int zoo_names(char ***out, error *e);
void zoo_names_free(char **names, int count);

/* Path of a model's file, allocated.  "NAT-Tiny" is nat_tiny too; a name with a
 * slash or ".json" is a path already.  NULL: e names the nearest spelling. */
char *zoo_path(const char *name, error *e);

#endif
