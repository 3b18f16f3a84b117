# Average pooling of images (N, H, W, C). Plain and adaptive windows differ only in where they begin and end.

cdef extern from "tiles.h" nogil:
    ctypedef struct averages_t:
        Py_ssize_t rows, cols, line, channels, step, blocks, copies
        double scale
        bint add, stream, divide
    void average_pixels_f32(float*, const float*, const averages_t*)
    void average_pixels_f64(double*, const double*, const averages_t*)


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


cdef inline double size_of(const avg_sizes* g, const axis_t* down, const axis_t* across, Py_ssize_t p,
                           Py_ssize_t q) noexcept nogil:
    """By what the sum of window (p, q) is divided."""
    return g.divisor if g.divisor else counted(down, p) * counted(across, q)


cdef inline Py_ssize_t bands_of(Py_ssize_t N, Py_ssize_t rows) noexcept nogil:
    """Into how many tasks an image is cut: some 64 for a batch."""
    return most(1, least(rows, ceil_div(64, most(N, 1))))


# --- what all images share: in the scratch, for the outputs across an image, then for those down it ------------------------

cdef struct run_t:  # `count` blocks of outputs side by side, each `copies` outputs of one range of inputs, these `step` apart
    Py_ssize_t at, count, copies, step
    range_t of  # the first block's


cdef inline run_t* runs_of(const call_t* c) noexcept nogil:
    """Those of a row of outputs; after them one without blocks."""
    return <run_t*>c.shared


cdef inline range_t* lines_of(const call_t* c, const avg_sizes* g) noexcept nogil:
    """The range of input rows of each output row."""
    return <range_t*>(runs_of(c) + most(g.W, g.Q) + 1)


cdef inline void average(real* y, const real* x, const averages_t* a) noexcept nogil:
    if real is float:
        average_pixels_f32(y, x, a)
    else:
        average_pixels_f64(y, x, a)


# --- forward: rows of windows that are alike ---------------------------------------------------------------------------------

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


cdef void plan_windows(const call_t* c, const avg_sizes* g) noexcept nogil:
    cdef axis_t down = vertical(g), across = horizontal(g)
    cdef run_t* run = runs_of(c)
    cdef range_t* lines = lines_of(c, g)
    cdef Py_ssize_t p, q = 0
    for p in range(g.P):
        lines[p] = pixels_of(&down, p)
    while q < g.Q:
        run.at, run.copies, run.of = q, 1, pixels_of(&across, q)
        run.count = even_windows(&across, q, &run.step)
        q += run.count
        run += 1
    run.count = 0


cdef void average_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    cdef Py_ssize_t bands = bands_of(g.N, g.P), n = task // bands, band = task % bands, p
    cdef const real* x = <const real*>c.p[1] + n * g.H * g.W * g.C
    cdef axis_t down = vertical(&g), across = horizontal(&g)
    cdef range_t* lines = lines_of(c, &g)
    cdef run_t* run
    cdef averages_t a
    a.line, a.channels, a.add, a.stream, a.divide = g.W * g.C, g.C, False, False, False
    y += n * g.P * g.Q * g.C
    for p in range(cut(g.P, bands, band), cut(g.P, bands, band + 1)):
        a.rows = lines[p].end - lines[p].first
        run = runs_of(c)
        while run.count:
            a.cols, a.step, a.blocks, a.copies = run.of.end - run.of.first, run.step * g.C, run.count, run.copies
            a.scale = 1 / size_of(&g, &down, &across, p, run.at)
            average(y + (p * g.Q + run.at) * g.C, x + (lines[p].first * g.W + run.of.first) * g.C, &a)
            run += 1


cdef inline double avg_work(const avg_sizes* g, size_t itemsize) noexcept nogil:
    return BYTE * itemsize * g.N * g.C * (g.H * g.W + g.P * g.Q)


cdef void avg_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    plan_windows(c, &g)
    parallel(<task_fn>average_task[real], c, g.N * bands_of(g.N, g.P), avg_work(&g, sizeof(real)))


