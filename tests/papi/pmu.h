/* pmu.h - what the stand-in for PAPI adds to PAPI, for tests that link it. */
#ifndef PMU_H
#define PMU_H

/* Work of the calling thread: its events count so many units more. */
void pmu_work(long long units);

/* Event sets that nobody destroyed, and calls that break PAPI's rules. */
int pmu_open_sets(void);
int pmu_misuses(void);

#endif
