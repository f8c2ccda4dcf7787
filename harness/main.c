#include "../kernels/plan.h"
#include <stdio.h>
int main(void)
{
    const att_entry *e;
    size_t n = att_entries(&e);
    for (size_t i = 0; i < n; i++) {
        char name[ATT_NAME];
        att_case_name(&e[i], &att_problem_default, 1, ATT_FORWARD, name);
        puts(name);
    }
}
