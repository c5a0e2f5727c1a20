/* Delay lines that feed each other through a matrix, and the transposed network back in time; four items at a time. */

#include "lanes.h"

#include <sys/mman.h>

#define LARGE_PAGE ((int64_t)1 << 21)

struct job {
    int64_t items, inputs, outputs, samples, lines, groups, type;
    const double *matrix;  /* [items, lines + outputs, lines + inputs] */
    const double *filters; /* [items, lines, 3]: b0, b1, pole */
    const int64_t *delays; /* [lines] */
    const void *x, *grad;  /* [items, inputs, samples], [items, outputs, samples] */
    void *y, *grad_x;      /* like grad, like x */
    void *kept;            /* what each filter remembers: of an item block after block, in each line after line; or null */
    double *grad_matrix, *grad_filters;
    int failed;
};

/* What one group works with, in one piece of memory that begins at `matrix`. */
struct network {
    int64_t rows, columns, *at; /* where in its ring each line is */
    vec *matrix;                /* [rows, columns] */
    vec *filters;               /* [lines, 3] */
    vec *states;                /* [lines, 2] */
    vec *heard;                 /* [BLOCK, columns], the lines' ends and the inputs */
    vec *said;                  /* [BLOCK, rows], what enters the lines and the outputs, or the gradient to it */
    vec *by_heard;              /* like heard, the gradient to it */
    vec *w;                     /* [lines, 1 + BLOCK], the filters' memories; one sample earlier leads the way */
    vec *block;                 /* [BLOCK] */
    vec *sums, *sums_filters;   /* like matrix and filters */
    vec **rings;                /* each line as long as its delay: what is read makes room for what is written */
};

static void place_lanes(const struct job *job, int64_t group, int64_t channels, int64_t channel, struct lane *lanes) {
    int64_t first = first_of(job->items, job->groups, group);
    int count = count_of(job->items, job->groups, group);
    for (int l = 0; l < LANES; l++) {
        int64_t row = (first + l) * channels + channel;
        lanes[l] = l < count ? (struct lane){row * job->samples, job->samples} : (struct lane){0, 0};
    }
}

/* Where a block of what a line's filter remembers is kept. */
static void place_kept(const struct job *job, int64_t group, int64_t line, int64_t at, struct lane *lanes) {
    const int64_t left = job->samples - at, block = left < BLOCK ? left : BLOCK;
    place_lanes(job, group, 1, 0, lanes);
    for (int l = 0; l < LANES; l++) lanes[l].first = (lanes[l].first + at) * job->lines + line * block - at;
}

/* No line is longer than the audio: it would not be heard again. */
INLINE int64_t length_of(const struct job *job, int64_t line) {
    return job->delays[line] < job->samples ? job->delays[line] : job->samples;
}

static int make(struct network *net, const struct job *job, int64_t group) {
    const int64_t n = job->lines, rows = net->rows = n + job->outputs, columns = net->columns = n + job->inputs;
    int64_t vectors = 2 * rows * columns + 8 * n + BLOCK * (rows + 2 * columns + 1) + n * (1 + BLOCK);
    for (int64_t i = 0; i < n; i++) vectors += length_of(job, i);
    net->matrix = aligned_alloc(64, (vectors + 1) / 2 * 2 * sizeof(vec));
    net->at = calloc(n, sizeof *net->at);
    net->rings = malloc(n * sizeof *net->rings);
    if (!net->matrix || !net->at || !net->rings) return 0;
    memset(net->matrix, 0, vectors * sizeof(vec));
    net->filters = net->matrix + rows * columns;
    net->states = net->filters + 3 * n;
    net->heard = net->states + 2 * n;
    net->said = net->heard + BLOCK * columns;
    net->by_heard = net->said + BLOCK * rows;
    net->w = net->by_heard + BLOCK * columns;
    net->block = net->w + n * (1 + BLOCK);
    net->sums = net->block + BLOCK;
    net->sums_filters = net->sums + rows * columns;
    vec *ring = net->sums_filters + 3 * n;
    for (int64_t i = 0; i < n; ring += length_of(job, i++)) net->rings[i] = ring;
    int64_t first = first_of(job->items, job->groups, group);
    for (int l = 0; l < count_of(job->items, job->groups, group); l++) {
        for (int64_t i = 0; i < rows * columns; i++) net->matrix[i][l] = job->matrix[(first + l) * rows * columns + i];
        for (int64_t i = 0; i < 3 * n; i++) net->filters[i][l] = job->filters[(first + l) * 3 * n + i];
    }
    return 1;
}

static void unmake(struct network *net) {
    free(net->matrix);
    free(net->at);
    free(net->rings);
}

/* to[i] = sum over j of x[i * down + j * along] v[j] for `count` of i. */
INLINE void dot(const vec *x, int64_t down, int64_t along, const vec *v, int64_t length, vec *to, const int count) {
    vec sum[4] = {0};
    for (int64_t j = 0; j < length; j++)
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) sum[i] += x[i * down + j * along] * v[j];
    for (int i = 0; i < count; i++) to[i] = sum[i];
}

