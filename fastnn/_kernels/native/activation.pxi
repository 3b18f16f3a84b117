# Elementwise functions. All arrays of a call lie in the same order, so that they are one row of numbers.

cdef extern from "tiles.h" nogil:
    void relu_row_f32(float*, const float*, Py_ssize_t)
    void relu_row_f64(double*, const double*, Py_ssize_t)
    void relu_backward_row_f32(float*, const float*, const float*, Py_ssize_t)
    void relu_backward_row_f64(double*, const double*, const double*, Py_ssize_t)

cdef enum:
    RUN = 16384  # numbers of one task


cdef void relu_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* x = <const real*>c.p[1]
    if real is float:
        relu_row_f32(y + i, x + i, n)
    else:
        relu_row_f64(y + i, x + i, n)


cdef void relu(real* y, const call_t* c) noexcept nogil:
    parallel(<task_fn>relu_task[real], c, ceil_div(c.n[0], RUN), BYTE * sizeof(real) * c.n[0])


cdef void relu_backward_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* dy = <const real*>c.p[1]
    cdef const real* y = <const real*>c.p[2]
    if real is float:
        relu_backward_row_f32(dx + i, dy + i, y + i, n)
    else:
        relu_backward_row_f64(dx + i, dy + i, y + i, n)


cdef void relu_backward(real* dx, const call_t* c) noexcept nogil:
    parallel(<task_fn>relu_backward_task[real], c, ceil_div(c.n[0], RUN), BYTE * sizeof(real) * c.n[0])


def activation_kernels():
    return {
        "relu": (<size_t>relu[float], <size_t>relu[double]),
        "relu_backward": (<size_t>relu_backward[float], <size_t>relu_backward[double]),
    }
