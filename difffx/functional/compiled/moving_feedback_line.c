/* A delay line that hears itself at a place that moves, forward and back. */

#include "past.h"

struct job {
    int64_t items, channels, samples, type, taps;
    int64_t delay_items, delay_channels; /* of the delay: as many, or one for all */
    const void *x, *grad;                /* [items, channels, samples] */
    const double *delay;                 /* [delay_items, delay_channels, samples] */
    const double *feedback;              /* [items, channels] */
    void *y, *grad_x;                    /* like x; grad_x may be null */
    void *entered;                       /* like x, what enters the line; may be null on the way there */
    double *grad_delay, *grad_feedback;  /* shapes of x and feedback: sums over what shares a delay are left to do */
    int failed;
};

static const double *delay_of(const struct job *job, int64_t row) {
    int64_t item = row / job->channels % job->delay_items, channel = row % job->channels % job->delay_channels;
    return job->delay + (item * job->delay_channels + channel) * job->samples;
}

/* Samples from any to its farthest neighbor, at most; what lies before the first sample of the row is silence. */
static int64_t reach_of(const double *delay, int64_t samples, int taps) {
    vec most = splat(2.0);
    int64_t n = 0;
    for (; n + 4 <= samples; n += 4) most = choose(wide(delay + n) > most, wide(delay + n), most);
    for (; n < samples; n++) most[0] = delay[n] > most[0] ? delay[n] : most[0];
    for (int l = 1; l < LANES; l++) most[0] = most[l] > most[0] ? most[l] : most[0];
    return (most[0] < samples ? (int64_t)most[0] : samples) + taps;
}

/* Where a stretch is read, in a past of `reach` samples. */
INLINE void find_back(struct stretch *s, const double *delay, int64_t first, int64_t count, int64_t reach, int taps) {
    const int32_t farthest = (int32_t)(reach - taps + 1);
    double held[STRETCH];
    for (int64_t n = 0; n < count; n++) held[n] = delay[first + n] < 2.0 ? 2.0 : delay[first + n];
    find(s, held, first, count, taps);
    for (int64_t n = 0; n < count; n++) s->lag[n] = s->lag[n] < farthest ? s->lag[n] : farthest;
}

/* The values of samples `from` to `to`. */
INLINE void read_past(const struct stretch *s, const double *now, int64_t from, int64_t to, int taps, double *value) {
    double t[NEIGHBORS][STRETCH], slope;
    int64_t n = from;
    for (; taps == 4 && n + 4 <= to; n += 4) {
        vec seen[4];
        for (int l = 0; l < 4; l++) seen[l] = wide(now + n + l - s->lag[n + l] - 3);
        transpose(seen, seen + 1, seen + 2, seen + 3);
        for (int k = 0; k < 4; k++) put(t[k] + n, seen[3 - k]);
    }
    for (; n < to; n++)
        for (int k = 0; k < taps; k++) t[k][n] = now[n - s->lag[n] - k];
    for (n = from; n < to; n++) {
        const double here[NEIGHBORS] = {t[0][n], t[1][n], t[taps - 2][n], t[taps - 1][n]};
        value[n] = value_of(here, s->place[n], taps, &slope);
    }
}

INLINE void forward_row(struct job *job, int64_t row, int64_t type, int taps) {
    const int64_t samples = job->samples, offset = row * samples * type;
    const char *x = (const char *)job->x + offset;
    char *y = (char *)job->y + offset, *entered = job->entered ? (char *)job->entered + offset : NULL;
    const double *delay = delay_of(job, row), feedback = job->feedback[row];
    double in[STRETCH], left[STRETCH];
    struct stretch s;
    struct past past;
    if (!open_past(&past, reach_of(delay, samples, taps))) {
        job->failed = 1;
        return;
    }
    for (int64_t first = 0; first < samples; first += STRETCH) {
        const int64_t count = samples - first < STRETCH ? samples - first : STRETCH;
        load_stretch(in, x, type, first, count);
        find_back(&s, delay, first, count, past.reach, taps);
        make_room(&past);
        for (int64_t from = 0, to = 0; from < count; from = to) {
            while (to < count && to - s.lag[to] < from) to++; /* they hear nothing that is still to be written */
            read_past(&s, past.now, from, to, taps, left);
            for (int64_t n = from; n < to; n++) past.now[n] = in[n] + feedback * left[n];
        }
        store_stretch(left, y, type, first, count);
        if (entered) store_stretch(past.now, entered, type, first, count);
        past.now += count;
    }
    free(past.samples);
}

/* What is to come of a row on its way back: gradients at the line's input, from sample `first` on. */
struct future {
    double *samples;
    int64_t first, reach, room;
};

static int open_future(struct future *future, int64_t last, int64_t reach) {
    future->reach = reach;
    future->room = 2 * reach + 8 * STRETCH;
    future->first = last - future->room;
    future->samples = calloc(future->room, sizeof(double));
    return future->samples != NULL;
}

