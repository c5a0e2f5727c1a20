/* A limiter in one pass, forward and back: level, sliding maximum, release, two moving averages, gain; in double
precision but for the points between the samples of float32 sound.

The share by which a sample must shrink runs `ahead` samples before the sound. What has no memory runs along time, what
has runs four items at a time. The way back runs backward in time and finds all but the gain and the states at the
start of each block again. */

#include "detectors.h"
#include "points.h"
#include "rows.h"

enum { CEILING, DRIVE, POLE, SETTINGS };
#define NEAR (2 * BLOCK) /* samples, from BEFORE before the first of a block on */

struct job {
    int64_t items, samples, channels, groups, blocks, type, ahead;
    double margin;           /* of the ceiling */
    const double *settings;  /* [items, SETTINGS], dB, dB, pole */
    const double *ceilings, *drives; /* [items, samples], dB, in place of those columns; may be null */
    const double *taps;      /* [PHASES - 1, TAPS]; null: only the samples themselves count */
    const void *x, *grad;    /* [items, channels, samples] */
    void *y, *gain;          /* like x; [items, samples], may be null */
    double *kept;            /* [groups, blocks, LANES], peaks before each block; may be null */
    void *grad_x;            /* these are zero; null: settings alone have gradients */
    double *grad_settings, *grad_ceilings, *grad_drives; /* the last two may be null */
    struct points points;
    atomic_int failed;
};

/* Four items and what they remember. */
struct group {
    int64_t first, ring; /* its first item; samples in a ring */
    int lanes;
    double ceiling[LANES], drive[LANES]; /* factors, where they stand still */
    vec pole;
};

INLINE vec amplitude(vec db) { return exp2_of(db * (1.0 / DB_PER_OCTAVE)); }

static struct group place(const struct job *job, int64_t group) {
    struct group g = {.first = first_of(job->items, job->groups, group), .ring = ring_of(job->ahead + 1)};
    g.lanes = count_of(job->items, job->groups, group);
    for (int l = 0; l < g.lanes; l++) {
        const double *of = job->settings + (g.first + l) * SETTINGS;
        g.ceiling[l] = job->margin * amplitude(splat(of[CEILING]))[0];
        g.drive[l] = amplitude(splat(of[DRIVE]))[0];
        g.pole[l] = of[POLE];
    }
    return g;
}

/* A factor that stands still, or that of a curve in dB. */
static void factor_of(const struct job *job, const double *curve, int64_t item, double still, int64_t at, vec *to) {
    if (curve) load_part(to, curve, 8, item * job->samples, job->samples, at);
    TIMES(n) to[n] = curve ? amplitude(to[n]) : splat(still);
}

INLINE int64_t row_of(const struct job *job, int64_t item, int64_t channel) {
    return (item * job->channels + channel) * job->samples;
}

/* The driven sound from BEFORE samples before `at` on. */
static void near_of(const struct job *job, int64_t row, int64_t item, double still, int64_t at, vec *near) {
    row_block drive;
    for (int half = 0; half < 2; half++) {
        vec *to = near + half * BLOCK / LANES;
        load_part(to, job->x, job->type, row, job->samples, at - BEFORE + half * BLOCK);
        factor_of(job, job->drives, item, still, at - BEFORE + half * BLOCK, drive);
        TIMES(n) to[n] *= drive[n];
    }
}

/* The peaks of one channel and of what lies between its samples, where any of that reaches the ceiling. */
static void between_of(const struct job *job, const vec *near, const vec *ceiling, vec *peak) {
    vec highest = splat(0.0), lowest = ceiling[0], x[BLOCK / LANES];
    for (int n = 0; n < NEAR / LANES; n++) highest = louder(highest, near[n]);
    TIMES(n) lowest = smaller(lowest, ceiling[n]);
    memcpy(x, (const double *)near + BEFORE, sizeof x);
    int quiet = 1;
    for (int l = 0; l < LANES; l++)
        for (int m = 0; m < LANES; m++) quiet &= job->points.reach * highest[l] < lowest[m];
    if (!quiet && job->type == 4) {
        float near32[NEAR], high[BLOCK];
        for (int n = 0; n < NEAR / LANES; n++) narrow(near32 + LANES * n, near[n]);
        between32(&job->points, near32, high);
        TIMES(n) x[n] = widen(high + LANES * n);
    } else if (!quiet) {
        double high[BLOCK];
        between64(&job->points, (const double *)near, high);
        memcpy(x, high, sizeof x);
    }
    TIMES(n) peak[n] = louder(peak[n], x[n]);
}

