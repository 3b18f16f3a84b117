# Dropout whose bits are a function of (seed, layer, step, logical index): the logical index is that of C order, whatever
# the order in memory.

cdef extern from "tiles.h" nogil:
    void philox(uint32_t* words, uint64_t first, const uint64_t* key)
    void dropout_row_f32(float*, const float*, const uint32_t*, uint64_t, float, Py_ssize_t)
    void dropout_row_f64(double*, const double*, const uint32_t*, uint64_t, double, Py_ssize_t)
    enum:
        PHILOX_BLOCKS

cdef enum:
    WORDS = 4096     # of one task on a plain row of numbers
    MOST_WORDS = 128  # of one call of philox
    CHANNELS = 16    # of one task on images


cdef struct dropout_sizes:  # in memory the channels of a pixel lie together; channels 1: plain C order
    Py_ssize_t size, itemsize, channels, pixels


cdef inline void drop(real* y, const real* x, const uint32_t* words, const call_t* c, Py_ssize_t n) noexcept nogil:
    cdef double p = c.f[0]
    cdef uint64_t least_word = <uint64_t>(p * 4294967296.0)  # of 2^32 words
    cdef real scale = <real>(1 / (1 - p)) if p < 1 else 0
    if real is float:
        dropout_row_f32(y, x, words, least_word, scale, n)
    else:
        dropout_row_f64(y, x, words, least_word, scale, n)


cdef inline const uint32_t* random_words(uint32_t* words, Py_ssize_t first, Py_ssize_t count, const uint64_t* key) noexcept nogil:
    """The words of elements first, first + 1, ...: at most MOST_WORDS + 3 more than `count` are made."""
    cdef Py_ssize_t made = 0, skip = first % 4
    while made < count + skip:
        philox(words + made, <uint64_t>((first + made) // 4), key)
        made += 4 * PHILOX_BLOCKS
    return words + skip


cdef void dropout_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const dropout_sizes* g = <const dropout_sizes*>c.n
    cdef uint32_t words[WORDS + MOST_WORDS]
    cdef Py_ssize_t i = task * WORDS, n = least(WORDS, g.size - i)
    random_words(words, i, n, <const uint64_t*>c.p[2])
    drop(y + i, <const real*>c.p[1] + i, words, c, n)


cdef void dropout_images_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Some channels of one image: their words lie channel by channel, and are turned to lie pixel by pixel."""
    cdef const dropout_sizes* g = <const dropout_sizes*>c.n
    cdef Py_ssize_t blocks = ceil_div(g.channels, CHANNELS), image = task // blocks, first = task % blocks * CHANNELS, p
    cdef Py_ssize_t channels = least(CHANNELS, g.channels - first), at = image * g.channels * g.pixels + first
    cdef uint32_t* turned = <uint32_t*>(c.own + thread * c.own_size)
    cdef const uint32_t* words = random_words(turned + CHANNELS * (g.pixels + 1),
                                              (image * g.channels + first) * g.pixels, channels * g.pixels,
                                              <const uint64_t*>c.p[2])
    transpose_f32(<float*>turned, CHANNELS, <const float*>words, g.pixels, channels, g.pixels, NULL)
    for p in range(g.pixels):
        drop(y + at + p * g.channels, <const real*>c.p[1] + at + p * g.channels, turned + p * CHANNELS, c, channels)


cdef void dropout(real* y, const call_t* c) noexcept nogil:
    cdef const dropout_sizes* g = <const dropout_sizes*>c.n
    if g.channels == 1:
        parallel(<task_fn>dropout_task[real], c, ceil_div(g.size, WORDS), 0.7 * g.size)
    else:
        parallel(<task_fn>dropout_images_task[real], c,
                 ceil_div(g.size, g.channels * g.pixels) * ceil_div(g.channels, CHANNELS), g.size)


cdef struct dropout2d_sizes:
    Py_ssize_t N, C, H, W


cdef void dropout2d_task(real* y, const call_t* c, Py_ssize_t image, int thread) noexcept nogil:
    """An image: a word for each channel, the same at every pixel."""
    cdef const dropout2d_sizes* g = <const dropout2d_sizes*>c.n
    cdef const uint32_t* words = random_words(<uint32_t*>(c.own + thread * c.own_size), image * g.C, g.C,
                                              <const uint64_t*>c.p[2])
    cdef Py_ssize_t first = image * g.H * g.W, p
    for p in range(first, first + g.H * g.W):
        drop(y + p * g.C, <const real*>c.p[1] + p * g.C, words, c, g.C)


cdef void dropout2d(real* y, const call_t* c) noexcept nogil:
    cdef const dropout2d_sizes* g = <const dropout2d_sizes*>c.n
    parallel(<task_fn>dropout2d_task[real], c, g.N, BYTE * sizeof(real) * g.N * g.C * g.H * g.W)


cdef void next_key(uint64_t* key, const call_t* c) noexcept nogil:
    cdef uint64_t* state = <uint64_t*>c.p[1]
    memcpy(key, state, 24)
    state[2] += 1


def dropout_kernels():
    return {
        "next_key": (<size_t>next_key, <size_t>next_key),
        "dropout": (<size_t>dropout[float], <size_t>dropout[double]),
        "dropout2d": (<size_t>dropout2d[float], <size_t>dropout2d[double]),
    }
