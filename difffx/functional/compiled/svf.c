/* The state-variable filter whose knobs change with every sample, forward and back, four rows at a time.

With memories s and r, of each sample x and its g and k:
    band = (s + g (x - r)) / (1 + g (g + k)),  low = r + g band,  s' = 2 band - s,  r' = 2 low - r
and what is heard is a sum of x, band and low, each at a level that the knobs tell. The way back runs every block
again from its first memories, then from the end: gradients of band and low, each with twice that of its memory
added, go through the transpose of the same step. Few rows are cut into segments. A first pass runs them all from
silence and from each unit memory, which tells where every segment of the second pass starts. */

#include "svf.h"

enum { MEMORIES = 2, COPIES = 3 }; /* the sound, and two unit memories without it */
enum { LEVELS, PEAK, LOW_SHELF, HIGH_SHELF };
enum { HZ, Q, GAIN, FALL, LOW = GAIN, BAND, HIGH, KNOBS }; /* a fall is taken from the gain, if there is one */


struct knob {
    const void *values; /* [items, samples], or [items, frames] or [items] in double precision */
    int64_t type;       /* 4 or 8 of a curve, 2 of frames with straight lines between them, 1 of one value */
    void *grad;         /* [rows, samples], or [rows * segments, frames or 1], sums; null: not wanted */
};

struct job {
    int64_t rows, samples, channels, segments, length, blocks, type, kind, frames, backward;
    double sample_rate;
    const void *x, *grad;      /* [rows, samples], as those that follow */
    void *y, *grad_x;          /* grad_x null: not wanted */
    struct knob knobs[KNOBS];
    double *kept;              /* [groups, blocks, MEMORIES, LANES], before each block; may be null */
    double *starts;            /* [rows * segments, MEMORIES]; null: silence */
    double *ends;              /* [rows * segments, COPIES * MEMORIES]; not null: the first pass */
};

struct place {
    struct lane sound[LANES], knobs[LANES];
    int64_t items[LANES];
};

/* What each sample of a block makes of the knobs. */
struct block {
    vec knobs[KNOBS][BLOCK];
    vec tangent[BLOCK], by_hz[BLOCK];       /* tan(pi hz / sample_rate) and its slope */
    vec damping[BLOCK];                     /* 1 / q */
    vec root[BLOCK], corner[BLOCK];         /* of the gain: 10^(gain / 40), and what moves a shelf */
    vec g[BLOCK], k[BLOCK], share[BLOCK];   /* share: 1 / (1 + g (g + k)) */
    vec of_x[BLOCK], of_band[BLOCK], of_low[BLOCK];
};

static struct place place_of(const struct job *job, int64_t group) {
    struct place place;
    for (int l = 0; l < LANES; l++) {
        int64_t v = group * LANES + l, row = v / job->segments, start = v % job->segments * job->length;
        int64_t left = job->samples - start;
        int there = row < job->rows && left > 0;
        place.items[l] = there ? row / job->channels : -1;
        place.sound[l].first = there ? row * job->samples + start : 0;
        place.knobs[l].first = there ? row / job->channels * job->samples + start : 0;
        place.sound[l].count = place.knobs[l].count = !there ? 0 : left < job->length ? left : job->length;
    }
    return place;
}

static void take_starts(const struct job *job, int64_t group, vec *states) {
    for (int i = 0; i < COPIES * MEMORIES; i++) states[i] = splat(i == 2 || i == 5);
    for (int l = 0; l < LANES; l++)
        for (int64_t i = 0, v = group * LANES + l; job->starts && v < job->rows * job->segments && i < MEMORIES; i++)
            states[i][l] = job->starts[v * MEMORIES + i];
}

static void hand_out(const struct job *job, int64_t group, const vec *states) {
    const int n = COPIES * MEMORIES;
    for (int l = 0; l < LANES; l++)
        for (int64_t i = 0, v = group * LANES + l; v < job->rows * job->segments && i < n; i++)
            job->ends[v * n + i] = states[i][l];
}

/* Of a block from sample `at` on: frames from the first one of each lane on, at each sample. */
INLINE vec frame_at(const struct job *job, const struct place *place, int64_t at, int n) {
    vec now;
    for (int l = 0; l < LANES; l++)
        now[l] = place->knobs[l].first - (place->items[l] < 0 ? 0 : place->items[l]) * job->samples + at;
    return (now + (double)n) * ((job->frames - 1.0) / (job->samples - 1.0));
}

INLINE vec frame_before(const struct job *job, vec place) { return smaller(splat(job->frames - 2.0), floor_of(place)); }

INLINE int same(vec a, vec b) {
    int equal = 1;
    for (int l = 0; l < LANES; l++) equal &= a[l] == b[l];
    return equal;
}

