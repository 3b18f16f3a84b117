# Random changes of images (N, H, W, C). Image n takes words 4n to 4n + 3 of its key's sequence.

cdef enum:
    CHANGED = 4  # images of one task: one call of philox has words for as many


cdef struct crop_sizes:
    Py_ssize_t N, C, H, W, P, Q, size_H, size_W
    Py_ssize_t PH, PW


cdef struct change_sizes:
    Py_ssize_t N, C, H, W, SH, SW


cdef inline Py_ssize_t below(uint32_t word, Py_ssize_t count) noexcept nogil:
    """A whole number from 0 to count - 1, evenly drawn by a word."""
    return <Py_ssize_t>((<uint64_t>word * <uint64_t>count) >> 32)


cdef inline void fill_row(real* y, real value, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = value


cdef inline void place(real* y, Py_ssize_t P, Py_ssize_t Q, const real* x, Py_ssize_t H, Py_ssize_t W,
                       Py_ssize_t top, Py_ssize_t left, Py_ssize_t C, real fill) noexcept nogil:
    """y[p, q] = x[p + top, q + left], and `fill` where that is outside of x."""
    cdef Py_ssize_t first = least(most(-left, 0), Q), last = most(least(W - left, Q), first), p, h
    for p in range(P):
        h = p + top
        if 0 <= h < H and first < last:
            fill_row(y, fill, first * C)
            memcpy(y + first * C, x + (h * W + first + left) * C, (last - first) * C * sizeof(real))
            fill_row(y + last * C, fill, (Q - last) * C)
        else:
            fill_row(y, fill, Q * C)
        y += Q * C


cdef inline void crop_images(real* y, const call_t* c, Py_ssize_t task, bint backward) noexcept nogil:
    cdef const crop_sizes* g = <const crop_sizes*>c.n
    cdef const real* x = <const real*>c.p[1]
    cdef const uint64_t* key = <const uint64_t*>c.p[2]
    cdef Py_ssize_t down = g.H + 2 * g.PH - g.P, across = g.W + 2 * g.PW - g.Q, top, left, n, first = task * CHANGED
    cdef uint32_t words[MOST_WORDS]
    if key != NULL:
        philox(words, <uint64_t>first, key)
    for n in range(first, least(first + CHANGED, g.N)):
        top = (below(words[4 * (n - first)], down + 1) if key != NULL else down // 2) - g.PH
        left = (below(words[4 * (n - first) + 1], across + 1) if key != NULL else across // 2) - g.PW
        if backward:
            place(y + n * g.H * g.W * g.C, g.H, g.W, x + n * g.P * g.Q * g.C, g.P, g.Q, -top, -left, g.C, <real>0)
        else:
            place(y + n * g.P * g.Q * g.C, g.P, g.Q, x + n * g.H * g.W * g.C, g.H, g.W, top, left, g.C, <real>c.f[0])


cdef void random_crop_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    crop_images(y, c, task, False)


cdef void random_crop(real* y, const call_t* c) noexcept nogil:
    cdef const crop_sizes* g = <const crop_sizes*>c.n
    parallel(<task_fn>random_crop_task[real], c, ceil_div(g.N, CHANGED), 2 * BYTE * sizeof(real) * g.N * g.P * g.Q * g.C)


cdef void random_crop_backward_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    crop_images(dx, c, task, True)


cdef void random_crop_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const crop_sizes* g = <const crop_sizes*>c.n
    parallel(<task_fn>random_crop_backward_task[real], c, ceil_div(g.N, CHANGED),
             2 * BYTE * sizeof(real) * g.N * g.H * g.W * g.C)


cdef inline void mirror(real* y, const real* x, Py_ssize_t rows, Py_ssize_t W, Py_ssize_t C) noexcept nogil:
    """Each row of pixels backwards; inlined with a constant C, a pixel of which is then moved without a loop."""
    cdef Py_ssize_t h, w, i
    for h in range(rows):
        for w in range(W):
            for i in range(C):
                y[w * C + i] = x[(W - 1 - w) * C + i]
        y += W * C
        x += W * C


cdef void random_flip_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const change_sizes* g = <const change_sizes*>c.n
    cdef Py_ssize_t size = g.H * g.W * g.C, first = task * CHANGED, n
    cdef const real* x = <const real*>c.p[1] + first * size
    cdef uint64_t least_word = <uint64_t>(c.f[0] * 4294967296.0)  # of 2^32 words
    cdef uint32_t words[MOST_WORDS]
    philox(words, <uint64_t>first, <const uint64_t*>c.p[2])
    y += first * size
    for n in range(least(CHANGED, g.N - first)):
        if words[4 * n] >= least_word:
            memcpy(y, x, size * sizeof(real))
        elif g.C == 1:
            mirror(y, x, g.H, g.W, 1)
        elif g.C == 3:
            mirror(y, x, g.H, g.W, 3)
        else:
            mirror(y, x, g.H, g.W, g.C)
        y += size
        x += size


cdef void random_flip(real* y, const call_t* c) noexcept nogil:
    cdef const change_sizes* g = <const change_sizes*>c.n
    parallel(<task_fn>random_flip_task[real], c, ceil_div(g.N, CHANGED), 2 * BYTE * sizeof(real) * g.N * g.H * g.W * g.C)


cdef void cutout_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const change_sizes* g = <const change_sizes*>c.n
    cdef Py_ssize_t row = g.W * g.C, first = task * CHANGED, images = least(CHANGED, g.N - first), top, left, right, n, h
    cdef uint32_t words[MOST_WORDS]
    philox(words, <uint64_t>first, <const uint64_t*>c.p[2])
    y += first * g.H * row
    memcpy(y, <const real*>c.p[1] + first * g.H * row, images * g.H * row * sizeof(real))
    for n in range(images):
        top = below(words[4 * n], g.H) - g.SH // 2
        left = below(words[4 * n + 1], g.W) - g.SW // 2
        right = least(left + g.SW, g.W)
        left = most(left, 0)
        for h in range(most(top, 0), least(top + g.SH, g.H)):
            fill_row(y + h * row + left * g.C, <real>c.f[0], (right - left) * g.C)
        y += g.H * row


cdef void cutout(real* y, const call_t* c) noexcept nogil:
    cdef const change_sizes* g = <const change_sizes*>c.n
    parallel(<task_fn>cutout_task[real], c, ceil_div(g.N, CHANGED), 2 * BYTE * sizeof(real) * g.N * g.H * g.W * g.C)


def augment_kernels():
    return {
        "random_crop": (<size_t>random_crop[float], <size_t>random_crop[double]),
        "random_crop_backward": (<size_t>random_crop_backward[float], <size_t>random_crop_backward[double]),
        "random_flip": (<size_t>random_flip[float], <size_t>random_flip[double]),
        "cutout": (<size_t>cutout[float], <size_t>cutout[double]),
    }
