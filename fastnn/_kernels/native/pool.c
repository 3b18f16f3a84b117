/* A thread pool for tasks of a few microseconds.
 *
 * A job is one kernel's tasks. `ticket` holds the job's generation (high bits), and the first and the end of the tasks that
 * nobody has claimed yet; a claim is one compare-and-swap, so that a thread that wakes late cannot take a task of another
 * job. The caller claims from the front and workers from the end, so that what a thread has written in one job it mostly
 * reads in the next, from its own cache. A worker spins for a while after its last task, then parks. The pool serves one
 * caller at a time: a second one runs its tasks itself, one after the other, which gives the same bits since tasks do not
 * depend on who runs them. After a fork the child has no workers; it starts its own at the first job.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

#define SERIAL_NS 20000.0   /* less nominal work than this stays on the calling thread */
#define SPIN_NS 50000       /* how long an idle worker spins before it parks */
#define TASK_BITS 20
#define MAX_TASKS ((1 << TASK_BITS) - 1)

static struct {
    _Atomic uint64_t ticket;
    _Atomic long unfinished; /* tasks of the job that are not done */
    task_fn task;
    const call_t *call;
    _Atomic int busy;
    _Atomic int parked;
    _Atomic int stop;
    _Atomic int wanted; /* threads, the caller included */
    int workers; /* running */
    pthread_t threads[POOL_MAX_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} pool = {.wanted = 1, .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

unsigned long flush_denormals(void) {
#if defined(__SSE2__)
    unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040); /* flush to zero, denormals are zero */
    return saved;
#elif defined(__aarch64__)
    unsigned long saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" ::"r"(saved | (1ul << 24)));
    return saved;
#else
    return 0;
#endif
}

void restore_denormals(unsigned long saved) {
#if defined(__SSE2__)
    _mm_setcsr((unsigned)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(saved));
#else
    (void)saved;
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t generation(uint64_t ticket) { return (uint32_t)(ticket >> 2 * TASK_BITS); }
static ptrdiff_t first_task(uint64_t ticket) { return ticket >> TASK_BITS & MAX_TASKS; }
static ptrdiff_t end_of_tasks(uint64_t ticket) { return ticket & MAX_TASKS; }

/* Claim and run tasks of generation `job` until none is left. */
static void work_on(uint32_t job, int thread) {
    uint64_t seen = atomic_load(&pool.ticket);
    while (generation(seen) == job && first_task(seen) < end_of_tasks(seen)) {
        uint64_t left = thread ? seen - 1 : seen + (1 << TASK_BITS);
        if (!atomic_compare_exchange_weak(&pool.ticket, &seen, left)) continue;
        /* The job cannot end before this task does, so its fields are stable from here. */
        pool.task(pool.call->p[0], pool.call, thread ? end_of_tasks(left) : first_task(seen), thread);
        atomic_fetch_sub(&pool.unfinished, 1);
        seen = atomic_load(&pool.ticket);
    }
}

static uint32_t park(uint32_t last) {
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.parked, 1);
    while (generation(atomic_load(&pool.ticket)) == last && !atomic_load(&pool.stop))
        pthread_cond_wait(&pool.wake, &pool.mutex);
    atomic_fetch_sub(&pool.parked, 1);
    pthread_mutex_unlock(&pool.mutex);
    return generation(atomic_load(&pool.ticket));
}

static void *worker(void *arg) {
    int thread = (int)(intptr_t)arg;
    uint32_t last = 0; /* generation 0 is no job's */
    flush_denormals();
    while (!atomic_load(&pool.stop)) {
        uint32_t job = generation(atomic_load(&pool.ticket));
        int64_t until = now_ns() + SPIN_NS;
        for (unsigned i = 1; job == last && !atomic_load(&pool.stop); i++) {
            PAUSE();
            if (i % 64 == 0 && now_ns() > until) job = park(last);
            else job = generation(atomic_load(&pool.ticket));
        }
        work_on(job, thread);
        last = job;
    }
    return NULL;
}

static void wake_all(void) {
    pthread_mutex_lock(&pool.mutex);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
}

static void stop_workers(void) {
    atomic_store(&pool.stop, 1);
    wake_all();
    for (int i = 0; i < pool.workers; i++) pthread_join(pool.threads[i], NULL);
    pool.workers = 0;
    atomic_store(&pool.stop, 0);
}

/* In the child of a fork only the forking thread lives, whatever the pool was doing. */
static void after_fork(void) {
    atomic_store(&pool.ticket, 0);
    atomic_store(&pool.unfinished, 0);
    atomic_store(&pool.busy, 0);
    atomic_store(&pool.parked, 0);
    atomic_store(&pool.stop, 0);
    pool.workers = 0;
    pool.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pool.wake = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

static void on_load(void) { pthread_atfork(NULL, NULL, after_fork); }

/* Signals stay with the threads that Python knows. */
static void start_workers(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers < pool.wanted - 1) {
        int i = pool.workers;
        if (pthread_create(&pool.threads[i], NULL, worker, (void *)(intptr_t)(i + 1))) break; /* fewer will do */
        pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void serial(task_fn task, const call_t *call, ptrdiff_t count) {
    for (ptrdiff_t i = count; i-- > 0;) task(call->p[0], call, i, 0);
}

void pool_parallel(task_fn task, const call_t *call, ptrdiff_t count, double work) {
    if (count < 2 || work < SERIAL_NS || count > MAX_TASKS || pool.wanted < 2 || atomic_exchange(&pool.busy, 1)) {
        serial(task, call, count);
        return;
    }
    if (call->threads < pool.wanted) { /* the pool grew after this call got its scratch */
        atomic_store(&pool.busy, 0);
        serial(task, call, count);
        return;
    }
    if (pool.workers < pool.wanted - 1) start_workers();
    uint32_t job = generation(atomic_load(&pool.ticket) + (1ull << 2 * TASK_BITS));
    if (!job) job = 1;
    pool.task = task;
    pool.call = call;
    atomic_store(&pool.unfinished, count);
    atomic_store(&pool.ticket, (uint64_t)job << 2 * TASK_BITS | (uint64_t)count);
    if (atomic_load(&pool.parked)) wake_all();
    work_on(job, 0);
    for (unsigned i = 1; atomic_load(&pool.unfinished); i++) {
        PAUSE();
        if (i % 4096 == 0) sched_yield(); /* a worker may have lost its core */
    }
    atomic_store(&pool.busy, 0);
}

static void take(void) {
    while (atomic_exchange(&pool.busy, 1)) sched_yield();
}

void pool_resize(int threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, on_load); /* before anything can run here and be forked */
    take();
    if (threads < 1) threads = 1;
    if (threads > POOL_MAX_THREADS) threads = POOL_MAX_THREADS;
    if (threads - 1 < pool.workers) stop_workers();
    pool.wanted = threads;
    atomic_store(&pool.busy, 0);
}

int pool_size(void) { return pool.wanted; }
