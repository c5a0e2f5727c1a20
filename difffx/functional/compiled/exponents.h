/* Logarithms and powers of four numbers at once. */
#ifndef DIFFFX_EXPONENTS_H
#define DIFFFX_EXPONENTS_H

#include "lanes.h"

INLINE mask bits(int64_t x) { return (mask){x, x, x, x}; }
INLINE vec magnitude(vec x) { return (vec)((mask)x & bits(INT64_MAX)); }
INLINE vec smaller(vec x, vec y) { return -larger(-x, -y); }

/* Of a positive number, not denormal; within 1e-15 or so. NaN for NaN and infinity. */
INLINE vec log2_of(vec x) {
    const int64_t one = 0x3ff0000000000000, root = 0x3fe6a09e667f3bcd; /* 1 and sqrt(1/2) */
    mask from_root = (mask)x + bits(one - root);
    mask exponent = (mask)((umask)from_root >> 52);
    vec m = (vec)((mask)x - (from_root & bits(0x7ff0000000000000)) + bits(one)); /* in [sqrt(1/2), sqrt(2)) */
    vec s = (m - 1.0) / (m + 1.0), z = s * s, y = splat(2.0 / 17);
    y = y * z + 2.0 / 15;
    y = y * z + 2.0 / 13;
    y = y * z + 2.0 / 11;
    y = y * z + 2.0 / 9;
    y = y * z + 2.0 / 7;
    y = y * z + 2.0 / 5;
    y = y * z + 2.0 / 3;
    y = y * z + 2.0;
    return y * s * 1.4426950408889634 + ((vec)(exponent | bits(0x4330000000000000)) - 0x1.00000000003ffp52) + (x - x);
}

/* 2 to the power of x, within 1e-14; held at 2^-1000 and 2^1000. */
INLINE vec exp2_of(vec x) {
    x = larger(splat(-1000.0), smaller(splat(1000.0), x));
    vec shifted = x + 0x1.8p52, f = (x - (shifted - 0x1.8p52)) * 0.6931471805599453, y = splat(1.0 / 39916800);
    y = y * f + 1.0 / 3628800;
    y = y * f + 1.0 / 362880;
    y = y * f + 1.0 / 40320;
    y = y * f + 1.0 / 5040;
    y = y * f + 1.0 / 720;
    y = y * f + 1.0 / 120;
    y = y * f + 1.0 / 24;
    y = y * f + 1.0 / 6;
    y = y * f + 0.5;
    y = y * f + 1.0;
    y = y * f + 1.0;
    return y * (vec)(((mask)shifted << 52) + bits(0x3ff0000000000000));
}

#endif
