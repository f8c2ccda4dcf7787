/* PNG pictures; every sample that is read is a number from 0 to 1. */
#include "fuzz.h"

#include <zlib.h>

#include "../../plots/png.h"

#ifdef FUZZ_ALONE
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most,
                               unsigned seed);

static size_t big_endian(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Mends the checksum of every chunk, or most mutations would end at it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most,
                               unsigned seed)
{
    enum { SIGNATURE = 8, AROUND = 12 };
    size = LLVMFuzzerMutate(data, size, most);
    if (seed % 8 == 0) return size; /* some stay broken */
    for (size_t at = SIGNATURE; size >= AROUND && at <= size - AROUND;) {
        const size_t length = big_endian(data + at);
        if (length > size - AROUND - at) break;
        const uint32_t sum =
            (uint32_t)crc32(0, data + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++)
            data[at + 8 + length + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        at += AROUND + length;
    }
    return size;
}
#endif

FUZZ_TARGET(png)
{
    picture p;
    error e;
    if (png_read_picture(fuzz_file("x.png", bytes, size), &p, &e) < 0) return 0;
    const size_t n = (size_t)p.width * (size_t)p.height * (size_t)p.channels;
    for (size_t i = 0; i < n; i++)
        if (!(p.sample[i] >= 0 && p.sample[i] <= 1))
            fuzz_fail("a sample is not from 0 to 1");
    picture_free(&p);
    return 0;
}