/* Most blocks pass no frame. */
static void draw(const struct job *job, const double *frames, vec *to, const struct place *place, int64_t at) {
    vec before = frame_before(job, frame_at(job, place, at, 0)), left = splat(1.0), right = splat(1.0);
    const int passes = !same(before, frame_before(job, frame_at(job, place, at, BLOCK - 1)));
    ALL(n) {
        vec here = frame_at(job, place, at, n);
        if (passes) before = frame_before(job, here);
        for (int l = 0; l < LANES && (passes || !n); l++) {
            if (place->items[l] < 0) continue;
            const double *from = frames + place->items[l] * job->frames + (int64_t)before[l];
            left[l] = from[0];
            right[l] = from[1];
        }
        here -= before;
        to[n] = (1.0 - here) * left + here * right;
    }
}

static void draw_back(const struct job *job, double *grad, const vec *by, const struct place *place, int64_t at,
                      int64_t group) {
    vec before = frame_before(job, frame_at(job, place, at, 0)), all = splat(0.0), right = splat(0.0);
    const int passes = !same(before, frame_before(job, frame_at(job, place, at, BLOCK - 1)));
    ALL(n) {
        vec here = frame_at(job, place, at, n);
        if (passes) before = frame_before(job, here);
        all += by[n];
        right += by[n] * (here - before);
        if (!passes && n < BLOCK - 1) continue;
        for (int l = 0; l < LANES; l++) {
            if (place->items[l] < 0) continue;
            double *to = grad + (group * LANES + l) * job->frames + (int64_t)before[l];
            to[0] += all[l] - right[l];
            to[1] += right[l];
        }
        all = right = splat(0.0);
    }
}

/* Knobs beyond the end of a row stand at 1, which no kind minds. */
static void turn_knob(const struct job *job, const struct knob *knob, vec *to, const struct place *place, int64_t at) {
    if (knob->type == 1) {
        vec value = splat(1.0);
        for (int l = 0; l < LANES; l++)
            if (place->items[l] >= 0) value[l] = ((const double *)knob->values)[place->items[l]];
        ALL(n) to[n] = value;
        return;
    }
    if (knob->type == 2) draw(job, knob->values, to, place, at);
    else load_block(to, knob->values, knob->type, place->knobs, at);
    for (int l = 0; l < LANES; l++)
        for (int64_t n = valid_at(place->knobs + l, at); n < BLOCK; n++) to[n][l] = 1.0;
}

/* What stands still is worked out with the first block only. */
static void turn_knobs(struct block *b, const struct job *job, const struct place *place, int64_t at, int first) {
    int fresh[KNOBS];
    for (int i = 0; i < KNOBS; i++) {
        fresh[i] = job->knobs[i].values && (first || job->knobs[i].type != 1);
        if (fresh[i]) turn_knob(job, job->knobs + i, b->knobs[i], place, at);
    }
    if (fresh[HZ]) ALL(n) b->tangent[n] = tangent_of(b->knobs[HZ][n], job->sample_rate, b->by_hz + n);
    if (fresh[Q]) ALL(n) b->damping[n] = 1.0 / b->knobs[Q][n];
    if (job->kind != LEVELS && (fresh[GAIN] | fresh[FALL])) ALL(n) {
        const double octaves = job->kind == PEAK ? 0.08304820237218406 : 0.04152410118609203; /* log2(10) / 40 or 80 */
        vec gain = job->knobs[FALL].values ? b->knobs[GAIN][n] - b->knobs[FALL][n] : b->knobs[GAIN][n];
        vec up = exp2_of(gain * octaves);
        b->root[n] = job->kind == PEAK ? up : up * up;
        b->corner[n] = job->kind == HIGH_SHELF ? up : 1.0 / up;
    }
    if (!first && !(fresh[HZ] | fresh[Q] | fresh[GAIN] | fresh[BAND] | fresh[HIGH])) return;
    ALL(n) {
        vec k = b->damping[n], root = b->root[n];
        b->g[n] = b->tangent[n];
        b->k[n] = k;
        if (job->kind == LEVELS) {
            vec high = b->knobs[HIGH][n];
            b->of_x[n] = high;
            b->of_band[n] = k * (b->knobs[BAND][n] - high);
            b->of_low[n] = b->knobs[LOW][n] - high;
        } else if (job->kind == PEAK) {
            b->k[n] = k * b->corner[n];
            b->of_x[n] = splat(1.0);
            b->of_band[n] = k * (root - b->corner[n]);
            b->of_low[n] = splat(0.0);
        } else {
            vec power = (root - 1.0) * (root + 1.0);
            b->g[n] *= b->corner[n];
            b->of_x[n] = job->kind == LOW_SHELF ? splat(1.0) : root * root;
            b->of_band[n] = k * (job->kind == LOW_SHELF ? root - 1.0 : root * (1.0 - root));
            b->of_low[n] = job->kind == LOW_SHELF ? power : -power;
        }
    }
    ALL(n) b->share[n] = 1.0 / (1.0 + b->g[n] * (b->g[n] + b->k[n]));
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct place place = place_of(job, group);
    struct block now;
    vec x[BLOCK], states[COPIES * MEMORIES], band, low;
    take_starts(job, group, states);
    for (int64_t b = 0; b < job->blocks; b++) {
        load_block(x, job->x, job->type, place.sound, b * BLOCK);
        turn_knobs(&now, job, &place, b * BLOCK, b == 0);
        if (job->ends) {
            ALL(n) {
                step(states, x[n], now.g[n], now.share[n], &band, &low);
                step(states + 2, splat(0.0), now.g[n], now.share[n], &band, &low);
                step(states + 4, splat(0.0), now.g[n], now.share[n], &band, &low);
            }
            continue;
        }
        if (job->kept)
            memcpy(job->kept + (group * job->blocks + b) * MEMORIES * LANES, states, MEMORIES * sizeof *states);
        ALL(n) {
            step(states, x[n], now.g[n], now.share[n], &band, &low);
            x[n] = now.of_x[n] * x[n] + now.of_band[n] * band + now.of_low[n] * low;
        }
        store_block(x, job->y, job->type, place.sound, b * BLOCK);
    }
    if (job->ends) hand_out(job, group, states);
}

