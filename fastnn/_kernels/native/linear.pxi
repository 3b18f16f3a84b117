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
    ctypedef struct dot_f64 "dot_t_f64":
        Py_ssize_t rows, cols, depth
        const double *a
        Py_ssize_t lda
        const double *b
        Py_ssize_t ldb
        double *c
        Py_ssize_t ldc
        const double *bias
    void outer_f32(const grid_t*, float*, const float*, const float*, const float*)
    void outer_f64(const grid_t*, double*, const double*, const double*, const double*)
    void run_dot_f32 "dot_f32"(const dot_f32*)
    void run_dot_f64 "dot_f64"(const dot_f64*)
    void add_row_f32(float*, const float*, Py_ssize_t)
    void add_row_f64(double*, const double*, Py_ssize_t)
    void sum_rows_f32(float*, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void sum_rows_f64(double*, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    int OUTER_VECTORS
    int VBYTES


cdef struct linear_sizes:
    Py_ssize_t N, I, O


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
                     Py_ssize_t cols, Py_ssize_t depth, const real* bias) noexcept nogil:
    """C (rows, cols) = A (rows, depth) B (cols, depth)^T + bias: see tiles_of.h."""
    cdef dot_f32 f
    cdef dot_f64 d
    if real is float:
        f.rows, f.cols, f.depth, f.a, f.lda, f.b, f.ldb, f.c, f.ldc, f.bias = rows, cols, depth, a, lda, b, ldb, c, ldc, bias
        run_dot_f32(&f)
    else:
        d.rows, d.cols, d.depth, d.a, d.lda, d.b, d.ldb, d.c, d.ldc, d.bias = rows, cols, depth, a, lda, b, ldb, c, ldc, bias
        run_dot_f64(&d)


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


# Blocks of a task: small enough to share out, large enough that a block's weights are read once for many rows.
cdef enum:
    ROW_BLOCK = 64
    DOT_BLOCK = 16


cdef void linear_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef const real* x = <const real*>c.p[1]
    cdef const real* weight = <const real*>c.p[2]
    cdef const real* bias = <const real*>c.p[3]
    cdef Py_ssize_t blocks = ceil_div(g.O, DOT_BLOCK)
    cdef Py_ssize_t n = task // blocks * ROW_BLOCK, o = task % blocks * DOT_BLOCK
    dot(y + n * g.O + o, g.O, x + n * g.I, g.I, weight + o * g.I, g.I, least(ROW_BLOCK, g.N - n),
        least(DOT_BLOCK, g.O - o), g.I, bias + o if bias != NULL else NULL)


cdef void linear(real* y, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    parallel(<task_fn>linear_task[real], c, ceil_div(g.N, ROW_BLOCK) * ceil_div(g.O, DOT_BLOCK), FLOP * 2 * g.N * g.I * g.O)


cdef void linear_backward_data_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    cdef const real* dy = <const real*>c.p[1]
    cdef const real* weight = <const real*>c.p[2]
    cdef Py_ssize_t width = column_block(dx), blocks = ceil_div(g.I, width)
    cdef Py_ssize_t n = task // blocks * ROW_BLOCK, i = task % blocks * width
    outer[real](dx + n * g.I + i, g.I, dy + n * g.O, g.O, 1, weight + i, g.I, least(ROW_BLOCK, g.N - n),
                least(width, g.I - i), g.O, c.add & 1)


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
    cdef Py_ssize_t width = column_block(dweight), blocks = ceil_div(g.I, width)
    cdef Py_ssize_t o = task // most(blocks, 1) * ROW_BLOCK, i = task % most(blocks, 1) * width
    cdef Py_ssize_t rows = least(ROW_BLOCK, g.O - o)
    if dweight != NULL and blocks:
        outer[real](dweight + o * g.I + i, g.I, dy + o, 1, g.O, x + i, g.I, rows, least(width, g.I - i), g.N,
                    c.add & 1)
    if dbias != NULL and i == 0:
        sum_rows(dbias + o, dy + o, g.N, rows, g.O, (c.add & 2) != 0)


cdef void linear_backward_weights(real* dweight, const call_t* c) noexcept nogil:
    cdef const linear_sizes* g = <const linear_sizes*>c.n
    parallel(<task_fn>linear_backward_weights_task[real], c,
             ceil_div(g.O, ROW_BLOCK) * most(1, ceil_div(g.I, column_block(dweight))), FLOP * 2 * g.N * g.I * g.O)
