/* ledger_take.h - a quantity of a ledger from the files of its runs. */
#ifndef LEDGER_TAKE_H
#define LEDGER_TAKE_H

#include "ledger.h"

/* Fills q, or its reason.  Quantities that it is made of come before it. */
void ledger_take(ledger *l, const ledger_claim *c, ledger_quantity *q,
                 const char *dir);

#endif
