/* The one thread pool of the process: see pool.c. */
#ifndef FASTNN_POOL_H
#define FASTNN_POOL_H

#include "call.h"

#define POOL_MAX_THREADS 256

void pool_parallel(task_fn task, const call_t *call, ptrdiff_t count, double work);
void pool_resize(int threads);
int pool_size(void);

/* Denormal numbers are flushed to zero inside kernels: save and set the control register, then restore it. */
unsigned long flush_denormals(void);
void restore_denormals(unsigned long saved);

#endif
