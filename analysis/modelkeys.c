/* modelkeys.c - what is said of a model, in everybody's spelling. */
#include "modelkeys.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- keys --------------------------------------------------------------- */

/* Ours, and how others call them. */
static const char *const known[] = {
    "arch|architecture|model_type",
    "attention|mechanism|attn|attn_type|attention_type",
    "heads|num_heads|n_heads|n_head|nhead|num_attention_heads",
    "head_dim|dim_head|head_size",
    "image|img_size|image_size",
    "patch|patch_size",
    "channels|in_chans|in_channels|num_channels",
    "grid|grid_size",
    "frames|num_frames|seq_len|context|context_length",
    "features|num_features|num_mel_bins",
    "mean|image_mean",
    "std|image_std",
    "normalize|normalise",
    "pool|global_pool|pooling",
    "norm",
    "norm_kind",
    "ln_eps|layer_norm_eps|layernorm_eps|norm_eps",
    "gelu|hidden_act|act|act_layer|activation",
    "dim|embed_dim|hidden_size|d_model|width",
    "depth|num_layers|n_layers|num_hidden_layers|layers",
    "mlp|intermediate_size|mlp_dim",
    "mlp_ratio",
    "outputs|num_classes|num_labels",
    "registers|reg_tokens|num_registers|num_register_tokens",
    "class_token",
    "qkv_bias",
    "window|window_size",
    "kernel|kernel_size",
    "shift|shift_size",
    "dilation|dilations",
    "causal|is_causal",
    "scale|qk_scale",
    "block|block_size",
    "halo|halo_size",
    "bias|rel_pos_bias",
    "random_features|nb_features",
};
enum { KNOWN = sizeof known / sizeof *known };

/* Values that are words, likewise. */
static const struct { const char *key, *value; } spellings[] = {
    { "arch", "vit|image|images|picture|deit" },
    { "arch", "sequence|frames" },
    { "arch", "bytes|text" },
    { "pool", "token|cls|class|cls_token|first" },
    { "pool", "mean|avg|average|gap" },
    { "pool", "none|" },
    { "gelu", "erf|gelu|exact" },
    { "gelu", "tanh|gelu_tanh|gelu_new|gelu_pytorch_tanh" },
};

/* What does not say how to run a model.  Also everything that begins with
 * train_ or note. */
static const char *const notes[] = {
    "format", "source", "origin", "licence", "license", "labels", "classes",
    "name", "title", "model", "model_name", "description", "comment", "author",
    "authors", "date", "created", "url", "paper", "citation", "cite", "doi",
    "dataset", "data", "accuracy", "top1", "epoch", "epochs", "step", "steps",
    "framework", "library", "library_name", "version", "tags", "language",
    "task", "pipeline_tag", "batch", "dtype", "torch_dtype", "seed", "options",
};

