/* modelmaps.c - maps of a trained model. */
#include "modelmaps.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/axes.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/machine.h"
#include "mapfigure.h"
#include "mapfile.h"

/* ---- running ------------------------------------------------------------ */

/* Layer-wise state while inputs pass through: values of the mechanism whose
 * matrices are formed, and the metrics of every input. */
typedef struct passage {
    modelmaps *s;
    check_values *values; /* [depth]; parameters set once, inputs each time   */
    metrics *all;         /* [item][part][input]                             */
} passage;

static const net_op *attention_of(const modelmaps *s, int layer)
{
    return &s->model.network.ops[vit_attention(&s->model.network, layer)];
}

static bool wanted(const modelmaps *s, int layer)
{
    const modelmaps_options *w = s->wishes;
    return !w->layer || (layer < w->layers && w->layer[layer]);
}

/* Fields of `as` where the model's own mechanism is not wanted; sizes are
 * always the model's. */
static int choose_mechanism(modelmaps *s, error *e)
{
    const net_op *op = attention_of(s, 0);
    s->mechanism = op->mechanism;
    s->problem = op->problem;
    if (s->wishes->as) {
        axes_point point = { .problem = s->wishes->as_problem };
        s->mechanism = s->wishes->as;
        point.problem.grid = op->problem.grid;
        point.problem.heads = op->problem.heads;
        point.problem.head_dim = op->problem.head_dim;
        point.problem.batch = 1;
        const char *why = axes_fit(s->mechanism, &point, &s->problem);
        if (!why) why = att_reject(s->mechanism, &s->problem);
        if (why)
            return error_set(e, "--as %s: %s", s->mechanism->name, why);
    }
    if (matrix_exists(s->mechanism)) return 0;
    return error_set(e, "%s: attention is %s, which has no effective matrix: "
                        "%s",
                     s->model.path, s->mechanism->name, s->mechanism->map);
}

/* q, k, v of the model must be what the other mechanism takes. */
static int check_widths(const modelmaps *s, error *e)
{
    const net_op *op = attention_of(s, 0);
    for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++) {
        att_shape own, other;
        att_shape_of(op->mechanism, &op->problem, slot, &own);
        att_shape_of(s->mechanism, &s->problem, slot, &other);
        if (other.tokens == 0 ||
            (own.heads == other.heads && own.tokens == other.tokens &&
             own.channels == other.channels))
            continue;
        return error_set(e, "--as %s: needs %s of %d heads x %d tokens x %d "
                            "channels; %s of this model has %d x %d x %d",
                         s->mechanism->name,
                         att_input_name(s->mechanism, &s->problem, slot),
                         other.heads, other.tokens, other.channels,
                         op->mechanism->name, own.heads, own.tokens,
                         own.channels);
    }
    return 0;
}

/* Class tokens and registers stand before the grid and have no place on it. */
static void place_tokens(modelmaps *s)
{
    const vit_config *c = &s->model.config;
    const int count = vit_tokens(c), front = vit_front(c);
    int rows, columns;
    matrix_shape_of(s->mechanism, &s->problem, &s->shape);
    if (!front || s->shape.rows != (size_t)(count + front) ||
        s->shape.columns != s->shape.rows)
        return;
    vit_grid(c, &rows, &columns);
    s->shape.grid = (metrics_grid){ .axes = 1, .side = { count },
                                    .first = (size_t)front };
    if (c->arch != VIT_IMAGE) return;
    s->shape.grid.axes = 2;
    s->shape.grid.side[0] = rows;
    s->shape.grid.side[1] = columns;
}

static int open_layer(const passage *t, int layer, error *e)
{
    modelmaps *s = t->s;
    const net_op *op = attention_of(s, layer);
    check_values *v = &t->values[layer];
    if (matrix_open(v, s->mechanism, &s->problem, e) < 0) return -1;
    if (s->wishes->as) return 0;
    for (int i = 0; i < op->parameters; i++)
        if (op->parameter[i] >= 0 && v->param[i]) {
            const net_tensor *tensor =
                &s->model.network.tensors[op->parameter[i]];
            memcpy(v->param[i], s->model.exact + tensor->offset,
                   tensor->elements * sizeof(double));
        }
    return 0;
}

