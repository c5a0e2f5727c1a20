/* A compressor in one pass, forward and back: level, static curve, attack and release, gain; in double precision.

Levels are in units of log2, 6.02 dB, until the static curve is in dB. What has no memory runs along time, four
samples of one item at a time; the follower runs four items at a time. */

#include "exponents.h"
#include "follower.h"

#define DB_PER_OCTAVE 6.020599913279624 /* 20 log10(2) */
#define NEPER_PER_DB 0.11512925464970229 /* ln(10) / 20 */

enum { THRESHOLD, SLOPE, KNEE, ATTACK, RELEASE, MAKEUP, SETTINGS };

struct job {
    int64_t items, samples, channels, keys, groups, blocks, type;
    double floor;           /* of the magnitude */
    const double *settings; /* [items, SETTINGS], slope = 1 - 1 / ratio, poles for times */
    const void *x, *key;    /* [items, channels or keys, samples]; x null: the reduction in dB is what is wanted */
    const void *grad;       /* like y */
    void *y;                /* like x, or [items, 1, samples] */
    double *kept;           /* [groups, blocks, LANES], states before each block; may be null */
    void *grad_x, *grad_key; /* grad_key null: all goes to grad_x */
    double *grad_settings;
};

#define TIMES(n) for (int n = 0; n < BLOCK / LANES; n++)
typedef vec row_block[BLOCK / LANES]; /* a block of one row, along time */

static void load_row(vec *to, const void *x, int64_t type, int64_t first, int64_t valid) {
    char patch[8 * BLOCK];
    const char *from = (const char *)x + first * type;
    if (valid < BLOCK) {
        memcpy(patch, from, valid * type);
        memset(patch + valid * type, 0, (BLOCK - valid) * type);
        from = patch;
    }
    if (type == 4) TIMES(n) to[n] = widen((const float *)from + LANES * n);
    else TIMES(n) to[n] = wide((const double *)from + LANES * n);
}

static void store_row(const vec *from, void *x, int64_t type, int64_t first, int64_t valid) {
    float patch32[BLOCK];
    float *to32 = valid < BLOCK ? patch32 : (float *)x + first;
    if (type == 8) memcpy((double *)x + first, from, 8 * valid);
    else {
        TIMES(n) narrow(to32 + LANES * n, from[n]);
        if (valid < BLOCK) memcpy((float *)x + first, patch32, 4 * valid);
    }
}

/* Four rows along time <-> BLOCK vectors of four rows. */
static void turn_blocks(row_block *rows, vec *block) {
    TIMES(n) {
        vec *at = block + LANES * n;
        for (int l = 0; l < LANES; l++) at[l] = rows[l][n];
        transpose(at, at + 1, at + 2, at + 3);
    }
}

static void turn_back(const vec *block, row_block *rows) {
    TIMES(n) {
        vec at[LANES];
        memcpy(at, block + LANES * n, sizeof at);
        transpose(at, at + 1, at + 2, at + 3);
        for (int l = 0; l < LANES; l++) rows[l][n] = at[l];
    }
}

static struct follower place(const struct job *job, int64_t group) {
    struct follower f = {.turn = splat(1.0)};
    for (int l = 0; l < count_of(job->items, job->groups, group); l++) {
        const double *of = job->settings + (first_of(job->items, job->groups, group) + l) * SETTINGS;
        set_follower(&f, l, of[ATTACK], of[RELEASE], 0.0);
    }
    return f;
}

/* The magnitude of the loudest channel, held at the floor. */
static void peak_of(const struct job *job, int64_t item, int64_t at, int64_t valid, vec *peak) {
    row_block x;
    TIMES(n) peak[n] = splat(job->floor);
    for (int64_t c = 0; c < job->keys; c++) {
        load_row(x, job->key, job->type, (item * job->keys + c) * job->samples + at, valid);
        TIMES(n) peak[n] = choose(peak[n] != peak[n], peak[n], larger(peak[n], magnitude(x[n])));
    }
}

/* Peaks -> dB above the threshold, as far as they count, and if wanted the slope of the bend, from 0 to 1. */
INLINE void curve_of(const double *of, const vec *peak, vec *counting, vec *bend) {
    const double half = 0.5 * of[KNEE], per_db = 1.0 / (of[KNEE] > 1e-300 ? of[KNEE] : 1e-300);
    TIMES(n) {
        vec over = DB_PER_OCTAVE * log2_of(peak[n]) - of[THRESHOLD];
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
        const int64_t at = b * BLOCK, left = job->samples - at, valid = left < BLOCK ? left : BLOCK;
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * LANES, &f.state, sizeof f.state);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            peak_of(job, item, at, valid, x);
            curve_of(job->settings + item * SETTINGS, x, rows[l], NULL);
            TIMES(n) rows[l][n] *= job->settings[item * SETTINGS + SLOPE];
        }
        turn_blocks(rows, block);
        follow_block(&f, block);
        turn_back(block, rows);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            if (!job->x) {
                store_row(rows[l], job->y, job->type, item * job->samples + at, valid);
                continue;
            }
            const double makeup = job->settings[item * SETTINGS + MAKEUP];
            TIMES(n) gain[n] = exp2_of((makeup - rows[l][n]) * (1.0 / DB_PER_OCTAVE));
            for (int64_t c = 0; c < job->channels; c++) {
                int64_t first = (item * job->channels + c) * job->samples + at;
                load_row(x, job->x, job->type, first, valid);
                TIMES(n) x[n] *= gain[n];
                store_row(x, job->y, job->type, first, valid);
            }
        }
    }
}

