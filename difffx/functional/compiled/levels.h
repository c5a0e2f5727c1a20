/* The level of the loudest channel, and the way back. */
#ifndef DIFFFX_LEVELS_H
#define DIFFFX_LEVELS_H

#include "rows.h"

/* What is listened to. */
struct heard {
    const void *x; /* [items, channels, samples] */
    int64_t channels, samples, type;
    double floor; /* of the magnitude, above 0 */
};

INLINE int64_t row_of(const struct heard *h, int64_t item, int64_t channel) {
    return (item * h->channels + channel) * h->samples;
}

/* Levels in dB of a block, held at the floor. */
static void level_of(const struct heard *h, int64_t item, int64_t at, vec *level) {
    row_block x;
    TIMES(n) level[n] = splat(h->floor);
    for (int64_t c = 0; c < h->channels; c++) {
        load_part(x, h->x, h->type, row_of(h, item, c), h->samples, at);
        TIMES(n) level[n] = louder(level[n], x[n]);
    }
    TIMES(n) level[n] = DB_PER_OCTAVE * log2_of(level[n]);
}

/* The gradient of the level, shared by the loudest channels; added to what is in `to` already, or written there. */
static void level_back(const struct heard *h, int64_t item, int64_t at, const vec *by, void *to, int adding) {
    row_block x, y, peak, winners;
    mask any = bits(0);
    TIMES(n) any |= (mask)(by[n] != 0.0);
    if (adding && !(any[0] | any[1] | any[2] | any[3])) return;
    TIMES(n) {
        peak[n] = splat(h->floor);
        winners[n] = splat(0.0);
    }
    for (int64_t c = 0; c < h->channels; c++) {
        load_part(x, h->x, h->type, row_of(h, item, c), h->samples, at);
        TIMES(n) {
            vec loud = magnitude(x[n]), more = choose(loud == peak[n], winners[n] + 1.0, winners[n]);
            winners[n] = choose(loud > peak[n], splat(1.0), more);
            peak[n] = louder(peak[n], loud);
        }
    }
    for (int64_t c = 0; c < h->channels; c++) {
        load_part(x, h->x, h->type, row_of(h, item, c), h->samples, at);
        if (adding) load_part(y, to, h->type, row_of(h, item, c), h->samples, at);
        TIMES(n) {
            vec by_x = by[n] / (NEPER_PER_DB * x[n] * winners[n]);
            by_x = (vec)((mask)(magnitude(x[n]) >= peak[n]) & (mask)(by[n] != 0.0) & (mask)by_x);
            x[n] = adding ? y[n] + by_x : by_x;
        }
        store_part(x, to, h->type, row_of(h, item, c), h->samples, at);
    }
}

#endif
