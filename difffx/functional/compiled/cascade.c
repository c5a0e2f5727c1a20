/* Cascades of second-order filters and their reverse pass, four rows at a time, in double precision.

One section holds its last inner value p and the last step d of that value:
    p' = x + k p + e d,  d' = x - g p + e d,  y = b x + h p + i d
with k = -(a1 + a2), e = a2, g = 1 + a1 + a2, b = b0, h = b1 + b2 - b0 (a1 + a2), i = b0 a2 - b2.
With few rows each is cut into segments. A first pass runs them all from silence, which gives what each adds to
the state; carried through the transition of a whole segment, that is where the second pass starts. */

#include "lanes.h"

enum { K, E, G, B, H, I, NUMBERS };
enum { GY0, GY1, GY2, GX1, GX2, SUMS }; /* gradients of y and x, times inner values 0, 1, 2 samples ago */

struct job {
    int64_t rows, samples, sections, sharing, segments, length, blocks, type, backward;
    const double *sos;    /* [rows / sharing, sections, 6] */
    const void *x, *grad; /* [rows, samples] */
    void *y, *grad_x;     /* [rows, samples]; grad_x may be null */
    vec *kept;            /* [groups, blocks, sections, 2], states at the start of each block; may be null */
    double *starts;       /* [rows * segments, 2 sections], states each segment starts from; null: silence */
    double *ends;         /* the same, where it ends up; not null: the first pass */
    double *sums;         /* [rows * segments, sections, SUMS]; may be null */
    int failed;
};

static void numbers_of(const double *sos, double *to) {
    double b0 = sos[0] / sos[3], b1 = sos[1] / sos[3], b2 = sos[2] / sos[3];
    double a1 = sos[4] / sos[3], a2 = sos[5] / sos[3];
    to[K] = -a1 - a2;
    to[E] = a2;
    to[G] = 1 + a1 + a2;
    to[B] = b0;
    to[H] = b1 + b2 - b0 * (a1 + a2);
    to[I] = b0 * a2 - b2;
}

static void place_lanes(const struct job *job, int64_t group, struct lane *lanes, vec *numbers) {
    for (int l = 0; l < LANES; l++) {
        int64_t v = group * LANES + l, row = v / job->segments, start = v % job->segments * job->length;
        int64_t left = job->samples - start;
        int there = row < job->rows;
        lanes[l].first = there ? row * job->samples + start : 0;
        lanes[l].count = !there || left < 0 ? 0 : left < job->length ? left : job->length;
        for (int64_t s = 0; s < job->sections; s++) {
            double of_lane[NUMBERS];
            numbers_of(job->sos + ((there ? row : 0) / job->sharing * job->sections + s) * 6, of_lane);
            for (int c = 0; c < NUMBERS; c++) numbers[s * NUMBERS + c][l] = of_lane[c];
        }
    }
}

static void place_states(const struct job *job, int64_t group, vec *states) {
    int64_t n = 2 * job->sections;
    for (int64_t i = 0; i < n; i++)
        for (int l = 0; l < LANES; l++) {
            int64_t v = group * LANES + l;
            states[i][l] = job->starts && v < job->rows * job->segments ? job->starts[v * n + i] : 0.0;
        }
}

static void hand_out(const struct job *job, int64_t group, const vec *from, int64_t n, double *to) {
    for (int l = 0; l < LANES; l++)
        for (int64_t i = 0, v = group * LANES + l; v < job->rows * job->segments && i < n; i++)
            to[v * n + i] = from[i][l];
}

