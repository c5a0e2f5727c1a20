/* A curve drawn with straight lines through points, forward and back, in double precision:
(1 - mix) x + mix table(g x). */

#include "lanes.h"

#define PIECE 32768 /* samples that one thread looks up at a time */
#define COPIES 4    /* of the sums: samples in turn, for neighbors add to the same points */

/* Of each knob and of the table there are as many as items, or one for all. */
struct job {
    int64_t items, channels, samples, pieces, type, points, gains, mixes, tables;
    const double *gain, *mix, *table; /* [gains], [mixes], [tables, points] */
    const void *x, *grad;             /* [items, channels, samples] */
    void *y, *grad_x;                 /* like x; grad_x may be null */
    double *sums;                     /* [items, channels, pieces, COPIES, points + 2]: table, gain, mix; may be null */
};

INLINE double at(const void *row, int64_t type, int64_t n) {
    return type == 4 ? ((const float *)row)[n] : ((const double *)row)[n];
}

INLINE void put(void *row, int64_t type, int64_t n, double value) {
    if (type == 4) ((float *)row)[n] = (float)value;
    else ((double *)row)[n] = value;
}

/* The point below u and how far it is to the next; for NaN any point, and NaN. */
INLINE int64_t place_of(double u, int64_t points, double *share) {
    double held = u < -1.0 ? -1.0 : u, place = ((held > 1.0 ? 1.0 : held) + 1.0) * (0.5 * (points - 1));
    int64_t below = (int64_t)place;
    below = below < 0 ? 0 : below > points - 2 ? points - 2 : below;
    *share = place - below;
    return below;
}

INLINE void look_up(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, left = job->samples - from;
    const int64_t item = row / job->channels;
    const char *x = (const char *)job->x + (row * job->samples + from) * type;
    char *y = (char *)job->y + (row * job->samples + from) * type;
    const double *table = job->table + item % job->tables * job->points;
    const double gain = job->gain[item % job->gains], mix = job->mix[item % job->mixes];
    for (int64_t n = 0; n < (left < PIECE ? left : PIECE); n++) {
        double share, dry = at(x, type, n);
        int64_t below = place_of(gain * dry, job->points, &share);
        double wet = table[below] + share * (table[below + 1] - table[below]);
        put(y, type, n, (1.0 - mix) * dry + mix * wet);
    }
}

INLINE void look_back(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, left = job->samples - from;
    const int64_t item = row / job->channels;
    const char *x = (const char *)job->x + (row * job->samples + from) * type;
    const char *grad = (const char *)job->grad + (row * job->samples + from) * type;
    char *to = job->grad_x ? (char *)job->grad_x + (row * job->samples + from) * type : NULL;
    double *sums = job->sums ? job->sums + index * COPIES * (job->points + 2) : NULL;
    const double *table = job->table + item % job->tables * job->points;
    const double gain = job->gain[item % job->gains], mix = job->mix[item % job->mixes];
    double by_gain = 0.0, by_mix = 0.0;
    for (int64_t n = 0; n < (left < PIECE ? left : PIECE); n++) {
        double share, dry = at(x, type, n), g = at(grad, type, n), u = gain * dry;
        int64_t below = place_of(u, job->points, &share);
        double rise = table[below + 1] - table[below];
        double slope = (double)((u > -1.0) & (u < 1.0)) * (mix * rise * (0.5 * (job->points - 1)));
        if (to) put(to, type, n, g * ((1.0 - mix) + gain * slope));
        if (sums) {
            double *of = sums + n % COPIES * (job->points + 2) + below, upper = share * g;
            of[0] += g - upper;
            of[1] += upper;
            by_gain += g * slope * dry;
            by_mix += g * (table[below] + share * rise - dry);
        }
    }
    if (sums) {
        sums[job->points] = by_gain;
        sums[job->points + 1] = by_mix;
    }
}

/* One copy of the code for each type. */
#define DISPATCH(name, task)                                                   \
    static void task(void *job, int64_t index) {                               \
        if (((const struct job *)job)->type == 4) name(job, index, 4);         \
        else name(job, index, 8);                                              \
    }
DISPATCH(look_up, up_task)
DISPATCH(look_back, back_task)

#define GIVEN                                                                                               \
    int64_t items, int64_t channels, int64_t samples, int64_t type, int64_t points, int64_t gains,          \
        int64_t mixes, int64_t tables, const double *gain, const double *mix, const double *table, const void *x
#define TAKEN                                                                                               \
    .items = items, .channels = channels, .samples = samples, .pieces = (samples + PIECE - 1) / PIECE,      \
    .type = type, .points = points, .gains = gains, .mixes = mixes, .tables = tables, .gain = gain,         \
    .mix = mix, .table = table, .x = x

int difffx_look_up(GIVEN, void *y, int64_t threads) {
    struct job job = {TAKEN, .y = y};
    fan_out(up_task, &job, items * channels * job.pieces, threads_for(items * channels * samples, threads));
    return 0;
}

/* `grad_knobs`: to gain, mix and table, one after the other and in their shapes; it and `grad_x` may be null. */
int difffx_look_up_backward(GIVEN, const void *grad, void *grad_x, double *grad_knobs, int64_t threads) {
    struct job job = {TAKEN, .grad = grad, .grad_x = grad_x};
    const int64_t parts = channels * job.pieces * COPIES;
    if (grad_knobs && !(job.sums = calloc(items * parts * (points + 2), sizeof(double)))) return 1;
    fan_out(back_task, &job, items * channels * job.pieces, threads_for(items * channels * samples, threads));
    if (grad_knobs) memset(grad_knobs, 0, (gains + mixes + tables * points) * sizeof(double));
    for (int64_t part = 0; grad_knobs && part < items * parts; part++) {
        const double *sums = job.sums + part * (points + 2);
        const int64_t item = part / parts;
        double *by_table = grad_knobs + gains + mixes + item % tables * points;
        for (int64_t k = 0; k < points; k++) by_table[k] += mix[item % mixes] * sums[k];
        grad_knobs[item % gains] += sums[points];
        grad_knobs[gains + item % mixes] += sums[points + 1];
    }
    free(job.sums);
    return 0;
}
