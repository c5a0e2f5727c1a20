/* The curves of the waveshapers in the precision of the audio: bending.c includes this for float and for double.

REAL is the type and WHOLE the integer of its size, OF(name) the name of a thing in that precision. */

#define V OF(lanes)
#define M OF(whole)
#define WIDTH ((int)(32 / sizeof(REAL)))
#define EITHER(of_float, of_double) (sizeof(REAL) == 4 ? (of_float) : (of_double))

typedef REAL V __attribute__((vector_size(32)));
typedef WHOLE M __attribute__((vector_size(32)));

INLINE V OF(all)(double x) { return (REAL)x - (V){}; }
INLINE V OF(choose)(M which, V yes, V no) { return (V)((which & (M)yes) | (~which & (M)no)); }
INLINE V OF(size)(V x) { return (V)((M)x & ~((M){} + SIGN)); }
INLINE V OF(with_sign)(V size, V of) { return (V)((M)size | ((M)of & ((M){} + SIGN))); }

/* NaN where y is NaN. */
INLINE V OF(greater)(V x, V y) {
#if defined(__AVX__)
    return (V)(sizeof(REAL) == 4 ? (__m256)_mm256_max_ps((__m256)x, (__m256)y)
                                 : (__m256)_mm256_max_pd((__m256d)x, (__m256d)y));
#else
    return OF(choose)(x > y, x, y);
#endif
}
INLINE V OF(least)(V x, V y) {
#if defined(__AVX__)
    return (V)(sizeof(REAL) == 4 ? (__m256)_mm256_min_ps((__m256)x, (__m256)y)
                                 : (__m256)_mm256_min_pd((__m256d)x, (__m256d)y));
#else
    return OF(choose)(x < y, x, y);
#endif
}
INLINE V OF(held)(V x, double low, double high) {
    return OF(greater)(OF(all)(low), OF(least)(OF(all)(high), x));
}

INLINE V OF(root)(V x) {
#if defined(__AVX__)
    return (V)(sizeof(REAL) == 4 ? (__m256)_mm256_sqrt_ps((__m256)x) : (__m256)_mm256_sqrt_pd((__m256d)x));
#else
    for (int l = 0; l < WIDTH; l++) x[l] = (REAL)__builtin_sqrt(x[l]);
    return x;
#endif
}

INLINE V OF(series)(V x, const double *terms, int count) {
    V y = OF(all)(terms[count - 1]);
#pragma GCC unroll 16
    for (int k = count - 2; k >= 0; k--) y = y * x + (REAL)terms[k];
    return y;
}

/* e^x - 1, to its last digits however small x is, and e^x, for |x| up to FAR. */
INLINE V OF(grown)(V x, V *power) {
    V shifted = x * (REAL)1.4426950408889634 + (REAL)WHOLES, n = shifted - (REAL)WHOLES;
    V f = x - n * (REAL)LN2_HIGH - n * (REAL)LN2_LOW;
    V q = f * f * OF(series)(f, exp_terms, EITHER(6, 12)) + f;
    V scale = (V)(((M)shifted << MANTISSA) + ((WHOLE)ORIGIN << MANTISSA));
    *power = scale * q + scale;
    return scale * q + (scale - 1);
}

/* ln(1 + z) for z of 0 or more, to its last digits however small z is. */
INLINE V OF(log1p)(V z) {
    M exponent = ((M)(z + 1) + (((WHOLE)ORIGIN << MANTISSA) - (WHOLE)ROOT)) >> MANTISSA;
    V scale = (V)((2 * ORIGIN - exponent) << MANTISSA);
    V f = z * scale + (scale - 1), s = f / (f + 2), n = (V)(exponent | COUNTED_BITS) - (REAL)COUNTED;
    V y = s * OF(series)(s * s, log_terms, EITHER(5, 9));
    return n * (REAL)LN2_HIGH + (y + n * (REAL)LN2_LOW);
}

