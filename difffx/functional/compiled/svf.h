/* One step of the trapezoidal state-variable filter, four rows at a time, forward and back; see svf.c. */
#ifndef DIFFFX_SVF_H
#define DIFFFX_SVF_H

#include "angles.h"

#define ALL(n) for (int n = 0; n < BLOCK; n++)
#define HIGHEST 0.49
#define PI 3.141592653589793

/* tan(pi hz / sample_rate), held at HIGHEST, and its slope. */
INLINE vec tangent_of(vec hz, double sample_rate, vec *slope) {
    const double limit = HIGHEST * sample_rate;
    vec sine, cosine;
    sine_cosine(smaller(splat(limit), hz) * (0.5 / sample_rate), &sine, &cosine);
    vec tangent = sine / cosine;
    *slope = (vec)((mask)((1.0 + tangent * tangent) * (PI / sample_rate)) & (mask)(hz <= limit));
    return tangent;
}

/* One sample: memories [2] on, band and low out. */
INLINE void step(vec *memories, vec x, vec g, vec share, vec *band, vec *low) {
    *band = (memories[0] + g * (x - memories[1])) * share;
    *low = memories[1] + g * *band;
    memories[0] = 2.0 * *band - memories[0];
    memories[1] = 2.0 * *low - memories[1];
}

/* One sample back: what memories [2] and the outputs get from later, gradients of the two equations out. */
INLINE void step_back(vec *memories, vec band, vec low, vec g, vec share, vec *by_band, vec *by_low) {
    band += 2.0 * memories[0];
    low += 2.0 * memories[1];
    *by_band = (band + g * low) * share;
    *by_low = low - g * *by_band;
    memories[0] = *by_band - memories[0];
    memories[1] = *by_low - memories[1];
}

#endif
