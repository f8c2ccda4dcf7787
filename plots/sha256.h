/* sha256.h - fingerprint of a journal, so that a table or figure names the
 * exact data it was made from.
 */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>

/* SHA-256 (FIPS 180-4) of size bytes as 64 hexadecimal digits and a 0. */
void sha256_hex(const void *data, size_t size, char out[65]);

#endif
