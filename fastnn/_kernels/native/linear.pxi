# y = x W^T + b and its gradients; x (N, I), weight (O, I), y (N, O).

cdef extern from "tiles.h" nogil:
    ctypedef struct grid_t:
        Py_ssize_t rows, run, runs, cols, depth, taps
        const Py_ssize_t *ta
        const Py_ssize_t *tb
        Py_ssize_t ai, aj, an, ak, bk, ci, cj, cn
        int add, relu
    ctypedef struct dot_f32 "dot_t_f32":
        Py_ssize_t rows, cols, depth
        const float *a
        Py_ssize_t lda
        const float *b
        Py_ssize_t ldb
        float *c
        Py_ssize_t ldc
        const float *bias
        int relu
    ctypedef struct dot_f64 "dot_t_f64":
        Py_ssize_t rows, cols, depth
        const double *a
        Py_ssize_t lda
        const double *b
        Py_ssize_t ldb
        double *c
        Py_ssize_t ldc
        const double *bias
        int relu
    void outer_f32(const grid_t*, float*, const float*, const float*, const float*)
    void outer_f64(const grid_t*, double*, const double*, const double*, const double*)
    void run_dot_f32 "dot_f32"(const dot_f32*)
    void run_dot_f64 "dot_f64"(const dot_f64*)
    ctypedef struct finish_f32 "finish_t_f32":
        const float *bias
        int add, relu
    ctypedef struct finish_f64 "finish_t_f64":
        const double *bias
        int add, relu
    void transpose_f32(float*, Py_ssize_t, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const finish_f32*)
    void transpose_f64(double*, Py_ssize_t, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const finish_f64*)
    void pack_f32(float*, Py_ssize_t, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void pack_f64(double*, Py_ssize_t, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void add_row_f32(float*, const float*, Py_ssize_t)
    void add_row_f64(double*, const double*, Py_ssize_t)
    void sum_rows_f32(float*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void sum_rows_f64(double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    int OUTER_VECTORS
    int VBYTES


cdef struct linear_sizes:
    Py_ssize_t N, I, O
    Py_ssize_t relu  # of the forward


cdef inline void outer_grid(const grid_t* g, real* c, const real* a, const real* b, const real* bias) noexcept nogil:
    """C (rows, cols) (+)= sum over taps and depth of A x B + bias: see tiles_of.h."""
    if real is float:
        outer_f32(g, c, a, b, bias)
    else:
        outer_f64(g, c, a, b, bias)


cdef inline void outer(real* c, Py_ssize_t ci, const real* a, Py_ssize_t ai, Py_ssize_t ak, const real* b, Py_ssize_t bk,
                       Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth, bint add) noexcept nogil:
    """C (rows, cols) (+)= A (rows, depth) x B (depth, cols)."""
    cdef Py_ssize_t zero = 0
    cdef grid_t g
    g.rows, g.run, g.runs, g.cols, g.depth, g.taps, g.ta, g.tb = rows, rows, 1, cols, depth, 1, &zero, &zero
    g.ai, g.aj, g.an, g.ak, g.bk, g.ci, g.cj, g.cn, g.add, g.relu = ai, 0, 0, ak, bk, ci, 0, 0, add, 0
    outer_grid[real](&g, c, a, b, NULL)


cdef inline void dot(real* c, Py_ssize_t ldc, const real* a, Py_ssize_t lda, const real* b, Py_ssize_t ldb, Py_ssize_t rows,
                     Py_ssize_t cols, Py_ssize_t depth, const real* bias, bint relu) noexcept nogil:
    """C (rows, cols) = A (rows, depth) B (cols, depth)^T + bias, then ReLU if so wanted: see tiles_of.h."""
    cdef dot_f32 f
    cdef dot_f64 d
    if real is float:
        f.rows, f.cols, f.depth, f.bias, f.relu = rows, cols, depth, bias, relu
        f.a, f.lda, f.b, f.ldb, f.c, f.ldc = a, lda, b, ldb, c, ldc
        run_dot_f32(&f)
    else:
        d.rows, d.cols, d.depth, d.bias, d.relu = rows, cols, depth, bias, relu
        d.a, d.lda, d.b, d.ldb, d.c, d.ldc = a, lda, b, ldb, c, ldc
        run_dot_f64(&d)


cdef inline void transpose(real* y, Py_ssize_t ldy, const real* x, Py_ssize_t ldx, Py_ssize_t rows, Py_ssize_t cols,
                           const real* bias, bint add, bint relu) noexcept nogil:
    """y (cols, rows) (+)= x (rows, cols) transposed + bias, then ReLU if so wanted: see pack_of.h."""
    cdef finish_f32 f
    cdef finish_f64 d
    if real is float:
        f.bias, f.add, f.relu = bias, add, relu
        transpose_f32(y, ldy, x, ldx, rows, cols, &f)
    else:
        d.bias, d.add, d.relu = bias, add, relu
        transpose_f64(y, ldy, x, ldx, rows, cols, &d)


cdef inline void add_row(real* y, const real* x, Py_ssize_t n) noexcept nogil:
    if real is float:
        add_row_f32(y, x, n)
    else:
        add_row_f64(y, x, n)


cdef inline Py_ssize_t column_block(real* of_type) noexcept nogil:
    """Columns of the widest tile."""
    return OUTER_VECTORS * VBYTES // <Py_ssize_t>sizeof(real)


cdef inline void sum_rows(real* total, const real* x, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t ld,
                          bint add) noexcept nogil:
    """total (cols) (+)= x (rows, cols) summed over rows, which lie ld apart."""
    if real is float:
        sum_rows_f32(total, x, rows, cols, ld, add)
    else:
        sum_rows_f64(total, x, rows, cols, ld, add)


# --- forward: x transposed, so that an outer-product tile has the batch along its vectors; where that is less to transpose,
# the weights, with the outputs along the vectors; a few rows or outputs, which repay neither, by dot products.

cdef enum:
    ROW_BLOCK = 64  # of a task's rows: enough for the other operand to be read once for many of them
    DOT_BLOCK = 16
    OUT_BLOCK = 32
    DEPTH = 1024  # of a panel of x, transposed: 256 KB at most
    TURN_ROWS = 128    # that repay turning the weights, and outputs; as in table/linear.py
    TURN_OUTS = 64
    BLOCK_ROWS = 192   # of x that stay in the second-level cache, by so much of their depth, beside a panel of weights
    BLOCK_DEPTH = 512


cdef inline bint transposes(real* of_type, const linear_sizes* g) noexcept nogil:
    """Whether the outer products are worth a transpose; measured: the longer the sums, the better are dot products."""
    return g.N >= VBYTES // <Py_ssize_t>sizeof(real) and g.O >= 8 + least(g.I // 16, 40)


cdef inline Py_ssize_t panel_start(real* of_type, Py_ssize_t N, Py_ssize_t panel) noexcept nogil:
    """The first row of a panel, which has as many rows of x as the widest tile columns: whole vectors, even panels."""
    cdef Py_ssize_t lanes = VBYTES // <Py_ssize_t>sizeof(real)
    return least(N, lanes * cut(ceil_div(N, lanes), ceil_div(N, column_block(of_type)), panel))


cdef inline Py_ssize_t out_parts(const linear_sizes* g, Py_ssize_t panels) noexcept nogil:
    """Among how many tasks the outputs of a panel are shared, each of which transposes it for itself.

    That costs less than to fetch it from another core's cache.
    """
    return most(2 if panels == 1 and g.O >= 128 else 1, least(g.O // 256, 8 // panels))


cdef void linear_outer_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Some outputs of one panel: a stretch of it transposed, and times a block of weights, which is turned into place."""
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef Py_ssize_t parts = out_parts(g, ceil_div(g.N, column_block(y))), panel = task // parts, part = task % parts
    cdef Py_ssize_t n = panel_start(y, g.N, panel), rows = panel_start(y, g.N, panel + 1) - n
    cdef Py_ssize_t stretches = most(1, ceil_div(g.I, DEPTH)), s, i, depth, o, end = cut(g.O, parts, part + 1), outs
    cdef const real* x = <const real*>c.p[1] + n * g.I
    cdef const real* weight = <const real*>c.p[2]
    cdef const real* bias = <const real*>c.p[3]
    cdef real* turned = <real*>(c.own + thread * c.own_size)
    cdef real* packed = turned + OUT_BLOCK * column_block(y)
    for s in range(stretches):
        i = cut(g.I, stretches, s)
        depth = cut(g.I, stretches, s + 1) - i
        transpose[real](packed, rows, x + i, g.I, rows, depth, NULL, False, False)
        o = cut(g.O, parts, part)
        while o < end:
            outs = least(OUT_BLOCK, end - o)
            outer[real](turned, rows, weight + o * g.I + i, g.I, 1, packed, rows, outs, rows, depth, False)
            transpose[real](y + n * g.O + o, g.O, turned, rows, outs, rows, bias + o if bias != NULL and s == 0 else NULL, s > 0,
                            g.relu and s == stretches - 1)
            o += outs


cdef void linear_dot_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef const real* x = <const real*>c.p[1]
    cdef const real* weight = <const real*>c.p[2]
    cdef const real* bias = <const real*>c.p[3]
    cdef Py_ssize_t blocks = ceil_div(g.O, DOT_BLOCK)
    cdef Py_ssize_t n = task // blocks * ROW_BLOCK, o = task % blocks * DOT_BLOCK
    dot(y + n * g.O + o, g.O, x + n * g.I, g.I, weight + o * g.I, g.I, least(ROW_BLOCK, g.N - n),
        least(DOT_BLOCK, g.O - o), g.I, bias + o if bias != NULL else NULL, g.relu)


cdef inline bint turns_weights(const linear_sizes* g) noexcept nogil:
    """As in table/linear.py."""
    return g.N >= TURN_ROWS and g.O >= TURN_OUTS and g.N * (g.I + g.O) >= 2 * g.I * g.O


cdef void turn_weights_task(real* packed, const call_t* c, Py_ssize_t panel, int thread) noexcept nogil:
    """A panel of weights, transposed: as many outputs as the widest tile has columns side by side."""
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef Py_ssize_t o = panel * column_block(packed), outs = least(column_block(packed), g.O - o)
    transpose[real](<real*>c.shared + o * g.I, outs, <const real*>c.p[2] + o * g.I, g.I, outs, g.I, NULL, False, False)


cdef inline Py_ssize_t linear_blocks(const linear_sizes* g) noexcept nogil:
    return most(ceil_div(g.N, BLOCK_ROWS), 8)


cdef void linear_rows_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Some rows, which stay near while panel after panel of the weights comes by."""
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef Py_ssize_t n = cut(g.N, linear_blocks(g), task), rows = cut(g.N, linear_blocks(g), task + 1) - n, width = column_block(y)
    cdef Py_ssize_t stretches = most(1, ceil_div(g.I, BLOCK_DEPTH)), s, i, j, o, zero = 0
    cdef const real* bias = <const real*>c.p[3]
    cdef grid_t d
    d.rows = d.run = rows
    d.runs = d.taps = d.ak = 1
    d.ta = d.tb = &zero
    d.ai, d.ci, d.aj, d.an, d.cj, d.cn = g.I, g.O, 0, 0, 0, 0
    for s in range(stretches):
        i = cut(g.I, stretches, s)
        d.depth, d.add, d.relu = cut(g.I, stretches, s + 1) - i, s > 0, g.relu and s == stretches - 1
        for j in range(ceil_div(g.O, width)):
            o = j * width
            d.cols = d.bk = least(width, g.O - o)
            outer_grid[real](&d, y + n * g.O + o, <const real*>c.p[1] + n * g.I + i, <const real*>c.shared + o * g.I + i * d.bk,
                             bias + o if bias != NULL else NULL)


cdef void linear(real* y, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef Py_ssize_t panels = ceil_div(g.N, column_block(y))
    cdef double work = FLOP * 2 * g.N * g.I * g.O
    if turns_weights(g):
        parallel(<task_fn>turn_weights_task[real], c, ceil_div(g.O, column_block(y)), 2 * BYTE * sizeof(real) * g.I * g.O)
        parallel(<task_fn>linear_rows_task[real], c, linear_blocks(g), work)
    elif transposes(y, g):
        parallel(<task_fn>linear_outer_task[real], c, panels * out_parts(g, panels), work)
    else:
        parallel(<task_fn>linear_dot_task[real], c, ceil_div(g.N, ROW_BLOCK) * ceil_div(g.O, DOT_BLOCK), work)


# --- backwards: a task is some rows of the result by the columns of a few panels, each as wide as the widest tile ---------

cdef enum:
    PANEL_DEPTH = 128  # of a panel of the other operand: 32 KB, for the first-level cache
    PANELS = 8         # that are copied at a time, at most: so much of a row in one go
    PANEL_TASKS = 12   # at least, where there are as many: each task copies its panels for itself
    PANEL_ROWS = 48    # of the result that repay the copy
    MANY = 1024        # samples, from which on tasks are rows of the result by all its columns if PANELS panels hold them
    MANY_ROWS = 256    # of such a task, at most: what is read of both operands and the result stay in the second-level cache
    FEW_ROWS = 12      # that repay it where B's rows lie multiples of ALIAS bytes apart, and so share a few cache lines
    ALIAS = 1024


cdef void panel_product(real* c, Py_ssize_t ci, const real* a, Py_ssize_t ai, Py_ssize_t ak, const real* b, Py_ssize_t bk,
                        Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth, bint add, real* panels) noexcept nogil:
    """As `outer`, a stretch of the depth at a time, for which the columns of B are copied side by side if that pays.

    The rows of A are as well, if they lie across memory and the products are many.
    """
    cdef Py_ssize_t stretches = most(1, ceil_div(depth, PANEL_DEPTH)), width = column_block(c), s, k, count, j
    cdef bint turns = ai == 1 and depth >= MANY and cols > width
    cdef real* turned = panels + PANEL_DEPTH * PANELS * width
    cdef const real* stretch
    if rows < (PANEL_ROWS if bk * <Py_ssize_t>sizeof(real) % ALIAS else FEW_ROWS):
        outer[real](c, ci, a, ai, ak, b, bk, rows, cols, depth, add)
        return
    for s in range(stretches):
        k = cut(depth, stretches, s)
        count = cut(depth, stretches, s + 1) - k
        if real is float:
            pack_f32(panels, width, b + k * bk, bk, count, cols)
        else:
            pack_f64(panels, width, b + k * bk, bk, count, cols)
        stretch = a + k * ak
        if turns:
            transpose[real](turned, count, stretch, ak, count, rows, NULL, False, False)
            stretch = turned
        for j in range(ceil_div(cols, width)):
            outer[real](c + j * width, ci, stretch, count if turns else ai, 1 if turns else ak, panels + j * width * count,
                        least(width, cols - j * width), rows, least(width, cols - j * width), count, add or s > 0)


cdef struct cuts_t:  # of the result: the columns of one task, how many tasks go across, how many down
    Py_ssize_t cols, across, down


cdef inline cuts_t cuts(real* of_type, const linear_sizes* g, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    cdef cuts_t t
    cdef Py_ssize_t panels = ceil_div(cols, column_block(of_type))
    cdef bint many = g.N >= MANY
    t.cols = column_block(of_type) * most(1, ceil_div(panels, most(1, ceil_div(panels, PANELS))) if many else least(4, panels // 8))
    t.across = most(1, ceil_div(cols, t.cols))
    t.down = most(1, least(ceil_div(rows, ROW_BLOCK), ceil_div(PANEL_TASKS, t.across)))
    if many:
        t.down = most(least(ceil_div(rows, ROW_BLOCK), ceil_div(4, t.across)), ceil_div(rows, MANY_ROWS))
    return t


cdef void linear_backward_data_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef const real* dy = <const real*>c.p[1]
    cdef const real* weight = <const real*>c.p[2]
    cdef cuts_t t = cuts(dx, g, g.N, g.I)
    cdef Py_ssize_t i = task % t.across * t.cols, n = cut(g.N, t.down, task // t.across)
    panel_product(dx + n * g.I + i, g.I, dy + n * g.O, g.O, 1, weight + i, g.I, cut(g.N, t.down, task // t.across + 1) - n,
                  least(t.cols, g.I - i), g.O, c.add & 1, <real*>(c.own + thread * c.own_size))


cdef void linear_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef cuts_t t = cuts(dx, g, g.N, g.I)
    parallel(<task_fn>linear_backward_data_task[real], c, t.across * t.down, FLOP * 2 * g.N * g.I * g.O)


cdef void linear_backward_weights_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    # The batch is summed inside a tile, in its order: no partial sums.
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef real* dbias = <real*>c.p[1]
    cdef const real* dy = <const real*>c.p[2]
    cdef const real* x = <const real*>c.p[3]
    cdef cuts_t t = cuts(dweight, g, g.O, g.I)
    cdef Py_ssize_t i = task % t.across * t.cols, o = cut(g.O, t.down, task // t.across)
    cdef Py_ssize_t rows = cut(g.O, t.down, task // t.across + 1) - o
    if dweight != NULL:
        panel_product(dweight + o * g.I + i, g.I, dy + o, 1, g.O, x + i, g.I, rows, least(t.cols, g.I - i), g.N, c.add & 1,
                      <real*>(c.own + thread * c.own_size))
    if dbias != NULL and i == 0:
        sum_rows(dbias + o, dy + o, g.N, rows, g.O, (c.add & 2) != 0)


cdef void linear_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef cuts_t t = cuts(dweight, g, g.O, g.I)
    parallel(<task_fn>linear_backward_weights_task[real], c, t.across * t.down, FLOP * 2 * g.N * g.I * g.O)


def linear_kernels():
    return {
        "linear": (<size_t>linear[float], <size_t>linear[double]),
        "linear_backward_data": (<size_t>linear_backward_data[float], <size_t>linear_backward_data[double]),
        "linear_backward_weights": (<size_t>linear_backward_weights[float], <size_t>linear_backward_weights[double]),
    }