static bool begins(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

/* Whether `name` is one of "a|b|c", without regard to case. */
static bool among(const char *list, const char *name)
{
    const size_t length = strlen(name);
    for (const char *s = list;; s++) {
        const size_t n = strcspn(s, "|");
        if (n == length && !strncasecmp(s, name, n)) return true;
        s += n;
        if (!*s) return false;
    }
}

/* Our spelling, allocated; NULL: not a key. */
static char *key_of(const char *typed)
{
    for (int i = 0; i < KNOWN; i++)
        if (among(known[i], typed))
            return sure(strndup(known[i], strcspn(known[i], "|")));
    if (!strcmp(typed, "dwc")) return sure(strdup("conv"));
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (!strcmp(typed, att_fields[f].name) ||
            !strcmp(typed, att_fields[f].other_name))
            return sure(strdup(typed));
    return NULL;
}

static bool is_note(const char *key)
{
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (!strcmp(key, notes[i])) return true;
    return begins(key, "train_") || begins(key, "note");
}

static int unknown(const archive *a, const model_option *o, const char *key,
                   const char *value, error *e)
{
    const char *names[KNOWN + ATT_FIELD_COUNT];
    char first[KNOWN][MODEL_KEY];
    for (int i = 0; i < KNOWN; i++) {
        snprintf(first[i], sizeof first[i], "%.*s",
                 (int)strcspn(known[i], "|"), known[i]);
        names[i] = first[i];
    }
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        names[KNOWN + f] = att_fields[f].name;
    const char *near = error_nearest(key, names, KNOWN + ATT_FIELD_COUNT);
    const char *a1 = near ? "; did you mean '" : "", *a2 = near ? near : "";
    if (o)
        return error_set(e, "--%s %s=%s: no key of a model%s%s%s", o->option,
                         key, value, a1, a2, near ? "'?" : "");
    return error_set(e, "%s: metadata %s='%s' is not known%s%s%s (what does not "
                        "say how to run a model may be called note_%s)",
                     a->path, key, value, a1, a2, near ? "'?" : "", key);
}

/* ---- values ------------------------------------------------------------- */

/* One word of a list: True is 1, None is none, 7.0 is 7. */
static void put_word(const char *word, size_t n, char **out)
{
    static const char *const same[][2] = {
        { "true|yes|on", "1" }, { "false|no|off", "0" },
        { "none|null|nil", "none" },
    };
    char text[MODEL_VALUE], *end;
    snprintf(text, sizeof text, "%.*s", (int)n, word);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (among(same[i][0], text)) strcpy(text, same[i][1]);
    const double x = strtod(text, &end);
    if (end != text && !*end && strchr(text, '.') && x == floor(x) &&
        fabs(x) < 1e9)
        snprintf(text, sizeof text, "%.0f", x);
    *out += sprintf(*out, "%s", text);
}

/* A blank, a comma, or an x between digits. */
static bool separates(const char *start, const char *s)
{
    if (isspace((unsigned char)*s) || *s == ',' || *s == ';') return true;
    return (*s == 'x' || *s == 'X' || *s == '*') && s > start &&
           isdigit((unsigned char)s[-1]) && isdigit((unsigned char)s[1]);
}

/* "[7, 7]" -> "7,7", "'tanh'" -> "tanh", " True " -> "1"; allocated. */
static char *plain(const char *text)
{
    static const char *const pairs[] = { "\"\"", "''", "()", "[]" };
    const char *end = text + strlen(text);
    for (bool again = true; again;) {
        again = false;
        while (text < end && isspace((unsigned char)*text)) text++;
        while (end > text && isspace((unsigned char)end[-1])) end--;
        for (size_t i = 0; i < 4 && !again; i++)
            again = end - text >= 2 && *text == pairs[i][0] &&
                    end[-1] == pairs[i][1];
        if (again) text++, end--;
    }
    /* a word grows to 4 letters at most, from 2 or more */
    char *out = sure(malloc(2 * (size_t)(end - text) + MODEL_VALUE)), *at = out;
    *out = 0;
    for (const char *s = text; s < end;) {
        const char *word = s;
        while (s < end && !separates(text, s)) s++;
        if (s > word && at > out) *at++ = ',';
        if (s - word >= MODEL_VALUE) at += sprintf(at, "%.*s", (int)(s - word), word);
        else if (s > word) put_word(word, (size_t)(s - word), &at);
        if (s < end) s++;
    }
    return out;
}

/* Element i of a list, the last one again beyond its end; its end in *end. */
static const char *element(const char *list, int i, const char **end)
{
    for (;; i--) {
        const char *comma = list + strcspn(list, ",");
        *end = comma;
        if (i <= 0 || !*comma) return list;
        list = comma + 1;
    }
}

static int elements(const char *list)
{
    int n = *list != 0;
    for (; *list; list++) n += *list == ',';
    return n;
}

/* Words in our spelling; names of mechanisms in small letters. */
static void unify(const char *key, char **value)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        const char *list = spellings[i].value;
        if (strcmp(key, spellings[i].key) || !among(list, *value)) continue;
        free(*value);
        *value = sure(strndup(list, strcspn(list, "|")));
        return;
    }
    if (!strcmp(key, "attention") || !strcmp(key, "norm_kind"))
        for (char *s = *value; *s; s++) *s = (char)tolower((unsigned char)*s);
}

/* Whether two values mean the same: 0.5 and 0.5,0.50,0.5 do. */
static bool same_value(const char *a, const char *b)
{
    const int n = elements(a), m = elements(b);
    if (n != m && n != 1 && m != 1) return false;
    for (int i = 0; i < n || i < m; i++) {
        const char *ae, *be;
        const char *x = element(a, i, &ae), *y = element(b, i, &be);
        char *xe, *ye;
        const double p = strtod(x, &xe), q = strtod(y, &ye);
        if (xe == ae && ye == be && xe > x && ye > y ? p != q
            : ae - x != be - y || strncasecmp(x, y, (size_t)(ae - x)))
            return false;
    }
    return true;
}

/* ---- collecting --------------------------------------------------------- */

static const model_said *find(const model_keys *k, const char *key)
{
    for (int i = 0; i < k->count; i++)
        if (!strcmp(k->said[i].key, key)) return &k->said[i];
    return NULL;
}

