# Dropout whose bits are a function of (seed, layer, step, logical index): the logical index is that of C order, whatever
# the order in memory.

cdef extern from "tiles.h" nogil:
    void philox(uint32_t* words, uint64_t first, const uint64_t* key)
    enum:
        PHILOX_BLOCKS

cdef enum:
    WORDS = 4 * PHILOX_BLOCKS  # numbers of one task's step
    STEPS = 64


# c.n: numbers in all, bytes of one, channels, pixels; in memory the channels of a pixel lie together (channels 1: plain C order).
cdef void dropout_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const real* x = <const real*>c.p[1]
    cdef uint32_t words[WORDS]
    cdef uint64_t drop = <uint64_t>(c.f[0] * 4294967296.0)  # of 2^32 words
    cdef real scale = <real>(1 / (1 - c.f[0])) if c.f[0] < 1 else 0
    cdef Py_ssize_t size = c.n[0], channels = c.n[2], pixels = c.n[3], step, start, i, j, n, at
    for step in range(task * STEPS, least((task + 1) * STEPS, ceil_div(size, WORDS))):
        start = step * WORDS
        philox(words, <uint64_t>start >> 2, <const uint64_t*>c.p[2])
        n = least(WORDS, size - start)
        if channels == 1:
            for j in range(n):
                y[start + j] = x[start + j] * scale if words[j] >= drop else 0
            continue
        for j in range(n):
            i = start + j
            at = i // (channels * pixels) * channels * pixels + i % pixels * channels + i // pixels % channels
            y[at] = x[at] * scale if words[j] >= drop else 0


cdef void dropout(real* y, const call_t* c) noexcept nogil:
    parallel(<task_fn>dropout_task[real], c, ceil_div(c.n[0], STEPS * WORDS), 2.0 * c.n[0])


cdef void next_key(uint64_t* key, const call_t* c) noexcept nogil:
    cdef uint64_t* state = <uint64_t*>c.p[1]
    memcpy(key, state, 24)
    state[2] += 1
