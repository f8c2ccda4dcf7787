/* stop.h - a wish to stop: SIGINT, SIGTERM, SIGHUP, and SIGXCPU (ulimit -t). */
#ifndef STOP_H
#define STOP_H

#include <signal.h>

/* Number of the signal that came last, 0 as long as there was none. */
extern volatile sig_atomic_t stop_signal;

/* From now on these signals only set stop_signal; what our parent had us ignore
 * (nohup) stays ignored. */
void stop_catch(void);

#endif