/* `count` sections over a block, in place. `inner`, if there is one, gets their inner values after the two before. */
INLINE void run(vec *block, vec *states, const vec *numbers, vec *inner, const int count) {
    vec p[4], d[4];
    for (int s = 0; s < count; s++) {
        p[s] = states[2 * s];
        d[s] = states[2 * s + 1];
        if (inner) {
            inner[s * (BLOCK + 2)] = p[s] - d[s];
            inner[s * (BLOCK + 2) + 1] = p[s];
        }
    }
    for (int n = 0; n < BLOCK; n++) {
        vec x = block[n];
#pragma GCC unroll 4
        for (int s = 0; s < count; s++) {
            const vec *c = numbers + s * NUMBERS;
            vec y = c[B] * x + c[H] * p[s] + c[I] * d[s];
            vec driven = x + c[E] * d[s];
            d[s] = driven - c[G] * p[s];
            p[s] = driven + c[K] * p[s];
            if (inner) inner[s * (BLOCK + 2) + n + 2] = p[s];
            x = y;
        }
        block[n] = x;
    }
    for (int s = 0; s < count; s++) {
        states[2 * s] = p[s];
        states[2 * s + 1] = d[s];
    }
}

static void run_all(vec *block, vec *states, const vec *numbers, vec *inner, int64_t sections) {
    int64_t s = 0;
#define RUN(count, inner) run(block, states + 2 * s, numbers + s * NUMBERS, inner, count)
#define RUN_CHUNK(inner)                                 \
    switch (sections - s) {                              \
    case 1: RUN(1, inner), s += 1; break;                \
    case 2: RUN(2, inner), s += 2; break;                \
    case 4: RUN(4, inner), s += 4; break;                \
    default: RUN(3, inner), s += 3;                      \
    }
    if (inner)
        while (s < sections) { RUN_CHUNK(inner + s * (BLOCK + 2)) }
    else
        while (s < sections) { RUN_CHUNK(NULL) }
#undef RUN_CHUNK
#undef RUN
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    int64_t n = 2 * job->sections;
    vec *numbers = aligned_alloc(64, (job->sections * NUMBERS + n + BLOCK + 2) / 2 * 2 * sizeof(vec));
    if (!numbers) {
        job->failed = 1;
        return;
    }
    vec *states = numbers + job->sections * NUMBERS, *block = states + n;
    struct lane lanes[LANES];
    place_lanes(job, group, lanes, numbers);
    place_states(job, group, states);
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * n, states, n * sizeof(vec));
        load_block(block, job->x, job->type, lanes, b * BLOCK);
        run_all(block, states, numbers, NULL, job->sections);
        if (!job->ends) store_block(block, job->y, job->type, lanes, b * BLOCK);
    }
    if (job->ends) hand_out(job, group, states, n, job->ends);
    free(numbers);
}

/* `count` sections backward over a block of gradients, in place, the last section first. */
INLINE void run_back(vec *block, vec *states, const vec *numbers, const vec *inner, vec *sums, const int count) {
    vec p[2], d[2], sum[2][SUMS];
    for (int s = 0; s < count; s++) {
        p[s] = states[2 * s];
        d[s] = states[2 * s + 1];
        for (int i = 0; inner && i < SUMS; i++) sum[s][i] = sums[s * SUMS + i];
    }
    for (int n = BLOCK - 1; n >= 0; n--) {
        vec gy = block[n];
#pragma GCC unroll 2
        for (int s = count - 1; s >= 0; s--) {
            const vec *c = numbers + s * NUMBERS, *w = inner + s * (BLOCK + 2) + n;
            vec both = p[s] + d[s], gx = c[B] * gy + both;
            if (inner) {
                sum[s][GY0] += gy * w[2];
                sum[s][GY1] += gy * w[1];
                sum[s][GY2] += gy * w[0];
                sum[s][GX1] += gx * w[1];
                sum[s][GX2] += gx * w[0];
            }
            p[s] = (c[H] * gy - c[G] * d[s]) + c[K] * p[s];
            d[s] = c[I] * gy + c[E] * both;
            gy = gx;
        }
        block[n] = gy;
    }
    for (int s = 0; s < count; s++) {
        states[2 * s] = p[s];
        states[2 * s + 1] = d[s];
        for (int i = 0; inner && i < SUMS; i++) sums[s * SUMS + i] = sum[s][i];
    }
}

