/* A curve at a multiple of the rate, in the precision of the audio: bending.c includes this after bending.h.

`functional/oversampling.py` says what the filter is. Between two samples it makes factor - 1 new ones, each from its
own 64 taps; the first phase is the samples themselves. Phase after phase is made, bent, and filtered into the sum. */

#define V OF(lanes)
#define WIDTH ((int)(32 / sizeof(REAL)))
#define WITH_HALO (STRIP + 2 * REACH) /* a multiple of TILE */
#define VECTORS(n, count) for (int n = 0; n < (count) / WIDTH; n++)

/* y[n] += the sum over k of taps[k] x[n + k]; `count` is a multiple of 8 vectors. */
static void OF(correlate)(const REAL *x, const REAL *taps, V *y, int count) {
    for (int n = 0; n < count / WIDTH; n += 8) {
        V sums[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sums[i] = y[n + i];
        for (int k = 0; k < 2 * REACH; k++) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                V heard;
                memcpy(&heard, x + (n + i) * WIDTH + k, sizeof heard);
                sums[i] += taps[k] * heard;
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) y[n + i] = sums[i];
    }
}

/* A row around a strip: from 2 REACH - 1 samples before `first` on; silence outside the row. */
INLINE void OF(around)(REAL *to, const REAL *row, int64_t first, int64_t samples) {
    const int64_t from = first - 2 * REACH + 1, begin = from < 0 ? -from : 0, count = WITH_HALO + 2 * REACH;
    const int64_t end = samples - from < count ? samples - from : count;
    memset(to, 0, begin * sizeof(REAL));
    memcpy(to + begin, row + from + begin, (end - begin) * sizeof(REAL));
    memset(to + end, 0, (count - end) * sizeof(REAL));
}

/* One phase from REACH samples before the strip to REACH after it. */
INLINE void OF(phase_of)(const REAL *around, const REAL *backwards, int phase, V *to) {
    memset(to, 0, WITH_HALO * sizeof(REAL));
    if (phase) OF(correlate)(around, backwards, to, WITH_HALO);
    else memcpy(to, around + REACH - 1, WITH_HALO * sizeof(REAL));
}

/* Silence before the row and after it. */
INLINE void OF(cut)(V *of, int64_t first, int64_t samples) {
    const int64_t left = samples - first + REACH;
    if (first < REACH) memset(of, 0, (REACH - first) * sizeof(REAL));
    if (left < WITH_HALO) memset((REAL *)of + left, 0, (WITH_HALO - left) * sizeof(REAL));
}

/* A phase into the strip. */
INLINE void OF(gather)(const V *of, const REAL *taps, int phase, V *to) {
    if (phase) OF(correlate)((const REAL *)of, taps, to, STRIP);
    else VECTORS(n, STRIP) to[n] += of[n + REACH / WIDTH];
}

static void OF(set_taps)(const double *taps, int factor, REAL (*forward)[2 * REACH], REAL (*backwards)[2 * REACH]) {
    for (int phase = 0; phase < factor; phase++)
        for (int k = 0; k < 2 * REACH; k++)
            forward[phase][k] = backwards[phase][2 * REACH - 1 - k] = (REAL)taps[k * factor + phase];
}

static void OF(bend_between)(const struct setting *s, const double *taps, int factor, const REAL *row, REAL *to,
                             int64_t from, int64_t last, int64_t samples) {
    REAL around[WITH_HALO + 2 * REACH], forward[MOST][2 * REACH], backwards[MOST][2 * REACH];
    V up[WITH_HALO / WIDTH], bent[WITH_HALO / WIDTH], y[STRIP / WIDTH];
    const REAL dry = (REAL)s->dry, wet = (REAL)(s->wet / factor);
    OF(set_taps)(taps, factor, forward, backwards);
    for (int64_t first = from; first < last; first += STRIP) {
        const int64_t valid = last - first < STRIP ? last - first : STRIP;
        OF(around)(around, row, first, samples);
        memset(y, 0, sizeof y);
        for (int phase = 0; phase < factor; phase++) {
            OF(phase_of)(around, backwards[phase], phase, up);
            for (int n = 0; n < WITH_HALO / WIDTH; n += TILE / WIDTH) OF(bend_tile)(s, up + n, bent + n, NULL, NULL);
            OF(cut)(bent, first, samples);
            OF(gather)(bent, forward[phase], phase, y);
        }
        VECTORS(n, STRIP) {
            V x;
            memcpy(&x, around + 2 * REACH - 1 + n * WIDTH, sizeof x);
            y[n] = dry * x + wet * y[n];
        }
        memcpy(to + first, y, valid * sizeof(REAL));
    }
}

static void OF(bend_between_back)(const struct setting *s, const double *taps, int factor, const REAL *row,
                                  const REAL *grad, REAL *to, double *sums, int64_t from, int64_t last,
                                  int64_t samples) {
    REAL around[WITH_HALO + 2 * REACH], grad_around[WITH_HALO + 2 * REACH];
    REAL forward[MOST][2 * REACH], backwards[MOST][2 * REACH];
    V up[WITH_HALO / WIDTH], g[WITH_HALO / WIDTH], bent[WITH_HALO / WIDTH], slope[WITH_HALO / WIDTH];
    V by_shape[WITH_HALO / WIDTH], by_x[STRIP / WIDTH];
    const int own = REACH / WIDTH; /* where the strip begins: its halo belongs to the sums of others */
    const REAL dry = (REAL)s->dry, wet = (REAL)(s->wet * s->gain / factor);
    OF(set_taps)(taps, factor, forward, backwards);
    for (int64_t first = from; first < last; first += STRIP) {
        const int64_t valid = last - first < STRIP ? last - first : STRIP;
        OF(around)(around, row, first, samples);
        OF(around)(grad_around, grad, first, samples);
        memset(by_x, 0, sizeof by_x);
        for (int phase = 0; phase < factor; phase++) {
            OF(phase_of)(around, backwards[phase], phase, up);
            OF(phase_of)(grad_around, backwards[phase], phase, g);
            OF(cut)(g, first, samples);
            for (int n = 0; n < WITH_HALO / WIDTH; n += TILE / WIDTH)
                OF(bend_tile)(s, up + n, bent + n, slope + n, by_shape + n);
            if (sums) {
                sums[BY_WET] += OF(sum)(g + own, bent + own, STRIP) / factor;
                if (s->shaped) sums[BY_SHAPE] += OF(sum)(g + own, by_shape + own, STRIP) / factor;
                if (s->biased) sums[BY_REST] += OF(sum)(g + own, NULL, STRIP) / factor;
            }
            VECTORS(n, WITH_HALO) g[n] *= slope[n];
            if (sums) {
                sums[BY_GAIN] += OF(sum)(g + own, up + own, STRIP) / factor;
                if (s->biased) sums[BY_OFFSET] += OF(sum)(g + own, NULL, STRIP) / factor;
            }
            OF(gather)(g, forward[phase], phase, by_x);
        }
        VECTORS(n, STRIP) {
            V x, straight;
            memcpy(&x, around + 2 * REACH - 1 + n * WIDTH, sizeof x);
            memcpy(&straight, grad_around + 2 * REACH - 1 + n * WIDTH, sizeof straight);
            by_x[n] = dry * straight + wet * by_x[n];
            up[n] = x;
            g[n] = straight;
        }
        if (sums) sums[BY_DRY] += OF(sum)(g, up, STRIP);
        if (to) memcpy(to + first, by_x, valid * sizeof(REAL));
    }
}

#undef VECTORS
#undef WITH_HALO
#undef WIDTH
#undef V
