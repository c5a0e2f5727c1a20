/* Sines and cosines of four angles at once. */
#ifndef DIFFFX_ANGLES_H
#define DIFFFX_ANGLES_H

#include "exponents.h"

/* The largest whole number not above x, where |x| is below 2^51. */
INLINE vec floor_of(vec x) {
    vec nearest = (x + 0x1.8p52) - 0x1.8p52;
    return nearest - (vec)((mask)(nearest > x) & (mask)splat(1.0));
}

/* Sine and cosine of x turns, |x| below 2^50, within 1e-15; NaN for NaN and infinity. */
INLINE void sine_cosine(vec x, vec *sine, vec *cosine) {
    vec shifted = x + 0x1.8p50; /* to whole quarters, which the last bits count */
    vec r = (x - (shifted - 0x1.8p50)) * 6.283185307179586, z = r * r;
    vec s = splat(-1.0 / 1307674368000), c = splat(1.0 / 20922789888000);
    s = s * z + 1.0 / 6227020800;
    s = s * z - 1.0 / 39916800;
    s = s * z + 1.0 / 362880;
    s = s * z - 1.0 / 5040;
    s = s * z + 1.0 / 120;
    s = s * z - 1.0 / 6;
    s = s * z * r + r;
    c = c * z - 1.0 / 87178291200;
    c = c * z + 1.0 / 479001600;
    c = c * z - 1.0 / 3628800;
    c = c * z + 1.0 / 40320;
    c = c * z - 1.0 / 720;
    c = c * z + 1.0 / 24;
    c = c * z - 0.5;
    c = c * z + 1.0;
    mask quarter = (mask)shifted, odd = -(quarter & bits(1));
    *sine = (vec)((mask)choose(odd, c, s) ^ (quarter & bits(2)) << 62);
    *cosine = (vec)((mask)choose(odd, s, c) ^ ((quarter + bits(1)) & bits(2)) << 62);
}

#endif
