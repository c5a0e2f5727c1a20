/* A transient shaper in one pass, forward and back: level, sliding maximum, three envelopes, gain; in double precision.

Peaks that die away are straight lines in dB, as much lower each sample. The way back runs backward in time and finds
all but the states at the start of each block again. */

#include "detectors.h"
#include "levels.h"

enum { ATTACK_DB, SUSTAIN_DB, FALL, LONG_FALL, RISE, SLOW_RISE, SETTINGS };
enum { PEAK, LONG_PEAK, FAST, LONG, SLOW, STATES };
#define OCTAVES_PER_NEPER 1.4426950408889634

struct job {
    int64_t items, samples, groups, blocks, window;
    struct heard sound;
    double depth_db;         /* two envelopes so far apart make 63 % of the gain */
    const double *settings;  /* [items, SETTINGS], dB, dB, dB per sample twice, poles */
    const double *attacks, *sustains; /* [items, samples], in place of those columns; may be null */
    const void *grad;        /* like the sound */
    void *y;                 /* like the sound */
    double *kept;            /* [groups, blocks, STATES, LANES], before each block; may be null */
    void *grad_x; /* null: settings alone have gradients */
    double *grad_settings, *grad_attacks, *grad_sustains; /* the last two may be null */
    atomic_int failed;
};

/* Four items and their settings, a vector each. */
struct group {
    int64_t first;
    int lanes;
    vec of[SETTINGS];
    double floor_db;
};

/* Envelopes before and after each sample of a block. */
typedef vec envelopes[STATES][BLOCK + 1];

static struct group place(const struct job *job, int64_t group) {
    struct group g = {.first = first_of(job->items, job->groups, group)};
    g.lanes = count_of(job->items, job->groups, group);
    g.floor_db = DB_PER_OCTAVE * log2_of(splat(job->sound.floor))[0];
    for (int l = 0; l < g.lanes; l++)
        for (int s = 0; s < SETTINGS; s++) g.of[s][l] = job->settings[(g.first + l) * SETTINGS + s];
    return g;
}

/* Held levels -> the envelopes, from those before the block; how far they lie apart, where above 0. */
INLINE void follow(const struct group *g, const vec *level, envelopes e, vec *onset, vec *tail) {
    FOR_BLOCK(n) {
        e[PEAK][n + 1] = larger(e[PEAK][n] - g->of[FALL], level[n]);
        e[LONG_PEAK][n + 1] = larger(e[LONG_PEAK][n] - g->of[LONG_FALL], level[n]);
        vec peak = e[PEAK][n + 1] - g->floor_db, long_peak = e[LONG_PEAK][n + 1] - g->floor_db;
        e[FAST][n + 1] = peak + g->of[RISE] * (e[FAST][n] - peak);
        e[LONG][n + 1] = long_peak + g->of[RISE] * (e[LONG][n] - long_peak);
        e[SLOW][n + 1] = peak + g->of[SLOW_RISE] * (e[SLOW][n] - peak);
        onset[n] = larger(splat(0.0), e[FAST][n + 1] - e[SLOW][n + 1]);
        tail[n] = larger(splat(0.0), e[LONG][n + 1] - e[FAST][n + 1]);
    }
}

