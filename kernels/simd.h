/* simd.h - placeholder, being written */
