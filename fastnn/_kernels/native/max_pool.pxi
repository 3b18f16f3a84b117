# Max pooling of images (N, H, W, C); the index of a maximum is its place in the window, u * KW + v.

cdef extern from "tiles.h" nogil:
    void max_pool_pixels_f32(float*, uint16_t*, const float*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void max_pool_pixels_f64(double*, uint16_t*, const double*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void unpool_pixels_f32(float*, const float*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, int)
    void unpool_pixels_f64(double*, const double*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, int)


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


cdef struct seat_t:  # of a pixel along one axis: which window has it at the first tap, and by how many pixels it misses it
    Py_ssize_t window, past


cdef inline seat_t seat_of(Py_ssize_t at, Py_ssize_t S, Py_ssize_t padding) noexcept nogil:
    return seat_t((at + padding) // S, (at + padding) % S)


cdef inline void next_tap(seat_t* s, Py_ssize_t D, Py_ssize_t S) noexcept nogil:
    """From the window that has the pixel at one tap to that which has it at the next."""
    s.past -= D
    while s.past < 0:
        s.past += S
        s.window -= 1


cdef Py_ssize_t windows_with(const pool_sizes* g, seat_t p, seat_t q, Py_ssize_t* taps, Py_ssize_t* run) noexcept nogil:
    """The windows that have a pixel, as pairs (offset in dy, number of the tap); returns how many. run: at most so many
    pixels on, a stride apart, that have such windows, each one further on."""
    cdef Py_ssize_t u, v, count = 0
    cdef seat_t at = q
    for v in range(g.KW):
        if at.past == 0 and at.window < g.Q:  # a window before the first: the pixel so many strides on is the first in one
            run[0] = least(run[0], g.Q - at.window if at.window >= 0 else -at.window)
        next_tap(&at, g.DW, g.SW)
    for u in range(g.KH):
        at = q
        for v in range(g.KW if p.past == 0 and 0 <= p.window < g.P else 0):
            if at.past == 0 and 0 <= at.window < g.Q:
                taps[2 * count], taps[2 * count + 1] = (p.window * g.Q + at.window) * g.C, u * g.KW + v
                count += 1
            next_tap(&at, g.DW, g.SW)
        next_tap(&p, g.DH, g.SH)
    return count


cdef inline Py_ssize_t gradient_bands(const pool_sizes* g) noexcept nogil:
    """As `row_bands`, of the rows of dx."""
    return most(1, least(g.H, ceil_div(64, most(g.N, 1))))


cdef void max_pool2d_backward_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Each pixel of some rows is written once, with what comes from all windows that have it."""
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef Py_ssize_t bands = gradient_bands(g), n = task // bands, band = task % bands, h, w, phase, count, run
    cdef const real* dy = <const real*>c.p[1] + n * g.P * g.Q * g.C
    cdef const uint16_t* index = <const uint16_t*>c.p[2] + n * g.P * g.Q * g.C
    cdef Py_ssize_t* taps = <Py_ssize_t*>(c.own + thread * c.own_size)
    cdef seat_t p, q
    cdef real* row
    for h in range(cut(g.H, bands, band), cut(g.H, bands, band + 1)):
        row = dx + (n * g.H + h) * g.W * g.C
        p = seat_of(h, g.SH, g.PH)
        for phase in range(least(g.SW, g.W)):
            w, q = phase, seat_of(phase, g.SW, g.PW)
            while w < g.W:
                run = (g.W - w + g.SW - 1) // g.SW
                count = windows_with(g, p, q, taps, &run)
                if real is float:
                    unpool_pixels_f32(row + w * g.C, dy, index, taps, count, g.C, run, g.SW * g.C, c.add & 1)
                else:
                    unpool_pixels_f64(row + w * g.C, dy, index, taps, count, g.C, run, g.SW * g.C, c.add & 1)
                w += run * g.SW
                q.window += run


cdef void max_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    parallel(<task_fn>max_pool2d_backward_task[real], c, g.N * gradient_bands(g),
             BYTE * sizeof(real) * g.N * g.P * g.Q * g.KH * g.KW * g.C)


def max_pool_kernels():
    return {
        "max_pool2d": (<size_t>max_pool2d[float], <size_t>max_pool2d[double]),
        "max_pool2d_backward": (<size_t>max_pool2d_backward[float], <size_t>max_pool2d_backward[double]),
    }
