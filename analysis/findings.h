/* findings.h - what `attnbench findings` writes about a ledger. */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <stdio.h>

#include "ledger.h"

/* Words that say where and when the numbers were obtained. */
typedef struct findings_about {
    const char *dir;      /* of the report; runs are in dir/runs             */
    char runs[64];        /* folder of the runs, inside dir                  */
    char build[160];      /* version and revision                            */
    char machine[256];    /* processor, threads, virtualisation              */
    char date[32];
    double seconds;       /* all runs together                               */
} findings_about;

/* findings.md, findings.tex, findings.json in about->dir.  0; -1 with e. */
int findings_report(const ledger *l, const findings_about *about, error *e);

/* figures/ID.svg, .png, .gp and .tsv of every claim that has one and whose
 * quantities are known.  Needs gnuplot. */
int findings_figures(const ledger *l, const findings_about *about, error *e);

/* Whether a claim's figure could be drawn. */
bool findings_has_figure(const ledger_claim *c);

/* "0.249", "0.249 (0.21 to 0.28)", "0.2, 0.3"; no unit. */
void findings_number(const ledger_quantity *q, char *out, size_t size);

#endif
