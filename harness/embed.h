/* embed.h - a file as text in the program, so that it needs no data folder:
 *
 *     EMBED(references, "results/references.bib");   const char references[]
 *
 * The path counts from the root of the source tree, where the build runs.
 * Compilers do not report such a file as a dependency: the Makefile has to.
 */
#ifndef EMBED_H
#define EMBED_H

#define EMBED(name, path)                                                      \
    extern const char name[] __attribute__((visibility("hidden")));            \
    __asm__(".pushsection .rodata\n"                                           \
            ".global " #name "\n"                                              \
            ".hidden " #name "\n" #name ":\n"                                  \
            ".incbin \"" path "\"\n"                                           \
            ".byte 0\n"                                                        \
            ".popsection\n")

#endif
