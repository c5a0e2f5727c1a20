/* A band-pass that the loudness of what it hears moves, in one pass, forward and back, four rows at a time.

The loudest channel, turned up, is followed with attack and release; what the follower says, 1 at most, times so many
octaves moves the center; the band-pass (svf.h) is heard beside the sound. Every channel follows for itself. */

#include "follower.h"
#include "svf.h"

enum { REST, OCTAVES, SENSITIVITY, ATTACK, RELEASE, DAMPING, DRY, WET, SETTINGS };
enum { KEPT = 3 }; /* the follower and two memories */

struct job {
    int64_t items, channels, samples, groups, blocks, type;
    double sample_rate;
    const void *x, *grad;    /* [items, channels, samples] */
    const double *settings;  /* [items * channels, SETTINGS] */
    void *y, *grad_x;
    double *kept;            /* [groups, blocks, KEPT, LANES], before each block; may be null */
    double *grad_level;      /* like x, to the magnitude of the loudest channel; null: there is one channel only */
    double *grad_settings;
};

/* Four rows: where they and the other channels of their items are, and their settings. */
struct course {
    int64_t first;
    int count;
    struct lane rows[LANES];
    struct follower follower;
    vec of[SETTINGS], memories[2];
};

/* A block: what is heard, its level, what the follower says, and what that makes of the filter. */
struct block {
    vec x[BLOCK], level[BLOCK], state[BLOCK], opened[BLOCK], hz[BLOCK], g[BLOCK], by_hz[BLOCK], share[BLOCK];
};

static void set_course(struct course *c, const struct job *job, int64_t group) {
    const int64_t all = job->items * job->channels;
    *c = (struct course){.first = first_of(all, job->groups, group), .count = count_of(all, job->groups, group),
                         .follower = {.turn = splat(1.0)}};
    for (int l = 0; l < LANES; l++) {
        const double *of = job->settings + (c->first + (l < c->count ? l : 0)) * SETTINGS;
        c->rows[l] = (struct lane){l < c->count ? (c->first + l) * job->samples : 0, l < c->count ? job->samples : 0};
        for (int i = 0; i < SETTINGS; i++) c->of[i][l] = of[i];
        set_follower(&c->follower, l, of[ATTACK], of[RELEASE], 0.0);
    }
}

static void hear(const struct course *c, const struct job *job, int64_t at, struct block *b) {
    struct lane others[LANES];
    vec other[BLOCK];
    load_block(b->x, job->x, job->type, c->rows, at);
    ALL(n) b->level[n] = magnitude(b->x[n]);
    for (int64_t i = 1; i < job->channels; i++) {
        for (int l = 0; l < LANES; l++) {
            int64_t row = c->first + l, item = row / job->channels;
            others[l] = c->rows[l];
            if (l < c->count) others[l].first = (item * job->channels + (row + i) % job->channels) * job->samples;
        }
        load_block(other, job->x, job->type, others, at);
        ALL(n) b->level[n] = choose(b->level[n] != b->level[n], b->level[n], larger(b->level[n], magnitude(other[n])));
    }
    ALL(n) b->state[n] = c->of[SENSITIVITY] * b->level[n];
}

/* From what the follower says. */
static void open_filter(const struct course *c, double sample_rate, struct block *b) {
    ALL(n) b->opened[n] = smaller(splat(1.0), b->state[n]);
    ALL(n) b->hz[n] = c->of[REST] * exp2_of(c->of[OCTAVES] * b->opened[n]);
    ALL(n) b->g[n] = tangent_of(b->hz[n], sample_rate, b->by_hz + n);
    ALL(n) b->share[n] = 1.0 / (1.0 + b->g[n] * (b->g[n] + c->of[DAMPING]));
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct course c;
    struct block now;
    vec band, low;
    set_course(&c, job, group);
    const vec wet = c.of[WET] * c.of[DAMPING];
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->kept) {
            double *to = job->kept + (group * job->blocks + b) * KEPT * LANES;
            memcpy(to, &c.follower.state, sizeof(vec));
            memcpy(to + LANES, c.memories, sizeof c.memories);
        }
        hear(&c, job, b * BLOCK, &now);
        follow_block(&c.follower, now.state);
        open_filter(&c, job->sample_rate, &now);
        ALL(n) {
            step(c.memories, now.x[n], now.g[n], now.share[n], &band, &low);
            now.x[n] = c.of[DRY] * now.x[n] + wet * band;
        }
        store_block(now.x, job->y, job->type, c.rows, b * BLOCK);
    }
}

