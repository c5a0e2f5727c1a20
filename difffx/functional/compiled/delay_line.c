/* A delay line read between its samples at a place that moves, forward and back. */

#include "lanes.h"

#define STRETCH 256   /* samples whose places are worked out at a time */
#define PIECE 16384   /* samples that one thread reads at a time */
#define NEIGHBORS 4

struct job {
    int64_t items, channels, samples, pieces, type, neighbors;
    int64_t delay_items, delay_channels; /* of the delay: as many, or one for all */
    const void *x, *grad;                /* [items, channels, samples] */
    const double *delay;                 /* [delay_items, delay_channels, samples] */
    void *y, *grad_x;                    /* like x; grad_x may be null */
    double *grad_delay;                  /* shape of x: sums are left to do; may be null */
};

/* Where a stretch is read. */
struct stretch {
    int64_t first, count;  /* its samples */
    int inside;            /* whether no neighbor lies before the first sample of the row */
    int32_t lag[STRETCH];  /* samples from each one back to its nearest neighbor */
    double place[STRETCH]; /* from there on */
};

static const double *delay_of(const struct job *job, int64_t row) {
    int64_t item = row / job->channels % job->delay_items, channel = row % job->channels % job->delay_channels;
    return job->delay + (item * job->delay_channels + channel) * job->samples;
}

/* A delay that is not a number reads silence, at a place that is not one either. */
INLINE void find(struct stretch *s, const double *delay, int64_t first, int64_t last, int neighbors) {
    const int64_t count = last - first < STRETCH ? last - first : STRETCH;
    int32_t outside = 0;
    s->first = first;
    s->count = count;
    for (int64_t n = 0; n < count; n++) {
        double d = delay[first + n], limit = first + STRETCH;
        d = d < 0.0 ? 0.0 : d;
        double start = __builtin_floor(d) - (neighbors == 4);
        start = start < 0.0 ? 0.0 : start;
        s->place[n] = d - start;
        s->lag[n] = (int32_t)(start < limit ? start : limit);
        outside |= (int32_t)(first + n) - s->lag[n] - (neighbors - 1);
    }
    s->inside = outside >= 0;
}

INLINE double sample_at(const void *row, int64_t type, int64_t at) {
    return type == 4 ? ((const float *)row)[at] : ((const double *)row)[at];
}

INLINE void add_at(void *row, int64_t type, int64_t at, double value) {
    if (type == 4) ((float *)row)[at] += (float)value;
    else ((double *)row)[at] += value;
}

/* The polynomial through the neighbors in Newton's form: its value and its slope. */
INLINE double value_of(const double *t, double place, int neighbors, double *slope) {
    double first = t[1] - t[0];
    if (neighbors == 2) {
        *slope = first;
        return t[0] + place * first;
    }
    double rise = t[2] - t[1], second = rise - first, last = t[3] - t[2] - rise;
    double third = (last - second) * (1.0 / 3.0), half = (place - 1.0) * 0.5;
    double bend = second + (place - 2.0) * third, climb = first + half * bend;
    *slope = climb + place * (0.5 * bend + half * third);
    return t[0] + place * climb;
}

INLINE double weight_of(int k, double place, int neighbors) {
    if (neighbors == 2) return k ? place : 1.0 - place;
    double a = place - 1.0, b = place - 2.0, c = place - 3.0;
    return k == 0   ? a * b * c * (-1.0 / 6.0)
           : k == 1 ? place * c * b * 0.5
           : k == 2 ? place * c * a * -0.5
                    : a * b * place * (1.0 / 6.0);
}

INLINE void read_stretch(const struct stretch *s, const void *row, int64_t type, int neighbors, int checked,
                         double *value, double *slope) {
    const char *now = (const char *)row + s->first * type;
    const int32_t first = (int32_t)s->first;
    for (int32_t n = 0; n < s->count; n++) {
        double t[NEIGHBORS];
        for (int k = 0; k < neighbors; k++) {
            int32_t at = n - s->lag[n] - k;
            if (checked) t[k] = first + at < 0 ? 0.0 : sample_at(now, type, at);
            else t[k] = sample_at(now, type, at);
        }
        value[n] = value_of(t, s->place[n], neighbors, slope + n);
    }
}

