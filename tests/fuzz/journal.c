/* Journals, as tables and comparisons read them, merge joins them and a sweep
 * resumes them. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../harness/commands.h"
#include "../../harness/journal.h"
#include "../../plots/results.h"

/* A command with its words, which fit. */
static void run(int (*command)(int, char **), const char *words)
{
    char text[512], *argv[16], *rest = NULL;
    int argc = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok_r(text, " ", &rest); w;
         w = strtok_r(NULL, " ", &rest))
        argv[argc++] = w;
    argv[argc] = NULL;
    command(argc, argv);
}

static void show(const char *dir)
{
    static const char *const options[] = {
        "--format csv --columns all --env all",
        "--format text --fits",
        "--rows kernel --cols n --format tex",
        "--format json",
        "--format md",
    };
    char words[512];
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        snprintf(words, sizeof words, "table %s %s", dir, options[i]);
        run(command_table, words);
    }
    snprintf(words, sizeof words, "compare %s %s", dir, dir);
    run(command_compare, words);
    snprintf(words, sizeof words, "merge %s/merged %s", dir, dir);
    run(command_merge, words);
    snprintf(words, sizeof words, "%s/merged/journal.jsonl", dir);
    unlink(words);
}

/* Whatever is there, a sweep that takes it up leaves whole rows, and those that
 * could be read before. */
static void resume(const char *dir, const journal *before)
{
    journal_writer w;
    journal after;
    error e;
    if (journal_open(&w, dir, NULL, &e) < 0) return;
    journal_close(&w);
    const int rc = journal_read(&after, dir, &e);
    if (!before) {
        if (rc == 0) journal_free(&after);
        return;
    }
    if (rc < 0) fuzz_fail("a journal cannot be read after its repair");
    if (after.torn || after.count != before->count)
        fuzz_fail("a repair lost rows or left a torn line");
    journal_free(&after);
}

FUZZ_TARGET(journal)
{
    journal before;
    error e;
    fuzz_file("journal.jsonl", bytes, size);
    const char *dir = fuzz_folder();
    const int rc = journal_read(&before, dir, &e);
    if (rc == 0) show(dir);
    resume(dir, rc == 0 ? &before : NULL);
    if (rc == 0) journal_free(&before);
    return 0;
}
