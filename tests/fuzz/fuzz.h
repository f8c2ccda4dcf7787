/* fuzz.h - entry points that take any bytes for a file or a command line.
 *
 * FUZZ_TARGET(name) defines one: fuzz_name() for tests/corpus.c, which plays
 * back what was found so far, or with FUZZ_ALONE the function that libFuzzer
 * calls.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_TARGETS(X)                                                        \
    X(suite)                                                                   \
    X(journal)                                                                 \
    X(casefile)                                                                \
    X(safetensors)                                                             \
    X(model)                                                                   \
    X(npy)                                                                     \
    X(png)                                                                     \
    X(data)                                                                    \
    X(options)

#ifdef FUZZ_ALONE
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
#define FUZZ_TARGET(name)                                                      \
    int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
#else
#define FUZZ_PROTOTYPE(name) int fuzz_##name(const uint8_t *bytes, size_t size);
FUZZ_TARGETS(FUZZ_PROTOTYPE)
#undef FUZZ_PROTOTYPE
#define FUZZ_TARGET(name) int fuzz_##name(const uint8_t *bytes, size_t size)
#endif

/* A folder of this process, gone when it ends. */
const char *fuzz_folder(void);
/* Path of a file in it that holds the bytes; static storage. */
const char *fuzz_file(const char *name, const uint8_t *bytes, size_t size);

/* Where argp's ways to end the program lead, which the linker turns aside
 * (--wrap): command lines that are wrong end in a longjmp. */
extern jmp_buf fuzz_way_out;

/* Ends the program with a line: a reader did what it must not do. */
_Noreturn void fuzz_fail(const char *what);

#endif
