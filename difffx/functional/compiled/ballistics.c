/* Attack and release, forward and back, in double precision. */

#include "follower.h"

struct job {
    int64_t rows, samples, groups, blocks, type;
    const double *attack, *release, *initial; /* [rows] */
    const void *u, *grad;                     /* [rows, samples] */
    void *y, *grad_u;
    double *kept;                             /* [groups, blocks, LANES], states before each block; may be null */
    double *grad_attack, *grad_release, *grad_initial;
};

static struct follower place(const struct job *job, int64_t group, struct lane *lanes) {
    struct follower f = {.turn = splat(1.0)};
    const int64_t first = first_of(job->rows, job->groups, group);
    for (int l = 0; l < count_of(job->rows, job->groups, group); l++) {
        lanes[l] = (struct lane){(first + l) * job->samples, job->samples};
        set_follower(&f, l, job->attack[first + l], job->release[first + l], job->initial[first + l]);
    }
    return f;
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct lane lanes[LANES] = {{0}};
    struct follower f = place(job, group, lanes);
    vec block[BLOCK];
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * LANES, &f.state, sizeof f.state);
        load_block(block, job->u, job->type, lanes, b * BLOCK);
        follow_block(&f, block);
        store_block(block, job->y, job->type, lanes, b * BLOCK);
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct lane lanes[LANES] = {{0}};
    struct follower f = place(job, group, lanes);
    vec block[BLOCK], u[BLOCK], before[BLOCK];
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        memcpy(&f.state, job->kept + (group * job->blocks + b) * LANES, sizeof f.state);
        load_block(block, job->u, job->type, lanes, b * BLOCK);
        follow_block_again(&f, block, u, before);
        load_block(block, job->grad, job->type, lanes, b * BLOCK);
        follow_block_back(&f, block, u, before);
        store_block(block, job->grad_u, job->type, lanes, b * BLOCK);
    }
    for (int l = 0; l < count_of(job->rows, job->groups, group); l++) {
        int64_t row = first_of(job->rows, job->groups, group) + l;
        gradients_of(&f, l, job->grad_attack + row, job->grad_release + row, job->grad_initial + row);
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

/* grad [rows, samples] -> grad_u, and [rows] for each of the settings. */
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
