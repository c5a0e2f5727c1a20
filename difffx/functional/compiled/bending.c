/* Waveshapers in one pass, forward and back: (1 - mix) x + mix c (f(g x / c + b) - f(b)), f one of many curves,
on its way between the samples too.

Float audio is bent in float, eight samples at a time: every curve is written so that nothing cancels, which leaves a
few roundings, -140 dB. Nothing is kept for the way back, which works the curve out again beside its slope. */

#include "lanes.h"

#define PI 3.141592653589793
#define NEPER_PER_DB 0.11512925464970229 /* ln(10) / 20 */
#define TILE 256    /* samples bent at a time */
#define STRIP 960   /* samples of a row that are oversampled at a time */
#define REACH 32    /* taps on either side */
#define MOST 8      /* times the rate */
#define PIECE (32 * STRIP) /* samples that one thread bends at a time */
#define WORTHWHILE 65536   /* samples from which on more than one thread is faster; of oversampled ones an eighth */

enum { TANH, HARD, SOFT, DOUBLE_SOFT, CUBIC, ARC_TAN, ARC_SINH, ARC_TANH, EXPONENTIAL, MAGNITUDE, BLEND, STEPS };
enum { DRIVE, MIX, BIAS, CEILING, SHAPE, KNOBS };
enum { BY_DRY, BY_WET, BY_GAIN, BY_OFFSET, BY_SHAPE, BY_REST, SUMS };

/* The knobs of one item as the curves want them; the last line is for the curves made of powers. */
struct setting {
    int curve, biased, shaped;
    double gain, dry, wet, bias, shape, ceiling;
    double e, a, d, center, excess, by_gap;
};

INLINE double held_in(double x, double limit) { return x < -limit ? -limit : x > limit ? limit : x; }

/* What to multiply with: (e^f - 1 - f) / f^2 in powers of f; ln(1 + f) / s in powers of s^2, s = f / (2 + f);
   atan(t) / t in powers of t^2 up to t = tan(pi / 8), Chebyshev fits. */