/* By which share each sample must shrink; nothing before the first and after the last one. */
static void excess_of(const struct job *job, const struct group *g, int l, int64_t at, vec *excess) {
    const int64_t item = g->first + l;
    row_block x, drive, ceiling, peak;
    TIMES(n) excess[n] = peak[n] = splat(0.0);
    if (at <= -BLOCK || at >= job->samples) return;
    factor_of(job, job->ceilings, item, g->ceiling[l], at, ceiling);
    if (job->ceilings) TIMES(n) ceiling[n] *= job->margin;
    for (int64_t c = 0; c < job->channels; c++) {
        if (job->taps) {
            vec near[NEAR / LANES];
            near_of(job, row_of(job, item, c), item, g->drive[l], at, near);
            between_of(job, near, ceiling, peak);
        } else {
            load_part(x, job->x, job->type, row_of(job, item, c), job->samples, at);
            TIMES(n) peak[n] = louder(peak[n], x[n]);
        }
    }
    if (!job->taps) {
        factor_of(job, job->drives, item, g->drive[l], at, drive);
        TIMES(n) peak[n] *= drive[n];
    }
    TIMES(n) excess[n] = 1.0 - ceiling[n] / larger(ceiling[n], peak[n]);
    double *each = (double *)excess;
    for (int64_t n = 0; job->taps && n < BLOCK; n++)
        if (at + n < 0 || at + n >= job->samples) each[n] = 0.0;
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    const struct group g = place(job, group);
    const int64_t ahead = job->ahead, first = ahead / 2 + 1, second = ahead + 2 - first, most = g.ring - 1;
    const double scale = 1.0 / ((double)first * second);
    vec *room = aligned_alloc(64, (2 * g.ring + ahead + 2 + 1) / 2 * 2 * sizeof(vec));
    if (!room) {
        job->failed = 1;
        return;
    }
    vec *peaks = room, *sums = room + g.ring, state = splat(0.0), sum = splat(0.0), total = splat(0.0), block[BLOCK];
    memset(room, 0, 2 * g.ring * sizeof(vec));
    struct slide slide = start_slide(ahead + 1, room + 2 * g.ring, 0.0);
    row_block rows[LANES] = {{{0}}}, x, drive;
    for (int64_t b = 0; b < job->blocks; b++) {
        const int64_t at = b * BLOCK, out = at - ahead;
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * LANES, &state, sizeof state);
        for (int l = 0; l < g.lanes; l++) excess_of(job, &g, l, at, rows[l]);
        turn_rows(rows, block);
        slide_block(&slide, block);
        state = decay_block(state, g.pole, block, NULL);
        FOR_BLOCK(n) {
            const int64_t i = at + n;
            sum += block[n] - peaks[(i - first) & most];
            peaks[i & most] = block[n];
            total += sum - sums[(i - second) & most];
            sums[i & most] = sum;
            block[n] = 1.0 - scale * total;
        }
        if (out <= -BLOCK) continue;
        turn_lanes(block, rows);
        for (int l = 0; l < g.lanes; l++) {
            const int64_t item = g.first + l;
            factor_of(job, job->drives, item, g.drive[l], out, drive);
            if (job->gain) store_part(rows[l], job->gain, job->type, item * job->samples, job->samples, out);
            for (int64_t c = 0; c < job->channels; c++) {
                load_part(x, job->x, job->type, row_of(job, item, c), job->samples, out);
                TIMES(n) x[n] *= drive[n] * rows[l][n];
                store_part(x, job->y, job->type, row_of(job, item, c), job->samples, out);
            }
        }
    }
    free(room);
}

static void add_part(const vec *what, void *x, int64_t type, int64_t row, int64_t samples, int64_t at) {
    row_block sum;
    load_part(sum, x, type, row, samples, at);
    TIMES(n) sum[n] += what[n];
    store_part(sum, x, type, row, samples, at);
}

/* What goes to the sound and the drive without the detector; leaves the gradients of the averages in `by`. */
static vec direct(const struct job *job, const struct group *g, int l, int64_t at, double scale, vec *by) {
    const int64_t item = g->first + l, samples = job->samples;
    row_block x, y, gain, drive, total;
    vec sum = splat(0.0);
    TIMES(n) total[n] = by[n] = splat(0.0);
    if (at <= -BLOCK || at >= samples) return sum;
    load_part(gain, job->gain, job->type, item * samples, samples, at);
    factor_of(job, job->drives, item, g->drive[l], at, drive);
    for (int64_t c = 0; c < job->channels; c++) {
        load_part(x, job->x, job->type, row_of(job, item, c), samples, at);
        load_part(y, job->grad, job->type, row_of(job, item, c), samples, at);
        TIMES(n) {
            total[n] += x[n] * y[n];
            y[n] *= drive[n] * gain[n];
        }
        if (job->grad_x) add_part(y, job->grad_x, job->type, row_of(job, item, c), samples, at);
    }
    TIMES(n) {
        total[n] *= drive[n];
        by[n] = -scale * total[n];
        total[n] *= NEPER_PER_DB * gain[n];
        sum += total[n];
    }
    if (job->grad_drives) add_part(total, job->grad_drives, 8, item * samples, samples, at);
    return sum;
}

