/* A slow oscillator in blocks, as in lfo.py: four samples of one row at a time, or one sample of four rows. */
#ifndef DIFFFX_OSCILLATOR_H
#define DIFFFX_OSCILLATOR_H

#include "angles.h"

#define TURN 6.283185307179586
#define EDGE 0.02 /* share of a cycle that a jump takes */
#define MOST_TURNS 64

enum { SINE, TRIANGLE, SAW, SQUARE };

struct oscillator {
    int64_t shape, count;
    vec since[MOST_TURNS]; /* cycles from the start of a block to each of its vectors */
    vec sines[MOST_TURNS], cosines[MOST_TURNS];
};

/* `count` vectors in a block, which stand `step` cycles apart, the first one at `since`. */
static void set_oscillator(struct oscillator *o, int64_t shape, int64_t count, vec since, vec step) {
    o->shape = shape;
    o->count = count;
    for (int64_t i = 0; i < count; i++) {
        o->since[i] = since + step * (double)i;
        if (shape == SINE) sine_cosine(o->since[i], o->sines + i, o->cosines + i);
    }
}

/* The smaller of two straight lines and its slope; where they meet, the mean of both slopes. */
INLINE vec lower(vec a, vec b, vec by_a, vec by_b, vec *slope) {
    *slope = choose(a < b, by_a, choose(b < a, by_b, 0.5 * (by_a + by_b)));
    return choose(b < a, b, a);
}

/* A place in the cycle, -1/2 to 1/2 -> up through 0 at one slope, down to the ends at another. */
INLINE vec corners(vec place, double up, double down, vec *slope) {
    vec rise = lower(up * place, down * (0.5 - place), splat(up), splat(-down), slope);
    vec under = lower(-rise, down * (0.5 + place), -*slope, splat(down), slope);
    *slope = -*slope;
    return -under;
}

INLINE vec wave_of(vec cycle, int64_t shape, vec *slope) {
    vec place = choose(cycle < 0.5, cycle, cycle - 1.0);
    if (shape == SAW) return corners(place, 2.0 / (1.0 - EDGE), 2.0 / EDGE, slope);
    vec wave = corners(place, 4.0, 4.0, slope);
    if (shape == TRIANGLE) return wave;
    wave *= 0.5 / EDGE;
    *slope = (vec)((mask)(magnitude(wave) <= 1.0) & (mask)(*slope * (0.5 / EDGE)));
    return choose(wave > 1.0, splat(1.0), choose(wave < -1.0, splat(-1.0), wave));
}

/* A block that begins at `start`, in cycles: the wave and its slope, by cycle. */
INLINE void swing(const struct oscillator *o, vec start, vec *wave, vec *slope) {
    vec s, c, unused;
    start -= floor_of(start);
    if (o->shape == SINE) {
        sine_cosine(start, &s, &c);
        for (int64_t i = 0; i < o->count; i++) wave[i] = s * o->cosines[i] + c * o->sines[i];
        if (!slope) return;
        s *= TURN;
        c *= TURN;
        for (int64_t i = 0; i < o->count; i++) slope[i] = c * o->cosines[i] - s * o->sines[i];
        return;
    }
    for (int64_t i = 0; i < o->count; i++) {
        vec cycle = start + o->since[i];
        wave[i] = wave_of(cycle - floor_of(cycle), o->shape, slope ? slope + i : &unused);
    }
}

#endif