static const double exp_terms[] = {1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
                                   1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
static const double log_terms[] = {2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17};
static const double atan_terms_32[] = {1.0,                   -0.333333068930485128, 0.199981830410832056,
                                       -0.142395326696489746, 0.105698288064144481,  -0.060263052276584591};
static const double atan_terms_64[] = {1.0,
                                       -0.333333333333331212,
                                       0.199999999999408915,
                                       -0.142857142792502449,
                                       0.111111107449196582,
                                       -0.0909089680906402708,
                                       0.0769204533090222495,
                                       -0.0666295181362919009,
                                       0.0584687829733087252,
                                       -0.0503510245660155184,
                                       0.0379652574538659362,
                                       -0.0178053972054194452};

/* The formats: bits of the mantissa, origin of the exponent, sqrt(1/2); numbers whose last bit is worth one; ln 2 in
   two parts, the first of few digits; arguments that powers, saturated curves and squares can take. */
#define MANTISSA EITHER(23, 52)
#define ORIGIN EITHER(127, 1023)
#define SIGN ((WHOLE)1 << EITHER(31, 63))
#define ROOT EITHER(0x3f3504f3, 0x3fe6a09e667f3bcd)
#define WHOLES EITHER(0x1.8p23, 0x1.8p52)
#define COUNTED_BITS ((WHOLE)EITHER(0x4b000000, 0x4330000000000000))
#define COUNTED EITHER(0x1p23 + 127, 0x1p52 + 1023)
#define LN2_HIGH EITHER(0.693359375, 0x1.62e42fee00000p-1)
#define LN2_LOW EITHER(-2.1219444005469057e-4, 0x1.a39ef35793c76p-33)
#define FAR EITHER(80.0, 700.0)
#define FLAT EITHER(30.0, 300.0)
#define FAR_OUT EITHER(20.0, 170.0)
#define LIMIT EITHER(1e18, 1e150)

#define REAL float
#define WHOLE int32_t
#define OF(name) name##_32
#include "bending.h"
#include "oversampling.h"
#undef REAL
#undef WHOLE
#undef OF
#define REAL double
#define WHOLE int64_t
#define OF(name) name##_64
#include "bending.h"
#include "oversampling.h"

INLINE double exp_of(double x) {
    lanes_64 power;
    grown_64(all_64(held_in(x, 700.0)), &power);
    return power[0];
}

struct job {
    int64_t items, channels, samples, pieces, type, factor, curve, shared;
    const double *knobs[KNOBS]; /* [items], or one for all where the bit of the knob in `shared` says so; or null */
    const double *taps;         /* [2 REACH, factor] */
    const void *x, *grad;       /* [items, channels, samples]; at factor 1 channels may count as samples */
    void *y, *grad_x;           /* like x; grad_x may be null */
    double *sums;               /* [items, channels, pieces, SUMS]; may be null */
};

INLINE double knob_of(const struct job *job, int knob, int64_t item, double otherwise) {
    return job->knobs[knob] ? job->knobs[knob][job->shared >> knob & 1 ? 0 : item] : otherwise;
}

static struct setting setting_of(const struct job *job, int64_t item) {
    const double mix = knob_of(job, MIX, item, 1.0), drive = knob_of(job, DRIVE, item, 0.0);
    struct setting s = {.curve = job->curve, .biased = !!job->knobs[BIAS]};
    s.shaped = job->curve == SOFT || job->curve == DOUBLE_SOFT || job->curve == EXPONENTIAL || job->curve >= BLEND;
    s.bias = knob_of(job, BIAS, item, 0.0);
    s.shape = knob_of(job, SHAPE, item, 0.0);
    s.ceiling = exp_of(NEPER_PER_DB * knob_of(job, CEILING, item, 0.0));
    s.gain = exp_of(NEPER_PER_DB * drive) / s.ceiling;
    s.dry = 1.0 - mix;
    s.wet = mix * s.ceiling;
    s.center = held_in(s.bias, job->type == 4 ? 10.0 : 40.0); /* beyond, tanh is 1 */
    s.excess = s.bias - s.center;
    s.e = exp_of(2.0 * s.center);
    if (job->curve == TANH || job->curve == BLEND) s.a = 2.0 * s.e / (s.e + 1.0);
    if (job->curve == STEPS) s.a = exp_of(0.6931471805599453 * (s.shape - 1.0));
    if (job->curve == ARC_SINH) s.a = __builtin_sqrt(1.0 + s.bias * s.bias);
    if (job->curve == DOUBLE_SOFT) {
        const double power = exp_of(2.0 * held_in(s.shape, job->type == 4 ? 10.0 : 80.0));
        s.shape = 0.5 * (power + 1.0 / power);
        s.by_gap = -2.0 * (power - 1.0 / power);
        const double share = 2.0 * s.e / (s.e * s.e + 2.0 * s.shape * s.e + 1.0);
        s.a = (1.0 + s.shape * s.e) * share;
        s.d = (s.e + s.shape) * share;
    }
    return s;
}

static void bend_piece(void *argument, int64_t index) {
    const struct job *job = argument;
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, all = job->samples;
    const int64_t last = from + PIECE < all ? from + PIECE : all;
    struct setting s = setting_of(job, row / job->channels);
    const float *x32 = (const float *)job->x + row * all;
    const double *x64 = (const double *)job->x + row * all;
    float *y32 = (float *)job->y + row * all;
    double *y64 = (double *)job->y + row * all;
    if (job->factor == 1 && job->type == 4) bend_32(&s, x32 + from, y32 + from, last - from);
    else if (job->factor == 1) bend_64(&s, x64 + from, y64 + from, last - from);
    else if (job->type == 4) bend_between_32(&s, job->taps, job->factor, x32, y32, from, last, all);
    else bend_between_64(&s, job->taps, job->factor, x64, y64, from, last, all);
}

static void bend_piece_back(void *argument, int64_t index) {
    const struct job *job = argument;
    const int64_t row = index / job->pieces, from = index % job->pieces * PIECE, all = job->samples;
    const int64_t last = from + PIECE < all ? from + PIECE : all, one = job->factor == 1;
    struct setting s = setting_of(job, row / job->channels);
    double *sums = job->sums ? job->sums + index * SUMS : NULL;
    if (job->type == 4) {
        const float *x = (const float *)job->x + row * all, *grad = (const float *)job->grad + row * all;
        float *to = job->grad_x ? (float *)job->grad_x + row * all : NULL;
        if (one) bend_back_32(&s, x + from, grad + from, to ? to + from : NULL, sums, last - from);
        else bend_between_back_32(&s, job->taps, job->factor, x, grad, to, sums, from, last, all);
    } else {
        const double *x = (const double *)job->x + row * all, *grad = (const double *)job->grad + row * all;
        double *to = job->grad_x ? (double *)job->grad_x + row * all : NULL;
        if (one) bend_back_64(&s, x + from, grad + from, to ? to + from : NULL, sums, last - from);
        else bend_between_back_64(&s, job->taps, job->factor, x, grad, to, sums, from, last, all);
    }
}

/* From the sums over an item to the gradients of its knobs, [KNOBS, items]; knobs for all collect in the first. */
static void to_knobs(const struct job *job, int64_t item, double *grad_knobs) {
    struct setting s = setting_of(job, item);
    double sums[SUMS] = {0};
    const int64_t parts = job->channels * job->pieces;
    for (int64_t part = item * parts; part < (item + 1) * parts; part++)
        for (int i = 0; i < SUMS; i++) sums[i] += job->sums[part * SUMS + i];
    lanes_64 slope[TILE / 4], by_shape[TILE / 4], y[TILE / 4], silence[TILE / 4] = {{0}};
    bend_tile_64(&s, silence, y, slope, by_shape);
    const double by_log_gain = s.wet * s.gain * sums[BY_GAIN];
    double by[KNOBS];
    by[DRIVE] = NEPER_PER_DB * by_log_gain;
    by[MIX] = s.ceiling * sums[BY_WET] - sums[BY_DRY];
    by[BIAS] = s.biased ? s.wet * (sums[BY_OFFSET] - slope[0][0] * sums[BY_REST]) : 0.0;
    by[CEILING] = NEPER_PER_DB * (s.wet * sums[BY_WET] - by_log_gain);
    by[SHAPE] = s.shaped ? s.wet * sums[BY_SHAPE] : 0.0;
    if (s.shaped && s.biased) by[SHAPE] -= s.wet * by_shape[0][0] * sums[BY_REST];
    if (job->curve == DOUBLE_SOFT) by[SHAPE] *= s.by_gap;
    for (int knob = 0; knob < KNOBS; knob++)
        grad_knobs[knob * job->items + (job->shared >> knob & 1 ? 0 : item)] += by[knob];
}

/* As in `struct job`. */
#define GIVEN                                                                                                   \
    int64_t items, int64_t channels, int64_t samples, int64_t type, int64_t factor, int64_t curve,              \
        int64_t shared, const double *drive, const double *mix, const double *bias,           \
        const double *ceiling, const double *shape, const double *taps, const void *x
#define TAKEN                                                                                                   \
    .items = items, .channels = channels, .samples = samples, .pieces = (samples + PIECE - 1) / PIECE,          \
    .type = type, .factor = factor, .curve = curve, .shared = shared,                     \
    .knobs = {drive, mix, bias, ceiling, shape}, .taps = taps, .x = x

static void bend_all(struct job *job, void (*piece)(void *, int64_t), int64_t threads) {
    const int64_t rows = job->items * job->channels, work = rows * job->samples * (job->factor == 1 ? 1 : 8);
    fan_out(piece, job, rows * job->pieces, work < WORTHWHILE ? 1 : threads);
}

int difffx_bend(GIVEN, void *y, int64_t threads) {
    struct job job = {TAKEN, .y = y};
    bend_all(&job, bend_piece, threads);
    return 0;
}

/* `grad_knobs`: [KNOBS, items]; it and `grad_x` may be null. */
int difffx_bend_backward(GIVEN, const void *grad, void *grad_x, double *grad_knobs, int64_t threads) {
    struct job job = {TAKEN, .grad = grad, .grad_x = grad_x};
    if (grad_knobs && !(job.sums = calloc(items * channels * job.pieces * SUMS, sizeof(double)))) return 1;
    bend_all(&job, bend_piece_back, threads);
    if (grad_knobs) {
        memset(grad_knobs, 0, KNOBS * items * sizeof(double));
        for (int64_t item = 0; item < items; item++) to_knobs(&job, item, grad_knobs);
    }
    free(job.sums);
    return 0;
}
