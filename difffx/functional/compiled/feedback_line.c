/* Delay lines, and those that hear themselves, a row each, forward and back: a line that does not move is its own
adjoint on reversed time, where it is entered at its output. */

#include "past.h"

#define TAPS 4
#define SOON 8 /* lines that hear themselves sooner go sample by sample */

struct job {
    int64_t rows, samples, type, taps;
    const void *x, *grad;    /* [rows, samples] */
    const int64_t *start;    /* [rows], the delay of the nearest neighbor */
    const double *weights;   /* [rows, taps], of it and of those before it */
    const double *feedback;  /* [rows]; null: the lines do not hear themselves */
    const double *pole;      /* [rows], of the low-pass in the way back; may be null */
    void *y, *grad_x;        /* like x; grad_x may be null */
    void *entered;           /* like x, what enters the line; null where no gradients to settings are wanted */
    double *sums;            /* [rows, taps + 2], gradients to weights, feedback and pole */
    int failed;
};

struct line {
    struct past past; /* what entered */
    int64_t start;
    int looped, damped;
    double weights[TAPS], feedback, pass;
    struct one_pole pole;
};

static int open_line(struct line *line, const struct job *job, int64_t row) {
    int64_t start = job->start[row], longest = job->samples;
    line->looped = job->feedback != NULL;
    line->start = start < line->looped ? line->looped : start > longest ? longest : start;
    for (int64_t k = 0; k < TAPS; k++) line->weights[k] = k < job->taps ? job->weights[row * job->taps + k] : 0.0;
    line->feedback = line->looped ? job->feedback[row] : 0.0;
    line->damped = job->pole != NULL;
    line->pass = line->damped ? 1.0 - job->pole[row] : 1.0;
    line->pole = start_pole(line->damped ? job->pole[row] : 0.0);
    return open_past(&line->past, line->start + job->taps - 1);
}

INLINE void damp(struct line *line, const double *left, double *returned, int64_t count) {
    struct one_pole pole = line->pole;
    int64_t n = 0;
    for (; n + 4 <= count; n += 4) put(returned + n, smooth(&pole, line->pass * wide(left + n)));
    for (; n < count; n++) returned[n] = smooth_one(&pole, line->pass * left[n]);
    line->pole = pole;
}

INLINE void run_soon(struct line *line, const double *x, int64_t count, double *left, double *returned, int taps) {
    double *now = line->past.now, state = line->pole.state[0];
    const double pole = line->pole.pole[0];
    for (int64_t n = 0; n < count; n++) {
        const double *seen = now + n - line->start;
        double sum = 0.0; /* the latest last: it is waited for */
        for (int k = taps - 1; k >= 0; k--) sum += line->weights[k] * seen[-k];
        left[n] = sum;
        returned[n] = state = line->pass * sum + pole * state;
        now[n] = x[n] + line->feedback * state;
    }
    line->pole.state = splat(state);
}

INLINE void read_line(const double *restrict seen, const double *weights, int64_t count, double *restrict left, int taps) {
    const double w[TAPS] = {weights[0], weights[1], weights[2], weights[3]};
    for (int64_t n = 0; n < count; n++) {
        double sum = w[0] * seen[n];
        for (int k = 1; k < taps; k++) sum += w[k] * seen[n - k];
        left[n] = sum;
    }
}

/* As long as the line does not hear what is written. */
INLINE void run_step(struct line *line, const double *restrict x, int64_t count, double *restrict left,
                     double *restrict returned, int taps) {
    double *restrict now = line->past.now;
    const double *back = left, feedback = line->feedback;
    read_line(now - line->start, line->weights, count, left, taps);
    if (line->damped) {
        damp(line, left, returned, count);
        back = returned;
    }
    for (int64_t n = 0; n < count; n++) now[n] = x[n] + feedback * back[n];
}

/* A stretch of input -> what left the line and what came back to its input; what entered lies before `now`. Where
nothing is damped, the former is the latter, and `returned` is not written. */
INLINE void run_line(struct line *line, const double *x, int64_t count, double *left, double *returned, int taps) {
    make_room(&line->past);
    if (!line->looped) {
        memcpy(line->past.now, x, count * sizeof(double));
        read_line(line->past.now - line->start, line->weights, count, left, taps);
        line->past.now += count;
        return;
    }
    if (line->start < SOON) {
        run_soon(line, x, count, left, returned, taps);
        line->past.now += count;
        return;
    }
    for (int64_t a = 0, step; a < count; a += step) {
        step = count - a < line->start ? count - a : line->start;
        run_step(line, x + a, step, left + a, returned + a, taps);
        line->past.now += step;
    }
}

INLINE void forward_row(struct job *job, int64_t row, int64_t type, int taps) {
    const int64_t samples = job->samples, offset = row * samples * type;
    const char *x = (const char *)job->x + offset;
    char *y = (char *)job->y + offset, *entered = job->entered ? (char *)job->entered + offset : NULL;
    double in[STRETCH], left[STRETCH], returned[STRETCH];
    struct line line;
    if (!open_line(&line, job, row)) {
        job->failed = 1;
        return;
    }
    for (int64_t first = 0; first < samples; first += STRETCH) {
        const int64_t count = samples - first < STRETCH ? samples - first : STRETCH;
        load_stretch(in, x, type, first, count);
        run_line(&line, in, count, left, returned, taps);
        store_stretch(left, y, type, first, count);
        if (entered) store_stretch(line.past.now - count, entered, type, first, count);
    }
    free(line.past.samples);
}

