/* What a level meter remembers, of four rows, a block at a time, forward and back in time: sliding maxima and sums,
peaks that die away, hysteresis. A sample that is not a number passes through all of them. */
#ifndef DIFFFX_DETECTORS_H
#define DIFFFX_DETECTORS_H

#include "exponents.h"

#define FOR_BLOCK(n) for (int n = 0; n < BLOCK; n++)
#define FOR_BLOCK_BACK(n) for (int n = BLOCK - 1; n >= 0; n--)

/* Samples of a ring in which `window` of them and a block stand at places given by their lowest bits. */
INLINE int64_t ring_of(int64_t window) {
    int64_t size = BLOCK;
    while (size < window + BLOCK) size *= 2;
    return size;
}

/* The largest of each sample and the window - 1 before it. Rows are cut into stretches of `window`: what a sample
   sees is the beginning of its own stretch and the end of the one before (van Herk; Gil and Werman). */
struct slide {
    int64_t window, place; /* of the sample to come in its stretch */
    vec best;              /* of its stretch so far */
    vec *tail;             /* [window + 1], its stretch so far; from `place` on maxima up to the end of the last one */
};

INLINE struct slide start_slide(int64_t window, vec *tail, double nothing) {
    for (int64_t i = 0; i <= window; i++) tail[i] = splat(nothing);
    return (struct slide){.window = window, .best = splat(nothing), .tail = tail};
}

static void slide_block(struct slide *s, vec *block) {
    if (s->window == 1) return;
    vec best = s->best;
    for (int n = 0; n < BLOCK;) {
        vec *tail = s->tail + s->place, *u = block + n;
        const int left = s->window - s->place < BLOCK - n ? s->window - s->place : BLOCK - n;
        for (int i = 0; i < left; i++) {
            best = larger(best, u[i]);
            tail[i] = u[i];
            u[i] = larger(tail[i + 1], best);
        }
        n += left;
        s->place += left;
        if (s->place < s->window) continue;
        best = s->tail[s->window - 1];
        for (int64_t i = s->window - 2; i >= 0; i--) s->tail[i] = best = larger(best, s->tail[i]);
        best = s->tail[s->window];
        s->place = 0;
    }
    s->best = best;
}

/* Backward in time, with the places of the winners. Of samples that are equal, the last in a beginning wins, the first
   in an end, and a beginning wins over an end. */
struct slide_back {
    int64_t window, place; /* of the sample to come in its stretch */
    vec best;              /* of the end of the stretch before, so far */
    mask where;            /* and the place of that, in the row */
    double nothing;
    vec *head;             /* [window], maxima since the beginning of the stretch; from place + 1 on the one before */
    mask *who;             /* [window], and their places */
};

/* `last` is the last sample that will be asked for; the window - 1 before it have not been seen. */
INLINE struct slide_back start_slide_back(int64_t window, int64_t last, vec *head, mask *who, double nothing) {
    for (int64_t i = 0; i < window; i++) head[i] = splat(nothing), who[i] = bits(0);
    return (struct slide_back){.window = window, .place = last % window, .best = splat(nothing),
                               .nothing = nothing, .head = head, .who = who};
}

/* Samples at - window + 1 and on -> the maxima of samples `at` and on, in place, and the places of the winners. */
static void slide_block_back(struct slide_back *s, vec *block, mask *winner, int64_t at) {
    vec best = s->best;
    mask where = s->where;
    int64_t place = s->place;
    FOR_BLOCK_BACK(n) {
        const int64_t first = at + n - s->window + 1;
        if (place == s->window - 1) {
            vec high = s->head[0] = block[n];
            mask high_at = s->who[0] = bits(first);
            for (int64_t i = 1; i < s->window; i++) {
                mask newer = s->head[i] >= high;
                s->head[i] = high = choose(newer, s->head[i], high);
                s->who[i] = high_at = (newer & bits(first + i)) | (~newer & high_at);
            }
            best = splat(s->nothing);
        } else {
            vec u = s->head[place + 1] = block[n];
            mask newer = u >= best;
            best = choose(newer, u, best);
            where = (newer & bits(first)) | (~newer & where);
        }
        mask before = best > s->head[place];
        block[n] = choose(before, best, s->head[place]);
        winner[n] = (before & where) | (~before & s->who[place]);
        place = place ? place - 1 : s->window - 1;
    }
    s->best = best;
    s->where = where;
    s->place = place;
}

/* Gradients of the maxima -> added up in a ring, each where its winner stands. */
INLINE void to_winners(const vec *grads, const mask *winner, vec *ring, int64_t most) {
    double *sums = (double *)ring;
    FOR_BLOCK_BACK(n)
    for (int l = 0; l < LANES; l++)
        if (grads[n][l] != 0.0) sums[(winner[n][l] & most) * LANES + l] += grads[n][l];
}

/* y = max(u, pole y before), in place; `before`, if there is one, gets the states before each sample. */
INLINE vec decay_block(vec state, vec pole, vec *block, vec *before) {
    FOR_BLOCK(n) {
        if (before) before[n] = state;
        block[n] = state = larger(pole * state, block[n]);
    }
    return state;
}

/* Gradients of y -> of u, in place; they go to the samples that are the peak themselves. */
INLINE void decay_block_back(vec pole, vec *block, const vec *u, const vec *before, vec *handed, vec *by_pole) {
    vec hand = *handed, sum = *by_pole;
    FOR_BLOCK_BACK(n) {
        vec total = block[n] + hand, kept = (vec)((mask)total & (mask)(u[n] < pole * before[n]));
        block[n] = total - kept;
        sum += kept * before[n];
        hand = pole * kept;
    }
    *handed = hand;
    *by_pole = sum;
}

#endif