/* The gradients of the levels, times these, shared by the loudest channels. */
static void to_samples(const struct job *job, int64_t item, int64_t at, const vec *by) {
    row_block x, peak, winners;
    TIMES(n) peak[n] = winners[n] = splat(0.0);
    for (int64_t c = 0; c < job->channels; c++) {
        load_part(x, job->x, job->type, row_of(job, item, c), job->samples, at);
        TIMES(n) {
            vec loud = magnitude(x[n]);
            winners[n] = choose(loud > peak[n], splat(1.0), choose(loud == peak[n], winners[n] + 1.0, winners[n]));
            peak[n] = louder(peak[n], loud);
        }
    }
    for (int64_t c = 0; c < job->channels; c++) {
        load_part(x, job->x, job->type, row_of(job, item, c), job->samples, at);
        TIMES(n) {
            mask wins = (mask)(magnitude(x[n]) >= peak[n]) & (mask)(by[n] != 0.0);
            x[n] = (vec)(wins & (mask)(by[n] / (x[n] * winners[n])));
        }
        add_part(x, job->grad_x, job->type, row_of(job, item, c), job->samples, at);
    }
}

INLINE void add_to(void *x, int64_t type, int64_t at, double value) {
    if (type == 4) ((float *)x)[at] += (float)value;
    else ((double *)x)[at] += value;
}

/* The same where points between samples count: a point is made of the samples around it. */
static void to_neighbors(const struct job *job, int64_t item, double still, int64_t at, const double *by) {
    double highest[BLOCK] = {0}, winners[BLOCK] = {0}, values[PHASES], own[PHASES];
    vec near[NEAR / LANES];
    const double *x = (const double *)near;
    for (int64_t c = 0; c < job->channels; c++) {
        near_of(job, row_of(job, item, c), item, still, at, near);
        for (int n = 0; n < BLOCK; n++) {
            if (by[n] == 0.0) continue;
            double high = points_of(&job->points, x + n, values);
            winners[n] = high > highest[n] ? 1.0 : winners[n] + (high == highest[n]);
            highest[n] = high > highest[n] ? high : highest[n];
        }
    }
    for (int64_t c = 0; c < job->channels; c++) {
        near_of(job, row_of(job, item, c), item, still, at, near);
        for (int n = 0; n < BLOCK; n++) {
            if (by[n] == 0.0 || points_of(&job->points, x + n, values) < highest[n]) continue;
            double between = 0.0, share = by[n] / (winners[n] * highest[n]);
            for (int p = 1; p < PHASES; p++) between += __builtin_fabs(values[p]) == highest[n];
            int itself = __builtin_fabs(values[0]) == highest[n];
            for (int p = 0; p < PHASES; p++) {
                double part = __builtin_fabs(values[p]) < highest[n] ? 0.0 : p ? 1.0 / between : 1.0;
                own[p] = part * (itself && between > 0.0 ? 0.5 : 1.0) * (values[p] < 0.0 ? -share : share);
            }
            for (int k = 0; k < TAPS; k++) {
                int64_t to = at + n + k - BEFORE;
                double by_driven = 0.0, drive = still;
                if (to < 0 || to >= job->samples) continue;
                for (int p = 0; p < PHASES; p++) by_driven += own[p] * job->points.weights[k][p];
                if (job->drives) drive = amplitude(splat(job->drives[item * job->samples + to]))[0];
                if (job->grad_x) add_to(job->grad_x, job->type, row_of(job, item, c) + to, by_driven * drive);
                if (job->grad_drives)
                    job->grad_drives[item * job->samples + to] += NEPER_PER_DB * by_driven * x[n + k];
            }
        }
    }
}