static int measure(passage *t, int input, int item, int part, error *e)
{
    modelmaps *s = t->s;
    modelmaps_item *x = &s->item[item];
    const size_t n = s->shape.rows * s->shape.columns;
    double *a = part ? x->total : x->a;
    double *mine = input == 0 ? a : malloc((n + 1) * sizeof *mine);
    if (!mine) return error_set(e, "not enough memory for a map");
    int rc = matrix_get(&t->values[x->layer], x->head, s->options->channel,
                        part ? ATT_PART_TOTAL : ATT_PART_ATTENTION, mine, e);
    if (rc == 0)
        rc = metrics_compute(
            mine, s->shape.rows, s->shape.columns, &s->shape.grid,
            s->options->divisor, true,
            &t->all[(item * s->parts + part) * s->inputs.count + input], e);
    if (input > 0) free(mine);
    if (rc == 0) return 0;
    error why = *e;
    return error_set(e, "input %d, layer %d, head %d: %s", input, x->layer,
                     x->head, why.text);
}

/* The convolution beside the attention does not depend on the input. */
static int measure_convolution(passage *t, modelmaps_item *x, error *e)
{
    modelmaps *s = t->s;
    const size_t n = s->shape.rows * s->shape.columns;
    double *c = malloc((n + 1) * sizeof *c);
    if (!c) return error_set(e, "not enough memory for a map");
    int rc = matrix_get(&t->values[x->layer], x->head, s->options->channel,
                        ATT_PART_CONVOLUTION, c, e);
    if (rc == 0)
        rc = metrics_compute(c, s->shape.rows, s->shape.columns,
                             &s->shape.grid, s->options->divisor, true,
                             &x->convolution, e);
    free(c);
    return rc;
}

/* How far the output of each head of a layer moves, because another mechanism
 * took the place of the model's own. */
static void compare_outputs(passage *t, const net_f64 *run, int layer)
{
    modelmaps *s = t->s;
    check_values *v = &t->values[layer];
    const net_op *op = attention_of(s, layer);
    att_shape own, other;
    att_shape_of(op->mechanism, &op->problem, ATT_O, &own);
    att_shape_of(s->mechanism, &s->problem, ATT_O, &other);
    const bool same = own.heads == other.heads && own.tokens == other.tokens &&
                      own.channels == other.channels;
    const size_t each = (size_t)own.tokens * (size_t)own.channels;
    const double *o = net_f64_slot(
        run, vit_attention(&s->model.network, layer), ATT_O);
    if (same) check_reference(v, NULL);
    for (int i = 0; i < s->count; i++) {
        modelmaps_item *x = &s->item[i];
        if (x->layer != layer) continue;
        double moved = 0, length = 0;
        for (size_t k = each * (size_t)x->head;
             same && k < each * ((size_t)x->head + 1); k++) {
            moved += (v->o[k] - o[k]) * (v->o[k] - o[k]);
            length += o[k] * o[k];
        }
        x->change += same ? sqrt(moved / length) / s->inputs.count : NAN;
    }
}

/* Matrices of one input, whose q, k, v the run holds. */
static int look(passage *t, const net_f64 *run, int input, error *e)
{
    modelmaps *s = t->s;
    for (int l = 0; l < s->depth; l++) {
        if (!wanted(s, l)) continue;
        const int op = vit_attention(&s->model.network, l);
        for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++)
            if (t->values[l].in[slot])
                memcpy(t->values[l].in[slot], net_f64_slot(run, op, slot),
                       t->values[l].elements[slot] * sizeof(double));
        if (s->wishes->as) compare_outputs(t, run, l);
    }
    for (int i = 0; i < s->count; i++)
        for (int part = 0; part < s->parts; part++)
            if (measure(t, input, i, part, e) < 0) return -1;
    for (int i = 0; i < s->count && input == 0 && s->parts == 2; i++)
        if (measure_convolution(t, &s->item[i], e) < 0) return -1;
    return 0;
}

static int run_f64(passage *t, error *e)
{
    modelmaps *s = t->s;
    net_f64 *run = net_f64_new(&s->model.network, s->model.exact, 1,
                               machine_cores(), false, e);
    int rc = run ? 0 : -1;
    for (int i = 0; i < s->inputs.count && rc == 0; i++) {
        const double *out = net_f64_forward(
            run, s->inputs.value + (size_t)i * s->inputs.each, NULL);
        memcpy(s->logits + (size_t)i * s->outputs, out,
               s->outputs * sizeof *out);
        rc = look(t, run, i, e);
    }
    net_f64_free(run);
    return rc;
}

/* A mechanism may lack a kernel for float on this machine: that is told, not
 * a failure. */
