# y = x W^T + b and its gradients; x (N, I), weight (O, I), y (N, O).

cdef extern from "tiles.h" nogil:
    ctypedef struct outer_f32 "outer_t_f32":
        Py_ssize_t rows, cols, depth, taps
        const Py_ssize_t *ta
        const Py_ssize_t *tb
        const float *a
        Py_ssize_t ai, ak
        const float *b
        Py_ssize_t bk
        float *c
        Py_ssize_t ci
        const float *bias
        int add
    ctypedef struct outer_f64 "outer_t_f64":
        Py_ssize_t rows, cols, depth, taps
        const Py_ssize_t *ta
        const Py_ssize_t *tb
        const double *a
        Py_ssize_t ai, ak
        const double *b
        Py_ssize_t bk
        double *c
        Py_ssize_t ci
        const double *bias
        int add
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
    void run_outer_f32 "outer_f32"(const outer_f32*)
    void run_outer_f64 "outer_f64"(const outer_f64*)
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
    void add_row_f32(float*, const float*, Py_ssize_t)
    void add_row_f64(double*, const double*, Py_ssize_t)
    void sum_rows_f32(float*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void sum_rows_f64(double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    int OUTER_VECTORS
    int VBYTES


cdef struct linear_sizes:
    Py_ssize_t N, I, O
    Py_ssize_t relu  # of the forward


cdef inline void outer(real* c, Py_ssize_t ci, const real* a, Py_ssize_t ai, Py_ssize_t ak, const real* b, Py_ssize_t bk,
                       Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth, Py_ssize_t taps, const Py_ssize_t* ta,
                       const Py_ssize_t* tb, const real* bias, bint add) noexcept nogil:
    """C (rows, cols) (+)= sum over taps and depth of A x B + bias: see tiles_of.h."""
    cdef outer_f32 f
    cdef outer_f64 d
    if real is float:
        f.rows, f.cols, f.depth, f.taps, f.ta, f.tb = rows, cols, depth, taps, ta, tb
        f.a, f.ai, f.ak, f.b, f.bk, f.c, f.ci, f.bias, f.add = a, ai, ak, b, bk, c, ci, bias, add
        run_outer_f32(&f)
    else:
        d.rows, d.cols, d.depth, d.taps, d.ta, d.tb = rows, cols, depth, taps, ta, tb
        d.a, d.ai, d.ak, d.b, d.bk, d.c, d.ci, d.bias, d.add = a, ai, ak, b, bk, c, ci, bias, add
        run_outer_f64(&d)


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


# --- forward: x transposed, so that an outer-product tile has the batch along its vectors; a few rows or outputs, which do
# not repay that, by dot products.

cdef enum:
    ROW_BLOCK = 64  # of a task's rows: enough for the other operand to be read once for many of them
    DOT_BLOCK = 16
    OUT_BLOCK = 32
    DEPTH = 1024  # of a panel of x, transposed: 256 KB at most


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
    cdef Py_ssize_t stretches = most(1, ceil_div(g.I, DEPTH)), s, i, depth, o, end = cut(g.O, parts, part + 1), outs, zero = 0
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
            outer[real](turned, rows, weight + o * g.I + i, g.I, 1, packed, rows, outs, rows, depth, 1, &zero, &zero, NULL, False)
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


cdef void linear(real* y, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef Py_ssize_t panels = ceil_div(g.N, column_block(y))
    cdef double work = FLOP * 2 * g.N * g.I * g.O
    if transposes(y, g):
        parallel(<task_fn>linear_outer_task[real], c, panels * out_parts(g, panels), work)
    else:
        parallel(<task_fn>linear_dot_task[real], c, ceil_div(g.N, ROW_BLOCK) * ceil_div(g.O, DOT_BLOCK), work)


# --- backwards -----------------------------------------------------------------------------------------------------------


cdef void linear_backward_data_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef const real* dy = <const real*>c.p[1]
    cdef const real* weight = <const real*>c.p[2]
    cdef Py_ssize_t width = column_block(dx), blocks = ceil_div(g.I, width), zero = 0
    cdef Py_ssize_t n = task // blocks * ROW_BLOCK, i = task % blocks * width
    outer[real](dx + n * g.I + i, g.I, dy + n * g.O, g.O, 1, weight + i, g.I, least(ROW_BLOCK, g.N - n),
                least(width, g.I - i), g.O, 1, &zero, &zero, NULL, c.add & 1)


cdef void linear_backward_data(real* dx, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    parallel(<task_fn>linear_backward_data_task[real], c, ceil_div(g.N, ROW_BLOCK) * ceil_div(g.I, column_block(dx)),
             FLOP * 2 * g.N * g.I * g.O)


cdef void linear_backward_weights_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    # The batch is summed inside a tile, in its order: no partial sums.
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef real* dbias = <real*>c.p[1]
    cdef const real* dy = <const real*>c.p[2]
    cdef const real* x = <const real*>c.p[3]
    cdef Py_ssize_t width = column_block(dweight), blocks = ceil_div(g.I, width), zero = 0
    cdef Py_ssize_t o = task // most(blocks, 1) * ROW_BLOCK, i = task % most(blocks, 1) * width
    cdef Py_ssize_t rows = least(ROW_BLOCK, g.O - o)
    if dweight != NULL and blocks:
        outer[real](dweight + o * g.I + i, g.I, dy + o, 1, g.O, x + i, g.I, rows, least(width, g.I - i), g.N, 1, &zero,
                    &zero, NULL, c.add & 1)
    if dbias != NULL and i == 0:
        sum_rows(dbias + o, dy + o, g.N, rows, g.O, (c.add & 2) != 0)


cdef void linear_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    parallel(<task_fn>linear_backward_weights_task[real], c,
             ceil_div(g.O, ROW_BLOCK) * most(1, ceil_div(g.I, column_block(dweight))), FLOP * 2 * g.N * g.I * g.O)
