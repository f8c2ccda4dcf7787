/* stop.h - a wish to stop: SIGINT, SIGTERM, SIGHUP. */
#ifndef STOP_H
#define STOP_H

#include <signal.h>

/* Number of the signal that came last, 0 as long as there was none. */
extern volatile sig_atomic_t stop_signal;

/* From now on these signals only set stop_signal, and a file-size limit is an
 * error of write() like a full disk. */
void stop_catch(void);

#endif