static void run_f32(modelmaps *s)
{
    float *x = malloc((s->inputs.each + 1) * sizeof *x);
    if (!x) abort();
    net_f32 *run = net_f32_new(&s->model.network, s->model.weights, 1,
                               machine_cores(), false, &s->f32_reason);
    s->f32_difference = run ? 0 : NAN;
    for (int i = 0; run && i < s->inputs.count; i++) {
        for (size_t k = 0; k < s->inputs.each; k++)
            x[k] = (float)s->inputs.value[(size_t)i * s->inputs.each + k];
        memcpy(s->logits_f32 + (size_t)i * s->outputs,
               net_f32_forward(run, x, NULL), s->outputs * sizeof *x);
    }
    for (size_t i = 0; run && i < (size_t)s->inputs.count * s->outputs; i++)
        s->f32_difference = fmax(s->f32_difference,
                                 fabs(s->logits[i] - (double)s->logits_f32[i]));
    net_f32_free(run);
    free(x);
}

/* ---- making ------------------------------------------------------------- */

static int add_item(modelmaps *s, int layer, int head, error *e)
{
    modelmaps_item *x = &s->item[s->count++];
    const size_t n = s->shape.rows * s->shape.columns;
    x->layer = layer;
    x->head = head;
    snprintf(x->stem, sizeof x->stem, "%s-L%d-h%d", s->mechanism->name, layer,
             head);
    x->a = malloc((n + 1) * sizeof *x->a);
    if (s->parts == 2) x->total = malloc((n + 1) * sizeof *x->total);
    return x->a && (s->parts == 1 || x->total)
               ? 0
               : error_set(e, "not enough memory for the maps");
}

static int check_room(const modelmaps *s, int maps, error *e)
{
    const double bytes = 8.0 * (maps * s->parts + 4.0) *
                         (double)s->shape.rows * (double)s->shape.columns;
    const double room = 0.8 * (double)machine_memory_free();
    if (bytes <= room) return 0;
    return error_set(e, "%s: %d maps of %zu x %zu need %.1f GB, %.1f GB are "
                        "free: choose --layers or one --head",
                     s->model.path, maps * s->parts, s->shape.rows,
                     s->shape.columns, bytes / 1e9, room / 1e9);
}

static int check_wishes(const modelmaps *s, error *e)
{
    const mapset_options *o = s->options;
    for (int l = s->depth; l < s->wishes->layers; l++)
        if (s->wishes->layer && s->wishes->layer[l])
            return error_set(e, "--layers: %s has layers 0 to %d",
                             s->model.path, s->depth - 1);
    if (o->head >= s->shape.heads)
        return error_set(e, "--head %d: %s has heads 0 to %d", o->head,
                         s->model.path, s->shape.heads - 1);
    if (o->channel >= s->shape.channels)
        return error_set(e, "--channel %d: %s has channels 0 to %d of a head",
                         o->channel, s->model.path, s->shape.channels - 1);
    if (o->query >= 0 && (size_t)o->query >= s->shape.rows)
        return error_set(e, "--query %d: %s has tokens 0 to %zu", o->query,
                         s->model.path, s->shape.rows - 1);
    return 0;
}

static int make_items(modelmaps *s, error *e)
{
    const int first = s->options->head < 0 ? 0 : s->options->head;
    s->heads = s->options->head < 0 ? s->shape.heads : 1;
    s->parts = matrix_has(s->mechanism, ATT_PART_TOTAL) ? 2 : 1;
    int layers = 0;
    for (int l = 0; l < s->depth; l++) layers += wanted(s, l);
    if (check_room(s, layers * s->heads, e) < 0) return -1;
    s->item = calloc((size_t)(layers * s->heads) + 1, sizeof *s->item);
    if (!s->item) return error_set(e, "not enough memory for the maps");
    for (int l = 0; l < s->depth; l++)
        for (int h = first; wanted(s, l) && h < first + s->heads; h++)
            if (add_item(s, l, h, e) < 0) return -1;
    return 0;
}

static void average(passage *t)
{
    modelmaps *s = t->s;
    const int n = s->inputs.count;
    for (int i = 0; i < s->count; i++) {
        modelmaps_item *x = &s->item[i];
        for (int part = 0; part < s->parts; part++) {
            const metrics *all = &t->all[(i * s->parts + part) * n];
            metrics_mean(all, n, part ? &x->whole : &x->attention);
            x->rank[part][0] = x->rank[part][1] = all[0].rank_f64;
            for (int k = 1; k < n; k++) {
                x->rank[part][0] = fmin(x->rank[part][0], all[k].rank_f64);
                x->rank[part][1] = fmax(x->rank[part][1], all[k].rank_f64);
            }
        }
    }
}

