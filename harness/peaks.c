/* peaks.c - the loops of peak.c, one table per level that this build has. */
#include "peak.h"

extern const peak peak_harness_peak_base __attribute__((weak));
extern const peak peak_harness_peak_v2 __attribute__((weak));
extern const peak peak_harness_peak_v3 __attribute__((weak));
extern const peak peak_harness_peak_v4 __attribute__((weak));

const peak *peak_of(enum att_level level)
{
    static const peak *const peaks[ATT_LEVELS] = {
        &peak_harness_peak_base,
        &peak_harness_peak_v2,
        &peak_harness_peak_v3,
        &peak_harness_peak_v4,
    };
    return level <= att_level_cpu() ? peaks[level] : NULL;
}