/* From the gradients of excesses, by * excess' as if by the level in nepers. */
static void to_levels(const struct job *job, const struct group *g, int l, int64_t at, vec *by) {
    const int64_t item = g->first + l;
    mask any = bits(0);
    TIMES(n) any |= (mask)(by[n] != 0.0);
    if (!(any[0] | any[1] | any[2] | any[3])) return;
    if (job->taps && (job->grad_x || job->grad_drives))
        to_neighbors(job, item, g->drive[l], at, (const double *)by);
    else if (job->grad_x) to_samples(job, item, at, by);
    TIMES(n) by[n] *= NEPER_PER_DB;
    if (job->grad_drives && !job->taps) add_part(by, job->grad_drives, 8, item * job->samples, job->samples, at);
    TIMES(n) by[n] = -by[n];
    if (job->grad_ceilings) store_part(by, job->grad_ceilings, 8, item * job->samples, job->samples, at);
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    const struct group g = place(job, group);
    const int64_t ahead = job->ahead, first = ahead / 2 + 1, second = ahead + 2 - first, most = g.ring - 1;
    const double scale = 1.0 / ((double)first * second);
    vec *room = aligned_alloc(64, (4 * g.ring + 2 * (ahead + 1) + 1) / 2 * 2 * sizeof(vec));
    if (!room) {
        job->failed = 1;
        return;
    }
    memset(room, 0, 4 * g.ring * sizeof(vec));
    vec *outer = room, *inner = room + g.ring, *excess = room + 2 * g.ring, *by_excess = room + 3 * g.ring;
    vec *head = room + 4 * g.ring;
    const int64_t top = (job->samples + 2 * ahead - 1) / BLOCK;
    struct slide_back slide = start_slide_back(ahead + 1, top * BLOCK + BLOCK - 1, head,
                                               (mask *)head + ahead + 1, 0.0);
    vec total = splat(0.0), sum = splat(0.0), handed = splat(0.0), by_pole = splat(0.0), by_level = splat(0.0);
    vec block[BLOCK], by[BLOCK], before[BLOCK], by_drive[LANES] = {{0}};
    mask winner[BLOCK];
    row_block rows[LANES] = {{{0}}};
    for (int64_t b = top; b >= 0; b--) {
        const int64_t at = b * BLOCK;
        for (int l = 0; l < g.lanes; l++) excess_of(job, &g, l, at - ahead, rows[l]);
        turn_rows(rows, block);
        FOR_BLOCK(n) excess[(at - ahead + n) & most] = block[n];
        slide_block_back(&slide, block, winner, at);
        if (b >= job->blocks) continue;
        for (int l = 0; l < g.lanes; l++) by_drive[l] += direct(job, &g, l, at - ahead, scale, rows[l]);
        turn_rows(rows, by);
        FOR_BLOCK_BACK(n) {
            const int64_t i = at + n;
            total += by[n] - outer[(i + second) & most];
            outer[i & most] = by[n];
            sum += total - inner[(i + first) & most];
            inner[i & most] = total;
            by[n] = sum;
        }
        vec state;
        memcpy(&state, job->kept + (group * job->blocks + b) * LANES, sizeof state);
        vec held[BLOCK];
        memcpy(held, block, sizeof held);
        decay_block(state, g.pole, block, before);
        decay_block_back(g.pole, by, held, before, &handed, &by_pole);
        to_winners(by, winner, by_excess, most);
        FOR_BLOCK(n) {
            const int64_t i = (at + n) & most;
            block[n] = (vec)((mask)(excess[i] > 0.0) & (mask)(by_excess[i] * (1.0 - excess[i])));
            by_level += block[n];
            by_excess[i] = splat(0.0);
        }
        if (at >= job->samples) continue;
        turn_lanes(block, rows);
        for (int l = 0; l < g.lanes; l++) to_levels(job, &g, l, at, rows[l]);
    }
    for (int l = 0; l < g.lanes; l++) {
        double *to = job->grad_settings + (g.first + l) * SETTINGS;
        to[CEILING] = -NEPER_PER_DB * by_level[l];
        to[DRIVE] = NEPER_PER_DB * by_level[l] + sum_of(by_drive[l]);
        to[POLE] = by_pole[l];
    }
    free(room);
}

/* One call; see `struct job` for shapes. `groups` of items, of LANES at most, for the threads. */
#define SIZES                                                                                                     \
    int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type, int64_t ahead, double margin, \
        const double *settings, const double *ceilings, const double *drives, const double *taps, const void *x
#define SIZED                                                                                                      \
    .items = items, .samples = samples, .channels = channels, .groups = groups, .type = type, .ahead = ahead,      \
    .blocks = (samples + ahead + BLOCK - 1) / BLOCK, .margin = margin, .settings = settings, .ceilings = ceilings, \
    .drives = drives, .taps = taps, .x = x

int difffx_limit(SIZES, void *y, void *gain, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .gain = gain, .kept = kept};
    if (taps) set_points(&job.points, taps);
    fan_out(forward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}

int difffx_limit_backward(SIZES, const void *grad, void *gain, double *kept, void *grad_x, double *grad_settings,
                          double *grad_ceilings, double *grad_drives, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .gain = gain, .kept = kept, .grad_x = grad_x,
                      .grad_settings = grad_settings, .grad_ceilings = grad_ceilings, .grad_drives = grad_drives};
    if (taps) set_points(&job.points, taps);
    fan_out(backward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}