static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct course c;
    struct block now;
    vec grad[BLOCK], band[BLOCK], low[BLOCK], u[BLOCK], before[BLOCK], by_state[BLOCK];
    vec sums[SETTINGS] = {{0}}, adjoint[2] = {{0}}, by_band, by_low;
    set_course(&c, job, group);
    const vec k = c.of[DAMPING], wet = c.of[WET] * k;
    for (int64_t b = job->blocks - 1; b >= 0; b--) {
        const double *from = job->kept + (group * job->blocks + b) * KEPT * LANES;
        memcpy(&c.follower.state, from, sizeof(vec));
        memcpy(c.memories, from + LANES, sizeof c.memories);
        hear(&c, job, b * BLOCK, &now);
        follow_block_again(&c.follower, now.state, u, before);
        open_filter(&c, job->sample_rate, &now);
        load_block(grad, job->grad, job->type, c.rows, b * BLOCK);
        ALL(n) step(c.memories, now.x[n], now.g[n], now.share[n], band + n, low + n);
        for (int n = BLOCK - 1; n >= 0; n--) {
            vec high = now.x[n] - k * band[n] - low[n], heard = grad[n] * band[n];
            step_back(adjoint, wet * grad[n], splat(0.0), now.g[n], now.share[n], &by_band, &by_low);
            vec by_hz = (by_band * high + by_low * band[n]) * now.by_hz[n] * now.hz[n];
            sums[DRY] += grad[n] * now.x[n];
            sums[WET] += heard;
            sums[DAMPING] -= now.g[n] * by_band * band[n];
            sums[REST] += by_hz;
            by_hz *= 0.6931471805599453;
            sums[OCTAVES] += by_hz * now.opened[n];
            by_state[n] = (vec)((mask)(now.state[n] <= 1.0) & (mask)(c.of[OCTAVES] * by_hz));
            grad[n] = c.of[DRY] * grad[n] + now.g[n] * by_band;
        }
        follow_block_back(&c.follower, by_state, u, before);
        ALL(n) {
            sums[SENSITIVITY] += by_state[n] * now.level[n];
            by_state[n] *= c.of[SENSITIVITY];
        }
        if (job->grad_level) store_block(by_state, job->grad_level, 8, c.rows, b * BLOCK);
        else ALL(n) grad[n] += (vec)((mask)(now.x[n] != 0.0) & ((mask)by_state[n] ^ ((mask)now.x[n] & bits(INT64_MIN))));
        store_block(grad, job->grad_x, job->type, c.rows, b * BLOCK);
    }
    sums[REST] /= c.of[REST];
    sums[DAMPING] += c.of[WET] * sums[WET];
    sums[WET] *= k;
    for (int l = 0; l < c.count; l++) {
        double *to = job->grad_settings + (c.first + l) * SETTINGS;
        for (int i = 0; i < SETTINGS; i++) to[i] = sums[i][l];
        gradients_of(&c.follower, l, to + ATTACK, to + RELEASE, NULL);
    }
}

/* The settings of one call; see `struct job` for shapes. `groups` of rows, of LANES at most, for the threads. */
#define SIZES                                                                                                    \
    int64_t items, int64_t channels, int64_t samples, int64_t groups, int64_t type, double sample_rate, const void *x, \
        const double *settings
#define SIZED                                                                                                  \
    .items = items, .channels = channels, .samples = samples, .groups = groups,                                \
    .blocks = (samples + BLOCK - 1) / BLOCK, .type = type, .sample_rate = sample_rate, .x = x, .settings = settings

int difffx_auto_wah(SIZES, void *y, double *kept, int64_t threads) {
    struct job job = {SIZED, .y = y, .kept = kept};
    fan_out(forward_group, &job, groups, threads_for(items * channels * samples, threads));
    return 0;
}

int difffx_auto_wah_backward(SIZES, const void *grad, double *kept, void *grad_x, double *grad_level,
                             double *grad_settings, int64_t threads) {
    struct job job = {SIZED, .grad = grad, .kept = kept, .grad_x = grad_x, .grad_level = grad_level,
                      .grad_settings = grad_settings};
    fan_out(backward_group, &job, groups, threads_for(items * channels * samples, threads));
    return 0;
}
