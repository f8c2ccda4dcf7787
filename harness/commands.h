/* commands.h - the subcommands of attnbench.  Each gets argv[0] = "attnbench
 * NAME", parses its own options with argp, and returns an exit code of error.h.
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#define COMMANDS(X)                                                            \
    X(list, "mechanisms, kernels, suites, counters")                           \
    X(explain, "formula, cost, parameters and citation of a mechanism")        \
    X(doctor, "what this machine can measure, and the remedy for the rest")    \
    X(verify, "compare kernels and references with case files, or each other") \
    X(sweep, "measure kernels over axes or a suite")                           \
    X(cache, "misses of the same cases in simulated caches")                   \
    X(table, "results as Markdown, CSV, LaTeX or JSON")                        \
    X(plot, "figures of a run")                                                \
    X(compare, "two runs, case by case")                                       \
    X(merge, "join the journals of several runs")                              \
    X(journal, "check rows against the list of their keys; its schema")        \
    X(maps, "effective attention matrices of a mechanism or model")            \
    X(models, "the papers' whole models: counts and speed")                    \
    X(train, "a small transformer with any mechanism")                         \
    X(findings, "claims of papers held against measurements")                  \
    X(cite, "BibTeX of attnbench and of mechanisms")                           \
    X(completion, "completion script for bash, zsh or fish")

#define COMMAND_PROTOTYPE(name, brief) int command_##name(int argc, char **argv);
COMMANDS(COMMAND_PROTOTYPE)
#undef COMMAND_PROTOTYPE

/* Version of the program (also in CITATION.cff and CHANGELOG.md). */
#define ATTNBENCH_VERSION "0.1.0"

#endif