static int run_all(modelmaps *s, error *e)
{
    const size_t all = (size_t)s->count * (size_t)s->parts *
                       (size_t)s->inputs.count;
    passage t = { .s = s,
                  .values = calloc((size_t)s->depth + 1, sizeof *t.values),
                  .all = calloc(all + 1, sizeof *t.all) };
    int rc = t.values && t.all ? 0 : error_set(e, "not enough memory");
    for (int l = 0; l < s->depth && rc == 0; l++)
        if (wanted(s, l)) rc = open_layer(&t, l, e);
    if (rc == 0) rc = run_f64(&t, e);
    if (rc == 0) run_f32(s);
    if (rc == 0) average(&t);
    for (size_t i = 0; t.all && i < all; i++) metrics_free(&t.all[i]);
    for (int l = 0; t.values && l < s->depth; l++)
        check_values_free(&t.values[l]);
    free(t.all);
    free(t.values);
    return rc;
}

static void make_scale(const modelmaps *s, bool totals, heatmap_scale *out)
{
    const double **a = malloc(((size_t)s->count + 1) * sizeof *a);
    if (!a) abort();
    for (int i = 0; i < s->count; i++)
        a[i] = totals ? s->item[i].total : s->item[i].a;
    heatmap_scale_of(s->options->view, mapset_clip(s->options), a, s->count,
                     s->shape.rows * s->shape.columns, s->shape.columns, out);
    free(a);
}

static int make(modelmaps *s, error *e)
{
    const network *n = &s->model.network;
    while (vit_attention(n, s->depth) >= 0) s->depth++;
    if (s->depth == 0)
        return error_set(e, "%s: has no attention", s->model.path);
    if (choose_mechanism(s, e) < 0 || check_widths(s, e) < 0) return -1;
    place_tokens(s);
    if (check_wishes(s, e) < 0) return -1;
    if (model_inputs_read(&s->inputs, &s->model, s->wishes->input,
                          s->wishes->count, s->options->seed, e) < 0)
        return -1;
    const net_op *last = &n->ops[n->count - 1];
    if (s->model.config.outputs) /* else a backbone, without an answer */
        s->outputs = (size_t)last->tokens * (size_t)last->channels;
    const size_t answers = (size_t)s->inputs.count * s->outputs;
    s->logits = calloc(answers + 1, sizeof *s->logits);
    s->logits_f32 = calloc(answers + 1, sizeof *s->logits_f32);
    if (!s->logits || !s->logits_f32)
        return error_set(e, "not enough memory for %zu logits", answers);
    if (make_items(s, e) < 0 || run_all(s, e) < 0) return -1;
    make_scale(s, false, &s->weights);
    if (s->parts == 2) make_scale(s, true, &s->filters);
    return 0;
}

/* The class token where the model answers from it, else the middle. */
static int usual_query(const modelmaps *s)
{
    const metrics_grid *g = &s->shape.grid;
    if (s->model.config.pool == VIT_POOL_TOKEN && s->model.config.class_token)
        return 0;
    if (g->axes == 2)
        return (int)g->first + g->side[0] / 2 * g->side[1] + g->side[1] / 2;
    return (int)s->shape.rows / 2;
}

int modelmaps_make(modelmaps *s, const char *path,
                   const mapset_options *options,
                   const modelmaps_options *wishes, error *e)
{
    *s = (modelmaps){ .options = options, .wishes = wishes };
    if (model_read(&s->model, path, wishes->said, wishes->said_count, e))
        return -1;
    if (make(s, e) < 0) {
        modelmaps_free(s);
        return -1;
    }
    s->query = options->query < 0 ? usual_query(s) : options->query;
    return 0;
}

void modelmaps_free(modelmaps *s)
{
    for (int i = 0; i < s->count; i++) {
        free(s->item[i].a);
        free(s->item[i].total);
        metrics_free(&s->item[i].attention);
        metrics_free(&s->item[i].whole);
        metrics_free(&s->item[i].convolution);
    }
    free(s->item);
    free(s->logits);
    free(s->logits_f32);
    model_inputs_free(&s->inputs);
    model_free(&s->model);
    *s = (modelmaps){ 0 };
}

/* ---- JSON --------------------------------------------------------------- */

static int prediction(const modelmaps *s, int input)
{
    const double *x = s->logits + (size_t)input * s->outputs;
    size_t best = 0;
    for (size_t k = 1; k < s->outputs; k++)
        if (x[k] > x[best]) best = k;
    return (int)best;
}

static bool classifies(const modelmaps *s)
{
    return s->outputs && s->model.config.pool != VIT_POOL_NONE;
}