/* What a knob makes of envelopes that lie apart: its value, or that of a curve, and the share of it, from 0 to 1. */
static void share_of(const struct job *job, const double *curve, int64_t item, int knob, int64_t at, const vec *apart,
                     vec *value, vec *share) {
    if (curve) load_part(value, curve, 8, item * job->samples, job->samples, at);
    TIMES(n) {
        if (!curve) value[n] = splat(job->settings[item * SETTINGS + knob]);
        share[n] = 1.0 - exp2_of(apart[n] * (-OCTAVES_PER_NEPER / job->depth_db));
    }
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    const struct group g = place(job, group);
    const struct heard *sound = &job->sound;
    vec *room = aligned_alloc(64, (job->window + 2) / 2 * 2 * sizeof(vec));
    if (!room) {
        job->failed = 1;
        return;
    }
    struct slide slide = start_slide(job->window, room, g.floor_db);
    envelopes e = {{splat(g.floor_db)}, {splat(g.floor_db)}};
    vec level[BLOCK], onset[BLOCK], tail[BLOCK];
    row_block rows[LANES] = {{{0}}}, onsets[LANES], tails[LANES], x, attack, sustain, begun, dying;
    for (int64_t b = 0; b < job->blocks; b++) {
        const int64_t at = b * BLOCK;
        for (int s = 0; s < STATES && job->kept; s++)
            memcpy(job->kept + ((group * job->blocks + b) * STATES + s) * LANES, e[s], sizeof(vec));
        for (int l = 0; l < g.lanes; l++) level_of(sound, g.first + l, at, rows[l]);
        turn_rows(rows, level);
        slide_block(&slide, level);
        follow(&g, level, e, onset, tail);
        for (int s = 0; s < STATES; s++) e[s][0] = e[s][BLOCK];
        turn_lanes(onset, onsets);
        turn_lanes(tail, tails);
        for (int l = 0; l < g.lanes; l++) {
            const int64_t item = g.first + l;
            share_of(job, job->attacks, item, ATTACK_DB, at, onsets[l], attack, begun);
            share_of(job, job->sustains, item, SUSTAIN_DB, at, tails[l], sustain, dying);
            TIMES(n) begun[n] = exp2_of((attack[n] * begun[n] + sustain[n] * dying[n]) * (1.0 / DB_PER_OCTAVE));
            for (int64_t c = 0; c < sound->channels; c++) {
                load_part(x, sound->x, sound->type, row_of(sound, item, c), job->samples, at);
                TIMES(n) x[n] *= begun[n];
                store_part(x, job->y, sound->type, row_of(sound, item, c), job->samples, at);
            }
        }
    }
    free(room);
}

/* How far envelopes lie apart -> the gradients of that; those of the sound and of the knobs are stored or added. */
static void direct(const struct job *job, int64_t item, int64_t at, vec *onset, vec *tail, vec *by_attack,
                   vec *by_sustain) {
    const struct heard *sound = &job->sound;
    row_block x, y, attack, sustain, begun, dying, total, gain;
    share_of(job, job->attacks, item, ATTACK_DB, at, onset, attack, begun);
    share_of(job, job->sustains, item, SUSTAIN_DB, at, tail, sustain, dying);
    TIMES(n) {
        gain[n] = exp2_of((attack[n] * begun[n] + sustain[n] * dying[n]) * (1.0 / DB_PER_OCTAVE));
        total[n] = splat(0.0);
    }
    for (int64_t c = 0; c < sound->channels; c++) {
        load_part(x, sound->x, sound->type, row_of(sound, item, c), job->samples, at);
        load_part(y, job->grad, sound->type, row_of(sound, item, c), job->samples, at);
        TIMES(n) {
            total[n] += x[n] * y[n];
            y[n] *= gain[n];
        }
        if (job->grad_x) store_part(y, job->grad_x, sound->type, row_of(sound, item, c), job->samples, at);
    }
    TIMES(n) {
        vec by_gain_db = NEPER_PER_DB * gain[n] * total[n];
        onset[n] = by_gain_db * attack[n] * (1.0 - begun[n]) * (1.0 / job->depth_db);
        tail[n] = by_gain_db * sustain[n] * (1.0 - dying[n]) * (1.0 / job->depth_db);
        begun[n] *= by_gain_db;
        dying[n] *= by_gain_db;
        *by_attack += begun[n];
        *by_sustain += dying[n];
    }
    if (job->grad_attacks) store_part(begun, job->grad_attacks, 8, item * job->samples, job->samples, at);
    if (job->grad_sustains) store_part(dying, job->grad_sustains, 8, item * job->samples, job->samples, at);
}

/* What a one-pole hands back through its state, from the gradient of its output; the gradient of its input. */
INLINE vec smooth_back(vec pole, vec by, vec *handed) {
    vec total = by + *handed;
    *handed = pole * total;
    return total - *handed;
}

/* What a falling peak hands back, and what it passes to the level that made it. */
INLINE vec peak_back(vec by, mask fell, vec *handed, vec *by_fall) {
    vec total = by + *handed;
    *handed = (vec)(fell & (mask)total);
    *by_fall -= *handed;
    return total - *handed;
}

