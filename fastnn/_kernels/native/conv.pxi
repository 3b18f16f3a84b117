# Direct convolution, no im2col. Images lie (N, H, W, C), weights (KH, KW, I, O); I is C over the number of groups.
#
# Everything is the outer tile of tiles_of.h over "taps", the kernel's positions. Padding is never multiplied: output rows
# and columns are cut where the kernel's positions inside the image change, and each piece is a product of its own.
#
# Fused with ReLU and max pooling, a convolution has P and Q that the windows of MH x MW pixels tile; its output lives only
# in the thread's scratch, some rows at a time, and its gradient is made there from that of the pooled output.

cdef extern from "tiles.h" nogil:
    void pool_relu_f32(float*, uint16_t*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void pool_relu_f64(double*, uint16_t*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void unpool_relu_f32(float*, const float*, const uint16_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void fill_rows_f32(float*, const float*, Py_ssize_t, Py_ssize_t)
    void fill_rows_f64(double*, const double*, Py_ssize_t, Py_ssize_t)
    void unpool_relu_f64(double*, const double*, const uint16_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t)


cdef struct conv_sizes:
    Py_ssize_t N, C, H, W, O, I, KH, KW, P, Q
    Py_ssize_t SH, SW, PH, PW, DH, DW, G
    Py_ssize_t MH, MW, relu  # as `uniform` sets them


cdef enum:
    TASKS = 8                # into so many the work is cut at least, where it can be
    SECOND_LEVEL = 1 << 20   # bytes of weights that stay in the second-level cache
    FIRST_LEVEL = 32 * 1024  # bytes of outputs, or of their gradient, that stay in the first-level cache
    IMAGES = 256 * 1024      # bytes of images that share tiles
    PACKED_ROW = 512         # bytes of a row of weights, or of dy, above which the rows of one column block are packed
                             # together: so far apart they would share few sets of the cache


cdef inline conv_sizes sizes_of(const call_t* c) noexcept nogil:
    cdef conv_sizes g  # a copy: what was written as n may not be read as another struct
    memcpy(&g, c.n, sizeof(conv_sizes))
    return g


cdef call_t uniform(const call_t* c, bint pooled, bint relu) noexcept nogil:
    """The call with its pooling window and ReLU where the fused rows have them: 1 x 1 in the others."""
    cdef call_t r = c[0]
    cdef conv_sizes g = sizes_of(c)
    if not pooled:
        g.MH = g.MW = 1
    g.relu = relu
    memcpy(r.n, &g, sizeof(conv_sizes))
    return r


cdef inline bint few_channels(const conv_sizes* g) noexcept nogil:
    """Whether the kernel's positions have so few weights each that all of them go into one loop, or one tall tile. Images
    are then first copied with their border, so that every window has all positions inside. As in table/conv.py."""
    return g.C <= 4 and g.G == 1 and g.DW == 1


cdef void border_task(real* padded, const call_t* c, Py_ssize_t n, int thread) noexcept nogil:
    """Image n of c.p[1] inside a border of zeros."""
    cdef conv_sizes g = sizes_of(c)
    cdef Py_ssize_t line = (g.W + 2 * g.PW) * g.C, h
    cdef const real* x = <const real*>c.p[1] + n * g.H * g.W * g.C
    padded += n * (g.H + 2 * g.PH) * line
    memset(padded, 0, (g.H + 2 * g.PH) * line * sizeof(real))
    for h in range(g.H):
        memcpy(padded + (g.PH + h) * line + g.PW * g.C, x + h * g.W * g.C, g.W * g.C * sizeof(real))


cdef void add_border(real* of_type, call_t* c, int x) noexcept nogil:
    """With few channels, let array x be images without padding: copies with a border, at the beginning of the scratch."""
    cdef conv_sizes g = sizes_of(c)
    cdef call_t copying = c[0]
    cdef Py_ssize_t size
    if not few_channels(&g) or not (g.PH or g.PW):
        return
    copying.p[0], copying.p[1] = c.shared, c.p[x]
    size = g.N * (g.H + 2 * g.PH) * (g.W + 2 * g.PW) * g.C * <Py_ssize_t>sizeof(real)
    parallel(<task_fn>border_task[real], &copying, g.N, BYTE * size)
    c.p[x] = c.shared
    c.shared += ceil_div(size, 64) * 64
    g.H, g.W, g.PH, g.PW = g.H + 2 * g.PH, g.W + 2 * g.PW, 0, 0
    memcpy(c.n, &g, sizeof(conv_sizes))


cdef inline bint merged(const conv_sizes* g) noexcept nogil:
    """Whether a kernel's row and the input channels make one run in memory, in the image and in the weights."""
    return g.DW == 1 and g.G == 1


cdef inline Py_ssize_t row_blocks(Py_ssize_t N, Py_ssize_t rows) noexcept nogil:
    """Into how many blocks of rows an image is cut, so that a small batch still makes enough tasks."""
    return most(1, least(rows, ceil_div(TASKS, most(N, 1))))


cdef struct piece:
    Py_ssize_t first, last  # the kernel's positions that lie inside the image
    Py_ssize_t end          # up to here, outputs have the same ones


cdef inline piece piece_at(Py_ssize_t p, Py_ssize_t end, Py_ssize_t K, Py_ssize_t S, Py_ssize_t padding, Py_ssize_t D,
                           Py_ssize_t size) noexcept nogil:
    """The outputs from p on, up to `end`, whose windows have the same positions inside an image of this size."""
    cdef piece r
    cdef Py_ssize_t u, h
    r.first, r.last, r.end = 0, K, end
    if p * S >= padding and (end - 1) * S - padding + (K - 1) * D < size:
        return r
    for u in range(K):
        h = p * S - padding + u * D
        if h < 0:
            r.first = u + 1
            r.end = least(r.end, p + ceil_div(-h, S))
        elif h >= size:
            r.last = least(r.last, u)
        else:
            r.end = least(r.end, p + ceil_div(size - h, S))
    r.last = most(r.first, r.last)
    return r


# --- forward: a tile is some pixels x some output channels -----------------------------------------------------------------
# Arrays: y, index, x, weight, bias.


cdef inline bint packs(real* y, const conv_sizes* g) noexcept nogil:
    return g.G == 1 and g.O * <Py_ssize_t>sizeof(real) > PACKED_ROW and g.N * g.P * g.Q >= 64


cdef void pack_task(real* y, const call_t* c, Py_ssize_t tap, int thread) noexcept nogil:
    """The weights of one tap, (I, O), by column blocks: (block, tap, I, column)."""
    cdef conv_sizes g = sizes_of(c)
    cdef const real* weight = <const real*>c.p[3] + tap * g.I * g.O
    cdef Py_ssize_t step = column_block(y), o = 0, i, cols
    cdef real* packed
    while o < g.O:
        cols = least(step, g.O - o)
        packed = <real*>c.shared + (o * g.KH * g.KW + tap * cols) * g.I
        for i in range(g.I):
            memcpy(packed + i * cols, weight + i * g.O + o, cols * sizeof(real))
        o += cols


cdef void conv_piece(real* y, const real* x, const real* weight, Py_ssize_t ld, const real* bias, const conv_sizes* g,
                     grid_t* t, Py_ssize_t images, Py_ssize_t p, piece rows, Py_ssize_t q, piece cols) noexcept nogil:
    """Outputs (p … rows.end-1, q … cols.end-1) of some images, of channels with these weights, in rows ld apart."""
    cdef Py_ssize_t* ta = <Py_ssize_t*>t.ta
    cdef Py_ssize_t* tb = ta + g.KH * g.KW
    cdef Py_ssize_t u, v, i, at
    t.run, t.runs = cols.end - q, rows.end - p
    t.rows = images * t.runs * t.run
    t.depth = (cols.last - cols.first) * g.C if merged(g) else g.I
    t.taps, t.bk, t.tb = 0, ld, NULL if few_channels(g) else tb
    for u in range(rows.first, rows.last):
        for v in range(cols.first, cols.first + 1 if t.tb != NULL and merged(g) else cols.last):
            at = ((p * g.SH - g.PH + u * g.DH) * g.W + q * g.SW - g.PW + v * g.DW) * g.C
            if t.tb != NULL:
                ta[t.taps], tb[t.taps] = at, (u * g.KW + v) * g.I * ld
                t.taps += 1
                continue
            for i in range(g.C):
                ta[t.taps] = at + i
                t.taps += 1
    outer_grid[real](t, y, x, weight, bias)


cdef void conv_rows(real* y, const call_t* c, int thread, Py_ssize_t n, Py_ssize_t images, Py_ssize_t p0, Py_ssize_t p1,
                    Py_ssize_t block0, Py_ssize_t block1) noexcept nogil:
    """Rows p0 … p1-1 of images from n on, and of their channels some column blocks, to y, where the first row is."""
    cdef conv_sizes g = sizes_of(c)
    cdef const real* x = <const real*>c.p[2] + n * g.H * g.W * g.C
    cdef const real* weight = <const real*>c.p[3]
    cdef const real* bias = <const real*>c.p[4]
    cdef bint packed = packs(y, &g)
    cdef Py_ssize_t Og = g.O // g.G, blocks = ceil_div(Og, column_block(y)), block, group, o, p, q, ld = g.O
    cdef piece rows, cols
    cdef grid_t t
    t.ta = <const Py_ssize_t*>(c.own + thread * c.own_size)
    t.ai, t.aj, t.an, t.ak, t.add, t.relu = g.SW * g.C, g.SH * g.W * g.C, g.H * g.W * g.C, 1, 0, <int>g.relu
    t.ci, t.cj, t.cn = g.O, g.Q * g.O, g.P * g.Q * g.O
    for block in range(block0, block1):
        group, o = block // blocks, block // blocks * Og + block % blocks * column_block(y)
        t.cols = least(column_block(y), (group + 1) * Og - o)
        if packed:
            weight, ld = <const real*>c.shared + o * g.KH * g.KW * g.I, t.cols
        p = p0
        while p < p1:
            rows = piece_at(p, p1, g.KH, g.SH, g.PH, g.DH, g.H)
            q = 0
            while q < g.Q:
                cols = piece_at(q, g.Q, g.KW, g.SW, g.PW, g.DW, g.W)
                conv_piece(y + ((p - p0) * g.Q + q) * g.O + o, x + group * g.I, weight if packed else weight + o, ld,
                           bias + o if bias != NULL else NULL, &g, &t, images, p, rows, q, cols)
                q = cols.end
            p = rows.end


cdef inline Py_ssize_t column_blocks(real* y, const conv_sizes* g) noexcept nogil:
    return g.G * ceil_div(g.O // g.G, column_block(y))


cdef inline Py_ssize_t rounds(real* y, const conv_sizes* g) noexcept nogil:
    """How often the batch is gone through, each time with weights that stay in the second-level cache."""
    return least(column_blocks(y, g), ceil_div(g.KH * g.KW * g.I * g.O * <Py_ssize_t>sizeof(real), SECOND_LEVEL))


cdef inline Py_ssize_t batches(const conv_sizes* g, Py_ssize_t turns, Py_ssize_t image) noexcept nogil:
    """Into how many batches the images, of so many bytes, are cut: small ones share tiles, as far as tasks are left."""
    return most(1, most(least(g.N, TASKS // turns), g.N * image // IMAGES))


cdef void conv2d_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef Py_ssize_t turns = rounds(y, &g), parts = batches(&g, turns, g.H * g.W * g.C * <Py_ssize_t>sizeof(real))
    cdef Py_ssize_t blocks = row_blocks(g.N, g.P), part = task // blocks % parts, turn = task // (parts * blocks)
    cdef Py_ssize_t n = cut(g.N, parts, part), p0 = cut(g.P, blocks, task % blocks), p1 = cut(g.P, blocks, task % blocks + 1)
    conv_rows(y + (n * g.P + p0) * g.Q * g.O, c, thread, n, cut(g.N, parts, part + 1) - n, p0, p1,
              cut(column_blocks(y, &g), turns, turn), cut(column_blocks(y, &g), turns, turn + 1))


cdef inline Py_ssize_t pooled_rows(real* y, const conv_sizes* g) noexcept nogil:
    """Rows of the pooled output that are made at a time; as in table/conv.py."""
    return most(1, FIRST_LEVEL // (g.MH * g.Q * g.O * <Py_ssize_t>sizeof(real)))


cdef void conv2d_max_pool2d_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef uint16_t* index = <uint16_t*>c.p[1]
    cdef uint16_t* place
    cdef Py_ssize_t YH = g.P // g.MH, YW = g.Q // g.MW, line = g.Q * g.O, r, first, end, high
    cdef Py_ssize_t blocks = row_blocks(g.N, YH), n = task // blocks, at
    cdef real* rows = <real*>(c.own + thread * c.own_size + conv_tables(&g))
    high = pooled_rows(y, &g)
    first, end = cut(YH, blocks, task % blocks), cut(YH, blocks, task % blocks + 1)
    while first < end:
        high = least(high, end - first)
        conv_rows(rows, c, thread, n, 1, first * g.MH, (first + high) * g.MH, 0, column_blocks(y, &g))
        for r in range(high):
            at = (n * YH + first + r) * YW * g.O
            place = index + at if index != NULL else NULL
            if real is float:
                pool_relu_f32(y + at, place, rows + r * g.MH * line, g.MH, g.MW, line, g.O, YW)
            else:
                pool_relu_f64(y + at, place, rows + r * g.MH * line, g.MH, g.MW, line, g.O, YW)
        first += high


cdef inline Py_ssize_t conv_tables(const conv_sizes* g) noexcept nogil:
    """Bytes of a thread's tables of taps, with which its scratch begins."""
    return ceil_div(4 * g.KH * g.KW * sizeof(Py_ssize_t), 64) * 64


cdef void conv_forward(real* y, call_t* c, task_fn task, Py_ssize_t count) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef double weights = g.KH * g.KW * g.I * g.O
    add_border(y, c, 2)
    if packs(y, &g):
        parallel(<task_fn>pack_task[real], c, g.KH * g.KW, BYTE * sizeof(real) * weights)
    parallel(task, c, count, FLOP * 2 * g.N * g.P * g.Q * weights)


cdef void conv2d(real* y, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, False, sizes_of(c).MH != 0)
    cdef conv_sizes g = sizes_of(&r)
    r.p[1], r.p[2], r.p[3], r.p[4] = NULL, c.p[1], c.p[2], c.p[3]
    cdef Py_ssize_t turns = rounds(y, &g), parts = batches(&g, turns, g.H * g.W * g.C * <Py_ssize_t>sizeof(real))
    conv_forward(y, &r, <task_fn>conv2d_task[real], turns * parts * row_blocks(g.N, g.P))


cdef void conv2d_max_pool2d(real* y, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, True, False)  # the ReLU comes with the pooling, on fewer numbers
    cdef conv_sizes g = sizes_of(&r)
    conv_forward(y, &r, <task_fn>conv2d_max_pool2d_task[real], g.N * row_blocks(g.N, g.P // g.MH))


# --- the gradient of the output, as both backwards take it -------------------------------------------------------------------


cdef const real* gradient_rows(real* own, const real* dy, const uint16_t* index, const conv_sizes* g, Py_ssize_t row,
                               Py_ssize_t count) noexcept nogil:
    """Rows row … row+count-1, of all rows of the batch: in dy or, where that is of the pooled output, unpooled to `own`."""
    cdef Py_ssize_t YW = g.Q // g.MW, line = g.Q * g.O, r, at
    if index == NULL:
        return dy + row * line
    for r in range(count // g.MH):
        at = (row // g.MH + r) * YW * g.O
        if real is float:
            unpool_relu_f32(own + r * g.MH * line, dy + at, index + at, g.MH, g.MW, line, g.O, YW)
        else:
            unpool_relu_f64(own + r * g.MH * line, dy + at, index + at, g.MH, g.MW, line, g.O, YW)
    return own


# --- backward-data: each kernel position sends a run of dy, times its weights, to the pixels of dx that it saw --------------
# Arrays: dx, dy, weight, index. Pixel h received from output row p at position u if h = p * SH - PH + u * DH.


cdef void flip_task(real* dx, const call_t* c, Py_ssize_t tap, int thread) noexcept nogil:
    """The weights of one tap, (I, O), as (O, I) by column blocks: (block, tap, O, column)."""
    cdef conv_sizes g = sizes_of(c)
    cdef const real* weight = <const real*>c.p[2] + tap * g.I * g.O
    cdef Py_ssize_t step = column_block(dx), i0 = 0, o0, o, i, cols
    cdef real* flipped
    while i0 < g.I:
        cols = least(step, g.I - i0)
        flipped = <real*>c.shared + (i0 * g.KH * g.KW + tap * cols) * g.O
        for o0 in range(0, g.O, 16):  # a line of the cache at a time
            for i in range(cols):
                for o in range(o0, least(o0 + 16, g.O)):
                    flipped[o * cols + i] = weight[(i0 + i) * g.O + o]
        i0 += cols


cdef Py_ssize_t stretch(Py_ssize_t* ta, Py_ssize_t* tb, const conv_sizes* g, Py_ssize_t h, Py_ssize_t end,
                        Py_ssize_t* taps) noexcept nogil:
    """The kernel's rows that meet row h of dx, as offsets in dy and in the weights; returns up to which row, from h on in
    steps of SH, these are the same."""
    cdef Py_ssize_t u, p, t
    taps[0] = 0
    for u in range(g.KH):
        t = h + g.PH - u * g.DH
        if t % g.SH:
            continue
        p = t // g.SH
        if p < 0:
            end = least(end, h - p * g.SH)
        elif p < g.P:
            end = least(end, h + (g.P - p) * g.SH)
            ta[taps[0]], tb[taps[0]] = p * g.Q * g.O, u * g.KW
            taps[0] += 1
    return end


cdef inline bint covers(const conv_sizes* g) noexcept nogil:
    """Whether one position of a kernel's row reaches all pixels of dx, so that its products can be written, not added."""
    return (g.SH == 1 and g.SW == 1 and g.P == g.H and g.Q == g.W and g.PH % g.DH == 0 and g.PW % g.DW == 0)


cdef void data_block(real* dx, const real* dy, const real* flipped, const conv_sizes* g, grid_t* t, Py_ssize_t images,
                     Py_ssize_t h0, Py_ssize_t h1, bint add) noexcept nogil:
    """Rows h0 … h1-1 of some channels of some images get what they are due: added or, by the first position, written."""
    cdef Py_ssize_t* ta = <Py_ssize_t*>t.ta
    cdef Py_ssize_t* tb = <Py_ssize_t*>t.tb
    cdef Py_ssize_t phase, h, end, v, q, q1, i, w, first = g.PW // g.DW if covers(g) else 0
    for phase in range(least(g.SH, h1 - h0)):
        h = h0 + phase
        while h < h1:
            end = stretch(ta, tb, g, h, h1, &t.taps)
            for i in range(t.taps):
                tb[i] *= g.O * t.cols
            for i in range(g.KW):
                v, t.add = (first + i) % g.KW, add or i > 0
                q = ceil_div(g.PW - v * g.DW, g.SW) if g.PW > v * g.DW else 0
                q1 = least(g.Q, ceil_div(g.W + g.PW - v * g.DW, g.SW)) if g.W + g.PW > v * g.DW else 0
                t.run, t.runs = q1 - q, ceil_div(end - h, g.SH)
                t.rows = images * t.runs * t.run
                w = q * g.SW - g.PW + v * g.DW
                if t.run > 0 and t.taps > 0:
                    outer_grid[real](t, dx + (h * g.W + w) * g.C, dy + q * g.O, flipped + v * g.O * t.cols, NULL)
            h += ceil_div(end - h, g.SH) * g.SH


cdef inline Py_ssize_t data_batches(real* dx, const call_t* c, const conv_sizes* g) noexcept nogil:
    """As `batches`; where dy is unpooled, each image by itself."""
    return g.N if c.p[3] != NULL else batches(g, 1, g.P * g.Q * g.O * <Py_ssize_t>sizeof(real))


cdef void conv2d_backward_data_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef Py_ssize_t blocks = row_blocks(g.N, g.H), parts = data_batches(dx, c, &g), part = task // blocks, group, i = 0
    cdef Py_ssize_t n = cut(g.N, parts, part), images = cut(g.N, parts, part + 1) - n, Og = g.O // g.G, image
    cdef Py_ssize_t h0 = cut(g.H, blocks, task % blocks), h1 = cut(g.H, blocks, task % blocks + 1)
    cdef real* unpooled = <real*>(c.own + thread * c.own_size + conv_tables(&g))
    cdef const real* dy = gradient_rows(unpooled, <const real*>c.p[1], <const uint16_t*>c.p[3], &g, n * g.P, g.P)
    cdef grid_t t
    t.ta = <const Py_ssize_t*>(c.own + thread * c.own_size)
    t.tb = t.ta + g.KH * g.KW
    t.ai, t.aj, t.an, t.ak, t.depth, t.relu = g.O, g.Q * g.O, g.P * g.Q * g.O, 1, Og, 0
    t.ci, t.cj, t.cn = g.SW * g.C, g.SH * g.W * g.C, g.H * g.W * g.C
    dx += n * g.H * g.W * g.C
    cdef bint add = c.add & 1 or not covers(&g)
    if add and not c.add & 1:
        for image in range(images):
            memset(dx + (image * g.H + h0) * g.W * g.C, 0, (h1 - h0) * g.W * g.C * sizeof(real))
    while i < g.I:
        t.cols = t.bk = least(column_block(dx), g.I - i)
        for group in range(g.G):
            data_block(dx + group * g.I + i, dy + group * Og,
                       <const real*>c.shared + i * g.KH * g.KW * g.O + group * Og * t.cols, &g, &t, images, h0, h1, add)
        i += t.cols


cdef void conv_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef double weights = g.KH * g.KW * g.I * g.O
    parallel(<task_fn>flip_task[real], c, g.KH * g.KW, 10 * BYTE * weights)
    parallel(<task_fn>conv2d_backward_data_task[real], c, data_batches(dx, c, &g) * row_blocks(g.N, g.H),
             FLOP * 2 * g.N * g.P * g.Q * weights)


cdef void conv2d_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, False, False)
    conv_backward_data[real](dx, &r)


cdef void conv2d_max_pool2d_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, True, False)
    conv_backward_data[real](dx, &r)


# --- backward-weights: a tile is some input channels x some output channels, summed over the pixels of the batch ------------
# Arrays: dweight, dbias, dy, x, index. Small weights are summed in parts of the batch, whose sums are then added in their
# order; of large ones, each task sums some over the whole batch. Neither depends on the number of threads.

cdef struct plan_t:
    Py_ssize_t parts, shares         # tasks: parts of the batch, times shares of the weights
    Py_ssize_t weights, unit, units  # size of the weights; rows that go together, and how many such units there are
    Py_ssize_t blocks, taps          # bands of the weights: column blocks, each of so many kernel positions


cdef plan_t weights_plan(real* dweight, const conv_sizes* g) noexcept nogil:
    cdef plan_t s
    s.weights = g.KH * g.KW * g.I * g.O
    s.unit, s.units = g.MH, g.N * (g.P // g.MH)
    s.parts = most(1, least(PARTS, s.units)) if s.weights <= PARTED else 1
    s.blocks, s.taps = column_blocks(dweight, g), 1 if few_channels(g) else g.KH if unpadded(g) else g.KH * g.KW
    s.shares = 1 if s.parts > 1 else least(PARTS, s.blocks * s.taps)
    return s


cdef enum:
    PARTED = 1 << 18  # numbers of weights up to which the batch is summed in parts; as in table/conv.py


cdef inline bint unpadded(const conv_sizes* g) noexcept nogil:
    """Whether all positions of a kernel's row see the same columns, so that they can share a tile."""
    return merged(g) and g.PW == 0


cdef inline Py_ssize_t chunk_rows(real* dweight, const conv_sizes* g) noexcept nogil:
    """Rows of dy of which 256 bytes of each pixel stay in the first-level cache, in whole units; as in table/conv.py."""
    cdef Py_ssize_t row = most(1, g.Q * least(g.O * <Py_ssize_t>sizeof(real), 256))
    return most(1, FIRST_LEVEL // (g.MH * row)) * g.MH


cdef void weights_band(real* dweight, const real* dy, Py_ssize_t ld, const real* x, const conv_sizes* g, grid_t* t,
                       Py_ssize_t tap, Py_ssize_t row, Py_ssize_t count) noexcept nogil:
    """The gradient by one column block of weights at one kernel position, or row of positions, from some rows of dy."""
    cdef Py_ssize_t* ta = <Py_ssize_t*>t.ta
    cdef Py_ssize_t* tb = <Py_ssize_t*>t.tb
    cdef Py_ssize_t u = tap if unpadded(g) else tap // g.KW, v = 0 if unpadded(g) else tap % g.KW, r, h
    cdef Py_ssize_t q = ceil_div(g.PW - v * g.DW, g.SW) if g.PW > v * g.DW else 0
    cdef Py_ssize_t q1 = least(g.Q, ceil_div(g.W + g.PW - v * g.DW, g.SW)) if g.W + g.PW > v * g.DW else 0
    t.run = g.KW * g.C if unpadded(g) else g.I
    t.runs = g.KH if few_channels(g) else 1
    t.rows = t.runs * t.run
    t.depth, t.taps = most(0, q1 - q), 0
    for r in range(row, row + count):
        h = r % g.P * g.SH - g.PH + u * g.DH
        if 0 <= h < g.H:
            ta[t.taps] = ((r // g.P * g.H + h) * g.W + q * g.SW - g.PW + v * g.DW) * g.C
            tb[t.taps] = ((r - row) * g.Q + q) * ld
            t.taps += 1
    t.bk = ld
    outer_grid[real](t, dweight + (u * g.KW + v) * g.I * g.O, x, dy, NULL)


cdef const real* packed_rows(real* packed, const real* dy, const conv_sizes* g, Py_ssize_t pixels,
                             Py_ssize_t cols) noexcept nogil:
    """One column block of some pixels of dy, side by side."""
    cdef Py_ssize_t i
    for i in range(pixels):
        memcpy(packed + i * cols, dy + i * g.O, cols * sizeof(real))
    return packed


cdef void conv2d_backward_weights_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef plan_t s = weights_plan(dweight, &g)
    cdef real* dbias = <real*>c.p[1]
    cdef const real* dy
    cdef const real* columns = NULL
    cdef const real* x = <const real*>c.p[3]
    cdef Py_ssize_t part = task // s.shares, share = task % s.shares, Og = g.O // g.G, band, block, group, o
    cdef bint packing = g.O * <Py_ssize_t>sizeof(real) > PACKED_ROW
    cdef Py_ssize_t row = cut(s.units, s.parts, part) * s.unit, end = cut(s.units, s.parts, part + 1) * s.unit, count, most_rows
    cdef bint add = c.add & 1, add_bias = (c.add & 2) != 0
    cdef real* own
    cdef real* packed
    cdef grid_t t
    most_rows = chunk_rows(dweight, &g)
    t.ta = <const Py_ssize_t*>(c.own + thread * c.own_size)
    t.tb = t.ta + most_rows
    packed = <real*>(c.own + thread * c.own_size + ceil_div(2 * most_rows * sizeof(Py_ssize_t), 64) * 64)
    own = packed + most_rows * g.Q * column_block(dweight) if packing else packed
    t.ai, t.aj, t.an, t.ak, t.relu = 1, g.DH * g.W * g.C, 0, g.SW * g.C, 0
    t.ci, t.cj, t.cn = g.O, g.KW * g.I * g.O, 0
    if s.parts > 1:
        dweight = <real*>c.shared + part * s.weights if dweight != NULL else NULL
        dbias = <real*>c.shared + s.parts * s.weights + part * g.O if dbias != NULL else NULL
        add = add_bias = False
    while True:  # once even for an empty batch, whose sums are zero
        count = least(most_rows, end - row)
        dy = gradient_rows(own, <const real*>c.p[2], <const uint16_t*>c.p[4], &g, row, count)
        if dbias != NULL and share == 0:
            sum_rows(dbias, dy, count * g.Q, g.O, g.O, add_bias)
        columns = NULL
        for band in range(cut(s.blocks * s.taps, s.shares, share), cut(s.blocks * s.taps, s.shares, share + 1)):
            if dweight == NULL:
                break
            block = band // s.taps
            group = block // (s.blocks // g.G)
            o = group * Og + block % (s.blocks // g.G) * column_block(dweight)
            t.cols, t.add = least(column_block(dweight), (group + 1) * Og - o), add
            if columns == NULL or band % s.taps == 0:
                columns = packed_rows(packed, dy + o, &g, count * g.Q, t.cols) if packing else dy + o
            weights_band(dweight + o, columns, t.cols if packing else g.O, x + group * g.I, &g, &t, band % s.taps, row, count)
        add = add_bias = True
        row += count
        if row >= end:
            return


cdef void add_parts_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef conv_sizes g = sizes_of(c)
    cdef plan_t s = weights_plan(dweight, &g)
    cdef real* sums = <real*>c.shared
    cdef real* total = dweight if task == 0 else <real*>c.p[1]
    cdef Py_ssize_t size = s.weights if task == 0 else g.O, part
    if total == NULL:
        return
    if task:
        sums += s.parts * s.weights
    if not c.add & (1 << task):
        memcpy(total, sums, size * sizeof(real))
    else:
        add_row(total, sums, size)
    for part in range(1, s.parts):
        add_row(total, sums + part * size, size)


cdef void conv_backward_weights(real* dweight, call_t* c) noexcept nogil:
    add_border(dweight, c, 3)
    cdef conv_sizes g = sizes_of(c)
    cdef plan_t s = weights_plan(dweight, &g)
    parallel(<task_fn>conv2d_backward_weights_task[real], c, s.parts * s.shares, FLOP * 2 * g.N * g.P * g.Q * s.weights)
    if s.parts > 1:
        parallel(<task_fn>add_parts_task[real], c, 2, BYTE * s.parts * s.weights * sizeof(real))


cdef void conv2d_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, False, False)
    conv_backward_weights[real](dweight, &r)


cdef void conv2d_max_pool2d_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef call_t r = uniform(c, True, False)
    conv_backward_weights[real](dweight, &r)


# --- the bias of a transposed convolution, whose forward is backward-data and adds to it ---------------------------------------


cdef struct bias_sizes:
    Py_ssize_t C
    Py_ssize_t N, H, W


cdef inline Py_ssize_t filled_rows(const bias_sizes* g) noexcept nogil:
    """Pixels of one task."""
    return most(1, RUN // most(1, g.C))


cdef void channel_bias_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const bias_sizes* g = <const bias_sizes*>c.n
    cdef Py_ssize_t row = task * filled_rows(g), rows = least(filled_rows(g), g.N * g.H * g.W - row)
    if real is float:
        fill_rows_f32(y + row * g.C, <const float*>c.p[1], rows, g.C)
    else:
        fill_rows_f64(y + row * g.C, <const double*>c.p[1], rows, g.C)


cdef void channel_bias(real* y, const call_t* c) noexcept nogil:
    cdef const bias_sizes* g = <const bias_sizes*>c.n
    cdef Py_ssize_t rows = g.N * g.H * g.W
    parallel(<task_fn>channel_bias_task[real], c, ceil_div(rows, filled_rows(g)), BYTE * sizeof(real) * rows * g.C)


cdef struct image_sizes:
    Py_ssize_t N, C, H, W


cdef void channel_bias_backward_task(real* dbias, const call_t* c, Py_ssize_t part, int thread) noexcept nogil:
    """The sum of one part of all pixels, to the scratch."""
    cdef const image_sizes* g = <const image_sizes*>c.n
    cdef Py_ssize_t rows = g.N * g.H * g.W, row = cut(rows, PARTS, part), end = cut(rows, PARTS, part + 1), count
    cdef Py_ssize_t at_once = most(4, FIRST_LEVEL // most(1, g.C * <Py_ssize_t>sizeof(real)))
    cdef bint add = False
    while True:  # once even for an empty part, whose sum is zero
        count = least(at_once, end - row)
        sum_rows(<real*>c.shared + part * g.C, <const real*>c.p[1] + row * g.C, count, g.C, g.C, add)
        add = True
        row += count
        if row >= end:
            return


cdef void channel_bias_backward(real* dbias, const call_t* c) noexcept nogil:
    cdef const image_sizes* g = <const image_sizes*>c.n
    cdef real* sums = <real*>c.shared
    parallel(<task_fn>channel_bias_backward_task[real], c, PARTS, BYTE * sizeof(real) * g.N * g.H * g.W * g.C)
    sum_rows(dbias, sums, PARTS, g.C, g.C, c.add & 1)


def conv_kernels():
    return {
        "channel_bias": (<size_t>channel_bias[float], <size_t>channel_bias[double]),
        "channel_bias_backward": (<size_t>channel_bias_backward[float], <size_t>channel_bias_backward[double]),
        "conv2d": (<size_t>conv2d[float], <size_t>conv2d[double]),
        "conv2d_backward_data": (<size_t>conv2d_backward_data[float], <size_t>conv2d_backward_data[double]),
        "conv2d_backward_weights": (<size_t>conv2d_backward_weights[float], <size_t>conv2d_backward_weights[double]),
        "conv2d_max_pool2d": (<size_t>conv2d_max_pool2d[float], <size_t>conv2d_max_pool2d[double]),
        "conv2d_max_pool2d_backward_data": (
            <size_t>conv2d_max_pool2d_backward_data[float], <size_t>conv2d_max_pool2d_backward_data[double]
        ),
        "conv2d_max_pool2d_backward_weights": (
            <size_t>conv2d_max_pool2d_backward_weights[float], <size_t>conv2d_max_pool2d_backward_weights[double]
        ),
    }
