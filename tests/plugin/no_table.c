/* No table at all. */
#include "att.h"

extern const int no_table;
const int no_table = 1;
