/* .npy arrays, which `maps --parameter` takes. */
#include "fuzz.h"

#include <stdlib.h>

#include "../../harness/array.h"

FUZZ_TARGET(npy)
{
    size_t dim[ARRAY_DIMS];
    double *values;
    error e;
    int dims;
    if (npy_read(fuzz_file("x.npy", bytes, size), &dims, dim, &values, &e) == 0)
        free(values);
    return 0;
}