/* "metadata num_heads='4'" or "--heads 4". */
static void spell(const model_said *s, char *out, size_t size)
{
    if (s->option) snprintf(out, size, "--%s '%s'", s->typed, s->as);
    else snprintf(out, size, "metadata %s='%s'", s->typed, s->as);
}

static int contradict(const model_keys *k, const model_said *a,
                      const model_said *b, error *e)
{
    char first[256], second[256];
    spell(a, first, sizeof first);
    spell(b, second, sizeof second);
    if (b->option && !a->option)
        return error_set(e, "%s: %s: the file says %s, which no option can "
                            "change", k->file->path, second, first + 9);
    return error_set(e, "%s: %s and %s contradict each other", k->file->path,
                     first, second);
}

/* Keys that are not the mechanism's, though a problem has fields of the name. */
static bool is_ours(const char *key)
{
    static const char *const ours[] = { "heads", "head_dim", "dim", "grid",
                                        "norm", "gelu", "ln_eps", "batch",
                                        "dtype" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(key, ours[i])) return true;
    return false;
}

/* None means that nothing is said, but of a pool and of the mechanism's own
 * fields; these are read where the mechanism is known. */
static bool says_nothing(const char *key, const char *value)
{
    if (!strcmp(key, "pool")) return false;
    if (!*value) return true;
    if (strcmp(value, "none")) return false;
    if (is_ours(key)) return true;
    const int f = att_field_find(key);
    return f < 0 || (att_fields[f].kind != ATT_LIST &&
                     att_fields[f].kind != ATT_ENUM);
}

/* key and value are taken over. */
static int say(model_keys *k, char *key, char *value, const char *typed,
               const char *as, bool option, error *e)
{
    const model_said s = { key, value, typed, as, option };
    const model_said *before = find(k, key);
    if (says_nothing(key, value) ||
        (before && same_value(before->value, value))) {
        free(key);
        free(value);
        return 0;
    }
    if (before) {
        contradict(k, before, &s, e);
        free(key);
        free(value);
        return -1;
    }
    k->said = sure(realloc(k->said, ((size_t)k->count + 1) * sizeof *k->said));
    k->said[k->count++] = s;
    return 0;
}

static int say_both(model_keys *k, const char *mean, const char *deviation,
                    const char *typed, const char *as, bool option, error *e)
{
    return say(k, sure(strdup("mean")), sure(strdup(mean)), typed, as, option,
               e) ||
           say(k, sure(strdup("std")), sure(strdup(deviation)), typed, as,
               option, e);
}

/* 0.5, imagenet, "0.5,0.25", "m,m,m,s,s,s". */
static int say_normalize(model_keys *k, const char *value, const char *typed,
                         const char *as, bool option, error *e)
{
    static const struct { const char *name, *mean, *deviation; } named[] = {
        { "imagenet", "0.485,0.456,0.406", "0.229,0.224,0.225" },
        { "clip|openai", "0.48145466,0.4578275,0.40821073",
          "0.26862954,0.26130258,0.27577711" },
        { "inception|half", "0.5", "0.5" },
        { "none", "0", "1" },
    };
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (among(named[i].name, value))
            return say_both(k, named[i].mean, named[i].deviation, typed, as,
                            option, e);
    const int n = elements(value);
    char *mean = sure(strdup(value)), *end;
    strtod(value, &end);
    int rc = -1;
    if (n == 1 && end > value && !*end) {
        rc = say_both(k, value, value, typed, as, option, e);
    } else if (n == 2 || n == 6) {
        const char *half;
        (void)element(value, n / 2 - 1, &half);
        mean[half - value] = 0;
        rc = say_both(k, mean, half + 1, typed, as, option, e);
    } else {
        error_set(e, "%s: %s%s='%s' is none of 0.5 (both), imagenet, clip, "
                     "none, MEAN,STD or three means and three deviations",
                  k->file->path, option ? "--" : "metadata ", typed, as);
    }
    free(mean);
    return rc;
}

/* "(pixel/255-0.28604)/0.353024".  Another text is kept for those who need to
 * know it: floats are fed as they are. */
static int say_input(model_keys *k, const char *text, error *e)
{
    double mean, deviation;
    int length = 0;
    char a[MODEL_VALUE], b[MODEL_VALUE];
    if (sscanf(text, "(pixel/255-%lf)/%lf%n", &mean, &deviation, &length) < 2 ||
        text[length]) {
        k->unread = sure(strdup(text));
        return 0;
    }
    snprintf(a, sizeof a, "%.17g", mean);
    snprintf(b, sizeof b, "%.17g", deviation);
    return say_both(k, a, b, "input", text, false, e);
}

