/* Command lines, a word per line; the first is the command.
 *
 * Commands that measure, train or draw are stopped behind their options: by
 * words that no mechanism, model or file has for a name, two of them since an
 * option may take one for its value.  A sweep is listed, not run.  Words with a
 * slash are left out, so that no file is written but in the folder of the
 * process.
 */
#include "fuzz.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../harness/commands.h"
#include "../../harness/sweep_options.h"

enum { WORDS = 24 };

static int sweep(int argc, char **argv)
{
    sweep_options o;
    sweep_suite suite = { 0 };
    sweep_cases cases = { 0 };
    if (sweep_options_read(&o, argc, argv) == 0 &&
        sweep_options_cases(&o, &suite, &cases) == 0)
        sweep_cases_free(&cases);
    sweep_suite_free(&suite);
    sweep_options_free(&o);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *more[2]; /* words at the end                                 */
} commands[] = {
    { "sweep", sweep, { NULL } },
    { "list", command_list, { NULL } },
    { "explain", command_explain, { NULL } },
    { "cite", command_cite, { NULL } },
    { "completion", command_completion, { NULL } },
    { "table", command_table, { "run", NULL } },
    { "compare", command_compare, { "run", "run" } },
    { "verify", command_verify, { "no.file", "no.file" } },
    { "maps", command_maps, { "no-mechanism", "no-mechanism" } },
    { "train", command_train, { "no-word", "no-word" } },
    { "models", command_models, { "no-model", "no-model" } },
};
enum { COMMANDS_HERE = sizeof commands / sizeof *commands };

/* --help, --usage, --version print and end the program: nothing to find there.
 */
static bool is_allowed(const char *word)
{
    static const char *const ends[] = { "--help", "--usage", "--version" };
    const size_t n = strcspn(word, "=");
    if (strchr(word, '/')) return false;
    if (strncmp(word, "--", 2)) return *word != '-' || !strpbrk(word, "?V");
    for (int i = 0; n > 2 && i < 3; i++)
        if (!strncmp(word, ends[i], n)) return false;
    return true;
}

/* ---- a run for `table` and `compare`
 * ---------------------------------------------- */

static const char run_rows[] =
    "{\"kind\":\"env\",\"schema\":1,\"id\":\"a\",\"machine_id\":\"m\","
    "\"binary\":\"b\"}\n"
    "{\"kind\":\"case\",\"schema\":1,\"case\":\"x.y/"
    "n=4,v4,forward\",\"env\":\"a\","
    "\"binary\":\"b\",\"mechanism\":\"x\",\"family\":\"x\",\"kernel\":\"x.y\","
    "\"level\":\"v4\",\"threads\":1,\"pass\":\"forward\",\"problem\":{\"grid\":"
    "[4],"
    "\"head_dim\":8,\"tokens\":4},\"status\":\"ok\",\"time_ns\":{\"median\":10,"
    "\"lo\":9,\"hi\":11,\"n\":3,\"samples\":[{\"ns\":[9,10,11],\"touched\":[]}]"
    "},"
    "\"flop\":{\"total\":100}}\n";

static void make_run(void)
{
    static bool made;
    char path[300];
    if (made) return;
    made = true;
    if (chdir(fuzz_folder()) < 0) fuzz_fail("cannot enter the folder");
    fuzz_file("journal.jsonl", (const uint8_t *)run_rows, sizeof run_rows - 1);
    snprintf(path, sizeof path, "%s/run", fuzz_folder());
    if (symlink(".", path) < 0) fuzz_fail("cannot make a link");
}

static void call(int which, int argc, char **argv)
{
    if (setjmp(fuzz_way_out) == 0) commands[which].run(argc, argv);
}

static void run(int which, int argc, char **argv)
{
    static char name[64];
    for (int i = 0; i < 2 && commands[which].more[i]; i++)
        argv[argc++] = (char *)commands[which].more[i];
    argv[argc] = NULL;
    snprintf(name, sizeof name, "attnbench %s", commands[which].name);
    argv[0] = name;
    call(which, argc, argv);
}

FUZZ_TARGET(options)
{
    static char text[4096];
    char *argv[WORDS + 4], *rest = NULL;
    int argc = 0, which = -1;

    if (size >= sizeof text || memchr(bytes, 0, size)) return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    make_run();
    for (char *w = strtok_r(text, "\n", &rest); w && argc < WORDS;
         w = strtok_r(NULL, "\n", &rest)) {
        for (int i = 0; argc == 0 && i < COMMANDS_HERE; i++)
            if (!strcmp(w, commands[i].name)) which = i;
        if (which < 0) return 0;
        if (is_allowed(w)) argv[argc++] = w;
    }
    if (which >= 0) run(which, argc, argv);
    return 0;
}
