/* Schroeder's all-passes in a row, one gain for all, forward and back. */

#include "past.h"

struct job {
    int64_t rows, samples, type, stages, all; /* of the lengths of all rings */
    const int64_t *lengths; /* [stages], not longer than the audio */
    const void *x, *grad;   /* [rows, samples] */
    const double *gain;     /* [rows] */
    void *y, *grad_x;       /* like x */
    double *rings;          /* [rows, all], in which a row's begin from silence and are left as they are at its end */
    double *grad_gain;      /* [rows] */
    int failed;
};

/* v[n] = x[n] + gain v[n - length] -> v[n - length] - gain v[n], in place. */
INLINE void pass(double *restrict ring, double *restrict x, double gain, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        double early = ring[n], v = x[n] + gain * early;
        ring[n] = v;
        x[n] = early - gain * v;
    }
}

static void forward_task(void *argument, int64_t row) {
    struct job *job = argument;
    const int64_t samples = job->samples;
    const double gain = job->gain[row];
    double now[STRETCH], *rings = job->rings + row * job->all;
    memset(rings, 0, job->all * sizeof(double));
    for (int64_t first = 0; first < samples; first += STRETCH) {
        const int64_t count = samples - first < STRETCH ? samples - first : STRETCH;
        double *ring = rings;
        load_stretch(now, job->x, job->type, row * samples + first, count);
        for (int64_t i = 0; i < job->stages; ring += job->lengths[i++]) {
            const int64_t length = job->lengths[i];
            int64_t at = first % length;
            for (int64_t a = 0, step; a < count; a += step, at = 0) {
                step = count - a < length - at ? count - a : length - at;
                pass(ring + at, now + a, gain, step);
            }
        }
        store_stretch(now, job->y, job->type, row * samples + first, count);
    }
}

/* From an all-pass's output back to its input, which is the stable direction on reversed time, and from the gradient
at its output to the one at its input. */
INLINE void pass_back(double *ring, double *late, double *y, double *grad, double gain, int64_t count, vec *by_gain) {
    vec sum = *by_gain;
    int64_t n = 0;
    for (; n + 4 <= count; n += 4) {
        vec v = wide(ring + n), early = wide(y + n) + gain * v;
        vec later = wide(late + n), at_output = wide(grad + n), a = at_output + gain * later;
        vec at_input = later - gain * a;
        sum += at_input * early - at_output * v;
        put(ring + n, early);
        put(y + n, v - gain * early);
        put(late + n, a);
        put(grad + n, at_input);
    }
    for (; n < count; n++) {
        double v = ring[n], early = y[n] + gain * v, later = late[n], a = grad[n] + gain * later;
        double at_input = later - gain * a;
        sum[0] += at_input * early - grad[n] * v;
        ring[n] = early;
        y[n] = v - gain * early;
        late[n] = a;
        grad[n] = at_input;
    }
    *by_gain = sum;
}

static void backward_task(void *argument, int64_t row) {
    struct job *job = argument;
    const int64_t samples = job->samples;
    const double gain = job->gain[row];
    double y[STRETCH], grad[STRETCH], *rings = malloc(2 * job->all * sizeof(double)), *late = rings + job->all;
    vec by_gain = splat(0.0);
    if (!rings) {
        job->failed = 1;
        return;
    }
    memcpy(rings, job->rings + row * job->all, job->all * sizeof(double));
    memset(late, 0, job->all * sizeof(double));
    for (int64_t last = samples; last > 0; last -= STRETCH) {
        const int64_t count = last < STRETCH ? last : STRETCH, first = last - count;
        int64_t ring = job->all;
        load_stretch(y, job->y, job->type, row * samples + first, count);
        load_stretch(grad, job->grad, job->type, row * samples + first, count);
        for (int64_t i = job->stages - 1; i >= 0; i--) {
            const int64_t length = job->lengths[i];
            int64_t end = (last - 1) % length + 1;
            ring -= length;
            for (int64_t a = count, step; a > 0; a -= step, end = length) {
                step = a < end ? a : end;
                pass_back(rings + ring + end - step, late + ring + end - step, y + a - step, grad + a - step, gain,
                          step, &by_gain);
            }
        }
        if (job->grad_x) store_stretch(grad, job->grad_x, job->type, row * samples + first, count);
    }
    job->grad_gain[row] = sum_of(by_gain);
    free(rings);
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    for (int64_t i = 0; i < job->stages; i++) job->all += job->lengths[i];
    fan_out(task, job, job->rows, threads_for(job->rows * job->samples * job->stages, threads));
    return job->failed;
}

/* x, y, grad and grad_x of `type`, the rest in double precision. */
int difffx_schroeder(int64_t rows, int64_t samples, int64_t type, int64_t stages, const int64_t *lengths, const void *x,
                     const double *gain, void *y, double *rings, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .type = type, .stages = stages, .lengths = lengths, .x = x,
                      .gain = gain, .y = y, .rings = rings};
    return run_job(&job, forward_task, threads);
}

int difffx_schroeder_backward(int64_t rows, int64_t samples, int64_t type, int64_t stages, const int64_t *lengths,
                              const double *gain, const void *y, const double *rings, const void *grad, void *grad_x,
                              double *grad_gain, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .type = type, .stages = stages, .lengths = lengths,
                      .gain = gain, .y = (void *)y, .rings = (double *)rings, .grad = grad, .grad_x = grad_x,
                      .grad_gain = grad_gain};
    return run_job(&job, backward_task, threads);
}
