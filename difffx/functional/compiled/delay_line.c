/* A delay line read between its samples at a place that moves, forward and back. */

#include "reading.h"

struct job {
    int64_t items, channels, samples, pieces, type, neighbors;
    int64_t delay_items, delay_channels; /* of the delay: as many, or one for all */
    const void *x, *grad;                /* [items, channels, samples] */
    const double *delay;                 /* [delay_items, delay_channels, samples] */
    void *y, *grad_x;                    /* like x; grad_x may be null */
    double *grad_delay;                  /* shape of x: sums are left to do; may be null */
};

static const double *delay_of(const struct job *job, int64_t row) {
    int64_t item = row / job->channels % job->delay_items, channel = row % job->channels % job->delay_channels;
    return job->delay + (item * job->delay_channels + channel) * job->samples;
}

static void read_piece(void *argument, int64_t index) {
    const struct job *job = argument;
    const int64_t type = job->type;
    const int neighbors = (int)job->neighbors;
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE;
    const int64_t last = from + PIECE < job->samples ? from + PIECE : job->samples;
    const char *x = (const char *)job->x + row * job->samples * type;
    char *y = (char *)job->y + row * job->samples * type;
    const double *delay = delay_of(job, row);
    struct stretch s;
    double value[STRETCH], slope[STRETCH];
    for (int64_t first = from; first < last; first += STRETCH) {
        find(&s, delay + first, first, last - first < STRETCH ? last - first : STRETCH, neighbors);
        read_stretch(&s, x, type, neighbors, value, slope);
        for (int64_t n = 0; n < s.count; n++) put_at(y, type, first + n, value[n]);
    }
}

static void read_back(void *argument, int64_t row) {
    const struct job *job = argument;
    const int64_t type = job->type;
    const int neighbors = (int)job->neighbors;
    const int64_t offset = row * job->samples;
    const char *x = (const char *)job->x + offset * type, *grad = (const char *)job->grad + offset * type;
    char *by_x = job->grad_x ? (char *)job->grad_x + offset * type : NULL;
    double *by_delay = job->grad_delay ? job->grad_delay + offset : NULL;
    const double *delay = delay_of(job, row);
    struct stretch s;
    double g[STRETCH], value[STRETCH], slope[STRETCH];
    if (by_x) memset(by_x, 0, job->samples * type);
    for (int64_t first = 0; first < job->samples; first += STRETCH) {
        const int64_t left = job->samples - first;
        find(&s, delay + first, first, left < STRETCH ? left : STRETCH, neighbors);
        for (int64_t n = 0; n < s.count; n++) g[n] = sample_at(grad, type, first + n);
        if (by_x) scatter_stretch(&s, by_x, type, neighbors, g);
        if (!by_delay) continue;
        read_stretch(&s, x, type, neighbors, value, slope);
        for (int64_t n = 0; n < s.count; n++) by_delay[first + n] = delay[first + n] < 0.0 ? 0.0 : g[n] * slope[n];
    }
}

/* `samples` must be below 2^31 - STRETCH. */
int difffx_delay_line(int64_t items, int64_t channels, int64_t samples, int64_t delay_items, int64_t delay_channels,
                      int64_t type, int64_t neighbors, const void *x, const double *delay, void *y, int64_t threads) {
    const int64_t pieces = (samples + PIECE - 1) / PIECE;
    struct job job = {.items = items, .channels = channels, .samples = samples, .pieces = pieces, .type = type,
                      .neighbors = neighbors, .delay_items = delay_items, .delay_channels = delay_channels,
                      .x = x, .delay = delay, .y = y};
    fan_out(read_piece, &job, items * channels * pieces, threads_for(items * channels * samples, threads));
    return 0;
}

int difffx_delay_line_backward(int64_t items, int64_t channels, int64_t samples, int64_t delay_items,
                               int64_t delay_channels, int64_t type, int64_t neighbors, const void *x,
                               const double *delay, const void *grad, void *grad_x, double *grad_delay,
                               int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .type = type,
                      .neighbors = neighbors, .delay_items = delay_items, .delay_channels = delay_channels,
                      .x = x, .delay = delay, .grad = grad, .grad_x = grad_x, .grad_delay = grad_delay};
    fan_out(read_back, &job, items * channels, threads_for(items * channels * samples, threads));
    return 0;
}
