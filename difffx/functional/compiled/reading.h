/* Reading a row between its samples, at places that move, and its reverse: a stretch at a time. */
#ifndef DIFFFX_READING_H
#define DIFFFX_READING_H

#include "lanes.h"

#define STRETCH 256  /* samples whose places are worked out at a time */
#define PIECE 16384  /* samples that one thread reads at a time */
#define MOST_RUNS 32 /* in a stretch: where the lag changes more often, each sample is read by itself */
#define NEIGHBORS 4

struct stretch {
    int64_t first, count;  /* its samples */
    int inside;            /* whether no neighbor lies before the first sample of the row */
    int runs;              /* parts with one lag each; 0: too many */
    int32_t ends[MOST_RUNS];
    int32_t lag[STRETCH];  /* samples from each one back to its nearest neighbor */
    double place[STRETCH]; /* from there on */
};

/* From `delay`, that of each sample of the stretch. One that is not a number reads silence, at a place that is
   not one either. */
static void find(struct stretch *s, const double *restrict delay, int64_t first, int64_t count, int neighbors) {
    const double limit = first + STRETCH;
    int32_t outside = 0, changes = 0;
    s->first = first;
    s->count = count;
    for (int64_t n = 0; n < count; n++) {
        double d = delay[n];
        d = d < 0.0 ? 0.0 : d;
        double start = __builtin_floor(d) - (neighbors == 4);
        start = start < 0.0 ? 0.0 : start;
        s->place[n] = d - start;
        s->lag[n] = (int32_t)(start < limit ? start : limit);
    }
    for (int64_t n = 0; n < count; n++) outside |= (int32_t)(first + n) - s->lag[n] - (neighbors - 1);
    for (int64_t n = 1; n < count; n++) changes += s->lag[n] != s->lag[n - 1];
    s->inside = outside >= 0;
    s->runs = 0;
    if (!s->inside || changes >= MOST_RUNS) return;
    for (int32_t n = 1; s->runs < changes; n++)
        if (s->lag[n] != s->lag[n - 1]) s->ends[s->runs++] = n;
    s->ends[s->runs++] = (int32_t)count;
}

INLINE double sample_at(const void *row, int64_t type, int64_t at) {
    return type == 4 ? ((const float *)row)[at] : ((const double *)row)[at];
}

INLINE void add_at(void *row, int64_t type, int64_t at, double value) {
    if (type == 4) ((float *)row)[at] += (float)value;
    else ((double *)row)[at] += value;
}

INLINE void put_at(void *row, int64_t type, int64_t at, double value) {
    if (type == 4) ((float *)row)[at] = (float)value;
    else ((double *)row)[at] = value;
}

/* The polynomial through the neighbors in Newton's form: its value and its slope. */
INLINE double value_of(const double *t, double place, int neighbors, double *slope) {
    double first = t[1] - t[0];
    if (neighbors == 2) {
        *slope = first;
        return t[0] + place * first;
    }
    double rise = t[2] - t[1], second = rise - first, last = t[3] - t[2] - rise;
    double third = (last - second) * (1.0 / 3.0), half = (place - 1.0) * 0.5;
    double bend = second + (place - 2.0) * third, climb = first + half * bend;
    *slope = climb + place * (0.5 * bend + half * third);
    return t[0] + place * climb;
}

INLINE double weight_of(int k, double place, int neighbors) {
    if (neighbors == 2) return k ? place : 1.0 - place;
    double a = place - 1.0, b = place - 2.0, c = place - 3.0;
    return k == 0   ? a * b * c * (-1.0 / 6.0)
           : k == 1 ? place * c * b * 0.5
           : k == 2 ? place * c * a * -0.5
                    : a * b * place * (1.0 / 6.0);
}

INLINE void read_as(const struct stretch *s, const void *row, int64_t type, int neighbors, double *value,
                         double *slope) {
    const char *now = (const char *)row + s->first * type;
    for (int32_t run = 0, n = 0; run < s->runs; run++) {
        const char *from = now - s->lag[n] * type;
        for (const int32_t end = s->ends[run]; n < end; n++) {
            double t[NEIGHBORS];
            for (int k = 0; k < neighbors; k++) t[k] = sample_at(from, type, n - k);
            value[n] = value_of(t, s->place[n], neighbors, slope + n);
        }
    }
    for (int32_t n = 0; n < s->count && !s->runs; n++) {
        double t[NEIGHBORS];
        for (int k = 0; k < neighbors; k++) {
            int32_t at = n - s->lag[n] - k;
            t[k] = s->inside || (int32_t)s->first + at >= 0 ? sample_at(now, type, at) : 0.0;
        }
        value[n] = value_of(t, s->place[n], neighbors, slope + n);
    }
}

INLINE void scatter_as(const struct stretch *s, void *row, int64_t type, int neighbors, const double *grad) {
    char *now = (char *)row + s->first * type;
    double part[NEIGHBORS][STRETCH];
    for (int32_t n = 0; n < s->count; n++)
        for (int k = 0; k < neighbors; k++) part[k][n] = grad[n] * weight_of(k, s->place[n], neighbors);
    for (int32_t run = 0, begin = 0; run < s->runs; begin = s->ends[run++]) {
        const int32_t end = s->ends[run], ahead = neighbors - 1, whole = end - ahead > begin ? end - ahead : begin;
        char *to = now - s->lag[begin] * type;
        for (int32_t m = begin; m < whole; m++) {
            double sum = part[0][m];
            for (int k = 1; k < neighbors; k++) sum += part[k][m + k];
            add_at(to, type, m, sum);
        }
        for (int k = 0; k < neighbors; k++) {
            for (int32_t n = begin; n < begin + k && n < end; n++) add_at(to, type, n - k, part[k][n]);
            for (int32_t n = whole + k; n < end; n++) add_at(to, type, n - k, part[k][n]);
        }
    }
    /* Neighbor after neighbor, for the next sample adds to almost the same places. */
    for (int k = 0; k < neighbors && !s->runs; k++)
        for (int32_t n = 0; n < s->count; n++) {
            int32_t at = n - s->lag[n] - k;
            if (s->inside || (int32_t)s->first + at >= 0) add_at(now, type, at, part[k][n]);
        }
}

/* One copy of the code for each type and number of neighbors. */
#define DISPATCH(name, ...)                                          \
    if (type == 4 && neighbors == 4) name(s, row, 4, 4, __VA_ARGS__); \
    else if (type == 4) name(s, row, 4, 2, __VA_ARGS__);             \
    else if (neighbors == 4) name(s, row, 8, 4, __VA_ARGS__);        \
    else name(s, row, 8, 2, __VA_ARGS__);

/* Values and slopes of each sample of the stretch. */
static void read_stretch(const struct stretch *s, const void *row, int64_t type, int neighbors,
                         double *restrict value, double *restrict slope) {
    DISPATCH(read_as, value, slope)
}

/* grad times weight added to every neighbor in `row`. */
static void scatter_stretch(const struct stretch *s, void *row, int64_t type, int neighbors,
                            const double *restrict grad) {
    DISPATCH(scatter_as, grad)
}

#undef DISPATCH

#endif
