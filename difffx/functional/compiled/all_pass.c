/* All-pass filters of first order in a row, whose frequency differs from sample to sample, forward and back: as a
   curve tells, or as an oscillator swings. */

#include "oscillator.h"

/* Of each row, where the frequency swings: cycles per sample and at the start; middle and half of the swing, as
   log g; the share that is fed back; the levels of the sound itself and of what the filters make of it. */
enum { STEP, PHASE, MIDDLE, HALF, FEEDBACK, DRY, WET, SETTINGS };

struct job {
    int64_t items, channels, samples, groups, blocks, type, stages;
    const void *x, *grad;    /* [items, channels, samples] */
    const double *log_g;     /* [items, samples] */
    const double *feedback;  /* [items] */
    int64_t shape;           /* of the oscillator, if there are settings */
    const double *settings;  /* [items * channels, SETTINGS]; null: a curve */
    void *y, *grad_x;
    double *kept;            /* [groups, blocks, stages + 1, LANES], states before each block; may be null */
    double *grad_log_g;      /* like x: a sum over channels is left to do */
    double *grad_feedback;   /* [items, channels] */
    double *grad_settings;   /* like settings */
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

/* The oscillators of a group. */
struct course {
    vec of[SETTINGS];
    struct oscillator oscillator;
    vec wave[BLOCK], slope[BLOCK];
};

static void set_course(struct course *c, const struct job *job, int64_t group, int count) {
    const int64_t first = first_of(job->items * job->channels, job->groups, group);
    for (int i = 0; i < SETTINGS; i++)
        for (int l = 0; l < LANES; l++) c->of[i][l] = l < count ? job->settings[(first + l) * SETTINGS + i] : 0.0;
    set_oscillator(&c->oscillator, job->shape, BLOCK, splat(0.0), c->of[STEP]);
}

/* log g of a block. */
static void swing_block(struct course *c, vec *log_g, int64_t at, int with_slope) {
    swing(&c->oscillator, c->of[STEP] * (double)at + c->of[PHASE], c->wave, with_slope ? c->slope : NULL);
    for (int n = 0; n < BLOCK; n++) log_g[n] = c->of[MIDDLE] + c->of[HALF] * c->wave[n];
}

static vec feedback_of(const struct job *job, int64_t group, int count) {
    vec share = splat(0.0);
    int64_t first = first_of(job->items * job->channels, job->groups, group);
    for (int l = 0; l < count; l++) share[l] = job->feedback[(first + l) / job->channels];
    return share;
}

/* All-pass filters in a row, each with a memory s: y = a u + c s, s' = c u - a s; the last y of a sample comes back. */
INLINE void run_chain(struct job *job, int64_t group, int swinging) {
    const int64_t stages = job->stages, states = stages + 1;
    struct lane rows[LANES], curves[LANES];
    const int count = place(job, group, rows, curves);
    struct course course;
    if (swinging) set_course(&course, job, group, count);
    const vec share = swinging ? course.of[FEEDBACK] : feedback_of(job, group, count);
    vec x[BLOCK], a[BLOCK], c[BLOCK], *state = aligned_alloc(64, (states + 1) / 2 * 2 * sizeof(vec));
    if (!state) {
        job->failed = 1;
        return;
    }
    memset(state, 0, states * sizeof *state);
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) memcpy(job->kept + (group * job->blocks + b) * states * LANES, state, states * sizeof *state);
        load_block(x, job->x, job->type, rows, b * BLOCK);
        if (swinging) swing_block(&course, a, b * BLOCK, 0);
        else load_block(a, job->log_g, 8, curves, b * BLOCK);
        for (int n = 0; n < BLOCK; n++) angle_of(a[n], a + n, c + n);
        vec last = state[stages];
        for (int n = 0; n < BLOCK; n++) {
            vec u = x[n] + share * last;
            for (int64_t i = 0; i < stages; i++) {
                vec s = state[i];
                state[i] = c[n] * u - a[n] * s;
                u = a[n] * u + c[n] * s;
            }
            last = u;
            x[n] = swinging ? course.of[DRY] * x[n] + course.of[WET] * u : u;
        }
        state[stages] = last;
        store_block(x, job->y, job->type, rows, b * BLOCK);
    }
    free(state);
}

