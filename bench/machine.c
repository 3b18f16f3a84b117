/* What this machine can do at most. Reads lines "fma float32|float64 THREADS SECONDS" or "copy BYTES THREADS SECONDS" and
   answers each with operations, or bytes read and written, a second. Built and run by machine.py. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_THREADS 256
#define SLICES 5
#define WARM_UP 5e-4 /* seconds in which wide registers get their clock */

/* Twelve chains in as many registers, two links of each in a round. All of the loop is assembly, so that no compiler can
   fold it; machine.py counts its instructions in the disassembly nevertheless. Registers 14 and 15 hold 0.5 and 1. */
#define TWICE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) \
                 X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define INSTRUCTIONS 24

typedef void (*loop_fn)(long rounds, const void *constants);

#if defined(__x86_64__)
#define LOOP(NAME, PREPARE, BODY)                                                                               \
    __attribute__((noinline)) void NAME(long rounds, const void *constants) {                                   \
        __asm__ volatile(PREPARE "1:\n\t" BODY "dec %0\n\tjnz 1b\n\t"                                           \
                         : "+r"(rounds) : "r"(constants)                                                        \
                         : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm14", "xmm15");                                 \
    }
#define FMA(I, S, R) "vfmadd213p" S " %%" R "15, %%" R "14, %%" R #I "\n\t"
#define LOAD(S, R) "vbroadcasts" S " (%1), %%" R "14\n\tvbroadcasts" S " 16(%1), %%" R "15\n\t"
#define FMA_Z_s(I) FMA(I, "s", "zmm")
#define FMA_Z_d(I) FMA(I, "d", "zmm")
#define FMA_Y_s(I) FMA(I, "s", "ymm")
#define FMA_Y_d(I) FMA(I, "d", "ymm")
/* Without fused operations half of the instructions multiply and half add: in even registers and in odd ones. */
#define MUL_OR_ADD(I, S) ".if " #I " & 1\n\taddp" S " %%xmm15, %%xmm" #I "\n\t.else\n\tmulp" S " %%xmm14, %%xmm" #I "\n\t.endif\n\t"
#define PAIR_s(I) MUL_OR_ADD(I, "s")
#define PAIR_d(I) MUL_OR_ADD(I, "d")
#define LOAD_X "movups (%1), %%xmm14\n\tmovups 16(%1), %%xmm15\n\t"
LOOP(avx512_float32, LOAD("s", "zmm"), TWICE(FMA_Z_s))
LOOP(avx512_float64, LOAD("d", "zmm"), TWICE(FMA_Z_d))
LOOP(avx2_float32, LOAD("s", "ymm"), TWICE(FMA_Y_s))
LOOP(avx2_float64, LOAD("d", "ymm"), TWICE(FMA_Y_d))
LOOP(base_float32, LOAD_X, TWICE(PAIR_s))
LOOP(base_float64, LOAD_X, TWICE(PAIR_d))
#elif defined(__aarch64__)
#define LOOP(NAME, BODY)                                                                                        \
    __attribute__((noinline)) void NAME(long rounds, const void *constants) {                                   \
        __asm__ volatile("ldp q14, q15, [%1]\n\t1:\n\t" BODY "subs %0, %0, #1\n\tb.ne 1b\n\t"                   \
                         : "+r"(rounds) : "r"(constants)                                                        \
                         : "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",   \
                           "v11", "v14", "v15");                                                                \
    }
#define FMLA_s(I) "fmla v" #I ".4s, v14.4s, v15.4s\n\t"
#define FMLA_d(I) "fmla v" #I ".2d, v14.2d, v15.2d\n\t"
LOOP(base_float32, TWICE(FMLA_s))
LOOP(base_float64, TWICE(FMLA_d))
#else
#error "machine.c knows x86-64 and aarch64"
#endif

typedef struct {
    const char *name;
    loop_fn loop[2]; /* float32, float64 */
    double flops[2]; /* of one instruction */
} unit_t;

static unit_t widest(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return (unit_t){"avx512", {avx512_float32, avx512_float64}, {32, 16}};
    if (__builtin_cpu_supports("fma")) return (unit_t){"avx2", {avx2_float32, avx2_float64}, {16, 8}};
    return (unit_t){"base", {base_float32, base_float64}, {4, 2}};
#else
    return (unit_t){"base", {base_float32, base_float64}, {8, 4}};
#endif
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

typedef struct {
    loop_fn loop; /* NULL: copy */
    double work;  /* of one repeat: flops or bytes */
    size_t bytes;
    int threads;
    double seconds;
    atomic_int *ready;
    double rate;
} job_t;

static void repeat(const job_t *job, char *to, const char *from, long repeats) {
    static const float constants32[8] = {.5f, .5f, .5f, .5f, 1, 1, 1, 1};
    static const double constants64[4] = {.5, .5, 1, 1};
    if (job->loop) {
        job->loop(repeats, job->bytes == sizeof(float) ? (const void *)constants32 : (const void *)constants64);
        return;
    }
    for (long i = 0; i < repeats; i++) {
        memcpy(to, from, job->bytes / 2);
        __asm__ volatile("" ::: "memory"); /* each copy is made */
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs a job in slices of its time, after all threads are there and warm; the median slice counts, since others may use
   the machine, too. */
static void *work(void *argument) {
    job_t *job = argument;
    char *to = NULL, *from = NULL;
    if (!job->loop) {
        size_t half = job->bytes / 2;
        if (posix_memalign((void **)&to, 64, half) || posix_memalign((void **)&from, 64, half)) abort();
        memset(to, 1, half);
        memset(from, 1, half);
    }
    long repeats = 1;
    double rates[SLICES], start;
    for (start = now(); now() - start < WARM_UP;) repeat(job, to, from, 1);
    for (;; repeats *= 2) { /* how many repeats last a slice? */
        start = now();
        repeat(job, to, from, repeats);
        if (now() - start >= job->seconds / SLICES) break;
    }
    atomic_fetch_add(job->ready, 1);
    while (atomic_load(job->ready) < job->threads) repeat(job, to, from, 1);
    for (int i = 0; i < SLICES; i++) {
        start = now();
        repeat(job, to, from, repeats);
        rates[i] = repeats * job->work / (now() - start);
    }
    qsort(rates, SLICES, sizeof(double), ascending);
    job->rate = rates[SLICES / 2];
    free(to);
    free(from);
    return NULL;
}

static double measure(job_t job) {
    job_t jobs[MOST_THREADS];
    pthread_t threads[MOST_THREADS];
    atomic_int ready = 0;
    job.ready = &ready;
    for (int i = 0; i < job.threads; i++) {
        jobs[i] = job;
        if (i && pthread_create(&threads[i], NULL, work, &jobs[i])) abort();
    }
    work(&jobs[0]);
    double rate = jobs[0].rate;
    for (int i = 1; i < job.threads; i++) {
        pthread_join(threads[i], NULL);
        rate += jobs[i].rate;
    }
    return rate;
}

int main(void) {
    unit_t unit = widest();
    char what[16], amount[32];
    int threads;
    double seconds;
    printf("%s\n", unit.name);
    fflush(stdout);
    while (scanf("%15s %31s %d %lf", what, amount, &threads, &seconds) == 4 && threads <= MOST_THREADS) {
        job_t job = {.threads = threads, .seconds = seconds};
        if (!strcmp(what, "fma")) {
            int wide = !strcmp(amount, "float64");
            job.loop = unit.loop[wide];
            job.work = INSTRUCTIONS * unit.flops[wide];
            job.bytes = wide ? 8 : 4;
        } else {
            job.bytes = strtoull(amount, NULL, 10) / threads; /* each thread copies its share */
            job.work = job.bytes / 2 * 2;
        }
        printf("%.6g\n", measure(job));
        fflush(stdout);
    }
    return 0;
}