/* Gradients of what a block makes of the knobs -> those of the knobs, in `to`. */
static void knobs_back(const struct block *b, int64_t kind, const vec *by_g, const vec *by_k, const vec *by_x,
                       const vec *by_band, const vec *by_low, vec to[KNOBS][BLOCK]) {
    const double neper = 0.05756462732485115; /* ln(10) / 40, of the root by the gain */
    ALL(n) {
        vec root = b->root[n], corner = b->corner[n], k = b->damping[n], by_tangent = by_g[n], by_damping = by_k[n];
        if (kind == LEVELS) {
            to[LOW][n] = by_low[n];
            to[BAND][n] = k * by_band[n];
            to[HIGH][n] = by_x[n] - to[BAND][n] - by_low[n];
            by_damping += by_band[n] * (b->knobs[BAND][n] - b->knobs[HIGH][n]);
        } else if (kind == PEAK) {
            to[GAIN][n] = neper * (by_band[n] * k * (root + corner) - by_k[n] * b->k[n]);
            by_damping = by_k[n] * corner + by_band[n] * (root - corner);
        } else if (kind == LOW_SHELF) {
            to[GAIN][n] = neper * (root * (by_band[n] * k + 2.0 * root * by_low[n]) - 0.5 * by_g[n] * b->g[n]);
            by_damping += by_band[n] * (root - 1.0);
            by_tangent *= corner;
        } else {
            vec by_root = 2.0 * root * (by_x[n] - by_low[n]) + k * (1.0 - 2.0 * root) * by_band[n];
            to[GAIN][n] = neper * (root * by_root + 0.5 * by_g[n] * b->g[n]);
            by_damping += by_band[n] * root * (1.0 - root);
            by_tangent *= corner;
        }
        if (kind != LEVELS) to[FALL][n] = -to[GAIN][n];
        to[HZ][n] = by_tangent * b->by_hz[n];
        to[Q][n] = -by_damping * k * k;
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct place place = place_of(job, group);
    struct block now;
    vec x[BLOCK], grad[BLOCK], band[BLOCK], low[BLOCK], by_g[BLOCK], by_k[BLOCK], by_knobs[KNOBS][BLOCK];
    vec states[COPIES * MEMORIES], forward[MEMORIES], sums[KNOBS] = {{0}}, by_band, by_low;
    take_starts(job, group, states);
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        load_block(grad, job->grad, job->type, place.sound, b * BLOCK);
        turn_knobs(&now, job, &place, b * BLOCK, b == job->blocks - 1);
        if (job->ends) {
            for (int n = BLOCK - 1; n >= 0; n--) {
                const vec none = splat(0.0), g = now.g[n], share = now.share[n];
                step_back(states, now.of_band[n] * grad[n], now.of_low[n] * grad[n], g, share, &by_band, &by_low);
                step_back(states + 2, none, none, g, share, &by_band, &by_low);
                step_back(states + 4, none, none, g, share, &by_band, &by_low);
            }
            continue;
        }
        load_block(x, job->x, job->type, place.sound, b * BLOCK);
        memcpy(forward, job->kept + (group * job->blocks + b) * MEMORIES * LANES, sizeof forward);
        ALL(n) step(forward, x[n], now.g[n], now.share[n], band + n, low + n);
        for (int n = BLOCK - 1; n >= 0; n--) {
            vec high = x[n] - now.k[n] * band[n] - low[n];
            step_back(states, now.of_band[n] * grad[n], now.of_low[n] * grad[n], now.g[n], now.share[n], &by_band, &by_low);
            by_g[n] = by_band * high + by_low * band[n];
            by_k[n] = -now.g[n] * by_band * band[n];
            vec by_x = now.g[n] * by_band + now.of_x[n] * grad[n];
            band[n] *= grad[n];
            low[n] *= grad[n];
            grad[n] *= x[n];
            x[n] = by_x;
        }
        if (job->grad_x) store_block(x, job->grad_x, job->type, place.sound, b * BLOCK);
        knobs_back(&now, job->kind, by_g, by_k, grad, band, low, by_knobs);
        for (int i = 0; i < KNOBS; i++) {
            const struct knob *knob = job->knobs + i;
            if (!knob->grad) continue;
            if (knob->type == 1) ALL(n) sums[i] += by_knobs[i][n];
            else if (knob->type == 2) draw_back(job, knob->grad, by_knobs[i], &place, b * BLOCK, group);
            else store_block(by_knobs[i], knob->grad, knob->type, place.sound, b * BLOCK);
        }
    }
    if (job->ends) hand_out(job, group, states);
    for (int i = 0; i < KNOBS && !job->ends; i++)
        for (int64_t l = 0, v = group * LANES; l < LANES && v + l < job->rows * job->segments; l++)
            if (job->knobs[i].grad && job->knobs[i].type == 1) ((double *)job->knobs[i].grad)[v + l] = sums[i][l];
}

