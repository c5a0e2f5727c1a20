/* A compressor that hears what left it a sample ago: the loop from level to reduction, forward and back. */

#include "lanes.h"

enum { ATTACK, RELEASE, GAIN, KNEE, SETTINGS };

struct job {
    int64_t rows, samples, groups, blocks, type;
    const double *settings; /* [rows, SETTINGS], poles for times, gain = ratio - 1 */
    const void *over, *grad; /* [rows, samples] */
    void *y, *grad_over;
    double *kept;           /* [groups, blocks, 2, LANES], level and reduction before each block; may be null */
    double *grad_settings;
};

struct loop {
    vec attack, release, gain, half, per_db;
    vec level, state; /* of the last sample: above the threshold as it came in, and the reduction */
};

static struct loop place(const struct job *job, int64_t group, struct lane *lanes) {
    struct loop loop = {.level = splat(-__builtin_inf()), .per_db = splat(1.0)};
    const int64_t first = first_of(job->rows, job->groups, group);
    for (int l = 0; l < count_of(job->rows, job->groups, group); l++) {
        const double *of = job->settings + (first + l) * SETTINGS;
        lanes[l] = (struct lane){(first + l) * job->samples, job->samples};
        loop.attack[l] = of[ATTACK];
        loop.release[l] = of[RELEASE];
        loop.gain[l] = of[GAIN];
        loop.half[l] = 0.5 * of[KNEE];
        loop.per_db[l] = 1.0 / (of[KNEE] > 1e-300 ? of[KNEE] : 1e-300);
    }
    return loop;
}

/* One sample on: what counts of the level of the last one, its slope in the bend, and the pole that was taken. */
INLINE vec step(struct loop *loop, vec next_level, vec *bend, vec *counting, vec *pole) {
    const vec zero = splat(0.0), over = loop->level - loop->state, ramp = (over + loop->half) * loop->per_db;
    const vec low = larger(zero, ramp);
    *bend = choose(low > 1.0, splat(1.0), low);
    *counting = loop->half * *bend * *bend + larger(zero, over - loop->half);
    const vec target = loop->gain * *counting;
    *pole = choose(target > loop->state, loop->attack, loop->release);
    loop->state = target + *pole * (loop->state - target);
    loop->level = next_level;
    return target;
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct lane lanes[LANES] = {{0}};
    struct loop loop = place(job, group, lanes);
    vec block[BLOCK], bend, counting, pole;
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * 2 * LANES, &loop.level, 2 * sizeof(vec));
        load_block(block, job->over, job->type, lanes, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) {
            step(&loop, block[n], &bend, &counting, &pole);
            block[n] = loop.state;
        }
        store_block(block, job->y, job->type, lanes, b * BLOCK);
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct lane lanes[LANES] = {{0}};
    struct loop loop = place(job, group, lanes);
    vec block[BLOCK], bend[BLOCK], counting[BLOCK], pole[BLOCK], drop[BLOCK], sums[SETTINGS] = {{0}};
    vec handed = splat(0.0), to_last = splat(0.0); /* to the state and to the level before the block behind */
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        memcpy(&loop.level, job->kept + (group * job->blocks + b) * 2 * LANES, 2 * sizeof(vec));
        load_block(block, job->over, job->type, lanes, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) {
            const vec before = loop.state;
            drop[n] = before - step(&loop, block[n], bend + n, counting + n, pole + n);
        }
        load_block(block, job->grad, job->type, lanes, b * BLOCK);
        for (int n = BLOCK - 1; n >= 0; n--) {
            const vec adjoint = block[n] + handed, by_pole = adjoint * drop[n], by_target = adjoint * (1.0 - pole[n]);
            const vec by_counting = by_target * loop.gain, by_over = by_counting * bend[n];
            const vec rising = (vec)((mask)(drop[n] < 0.0) & (mask)by_pole);
            sums[ATTACK] += rising;
            sums[RELEASE] += by_pole - rising;
            sums[GAIN] += by_target * counting[n];
            sums[KNEE] += 0.5 * (by_over - by_over * bend[n]);
            handed = pole[n] * adjoint - by_over;
            block[n] = to_last;
            to_last = by_over;
        }
        store_block(block, job->grad_over, job->type, lanes, b * BLOCK);
    }
    for (int l = 0; l < count_of(job->rows, job->groups, group); l++) {
        double *to = job->grad_settings + (first_of(job->rows, job->groups, group) + l) * SETTINGS;
        for (int i = 0; i < SETTINGS; i++) to[i] = sums[i][l];
    }
}

#define SIZES                                                                                                    \
    int64_t rows, int64_t samples, int64_t groups, int64_t type, const double *settings, const void *over
#define SIZED                                                                                                    \
    .rows = rows, .samples = samples, .groups = groups, .blocks = (samples + BLOCK - 1) / BLOCK, .type = type,   \
    .settings = settings, .over = over

/* over [rows, samples] -> y. `groups` of rows, of LANES at most, for the threads. */
int difffx_feedback_reduction(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(rows * samples, threads));
    return 0;
}

int difffx_feedback_reduction_backward(SIZES, const void *grad, double *kept, void *grad_over,
                                       double *grad_settings, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .kept = kept, .grad_over = grad_over, .grad_settings = grad_settings};
    fan_out(backward_group, &job, groups, threads_for(rows * samples, threads));
    return 0;
}
