# What graphs that are not chains need: sums of branches, and branches side by side.

cdef extern from "tiles.h" nogil:
    void sum_row_f32(float*, const float*, const float*, Py_ssize_t, int)
    void sum_row_f64(double*, const double*, const double*, Py_ssize_t, int)
    void copy_rows_f32(float*, Py_ssize_t, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void copy_rows_f64(double*, Py_ssize_t, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t)


cdef void add_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* a = <const real*>c.p[1]
    cdef const real* b = <const real*>c.p[2]
    if real is float:
        sum_row_f32(y + i, a + i, b + i, n, c.n[1] != 0)
    else:
        sum_row_f64(y + i, a + i, b + i, n, c.n[1] != 0)


cdef void add(real* y, const call_t* c) noexcept nogil:
    parallel(<task_fn>add_task[real], c, ceil_div(c.n[0], RUN), BYTE * sizeof(real) * c.n[0])


cdef inline void copy_rows(real* y, Py_ssize_t ldy, const real* x, Py_ssize_t ldx, Py_ssize_t rows,
                           Py_ssize_t cols) noexcept nogil:
    """y (rows, cols) = x (rows, cols), whose rows lie ldy and ldx apart."""
    if real is float:
        copy_rows_f32(y, ldy, x, ldx, rows, cols)
    else:
        copy_rows_f64(y, ldy, x, ldx, rows, cols)


cdef enum:
    PARTS_JOINED = 4  # of one call


cdef struct join_sizes:
    Py_ssize_t R
    Py_ssize_t width[PARTS_JOINED]


cdef inline Py_ssize_t rows_of_task(Py_ssize_t cols) noexcept nogil:
    return most(1, RUN // most(1, cols))


cdef inline Py_ssize_t joined_width(const join_sizes* g) noexcept nogil:
    cdef Py_ssize_t i, total = 0
    for i in range(PARTS_JOINED):
        total += g.width[i]
    return total


cdef void concatenate_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const join_sizes* g = <const join_sizes*>c.n
    cdef Py_ssize_t K = joined_width(g), row = task * rows_of_task(K), rows = least(rows_of_task(K), g.R - row), i
    y += row * K
    for i in range(PARTS_JOINED):
        if g.width[i]:
            copy_rows(y, K, <const real*>c.p[1 + i] + row * g.width[i], g.width[i], rows, g.width[i])
        y += g.width[i]


cdef void concatenate(real* y, const call_t* c) noexcept nogil:
    cdef const join_sizes* g = <const join_sizes*>c.n
    cdef Py_ssize_t K = joined_width(g)
    parallel(<task_fn>concatenate_task[real], c, ceil_div(g.R, rows_of_task(K)), 2 * BYTE * sizeof(real) * g.R * K)


cdef struct columns_sizes:
    Py_ssize_t R, K
    Py_ssize_t start, count


cdef void columns_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const columns_sizes* g = <const columns_sizes*>c.n
    cdef Py_ssize_t row = task * rows_of_task(g.count), rows = least(rows_of_task(g.count), g.R - row)
    copy_rows(y + row * g.count, g.count, <const real*>c.p[1] + row * g.K + g.start, g.K, rows, g.count)


cdef void columns(real* y, const call_t* c) noexcept nogil:
    cdef const columns_sizes* g = <const columns_sizes*>c.n
    parallel(<task_fn>columns_task[real], c, ceil_div(g.R, rows_of_task(g.count)),
             2 * BYTE * sizeof(real) * g.R * g.count)


def branches_kernels():
    return {
        "add": (<size_t>add[float], <size_t>add[double]),
        "concatenate": (<size_t>concatenate[float], <size_t>concatenate[double]),
        "columns": (<size_t>columns[float], <size_t>columns[double]),
    }
