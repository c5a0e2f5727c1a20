/* An expander or gate in one pass, forward and back: level, sliding maximum, hysteresis, static curve, release, attack,
gain; in double precision.

What has no memory runs along time, but for the static curve; the rest runs four items at a time. The way back runs
backward in time and finds all but the states at the start of each block again. */

#include "detectors.h"
#include "levels.h"

enum { THRESHOLD, SLOPE, KNEE, RANGE, WIDTH, ATTACK, RELEASE, SETTINGS };
enum { HEARD, FALLING, OPENED, STATES };

struct job {
    int64_t items, channels, samples, groups, blocks, type, window;
    struct heard key;
    const double *settings;   /* [items, SETTINGS], slope = ratio - 1, poles for times */
    const double *thresholds; /* [items, samples], in place of that column; may be null */
    const void *x, *grad;     /* [items, channels, samples] */
    void *y;                  /* like x */
    double *kept;             /* [groups, blocks, STATES, LANES], before each block; may be null */
    void *grad_x, *grad_key;  /* grad_key null: all goes to grad_x; that null: settings alone have gradients */
    double *grad_settings, *grad_thresholds; /* the latter may be null */
    atomic_int failed;
};

/* Four items: their settings, a vector each, and what follows from them. */
struct group {
    int64_t first;
    int lanes;
    vec of[SETTINGS], per_db, silence; /* silence: by how much it is turned down, if the threshold stands still */
    double floor_db;
};

/* Decibels below the threshold -> by how much they are turned down; r is the slope of the bend, from 0 to 1. */
INLINE vec reduction_of(const struct group *g, vec under, vec *r, vec *counting) {
    const vec half = 0.5 * g->of[KNEE];
    *r = larger(splat(0.0), smaller(splat(1.0), (under + half) * g->per_db));
    *counting = half * *r * *r + larger(splat(0.0), under - half);
    return smaller(g->of[RANGE], g->of[SLOPE] * *counting);
}

/* The gradient of that -> of the decibels below the threshold; those of the settings are added to `sums`. */
INLINE vec reduction_back(const struct group *g, vec under, vec by, vec *sums) {
    vec r, counting;
    reduction_of(g, under, &r, &counting);
    vec free = g->of[SLOPE] * counting;
    /* Two equal values share the gradient. */
    mask equal = free == g->of[RANGE], less = free < g->of[RANGE];
    vec share = (vec)((less & (mask)splat(1.0)) | (equal & (mask)splat(0.5)));
    vec by_free = share * by, by_under = by_free * g->of[SLOPE] * r;
    sums[SLOPE] += by_free * counting;
    sums[KNEE] += 0.5 * (by_under - by_under * r);
    sums[RANGE] += by - by_free;
    return by_under;
}

static struct group place(const struct job *job, int64_t group) {
    struct group g = {.first = first_of(job->items, job->groups, group)};
    vec r, counting;
    g.lanes = count_of(job->items, job->groups, group);
    g.floor_db = DB_PER_OCTAVE * log2_of(splat(job->key.floor))[0];
    for (int l = 0; l < g.lanes; l++)
        for (int s = 0; s < SETTINGS; s++) g.of[s][l] = job->settings[(g.first + l) * SETTINGS + s];
    g.per_db = 1.0 / larger(splat(1e-300), g.of[KNEE]);
    g.silence = reduction_of(&g, g.of[THRESHOLD] - g.floor_db, &r, &counting);
    return g;
}

/* The thresholds of a block. */
static void thresholds_of(const struct job *job, const struct group *g, int64_t at, vec *block) {
    row_block rows[LANES] = {{{0}}};
    FOR_BLOCK(n) block[n] = g->of[THRESHOLD];
    if (!job->thresholds) return;
    for (int l = 0; l < g->lanes; l++)
        load_part(rows[l], job->thresholds, 8, (g->first + l) * job->samples, job->samples, at);
    turn_rows(rows, block);
}

