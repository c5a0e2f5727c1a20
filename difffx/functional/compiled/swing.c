/* What a slow oscillator moves, the oscillator included: a delay that swings and a level that swings. */

#include "oscillator.h"
#include "reading.h"

#define TIMES(n) for (int n = 0; n < STRETCH; n += LANES)

/* Of each row: cycles per sample and at the start; the middle of the swing and half of its width, in samples of
   delay or as a gain; and of a delay the levels of the sound itself and of each voice. */
enum { STEP, PHASE, MIDDLE, HALF, DRY, WET, SETTINGS };

struct job {
    int64_t rows, samples, pieces, type, shape, voices; /* voices 0: the level swings */
    const double *settings;       /* [rows, SETTINGS] */
    const void *x, *grad;         /* [rows, samples] */
    void *y, *grad_x;             /* grad_x may be null */
    double *grad_settings;        /* may be null */
};

/* A row in stretches from sample `first` on. */
struct course {
    struct oscillator oscillator;
    int64_t first, count;
    double x[STRETCH], grad[STRETCH], wave[STRETCH], slope[STRETCH];
};

static void set_course(struct course *c, const struct job *job, int64_t row) {
    const double step = job->settings[row * SETTINGS + STEP];
    set_oscillator(&c->oscillator, job->shape, STRETCH / LANES, step * (vec){0.0, 1.0, 2.0, 3.0}, splat(step * LANES));
}

INLINE double sum_of(vec x) { return (x[0] + x[1]) + (x[2] + x[3]); }

/* Zeros beyond the last sample. */
INLINE void take(double *to, const void *row, int64_t type, int64_t first, int64_t count) {
    for (int64_t n = 0; n < count; n++) to[n] = sample_at(row, type, first + n);
    for (int64_t n = count; n < STRETCH; n++) to[n] = 0.0;
}

INLINE void turn(struct course *c, const double *of, double ahead, int with_slope) {
    vec wave[STRETCH / LANES], slope[STRETCH / LANES];
    swing(&c->oscillator, splat(of[STEP] * c->first + of[PHASE] + ahead), wave, with_slope ? slope : NULL);
    memcpy(c->wave, wave, sizeof wave);
    if (with_slope) memcpy(c->slope, slope, sizeof slope);
}

/* Gradients of what is middle + half wave at each sample, 0 beyond the last one -> those of the settings. */
INLINE void gather_swing(const struct course *c, const double *by_place, double half, double *to) {
    vec middle = splat(0.0), width = splat(0.0), phase = splat(0.0), step = splat(0.0), n = {0.0, 1.0, 2.0, 3.0};
    TIMES(i) {
        vec by = wide(by_place + i), by_phase = by * wide(c->slope + i);
        middle += by;
        width += by * wide(c->wave + i);
        phase += by_phase;
        step += by_phase * (n + (double)i);
    }
    double by_phase = half * sum_of(phase);
    to[MIDDLE] += sum_of(middle);
    to[HALF] += sum_of(width);
    to[PHASE] += by_phase;
    to[STEP] += half * sum_of(step) + by_phase * c->first;
}

INLINE void delay_piece(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE;
    const int64_t last = from + PIECE < job->samples ? from + PIECE : job->samples;
    const char *x = (const char *)job->x + row * job->samples * type;
    char *y = (char *)job->y + row * job->samples * type;
    const double *of = job->settings + row * SETTINGS;
    struct course c;
    struct stretch s;
    double delay[STRETCH], value[STRETCH], slope[STRETCH], sum[STRETCH];
    set_course(&c, job, row);
    for (c.first = from; c.first < last; c.first += STRETCH) {
        c.count = last - c.first < STRETCH ? last - c.first : STRETCH;
        for (int n = 0; n < STRETCH; n++) sum[n] = 0.0;
        for (int64_t v = 0; v < job->voices; v++) {
            turn(&c, of, (double)v / job->voices, 0);
            for (int n = 0; n < STRETCH; n++) delay[n] = of[MIDDLE] + of[HALF] * c.wave[n];
            find(&s, delay, c.first, c.count, NEIGHBORS);
            read_stretch(&s, x, type, NEIGHBORS, value, slope);
            for (int64_t n = 0; n < c.count; n++) sum[n] += value[n];
        }
        for (int64_t n = 0; n < c.count; n++) {
            double dry = sample_at(x, type, c.first + n);
            put_at(y, type, c.first + n, of[DRY] * dry + of[WET] * sum[n]);
        }
    }
}

