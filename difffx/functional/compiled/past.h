/* What delay lines with feedback share: their past, a one-pole low-pass, and audio in stretches of doubles. */
#ifndef DIFFFX_PAST_H
#define DIFFFX_PAST_H

#include "reading.h"

/* A row's recent samples. From `now` on there is room for a stretch, and before it are `reach` samples or more. */
struct past {
    double *samples, *now;
    int64_t reach, room;
};

static int open_past(struct past *past, int64_t reach) {
    past->reach = reach;
    past->room = 2 * reach + 8 * STRETCH;
    past->samples = malloc(past->room * sizeof(double));
    if (!past->samples) return 0;
    memset(past->samples, 0, reach * sizeof(double));
    past->now = past->samples + reach;
    return 1;
}

INLINE void make_room(struct past *past) {
    if (past->now + STRETCH <= past->samples + past->room) return;
    memcpy(past->samples, past->now - past->reach, past->reach * sizeof(double));
    past->now = past->samples + past->reach;
}

/* h[n] = gain y[n] + pole h[n-1], four samples at a time: from rest, and then what the state before adds. */
struct one_pole {
    vec pole, square, fourth, powers, state; /* of one value, but the powers: pole to its fourth power */
};

INLINE struct one_pole start_pole(double p) {
    return (struct one_pole){splat(p), splat(p * p), splat(p * p * p * p), {p, p * p, p * p * p, p * p * p * p}};
}

INLINE vec smooth(struct one_pole *f, vec u) {
    const vec zero = splat(0.0);
    u += f->pole * SHUFFLE(u, zero, 4, 0, 1, 2);
    u += f->square * SHUFFLE(u, zero, 4, 5, 0, 1);
    vec h = u + f->powers * f->state;
    f->state = f->fourth * f->state + SHUFFLE(u, u, 3, 3, 3, 3);
    return h;
}

INLINE double smooth_one(struct one_pole *f, double u) {
    double h = u + f->pole[0] * f->state[0];
    f->state = splat(h);
    return h;
}

INLINE void put(double *to, vec x) { memcpy(to, &x, sizeof x); }

INLINE double sum_of(vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }

INLINE void load_stretch(double *restrict to, const void *row, int64_t type, int64_t first, int64_t count) {
    if (type == 4)
        for (int64_t n = 0; n < count; n++) to[n] = ((const float *)row)[first + n];
    else memcpy(to, (const double *)row + first, count * sizeof(double));
}

INLINE void store_stretch(const double *restrict from, void *row, int64_t type, int64_t first, int64_t count) {
    if (type == 4)
        for (int64_t n = 0; n < count; n++) ((float *)row)[first + n] = (float)from[n];
    else memcpy((double *)row + first, from, count * sizeof(double));
}

/* Samples first to first + count, zeros before the first of the row. */
INLINE void load_or_zero(double *restrict to, const void *row, int64_t type, int64_t first, int64_t count) {
    int64_t early = first < 0 ? (-first < count ? -first : count) : 0;
    memset(to, 0, early * sizeof(double));
    load_stretch(to + early, row, type, first + early, count - early);
}

/* Room for four more, so that a loop may go in fours. */
INLINE void end_in_zeros(double *stretch, int64_t count) { put(stretch + count, splat(0.0)); }

INLINE void flip(const double *restrict from, double *restrict to, int64_t count) {
    for (int64_t n = 0; n < count; n++) to[n] = from[count - 1 - n];
}

#endif
