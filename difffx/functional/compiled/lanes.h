/* Audio in vectors of four rows, blocks of samples, and threads: what the kernels share. */
#ifndef DIFFFX_LANES_H
#define DIFFFX_LANES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef double vec __attribute__((vector_size(8 * LANES)));
typedef int64_t mask __attribute__((vector_size(8 * LANES)));
typedef uint64_t umask __attribute__((vector_size(8 * LANES)));
typedef float vec32 __attribute__((vector_size(4 * LANES)));

#if defined(__clang__)
#define SHUFFLE(x, y, a, b, c, d) __builtin_shufflevector(x, y, a, b, c, d)
#else
#define SHUFFLE(x, y, a, b, c, d) __builtin_shuffle(x, y, (mask){a, b, c, d})
#endif

INLINE vec splat(double x) { return (vec){x, x, x, x}; }
INLINE vec choose(mask which, vec yes, vec no) { return (vec)((which & (mask)yes) | (~which & (mask)no)); }

/* NaN where y is NaN. */
INLINE vec larger(vec x, vec y) {
#if defined(__AVX__)
    return _mm256_max_pd(x, y);
#else
    return choose(x > y, x, y);
#endif
}

/* A row, or a stretch of one: `count` samples from element `first` on. An empty lane reads zeros. */
struct lane {
    int64_t first, count;
};

/* Of `rows` in `groups` for the threads, of LANES at most: where a group begins, and how many are in it. */
INLINE int64_t first_of(int64_t rows, int64_t groups, int64_t group) {
    int64_t first = group * ((rows + groups - 1) / groups);
    return first < rows ? first : rows;
}

INLINE int count_of(int64_t rows, int64_t groups, int64_t group) {
    return first_of(rows, groups, group + 1) - first_of(rows, groups, group);
}

INLINE int64_t valid_at(const struct lane *lane, int64_t at) {
    int64_t left = lane->count - at;
    return left < 0 ? 0 : left > BLOCK ? BLOCK : left;
}

INLINE void transpose(vec *a, vec *b, vec *c, vec *d) {
    vec ab = SHUFFLE(*a, *b, 0, 4, 2, 6), ab2 = SHUFFLE(*a, *b, 1, 5, 3, 7);
    vec cd = SHUFFLE(*c, *d, 0, 4, 2, 6), cd2 = SHUFFLE(*c, *d, 1, 5, 3, 7);
    *a = SHUFFLE(ab, cd, 0, 1, 4, 5);
    *b = SHUFFLE(ab2, cd2, 0, 1, 4, 5);
    *c = SHUFFLE(ab, cd, 2, 3, 6, 7);
    *d = SHUFFLE(ab2, cd2, 2, 3, 6, 7);
}

INLINE vec widen(const float *from) {
    vec32 x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, vec);
}

INLINE vec wide(const double *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void narrow(float *to, vec x) {
    vec32 y = __builtin_convertvector(x, vec32);
    memcpy(to, &y, sizeof y);
}

/* A block of four rows from sample `at` on -> BLOCK vectors. `type` is 4 for float, 8 for double. */
static void load_block(vec *block, const void *x, int64_t type, const struct lane *lanes, int64_t at) {
    char patch[LANES][8 * BLOCK];
    const char *rows[LANES];
    for (int l = 0; l < LANES; l++) {
        int64_t valid = valid_at(lanes + l, at);
        rows[l] = (const char *)x + (lanes[l].first + at) * type;
        if (valid < BLOCK) {
            if (valid) memcpy(patch[l], rows[l], valid * type);
            memset(patch[l] + valid * type, 0, (BLOCK - valid) * type);
            rows[l] = patch[l];
        }
    }
#define LOAD(name, kind)                                                            \
    for (int n = 0; n < BLOCK; n += 4) {                                            \
        for (int l = 0; l < LANES; l++) block[n + l] = name((const kind *)rows[l] + n); \
        transpose(block + n, block + n + 1, block + n + 2, block + n + 3);          \
    }
    if (type == 4) {
        LOAD(widen, float)
    } else {
        LOAD(wide, double)
    }
#undef LOAD
}

/* The way back; overwrites `block`. */
static void store_block(vec *block, void *y, int64_t type, const struct lane *lanes, int64_t at) {
    char patch[LANES][8 * BLOCK];
    char *rows[LANES];
    int64_t valid[LANES];
    for (int l = 0; l < LANES; l++) {
        valid[l] = valid_at(lanes + l, at);
        rows[l] = valid[l] < BLOCK ? patch[l] : (char *)y + (lanes[l].first + at) * type;
    }
    for (int n = 0; n < BLOCK; n += 4) {
        transpose(block + n, block + n + 1, block + n + 2, block + n + 3);
        for (int l = 0; l < LANES; l++) {
            if (type == 4) narrow((float *)rows[l] + n, block[n + l]);
            else memcpy((double *)rows[l] + n, block + n + l, sizeof(vec));
        }
    }
    for (int l = 0; l < LANES; l++)
        if (valid[l] && valid[l] < BLOCK) memcpy((char *)y + (lanes[l].first + at) * type, patch[l], valid[l] * type);
}

/* Numbers below 1e-308 become zero while a kernel runs: a filter that rings out would crawl. */
#if defined(__SSE2__)
INLINE uint64_t flush_denormals(void) {
    uint64_t before = _mm_getcsr();
    _mm_setcsr((unsigned)before | 0x8040);
    return before;
}
INLINE void restore_denormals(uint64_t before) { _mm_setcsr((unsigned)before); }
#elif defined(__aarch64__)
INLINE uint64_t flush_denormals(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(before | (1 << 24)));
    return before;
}
INLINE void restore_denormals(uint64_t before) { __asm__ volatile("msr fpcr, %0" ::"r"(before)); }
#else
INLINE uint64_t flush_denormals(void) { return 0; }
INLINE void restore_denormals(uint64_t before) { (void)before; }
#endif

/* Runs task(job, 0), ..., task(job, count - 1) on the threads that torch has anyway, where they can be had: they may
be waiting at full speed for work. Else threads live for one call, and nothing is left for a fork to lose. */
#define MOST_THREADS 256

extern void (*difffx_team)(void (*)(void *), void *, unsigned, unsigned); /* see team.c */

struct crew {
    void (*task)(void *job, int64_t index);
    void *job;
    int64_t count;
    atomic_llong next;
};

/* A thread takes as long to start as thousands of samples. */
INLINE int64_t threads_for(int64_t steps, int64_t threads) { return steps < 16384 ? 1 : threads; }

static void work(void *argument) {
    struct crew *crew = argument;
    uint64_t mode = flush_denormals();
    for (int64_t i; (i = atomic_fetch_add(&crew->next, 1)) < crew->count;) crew->task(crew->job, i);
    restore_denormals(mode);
}

static void *work_alone(void *argument) {
    work(argument);
    return NULL;
}

static void fan_out(void (*task)(void *, int64_t), void *job, int64_t count, int64_t threads) {
    struct crew crew = {task, job, count, 0};
    pthread_t others[MOST_THREADS];
    int64_t started = 0;
    if (difffx_team && threads > 1 && count > 1) {
        difffx_team(work, &crew, (unsigned)threads, 0); /* always as many: a team of another size is built anew */
        return;
    }
    if (threads > count) threads = count;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    while (started < threads - 1 && !pthread_create(others + started, NULL, work_alone, &crew)) started++;
    work(&crew);
    while (started) pthread_join(others[--started], NULL);
}

#endif
