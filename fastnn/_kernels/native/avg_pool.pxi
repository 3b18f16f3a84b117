# Average pooling of images (N, H, W, C). Plain and adaptive windows differ only in where they begin and end.

cdef extern from "tiles.h" nogil:
    void average_pixels_f32(float*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, Py_ssize_t, Py_ssize_t)
    void average_pixels_f64(double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, Py_ssize_t, Py_ssize_t)
    void spread_average_f32(float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const Py_ssize_t*, const float*,
                            Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void spread_average_f64(double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const Py_ssize_t*, const double*,
                            Py_ssize_t, Py_ssize_t, Py_ssize_t, int)


cdef struct avg_sizes:
    Py_ssize_t N, C, H, W, P, Q
    Py_ssize_t KH, KW  # 0: adaptive windows, which have none of the following
    Py_ssize_t SH, SW, PH, PW, ceil_mode, padding_counts, divisor


cdef inline avg_sizes avg_sizes_of(const call_t* c) noexcept nogil:
    cdef avg_sizes g
    memcpy(&g, c.n, sizeof(avg_sizes))
    return g


cdef call_t adaptive(const call_t* c) noexcept nogil:
    """The call with the sizes that adaptive windows lack set to 0."""
    cdef call_t r = c[0]
    memset(&r.n[6], 0, sizeof(avg_sizes) - 6 * sizeof(Py_ssize_t))
    return r


cdef struct axis_t:  # windows along one axis of an image
    Py_ssize_t size, windows, K, S, padding
    bint padding_counts


cdef inline axis_t vertical(const avg_sizes* g) noexcept nogil:
    return axis_t(g.H, g.P, g.KH, g.SH, g.PH, g.padding_counts != 0)


cdef inline axis_t horizontal(const avg_sizes* g) noexcept nogil:
    return axis_t(g.W, g.Q, g.KW, g.SW, g.PW, g.padding_counts != 0)


cdef struct range_t:
    Py_ssize_t first, end


cdef inline range_t pixels_of(const axis_t* a, Py_ssize_t p) noexcept nogil:
    """What window p covers inside the image."""
    if not a.K:
        return range_t(p * a.size // a.windows, ceil_div((p + 1) * a.size, a.windows))
    return range_t(most(0, p * a.S - a.padding), least(a.size, p * a.S - a.padding + a.K))


cdef inline range_t windows_of(const axis_t* a, Py_ssize_t h) noexcept nogil:
    """The windows that cover pixel h."""
    cdef Py_ssize_t before = h + a.padding - a.K + 1  # where the first window that could reach h would begin
    if not a.K:
        return range_t(h * a.windows // a.size, ceil_div((h + 1) * a.windows, a.size))
    return range_t(ceil_div(before, a.S) if before > 0 else 0, least(a.windows, (h + a.padding) // a.S + 1))


cdef inline Py_ssize_t counted(const axis_t* a, Py_ssize_t p) noexcept nogil:
    """How many pixels of window p count: all inside the image or, by `padding_counts`, inside image and padding."""
    cdef range_t r = pixels_of(a, p)
    if a.K and a.padding_counts:
        return least(a.K, a.size + a.padding - (p * a.S - a.padding))
    return r.end - r.first


cdef inline double part_of(const avg_sizes* g, const axis_t* down, const axis_t* across, Py_ssize_t p,
                           Py_ssize_t q) noexcept nogil:
    """With what the sum of window (p, q) is multiplied."""
    return 1.0 / (g.divisor if g.divisor else counted(down, p) * counted(across, q))


cdef Py_ssize_t even_windows(const axis_t* a, Py_ssize_t q, Py_ssize_t* step) noexcept nogil:
    """How many windows from q on are as large as that, and lie `step` apart."""
    cdef range_t first = pixels_of(a, q), other
    cdef Py_ssize_t run = 1
    step[0] = 0
    while q + run < a.windows:
        other = pixels_of(a, q + run)
        if run == 1:
            step[0] = other.first - first.first
        if (other.first != first.first + run * step[0] or other.end - other.first != first.end - first.first
                or counted(a, q + run) != counted(a, q)):
            break
        run += 1
    return run


cdef Py_ssize_t same_windows(const axis_t* a, Py_ssize_t h, Py_ssize_t end) noexcept nogil:
    """How many pixels from h on, before `end`, lie in the same windows as that."""
    cdef range_t first = windows_of(a, h), other
    cdef Py_ssize_t run = 1
    while h + run < end:
        other = windows_of(a, h + run)
        if other.first != first.first or other.end != first.end:
            break
        run += 1
    return run


cdef Py_ssize_t even_blocks(const axis_t* a, Py_ssize_t w, Py_ssize_t width) noexcept nogil:
    """How many blocks of so many pixels, from w on, each lie in the same windows, and these one further on than the last."""
    cdef range_t first = windows_of(a, w), other
    cdef Py_ssize_t run = 1, i
    while w + (run + 1) * width <= a.size:
        other = windows_of(a, w + run * width)
        if (other.first != first.first + run or other.end != first.end + run
                or same_windows(a, w + run * width, a.size) != width):
            return run
        for i in range(first.end - first.first):
            if counted(a, other.first + i) != counted(a, first.first + i):
                return run
        run += 1
    return run


cdef inline Py_ssize_t bands_of(Py_ssize_t N, Py_ssize_t rows) noexcept nogil:
    """Into how many tasks an image is cut: some 64 for a batch."""
    return most(1, least(rows, ceil_div(64, most(N, 1))))


# --- forward: rows of windows that are alike ---------------------------------------------------------------------------------


cdef inline void average_pixels(real* y, const real* x, range_t rows, range_t cols, const avg_sizes* g, double scale,
                                Py_ssize_t run, Py_ssize_t step) noexcept nogil:
    """y for `run` windows whose pixels lie `step` apart, the first of them at (rows, cols) of image x."""
    x += (rows.first * g.W + cols.first) * g.C
    if real is float:
        average_pixels_f32(y, x, rows.end - rows.first, cols.end - cols.first, g.W * g.C, g.C, <float>scale, run, step * g.C)
    else:
        average_pixels_f64(y, x, rows.end - rows.first, cols.end - cols.first, g.W * g.C, g.C, scale, run, step * g.C)


cdef void average_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    cdef Py_ssize_t bands = bands_of(g.N, g.P), n = task // bands, band = task % bands, p, q = 0, run, step
    cdef const real* x = <const real*>c.p[1] + n * g.H * g.W * g.C
    cdef axis_t down = vertical(&g), across = horizontal(&g)
    y += n * g.P * g.Q * g.C
    while q < g.Q:
        run = even_windows(&across, q, &step)
        for p in range(cut(g.P, bands, band), cut(g.P, bands, band + 1)):
            average_pixels(y + (p * g.Q + q) * g.C, x, pixels_of(&down, p), pixels_of(&across, q), &g,
                           part_of(&g, &down, &across, p, q), run, step)
        q += run


cdef inline double avg_work(const avg_sizes* g, size_t itemsize) noexcept nogil:
    return BYTE * itemsize * g.N * g.C * (g.H * g.W + g.P * g.Q)


cdef void avg_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    parallel(<task_fn>average_task[real], c, g.N * bands_of(g.N, g.P), avg_work(&g, sizeof(real)))


cdef void adaptive_avg_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef call_t r = adaptive(c)
    avg_pool2d[real](y, &r)


# --- backward: blocks of pixels that lie in the same windows ------------------------------------------------------------------


cdef Py_ssize_t shares_of(Py_ssize_t* at, real* scale, const avg_sizes* g, range_t p, range_t q) noexcept nogil:
    """Where in dy these windows are, and with what they are multiplied; returns how many there are."""
    cdef axis_t down = vertical(g), across = horizontal(g)
    cdef Py_ssize_t i, j, count = 0
    for i in range(p.first, p.end):
        for j in range(q.first, q.end):
            at[count], scale[count] = (i * g.Q + j) * g.C, <real>part_of(g, &down, &across, i, j)
            count += 1
    return count


cdef void spread_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    cdef Py_ssize_t bands = bands_of(g.N, g.H), n = task // bands, band = task % bands, count, rows, cols, w = 0, h, blocks
    cdef Py_ssize_t first = cut(g.H, bands, band), end = cut(g.H, bands, band + 1)
    cdef const real* dy = <const real*>c.p[1] + n * g.P * g.Q * g.C
    cdef axis_t down = vertical(&g), across = horizontal(&g)
    cdef Py_ssize_t* at = <Py_ssize_t*>(c.own + thread * c.own_size)
    cdef real* scale = <real*>(at + c.own_size // 16)
    cdef real* to
    dx += n * g.H * g.W * g.C
    while w < g.W:
        cols, h = same_windows(&across, w, g.W), first
        blocks = even_blocks(&across, w, cols)
        while h < end:
            rows, to = same_windows(&down, h, end), dx + (h * g.W + w) * g.C
            count = shares_of(at, scale, &g, windows_of(&down, h), windows_of(&across, w))
            if real is float:
                spread_average_f32(to, rows, cols, g.W * g.C, dy, at, scale, count, g.C, blocks, c.add & 1)
            else:
                spread_average_f64(to, rows, cols, g.W * g.C, dy, at, scale, count, g.C, blocks, c.add & 1)
            h += rows
        w += blocks * cols


cdef void avg_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    parallel(<task_fn>spread_task[real], c, g.N * bands_of(g.N, g.H), avg_work(&g, sizeof(real)))


cdef void adaptive_avg_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef call_t r = adaptive(c)
    avg_pool2d_backward[real](dx, &r)


def avg_pool_kernels():
    return {
        "avg_pool2d": (<size_t>avg_pool2d[float], <size_t>avg_pool2d[double]),
        "avg_pool2d_backward": (<size_t>avg_pool2d_backward[float], <size_t>avg_pool2d_backward[double]),
        "adaptive_avg_pool2d": (<size_t>adaptive_avg_pool2d[float], <size_t>adaptive_avg_pool2d[double]),
        "adaptive_avg_pool2d_backward": (
            <size_t>adaptive_avg_pool2d_backward[float], <size_t>adaptive_avg_pool2d_backward[double]
        ),
    }
