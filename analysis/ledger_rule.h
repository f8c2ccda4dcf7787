/* ledger_rule.h - what the rules of a claim make of its quantities.
 *
 *     QUANTITY OP [NUMBER *] QUANTITY, or QUANTITY OP NUMBER
 *
 * A rule is decided on 95 % intervals, never on the values in their middle: it
 * holds if it does for whatever two numbers the intervals of its sides allow,
 * fails if it does so for none, and is unclear otherwise.  A quantity that is
 * sampled and has no interval may be any number.
 */
#ifndef LEDGER_RULE_H
#define LEDGER_RULE_H

#include "ledger.h"

/* Whether a rule can be read and names quantities of its claim.  -1 with e, which
 * begins with `where`. */
int ledger_rule_check(const ledger_claim *c, const ledger_rule *r,
                      const char *where, error *e);

/* Outcomes of all rules, and the claim's verdict. */
void ledger_decide(ledger_claim *c);

/* The rule that the verdict stands on: of those that are the reason for it the
 * first; NULL: not measured. */
const ledger_rule *ledger_deciding(const ledger_claim *c);

#endif