static void run_all_back(vec *block, vec *states, const vec *numbers, const vec *inner, vec *sums, int64_t sections) {
    for (int64_t s = sections; s > 0;) {
        int64_t count = s > 1 ? 2 : 1;
        s -= count;
#define RUN(inner, sums, count) run_back(block, states + 2 * s, numbers + s * NUMBERS, inner, sums, count)
        if (inner && count == 2) RUN(inner + s * (BLOCK + 2), sums + s * SUMS, 2);
        else if (inner) RUN(inner + s * (BLOCK + 2), sums + s * SUMS, 1);
        else if (count == 2) RUN(NULL, NULL, 2);
        else RUN(NULL, NULL, 1);
#undef RUN
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    int64_t sections = job->sections, n = 2 * sections;
    int64_t vectors = sections * (NUMBERS + SUMS + BLOCK + 2) + 2 * n + BLOCK;
    vec *numbers = aligned_alloc(64, (vectors + 1) / 2 * 2 * sizeof(vec));
    if (!numbers) {
        job->failed = 1;
        return;
    }
    vec *states = numbers + sections * NUMBERS, *begun = states + n, *block = begun + n;
    vec *sums = block + BLOCK, *inner = sums + sections * SUMS;
    struct lane lanes[LANES];
    place_lanes(job, group, lanes, numbers);
    place_states(job, group, states);
    memset(sums, 0, sections * SUMS * sizeof(vec));
    int summing = job->sums && !job->ends;
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        if (summing) {
            memcpy(begun, job->kept + (group * job->blocks + b) * n, n * sizeof(vec));
            load_block(block, job->x, job->type, lanes, b * BLOCK);
            run_all(block, begun, numbers, inner, sections);
        }
        load_block(block, job->grad, job->type, lanes, b * BLOCK);
        run_all_back(block, states, numbers, summing ? inner : NULL, sums, sections);
        if (job->grad_x && !job->ends) store_block(block, job->grad_x, job->type, lanes, b * BLOCK);
    }
    if (job->ends) hand_out(job, group, states, n, job->ends);
    if (summing) hand_out(job, group, sums, sections * SUMS, job->sums);
    free(numbers);
}

static void multiply(const double *x, const double *y, double *to, int64_t n) {
    memset(to, 0, n * n * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < n; k++) to[i * n + k] += x[i * n + j] * y[j * n + k];
}

/* The transition of one sample for a whole cascade, [n, n], to the power of `length`; work holds two of them. */
static void transition_of(const double *sos, int64_t sections, int64_t length, double *power, double *work) {
    int64_t n = 2 * sections;
    double *step = work, *spare = work + n * n;
    memset(step, 0, n * n * sizeof *step);
    for (int64_t s = 0; s < sections; s++) {
        double c[NUMBERS], through = 1.0;
        numbers_of(sos + 6 * s, c);
        double *p = step + 2 * s * n, *d = p + n;
        p[2 * s] = c[K], p[2 * s + 1] = c[E], d[2 * s] = -c[G], d[2 * s + 1] = c[E];
        for (int64_t before = s - 1; before >= 0; before--) {
            double of[NUMBERS];
            numbers_of(sos + 6 * before, of);
            p[2 * before] = d[2 * before] = through * of[H];
            p[2 * before + 1] = d[2 * before + 1] = through * of[I];
            through *= of[B];
        }
    }
    for (int64_t i = 0; i < n * n; i++) power[i] = i % (n + 1) == 0;
    for (; length; length >>= 1) {
        if (length & 1) {
            multiply(step, power, spare, n);
            memcpy(power, spare, n * n * sizeof *power);
        }
        multiply(step, step, spare, n);
        memcpy(step, spare, n * n * sizeof *step);
    }
}

