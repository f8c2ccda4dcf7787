/* Model files: weights, and the network that metadata or shapes describe. */
#include "fuzz.h"

#include "../../analysis/model.h"

FUZZ_TARGET(model)
{
    model m;
    error e;
    if (model_read(&m, fuzz_file("m.safetensors", bytes, size), NULL, 0, &e) == 0)
        model_free(&m);
    return 0;
}
