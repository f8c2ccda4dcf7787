/* Case files up to where the reference would run: read, understood, copied. */
#include "fuzz.h"

#include "../../harness/casefile.h"

FUZZ_TARGET(casefile)
{
    check_values v = { 0 };
    case_file c;
    error e;
    if (case_file_read(&c, fuzz_file("x.safetensors", bytes, size), &e) < 0)
        return 0;
    const bool grad = c.grad && c.mechanism->backward;
    if (check_values_make(&v, c.mechanism, &c.problem, grad, &e) == 0)
        case_file_fill(&c, &v, &e);
    check_values_free(&v);
    case_file_free(&c);
    return 0;
}
