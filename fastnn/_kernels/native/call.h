/* One kernel call, as the runtime makes it and as a captured step replays it. */
#ifndef FASTNN_CALL_H
#define FASTNN_CALL_H

#include <stddef.h>
#include <stdint.h>

#define CALL_ARRAYS 12
#define CALL_SIZES 32
#define CALL_FLOATS 4

typedef struct call call_t;
/* A kernel, and one task of it. Both get the first array apart, for its type; a task gets its index and its thread's. */
typedef void (*kernel_fn)(void *first, const call_t *call);
typedef void (*task_fn)(void *first, const call_t *call, ptrdiff_t task, int thread);
/* Runs tasks 0 … count-1, on the pool if `work`, in nanoseconds on one core, is worth it. */
typedef void (*parallel_fn)(task_fn task, const call_t *call, ptrdiff_t count, double work);

struct call {
    kernel_fn fn;
    void *p[CALL_ARRAYS];    /* outputs, then inputs, in the row's order; NULL: left out */
    ptrdiff_t n[CALL_SIZES]; /* the row's sizes, then its whole-number parameters */
    double f[CALL_FLOATS];   /* its other parameters */
    char *shared;            /* scratch of all threads, 64-byte aligned */
    char *own;               /* scratch of thread 0; the others' follow at own_size */
    ptrdiff_t own_size;
    int threads;             /* for how many threads there is scratch */
    unsigned add;            /* bit i: output i is added to, not overwritten */
};

#endif