static json *logits_json(const modelmaps *s)
{
    json *j = json_object(), *f64 = json_array(), *f32 = json_array();
    json *labels = json_array(), *predictions = json_array();
    for (int i = 0; s->outputs && i < s->inputs.count; i++) {
        json *row = json_array(), *row_f32 = json_array();
        for (size_t k = 0; k < s->outputs; k++) {
            json_push_number(row, s->logits[(size_t)i * s->outputs + k]);
            json_push_number(row_f32,
                             s->logits_f32[(size_t)i * s->outputs + k]);
        }
        json_push(f64, row);
        json_push(f32, row_f32);
        json_push_number(predictions, prediction(s, i));
        if (s->inputs.label) json_push_number(labels, s->inputs.label[i]);
    }
    const bool backbone = !s->outputs;
    if (backbone || isnan(s->f32_difference)) {
        json_free(f32);
        f32 = NULL;
        json_put_text(j, "reason", backbone ? "the model has no head"
                                            : s->f32_reason.text);
    }
    if (backbone) json_free(f64);
    json_put(j, "logits", backbone ? NULL : f64);
    json_put(j, "logits_f32", f32);
    json_put_number(j, "f32_difference", backbone ? NAN : s->f32_difference);
    if (classifies(s)) json_put(j, "predictions", predictions);
    else json_free(predictions);
    if (s->inputs.label) json_put(j, "labels", labels);
    else json_free(labels);
    json_put_text(j, "how", "logits: in double, attention by the references; "
                            "logits_f32: in float, by kernels and BLAS");
    return j;
}

/* Sequences also carry the names under which the statistics of keyword
 * transformers are kept. */
static void add_sequence_names(json *j, const metrics *m)
{
    static const char *const names[][2] = {
        { "entropy", "row_entropy_nats" },  { "maxw", "max_weight" },
        { "entropy_norm", "row_entropy_norm" }, { "rank_1e3", "rank_rtol1e3" },
        { "mass_r5", "mass_w5" },           { "u_r5", "uniform_mass_w5" },
    };
    if (m->grid.axes != 1) return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        json_put(j, names[i][1], json_copy(json_get(j, names[i][0])));
    json_put(j, "relmap1d",
             json_copy(json_get(j, m->relative_rows ? "relmap_rows"
                                                    : "relmap")));
}

static json *part_json(const metrics *m, const double rank[2])
{
    json *j = metrics_json(m);
    json_put_number(j, "rank_f64_min", rank[0]);
    json_put_number(j, "rank_f64_max", rank[1]);
    add_sequence_names(j, m);
    return j;
}

static json *item_json(const modelmaps *s, const modelmaps_item *x)
{
    json *j = part_json(&x->attention, x->rank[0]);
    json_put_number(j, "layer", x->layer);
    json_put_number(j, "head", x->head);
    if (s->wishes->as) json_put_number(j, "output_change", x->change);
    json_put_text(j, "files", x->stem);
    if (s->parts == 2) {
        json_put(j, "eff", part_json(&x->whole, x->rank[1]));
        json_put(j, "conv", metrics_json(&x->convolution));
    }
    return j;
}

static json *about_inputs(const modelmaps *s)
{
    json *j = json_object();
    json_put_text(j, "name", s->inputs.name);
    json_put_number(j, "count", s->inputs.count);
    if (*s->inputs.note) json_put_text(j, "left_out", s->inputs.note);
    json_put_text(j, "metrics", "means over the inputs where a number exists, "
                                "also of largest and smallest values; matrices "
                                "and pictures in files are of the first");
    return j;
}

/* {"heads": {"value": "2", "why": "dim / 64"}}: what neither file nor options
 * say. */
static json *assumed_json(const modelmaps *s)
{
    json *j = json_object();
    for (int i = 0; i < s->model.assumed.count; i++) {
        const model_assumption *a = &s->model.assumed.item[i];
        json *one = json_object();
        json_put_text(one, "value", a->value);
        json_put_text(one, "why", a->why);
        json_put(j, a->key, one);
    }
    return j;
}

static json *three(const double x[3], int channels)
{
    json *j = json_array();
    for (int i = 0; i < 3 && i < channels; i++) json_push_number(j, x[i]);
    return j;
}

