/* All-pass filters of first order in a row, whose frequency differs from sample to sample, forward and back. */

#include "exponents.h"

struct job {
    int64_t items, channels, samples, groups, blocks, type, stages;
    const void *x, *grad;    /* [items, channels, samples] */
    const double *log_g;     /* [items, samples] */
    const double *feedback;  /* [items] */
    void *y, *grad_x;
    double *kept;            /* [groups, blocks, stages + 1, LANES], states before each block; may be null */
    double *grad_log_g;      /* like x: a sum over channels is left to do */
    double *grad_feedback;   /* [items, channels] */
    int failed;
};

/* Where the rows of a group are, and where the curves that belong to them. */
static int place(const struct job *job, int64_t group, struct lane *rows, struct lane *curves) {
    const int64_t all = job->items * job->channels, first = first_of(all, job->groups, group);
    const int count = count_of(all, job->groups, group);
    for (int l = 0; l < LANES; l++) {
        int64_t row = first + (l < count ? l : 0), many = l < count ? job->samples : 0;
        rows[l] = (struct lane){l < count ? row * job->samples : 0, many};
        curves[l] = (struct lane){l < count ? row / job->channels * job->samples : 0, many};
    }
    return count;
}

/* log g -> (g - 1) / (g + 1) and the root of 1 - its square. */
INLINE void angle_of(vec log_g, vec *cosine, vec *sine) {
    vec root = exp2_of(0.7213475204444817 * larger(splat(-600.0), smaller(splat(600.0), log_g)));
    vec sum = 1.0 / (root * root + 1.0);
    *cosine = (root * root - 1.0) * sum;
    *sine = 2.0 * root * sum;
}

static vec feedback_of(const struct job *job, int64_t group, int count) {
    vec share = splat(0.0);
    int64_t first = first_of(job->items * job->channels, job->groups, group);
    for (int l = 0; l < count; l++) share[l] = job->feedback[(first + l) / job->channels];
    return share;
}

/* All-pass filters in a row, each with a memory s: y = a u + c s, s' = c u - a s; the last y of a sample comes back. */
static void chain_group(void *argument, int64_t group) {
    struct job *job = argument;
    const int64_t stages = job->stages, states = stages + 1;
    struct lane rows[LANES], curves[LANES];
    const vec share = feedback_of(job, group, place(job, group, rows, curves));
    vec x[BLOCK], a[BLOCK], c[BLOCK], *state = aligned_alloc(64, (states + 1) / 2 * 2 * sizeof(vec));
    if (!state) {
        job->failed = 1;
        return;
    }
    memset(state, 0, states * sizeof *state);
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * states * LANES, state, states * sizeof *state);
        load_block(x, job->x, job->type, rows, b * BLOCK);
        load_block(a, job->log_g, 8, curves, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) angle_of(a[n], a + n, c + n);
        vec last = state[stages];
        for (int n = 0; n < BLOCK; n++) {
            vec u = x[n] + share * last;
            for (int64_t i = 0; i < stages; i++) {
                vec s = state[i];
                state[i] = c[n] * u - a[n] * s;
                u = a[n] * u + c[n] * s;
            }
            x[n] = last = u;
        }
        state[stages] = last;
        store_block(x, job->y, job->type, rows, b * BLOCK);
    }
    free(state);
}

static void chain_group_back(void *argument, int64_t group) {
    struct job *job = argument;
    const int64_t stages = job->stages, states = stages + 1;
    struct lane rows[LANES], curves[LANES];
    const int count = place(job, group, rows, curves);
    const vec share = feedback_of(job, group, count);
    /* of each sample the inputs of all stages and the last output, then the memories before it */
    vec x[BLOCK], a[BLOCK], c[BLOCK], by_share = {0}, by_last = {0};
    vec *u = aligned_alloc(64, ((states + stages) * BLOCK + 2 * states + 1) / 2 * 2 * sizeof(vec));
    if (!u) {
        job->failed = 1;
        return;
    }
    vec *s = u + states * BLOCK, *state = s + stages * BLOCK, *by = state + states;
    memset(by, 0, states * sizeof *by);
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        load_block(x, job->x, job->type, rows, b * BLOCK);
        load_block(a, job->log_g, 8, curves, b * BLOCK);
        memcpy(state, job->kept + (group * job->blocks + b) * states * LANES, states * sizeof *state);
        for (int n = 0; n < BLOCK; n++) angle_of(a[n], a + n, c + n);
        vec last = state[stages];
        for (int n = 0; n < BLOCK; n++) {
            vec now = x[n] + share * last;
            for (int64_t i = 0; i < stages; i++) {
                u[n * states + i] = now;
                vec memory = s[n * stages + i] = state[i];
                state[i] = c[n] * now - a[n] * memory;
                now = a[n] * now + c[n] * memory;
            }
            u[n * states + stages] = last = now;
        }
        load_block(x, job->grad, job->type, rows, b * BLOCK);
        for (int n = BLOCK - 1; n >= 0; n--) {
            vec gy = x[n] + by_last, by_a = {0}, by_c = {0};
            for (int64_t i = stages - 1; i >= 0; i--) {
                vec before = u[n * states + i], memory = s[n * stages + i], after = by[i];
                by_a += gy * before - after * memory;
                by_c += gy * memory + after * before;
                by[i] = c[n] * gy - a[n] * after;
                gy = a[n] * gy + c[n] * after;
            }
            vec fed_back;
            if (n) fed_back = u[(n - 1) * states + stages];
            else memcpy(&fed_back, job->kept + ((group * job->blocks + b) * states + stages) * LANES, sizeof fed_back);
            by_share += gy * fed_back;
            by_last = share * gy;
            x[n] = gy;
            a[n] = 0.5 * c[n] * (c[n] * by_a - a[n] * by_c);
        }
        store_block(x, job->grad_x, job->type, rows, b * BLOCK);
        store_block(a, job->grad_log_g, 8, rows, b * BLOCK);
    }
    int64_t first = first_of(job->items * job->channels, job->groups, group);
    for (int l = 0; l < count; l++) job->grad_feedback[first + l] = by_share[l];
    free(u);
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    fan_out(task, job, job->groups, threads_for(job->items * job->channels * job->samples, threads));
    return job->failed;
}

/* x, y, grad and grad_x of `type`, the rest in double precision. */
int difffx_all_pass_chain(int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type, int64_t stages,
                          const void *x, const double *log_g, const double *feedback, void *y, double *kept,
                          int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .groups = groups,
                      .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .stages = stages, .x = x, .log_g = log_g,
                      .feedback = feedback, .y = y, .kept = kept};
    return run_job(&job, chain_group, threads);
}

int difffx_all_pass_chain_backward(int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type,
                                   int64_t stages, const void *x, const double *log_g, const double *feedback,
                                   const void *grad, double *kept, void *grad_x, double *grad_log_g,
                                   double *grad_feedback, int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .groups = groups,
                      .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .stages = stages, .x = x, .log_g = log_g,
                      .feedback = feedback, .grad = grad, .kept = kept, .grad_x = grad_x,
                      .grad_log_g = grad_log_g, .grad_feedback = grad_feedback};
    return run_job(&job, chain_group_back, threads);
}
