/* A compressor in one pass, forward and back: level, static curve, attack and release, gain; in double precision.

What has no memory runs along time, four samples of one item at a time; the follower runs four items at a time. */

#include "follower.h"
#include "levels.h"

enum { THRESHOLD, SLOPE, KNEE, ATTACK, RELEASE, MAKEUP, SETTINGS };

struct job {
    int64_t items, samples, channels, groups, blocks, type;
    struct heard key;
    const double *settings; /* [items, SETTINGS], slope = 1 - 1 / ratio, poles for times */
    const void *x;          /* [items, channels, samples]; null: the reduction in dB is what is wanted */
    const void *grad;       /* like y */
    void *y;                /* like x, or [items, 1, samples] */
    double *kept;           /* [groups, blocks, LANES], states before each block; may be null */
    void *grad_x, *grad_key; /* grad_key null: all goes to grad_x */
    double *grad_settings;
};

static struct follower place(const struct job *job, int64_t group) {
    struct follower f = {.turn = splat(1.0)};
    for (int l = 0; l < count_of(job->items, job->groups, group); l++) {
        const double *of = job->settings + (first_of(job->items, job->groups, group) + l) * SETTINGS;
        set_follower(&f, l, of[ATTACK], of[RELEASE], 0.0);
    }
    return f;
}

/* Levels -> dB above the threshold, as far as they count, and if wanted the slope of the bend, from 0 to 1. */
INLINE void curve_of(const double *of, const vec *level, vec *counting, vec *bend) {
    const double half = 0.5 * of[KNEE], per_db = 1.0 / (of[KNEE] > 1e-300 ? of[KNEE] : 1e-300);
    TIMES(n) {
        vec over = level[n] - of[THRESHOLD];
        vec r = larger(splat(0.0), smaller(splat(1.0), (over + half) * per_db));
        counting[n] = half * r * r + larger(splat(0.0), over - half);
        if (bend) bend[n] = r;
    }
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct follower f = place(job, group);
    const int lanes = count_of(job->items, job->groups, group);
    row_block rows[LANES] = {{{0}}}, x, gain;
    vec block[BLOCK];
    for (int64_t b = 0; b < job->blocks; b++) {
        const int64_t at = b * BLOCK;
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * LANES, &f.state, sizeof f.state);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            level_of(&job->key, item, at, x);
            curve_of(job->settings + item * SETTINGS, x, rows[l], NULL);
            TIMES(n) rows[l][n] *= job->settings[item * SETTINGS + SLOPE];
        }
        turn_rows(rows, block);
        follow_block(&f, block);
        turn_lanes(block, rows);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            if (!job->x) {
                store_part(rows[l], job->y, job->type, item * job->samples, job->samples, at);
                continue;
            }
            const double makeup = job->settings[item * SETTINGS + MAKEUP];
            TIMES(n) gain[n] = exp2_of((makeup - rows[l][n]) * (1.0 / DB_PER_OCTAVE));
            for (int64_t c = 0; c < job->channels; c++) {
                int64_t row = (item * job->channels + c) * job->samples;
                load_part(x, job->x, job->type, row, job->samples, at);
                TIMES(n) x[n] *= gain[n];
                store_part(x, job->y, job->type, row, job->samples, at);
            }
        }
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct follower f = place(job, group);
    const int lanes = count_of(job->items, job->groups, group);
    row_block rows[LANES] = {{{0}}}, curves[LANES], bends[LANES], x, y, gain, total;
    vec block[BLOCK], u[BLOCK], before[BLOCK], sums[LANES][ATTACK] = {{{0}}}, by_makeup[LANES] = {{0}};
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        const int64_t at = b * BLOCK;
        memcpy(&f.state, job->kept + (group * job->blocks + b) * LANES, sizeof f.state);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            level_of(&job->key, item, at, x);
            curve_of(job->settings + item * SETTINGS, x, curves[l], bends[l]);
            TIMES(n) rows[l][n] = job->settings[item * SETTINGS + SLOPE] * curves[l][n];
        }
        turn_rows(rows, block);
        follow_block_again(&f, block, u, before);
        turn_lanes(block, rows);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            if (!job->x) {
                load_part(rows[l], job->grad, job->type, item * job->samples, job->samples, at);
                continue;
            }
            const double makeup = job->settings[item * SETTINGS + MAKEUP];
            TIMES(n) {
                gain[n] = exp2_of((makeup - rows[l][n]) * (1.0 / DB_PER_OCTAVE));
                total[n] = splat(0.0);
            }
            for (int64_t c = 0; c < job->channels; c++) {
                int64_t row = (item * job->channels + c) * job->samples;
                load_part(x, job->x, job->type, row, job->samples, at);
                load_part(y, job->grad, job->type, row, job->samples, at);
                TIMES(n) {
                    total[n] += x[n] * y[n];
                    y[n] *= gain[n];
                }
                store_part(y, job->grad_x, job->type, row, job->samples, at);
            }
            TIMES(n) {
                rows[l][n] = -NEPER_PER_DB * gain[n] * total[n];
                by_makeup[l] -= rows[l][n];
            }
        }
        turn_rows(rows, block);
        follow_block_back(&f, block, u, before);
        turn_lanes(block, rows);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            const double slope = job->settings[item * SETTINGS + SLOPE];
            TIMES(n) {
                vec by_curve = slope * rows[l][n], by_over = by_curve * bends[l][n];
                sums[l][THRESHOLD] -= by_over;
                sums[l][SLOPE] += rows[l][n] * curves[l][n];
                sums[l][KNEE] += 0.5 * (by_over - by_over * bends[l][n]);
                total[n] = by_over;
            }
            level_back(&job->key, item, at, total, job->grad_key ? job->grad_key : job->grad_x, !job->grad_key);
        }
    }
    for (int l = 0; l < lanes; l++) {
        double *to = job->grad_settings + (first_of(job->items, job->groups, group) + l) * SETTINGS;
        for (int i = 0; i < ATTACK; i++) to[i] = sum_of(sums[l][i]);
        to[MAKEUP] = sum_of(by_makeup[l]);
        gradients_of(&f, l, to + ATTACK, to + RELEASE, NULL);
    }
}

/* The settings of one call; see `struct job` for shapes. `groups` of items, of LANES at most, for the threads. */
#define SIZES                                                                                                   \
    int64_t items, int64_t samples, int64_t channels, int64_t keys, int64_t groups, int64_t type, double floor, \
        const double *settings, const void *x, const void *key
#define SIZED                                                                                                   \
    .items = items, .samples = samples, .channels = channels, .groups = groups,                                 \
    .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .settings = settings, .x = x,                        \
    .key = {.x = key, .channels = keys, .samples = samples, .type = type, .floor = floor}

int difffx_compress(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(items * samples, threads));
    return 0;
}

int difffx_compress_backward(SIZES, const void *grad, double *kept, void *grad_x, void *grad_key, double *grad_settings,
                             int64_t threads) {
    struct job job = {SIZED, .grad = grad, .kept = kept, .grad_x = grad_x, .grad_key = grad_key,
                      .grad_settings = grad_settings};
    fan_out(backward_group, &job, groups, threads_for(items * samples, threads));
    return 0;
}