/* How the model was run, whoever said it. */
static json *config_json(const modelmaps *s)
{
    static const char *const pools[] = { "token", "mean", "none" };
    const vit_config *c = &s->model.config;
    json *j = json_object();
    int rows, columns;
    vit_grid(c, &rows, &columns);
    json_put_number(j, "heads", c->heads);
    json_put_number(j, "head_dim", c->head_dim);
    json_put_number(j, "rows", rows);
    json_put_number(j, "columns", columns);
    json_put_number(j, "tokens_in_front", vit_front(c));
    json_put_text(j, "pool", c->outputs ? pools[c->pool] : NULL);
    json_put_text(j, "norm", c->post_norm ? "post" : "pre");
    json_put_number(j, "ln_eps", c->ln_eps);
    json_put_bool(j, "tanh_gelu", c->tanh_gelu);
    if (c->arch != VIT_IMAGE) return j;
    json_put_number(j, "patch", c->patch);
    json_put(j, "mean", s->model.unread_input ? NULL
                                              : three(c->mean, c->channels));
    json_put(j, "std", s->model.unread_input ? NULL
                                             : three(c->deviation, c->channels));
    return j;
}

static json *said_json(const modelmaps *s)
{
    json *j = json_object();
    for (int i = 0; i < s->wishes->said_count; i++)
        json_put_text(j, s->wishes->said[i].key, s->wishes->said[i].value);
    return j;
}

void modelmaps_print_assumed(const modelmaps *s, FILE *out)
{
    const model_assumptions *a = &s->model.assumed;
    if (a->count == 0) return;
    fprintf(out, "%s: assumed, as neither metadata nor options say it:",
            s->model.path);
    for (int i = 0; i < a->count; i++)
        fprintf(out, "%s %s=%s (%s)", i ? "," : "", a->item[i].key,
                a->item[i].value, a->item[i].why);
    fputs("; --assume KEY=VALUE says otherwise\n", out);
}

static json *metrics_file(const modelmaps *s)
{
    json *j = json_object(), *layers = json_array(), *heads = NULL;
    json_put_text(j, "kind", "model_maps");
    json_put_number(j, "schema", 1);
    json_put_text(j, "attnbench", ATTNBENCH_VERSION);
    json_put_text(j, "git_revision", mapfile_revision());
    json_put_text(j, "model", s->model.path);
    json_put(j, "model_config", config_json(s));
    json_put(j, "assumed", assumed_json(s));
    json_put(j, "said_by_options", said_json(s));
    json_put_text(j, "attention", s->model.config.attention);
    json_put_text(j, "mechanism", s->mechanism->name);
    json_put_text(j, "as", s->wishes->as ? "the same q, k, v under another "
                                           "mechanism with its default "
                                           "parameters"
                                         : NULL);
    json_put_text(j, "map", s->mechanism->map);
    json_put(j, "problem", mapfile_problem(s->mechanism, &s->problem));
    json_put(j, "inputs", about_inputs(s));
    json_put(j, "scale", mapfile_scale(&s->weights));
    if (s->parts == 2) {
        json_put(j, "scale_total", mapfile_scale(&s->filters));
        json_put_number(j, "total_of_channel", s->options->channel);
    }
    json_put_number(j, "query", s->query);
    json_put_text(j, "relmap_divisor",
                  s->options->divisor == METRICS_VALID ? "valid" : "all");
    for (int i = 0; i < s->count; i++) {
        if (i == 0 || s->item[i].layer != s->item[i - 1].layer) {
            heads = json_array();
            json_push(layers, heads);
        }
        json_push(heads, item_json(s, &s->item[i]));
    }
    json_put(j, "layers", layers);
    json *how = metrics_how(s->options->divisor);
    json_put_text(how, "output_change",
                  "||o' - o|| / ||o||, o: the head's output in the model, o': "
                  "that of `as` from the same q, k, v; mean over inputs");
    json_put_text(how, "rank_f64_min", "smallest rank_f64 of an input");
    json_put_text(how, "rank_f64_max", "largest rank_f64 of an input");
    if (s->parts == 2) {
        json_put_text(how, "conv", "the same numbers of the convolution beside "
                                   "the attention, which no input changes");
        json_put_text(how, "eff", "the same numbers of A plus the convolution");
    }
    json_put(j, "how", how);
    return j;
}

static int write_json(const char *dir, const char *name, json *j, error *e)
{
    char *path = path_join(dir, name);
    const int rc = json_write_file(path, j, e);
    free(path);
    json_free(j);
    return rc;
}

/* ---- matrices ----------------------------------------------------------- */