cdef void adaptive_avg_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef call_t r = adaptive(c)
    avg_pool2d[real](y, &r)


# --- backward: a pixel is the sum of dy over the windows that have it, each with its scale ------------------------------------

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


cdef void plan_pixels(const call_t* c, const avg_sizes* g) noexcept nogil:
    cdef axis_t down = vertical(g), across = horizontal(g)
    cdef run_t* run = runs_of(c)
    cdef range_t* lines = lines_of(c, g)
    cdef Py_ssize_t h, w = 0
    for h in range(g.H):
        lines[h] = windows_of(&down, h)
    while w < g.W:
        run.at, run.step, run.of, run.copies = w, 1, windows_of(&across, w), same_windows(&across, w, g.W)
        run.count = even_blocks(&across, w, run.copies)
        w += run.count * run.copies
        run += 1
    run.count = 0


cdef inline bint of_one_scale(const avg_sizes* g, const axis_t* a, range_t r) noexcept nogil:
    """Whether these windows have one scale."""
    cdef Py_ssize_t i
    for i in range(r.first + 1, r.end):
        if not g.divisor and counted(a, i) != counted(a, r.first):
            return False
    return True


cdef inline bint summed_first(const avg_sizes* g, const axis_t* down, const axis_t* across, range_t p,
                              range_t q) noexcept nogil:
    """Whether these windows can be summed and then scaled: they have one scale, and either it is exact, or they are too
    few for their sum to be rounded much more than the reference's, which scales first."""
    cdef Py_ssize_t size
    if not (of_one_scale(g, down, p) and of_one_scale(g, across, q)):
        return False
    size = <Py_ssize_t>size_of(g, down, across, p.first, q.first)
    return (p.end - p.first) * (q.end - q.first) <= size or size & (size - 1) == 0


cdef void spread(real* dx, const real* dy, averages_t* a, const avg_sizes* g, range_t p, range_t q) noexcept nogil:
    """A row of pixels in windows p and q: from all at once, or from one after another."""
    cdef axis_t down = vertical(g), across = horizontal(g)
    cdef Py_ssize_t u = p.first, v
    if p.first >= p.end or q.first >= q.end:  # pixels in no window are 0
        a.rows, a.cols, a.scale, a.divide = 0, 0, 0, False
        average(dx, dy, a)
        return
    a.divide = not summed_first(g, &down, &across, p, q)
    a.rows = 1 if a.divide else p.end - p.first
    a.cols = 1 if a.divide else q.end - q.first
    while u < p.end:
        v = q.first
        while v < q.end:
            a.scale = size_of(g, &down, &across, u, v)
            if not a.divide:
                a.scale = 1 / a.scale
            average(dx, dy + (u * g.Q + v) * g.C, a)
            a.add = True
            v += a.cols
        u += a.rows


cdef void spread_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    cdef Py_ssize_t bands = bands_of(g.N, g.H), n = task // bands, band = task % bands, h
    cdef const real* dy = <const real*>c.p[1] + n * g.P * g.Q * g.C
    cdef run_t* run
    cdef averages_t a
    a.line, a.channels, a.step = g.Q * g.C, g.C, g.C
    a.stream = streams(dx, g.N * g.H * g.W * g.C * sizeof(real), g.C * sizeof(real))
    for h in range(cut(g.H, bands, band), cut(g.H, bands, band + 1)):
        run = runs_of(c)
        while run.count:
            a.blocks, a.copies, a.add = run.count, run.copies, c.add & 1
            spread(dx + ((n * g.H + h) * g.W + run.at) * g.C, dy, &a, &g, lines_of(c, &g)[h], run.of)
            run += 1
    streamed()


cdef void avg_pool2d_backward(real* dx, const call_t* c) noexcept nogil:
    cdef avg_sizes g = avg_sizes_of(c)
    plan_pixels(c, &g)
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
