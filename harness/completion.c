/* completion.c - completion scripts for bash, zsh and fish.
 *
 * Names come from the registry, options from each command's own --help, so that
 * a script knows what this program knows, plugins included.
 */
#include <argp.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/plan.h"
#include "axes.h"
#include "capture.h"
#include "commands.h"
#include "error.h"
#include "names.h"
#include "spelling.h"
#include "sweep_plan.h"

enum { WORDS = 16384, FLAGS = 128, HELP = 65536 };

typedef struct flag {
    char name[48]; /* without dashes                                        */
    bool value;    /* takes one                                             */
} flag;

typedef struct command {
    const char *name, *brief;
    flag flag[FLAGS];
    int flags;
} command;

static command commands[] = {
#define ENTRY(n, b) { .name = #n, .brief = b },
    COMMANDS(ENTRY)
#undef ENTRY
};
enum { COUNT = sizeof commands / sizeof *commands };

/* ---- words --------------------------------------------------------------- */

/* Names that need no quotes in any shell; a plugin may have others, which are
 * left out. */
static bool harmless(const char *name)
{
    return *name &&
           !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                              "WXYZ0123456789_.+-")];
}

static void add_word(char *out, const char *word)
{
    const size_t at = strlen(out);
    if (harmless(word) && at + strlen(word) + 2 < WORDS)
        snprintf(out + at, WORDS - at, "%s%s", at ? " " : "", word);
}

static void add_names(char *out, int (*list)(const char ***))
{
    const char **names;
    const int n = list(&names);
    for (int i = 0; i < n; i++) add_word(out, names[i]);
    free(names);
}

static void add_suites(char *out)
{
    char **names;
    const int n = sweep_suite_names(&names, NULL);
    for (int i = 0; i < n; i++) add_word(out, names[i]);
    if (n >= 0) sweep_suite_names_free(names, n);
}

/* The spellings of an axis with named values: "zero mask". */
static void add_spellings(char *out, const char *name)
{
    const int a = axes_find(name);
    if (a < 0 || a >= ATT_FIELD_COUNT ||
        att_fields[a].kind != ATT_ENUM)
        return;
    const char *s = att_fields[a].help;
    for (;;) {
        char word[ATT_TEXT];
        const size_t n = strcspn(s, "|:");
        snprintf(word, sizeof word, "%.*s", (int)n, s);
        add_word(out, word);
        if (s[n] != '|') return;
        s += n + 1;
    }
}

/* What may follow an option; "": anything, so files are offered. */
static const char *words_after(const char *name)
{
    static char out[WORDS];
    static const char *const fixed[][2] = {
        { "level", "best all v2 v3 v4" },
        { "pass", "forward backward" },
        { "inputs", "normal sharp" },
        { "cache", "warm cold" },
        { "format", "md csv tex json" },
        { "color", "auto always never" },
        { "plain", "all one none only" },
    };
    *out = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!strcmp(name, fixed[i][0])) return fixed[i][1];
    if (!strcmp(name, "suite")) add_suites(out);
    else if (!strcmp(name, "kernel") || !strcmp(name, "not"))
        add_names(out, names_kernels);
    else if (!strcmp(name, "mechanism")) add_names(out, names_mechanisms);
    else add_spellings(out, name);
    return out;
}

/* What a command takes without dashes; "": files. */
static const char *words_of(const char *name)
{
    static char out[WORDS];
    *out = 0;
    if (!strcmp(name, "list")) return "mechanisms kernels suites counters";
    if (!strcmp(name, "completion")) return "bash zsh fish";
    if (!strcmp(name, "explain") || !strcmp(name, "cite") ||
        !strcmp(name, "maps"))
        add_names(out, names_mechanisms);
    return out;
}

/* ---- options, from --help ------------------------------------------------ */

/* Adds the option of a line "  -k, --kernel=PATTERN,...   names of ...". */
static void add_option(command *c, const char *line)
{
    line += strspn(line, " ");
    const char *dashes = strstr(line, "--");
    if (*line != '-' || !dashes || c->flags == FLAGS) return;
    dashes += 2;
    flag *o = &c->flag[c->flags];
    const size_t n = strspn(dashes, "abcdefghijklmnopqrstuvwxyz0123456789-");
    if (n == 0 || n >= sizeof o->name) return;
    snprintf(o->name, sizeof o->name, "%.*s", (int)n, dashes);
    o->value = dashes[n] == '=';
    c->flags++;
}

