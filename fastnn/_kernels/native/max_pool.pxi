# Max pooling of images (N, H, W, C); the index of a maximum is its place in the window, u * KW + v.

cdef extern from "tiles.h" nogil:
    void max_pool_pixels_f32(float*, uint16_t*, const float*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void max_pool_pixels_f64(double*, uint16_t*, const double*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void unpool_pixels_f32(float*, const float*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, int)
    void unpool_pixels_f64(double*, const double*, const uint16_t*, const Py_ssize_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t,
                           Py_ssize_t, int)
    void unpool_apart_f32(float*, const float*, const uint16_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void unpool_apart_f64(double*, const double*, const uint16_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)


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


cdef inline Py_ssize_t windows_with(seat_t at, Py_ssize_t K, Py_ssize_t S, Py_ssize_t D, Py_ssize_t windows,
                                    Py_ssize_t* taps, Py_ssize_t* run) noexcept nogil:
    """The windows along one axis that have a pixel, as pairs (window, tap); returns how many. run: at most so many pixels on,
    a stride apart, that have such windows, each one further on."""
    cdef Py_ssize_t tap, count = 0
    for tap in range(K):
        if at.past == 0 and at.window < windows:  # one before the first: the pixel so many strides on is the first in one
            run[0] = least(run[0], windows - at.window if at.window >= 0 else -at.window)
            if at.window >= 0:
                taps[2 * count], taps[2 * count + 1] = at.window, tap
                count += 1
        next_tap(&at, D, S)
    return count


cdef struct strip_t:  # pixels across an image, a stride apart: from one to the next, all windows that have them are one further on
    Py_ssize_t w, run, count  # after it: the pairs of `windows_with` of the first pixel, of KW at most


cdef inline strip_t* next_strip(const strip_t* s, const pool_sizes* g) noexcept nogil:
    return <strip_t*>(<Py_ssize_t*>(s + 1) + 2 * g.KW)


cdef inline Py_ssize_t apart(const pool_sizes* g) noexcept nogil:
    """How many windows side by side fill a row of pixels from its begin: 0 if they do not lie so."""
    if g.KH != g.SH or g.KW != g.SW or g.DH != 1 or g.DW != 1 or g.PH or g.PW:
        return 0
    return least(g.Q, g.W // g.SW)


cdef void plan_strips(const call_t* c) noexcept nogil:
    """Into the shared scratch, for all rows of pixels: what lies beyond windows side by side; then a strip without pixels."""
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef strip_t* s = <strip_t*>c.shared
    cdef Py_ssize_t first = apart(g) * g.SW, phase, w
    for phase in range(first, least(first + g.SW, g.W)):
        w = phase
        while w < g.W:
            s.w, s.run = w, (g.W - w + g.SW - 1) // g.SW
            s.count = windows_with(seat_of(w, g.SW, g.PW), g.KW, g.SW, g.DW, g.Q, <Py_ssize_t*>(s + 1), &s.run)
            w += s.run * g.SW
            s = next_strip(s, g)
    s.run = 0


cdef inline Py_ssize_t gradient_bands(const pool_sizes* g) noexcept nogil:
    """As `row_bands`, of the rows of dx."""
    return most(1, least(g.H, ceil_div(64, most(g.N, 1))))


cdef inline void unpool(real* dx, const real* dy, const uint16_t* index, const Py_ssize_t* taps, Py_ssize_t count,
                        Py_ssize_t C, Py_ssize_t pixels, Py_ssize_t step, bint add) noexcept nogil:
    if real is float:
        unpool_pixels_f32(dx, dy, index, taps, count, C, pixels, step * C, add)
    else:
        unpool_pixels_f64(dx, dy, index, taps, count, C, pixels, step * C, add)


cdef void unpool_row(real* dx, const real* dy, const uint16_t* index, const call_t* c, Py_ssize_t h,
                     Py_ssize_t* taps) noexcept nogil:
    """Row h of an image. taps: of KH * KW windows, after which those of KH rows of windows find their place."""
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef Py_ssize_t* down = taps + 2 * g.KH * g.KW
    cdef Py_ssize_t any_run = g.H, rows = windows_with(seat_of(h, g.SH, g.PH), g.KH, g.SH, g.DH, g.P, down, &any_run)
    cdef Py_ssize_t windows = apart(g), at = down[0] * g.Q * g.C if rows else 0, first = down[1] * g.KW if rows else 0, i, j
    cdef bint add = c.add & 1
    cdef const strip_t* s = <const strip_t*>c.shared
    cdef const Py_ssize_t* across
    if windows and not rows:
        unpool(dx, dy, index, taps, 0, g.C, windows * g.SW, 1, add)
    elif windows:
        if real is float:
            unpool_apart_f32(dx, dy + at, index + at, first, g.SW, g.C, windows, add)
        else:
            unpool_apart_f64(dx, dy + at, index + at, first, g.SW, g.C, windows, add)
    while s.run:
        across = <const Py_ssize_t*>(s + 1)
        for i in range(rows):
            for j in range(s.count):
                taps[2 * (i * s.count + j)] = (down[2 * i] * g.Q + across[2 * j]) * g.C
                taps[2 * (i * s.count + j) + 1] = down[2 * i + 1] * g.KW + across[2 * j + 1]
        unpool(dx + s.w * g.C, dy, index, taps, rows * s.count, g.C, s.run, g.SW, add)
        s = next_strip(s, g)


cdef void max_pool2d_backward_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Each pixel of some rows is written once, with what comes from all windows that have it."""
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    cdef Py_ssize_t bands = gradient_bands(g), n = task // bands, band = task % bands, at = n * g.P * g.Q * g.C, h
    for h in range(cut(g.H, bands, band), cut(g.H, bands, band + 1)):
        unpool_row(dx + (n * g.H + h) * g.W * g.C, <const real*>c.p[1] + at, <const uint16_t*>c.p[2] + at, c, h,
                   <Py_ssize_t*>(c.own + thread * c.own_size))


cdef void max_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const pool_sizes* g = <const pool_sizes*>c.n
    plan_strips(c)
    parallel(<task_fn>max_pool2d_backward_task[real], c, g.N * gradient_bands(g),
             BYTE * sizeof(real) * g.N * g.P * g.Q * g.KH * g.KW * g.C)


def max_pool_kernels():
    return {
        "max_pool2d": (<size_t>max_pool2d[float], <size_t>max_pool2d[double]),
        "max_pool2d_backward": (<size_t>max_pool2d_backward[float], <size_t>max_pool2d_backward[double]),
    }
