# Direct convolution, no im2col. Images lie (N, H, W, C), weights (KH, KW, I, O); I is C over the number of groups.
#
# Everything is the outer tile of tiles_of.h over "taps", the offsets of the kernel's positions. Where there is padding,
# an image is first copied with its border of zeros, so that no tile has to know about edges.

cdef struct conv_sizes:
    Py_ssize_t N, C, H, W, O, I, KH, KW, P, Q
    Py_ssize_t SH, SW, PH, PW, DH, DW, G


cdef void pad_rows(real* padded, const real* x, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t left, Py_ssize_t width,
                   Py_ssize_t H, Py_ssize_t W, Py_ssize_t C) noexcept nogil:
    """Rows -top … rows-top-1 and columns -left … width-left-1 of the image x (H, W, C), zero outside of it."""
    cdef Py_ssize_t r, h, line = width * C
    cdef Py_ssize_t first = most(0, -left), here = most(0, least(W, width - left) - first)  # columns of x that are taken
    cdef real* row
    for r in range(rows):
        row = padded + r * line
        h = r - top
        if h < 0 or h >= H or here == 0:
            memset(row, 0, line * sizeof(real))
            continue
        memset(row, 0, (left + first) * C * sizeof(real))
        memcpy(row + (left + first) * C, x + (h * W + first) * C, here * C * sizeof(real))
        memset(row + (left + first + here) * C, 0, (width - left - first - here) * C * sizeof(real))


cdef inline Py_ssize_t row_blocks(const conv_sizes* g, Py_ssize_t rows) noexcept nogil:
    """Into how many blocks of rows an image is cut, so that a small batch still makes eight tasks."""
    return most(1, least(rows, ceil_div(8, most(g.N, 1))))


cdef inline bint merged(const conv_sizes* g) noexcept nogil:
    """Whether a kernel's row and the input channels make one run in memory, in the image and in the weights."""
    return g.DW == 1 and g.G == 1