/* Room before the stretch that begins at sample `at` for all that it reaches; returns where it begins. */
INLINE double *at_input_of(struct future *future, int64_t at, int64_t count) {
    if (at - future->reach < future->first) {
        const int64_t live = at + count - future->first, shift = future->room - live;
        memmove(future->samples + shift, future->samples, live * sizeof(double));
        memset(future->samples, 0, shift * sizeof(double));
        future->first -= shift;
    }
    return future->samples + (at - future->first);
}

/* From what leaves the line at `from` to `to` to what entered it. Neighbor after neighbor, for the next sample adds to
almost the same places. */
INLINE void scatter(double *at_input, const double *at_output, double (*weights)[STRETCH], const int32_t *lag,
                    int64_t from, int64_t to, int taps) {
    for (int k = 0; k < taps; k++)
        for (int64_t n = from; n < to; n++) at_input[n - lag[n] - k] += weights[k][n] * at_output[n];
}

INLINE void backward_row(struct job *job, int64_t row, int64_t type, int taps) {
    const int64_t samples = job->samples, offset = row * samples;
    const char *grad = (const char *)job->grad + offset * type, *entered = (const char *)job->entered + offset * type;
    const double *delay = delay_of(job, row), feedback = job->feedback[row];
    double out[STRETCH], weights[NEIGHBORS][STRETCH], value[STRETCH], slope[STRETCH];
    vec by_feedback = splat(0.0);
    struct stretch s;
    struct future future;
    const int64_t reach = reach_of(delay, samples, taps);
    if (!open_future(&future, samples, reach)) {
        job->failed = 1;
        return;
    }
    for (int64_t last = samples; last > 0; last -= STRETCH) {
        const int64_t count = last < STRETCH ? last : STRETCH, first = last - count;
        double *at_input = at_input_of(&future, first, count);
        load_stretch(out, grad, type, first, count);
        find_back(&s, delay, first, count, reach, taps);
        for (int k = 0; k < taps; k++)
            for (int64_t n = 0; n < count; n++) weights[k][n] = weight_of(k, s.place[n], taps);
        for (int64_t to = count, from; to > 0; to = from) {
            int64_t latest = to - 1 - s.lag[to - 1]; /* what these reach must be before them */
            for (from = to - 1; from > 0; from--) {
                const int64_t next = from - 1 - s.lag[from - 1];
                latest = next > latest ? next : latest;
                if (latest >= from - 1) break;
            }
            for (int64_t n = from; n < to; n++) out[n] += feedback * at_input[n];
            scatter(at_input, out, weights, s.lag, from, to, taps);
        }
        if (job->grad_x) store_stretch(at_input, (char *)job->grad_x + offset * type, type, first, count);
        read_stretch(&s, entered, type, taps, value, slope);
        int64_t n = 0;
        for (; n + 4 <= count; n += 4) by_feedback += wide(at_input + n) * wide(value + n);
        for (; n < count; n++) by_feedback[0] += at_input[n] * value[n];
        for (n = 0; n < count; n++)
            job->grad_delay[offset + first + n] = delay[first + n] < 2.0 ? 0.0 : out[n] * slope[n];
    }
    free(future.samples);
    job->grad_feedback[row] = sum_of(by_feedback);
}

/* One copy of the code for each type and number of neighbors. */
#define DISPATCH(name, task)                                                \
    static void task(void *argument, int64_t row) {                         \
        struct job *job = argument;                                         \
        if (job->type == 4 && job->taps == 4) name(job, row, 4, 4);         \
        else if (job->type == 4) name(job, row, 4, 2);                      \
        else if (job->taps == 4) name(job, row, 8, 4);                      \
        else name(job, row, 8, 2);                                          \
    }
DISPATCH(forward_row, forward_task)
DISPATCH(backward_row, backward_task)

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    const int64_t rows = job->items * job->channels;
    fan_out(task, job, rows, threads_for(rows * job->samples, threads));
    return job->failed;
}

/* x, y, entered, grad and grad_x of `type`, the rest in double precision; `samples` must be below 2^31 - STRETCH. */
int difffx_moving_feedback_line(int64_t items, int64_t channels, int64_t samples, int64_t delay_items,
                                int64_t delay_channels, int64_t type, int64_t taps, const void *x, const double *delay,
                                const double *feedback, void *y, void *entered, int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .type = type, .taps = taps,
                      .delay_items = delay_items, .delay_channels = delay_channels, .x = x, .delay = delay,
                      .feedback = feedback, .y = y, .entered = entered};
    return run_job(&job, forward_task, threads);
}

int difffx_moving_feedback_line_backward(int64_t items, int64_t channels, int64_t samples, int64_t delay_items,
                                         int64_t delay_channels, int64_t type, int64_t taps, const double *delay,
                                         const double *feedback, const void *entered, const void *grad, void *grad_x,
                                         double *grad_delay, double *grad_feedback, int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .type = type, .taps = taps,
                      .delay_items = delay_items, .delay_channels = delay_channels, .delay = delay,
                      .feedback = feedback, .entered = (void *)entered, .grad = grad, .grad_x = grad_x,
                      .grad_delay = grad_delay, .grad_feedback = grad_feedback};
    return run_job(&job, backward_task, threads);
}
