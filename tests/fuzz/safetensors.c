/* The container of case files and models, every tensor converted. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../harness/array.h"

FUZZ_TARGET(safetensors)
{
    archive a;
    error e;
    if (archive_read(&a, fuzz_file("x.safetensors", bytes, size), &e) < 0)
        return 0;
    for (int i = 0; i < a.count; i++) {
        const size_t n = a.items[i].elements;
        if (n > size) fuzz_fail("more elements than bytes");
        if (archive_find(&a, a.items[i].name) != &a.items[i])
            fuzz_fail("a tensor is not found by its name");
        double *wide = malloc((n + 1) * sizeof *wide);
        float *narrow = malloc((n + 1) * sizeof *narrow);
        if (!wide || !narrow) abort();
        array_to_double(&a.items[i], wide);
        array_to_float(&a.items[i], narrow);
        free(wide);
        free(narrow);
    }
    for (int i = 0; i < a.metadata_count; i++)
        if (!archive_metadata(&a, a.metadata[i].key))
            fuzz_fail("metadata are not found by their key");
    archive_free(&a);
    return 0;
}