/* The angle of the point (x, y). */
INLINE V OF(angle)(V y, V x) {
    V up = OF(size)(y), along = OF(size)(x), less = OF(least)(up, along), more = OF(greater)(up, along);
    M bent = less > more * (REAL)0.41421356237309503, steep = up > along, behind = x < 0;
    V t = OF(choose)(bent, less - more, less) / OF(choose)(bent, less + more, more);
    V a = t * OF(series)(t * t, EITHER(atan_terms_32, atan_terms_64), EITHER(6, 12)) + (V)(bent & (M)OF(all)(0.25 * PI));
    a = OF(choose)(steep, (REAL)(0.5 * PI) - a, a);
    a = OF(choose)(behind, (REAL)PI - a, a);
    return OF(with_sign)(a, y);
}

/* Each curve: f(u + b) - f(b) without cancellation, and on the way `back` f'(u + b) and, but for a constant, the
   derivative of f(u + b) to its shape. Constants of an item stand in `s`. */
#define CURVE(name) \
    INLINE V OF(name)(const struct setting *s, V u, int back, V *slope, V *by_shape)

/* With E = e^2b and X = e^2(u + b), tanh(u + b) - tanh b = 2 (X - E) / ((X + 1) (E + 1)). */
CURVE(tanh) {
    V power, grown, r;
    u = OF(held)(u + (REAL)s->excess, -FLAT - s->center, FLAT - s->center);
    grown = OF(grown)(u + u, &power);
    power *= (REAL)s->e;
    r = 1 / (power + 1);
    if (back) *slope = 4 * r * (power * r);
    return grown * r * (REAL)s->a;
}

INLINE V OF(inside)(V u, V low, V high) { return (V)((M)((u > low) & (u < high)) & (M)OF(all)(1.0)); }

CURVE(hard) {
    double center = held_in(s->bias, 1.0), low = -1.0 - center, high = 1.0 - center;
    u += (REAL)(s->bias - center);
    if (back) *slope = OF(inside)(u, OF(all)(low), OF(all)(high));
    return OF(held)(u, low, high);
}

CURVE(soft) {
    const REAL k = (REAL)s->shape;
    V level = OF(size)(u), knee = OF(held)((level - (1 - k)) * ((REAL)0.5 / k), 0.0, 1.0);
    if (back) {
        *slope = 1 - knee;
        *by_shape = OF(with_sign)((1 - knee) * knee, -u);
    }
    return OF(with_sign)(OF(choose)(knee >= 1, OF(all)(1.0), level - k * knee * knee), u);
}

/* sinh(2u) / (cosh(2u) + C), C = cosh(2 gap): with E and X as above, D(X) = X^2 + 2 C X + 1, the difference is
   2 (X - E) (X + E + C (X E + 1)) / (D(X) D(E)). */
CURVE(double_soft) {
    const REAL c = (REAL)s->shape;
    V power, grown, r;
    u = OF(held)(u + (REAL)s->excess, -FAR_OUT - s->center, FAR_OUT - s->center);
    grown = OF(grown)(u + u, &power);
    power *= (REAL)s->e;
    r = 1 / (power * (power + 2 * c) + 1);
    if (back) {
        V share = power * r;
        *slope = 4 * share * (c * power * share + (2 * power + c) * r);
        *by_shape = (grown * (REAL)s->e + (REAL)(s->e - 1.0)) * share * ((power + 1) * r);
    }
    return grown * ((power * (REAL)s->a + (REAL)s->d) * r);
}

CURVE(cubic) {
    double center = held_in(s->bias, 1.5);
    V v = OF(held)(u + (REAL)(s->bias - center), -1.5 - center, 1.5 - center), w = v + (REAL)center;
    if (back) *slope = 1 - (REAL)(4.0 / 9.0) * w * w;
    return v - v * (REAL)(4.0 / 27.0) * (w * (w + (REAL)center) + (REAL)(center * center));
}