/* y = max(u, min(u + width, y before)). */
INLINE vec heard_of(vec u, vec width, vec before) { return larger(smaller(before, u + width), u); }

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    const struct group g = place(job, group);
    vec *room = aligned_alloc(64, (job->window + 2) / 2 * 2 * sizeof(vec));
    if (!room) {
        job->failed = 1;
        return;
    }
    struct slide slide = start_slide(job->window, room, g.floor_db);
    vec states[STATES] = {splat(-__builtin_inf()), splat(0.0), splat(0.0)}, block[BLOCK], threshold[BLOCK];
    row_block rows[LANES] = {{{0}}}, x, gain;
    for (int64_t b = 0; b < job->blocks; b++) {
        const int64_t at = b * BLOCK;
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * STATES * LANES, states, sizeof states);
        for (int l = 0; l < g.lanes; l++) level_of(&job->key, g.first + l, at, rows[l]);
        turn_rows(rows, block);
        slide_block(&slide, block);
        thresholds_of(job, &g, at, threshold);
        vec heard = states[HEARD], falling = states[FALLING], opened = states[OPENED], silence = g.silence, r, counts;
        FOR_BLOCK(n) {
            heard = heard_of(block[n], g.of[WIDTH], heard);
            if (job->thresholds) silence = reduction_of(&g, threshold[n] - g.floor_db, &r, &counts);
            falling = larger(g.of[RELEASE] * falling, silence - reduction_of(&g, threshold[n] - heard, &r, &counts));
            opened = falling + g.of[ATTACK] * (opened - falling);
            block[n] = opened - silence;
        }
        states[HEARD] = heard;
        states[FALLING] = falling;
        states[OPENED] = opened;
        turn_lanes(block, rows);
        for (int l = 0; l < g.lanes; l++) {
            TIMES(n) gain[n] = exp2_of(rows[l][n] * (1.0 / DB_PER_OCTAVE));
            for (int64_t c = 0; c < job->channels; c++) {
                load_part(x, job->x, job->type, ((g.first + l) * job->channels + c) * job->samples, job->samples, at);
                TIMES(n) x[n] *= gain[n];
                store_part(x, job->y, job->type, ((g.first + l) * job->channels + c) * job->samples, job->samples, at);
            }
        }
    }
    free(room);
}

/* Gains in dB -> their gradients; those of the sound are stored. */
static void direct(const struct job *job, int64_t item, int64_t at, vec *gain_db) {
    row_block x, y, gain, total;
    TIMES(n) {
        gain[n] = exp2_of(gain_db[n] * (1.0 / DB_PER_OCTAVE));
        total[n] = splat(0.0);
    }
    for (int64_t c = 0; c < job->channels; c++) {
        load_part(x, job->x, job->type, (item * job->channels + c) * job->samples, job->samples, at);
        load_part(y, job->grad, job->type, (item * job->channels + c) * job->samples, job->samples, at);
        TIMES(n) {
            total[n] += x[n] * y[n];
            y[n] *= gain[n];
        }
        if (job->grad_x)
            store_part(y, job->grad_x, job->type, (item * job->channels + c) * job->samples, job->samples, at);
    }
    TIMES(n) gain_db[n] = NEPER_PER_DB * gain[n] * total[n];
}

/* What the way back of a block hands to the one before, and the sums over all. */
struct sums {
    vec heard, falling, opened, silence, of[SETTINGS];
};

/* States before the block and held levels -> gains in dB, and what the way back needs to know. */
static void again(const struct job *job, const struct group *g, const double *kept, const vec *level,
                  const vec *threshold, vec *heard, vec *raised, vec *falling, vec *opened, vec *gain_db) {
    vec silence = g->silence, r, counts;
    memcpy(heard, kept + HEARD * LANES, sizeof(vec));
    memcpy(falling, kept + FALLING * LANES, sizeof(vec));
    memcpy(opened, kept + OPENED * LANES, sizeof(vec));
    FOR_BLOCK(n) {
        heard[n + 1] = heard_of(level[n], g->of[WIDTH], heard[n]);
        if (job->thresholds) silence = reduction_of(g, threshold[n] - g->floor_db, &r, &counts);
        raised[n] = silence - reduction_of(g, threshold[n] - heard[n + 1], &r, &counts);
        falling[n + 1] = larger(g->of[RELEASE] * falling[n], raised[n]);
        opened[n + 1] = falling[n + 1] + g->of[ATTACK] * (opened[n] - falling[n + 1]);
        gain_db[n] = opened[n + 1] - silence;
    }
}

