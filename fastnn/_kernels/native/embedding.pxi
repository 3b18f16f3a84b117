# Rows of a table by their index: `gather_rows` (layout.pxi) looks them up, this adds up their gradients.

cdef extern from "tiles.h" nogil:
    void add_row_f32(float*, const float*, Py_ssize_t)
    void add_row_f64(double*, const double*, Py_ssize_t)

cdef enum:
    SLICE = 64  # columns of one task: whole cache lines


cdef struct embedding_sizes:
    Py_ssize_t B, D, M, padding_idx


cdef void embedding_backward_task(real* dweight, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """Some columns of all rows, in the order of the index, which so does not depend on the threads."""
    cdef const embedding_sizes* g = <const embedding_sizes*>c.n
    cdef const real* dy = <const real*>c.p[1]
    cdef const int64_t* index = <const int64_t*>c.p[2]
    cdef Py_ssize_t first = task * SLICE, n = least(SLICE, g.D - first), i
    if not c.add & 1:
        for i in range(g.M):
            memset(dweight + i * g.D + first, 0, n * sizeof(real))
    for i in range(g.B):
        if 0 <= index[i] < g.M and index[i] != g.padding_idx:
            if real is float:
                add_row_f32(dweight + index[i] * g.D + first, dy + i * g.D + first, n)
            else:
                add_row_f64(dweight + index[i] * g.D + first, dy + i * g.D + first, n)


cdef void embedding_backward(real* dweight, const call_t* c) noexcept nogil:
    cdef const embedding_sizes* g = <const embedding_sizes*>c.n
    parallel(<task_fn>embedding_backward_task[real], c, ceil_div(g.D, SLICE), BYTE * sizeof(real) * (g.M + g.B) * g.D)


def embedding_kernels():
    return {
        "embedding_backward": (<size_t>embedding_backward[float], <size_t>embedding_backward[double]),
    }
