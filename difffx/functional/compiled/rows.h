/* Blocks of one row along time, and four of them turned into vectors of four rows. */
#ifndef DIFFFX_ROWS_H
#define DIFFFX_ROWS_H

#include "exponents.h"

#define DB_PER_OCTAVE 6.020599913279624  /* 20 log10(2) */
#define NEPER_PER_DB 0.11512925464970229 /* ln(10) / 20 */

#define TIMES(n) for (int n = 0; n < BLOCK / LANES; n++)
typedef vec row_block[BLOCK / LANES]; /* a block of one row, along time */

/* Of the samples [at, at + BLOCK), where a row of `samples` has them: from which one on, up to which one. */
INLINE int64_t begin_of(int64_t at) { return at < 0 ? (at < -BLOCK ? BLOCK : -at) : 0; }
INLINE int64_t end_of(int64_t at, int64_t samples) {
    return samples - at > BLOCK ? BLOCK : samples - at < 0 ? 0 : samples - at;
}

/* Samples [at, at + BLOCK) of a row that begins at element `row`; zeros before and after it. */
static void load_part(vec *to, const void *x, int64_t type, int64_t row, int64_t samples, int64_t at) {
    const int64_t begin = begin_of(at), end = end_of(at, samples);
    char patch[8 * BLOCK];
    const char *from = (const char *)x + (row + at) * type;
    /* The block before: processors foresee a walk forward, but not one back along many rows. */
    for (int64_t i = 0; i < BLOCK * type; i += 64) __builtin_prefetch(from - BLOCK * type + i);
    if (end - begin < BLOCK) {
        memset(patch, 0, sizeof patch);
        if (begin < end) memcpy(patch + begin * type, from + begin * type, (end - begin) * type);
        from = patch;
    }
    if (type == 4) TIMES(n) to[n] = widen((const float *)from + LANES * n);
    else TIMES(n) to[n] = wide((const double *)from + LANES * n);
}

static void store_part(const vec *from, void *x, int64_t type, int64_t row, int64_t samples, int64_t at) {
    const int64_t begin = begin_of(at), end = end_of(at, samples);
    char *to = (char *)x + (row + at) * type;
    float patch[BLOCK];
    if (begin >= end) return;
    if (type == 8) memcpy(to + 8 * begin, (const double *)from + begin, 8 * (end - begin));
    else {
        float *to32 = end - begin < BLOCK ? patch : (float *)to;
        TIMES(n) narrow(to32 + LANES * n, from[n]);
        if (end - begin < BLOCK) memcpy(to + 4 * begin, patch + begin, 4 * (end - begin));
    }
}

/* Four rows along time <-> BLOCK vectors of four rows. */
static void turn_rows(row_block *rows, vec *block) {
    TIMES(n) {
        vec *at = block + LANES * n;
        for (int l = 0; l < LANES; l++) at[l] = rows[l][n];
        transpose(at, at + 1, at + 2, at + 3);
    }
}

static void turn_lanes(const vec *block, row_block *rows) {
    TIMES(n) {
        vec at[LANES];
        memcpy(at, block + LANES * n, sizeof at);
        transpose(at, at + 1, at + 2, at + 3);
        for (int l = 0; l < LANES; l++) rows[l][n] = at[l];
    }
}

/* The larger magnitude; NaN where either is. */
INLINE vec louder(vec peak, vec x) { return choose(peak != peak, peak, larger(peak, magnitude(x))); }

INLINE double sum_of(vec x) { return x[0] + x[1] + x[2] + x[3]; }

#endif