/* The gradients of onsets and tails -> of the held levels, in `by`; `handed` by the states, `sums` of the settings. */
INLINE void follow_back(const struct group *g, const vec *level, envelopes e, const vec *by_onset, const vec *by_tail,
                        vec *handed, vec *sums, vec *by) {
    FOR_BLOCK_BACK(n) {
        vec fast = e[FAST][n + 1], peak = e[PEAK][n + 1] - g->floor_db;
        vec onset = (vec)((mask)(fast >= e[SLOW][n + 1]) & (mask)by_onset[n]);
        vec tail = (vec)((mask)(e[LONG][n + 1] >= fast) & (mask)by_tail[n]);
        sums[SLOW_RISE] += (handed[SLOW] - onset) * (e[SLOW][n] - peak);
        vec by_peak = smooth_back(g->of[SLOW_RISE], -onset, handed + SLOW);
        by_peak += smooth_back(g->of[RISE], onset - tail, handed + FAST);
        vec by_long = smooth_back(g->of[RISE], tail, handed + LONG);
        mask fell = level[n] < e[PEAK][n] - g->of[FALL], long_fell = level[n] < e[LONG_PEAK][n] - g->of[LONG_FALL];
        by[n] = peak_back(by_peak, fell, handed + PEAK, sums + FALL);
        by[n] += peak_back(by_long, long_fell, handed + LONG_PEAK, sums + LONG_FALL);
    }
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
    vec handed[STATES] = {{0}}, sums[SETTINGS] = {{0}}, by_gains[2][LANES] = {{{0}}};
    vec level[BLOCK], onset[BLOCK], tail[BLOCK], by[BLOCK];
    envelopes e;
    mask winner[BLOCK];
    row_block rows[LANES] = {{{0}}}, onsets[LANES] = {{{0}}}, tails[LANES] = {{{0}}};
    for (int64_t b = top; b >= 0; b--) {
        const int64_t at = b * BLOCK;
        for (int l = 0; l < g.lanes; l++) level_of(&job->sound, g.first + l, at - job->window + 1, rows[l]);
        turn_rows(rows, level);
        slide_block_back(&slide, level, winner, at);
        if (b >= job->blocks) continue;
        for (int s = 0; s < STATES; s++)
            memcpy(e[s], job->kept + ((group * job->blocks + b) * STATES + s) * LANES, sizeof(vec));
        follow(&g, level, e, onset, tail);
        turn_lanes(onset, onsets);
        turn_lanes(tail, tails);
        for (int l = 0; l < g.lanes; l++)
            direct(job, g.first + l, at, onsets[l], tails[l], by_gains[0] + l, by_gains[1] + l);
        turn_rows(onsets, onset);
        turn_rows(tails, tail);
        follow_back(&g, level, e, onset, tail, handed, sums, by);
        if (!job->grad_x) continue;
        to_winners(by, winner, room, most);
        FOR_BLOCK(n) {
            by[n] = room[(at + n) & most];
            room[(at + n) & most] = splat(0.0);
        }
        turn_lanes(by, rows);
        for (int l = 0; l < g.lanes; l++) level_back(&job->sound, g.first + l, at, rows[l], job->grad_x, 1);
    }
    for (int l = 0; l < g.lanes; l++) {
        double *to = job->grad_settings + (g.first + l) * SETTINGS;
        for (int s = 0; s < SETTINGS; s++) to[s] = sums[s][l];
        to[ATTACK_DB] = sum_of(by_gains[0][l]);
        to[SUSTAIN_DB] = sum_of(by_gains[1][l]);
    }
    free(room);
}

/* One call; see `struct job` for shapes. `groups` of items, of LANES at most, for the threads. */
#define SIZES                                                                                                  \
    int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type, int64_t window,             \
        double floor, double depth_db, const double *settings, const double *attacks, const double *sustains, \
        const void *x
#define SIZED                                                                                             \
    .items = items, .samples = samples, .groups = groups, .blocks = (samples + BLOCK - 1) / BLOCK,        \
    .window = window, .sound = {x, channels, samples, type, floor}, .depth_db = depth_db,                 \
    .settings = settings, .attacks = attacks, .sustains = sustains

int difffx_transients(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}

int difffx_transients_backward(SIZES, const void *grad, double *kept, void *grad_x, double *grad_settings,
                               double *grad_attacks, double *grad_sustains, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .kept = kept, .grad_x = grad_x, .grad_settings = grad_settings,
                      .grad_attacks = grad_attacks, .grad_sustains = grad_sustains};
    fan_out(backward_group, &job, groups, threads_for(items * samples, threads));
    return job.failed;
}
