/* Points between samples, seven to the next one: the largest of a block, or each of them. */
#ifndef DIFFFX_POINTS_H
#define DIFFFX_POINTS_H

#include "lanes.h"

#define TAPS 24
#define PHASES 8 /* points from one sample to the next, itself among them */
#define BEFORE (TAPS / 2 - 1)
#define PAIRS (PHASES / 2 - 1) /* of points equally far from the middle, mirror images of each other */
#define WIDTH 32 /* bytes of a vector along time: seven sums of such find room in registers */
typedef float wide32 __attribute__((vector_size(WIDTH)));
typedef double wide64 __attribute__((vector_size(WIDTH)));
typedef int32_t mask32 __attribute__((vector_size(WIDTH)));
typedef int64_t mask64 __attribute__((vector_size(WIDTH)));

/* How points are made of the samples around them. */
struct points {
    double reach; /* a point between samples is at most so much higher than they are */
    double weights[TAPS][PHASES];
    double even64[TAPS / 2][PAIRS + 1], odd64[TAPS / 2][PAIRS]; /* of sums and differences of mirrored samples */
    float even32[TAPS / 2][PAIRS + 1], odd32[TAPS / 2][PAIRS];
};

/* From taps [PHASES - 1, TAPS]. */
static void set_points(struct points *of, const double *taps) {
    for (int p = 0; p < PHASES; p++) {
        double sum = 0.0;
        for (int k = 0; k < TAPS; k++) {
            of->weights[k][p] = p ? taps[(p - 1) * TAPS + k] : k == BEFORE;
            sum += __builtin_fabs(of->weights[k][p]);
        }
        of->reach = sum > of->reach ? sum : of->reach;
    }
    for (int k = 0; k < TAPS / 2; k++)
        for (int p = 0; p <= PAIRS; p++) {
            double left = of->weights[k][p + 1], right = of->weights[TAPS - 1 - k][p + 1];
            of->even32[k][p] = of->even64[k][p] = p < PAIRS ? 0.5 * (left + right) : left;
            if (p < PAIRS) of->odd32[k][p] = of->odd64[k][p] = 0.5 * (left - right);
        }
}

#define INTERPOLATE(name, number, wide, mask, even, odd)                                                         \
    /* Samples from BEFORE before the first on -> the largest magnitude at each and between it and the next. */  \
    static void name(const struct points *of, const number *x, number *peak) {                                   \
        const int count = sizeof(wide) / sizeof(number);                                                         \
        const mask positive = ~(mask)(-(wide){0});                                                               \
        for (int n = 0; n < BLOCK; n += count) {                                                                 \
            wide sums[PAIRS + 1] = {{0}}, differences[PAIRS] = {{0}}, high;                                      \
            memcpy(&high, x + n + BEFORE, sizeof high);                                                          \
            high = (wide)((mask)high & positive);                                                                \
            for (int k = 0; k < TAPS / 2; k++) {                                                                 \
                wide left, right;                                                                                \
                memcpy(&left, x + n + k, sizeof left);                                                           \
                memcpy(&right, x + n + TAPS - 1 - k, sizeof right);                                              \
                wide both = left + right, apart = left - right;                                                  \
                for (int p = 0; p <= PAIRS; p++) sums[p] += of->even[k][p] * both;                               \
                for (int p = 0; p < PAIRS; p++) differences[p] += of->odd[k][p] * apart;                         \
            }                                                                                                    \
            for (int p = 0; p <= PAIRS; p++) {                                                                   \
                wide y = (wide)((mask)sums[p] & positive);                                                       \
                if (p < PAIRS) y += (wide)((mask)differences[p] & positive);                                     \
                mask lower = y <= high;                                                                          \
                high = (wide)((lower & (mask)high) | (~lower & (mask)y));                                        \
            }                                                                                                    \
            memcpy(peak + n, &high, sizeof high);                                                                \
        }                                                                                                        \
    }
INTERPOLATE(between32, float, wide32, mask32, even32, odd32)
INTERPOLATE(between64, double, wide64, mask64, even64, odd64)

/* The values of a sample and of the points up to the next, and the largest magnitude. */
INLINE double points_of(const struct points *of, const double *near, double *values) {
    double high = 0.0;
    for (int p = 0; p < PHASES; p++) values[p] = 0.0;
    for (int k = 0; k < TAPS; k++)
        for (int p = 0; p < PHASES; p++) values[p] += near[k] * of->weights[k][p];
    for (int p = 0; p < PHASES; p++) high = __builtin_fabs(values[p]) > high ? __builtin_fabs(values[p]) : high;
    return high;
}

#endif