static int take(model_keys *k, const char *typed, const char *as,
                const model_option *o, error *e)
{
    char *key = key_of(typed);
    if (!o && !key && is_note(typed)) return 0;
    if (!o && !strcmp(typed, "input")) return say_input(k, as, e);
    if (!key) return unknown(k->file, o, typed, as, e);
    char *value = plain(as);
    unify(key, &value);
    const char *name = o ? o->option : typed;
    if (strcmp(key, "normalize"))
        return say(k, key, value, name, as, o != NULL, e);
    const int rc = *value ? say_normalize(k, value, name, as, o != NULL, e) : 0;
    free(key);
    free(value);
    return rc;
}

int model_keys_read(model_keys *k, const archive *file,
                    const model_option *options, int count, error *e)
{
    int rc = 0;
    *k = (model_keys){ .file = file };
    for (int i = 0; rc == 0 && i < file->metadata_count; i++)
        rc = take(k, file->metadata[i].key, file->metadata[i].value, NULL, e);
    for (int i = 0; rc == 0 && i < count; i++)
        rc = take(k, options[i].key, options[i].value, &options[i], e);
    const model_said *mean = find(k, "mean");
    if (rc == 0 && k->unread && mean && !mean->option)
        rc = error_set(e, "%s: metadata input='%s' cannot be computed, beside "
                          "mean='%s'", file->path, k->unread, mean->as);
    if (rc) model_keys_free(k);
    return rc ? -1 : 0;
}

void model_keys_free(model_keys *k)
{
    for (int i = 0; i < k->count; i++) {
        free((char *)k->said[i].key);
        free(k->said[i].value);
    }
    free(k->said);
    free(k->unread);
    *k = (model_keys){ 0 };
}

/* ---- asking ------------------------------------------------------------- */

const char *model_key(const model_keys *k, const char *key)
{
    const model_said *s = find(k, key);
    return s ? s->value : NULL;
}

void model_key_done(model_keys *k, const char *key)
{
    for (int i = 0; i < k->count; i++) {
        if (strcmp(k->said[i].key, key)) continue;
        free((char *)k->said[i].key);
        free(k->said[i].value);
        k->said[i] = k->said[--k->count];
        return;
    }
}