INLINE void run_chain_back(struct job *job, int64_t group, int swinging) {
    const int64_t stages = job->stages, states = stages + 1;
    struct lane rows[LANES], curves[LANES];
    const int count = place(job, group, rows, curves);
    struct course course;
    if (swinging) set_course(&course, job, group, count);
    const vec share = swinging ? course.of[FEEDBACK] : feedback_of(job, group, count);
    vec sound[BLOCK], by_settings[SETTINGS] = {{0}};
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
        if (swinging) swing_block(&course, a, b * BLOCK, 1);
        else load_block(a, job->log_g, 8, curves, b * BLOCK);
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
        if (swinging) memcpy(sound, x, sizeof sound);
        load_block(x, job->grad, job->type, rows, b * BLOCK);
        for (int n = BLOCK - 1; n >= 0; n--) {
            vec by_y = x[n], straight = splat(0.0);
            if (swinging) {
                by_settings[DRY] += by_y * sound[n];
                by_settings[WET] += by_y * u[n * states + stages];
                straight = course.of[DRY] * by_y;
                by_y *= course.of[WET];
            }
            vec gy = by_y + by_last, by_a = {0}, by_c = {0};
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
            x[n] = swinging ? gy + straight : gy;
            a[n] = 0.5 * c[n] * (c[n] * by_a - a[n] * by_c);
        }
        store_block(x, job->grad_x, job->type, rows, b * BLOCK);
        for (int n = 0; n < BLOCK && swinging; n++) {
            vec by_phase = a[n] * course.slope[n];
            by_settings[MIDDLE] += a[n];
            by_settings[HALF] += a[n] * course.wave[n];
            by_settings[PHASE] += by_phase;
            by_settings[STEP] += by_phase * (double)(b * BLOCK + n);
        }
        if (!swinging) store_block(a, job->grad_log_g, 8, rows, b * BLOCK);
    }
    int64_t first = first_of(job->items * job->channels, job->groups, group);
    for (int l = 0; l < count && !swinging; l++) job->grad_feedback[first + l] = by_share[l];
    if (swinging) {
        by_settings[STEP] *= course.of[HALF];
        by_settings[PHASE] *= course.of[HALF];
        by_settings[FEEDBACK] = by_share;
    }
    for (int l = 0; l < count && swinging; l++)
        for (int i = 0; i < SETTINGS; i++) job->grad_settings[(first + l) * SETTINGS + i] = by_settings[i][l];
    free(u);
}

static void chain_group(void *job, int64_t group) { run_chain(job, group, 0); }
static void chain_group_back(void *job, int64_t group) { run_chain_back(job, group, 0); }
static void swinging_group(void *job, int64_t group) { run_chain(job, group, 1); }
static void swinging_group_back(void *job, int64_t group) { run_chain_back(job, group, 1); }

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

int difffx_swinging_chain(int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type, int64_t stages,
                          int64_t shape, const void *x, const double *settings, void *y, double *kept,
                          int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .groups = groups,
                      .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .stages = stages, .shape = shape, .x = x,
                      .settings = settings, .y = y, .kept = kept};
    return run_job(&job, swinging_group, threads);
}

int difffx_swinging_chain_backward(int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type,
                                   int64_t stages, int64_t shape, const void *x, const double *settings,
                                   const void *grad, double *kept, void *grad_x, double *grad_settings,
                                   int64_t threads) {
    struct job job = {.items = items, .channels = channels, .samples = samples, .groups = groups,
                      .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .stages = stages, .shape = shape, .x = x,
                      .settings = settings, .grad = grad, .kept = kept, .grad_x = grad_x,
                      .grad_settings = grad_settings};
    return run_job(&job, swinging_group_back, threads);
}