INLINE void delay_back(const struct job *job, int64_t row, int64_t type) {
    const int64_t offset = row * job->samples * type;
    const char *x = (const char *)job->x + offset, *grad = (const char *)job->grad + offset;
    char *by_x = job->grad_x ? (char *)job->grad_x + offset : NULL;
    const double *of = job->settings + row * SETTINGS;
    struct course c;
    struct stretch s;
    double delay[STRETCH], value[STRETCH], slope[STRETCH], by[STRETCH], sums[SETTINGS] = {0.0};
    set_course(&c, job, row);
    for (c.first = 0; c.first < job->samples; c.first += STRETCH) {
        c.count = job->samples - c.first < STRETCH ? job->samples - c.first : STRETCH;
        take(c.x, x, type, c.first, c.count);
        take(c.grad, grad, type, c.first, c.count);
        vec dry = splat(0.0), wet = splat(0.0);
        TIMES(n) dry += wide(c.grad + n) * wide(c.x + n);
        for (int64_t n = 0; n < c.count && by_x; n++) put_at(by_x, type, c.first + n, of[DRY] * c.grad[n]);
        for (int64_t v = 0; v < job->voices; v++) {
            turn(&c, of, (double)v / job->voices, 1);
            for (int n = 0; n < STRETCH; n++) delay[n] = of[MIDDLE] + of[HALF] * c.wave[n];
            find(&s, delay, c.first, c.count, NEIGHBORS);
            if (by_x) {
                for (int n = 0; n < STRETCH; n++) by[n] = of[WET] * c.grad[n];
                scatter_stretch(&s, by_x, type, NEIGHBORS, by);
            }
            if (!job->grad_settings) continue;
            read_stretch(&s, x, type, NEIGHBORS, value, slope);
            for (int64_t n = c.count; n < STRETCH; n++) value[n] = slope[n] = 0.0;
            for (int n = 0; n < STRETCH; n++) by[n] = delay[n] < 0.0 ? 0.0 : of[WET] * c.grad[n] * slope[n];
            TIMES(n) wet += wide(c.grad + n) * wide(value + n);
            gather_swing(&c, by, of[HALF], sums);
        }
        sums[DRY] += sum_of(dry);
        sums[WET] += sum_of(wet);
    }
    if (job->grad_settings) memcpy(job->grad_settings + row * SETTINGS, sums, sizeof sums);
}

INLINE void gain_piece(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE;
    const int64_t last = from + PIECE < job->samples ? from + PIECE : job->samples;
    const char *x = (const char *)job->x + row * job->samples * type;
    char *y = (char *)job->y + row * job->samples * type;
    const double *of = job->settings + row * SETTINGS;
    struct course c;
    set_course(&c, job, row);
    for (c.first = from; c.first < last; c.first += STRETCH) {
        c.count = last - c.first < STRETCH ? last - c.first : STRETCH;
        turn(&c, of, 0.0, 0);
        for (int64_t n = 0; n < c.count; n++)
            put_at(y, type, c.first + n, sample_at(x, type, c.first + n) * (of[MIDDLE] + of[HALF] * c.wave[n]));
    }
}

INLINE void gain_back(const struct job *job, int64_t row, int64_t type) {
    const int64_t offset = row * job->samples * type;
    const char *x = (const char *)job->x + offset, *grad = (const char *)job->grad + offset;
    char *by_x = job->grad_x ? (char *)job->grad_x + offset : NULL;
    const double *of = job->settings + row * SETTINGS;
    struct course c;
    double by[STRETCH], sums[SETTINGS] = {0.0};
    set_course(&c, job, row);
    for (c.first = 0; c.first < job->samples; c.first += STRETCH) {
        c.count = job->samples - c.first < STRETCH ? job->samples - c.first : STRETCH;
        turn(&c, of, 0.0, 1);
        take(c.x, x, type, c.first, c.count);
        take(c.grad, grad, type, c.first, c.count);
        for (int64_t n = 0; n < c.count && by_x; n++)
            put_at(by_x, type, c.first + n, c.grad[n] * (of[MIDDLE] + of[HALF] * c.wave[n]));
        for (int n = 0; n < STRETCH; n++) by[n] = c.grad[n] * c.x[n];
        gather_swing(&c, by, of[HALF], sums);
    }
    if (job->grad_settings) memcpy(job->grad_settings + row * SETTINGS, sums, sizeof sums);
}

/* One copy of the code for each type. */
#define DISPATCH(name)                                \
    static void name##_task(void *job_, int64_t index) { \
        const struct job *job = job_;                 \
        if (job->type == 4) name(job, index, 4);      \
        else name(job, index, 8);                     \
    }
DISPATCH(delay_piece)
DISPATCH(delay_back)
DISPATCH(gain_piece)
DISPATCH(gain_back)

#define SIZES                                                                                         \
    int64_t rows, int64_t samples, int64_t type, int64_t shape, int64_t voices, const double *settings, \
        const void *x
#define SIZED                                                                                              \
    .rows = rows, .samples = samples, .pieces = (samples + PIECE - 1) / PIECE, .type = type, .shape = shape, \
    .voices = voices, .settings = settings, .x = x

/* Without voices it is the level that swings. `samples` must be below 2^31 - STRETCH. */
int difffx_swing(SIZES, void *y, int64_t threads) {
    struct job job = {SIZED, .y = y};
    fan_out(voices ? delay_piece_task : gain_piece_task, &job, rows * job.pieces, threads_for(rows * samples, threads));
    return 0;
}

int difffx_swing_backward(SIZES, const void *grad, void *grad_x, double *grad_settings, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .grad_x = grad_x, .grad_settings = grad_settings};
    fan_out(voices ? delay_back_task : gain_back_task, &job, rows, threads_for(rows * samples, threads));
    return 0;
}