/* The angle between two directions, in one arctangent. */
CURVE(arctan) {
    const REAL q = (REAL)(0.5 * PI * s->bias);
    V rise = OF(held)(u * (REAL)(0.5 * PI), -LIMIT, LIMIT), p = rise + q;
    if (back) *slope = 1 / (p * p + 1);
    return OF(angle)(rise, q * rise + (1 + q * q)) * (REAL)(2.0 / PI);
}

/* asinh p - asinh b = asinh(p sqrt(1 + b^2) - b sqrt(1 + p^2)), where p = u + b. */
CURVE(arcsinh) {
    const REAL b = (REAL)s->bias, root = (REAL)s->a;
    u = OF(held)(u, -LIMIT, LIMIT);
    V p = u + b, of_p = OF(root)(p * p + 1), size = OF(size)(u * (((root * of_p - b * p) + 1) / (of_p + root)));
    if (back) *slope = 1 / of_p;
    return OF(with_sign)(OF(log1p)(size + size * size / (OF(root)(size * size + 1) + 1)), u);
}

CURVE(arctanh) {
    const REAL last = (REAL)0.9640275800758169; /* tanh 2 */
    V level = OF(size)(u), size = OF(least)(OF(all)(last), level);
    if (back) *slope = (V)((level < last) & (M)(1 / (1 - size * size)));
    return OF(with_sign)(OF(log1p)((size + size) / (1 - size)) * (REAL)0.5, u);
}

CURVE(exponential) {
    const REAL k = (REAL)s->shape;
    M below = u < 0;
    V power, speed = OF(choose)(below, OF(all)(k), OF(all)(1.0));
    V grown = OF(grown)(OF(greater)(OF(all)(-FAR), -OF(size)(u) * speed), &power);
    V y = OF(with_sign)(-grown * OF(choose)(below, OF(all)(1 / k), OF(all)(1.0)), u);
    if (back) {
        *slope = power;
        *by_shape = (V)(below & (M)((power * u - y) * (1 / k)));
    }
    return y;
}

CURVE(magnitude) {
    if (back) *slope = OF(choose)(u == 0, u, OF(with_sign)(OF(all)(1.0), u));
    return OF(size)(u);
}

/* To a grid; the gradient goes straight through, that to the shape, in bits, is of the error's size. */
CURVE(steps) {
    V place = u * (REAL)s->a, near = place + (REAL)WHOLES - (REAL)WHOLES;
    V y = OF(choose)(OF(size)(place) < (REAL)(0.25 * WHOLES), near, place) * (REAL)(1.0 / s->a);
    if (back) {
        *slope = OF(all)(1.0);
        *by_shape = (u - y) * (REAL)0.6931471805599453;
    }
    return y;
}

/* From tanh (shape 0) over the cubic (1) to the clip (2). */
CURVE(blend) {
    const REAL share = (REAL)(s->shape < 1.0 ? s->shape : s->shape - 1.0);
    V slope_a, slope_b, cubic = OF(cubic)(s, u, back, &slope_b, NULL);
    V other = s->shape < 1.0 ? OF(tanh)(s, u, back, &slope_a, NULL) : OF(hard)(s, u, back, &slope_a, NULL);
    V from = s->shape < 1.0 ? other : cubic, to = s->shape < 1.0 ? cubic : other;
    if (back) {
        *slope = s->shape < 1.0 ? slope_a + share * (slope_b - slope_a) : slope_b + share * (slope_a - slope_b);
        *by_shape = to - from;
    }
    return from + share * (to - from);
}
#undef CURVE

#define VECTORS(n) for (int n = 0; n < TILE / WIDTH; n++)
#define RUN(name, curve)                                                           \
    case name:                                                                     \
        if (slope) VECTORS(n) y[n] = OF(curve)(s, x[n] * gain + x[n] * rest, 1, slope + n, by_shape + n); \
        else VECTORS(n) y[n] = OF(curve)(s, x[n] * gain + x[n] * rest, 0, NULL, NULL);           \
        break;

