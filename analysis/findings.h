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
    json *warnings;       /* [{text, remedy}]: why the machine was not quiet,
                             before the runs and after them                  */
    double load[2];       /* tasks, mean of a minute: before, after          */
} findings_about;

/* findings.md, findings.tex, findings.json in about->dir.  0; -1 with e. */
int findings_report(const ledger *l, const findings_about *about, error *e);

/* figures/ID.svg, .png, .gp and .tsv of every claim that has one and whose
 * quantities are known.  Needs gnuplot. */
int findings_figures(const ledger *l, const findings_about *about, error *e);

/* Whether a claim's figure could be drawn. */
bool findings_has_figure(const ledger_claim *c);

#endif
