/* Combs with a low-pass in their loops, several added, forward and back. */

#include "past.h"

struct job {
    int64_t items, channels, sides, combs, samples, type;
    const int64_t *delays; /* [sides, combs] */
    const void *x, *grad;  /* [items, 1 or sides, samples], [items, sides, samples] */
    const double *gains, *levels; /* [items, sides, combs] */
    const double *pole;           /* [items] */
    void *y, *grad_x;             /* [items, sides, samples]: what mono is to both is left to add */
    double *grad_gains, *grad_levels, *grad_pole; /* the last [items, sides] */
    int failed;
};

/* One comb: what it sends around takes the place of what comes back. */
struct comb {
    int64_t length, at;
    double *ring, *ring2, gain, level;
    double state, state2; /* of the low-pass */
    vec by_gain, by_level;
};

/* Both with `rings` for each comb; null where there is no room. */
static struct comb *open_combs(const struct job *job, int64_t index, int rings) {
    const int64_t count = job->combs, *delays = job->delays + index % job->sides * count;
    int64_t all = 0;
    for (int64_t i = 0; i < count; i++) all += delays[i] < job->samples ? delays[i] : job->samples;
    struct comb *combs = aligned_alloc(64, (count * sizeof *combs + 63) / 64 * 64);
    double *ring = calloc(rings * all, sizeof(double));
    if (!combs || !ring) {
        free(combs);
        free(ring);
        return NULL;
    }
    memset(combs, 0, count * sizeof *combs);
    for (int64_t i = 0; i < count; i++) {
        /* Not longer than the audio: it would not be heard again. */
        combs[i].length = delays[i] < job->samples ? delays[i] : job->samples;
        combs[i].ring = ring;
        combs[i].ring2 = ring + combs[i].length;
        combs[i].gain = job->gains[index * count + i];
        combs[i].level = job->levels[index * count + i];
        ring += rings * combs[i].length;
    }
    return combs;
}

static void close_combs(struct comb *combs) {
    free(combs->ring);
    free(combs);
}

INLINE void sound(struct comb *comb, struct one_pole pole, double pass, const double *in, double *out, int64_t count) {
    const double scale = comb->gain * pass, level = comb->level;
    pole.state = splat(comb->state);
    for (int64_t a = 0, step; a < count; a += step) {
        double *ring = comb->ring + comb->at;
        step = count - a < comb->length - comb->at ? count - a : comb->length - comb->at;
        int64_t n = 0;
        for (; n + 4 <= step; n += 4) {
            vec back = smooth(&pole, scale * wide(ring + n));
            put(ring + n, wide(in + a + n) + back);
            put(out + a + n, wide(out + a + n) + level * back);
        }
        for (; n < step; n++) {
            double back = smooth_one(&pole, scale * ring[n]);
            ring[n] = in[a + n] + back;
            out[a + n] += level * back;
        }
        comb->at = comb->at + step == comb->length ? 0 : comb->at + step;
    }
    comb->state = pole.state[0];
}

static void forward_task(void *argument, int64_t index) {
    struct job *job = argument;
    const int64_t samples = job->samples, row = index / job->sides * job->channels + index % job->channels;
    const double p = job->pole[index / job->sides];
    double in[STRETCH], out[STRETCH];
    struct comb *combs = open_combs(job, index, 1);
    if (!combs) {
        job->failed = 1;
        return;
    }
    for (int64_t first = 0; first < samples; first += STRETCH) {
        const int64_t count = samples - first < STRETCH ? samples - first : STRETCH;
        load_stretch(in, job->x, job->type, row * samples + first, count);
        memset(out, 0, sizeof out);
        for (int64_t i = 0; i < job->combs; i++) sound(combs + i, start_pole(p), 1.0 - p, in, out, count);
        store_stretch(out, job->y, job->type, index * samples + first, count);
    }
    close_combs(combs);
}

