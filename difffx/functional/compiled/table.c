/* A curve drawn with straight lines through points, forward and back, in double precision. */

#include "lanes.h"

#define PIECE 32768 /* samples that one thread looks up at a time */
#define COPIES 4    /* of the sums: samples in turn, for neighbors add to the same points */

struct job {
    int64_t items, channels, samples, pieces, type, points, shared;
    const double *table;  /* [items or 1, points] */
    const void *u, *grad; /* [items, channels, samples] */
    void *y, *grad_u;     /* like u; grad_u may be null */
    double *sums;         /* [items, channels, pieces, COPIES, points]; may be null */
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
    double held = u < -1.0 ? -1.0 : u > 1.0 ? 1.0 : u, place = (held + 1.0) * (0.5 * (points - 1));
    int64_t below = place < points - 2 ? (int64_t)place : points - 2;
    below = below < 0 ? 0 : below;
    *share = place - below;
    return below;
}

INLINE void look_up(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, left = job->samples - from;
    const char *u = (const char *)job->u + (row * job->samples + from) * type;
    char *y = (char *)job->y + (row * job->samples + from) * type;
    const double *table = job->table + (job->shared ? 0 : row / job->channels * job->points);
    for (int64_t n = 0; n < (left < PIECE ? left : PIECE); n++) {
        double share;
        int64_t below = place_of(at(u, type, n), job->points, &share);
        put(y, type, n, table[below] + share * (table[below + 1] - table[below]));
    }
}

INLINE void look_back(const struct job *job, int64_t index, int64_t type) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, left = job->samples - from;
    const char *u = (const char *)job->u + (row * job->samples + from) * type;
    const char *grad = (const char *)job->grad + (row * job->samples + from) * type;
    char *to = job->grad_u ? (char *)job->grad_u + (row * job->samples + from) * type : NULL;
    double *sums = job->sums ? job->sums + index * COPIES * job->points : NULL;
    const double *table = job->table + (job->shared ? 0 : row / job->channels * job->points);
    for (int64_t n = 0; n < (left < PIECE ? left : PIECE); n++) {
        double share, value = at(u, type, n), g = at(grad, type, n);
        int64_t below = place_of(value, job->points, &share);
        double slope = (table[below + 1] - table[below]) * (0.5 * (job->points - 1));
        if (to) put(to, type, n, value <= -1.0 || value >= 1.0 ? 0.0 : g * slope);
        if (sums) {
            double *of = sums + n % COPIES * job->points + below, upper = share * g;
            of[0] += g - upper;
            of[1] += upper;
        }
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

#define GIVEN                                                                                            \
    int64_t items, int64_t channels, int64_t samples, int64_t type, int64_t points, int64_t shared,      \
        const double *table, const void *u
#define TAKEN                                                                                            \
    .items = items, .channels = channels, .samples = samples, .pieces = (samples + PIECE - 1) / PIECE,   \
    .type = type, .points = points, .shared = shared, .table = table, .u = u

int difffx_look_up(GIVEN, void *y, int64_t threads) {
    struct job job = {TAKEN, .y = y};
    fan_out(up_task, &job, items * channels * job.pieces, threads_for(items * channels * samples, threads));
    return 0;
}

/* `grad_table`: like table; it and `grad_u` may be null. */
int difffx_look_up_backward(GIVEN, const void *grad, void *grad_u, double *grad_table, int64_t threads) {
    struct job job = {TAKEN, .grad = grad, .grad_u = grad_u};
    const int64_t parts = channels * job.pieces * COPIES;
    if (grad_table && !(job.sums = calloc(items * parts * points, sizeof(double)))) return 1;
    fan_out(back_task, &job, items * channels * job.pieces, threads_for(items * channels * samples, threads));
    if (grad_table) memset(grad_table, 0, (shared ? 1 : items) * points * sizeof(double));
    for (int64_t part = 0; grad_table && part < items * parts; part++)
        for (int64_t k = 0; k < points; k++)
            grad_table[(shared ? 0 : part / parts * points) + k] += job.sums[part * points + k];
    free(job.sums);
    return 0;
}
