/* Suite files, and the list of cases that they ask for. */
#include "fuzz.h"

#include "../../harness/sweep_plan.h"

FUZZ_TARGET(suite)
{
    const axes none = { 0 };
    const sweep_patterns all = { 0 };
    sweep_suite s;
    sweep_cases cases;
    error e;
    if (sweep_suite_read(&s, fuzz_file("suite.json", bytes, size), &e) < 0)
        return 0;
    if (sweep_cases_list(&s, &none, &all, &all, &cases, &e) == 0)
        sweep_cases_free(&cases);
    sweep_suite_free(&s);
    return 0;
}
