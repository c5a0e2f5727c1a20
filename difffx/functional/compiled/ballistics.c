/* Attack and release, forward and back, in double precision.

One step is the larger of two rising straight lines where attack is the faster, else the smaller: the same, upside
down. So a lane keeps the faster pole, the slower pole, and the sign by which it turns its row. */

#include "lanes.h"

struct job {
    int64_t rows, samples, groups, blocks, type;
    const double *attack, *release, *initial; /* [rows] */
    const void *u, *grad;                     /* [rows, samples] */
    void *y, *grad_u;
    double *kept;                             /* [groups, blocks, LANES], states before each block; may be null */
    double *grad_attack, *grad_release, *grad_initial;
};

struct follower {
    struct lane lanes[LANES];
    vec fast, slow, turn, state;
};

static int64_t first_row(const struct job *job, int64_t group) {
    return group * ((job->rows + job->groups - 1) / job->groups);
}

static struct follower place(const struct job *job, int64_t group) {
    struct follower f = {.turn = splat(1.0)};
    int64_t first = first_row(job, group), end = first_row(job, group + 1);
    for (int l = 0; l < LANES; l++) {
        int64_t row = first + l;
        if (row >= end || row >= job->rows) continue;
        double attack = job->attack[row], release = job->release[row];
        f.lanes[l] = (struct lane){row * job->samples, job->samples};
        f.turn[l] = attack > release ? -1.0 : 1.0;
        f.fast[l] = attack > release ? release : attack;
        f.slow[l] = attack > release ? attack : release;
        f.state[l] = job->initial[row] * f.turn[l];
    }
    return f;
}

INLINE vec follow(const struct follower *f, vec state, vec u) {
    return larger(f->fast * state + (1.0 - f->fast) * u, f->slow * state + (1.0 - f->slow) * u);
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct follower f = place(job, group);
    vec block[BLOCK], state = f.state;
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * LANES, &state, sizeof state);
        load_block(block, job->u, job->type, f.lanes, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) {
            state = follow(&f, state, f.turn * block[n]);
            block[n] = f.turn * state;
        }
        store_block(block, job->y, job->type, f.lanes, b * BLOCK);
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct follower f = place(job, group);
    vec u[BLOCK], before[BLOCK], block[BLOCK], handed = {0}, by_fast = {0}, by_slow = {0};
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        vec state;
        memcpy(&state, job->kept + (group * job->blocks + b) * LANES, sizeof state);
        load_block(u, job->u, job->type, f.lanes, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) {
            before[n] = state;
            u[n] *= f.turn;
            state = follow(&f, state, u[n]);
        }
        load_block(block, job->grad, job->type, f.lanes, b * BLOCK);
        for (int n = BLOCK - 1; n >= 0; n--) {
            mask rising = u[n] > before[n];
            vec pole = choose(rising, f.fast, f.slow), adjoint = f.turn * block[n] + handed;
            vec by_pole = adjoint * (before[n] - u[n]);
            vec up = (vec)(rising & (mask)by_pole);
            by_fast += up;
            by_slow += by_pole - up;
            handed = pole * adjoint;
            block[n] = f.turn * (adjoint - handed);
        }
        if (job->grad_u) store_block(block, job->grad_u, job->type, f.lanes, b * BLOCK);
    }
    for (int l = 0; l < LANES; l++) {
        if (!f.lanes[l].count) continue;
        int64_t row = first_row(job, group) + l;
        job->grad_attack[row] = f.turn[l] > 0 ? by_fast[l] : by_slow[l];
        job->grad_release[row] = f.turn[l] > 0 ? by_slow[l] : by_fast[l];
        job->grad_initial[row] = f.turn[l] * handed[l];
    }
}

/* u [rows, samples] -> y, and the states the reverse pass needs. `groups` of rows, of LANES at most, for the threads. */
int difffx_attack_release(int64_t rows, int64_t samples, int64_t groups, int64_t type, const double *attack,
                          const double *release, const double *initial, const void *u, void *y, double *kept,
                          int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .groups = groups, .blocks = (samples + BLOCK - 1) / BLOCK,
                      .type = type, .attack = attack, .release = release, .initial = initial, .u = u, .y = y,
                      .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(rows * samples, threads));
    return 0;
}

/* grad [rows, samples] -> grad_u, if not null, and [rows] for each of the settings. */
int difffx_attack_release_backward(int64_t rows, int64_t samples, int64_t groups, int64_t type, const double *attack,
                                   const double *release, const double *initial, const void *u, const void *grad,
                                   double *kept, void *grad_u, double *grad_attack, double *grad_release,
                                   double *grad_initial, int64_t threads) {
    struct job job = {.rows = rows, .samples = samples, .groups = groups, .blocks = (samples + BLOCK - 1) / BLOCK,
                      .type = type, .attack = attack, .release = release, .initial = initial, .u = u, .grad = grad,
                      .kept = kept, .grad_u = grad_u, .grad_attack = grad_attack, .grad_release = grad_release,
                      .grad_initial = grad_initial};
    fan_out(backward_group, &job, groups, threads_for(rows * samples, threads));
    return 0;
}