INLINE void multiply(const vec *x, int64_t down, int64_t along, const vec *v, int64_t length, vec *to, int64_t rows) {
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) dot(x + i * down, down, along, v, length, to + i, 4);
    for (; i + 2 <= rows; i += 2) dot(x + i * down, down, along, v, length, to + i, 2);
    if (i < rows) dot(x + i * down, down, along, v, length, to + i, 1);
}

/* sums[j] += a b[j], of a block, for `count` of j. */
INLINE void correlate(const vec *a, int64_t rows, const vec *b, int64_t columns, vec *sums, const int count) {
    vec sum[4];
    for (int j = 0; j < count; j++) sum[j] = sums[j];
    for (int n = 0; n < BLOCK; n++)
#pragma GCC unroll 4
        for (int j = 0; j < count; j++) sum[j] += a[n * rows] * b[n * columns + j];
    for (int j = 0; j < count; j++) sums[j] = sum[j];
}

/* A block of each of the channels -> to [BLOCK, stride]. */
static void listen(const struct job *job, int64_t group, const void *x, int64_t channels, int64_t at, vec *block,
                   vec *to, int64_t stride) {
    struct lane lanes[LANES];
    for (int64_t c = 0; c < channels; c++) {
        place_lanes(job, group, channels, c, lanes);
        load_block(block, x, job->type, lanes, at);
        for (int n = 0; n < BLOCK; n++) to[n * stride + c] = block[n];
    }
}

static void speak(const struct job *job, int64_t group, const vec *from, int64_t stride, int64_t channels, int64_t at,
                  vec *block, void *y) {
    struct lane lanes[LANES];
    for (int64_t c = 0; c < channels; c++) {
        place_lanes(job, group, channels, c, lanes);
        for (int n = 0; n < BLOCK; n++) block[n] = from[n * stride + c];
        store_block(block, y, job->type, lanes, at);
    }
}

static void forward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct network net;
    if (!make(&net, job, group)) {
        job->failed = 1;
        unmake(&net);
        return;
    }
    const int64_t lines = job->lines, rows = net.rows, columns = net.columns;
    struct lane lanes[LANES];
    for (int64_t at = 0; at < job->samples; at += BLOCK) {
        listen(job, group, job->x, job->inputs, at, net.block, net.heard + lines, columns);
        for (int n = 0; n < BLOCK; n++) {
            vec *heard = net.heard + n * columns, *said = net.said + n * rows;
            for (int64_t i = 0; i < lines; i++) {
                const vec *filter = net.filters + 3 * i;
                vec before = net.states[i], now = net.rings[i][net.at[i]] + filter[2] * before;
                heard[i] = filter[0] * now + filter[1] * before;
                net.states[i] = net.w[i * BLOCK + n] = now;
            }
            multiply(net.matrix, columns, 1, heard, columns, said, rows);
            for (int64_t i = 0; i < lines; i++) {
                net.rings[i][net.at[i]] = said[i];
                if (++net.at[i] == length_of(job, i)) net.at[i] = 0;
            }
        }
        speak(job, group, net.said + lines, rows, job->outputs, at, net.block, job->y);
        for (int64_t i = 0; job->kept && i < lines; i++) {
            place_kept(job, group, i, at, lanes);
            store_block(net.w + i * BLOCK, job->kept, job->type, lanes, at);
        }
    }
    unmake(&net);
}

/* What the filters remembered in a block, and one sample before it. */
static void remember(const struct job *job, int64_t group, int64_t at, struct network *net) {
    struct lane lanes[LANES];
    for (int64_t i = 0; i < job->lines; i++) {
        vec *w = net->w + i * (1 + BLOCK);
        place_kept(job, group, i, at, lanes);
        load_block(w + 1, job->kept, job->type, lanes, at);
        w[0] = splat(0.0);
        if (at) place_kept(job, group, i, at - BLOCK, lanes);
        for (int l = 0; at && l < LANES; l++) {
            int64_t before = lanes[l].first + at - 1;
            if (!lanes[l].count) continue;
            w[0][l] = job->type == 4 ? ((const float *)job->kept)[before] : ((const double *)job->kept)[before];
        }
    }
}