/* A tile of the wet part; slope and by_shape may be null together. `rest` is what REAL cannot hold of a factor. */
static void OF(bend_tile)(const struct setting *s, const V *x, V *y, V *slope, V *by_shape) {
    const REAL gain = (REAL)s->gain, rest = (REAL)(s->gain - gain);
    switch (s->curve) {
        RUN(TANH, tanh)
        RUN(HARD, hard)
        RUN(SOFT, soft)
        RUN(DOUBLE_SOFT, double_soft)
        RUN(CUBIC, cubic)
        RUN(ARC_TAN, arctan)
        RUN(ARC_SINH, arcsinh)
        RUN(ARC_TANH, arctanh)
        RUN(EXPONENTIAL, exponential)
        RUN(MAGNITUDE, magnitude)
        RUN(BLEND, blend)
        RUN(STEPS, steps)
    }
}

static void OF(bend)(const struct setting *s, const REAL *x, REAL *y, int64_t count) {
    V in[TILE / WIDTH], out[TILE / WIDTH];
    const REAL dry = (REAL)s->dry, wet = (REAL)s->wet, rest = (REAL)(s->wet - wet);
    for (int64_t at = 0; at < count; at += TILE) {
        const int64_t valid = count - at < TILE ? count - at : TILE;
        if (valid < TILE) memset(in, 0, sizeof in);
        memcpy(in, x + at, valid * sizeof(REAL));
        OF(bend_tile)(s, in, out, NULL, NULL);
        VECTORS(n) out[n] = dry * in[n] + (wet * out[n] + rest * out[n]);
        memcpy(y + at, out, valid * sizeof(REAL));
    }
}

/* A sum of `count` products, some of them in the precision of the audio; y null: of x alone. */
INLINE double OF(sum)(const V *x, const V *y, int count) {
    V a = {0}, b = {0}, c = {0}, d = {0};
    for (int n = 0; n < count / WIDTH; n += 4) {
        a += y ? x[n] * y[n] : x[n];
        b += y ? x[n + 1] * y[n + 1] : x[n + 1];
        c += y ? x[n + 2] * y[n + 2] : x[n + 2];
        d += y ? x[n + 3] * y[n + 3] : x[n + 3];
    }
    a = (a + b) + (c + d);
    double low = 0.0, high = 0.0;
    for (int l = 0; l < WIDTH; l += 2) {
        low += a[l];
        high += a[l + 1];
    }
    return low + high;
}

static void OF(bend_back)(const struct setting *s, const REAL *x, const REAL *grad, REAL *by_x, double *sums,
                          int64_t count) {
    V in[TILE / WIDTH], g[TILE / WIDTH], wet[TILE / WIDTH], slope[TILE / WIDTH], by_shape[TILE / WIDTH];
    const REAL straight = (REAL)s->dry, bent = (REAL)(s->wet * s->gain);
    for (int64_t at = 0; at < count; at += TILE) {
        const int64_t valid = count - at < TILE ? count - at : TILE;
        if (valid < TILE) {
            memset(in, 0, sizeof in);
            memset(g, 0, sizeof g);
        }
        memcpy(in, x + at, valid * sizeof(REAL));
        memcpy(g, grad + at, valid * sizeof(REAL));
        OF(bend_tile)(s, in, wet, slope, by_shape);
        if (sums) {
            sums[BY_DRY] += OF(sum)(g, in, TILE);
            sums[BY_WET] += OF(sum)(g, wet, TILE);
            if (s->shaped) sums[BY_SHAPE] += OF(sum)(g, by_shape, TILE);
            if (s->biased) sums[BY_REST] += OF(sum)(g, NULL, TILE);
        }
        VECTORS(n) {
            wet[n] = g[n] * slope[n];
            g[n] = g[n] * straight + wet[n] * bent;
        }
        if (sums) {
            sums[BY_GAIN] += OF(sum)(wet, in, TILE);
            if (s->biased) sums[BY_OFFSET] += OF(sum)(wet, NULL, TILE);
        }
        if (by_x) memcpy(by_x + at, g, valid * sizeof(REAL));
    }
}

#undef VECTORS
#undef RUN
#undef V
#undef M
#undef WIDTH
#undef EITHER