static int read_help(command *c, error *e)
{
    const char *const argv[] = { "/proc/self/exe", c->name, "--help", NULL };
    char *help = malloc(HELP);
    if (!help) abort();
    const int rc = capture(argv, help, HELP);
    for (const char *line = help; line; line = strchr(line, '\n'),
                    line = line ? line + 1 : NULL)
        add_option(c, line);
    free(help);
    if (rc == 0) return 0;
    return error_set(e, "cannot ask this program for the options of '%s': run "
                        "it where /proc is mounted",
                     c->name);
}

/* ---- bash ---------------------------------------------------------------- */

/* All options of all commands that take a value, each once. */
static bool first_of_its_name(int command_index, int option_index)
{
    const char *name = commands[command_index].flag[option_index].name;
    for (int c = 0; c <= command_index; c++)
        for (int o = 0; o < commands[c].flags; o++) {
            if (c == command_index && o == option_index) return true;
            if (!strcmp(commands[c].flag[o].name, name)) return false;
        }
    return true;
}

static void bash_values(void)
{
    puts("    case $prev in\n"
         "    --color) words=\"auto always never\" ;;\n"
         "    --plugin) return ;;");
    for (int c = 0; c < COUNT; c++)
        for (int o = 0; o < commands[c].flags; o++) {
            const flag *x = &commands[c].flag[o];
            if (!x->value || !first_of_its_name(c, o)) continue;
            const char *words = words_after(x->name);
            if (*words) printf("    --%s) words=\"%s\" ;;\n", x->name, words);
            else printf("    --%s) return ;;\n", x->name);
        }
    puts("    esac");
}

static void bash_words(void)
{
    printf("    case $command in\n    '') words=\"");
    for (int c = 0; c < COUNT; c++) printf("%s ", commands[c].name);
    puts("help --plugin --color --version --help\" ;;");
    for (int c = 0; c < COUNT; c++) {
        printf("    %s) words=\"%s", commands[c].name,
               words_of(commands[c].name));
        for (int o = 0; o < commands[c].flags; o++)
            printf(" --%s", commands[c].flag[o].name);
        puts("\" ;;");
    }
    puts("    esac");
}

static void print_bash(void)
{
    puts("# bash completion for attnbench:\n"
         "#     source <(attnbench completion bash)\n"
         "_attnbench() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]}\n"
         "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local command= words= head= i\n"
         "    # bash splits --option=value into three words\n"
         "    [[ $cur == '=' ]] && cur=\n"
         "    [[ $prev == '=' ]] && prev=${COMP_WORDS[COMP_CWORD-2]}\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        case ${COMP_WORDS[i]} in\n"
         "        --plugin|--color)\n"
         "            [[ ${COMP_WORDS[i+1]} == '=' ]] && ((i++))\n"
         "            ((i++)) ;;\n"
         "        -*) ;;\n"
         "        *) command=${COMP_WORDS[i]}; break ;;\n"
         "        esac\n"
         "    done\n"
         "    COMPREPLY=()");
    bash_values();
    puts("    if [[ -n $words ]]; then # lists a,b,c\n"
         "        [[ $cur == *,* ]] && head=${cur%,*},\n"
         "        COMPREPLY=($(compgen -P \"$head\" -W \"$words\" -- "
         "\"${cur##*,}\"))\n"
         "        return\n"
         "    fi");
    bash_words();
    puts("    # options: once a dash is typed, or if there is nothing else\n"
         "    [[ $cur == -* || $words == ' '* ]] || words=${words%% --*}\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "}\n"
         "complete -o default -F _attnbench attnbench");
}

/* ---- zsh ----------------------------------------------------------------- */

/* Text between single quotes. */
static void quoted(const char *text)
{
    for (; *text; text++)
        if (*text == '\'') fputs("'\\''", stdout);
        else if (*text == ':' ) fputs("\\:", stdout);
        else putchar(*text);
}

/* Options that take one of their words and no list of them. */
static bool one_word(const char *name)
{
    return !strcmp(name, "suite") || !strcmp(name, "plain") ||
           !strcmp(name, "format");
}

static void zsh_option(const flag *o)
{
    if (!o->value) {
        printf(" \\\n            '--%s'", o->name);
        return;
    }
    const char *words = words_after(o->name);
    printf(" \\\n            '--%s=:%s:", o->name, o->name);
    if (!*words) printf("_files'");
    else if (one_word(o->name)) printf("(%s)'", words);
    else printf("_values -s , %s %s'", o->name, words);
}

