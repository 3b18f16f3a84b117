# Max pooling of images (N, H, W, C); the index of a maximum is its place in the window, u * KW + v.

cdef extern from "tiles.h" nogil:
    void max_pool_pixels_f32(float*, uint16_t*, const float*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void max_pool_pixels_f64(double*, uint16_t*, const double*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void unpool_pixels_f32(float*, const float*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void unpool_pixels_f64(double*, const double*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)


cdef struct pool_sizes:
    Py_ssize_t N, C, H, W, P, Q, KH, KW
    Py_ssize_t SH, SW, PH, PW, DH, DW


cdef inline Py_ssize_t window(const pool_sizes* g, Py_ssize_t p, Py_ssize_t q, Py_ssize_t* taps) noexcept nogil:
    """The taps of window (p, q) that lie inside the image, as pairs (offset in the image, number); returns how many."""
    cdef Py_ssize_t u, v, h, w, count = 0
    for u in range(g.KH):
        h = p * g.SH - g.PH + u * g.DH
        if h < 0 or h >= g.H:
            continue
        for v in range(g.KW):
            w = q * g.SW - g.PW + v * g.DW
            if 0 <= w < g.W:
                taps[2 * count] = (h * g.W + w) * g.C
                taps[2 * count + 1] = u * g.KW + v
                count += 1
    return count


cdef inline Py_ssize_t alike(const pool_sizes* g, Py_ssize_t q) noexcept nogil:
    """How many windows from q on, in one row, have the taps of q, a stride further on: 1 at an edge."""
    cdef Py_ssize_t last = (g.W + g.PW - (g.KW - 1) * g.DW - 1) // g.SW  # the last window that ends inside
    return most(1, least(last, g.Q - 1) - q + 1) if q * g.SW >= g.PW else 1


cdef inline Py_ssize_t row_bands(const pool_sizes* g) noexcept nogil:
    """Into how many tasks an image is cut: some 64 for a batch, none of which is too short to be worth handing out."""
    return most(1, least(g.P, ceil_div(64, most(g.N, 1))))


cdef void max_pool2d_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef uint16_t* index = <uint16_t*>c.p[1]
    cdef Py_ssize_t* taps = <Py_ssize_t*>(c.own + thread * c.own_size)
    cdef Py_ssize_t bands = row_bands(g), n = task // bands, band = task % bands, first = cut(g.P, bands, band), p, q
    cdef const real* x = <const real*>c.p[2] + n * g.H * g.W * g.C
    cdef Py_ssize_t count, pixels
    y += (n * g.P + first) * g.Q * g.C
    if index != NULL:
        index += (n * g.P + first) * g.Q * g.C
    for p in range(first, cut(g.P, bands, band + 1)):
        q = 0
        while q < g.Q:
            count = window(g, p, q, taps)
            pixels = alike(g, q)
            if real is float:
                max_pool_pixels_f32(y, index, x, taps, count, g.C, pixels, g.SW * g.C)
            else:
                max_pool_pixels_f64(y, index, x, taps, count, g.C, pixels, g.SW * g.C)
            q += pixels
            y += pixels * g.C
            if index != NULL:
                index += pixels * g.C


cdef void max_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    parallel(<task_fn>max_pool2d_task[real], c, g.N * row_bands(g),
             BYTE * sizeof(real) * g.N * g.P * g.Q * g.KH * g.KW * g.C)


cdef void clear_uncovered(real* dx, const pool_sizes* g) noexcept nogil:
    """Zeros at the end of rows and columns that windows, side by side, do not reach."""
    cdef Py_ssize_t rows = least(g.H, g.P * g.SH - g.PH), columns = least(g.W, g.Q * g.SW - g.PW), h
    if columns < g.W:
        for h in range(rows):
            memset(dx + (h * g.W + columns) * g.C, 0, (g.W - columns) * g.C * sizeof(real))
    memset(dx + rows * g.W * g.C, 0, (g.H - rows) * g.W * g.C * sizeof(real))


cdef void max_pool2d_backward_task(real* dx, const call_t* c, Py_ssize_t n, int thread) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef const real* dy = <const real*>c.p[1] + n * g.P * g.Q * g.C
    cdef const uint16_t* index = <const uint16_t*>c.p[2] + n * g.P * g.Q * g.C
    cdef Py_ssize_t* taps = <Py_ssize_t*>(c.own + thread * c.own_size)
    cdef Py_ssize_t p, q, count, pixels
    # Where windows lie side by side, each pixel is written once; else the image starts at zero and windows add to it.
    cdef bint beside = g.SH == g.KH and g.SW == g.KW and g.DH == 1 and g.DW == 1, add = (c.add & 1) or not beside
    dx += n * g.H * g.W * g.C
    if not add:
        clear_uncovered(dx, g)
    elif not c.add & 1:
        memset(dx, 0, g.H * g.W * g.C * sizeof(real))
    for p in range(g.P):
        q = 0
        while q < g.Q:
            count = window(g, p, q, taps)
            pixels = alike(g, q)
            if real is float:
                unpool_pixels_f32(dx, dy, index, taps, count, g.C, pixels, g.SW * g.C, add)
            else:
                unpool_pixels_f64(dx, dy, index, taps, count, g.C, pixels, g.SW * g.C, add)
            q += pixels
            dy += pixels * g.C
            index += pixels * g.C


cdef void max_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    parallel(<task_fn>max_pool2d_backward_task[real], c, g.N, BYTE * sizeof(real) * g.N * g.P * g.Q * g.KH * g.KW * g.C)


def max_pool_kernels():
    return {
        "max_pool2d": (<size_t>max_pool2d[float], <size_t>max_pool2d[double]),
        "max_pool2d_backward": (<size_t>max_pool2d_backward[float], <size_t>max_pool2d_backward[double]),
    }
