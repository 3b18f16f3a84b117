/* Which instruction sets this processor (and its operating system) can run. */
#ifndef FASTNN_CPU_H
#define FASTNN_CPU_H

static int cpu_runs_avx2(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

static int cpu_runs_avx512(void) {
#if defined(__x86_64__)
    return cpu_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#else
    return 0;
#endif
}

#endif
