/* cgroup.h - what control groups, version 1 and 2, leave this process: memory
 * and processor time.  Containers and batch systems limit by them.
 */
#ifndef CGROUP_H
#define CGROUP_H

#include <stdbool.h>

/* The least over our group and its parents, as far as they are visible;
 * INFINITY where there is no limit. */
typedef struct cgroup_limits {
    double memory;      /* bytes                                            */
    double memory_free; /* of them: the limit less what is used and could not
                           be dropped                                       */
    double processors;  /* processor seconds a second                       */
} cgroup_limits;

/* root: "" for this machine, or a folder that stands for / (tests), without a
 * slash at its end.  What cannot be read is no limit. */
cgroup_limits cgroup_read(const char *root);

/* Seconds that threads of our limited groups have had to wait so far since their
 * quota was used up; 0 where there is none. */
double cgroup_throttled(const char *root);

/* Whether there is a quota at all: cheap to ask again and again. */
bool cgroup_has_quota(void);

#endif