static void make_notes(const modelmaps *s, const modelmaps_item *x,
                       const char *part, mapfile_notes *n)
{
    mapfile_begin(n);
    mapfile_note(n, "Model", "%s", s->model.path);
    mapfile_note(n, "Mechanism", "%s", s->mechanism->name);
    mapfile_note(n, "Input", "%s, the first of %d", s->inputs.name,
                 s->inputs.count);
    mapfile_note(n, "Map", "%s, layer %d, head %d: row = query, column = key",
                 part, x->layer, x->head);
}

static void total_stem(const modelmaps *s, const modelmaps_item *x, char *out,
                       size_t size)
{
    if (s->options->channel == MATRIX_MEAN)
        snprintf(out, size, "%s-total-mean", x->stem);
    else snprintf(out, size, "%s-total-c%d", x->stem, s->options->channel);
}

static int write_item(const modelmaps *s, const modelmaps_item *x,
                      const char *dir, error *e)
{
    char stem[128];
    mapfile_notes n;
    make_notes(s, x, "attention", &n);
    if (mapfile_relative(dir, x->stem, &x->attention, e) < 0 ||
        mapfile_write(dir, x->stem, x->a, s->shape.rows, s->shape.columns,
                      &s->weights, &n, e) < 0)
        return -1;
    if (!x->total) return 0;
    total_stem(s, x, stem, sizeof stem);
    make_notes(s, x, "attention and convolution", &n);
    if (mapfile_relative(dir, stem, &x->whole, e) < 0) return -1;
    return mapfile_write(dir, stem, x->total, s->shape.rows, s->shape.columns,
                         &s->filters, &n, e);
}

static int write_overlay(const modelmaps *s, const modelmaps_item *x,
                         const char *dir, error *e)
{
    const metrics_grid *g = &s->shape.grid;
    const double *row =
        x->a + (size_t)s->query * s->shape.columns + g->first;
    mapfile_notes n;
    if (g->axes != 2 || !s->inputs.shown.sample) return 0;
    make_notes(s, x, "attention", &n);
    mapfile_note(&n, "Query", (size_t)s->query >= g->first ? "%d"
                              : s->query == 0 && s->model.config.class_token
                                  ? "%d, the class token"
                                  : "%d, a register",
                 s->query);
    char *path = mapfile_path(dir, x->stem, "-query.png");
    const int rc = heatmap_overlay(path, &s->inputs.shown, row, g->side[0],
                                   g->side[1], s->query - (int)g->first,
                                   n.note, n.count, e);
    free(path);
    return rc;
}

/* ---- figures ------------------------------------------------------------ */

enum sheet_kind { SHEET_MATRICES, SHEET_QUERY, SHEET_RELATIVE };

static void make_tile(const modelmaps *s, const modelmaps_item *x,
                      enum sheet_kind kind, mapfigure_tile *out)
{
    const metrics_grid *g = &s->shape.grid;
    *out = (mapfigure_tile){ .rows = s->shape.rows,
                             .columns = s->shape.columns,
                             .keys = s->shape.columns };
    snprintf(out->title, sizeof out->title, "layer %d, head %d", x->layer,
             x->head);
    snprintf(out->file, sizeof out->file, "%s%s.npy", x->stem,
             kind == SHEET_RELATIVE ? "-relative" : "");
    if (kind == SHEET_QUERY) {
        out->rows = (size_t)g->side[0];
        out->columns = (size_t)g->side[1];
        out->skip = (size_t)s->query * s->shape.columns + g->first;
    } else if (kind == SHEET_RELATIVE) {
        out->rows = 2 * (size_t)g->side[0] - 1;
        out->columns = 2 * (size_t)g->side[1] - 1;
    }
}

static void relative_scale(const modelmaps *s, heatmap_scale *out)
{
    const metrics_grid *g = &s->shape.grid;
    const size_t n =
        (2 * (size_t)g->side[0] - 1) * (2 * (size_t)g->side[1] - 1);
    const double **a = malloc(((size_t)s->count + 1) * sizeof *a);
    if (!a) abort();
    for (int i = 0; i < s->count; i++) a[i] = s->item[i].attention.relative;
    heatmap_scale_of(s->options->view, mapset_clip(s->options), a, s->count, n,
                     s->shape.columns, out);
    free(a);
}

