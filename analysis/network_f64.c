/* network_f64.c - networks in double: references and dgemm. */
#include "network_real.h"