/* Gradients of the gains in dB -> of the held levels, in place, and of the thresholds. */
static void chain_back(const struct job *job, const struct group *g, struct sums *sums, vec *by, const vec *level,
                       const vec *threshold, const vec *heard, const vec *raised, const vec *falling,
                       const vec *opened, vec *by_threshold) {
    struct sums s = *sums;
    FOR_BLOCK_BACK(n) {
        vec by_opened = by[n] + s.opened, by_falling = (1.0 - g->of[ATTACK]) * by_opened + s.falling;
        s.opened = g->of[ATTACK] * by_opened;
        s.of[ATTACK] += by_opened * (opened[n] - falling[n + 1]);
        vec fell = (vec)((mask)(raised[n] < g->of[RELEASE] * falling[n]) & (mask)by_falling);
        vec by_raised = by_falling - fell;
        s.of[RELEASE] += fell * falling[n];
        s.falling = g->of[RELEASE] * fell;
        vec by_silence = by_raised - by[n];
        vec by_under = reduction_back(g, threshold[n] - heard[n + 1], -by_raised, s.of);
        by_threshold[n] = by_under;
        if (job->thresholds) by_threshold[n] += reduction_back(g, threshold[n] - g->floor_db, by_silence, s.of);
        else s.silence += by_silence;
        vec by_heard = s.heard - by_under, cap = level[n] + g->of[WIDTH];
        mask capped = heard[n] > cap, held = (mask)(heard[n] > level[n]) & ~capped;
        s.of[WIDTH] += (vec)(capped & (mask)by_heard);
        s.of[THRESHOLD] += by_under;
        s.heard = (vec)(held & (mask)by_heard);
        by[n] = (vec)(~held & (mask)by_heard);
    }
    *sums = s;
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    const struct group g = place(job, group);
    const int64_t ring = ring_of(job->window), most = ring - 1, top = (job->samples + job->window - 2) / BLOCK;
    vec *room = aligned_alloc(64, (ring + 2 * job->window + 1) / 2 * 2 * sizeof(vec));
    if (!room) {
        job->failed = 1;
        return;
    }
    memset(room, 0, ring * sizeof(vec));
    struct slide_back slide = start_slide_back(job->window, top * BLOCK + BLOCK - 1, room + ring,
                                               (mask *)room + ring + job->window, g.floor_db);
    struct sums sums = {.silence = splat(0.0)};
    vec level[BLOCK], by[BLOCK], threshold[BLOCK], by_threshold[BLOCK], raised[BLOCK];
    vec heard[BLOCK + 1], falling[BLOCK + 1], opened[BLOCK + 1];
    mask winner[BLOCK];
    row_block rows[LANES] = {{{0}}};
    for (int64_t b = top; b >= 0; b--) {
        const int64_t at = b * BLOCK;
        for (int l = 0; l < g.lanes; l++) level_of(&job->key, g.first + l, at - job->window + 1, rows[l]);
        turn_rows(rows, level);
        slide_block_back(&slide, level, winner, at);
        if (b >= job->blocks) continue;
        thresholds_of(job, &g, at, threshold);
        again(job, &g, job->kept + (group * job->blocks + b) * STATES * LANES, level, threshold, heard, raised, falling,
              opened, by);
        turn_lanes(by, rows);
        for (int l = 0; l < g.lanes; l++) direct(job, g.first + l, at, rows[l]);
        turn_rows(rows, by);
        chain_back(job, &g, &sums, by, level, threshold, heard, raised, falling, opened, by_threshold);
        if (job->grad_thresholds) {
            turn_lanes(by_threshold, rows);
            for (int l = 0; l < g.lanes; l++)
                store_part(rows[l], job->grad_thresholds, 8, (g.first + l) * job->samples, job->samples, at);
        }
        if (!job->grad_x) continue;
        to_winners(by, winner, room, most);
        FOR_BLOCK(n) {
            by[n] = room[(at + n) & most];
            room[(at + n) & most] = splat(0.0);
        }
        turn_lanes(by, rows);
        for (int l = 0; l < g.lanes; l++)
            level_back(&job->key, g.first + l, at, rows[l], job->grad_key ? job->grad_key : job->grad_x, !job->grad_key);
    }
    sums.of[THRESHOLD] += reduction_back(&g, g.of[THRESHOLD] - g.floor_db, sums.silence, sums.of);
    for (int l = 0; l < g.lanes; l++)
        for (int s = 0; s < SETTINGS; s++) job->grad_settings[(g.first + l) * SETTINGS + s] = sums.of[s][l];
    free(room);
}

/* One call; see `struct job` for shapes. `groups` of items, of LANES at most, for the threads. */
#define SIZES                                                                                                    \
    int64_t items, int64_t channels, int64_t samples, int64_t keys, int64_t groups, int64_t type, int64_t window, \
        double floor, const double *settings, const double *thresholds, const void *x, const void *key
#define SIZED                                                                                                   \
    .items = items, .channels = channels, .samples = samples, .groups = groups, .type = type, .window = window, \
    .blocks = (samples + BLOCK - 1) / BLOCK, .key = {key, keys, samples, type, floor}, .settings = settings,    \
    .thresholds = thresholds, .x = x

int difffx_gate(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}

int difffx_gate_backward(SIZES, const void *grad, double *kept, void *grad_x, void *grad_key, double *grad_settings,
                         double *grad_thresholds, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .kept = kept, .grad_x = grad_x, .grad_key = grad_key,
                      .grad_settings = grad_settings, .grad_thresholds = grad_thresholds};
    fan_out(backward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}