/* grad times weight to every neighbor. Neighbor after neighbor, for the next sample adds to almost the same places. */
INLINE void scatter_stretch(const struct stretch *s, void *row, int64_t type, int neighbors, const double *grad) {
    char *now = (char *)row + s->first * type;
    const int32_t first = (int32_t)s->first;
    for (int k = 0; k < neighbors; k++) {
        double part[STRETCH];
        for (int32_t n = 0; n < s->count; n++) part[n] = grad[n] * weight_of(k, s->place[n], neighbors);
        for (int32_t n = 0; n < s->count; n++) {
            int32_t at = n - s->lag[n] - k;
            if (s->inside || first + at >= 0) add_at(now, type, at, part[n]);
        }
    }
}

INLINE void read_piece(const struct job *job, int64_t index, int64_t type, int neighbors) {
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE;
    const int64_t last = from + PIECE < job->samples ? from + PIECE : job->samples;
    const char *x = (const char *)job->x + row * job->samples * type;
    char *y = (char *)job->y + row * job->samples * type;
    const double *delay = delay_of(job, row);
    struct stretch s;
    double value[STRETCH], slope[STRETCH];
    for (int64_t first = from; first < last; first += STRETCH) {
        find(&s, delay, first, last, neighbors);
        if (s.inside) read_stretch(&s, x, type, neighbors, 0, value, slope);
        else read_stretch(&s, x, type, neighbors, 1, value, slope);
        for (int64_t n = 0; n < s.count; n++) {
            if (type == 4) ((float *)y)[first + n] = (float)value[n];
            else ((double *)y)[first + n] = value[n];
        }
    }
}

INLINE void read_back(const struct job *job, int64_t row, int64_t type, int neighbors) {
    const int64_t offset = row * job->samples;
    const char *x = (const char *)job->x + offset * type, *grad = (const char *)job->grad + offset * type;
    char *by_x = job->grad_x ? (char *)job->grad_x + offset * type : NULL;
    double *by_delay = job->grad_delay ? job->grad_delay + offset : NULL;
    const double *delay = delay_of(job, row);
    struct stretch s;
    double g[STRETCH], value[STRETCH], slope[STRETCH];
    if (by_x) memset(by_x, 0, job->samples * type);
    for (int64_t first = 0; first < job->samples; first += STRETCH) {
        find(&s, delay, first, job->samples, neighbors);
        for (int64_t n = 0; n < s.count; n++) g[n] = sample_at(grad, type, first + n);
        if (by_x) scatter_stretch(&s, by_x, type, neighbors, g);
        if (!by_delay) continue;
        if (s.inside) read_stretch(&s, x, type, neighbors, 0, value, slope);
        else read_stretch(&s, x, type, neighbors, 1, value, slope);
        for (int64_t n = 0; n < s.count; n++) by_delay[first + n] = delay[first + n] < 0.0 ? 0.0 : g[n] * slope[n];
    }
}

/* One copy of the code for each type and number of neighbors. */
#define DISPATCH(name, task)                                          \
    static void task(void *job_, int64_t index) {                     \
        const struct job *job = job_;                                 \
        if (job->type == 4 && job->neighbors == 4) name(job, index, 4, 4);      \
        else if (job->type == 4) name(job, index, 4, 2);              \
        else if (job->neighbors == 4) name(job, index, 8, 4);         \
        else name(job, index, 8, 2);                                  \
    }
DISPATCH(read_piece, read_task)
DISPATCH(read_back, back_task)

/* `samples` must be below 2^31 - STRETCH. */
int difffx_delay_line(int64_t items, int64_t channels, int64_t samples, int64_t delay_items, int64_t delay_channels,
                      int64_t type, int64_t neighbors, const void *x, const double *delay, void *y, int64_t threads) {
    const int64_t pieces = (samples + PIECE - 1) / PIECE;
    struct job job = {.items = items, .channels = channels, .samples = samples, .pieces = pieces, .type = type,
                      .neighbors = neighbors, .delay_items = delay_items, .delay_channels = delay_channels,
                      .x = x, .delay = delay, .y = y};
    fan_out(read_task, &job, items * channels * pieces, threads_for(items * channels * samples, threads));
    return 0;
}

int difffx_delay_line_backward(int64_t items, int64_t channels, int64_t samples, int64_t delay_items,
                               int64_t delay_channels, int64_t type, int64_t neighbors, const void *x,
                               const double *delay, const void *grad, void *grad_x, double *grad_delay,
                               int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .type = type,
                      .neighbors = neighbors, .delay_items = delay_items, .delay_channels = delay_channels,
                      .x = x, .delay = delay, .grad = grad, .grad_x = grad_x, .grad_delay = grad_delay};
    fan_out(back_task, &job, items * channels, threads_for(items * channels * samples, threads));
    return 0;
}
