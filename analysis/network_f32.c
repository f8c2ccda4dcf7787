/* network_f32.c - networks in float: kernels and sgemm. */
#define NET_FLOAT
#include "network_real.h"