/* From where every segment of a row ends up when it starts from silence to where it really starts. */
static void carry_over(struct job *job, int64_t row) {
    int64_t last = job->segments - 1;
    for (int64_t i = 0; i < last; i++) {
        int64_t from = row * job->segments + (job->backward ? last - i : i);
        double *to = job->starts + MEMORIES * (job->backward ? from - 1 : from + 1);
        const double *end = job->ends + COPIES * MEMORIES * from, *start = job->starts + MEMORIES * from;
        for (int m = 0; m < MEMORIES; m++) to[m] = end[m] + end[2 + m] * start[0] + end[4 + m] * start[1];
    }
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    int64_t lanes = job->rows * job->segments, groups = (lanes + LANES - 1) / LANES;
    threads = threads_for(job->rows * job->samples, threads);
    double *memory = NULL;
    if (job->segments > 1) {
        memory = calloc(lanes * (1 + COPIES) * MEMORIES, sizeof *memory);
        if (!memory) return 1;
        job->ends = memory + lanes * MEMORIES;
        fan_out(task, job, groups, threads);
        job->starts = memory;
        for (int64_t row = 0; row < job->rows; row++) carry_over(job, row);
        job->ends = NULL;
    }
    fan_out(task, job, groups, threads);
    free(memory);
    return 0;
}

/* x [rows, samples] and knobs of items of so many `channels`, see `struct knob`; `types` has a byte for each.

A segment is `length` samples, a multiple of BLOCK if there is more than one. Returns 0, or 1 if out of memory. */
#define SIZES                                                                                                 \
    int64_t rows, int64_t samples, int64_t channels, int64_t segments, int64_t length, int64_t type, int64_t kind, \
        int64_t types, int64_t frames, double sample_rate, const void *x, const void *hz, const void *q, const void *first,      \
        const void *second, const void *third
#define SIZED                                                                                                    \
    .rows = rows, .samples = samples, .channels = channels, .segments = segments, .length = length,              \
    .blocks = (length + BLOCK - 1) / BLOCK, .type = type, .kind = kind, .frames = frames, .sample_rate = sample_rate, .x = x, \
    .knobs = {{hz, types & 15}, {q, types >> 8 & 15}, {first, types >> 16 & 15}, {second, types >> 24 & 15},     \
              {third, types >> 32 & 15}}

int difffx_moving_filter(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    return run_job(&job, forward_group, threads);
}

int difffx_moving_filter_backward(SIZES, const void *grad, double *kept, void *grad_x, void *grad_hz, void *grad_q,
                                  void *grad_first, void *grad_second, void *grad_third, int64_t threads) {
    struct job job = {SIZED, .backward = 1, .grad = grad, .kept = kept, .grad_x = grad_x};
    void *grads[KNOBS] = {grad_hz, grad_q, grad_first, grad_second, grad_third};
    for (int i = 0; i < KNOBS; i++) job.knobs[i].grad = grads[i];
    return run_job(&job, backward_group, threads);
}
