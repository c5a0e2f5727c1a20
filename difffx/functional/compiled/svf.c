/* The state-variable filter whose knobs change with every sample, and its reverse pass, four rows at a time.

With memories s and r, of each sample x and its g and k:
    band = (s + g (x - r)) / (1 + g (g + k)),  low = r + g band,  s' = 2 band - s,  r' = 2 low - r
The reverse pass runs from the end: gradients of band and low, each with twice that of its memory added, go
through the transpose of the same step. Few rows are cut into segments. A first pass runs them all from silence
and from each unit memory, which tells where every segment of the second pass starts. */

#include "lanes.h"

enum { MEMORIES = 2, COPIES = 3 }; /* the sound, and two unit memories without it */

struct job {
    int64_t rows, samples, sharing, segments, length, blocks, backward;
    const double *g, *k;                /* [rows / sharing, samples] */
    const double *x;                    /* [rows, samples], as all that follow */
    double *low, *band;                 /* the outputs; in the reverse pass they are read */
    const double *grad_low, *grad_band;
    double *grad_x, *grad_g, *grad_k;
    double *starts;                     /* [rows * segments, MEMORIES]; null: silence */
    double *ends;                       /* [rows * segments, COPIES * MEMORIES]; not null: the first pass */
};

struct place {
    struct lane sound[LANES], knobs[LANES];
};

static struct place place_of(const struct job *job, int64_t group) {
    struct place place;
    for (int l = 0; l < LANES; l++) {
        int64_t v = group * LANES + l, row = v / job->segments, start = v % job->segments * job->length;
        int64_t left = job->samples - start;
        int there = row < job->rows && left > 0;
        place.sound[l].first = there ? row * job->samples + start : 0;
        place.knobs[l].first = there ? row / job->sharing * job->samples + start : 0;
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

/* One sample: memories [2] on, band and low out. */
INLINE void step(vec *memories, vec x, vec g, vec share, vec *band, vec *low) {
    *band = (memories[0] + g * (x - memories[1])) * share;
    *low = memories[1] + g * *band;
    memories[0] = 2.0 * *band - memories[0];
    memories[1] = 2.0 * *low - memories[1];
}

/* One sample back: what memories [2] and the outputs get from later, gradients of the two equations out. */
INLINE void step_back(vec *memories, vec band, vec low, vec g, vec share, vec *by_band, vec *by_low) {
    band += 2.0 * memories[0];
    low += 2.0 * memories[1];
    *by_band = (band + g * low) * share;
    *by_low = low - g * *by_band;
    memories[0] = *by_band - memories[0];
    memories[1] = *by_low - memories[1];
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct place place = place_of(job, group);
    vec x[BLOCK], g[BLOCK], k[BLOCK], states[COPIES * MEMORIES], band, low;
    take_starts(job, group, states);
    for (int64_t b = 0; b < job->blocks; b++) {
        load_block(x, job->x, 8, place.sound, b * BLOCK);
        load_block(g, job->g, 8, place.knobs, b * BLOCK);
        load_block(k, job->k, 8, place.knobs, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) k[n] = 1.0 / (1.0 + g[n] * (g[n] + k[n]));
        if (job->ends) {
            for (int n = 0; n < BLOCK; n++) {
                step(states, x[n], g[n], k[n], &band, &low);
                step(states + 2, splat(0.0), g[n], k[n], &band, &low);
                step(states + 4, splat(0.0), g[n], k[n], &band, &low);
            }
        } else {
            for (int n = 0; n < BLOCK; n++) {
                step(states, x[n], g[n], k[n], &band, &low);
                x[n] = band;
                k[n] = low;
            }
            store_block(x, job->band, 8, place.sound, b * BLOCK);
            store_block(k, job->low, 8, place.sound, b * BLOCK);
        }
    }
    if (job->ends) hand_out(job, group, states);
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct place place = place_of(job, group);
    vec g[BLOCK], k[BLOCK], grad_band[BLOCK], grad_low[BLOCK], x[BLOCK], band[BLOCK], low[BLOCK];
    vec states[COPIES * MEMORIES], by_band, by_low;
    take_starts(job, group, states);
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        load_block(g, job->g, 8, place.knobs, b * BLOCK);
        load_block(k, job->k, 8, place.knobs, b * BLOCK);
        load_block(grad_band, job->grad_band, 8, place.sound, b * BLOCK);
        load_block(grad_low, job->grad_low, 8, place.sound, b * BLOCK);
        if (job->ends) {
            for (int n = BLOCK - 1; n >= 0; n--) {
                vec share = 1.0 / (1.0 + g[n] * (g[n] + k[n])), none = splat(0.0);
                step_back(states, grad_band[n], grad_low[n], g[n], share, &by_band, &by_low);
                step_back(states + 2, none, none, g[n], share, &by_band, &by_low);
                step_back(states + 4, none, none, g[n], share, &by_band, &by_low);
            }
            continue;
        }
        load_block(x, job->x, 8, place.sound, b * BLOCK);
        load_block(band, job->band, 8, place.sound, b * BLOCK);
        load_block(low, job->low, 8, place.sound, b * BLOCK);
        for (int n = BLOCK - 1; n >= 0; n--) {
            vec share = 1.0 / (1.0 + g[n] * (g[n] + k[n])), high = x[n] - k[n] * band[n] - low[n];
            step_back(states, grad_band[n], grad_low[n], g[n], share, &by_band, &by_low);
            x[n] = g[n] * by_band;
            g[n] = by_band * high + by_low * band[n];
            k[n] = -x[n] * band[n];
        }
        store_block(x, job->grad_x, 8, place.sound, b * BLOCK);
        store_block(g, job->grad_g, 8, place.sound, b * BLOCK);
        store_block(k, job->grad_k, 8, place.sound, b * BLOCK);
    }
    if (job->ends) hand_out(job, group, states);
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
    job->blocks = (job->length + BLOCK - 1) / BLOCK;
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

/* x [rows, samples], g and k [rows / sharing, samples] -> low, band [rows, samples].

A segment is `length` samples, a multiple of BLOCK if there is more than one. Returns 0, or 1 if out of memory. */
int difffx_svf(int64_t rows, int64_t samples, int64_t sharing, int64_t segments, int64_t length, const double *x,
               const double *g, const double *k, double *low, double *band, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .sharing = sharing, .segments = segments, .length = length,
                      .x = x, .g = g, .k = k, .low = low, .band = band};
    return run_job(&job, forward_group, threads);
}

/* Gradients to x, g and k, each [rows, samples]: those to g and k are still to be added up over the rows that share. */
int difffx_svf_backward(int64_t rows, int64_t samples, int64_t sharing, int64_t segments, int64_t length,
                        const double *grad_low, const double *grad_band, const double *x, const double *g,
                        const double *k, const double *low, const double *band, double *grad_x, double *grad_g,
                        double *grad_k, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .sharing = sharing, .segments = segments, .length = length,
                      .backward = 1, .x = x, .g = g, .k = k, .low = (double *)low, .band = (double *)band,
                      .grad_low = grad_low, .grad_band = grad_band, .grad_x = grad_x, .grad_g = grad_g,
                      .grad_k = grad_k};
    return run_job(&job, backward_group, threads);
}
