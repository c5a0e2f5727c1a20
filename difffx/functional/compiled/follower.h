/* Attack and release of four rows, a block at a time, forward and back.

One step is the larger of two rising straight lines where attack is the faster, else the smaller: the same, upside
down. So a lane keeps the faster pole, the slower pole, and the sign by which it turns its row. */
#ifndef DIFFFX_FOLLOWER_H
#define DIFFFX_FOLLOWER_H

#include "lanes.h"

struct follower {
    vec fast, slow, turn, state; /* state: before the block to come, turned */
    vec handed, by_fast, by_slow; /* of the way back: gradients to that state and to the poles */
};

INLINE void set_follower(struct follower *f, int lane, double attack, double release, double initial) {
    f->turn[lane] = attack > release ? -1.0 : 1.0;
    f->fast[lane] = attack > release ? release : attack;
    f->slow[lane] = attack > release ? attack : release;
    f->state[lane] = initial * f->turn[lane];
}

INLINE void gradients_of(const struct follower *f, int lane, double *attack, double *release, double *initial) {
    *attack = f->turn[lane] > 0 ? f->by_fast[lane] : f->by_slow[lane];
    *release = f->turn[lane] > 0 ? f->by_slow[lane] : f->by_fast[lane];
    if (initial) *initial = f->turn[lane] * f->handed[lane];
}

INLINE vec follow(const struct follower *f, vec state, vec u) {
    return larger(f->fast * state + (1.0 - f->fast) * u, f->slow * state + (1.0 - f->slow) * u);
}

/* Inputs -> states, in place. */
INLINE void follow_block(struct follower *f, vec *block) {
    vec state = f->state;
    for (int n = 0; n < BLOCK; n++) {
        state = follow(f, state, f->turn * block[n]);
        block[n] = f->turn * state;
    }
    f->state = state;
}

/* The same, keeping what `follow_block_back` needs: inputs and the states before them, both turned. */
INLINE void follow_block_again(struct follower *f, vec *block, vec *u, vec *before) {
    vec state = f->state;
    for (int n = 0; n < BLOCK; n++) {
        before[n] = state;
        u[n] = f->turn * block[n];
        state = follow(f, state, u[n]);
        block[n] = f->turn * state;
    }
}

/* Gradients of the states -> gradients of the inputs, in place. */
INLINE void follow_block_back(struct follower *f, vec *block, const vec *u, const vec *before) {
    vec handed = f->handed, by_fast = f->by_fast, by_slow = f->by_slow;
    for (int n = BLOCK - 1; n >= 0; n--) {
        mask rising = u[n] > before[n];
        vec pole = choose(rising, f->fast, f->slow), adjoint = f->turn * block[n] + handed;
        vec by_pole = adjoint * (before[n] - u[n]);
        vec up = (vec)(rising & (mask)by_pole);
        by_fast += up;
        by_slow += by_pole - up;
        handed = pole * adjoint;
        block[n] = f->turn * (adjoint - handed);
    }
    f->handed = handed;
    f->by_fast = by_fast;
    f->by_slow = by_slow;
}

#endif