static void print_zsh(void)
{
    puts("#compdef attnbench\n"
         "# zsh completion for attnbench: save as _attnbench in a folder of "
         "$fpath\n"
         "_attnbench() {\n"
         "    local state line\n"
         "    local -a commands\n"
         "    commands=(");
    for (int c = 0; c < COUNT; c++) {
        printf("        '%s:", commands[c].name);
        quoted(commands[c].brief);
        puts("'");
    }
    puts("    )\n"
         "    _arguments -C '*--plugin=:shared object:_files' \\\n"
         "        '--color=:when:(auto always never)' '--version' '--help' \\\n"
         "        '1:command:->command' '*::argument:->argument'\n"
         "    case $state in\n"
         "    command) _describe command commands ;;\n"
         "    argument)\n"
         "        case $words[1] in");
    for (int c = 0; c < COUNT; c++) {
        const char *words = words_of(commands[c].name);
        printf("        %s)\n            _arguments", commands[c].name);
        for (int o = 0; o < commands[c].flags; o++)
            zsh_option(&commands[c].flag[o]);
        if (*words) printf(" \\\n            '*:name:(%s)' ;;\n", words);
        else puts(" \\\n            '*:file:_files' ;;");
    }
    puts("        esac ;;\n"
         "    esac\n"
         "}\n"
         "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
         "    _attnbench \"$@\"\n"
         "else\n"
         "    compdef _attnbench attnbench\n"
         "fi");
}

/* ---- fish ---------------------------------------------------------------- */

static void fish_option(const char *command_name, const flag *o)
{
    printf("complete -c attnbench -n '__fish_seen_subcommand_from %s' -l %s",
           command_name, o->name);
    if (o->value) {
        const char *words = words_after(o->name);
        if (*words) printf(" -x -a '(__fish_append , %s)'", words);
        else printf(" -r -F");
    }
    putchar('\n');
}

static void print_fish(void)
{
    puts("# fish completion for attnbench: save as\n"
         "# ~/.config/fish/completions/attnbench.fish\n"
         "complete -c attnbench -n __fish_use_subcommand -f\n"
         "complete -c attnbench -n __fish_use_subcommand -l plugin -r -F\n"
         "complete -c attnbench -n __fish_use_subcommand -l color -x -a "
         "'auto always never'");
    for (int c = 0; c < COUNT; c++) {
        printf("complete -c attnbench -n __fish_use_subcommand -a %s "
               "-d \"%s\"\n",
               commands[c].name, commands[c].brief);
        const char *words = words_of(commands[c].name);
        if (*words)
            printf("complete -c attnbench "
                   "-n '__fish_seen_subcommand_from %s' -f -a '%s'\n",
                   commands[c].name, words);
        for (int o = 0; o < commands[c].flags; o++)
            fish_option(commands[c].name, &commands[c].flag[o]);
    }
}

/* ---- command ------------------------------------------------------------- */

static const struct shell {
    const char *name;
    void (*print)(void);
} shells[] = {
    { "bash", print_bash },
    { "zsh", print_zsh },
    { "fish", print_fish },
};
enum { SHELLS = sizeof shells / sizeof *shells };

typedef struct request {
    const struct shell *shell;
    int status;
    error error;
} request;

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    if (key != ARGP_KEY_ARG) return ARGP_ERR_UNKNOWN;
    r->shell = NULL;
    for (int i = 0; i < SHELLS; i++)
        if (!strcmp(shells[i].name, text)) r->shell = &shells[i];
    if (r->shell) return 0;
    error_set(&r->error, "no completion for '%s': bash, zsh or fish", text);
    r->status = EXIT_USAGE;
    return 0;
}

int command_completion(int argc, char **argv)
{
    static const struct argp_option none[] = { { 0 } };
    static const struct argp argp = {
        NULL, parse, "bash|zsh|fish",
        "Prints a completion script: commands, options, names of kernels, "
        "mechanisms and suites."
        "\v"
        "  bash: source <(attnbench completion bash)\n"
        "  zsh:  attnbench completion zsh > ~/.zfunc/_attnbench\n"
        "  fish: attnbench completion fish > "
        "~/.config/fish/completions/attnbench.fish\n",
        NULL, NULL, NULL
    };
    request r = { 0 };
    if (spelling_check(none, argc, argv, &r.error) < 0) r.status = EXIT_USAGE;
    else argp_parse(&argp, argc, argv, 0, NULL, &r);
    if (!r.status && !r.shell) {
        error_set(&r.error, "which shell? bash, zsh or fish");
        r.status = EXIT_USAGE;
    }
    for (int c = 0; c < COUNT && !r.status; c++)
        if (read_help(&commands[c], &r.error) < 0) r.status = EXIT_MISSING;
    if (r.status) fprintf(stderr, "%s: %s\n", argv[0], r.error.text);
    else r.shell->print();
    return r.status;
}
