/* Data sets.  The first byte chooses the kind of file: pictures in IDX, those
 * packed, labels of a picture file that is well, CIFAR-10 records, or whatever the
 * bytes are found to be. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../analysis/data.h"

enum { SIDE = 4, PICTURES = 3 };

static const char *pictures(void)
{
    static const uint8_t header[16] = {0, 0, 8, 3,    0, 0, 0, PICTURES,
                                       0, 0, 0, SIDE, 0, 0, 0, SIDE};
    uint8_t file[sizeof header + PICTURES * SIDE * SIDE] = { 0 };
    memcpy(file, header, sizeof header);
    return fuzz_file("x-images-idx3-ubyte", file, sizeof file);
}

static const char *make(uint8_t kind, const uint8_t *bytes, size_t size)
{
    switch (kind % 5) {
    case 0:
        return fuzz_file("x-images-idx3-ubyte", bytes, size);
    case 1:
        return fuzz_file("x-images-idx3-ubyte.gz", bytes, size);
    case 2:
        fuzz_file("x-labels-idx1-ubyte", bytes, size);
        return pictures();
    case 3:
        return fuzz_file("x.bin", bytes, size);
    default:
        return fuzz_file("x", bytes, size);
    }
}

FUZZ_TARGET(data)
{
    static const uint8_t labels[8 + PICTURES] = { 0, 0, 8, 1, 0,
                                                  0, 0, PICTURES };
    struct data d;
    error e;
    if (size == 0) return 0;
    fuzz_file("x-labels-idx1-ubyte.gz", labels, sizeof labels);
    fuzz_file("x-labels-idx1-ubyte", labels, sizeof labels);
    if (data_open(&d, make(*bytes, bytes + 1, size - 1), NULL, &e) < 0)
        return 0;
    const size_t n = (size_t)(d.side * d.side * d.channels);
    float *picture = malloc((n + 1) * sizeof *picture);
    if (!picture) abort();
    for (uint64_t i = 0; i < 3; i++) data_picture(&d, 1, i, i == 0, picture);
    free(picture);
    data_close(&d);
    return 0;
}