/* By channel of the key: the gradient of its level, divided among the channels that are the loudest, added to `to`
   if that holds something already. */
static void share_out(const struct job *job, int64_t item, int64_t at, int64_t valid, const vec *peak,
                      const vec *by_level, void *to, int adding) {
    row_block x, y, winners;
    TIMES(n) winners[n] = splat(0.0);
    for (int64_t c = 0; c < job->keys && job->keys > 1; c++) {
        load_row(x, job->key, job->type, (item * job->keys + c) * job->samples + at, valid);
        TIMES(n) winners[n] += (vec)((mask)(magnitude(x[n]) >= peak[n]) & (mask)splat(1.0));
    }
    for (int64_t c = 0; c < job->keys; c++) {
        int64_t first = (item * job->keys + c) * job->samples + at;
        load_row(x, job->key, job->type, first, valid);
        if (adding) load_row(y, to, job->type, first, valid);
        TIMES(n) {
            vec by_x = by_level[n] / (NEPER_PER_DB * x[n] * (job->keys > 1 ? winners[n] : splat(1.0)));
            by_x = (vec)((mask)(magnitude(x[n]) >= peak[n]) & (mask)by_x);
            x[n] = adding ? y[n] + by_x : by_x;
        }
        store_row(x, to, job->type, first, valid);
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct follower f = place(job, group);
    const int lanes = count_of(job->items, job->groups, group);
    row_block rows[LANES] = {{{0}}}, curves[LANES], peaks[LANES], bends[LANES], x, y, gain, total;
    vec block[BLOCK], u[BLOCK], before[BLOCK], sums[LANES][ATTACK] = {{{0}}}, by_makeup[LANES] = {{0}};
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        const int64_t at = b * BLOCK, left = job->samples - at, valid = left < BLOCK ? left : BLOCK;
        memcpy(&f.state, job->kept + (group * job->blocks + b) * LANES, sizeof f.state);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            peak_of(job, item, at, valid, peaks[l]);
            curve_of(job->settings + item * SETTINGS, peaks[l], curves[l], bends[l]);
            TIMES(n) rows[l][n] = job->settings[item * SETTINGS + SLOPE] * curves[l][n];
        }
        turn_blocks(rows, block);
        follow_block_again(&f, block, u, before);
        turn_back(block, rows);
        for (int l = 0; l < lanes; l++) {
            int64_t item = first_of(job->items, job->groups, group) + l;
            if (!job->x) {
                load_row(rows[l], job->grad, job->type, item * job->samples + at, valid);
                continue;
            }
            const double makeup = job->settings[item * SETTINGS + MAKEUP];
            TIMES(n) {
                gain[n] = exp2_of((makeup - rows[l][n]) * (1.0 / DB_PER_OCTAVE));
                total[n] = splat(0.0);
            }
            for (int64_t c = 0; c < job->channels; c++) {
                int64_t first = (item * job->channels + c) * job->samples + at;
                load_row(x, job->x, job->type, first, valid);
                load_row(y, job->grad, job->type, first, valid);
                TIMES(n) {
                    total[n] += x[n] * y[n];
                    y[n] *= gain[n];
                }
                store_row(y, job->grad_x, job->type, first, valid);
            }
            TIMES(n) {
                rows[l][n] = -NEPER_PER_DB * gain[n] * total[n];
                by_makeup[l] -= rows[l][n];
            }
        }
        turn_blocks(rows, block);
        follow_block_back(&f, block, u, before);
        turn_back(block, rows);
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
            share_out(job, item, at, valid, peaks[l], total, job->grad_key ? job->grad_key : job->grad_x,
                      !job->grad_key);
        }
    }
    for (int l = 0; l < lanes; l++) {
        double *to = job->grad_settings + (first_of(job->items, job->groups, group) + l) * SETTINGS;
        for (int i = 0; i < ATTACK; i++) to[i] = sums[l][i][0] + sums[l][i][1] + sums[l][i][2] + sums[l][i][3];
        to[MAKEUP] = by_makeup[l][0] + by_makeup[l][1] + by_makeup[l][2] + by_makeup[l][3];
        gradients_of(&f, l, to + ATTACK, to + RELEASE, NULL);
    }
}

/* The settings of one call; see `struct job` for shapes. `groups` of items, of LANES at most, for the threads. */
#define SIZES                                                                                                   \
    int64_t items, int64_t samples, int64_t channels, int64_t keys, int64_t groups, int64_t type, double floor, \
        const double *settings, const void *x, const void *key
#define SIZED                                                                                                    \
    .items = items, .samples = samples, .channels = channels, .keys = keys, .groups = groups,                    \
    .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .floor = floor, .settings = settings, .x = x, .key = key

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