/* From where every segment of a row ends up when it starts from silence to where it really starts. */
static void carry_over(void *argument, int64_t row) {
    struct job *job = argument;
    int64_t n = 2 * job->sections, last = job->segments - 1;
    double *power = malloc(3 * n * n * sizeof *power);
    if (!power) {
        job->failed = 1;
        return;
    }
    const double *sos = job->sos + row / job->sharing * job->sections * 6;
    transition_of(sos, job->sections, job->length, power, power + n * n);
    for (int64_t k = 0; k < last; k++) {
        int64_t from = row * job->segments + (job->backward ? last - k : k);
        int64_t to = job->backward ? from - 1 : from + 1;
        for (int64_t i = 0; i < n; i++) {
            double carried = job->ends[from * n + i];
            for (int64_t j = 0; j < n; j++)
                carried += power[job->backward ? j * n + i : i * n + j] * job->starts[from * n + j];
            job->starts[to * n + i] = carried;
        }
    }
    free(power);
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    int64_t lanes = job->rows * job->segments, groups = (lanes + LANES - 1) / LANES;
    job->blocks = (job->length + BLOCK - 1) / BLOCK;
    threads = threads_for(job->rows * job->samples * job->sections, threads);
    if (job->segments > 1) {
        int64_t n = 2 * job->sections;
        double *starts = calloc(2 * lanes * n, sizeof *starts);
        if (!starts) return 1;
        vec *kept = job->kept;
        job->kept = NULL;
        job->ends = starts + lanes * n;
        fan_out(task, job, groups, threads);
        job->starts = starts;
        fan_out(carry_over, job, job->rows, threads);
        job->kept = kept;
        job->ends = NULL;
    }
    fan_out(task, job, groups, threads);
    free(job->starts);
    return job->failed;
}

/* x [rows, samples] through sos [rows / sharing, sections, 6] -> y, and the states the reverse pass needs.

A segment is `length` samples, a multiple of BLOCK if there is more than one. Returns 0, or 1 if out of memory. */
int difffx_sosfilt(int64_t rows, int64_t samples, int64_t sections, int64_t sharing, int64_t segments, int64_t length,
                   int64_t type, const double *sos, const void *x, void *y, void *kept, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .sections = sections, .sharing = sharing,
                      .segments = segments, .length = length, .type = type, .sos = sos, .x = x, .y = y, .kept = kept};
    return run_job(&job, forward_group, threads);
}

/* grad [rows, samples] -> grad_x, if not null, and grad_sos [rows, sections, 6], if not null: one per row. */
int difffx_sosfilt_backward(int64_t rows, int64_t samples, int64_t sections, int64_t sharing, int64_t segments,
                            int64_t length, int64_t type, const double *sos, const void *x, const void *grad,
                            const void *kept, void *grad_x, double *grad_sos, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .sections = sections, .sharing = sharing,
                      .segments = segments, .length = length, .type = type, .backward = 1, .sos = sos, .x = x,
                      .grad = grad, .grad_x = grad_x, .kept = (vec *)kept};
    if (grad_sos && !(job.sums = malloc(rows * segments * sections * SUMS * sizeof *job.sums))) return 1;
    int failed = run_job(&job, backward_group, threads);
    for (int64_t i = 0; grad_sos && !failed && i < rows * sections; i++) {
        int64_t row = i / sections, s = i % sections;
        const double *c = sos + (row / sharing * sections + s) * 6;
        double sum[SUMS] = {0}, by[6], a0 = c[3];
        for (int64_t k = 0; k < segments; k++)
            for (int j = 0; j < SUMS; j++) sum[j] += job.sums[((row * segments + k) * sections + s) * SUMS + j];
        by[0] = sum[GY0], by[1] = sum[GY1], by[2] = sum[GY2], by[4] = -sum[GX1], by[5] = -sum[GX2];
        by[3] = 0.0;
        for (int j = 0; j < 6; j++)
            if (j != 3) by[3] -= by[j] * c[j] / a0;
        for (int j = 0; j < 6; j++) grad_sos[i * 6 + j] = by[j] / a0;
    }
    free(job.sums);
    return failed;
}