/* The filters come before their lines here, so that what they give belongs to the sample at hand. */
static void backward_group(void *argument, int64_t group) {
    struct job *job = argument;
    struct network net;
    if (!make(&net, job, group)) {
        job->failed = 1;
        unmake(&net);
        return;
    }
    const int64_t lines = job->lines, rows = net.rows, columns = net.columns;
    int64_t step = BLOCK; /* what all lines hold already */
    for (int64_t i = 0; i < lines; i++) step = length_of(job, i) < step ? length_of(job, i) : step;
    for (int64_t at = (job->samples - 1) / BLOCK * BLOCK; at >= 0; at -= BLOCK) {
        listen(job, group, job->grad, job->outputs, at, net.block, net.said + lines, rows);
        listen(job, group, job->x, job->inputs, at, net.block, net.heard + lines, columns);
        remember(job, group, at, &net);
        for (int64_t end = BLOCK, start; end > 0; end = start) {
            start = end > step ? end - step : 0;
            for (int64_t i = 0; i < lines; i++) {
                const int64_t length = length_of(job, i);
                int64_t place = net.at[i];
                for (int64_t n = end - 1; n >= start; n--) {
                    net.said[n * rows + i] = net.rings[i][place];
                    if (++place == length) place = 0;
                }
            }
            for (int64_t n = end - 1; n >= start; n--)
                multiply(net.matrix, 1, columns, net.said + n * rows, rows, net.by_heard + n * columns, columns);
            for (int64_t i = 0; i < lines; i++) {
                const int64_t length = length_of(job, i);
                const vec b0 = net.filters[3 * i], b1 = net.filters[3 * i + 1], pole = net.filters[3 * i + 2];
                const vec *w = net.w + i * (1 + BLOCK);
                vec *sums = net.sums_filters + 3 * i, by_b0 = sums[0], by_b1 = sums[1], by_pole = sums[2];
                vec later = net.states[2 * i], by_w = net.states[2 * i + 1];
                int64_t place = net.at[i];
                for (int64_t n = end - 1; n >= start; n--) {
                    vec gradient = net.by_heard[n * columns + i];
                    by_w = b0 * gradient + b1 * later + pole * by_w;
                    later = gradient;
                    net.heard[n * columns + i] = b0 * w[n + 1] + b1 * w[n];
                    by_b0 += gradient * w[n + 1];
                    by_b1 += gradient * w[n];
                    by_pole += by_w * w[n];
                    net.rings[i][place] = by_w;
                    if (++place == length) place = 0;
                }
                sums[0] = by_b0, sums[1] = by_b1, sums[2] = by_pole;
                net.states[2 * i] = later, net.states[2 * i + 1] = by_w;
                net.at[i] = place;
            }
        }
        speak(job, group, net.by_heard + lines, columns, job->inputs, at, net.block, job->grad_x);
        for (int64_t i = 0; i < rows; i++) {
            vec *a = net.said + i, *sums = net.sums + i * columns;
            int64_t j = 0;
            for (; j + 4 <= columns; j += 4) correlate(a, rows, net.heard + j, columns, sums + j, 4);
            for (; j + 2 <= columns; j += 2) correlate(a, rows, net.heard + j, columns, sums + j, 2);
            if (j < columns) correlate(a, rows, net.heard + j, columns, sums + j, 1);
        }
    }
    int64_t first = first_of(job->items, job->groups, group);
    for (int l = 0; l < count_of(job->items, job->groups, group); l++) {
        for (int64_t i = 0; i < rows * columns; i++)
            job->grad_matrix[(first + l) * rows * columns + i] = net.sums[i][l];
        for (int64_t i = 0; i < 3 * lines; i++)
            job->grad_filters[(first + l) * 3 * lines + i] = net.sums_filters[i][l];
    }
    unmake(&net);
}

/* Fresh memory in small pages would take longer to get than to fill. */
static void in_large_pages(void *memory, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
    const int64_t before = LARGE_PAGE - (int64_t)((uintptr_t)memory % LARGE_PAGE);
    if (bytes - before >= LARGE_PAGE)
        madvise((char *)memory + before, (bytes - before) / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
}

static int run_job(struct job *job, void (*task)(void *, int64_t), int64_t threads) {
    fan_out(task, job, job->groups, threads_for(job->items * job->samples * job->lines, threads));
    return job->failed;
}

/* x, y, kept, grad and grad_x of `type`, 4 for float and 8 for double; the rest in double precision. */
int difffx_delay_network(int64_t items, int64_t inputs, int64_t outputs, int64_t samples, int64_t lines,
                         int64_t groups, int64_t type, const double *matrix, const double *filters,
                         const int64_t *delays, const void *x, void *y, void *kept, int64_t threads) {
    struct job job = {.items = items, .inputs = inputs, .outputs = outputs, .samples = samples, .lines = lines,
                      .groups = groups, .type = type, .matrix = matrix, .filters = filters, .delays = delays,
                      .x = x, .y = y, .kept = kept};
    if (kept) in_large_pages(kept, items * lines * samples * type);
    return run_job(&job, forward_group, threads);
}

int difffx_delay_network_backward(int64_t items, int64_t inputs, int64_t outputs, int64_t samples, int64_t lines,
                                  int64_t groups, int64_t type, const double *matrix, const double *filters,
                                  const int64_t *delays, const void *x, const void *kept, const void *grad,
                                  void *grad_x, double *grad_matrix, double *grad_filters, int64_t threads) {
    struct job job = {.items = items, .inputs = inputs, .outputs = outputs, .samples = samples, .lines = lines,
                      .groups = groups, .type = type, .matrix = matrix, .filters = filters, .delays = delays,
                      .x = x, .kept = (void *)kept, .grad = grad, .grad_x = grad_x, .grad_matrix = grad_matrix,
                      .grad_filters = grad_filters};
    return run_job(&job, backward_group, threads);
}