cdef inline Py_ssize_t depth_block(real* of_type, Py_ssize_t cols) noexcept nogil:
    """How many terms of a sum have weights, so many columns wide, that fill half of a first-level cache."""
    return most(1, 24576 // (most(1, cols) * <Py_ssize_t>sizeof(real)))


# --- forward: a tile is some pixels of one output row x some output channels ---------------------------------------------


cdef void conv2d_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef const real* weight = <const real*>c.p[2]
    cdef const real* bias = <const real*>c.p[3]
    cdef Py_ssize_t blocks = row_blocks(g, g.P), n = task // blocks
    cdef Py_ssize_t p0 = cut(g.P, blocks, task % blocks), p1 = cut(g.P, blocks, task % blocks + 1), p, o, o1, group, block
    cdef const real* x = <const real*>c.p[1] + n * g.H * g.W * g.C
    cdef real* padded = <real*>(c.own + thread * c.own_size)
    cdef Py_ssize_t width = g.W + 2 * g.PW, step = column_block(y), top = g.PH - p0 * g.SH, Og = g.O // g.G
    cdef Py_ssize_t depth = g.KW * g.C if merged(g) else g.I, taps = g.KH if merged(g) else g.KH * g.KW
    cdef Py_ssize_t terms = depth_block(y, least(step, Og)), most_taps = most(1, terms // depth)
    cdef Py_ssize_t most_depth = least(depth, terms), t, k
    cdef const Py_ssize_t* ta = <const Py_ssize_t*>c.shared
    cdef const Py_ssize_t* tb = ta + g.KH * g.KW
    if g.PH or g.PW:
        pad_rows(padded, x, top, (p1 - p0 - 1) * g.SH + (g.KH - 1) * g.DH + 1, g.PW, width, g.H, g.W, g.C)
        x = padded
    else:
        x += p0 * g.SH * g.W * g.C
    y += (n * g.P + p0) * g.Q * g.O
    for group in range(g.G):
        for block in range(ceil_div(Og, step)):
            o = group * Og + block * step
            o1 = least(o + step, (group + 1) * Og)
            t = k = 0
            while t < taps:  # a stretch of the sum at a time, whose weights stay in the cache for all rows
                for p in range(p1 - p0):
                    outer[real](y + p * g.Q * g.O + o, g.O, x + p * g.SH * width * g.C + group * g.I + k, g.SW * g.C, 1,
                                weight + k * g.O + o, g.O, g.Q, o1 - o, least(most_depth, depth - k),
                                least(most_taps, taps - t), ta + t, tb + t, bias + o if bias != NULL else NULL, t or k)
                k += most_depth
                if k >= depth:
                    k = 0
                    t += most_taps


cdef void conv2d(real* y, const call_t* c) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef Py_ssize_t* ta = <Py_ssize_t*>c.shared
    cdef Py_ssize_t* tb = ta + g.KH * g.KW
    cdef Py_ssize_t width = g.W + 2 * g.PW, columns = 1 if merged(g) else g.KW, u, v
    for u in range(g.KH):
        for v in range(columns):
            ta[u * columns + v] = (u * g.DH * width + v * g.DW) * g.C
            tb[u * columns + v] = (u * g.KW + v) * g.I * g.O
    parallel(<task_fn>conv2d_task[real], c, g.N * row_blocks(g, g.P), FLOP * 2 * g.N * g.P * g.Q * g.O * g.I * g.KH * g.KW)


# --- backward-data: for each phase of the stride a convolution of dy with the taps that meet it --------------------------
# Pixel h receives from output row p = (h + PH - u * DH) / SH for the taps u for which that is whole: with
# h + PH = SH * s + a, those whose u * DH leaves the remainder a, and then p = s + (a - u * DH) / SH.


cdef struct margins:
    Py_ssize_t left, width  # of the rows of dy with their border of zeros


cdef margins border(const conv_sizes* g) noexcept nogil:
    cdef margins m
    m.left = ceil_div((g.KW - 1) * g.DW, g.SW)
    m.width = m.left + most(g.Q, (g.W - 1 + g.PW) // g.SW + 1)
    return m


cdef void flip_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """The weights of one tap, (I, O) to (O, I)."""
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef const real* weight = <const real*>c.p[2] + task * g.I * g.O
    cdef real* flipped = <real*>c.shared + task * g.I * g.O
    cdef Py_ssize_t i, o
    for o in range(g.O):
        for i in range(g.I):
            flipped[o * g.I + i] = weight[i * g.O + o]


cdef struct phase:  # pixels (first_h + i * SH, first_w + j * SW) and the taps that meet them, by ascending row
    Py_ssize_t first_h, first_w, s, t, taps
    Py_ssize_t* ta     # offsets in dy
    Py_ssize_t* tb     # offsets in the weights
    Py_ssize_t* above  # how many rows of dy a tap lies above


cdef void find_phase(phase* f, const conv_sizes* g, Py_ssize_t width, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t u, v
    f.taps = 0
    for u in range(g.KH):
        for v in range(g.KW):
            if (u * g.DH - a) % g.SH == 0 and (v * g.DW - b) % g.SW == 0:
                f.above[f.taps] = (u * g.DH - a) // g.SH
                f.ta[f.taps] = -(f.above[f.taps] * width + (v * g.DW - b) // g.SW) * g.O
                f.tb[f.taps] = (u * g.KW + v) * g.O * g.I
                f.taps += 1
    f.first_h, f.first_w = ((a - g.PH) % g.SH + g.SH) % g.SH, ((b - g.PW) % g.SW + g.SW) % g.SW
    f.s, f.t = (f.first_h + g.PH - a) // g.SH, (f.first_w + g.PW - b) // g.SW


cdef void conv2d_backward_data_task(real* dx, const call_t* c, Py_ssize_t n, int thread) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef margins m = border(g)
    cdef phase f
    f.ta = <Py_ssize_t*>(c.own + thread * c.own_size)
    f.tb, f.above = f.ta + g.KH * g.KW, f.ta + 2 * g.KH * g.KW
    cdef real* padded = <real*>(f.ta + 3 * g.KH * g.KW)
    cdef const real* dy = <const real*>c.p[1] + n * g.P * g.Q * g.O
    cdef Py_ssize_t a, b
    if m.left or m.width > g.Q:
        pad_rows(padded, dy, 0, g.P, m.left, m.width, g.P, g.Q, g.O)
        dy = padded
    for a in range(g.SH):
        if ((a - g.PH) % g.SH + g.SH) % g.SH >= g.H:
            continue  # no row of this phase lies in the image
        for b in range(g.SW):
            if ((b - g.PW) % g.SW + g.SW) % g.SW >= g.W:
                continue
            find_phase(&f, g, m.width, a, b)
            backward_phase(dx + n * g.H * g.W * g.C, dy + m.left * g.O, <const real*>c.shared, g, &f, m.width, c.add & 1)


cdef void backward_phase(real* dx, const real* dy, const real* flipped, const conv_sizes* g, const phase* f,
                         Py_ssize_t width, bint add) noexcept nogil:
    """All pixels of one phase of one image. Taps whose row of dy does not exist are passed over."""
    cdef Py_ssize_t step = column_block(dx), Og = g.O // g.G, pixels = ceil_div(g.W - f.first_w, g.SW)
    cdef Py_ssize_t most_taps = most(1, depth_block(dx, least(step, g.I)) // Og), group, block, i, t, row, s, low, high
    for group in range(g.G):
        for block in range(ceil_div(g.I, step)):
            i = block * step
            t = 0
            while t < f.taps or t == 0:  # a stretch of taps at a time, as in the forward; once without any, for zeros
                for row in range(ceil_div(g.H - f.first_h, g.SH)):
                    s = f.s + row
                    low, high = t, least(t + most_taps, f.taps)
                    while low < high and s - f.above[low] >= g.P:
                        low += 1
                    while high > low and s - f.above[high - 1] < 0:
                        high -= 1
                    if low < high or t == 0:
                        outer[real](dx + ((f.first_h + row * g.SH) * g.W + f.first_w) * g.C + group * g.I + i, g.SW * g.C,
                                    dy + (s * width + f.t) * g.O + group * Og, g.O, 1, flipped + group * Og * g.I + i, g.I,
                                    pixels, least(step, g.I - i), Og, high - low, f.ta + low, f.tb + low, NULL, add or t > 0)
                t += most_taps


cdef void conv2d_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef double flips = g.KH * g.KW * g.I * g.O
    parallel(<task_fn>flip_task[real], c, g.KH * g.KW, 20 * BYTE * flips)
    parallel(<task_fn>conv2d_backward_data_task[real], c, g.N, FLOP * 2 * g.N * g.P * g.Q * flips)


# --- backward-weights: a tile is some input channels x some output channels, summed over the pixels of the batch ----------
# The work is cut into bands of the weights, each summed over the whole batch by one task; where there are few bands, into
# parts of the batch as well, whose sums are then added in their order. Neither depends on the number of threads.

cdef enum:
    PARTS = 8
    BAND_ROWS = 12
    CACHE = 256 * 1024  # bytes of x and dy over which all bands pass before the next rows are taken


cdef struct plan_t:
    Py_ssize_t taps, rows, bands, parts, tasks, weights  # taps and rows of one band of the kernel; sizes of the partials


cdef plan_t weights_plan(const conv_sizes* g) noexcept nogil:
    cdef plan_t s
    s.rows = g.KW * g.C if merged(g) else g.I
    s.taps = (g.KH if merged(g) else g.KH * g.KW) * g.G
    s.bands = s.taps * ceil_div(s.rows, BAND_ROWS)
    s.parts = 1 if s.bands >= 2 * PARTS else most(1, least(PARTS, g.N))
    s.tasks = PARTS if s.parts == 1 and s.bands >= PARTS else 1
    s.weights = g.KH * g.KW * g.I * g.O
    return s


cdef void pad_task(real* dweight, const call_t* c, Py_ssize_t n, int thread) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef Py_ssize_t height = g.H + 2 * g.PH, width = g.W + 2 * g.PW
    pad_rows(<real*>c.shared + n * height * width * g.C, <const real*>c.p[3] + n * g.H * g.W * g.C, g.PH, height, g.PW,
             width, g.H, g.W, g.C)


cdef inline real* partial_sums(real* of_type, const call_t* c, const conv_sizes* g) noexcept nogil:
    """Where they begin: after the images with their borders, if there are any, at a multiple of 64 bytes."""
    cdef Py_ssize_t images = g.N * (g.H + 2 * g.PH) * (g.W + 2 * g.PW) * g.C if g.PH or g.PW else 0
    return <real*>c.shared + ceil_div(images, 16) * 16


cdef void conv2d_backward_weights_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef plan_t s = weights_plan(g)
    cdef real* dbias = <real*>c.p[1]
    cdef const real* dy = <const real*>c.p[2]
    cdef bint padded = g.PH or g.PW
    cdef const real* x = <const real*>c.shared if padded else <const real*>c.p[3]
    cdef real* sums = partial_sums(dweight, c, g)
    cdef Py_ssize_t* ta = <Py_ssize_t*>(sums + PARTS * (s.weights + g.O))
    cdef Py_ssize_t* tb = ta + g.N * g.P
    cdef Py_ssize_t part = task // s.tasks, row = cut(g.N, s.parts, part) * g.P, end = cut(g.N, s.parts, part + 1) * g.P, band
    cdef Py_ssize_t row_bytes = (g.Q * g.O + g.SH * (g.W + 2 * g.PW) * g.C) * <Py_ssize_t>sizeof(real), count
    cdef bint add = c.add & 1, add_bias = (c.add & 2) != 0
    task %= s.tasks
    if s.parts > 1:
        dweight = sums + part * s.weights if dweight != NULL else NULL
        dbias = sums + PARTS * s.weights + part * g.O if dbias != NULL else NULL
        add = add_bias = False
    if dbias != NULL and task == 0:
        sum_rows(dbias, dy + row * g.Q * g.O, (end - row) * g.Q, g.O, g.O, add_bias)
    while dweight != NULL:  # once even for an empty batch, whose sums are zero
        count = least(most(1, CACHE // row_bytes), end - row)
        for band in range(cut(s.bands, s.tasks, task), cut(s.bands, s.tasks, task + 1)):
            weights_band(dweight, dy, x, g, &s, band, count, ta + row, tb + row, add)
        add = True
        row += count
        if row >= end:
            return


cdef void weights_band(real* dweight, const real* dy, const real* x, const conv_sizes* g, const plan_t* s, Py_ssize_t band,
                       Py_ssize_t taps, const Py_ssize_t* ta, const Py_ssize_t* tb, bint add) noexcept nogil:
    """Some rows of the weights of one kernel position, or of one row of positions where these are merged."""
    cdef Py_ssize_t cuts = ceil_div(s.rows, BAND_ROWS), tap = band // cuts, width = g.W + 2 * g.PW, Og = g.O // g.G
    cdef Py_ssize_t r0 = cut(s.rows, cuts, band % cuts), r1 = cut(s.rows, cuts, band % cuts + 1), u, v = 0, group = 0
    if merged(g):
        u = tap
    else:
        group, u, v = tap // (g.KH * g.KW), tap // g.KW % g.KH, tap % g.KW
    outer[real](dweight + ((u * g.KW + v) * g.I + r0) * g.O + group * Og, g.O,
                x + (u * g.DH * width + v * g.DW) * g.C + group * g.I + r0, 1, g.SW * g.C, dy + group * Og, g.O, r1 - r0, Og,
                g.Q, taps, ta, tb, NULL, add)


cdef void add_parts_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef plan_t s = weights_plan(g)
    cdef real* sums = partial_sums(dweight, c, g)
    cdef real* total = dweight if task == 0 else <real*>c.p[1]
    cdef Py_ssize_t size = s.weights if task == 0 else g.O, part
    if total == NULL:
        return
    if task:
        sums += PARTS * s.weights
    if not c.add & (1 << task):
        memcpy(total, sums, size * sizeof(real))
    else:
        add_row(total, sums, size)
    for part in range(1, s.parts):
        add_row(total, sums + part * size, size)


cdef void conv2d_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef const conv_sizes* g = <const conv_sizes*>c.n
    cdef plan_t s = weights_plan(g)
    cdef Py_ssize_t* ta = <Py_ssize_t*>(partial_sums(dweight, c, g) + PARTS * (s.weights + g.O))
    cdef Py_ssize_t* tb = ta + g.N * g.P
    cdef Py_ssize_t height = g.H + 2 * g.PH, width = g.W + 2 * g.PW, n, p
    if g.PH or g.PW:
        parallel(<task_fn>pad_task[real], c, g.N, BYTE * g.N * height * width * g.C * sizeof(real))
    for n in range(g.N):
        for p in range(g.P):
            ta[n * g.P + p] = (n * height + p * g.SH) * width * g.C
            tb[n * g.P + p] = (n * g.P + p) * g.Q * g.O
    parallel(<task_fn>conv2d_backward_weights_task[real], c, s.parts * s.tasks, FLOP * 2 * g.N * g.P * g.Q * s.weights)
    if s.parts > 1:
        parallel(<task_fn>add_parts_task[real], c, 2, BYTE * s.parts * s.weights * sizeof(real))
