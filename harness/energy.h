/* energy.h - joules of a call, by PAPI's components rapl and powercap.
 *
 * The meters are those of whole processors and their memory, all cores and whoever
 * runs on them, idle power included: nothing is subtracted.  They move every
 * millisecond, so calls are repeated for 0.2 s.
 */
#ifndef ENERGY_H
#define ENERGY_H

#include "json.h"

/* The `energy` object of a row: joules of one call of run(arg), watts, seconds and
 * calls of the region; or nulls and the reason.  Costs nothing where there is no
 * meter. */
json *energy_measure(void (*run)(void *arg), void *arg);

/* The same where it is not to be measured. */
json *energy_none(const char *reason);

/* For `doctor`: {available, source, meters, reason, remedy}. */
json *energy_describe(void);

#endif