/* The way back needs nothing but the input. With D for the delay and the low-pass, a comb is g D / (1 - g D), to whose
gain the gradient is D / (1 - g D)^2: the transposed comb twice, then against the input. To the pole it is that with one
more filter, the same for all combs: (z - 1) / ((1 - p) (1 - p z)), z a sample of delay.
All of it on reversed time. `by_x` gathers what is to x, `by_gains` what is to the gains, times level and gain. */
INLINE void sound_back(struct comb *comb, struct one_pole pole, double pass, const double *x, const double *grad,
                       double *by_x, double *by_gains, int64_t count) {
    const double gain = comb->gain, share = comb->level * gain;
    struct one_pole pole2 = pole;
    vec by_gain = comb->by_gain, by_level = comb->by_level;
    pole.state = splat(comb->state);
    pole2.state = splat(comb->state2);
    for (int64_t a = 0, step; a < count; a += step) {
        double *ring = comb->ring + comb->at, *ring2 = comb->ring2 + comb->at;
        step = count - a < comb->length - comb->at ? count - a : comb->length - comb->at;
        int64_t n = 0;
        for (; n + 4 <= step; n += 4) {
            vec once = wide(ring + n), twice = wide(ring2 + n), input = wide(x + a + n);
            vec around = wide(grad + a + n) + gain * once;
            put(ring + n, smooth(&pole, pass * around));
            put(ring2 + n, smooth(&pole2, pass * (around + gain * twice)));
            put(by_x + a + n, wide(by_x + a + n) + share * once);
            put(by_gains + a + n, wide(by_gains + a + n) + share * twice);
            by_level += input * once;
            by_gain += input * twice;
        }
        for (; n < step; n++) {
            double once = ring[n], twice = ring2[n], around = grad[a + n] + gain * once;
            ring[n] = smooth_one(&pole, pass * around);
            ring2[n] = smooth_one(&pole2, pass * (around + gain * twice));
            by_x[a + n] += share * once;
            by_gains[a + n] += share * twice;
            by_level[0] += x[a + n] * once;
            by_gain[0] += x[a + n] * twice;
        }
        comb->at = comb->at + step == comb->length ? 0 : comb->at + step;
    }
    comb->state = pole.state[0];
    comb->state2 = pole2.state[0];
    comb->by_gain = by_gain;
    comb->by_level = by_level;
}

static void backward_task(void *argument, int64_t index) {
    struct job *job = argument;
    const int64_t samples = job->samples, row = index / job->sides * job->channels + index % job->channels;
    const double p = job->pole[index / job->sides];
    double x[STRETCH + 4], grad[STRETCH], by_x[STRETCH], by_gains[STRETCH + 4], forth[STRETCH];
    double filtered[1 + STRETCH + 4] = {0.0};
    vec by_pole = splat(0.0);
    struct one_pole last_pole = start_pole(p);
    struct comb *combs = open_combs(job, index, 2);
    if (!combs) {
        job->failed = 1;
        return;
    }
    for (int64_t last = samples; last > 0; last -= STRETCH) {
        const int64_t count = last < STRETCH ? last : STRETCH, first = last - count;
        load_stretch(forth, job->x, job->type, row * samples + first, count);
        flip(forth, x, count);
        load_stretch(forth, job->grad, job->type, index * samples + first, count);
        flip(forth, grad, count);
        memset(by_x, 0, sizeof by_x);
        memset(by_gains, 0, sizeof by_gains);
        for (int64_t i = 0; i < job->combs; i++)
            sound_back(combs + i, start_pole(p), 1.0 - p, x, grad, by_x, by_gains, count);
        end_in_zeros(x, count);
        for (int64_t n = 0; n < count; n += 4) { /* only the last stretch has no whole number of fours */
            put(filtered + 1 + n, smooth(&last_pole, wide(by_gains + n)));
            by_pole += wide(x + n) * (wide(filtered + n) - wide(filtered + 1 + n));
        }
        filtered[0] = filtered[count];
        flip(by_x, forth, count);
        store_stretch(forth, job->grad_x, job->type, index * samples + first, count);
    }
    for (int64_t i = 0; i < job->combs; i++) {
        job->grad_gains[index * job->combs + i] = combs[i].level * sum_of(combs[i].by_gain);
        job->grad_levels[index * job->combs + i] = combs[i].gain * sum_of(combs[i].by_level);
    }
    job->grad_pole[index] = sum_of(by_pole) / (1.0 - p);
    close_combs(combs);
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    const int64_t rows = job->items * job->sides;
    fan_out(task, job, rows, threads_for(rows * job->combs * job->samples, threads));
    return job->failed;
}

/* x, y, grad and grad_x of `type`, the rest in double precision. */
int difffx_combs(int64_t items, int64_t channels, int64_t sides, int64_t combs, int64_t samples, int64_t type,
                 const int64_t *delays, const void *x, const double *gains, const double *levels, const double *pole,
                 void *y, int64_t threads) {
    struct job job = {.items = items, .channels = channels, .sides = sides, .combs = combs, .samples = samples,
                      .type = type, .delays = delays, .x = x, .gains = gains, .levels = levels, .pole = pole, .y = y};
    return run_job(&job, forward_task, threads);
}

int difffx_combs_backward(int64_t items, int64_t channels, int64_t sides, int64_t combs, int64_t samples, int64_t type,
                          const int64_t *delays, const void *x, const double *gains, const double *levels,
                          const double *pole, const void *grad, void *grad_x, double *grad_gains, double *grad_levels,
                          double *grad_pole, int64_t threads) {
    struct job job = {.items = items, .channels = channels, .sides = sides, .combs = combs, .samples = samples,
                      .type = type, .delays = delays, .x = x, .gains = gains, .levels = levels, .pole = pole,
                      .grad = grad, .grad_x = grad_x, .grad_gains = grad_gains, .grad_levels = grad_levels,
                      .grad_pole = grad_pole};
    return run_job(&job, backward_task, threads);
}