int model_key_wrong(const model_keys *k, const char *key, error *e,
                    const char *format, ...)
{
    char what[512], where[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const model_said *s = find(k, key);
    if (s) spell(s, where, sizeof where);
    else snprintf(where, sizeof where, "%s", key);
    return error_set(e, "%s: %s %s", k->file->path, where, what);
}

int model_key_word(const model_keys *k, const char *key,
                   const char *const *words, int count, int *out, error *e)
{
    const char *value = model_key(k, key);
    char all[256] = "";
    if (!value) return 0;
    for (int i = 0; i < count; i++) {
        if (!strcasecmp(words[i], value)) {
            *out = i;
            return 1;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s",
                 i ? ", " : "", words[i]);
    }
    return model_key_wrong(k, key, e, "is none of %s", all);
}

int model_key_numbers(const model_keys *k, const char *key, int room,
                      double *out, int *n, error *e)
{
    const char *value = model_key(k, key);
    if (!value) return 0;
    *n = elements(value);
    for (int i = 0; i < *n && *n <= room; i++) {
        const char *end;
        char *got;
        const char *text = element(value, i, &end);
        out[i] = strtod(text, &got);
        if (got == text || got != end || !isfinite(out[i])) *n = room + 1;
    }
    if (*n <= room) return 1;
    return model_key_wrong(k, key, e, room > 1 ? "is not a number, nor up to %d "
                                                 "of them as in 1,2"
                                               : "is not a number", room);
}

int model_key_integers(const model_keys *k, const char *key, int least,
                       int most, int room, int *out, int *n, error *e)
{
    double x[8];
    const int said = model_key_numbers(k, key, room < 8 ? room : 8, x, n, NULL);
    bool good = said == 1;
    for (int i = 0; good && i < *n; i++) {
        good = x[i] >= least && x[i] <= most && x[i] == floor(x[i]);
        if (good) out[i] = (int)x[i];
    }
    if (good || said == 0) return said;
    return model_key_wrong(k, key, e, "is not an integer from %d to %d%s", least,
                           most, room > 1 ? ", nor a few of them as in 2x8" : "");
}

int model_key_integer(const model_keys *k, const char *key, int least, int most,
                      int *out, error *e)
{
    int n, list[2];
    const int said = model_key_integers(k, key, least, most, 2, list, &n, NULL);
    if (said == 0) return 0;
    if (said < 0 || (n == 2 && list[0] != list[1]))
        return model_key_wrong(k, key, e, "is not an integer from %d to %d",
                               least, most);
    *out = list[0];
    return 1;
}

/* ---- the mechanism's own ------------------------------------------------ */

static bool is_field(enum att_field f, const char *key)
{
    if (f == ATT_FIELD_features && !strcmp(key, "random_features")) return true;
    return !strcmp(key, att_fields[f].name) ||
           !strcmp(key, att_fields[f].other_name);
}

/* Sets field f; a list of equal numbers is that number where one is wanted. */
static bool set(att_problem *p, enum att_field f, const char *value)
{
    if (att_set(p, f, value)) return true;
    const char *end;
    const char *first = element(value, 0, &end);
    char one[MODEL_VALUE];
    if (!*end || att_fields[f].kind == ATT_LIST) return false;
    snprintf(one, sizeof one, "%.*s", (int)(end - first), first);
    return same_value(value, one) && att_set(p, f, one);
}

static const char *wanted(enum att_field f, char *out, size_t size)
{
    static const char *const kinds[] = {
        [ATT_INT] = "an integer",
        [ATT_REAL] = "a number",
        [ATT_LIST] = "an integer, or one for each axis as in 7x5",
        [ATT_ENUM] = "one of ",
    };
    const bool list = att_fields[f].kind == ATT_ENUM;
    snprintf(out, size, "%s%.*s", kinds[att_fields[f].kind],
             list ? (int)strcspn(att_fields[f].help, ":") : 0,
             att_fields[f].help);
    return out;
}

/* A field that the mechanism has not: harmless where the value is what is so
 * anyway; a constant of its definition may be told under such a name. */
static int spare(model_keys *k, const model_said *s, const att_mechanism *m,
                 error *e)
{
    att_problem p = att_problem_default;
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (is_field((enum att_field)f, s->key) &&
            set(&p, (enum att_field)f, s->value) &&
            att_is_default(&p, (enum att_field)f))
            return 0;
    if (is_note(s->key)) return 0;
    if (strcmp(s->key, "eps") && strcmp(s->key, "feature_map"))
        return model_key_wrong(k, s->key, e, "cannot be used: %s has no %s",
                               m->name, s->key);
    model_assume(k, s->key, "a constant of the mechanism; the value is not "
                            "read", "its own, not %s", s->as);
    return 0;
}

int model_key_fields(model_keys *k, const att_mechanism *m, att_problem *p,
                     error *e)
{
    for (int i = 0; i < k->count; i++) {
        const model_said *s = &k->said[i];
        bool known_field = false, used = false, done = is_ours(s->key);
        char what[256];
        for (int f = 0; f < ATT_FIELD_COUNT && !done; f++) {
            if (!is_field((enum att_field)f, s->key)) continue;
            known_field = true;
            if (!att_uses(m, (enum att_field)f)) continue;
            used = true;
            done = set(p, (enum att_field)f, s->value);
            if (!done) wanted((enum att_field)f, what, sizeof what);
        }
        if (done || !known_field) continue;
        if (used)
            return model_key_wrong(k, s->key, e, "is not %s", what);
        if (spare(k, s, m, e)) return -1;
    }
    return 0;
}

char *model_key_list(const model_keys *k)
{
    char *out = sure(calloc((size_t)k->count * 2 * MODEL_VALUE + 4, 1));
    char *at = out;
    for (int i = 0; i < k->count; i++)
        for (int f = 0; f < ATT_FIELD_COUNT; f++) {
            const model_said *s = &k->said[i];
            if (is_ours(s->key) || !is_field((enum att_field)f, s->key)) continue;
            at += sprintf(at, "%s%.30s='%.60s'", at > out ? ", " : " (",
                          s->typed, s->as);
            break;
        }
    if (at > out) strcpy(at, ")");
    return out;
}

/* ---- assuming ----------------------------------------------------------- */

void model_assume(model_keys *k, const char *key, const char *why,
                  const char *format, ...)
{
    va_list arguments;
    if (k->assumed.count == MODEL_ASSUMED) abort(); /* as many as are asked */
    model_assumption *a = &k->assumed.item[k->assumed.count++];
    snprintf(a->key, sizeof a->key, "%s", key);
    snprintf(a->why, sizeof a->why, "%s", why);
    va_start(arguments, format);
    vsnprintf(a->value, sizeof a->value, format, arguments);
    va_end(arguments);
}