/* What the gradients to the settings are made of. */
struct sums {
    vec weights[TAPS], feedback, pole;
};

/* Adds a stretch: the gradients at the line's output and, behind the low-pass, at its input, against what entered.
Stretches end in zeros up to a multiple of four. */
INLINE void add_up(struct sums *sums, const double *at_output, const double *damped, const double *seen,
                   const double *weights, int64_t count, int taps) {
    for (int64_t n = 0; n < count; n += 4) {
        vec out = wide(at_output + n), left = splat(0.0);
        for (int k = 0; k < taps; k++) {
            vec tap = wide(seen + n + taps - 1 - k);
            sums->weights[k] += out * tap;
            left += weights[k] * tap;
        }
        sums->feedback += wide(damped + n) * left;
    }
}

/* The same for the pole: against what came back a sample earlier, times the feedback. */
INLINE void add_up_pole(const struct job *job, int64_t row, int64_t type, int64_t first, int64_t count,
                        const double *damped, struct sums *sums) {
    const int64_t offset = row * job->samples * type;
    double entered[STRETCH + 4], x[STRETCH + 4];
    load_or_zero(entered, (const char *)job->entered + offset, type, first - 1, count);
    load_or_zero(x, (const char *)job->x + offset, type, first - 1, count);
    end_in_zeros(entered, count);
    end_in_zeros(x, count);
    for (int64_t n = 0; n < count; n += 4) sums->pole += wide(damped + n) * (wide(entered + n) - wide(x + n));
}

INLINE void backward_row(struct job *job, int64_t row, int64_t type, int taps) {
    const int64_t samples = job->samples, offset = row * samples * type;
    const char *grad = (const char *)job->grad + offset, *entered = (const char *)job->entered + offset;
    char *grad_x = job->grad_x ? (char *)job->grad_x + offset : NULL;
    double in[STRETCH], at_input[STRETCH], damped[STRETCH], forth[STRETCH];
    double out[STRETCH + 4], back[STRETCH + 4], seen[STRETCH + TAPS + 4];
    struct line line;
    struct sums sums = {0};
    if (!open_line(&line, job, row)) {
        job->failed = 1;
        return;
    }
    for (int64_t last = samples; last > 0; last -= STRETCH) {
        const int64_t count = last < STRETCH ? last : STRETCH, first = last - count;
        load_stretch(forth, grad, type, first, count);
        flip(forth, in, count);
        run_line(&line, in, count, at_input, damped, taps);
        if (grad_x) {
            flip(at_input, forth, count);
            store_stretch(forth, grad_x, type, first, count);
        }
        if (!job->entered) continue;
        flip(line.past.now - count, out, count);
        flip(line.damped ? damped : at_input, back, count);
        load_or_zero(seen, entered, type, first - line.start - taps + 1, count + taps - 1);
        end_in_zeros(out, count);
        end_in_zeros(back, count);
        end_in_zeros(seen, count + taps - 1);
        add_up(&sums, out, back, seen, line.weights, count, taps);
        if (line.damped) add_up_pole(job, row, type, first, count, back, &sums);
    }
    free(line.past.samples);
    if (!job->entered) return;
    double *to = job->sums + row * (taps + 2), by_feedback = sum_of(sums.feedback);
    for (int k = 0; k < taps; k++) to[k] = sum_of(sums.weights[k]);
    to[taps] = by_feedback;
    to[taps + 1] = line.damped ? (sum_of(sums.pole) - line.feedback * by_feedback) / line.pass : 0.0;
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
    fan_out(task, job, job->rows, threads_for(job->rows * job->samples, threads));
    return job->failed;
}

/* x, y, entered, grad and grad_x of `type`, the rest in double precision. */
int difffx_feedback_line(int64_t rows, int64_t samples, int64_t type, int64_t taps, const void *x, const int64_t *start,
                         const double *weights, const double *feedback, const double *pole, void *y, void *entered,
                         int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .type = type, .taps = taps, .x = x, .start = start,
                      .weights = weights, .feedback = feedback, .pole = pole, .y = y, .entered = entered};
    return run_job(&job, forward_task, threads);
}

int difffx_feedback_line_backward(int64_t rows, int64_t samples, int64_t type, int64_t taps, const void *x,
                                  const int64_t *start, const double *weights, const double *feedback,
                                  const double *pole, const void *entered, const void *grad, void *grad_x,
                                  double *sums, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .type = type, .taps = taps, .x = x, .start = start,
                      .weights = weights, .feedback = feedback, .pole = pole, .entered = (void *)entered,
                      .grad = grad, .grad_x = grad_x, .sums = sums};
    return run_job(&job, backward_task, threads);
}