static int draw_sheet(const modelmaps *s, const char *dir, enum sheet_kind kind,
                      const char *comment, error *e)
{
    static const char *const names[] = { "sheet", "query", "relative" };
    heatmap_scale scale = s->weights;
    if (kind != SHEET_MATRICES && s->shape.grid.axes != 2) return 0;
    if (kind == SHEET_RELATIVE) relative_scale(s, &scale);
    mapfigure_tile *tile = malloc(((size_t)s->count + 1) * sizeof *tile);
    if (!tile) abort();
    for (int i = 0; i < s->count; i++)
        make_tile(s, &s->item[i], kind, &tile[i]);
    const mapfigure_sheet sheet = {
        .dir = dir, .name = names[kind], .comment = comment, .tile = tile,
        .tiles = s->count, .across = s->heads > 1 ? s->heads : 6,
        .scale = &scale,
        .label = kind == SHEET_RELATIVE ? "mean A at offset" : NULL,
    };
    const int rc = mapfigure_sheet_draw(&sheet, s->options->formats, e);
    free(tile);
    return rc;
}

static int draw_boxes(const modelmaps *s, const char *dir, const char *comment,
                      error *e)
{
    mapfigure_box *box = malloc(((size_t)s->count + 1) * sizeof *box);
    if (!box) abort();
    for (int i = 0; i < s->count; i++) {
        snprintf(box[i].name, sizeof box[i].name, "layer %d head %d",
                 s->item[i].layer, s->item[i].head);
        memcpy(box[i].quartile, s->item[i].attention.entropy_quartile,
               sizeof box[i].quartile);
    }
    const int rc = mapfigure_boxes_draw(dir, "entropy", comment,
                                        "row entropy / ln M", box, s->count,
                                        s->options->formats, e);
    free(box);
    return rc;
}

/* Mass near the query: radius 1 on maps, 5 on sequences. */
static int draw_locality(const modelmaps *s, const char *dir,
                         const char *comment, error *e)
{
    const bool sequence = s->shape.grid.axes == 1;
    if (s->shape.grid.axes == 0 || s->count != s->depth * s->heads) return 0;
    double *value = malloc(((size_t)s->count + 1) * sizeof *value);
    if (!value) abort();
    for (int i = 0; i < s->count; i++)
        value[i] = sequence ? s->item[i].attention.mass_r5
                            : s->item[i].attention.mass_r1;
    const metrics *m = &s->item[0].attention;
    const int rc = mapfigure_layers_draw(
        dir, "locality", comment,
        sequence ? "mass within 5 tokens" : "mass within radius 1", value,
        s->depth, s->heads, sequence ? m->u_r5 : m->u_r1, s->options->formats,
        e);
    free(value);
    return rc;
}

static int draw_figures(const modelmaps *s, const char *dir, error *e)
{
    char comment[768];
    snprintf(comment, sizeof comment, "attnbench %s: %s of %s on %s",
             ATTNBENCH_VERSION, s->mechanism->name, s->model.path,
             s->inputs.name);
    for (int kind = SHEET_MATRICES; kind <= SHEET_RELATIVE; kind++)
        if (draw_sheet(s, dir, (enum sheet_kind)kind, comment, e) < 0)
            return -1;
    if (draw_boxes(s, dir, comment, e) < 0) return -1;
    return draw_locality(s, dir, comment, e);
}

int modelmaps_write(const modelmaps *s, const char *dir, error *e)
{
    if (write_json(dir, "logits.json", logits_json(s), e) < 0) return -1;
    for (int i = 0; i < s->count; i++)
        if (write_item(s, &s->item[i], dir, e) < 0 ||
            write_overlay(s, &s->item[i], dir, e) < 0)
            return -1;
    if (s->options->formats && draw_figures(s, dir, e) < 0) return -1;
    return write_json(dir, "metrics.json", metrics_file(s), e);
}

/* ---- table -------------------------------------------------------------- */

void modelmaps_print(const modelmaps *s, FILE *out)
{
    int wide = 3, right = 0;
    for (int i = 0; i < s->count; i++)
        if ((int)strlen(s->item[i].stem) > wide)
            wide = (int)strlen(s->item[i].stem);
    if (*s->inputs.note) fprintf(out, "! %s\n", s->inputs.note);
    metrics_print_head(out, wide);
    for (int i = 0; i < s->count; i++)
        metrics_print(out, wide, s->item[i].stem, &s->item[i].attention);
    if (s->inputs.label && classifies(s)) {
        for (int i = 0; i < s->inputs.count; i++)
            right += prediction(s, i) == s->inputs.label[i];
        fprintf(out, "%d of %d inputs right; ", right, s->inputs.count);
    } else fprintf(out, "%d inputs; ", s->inputs.count);
    if (!s->outputs) fprintf(out, "no head: no logits\n");
    else if (isnan(s->f32_difference))
        fprintf(out, "not run in float: %s\n", s->f32_reason.text);
    else
        fprintf(out, "float differs from double by %.2g at most\n",
                s->f32_difference);
}
