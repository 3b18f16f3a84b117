# Clipping of gradients, by their norm and by value.
from libc.math cimport INFINITY, pow

cdef extern from "tiles.h" nogil:
    double gathered(double, double, bint)
    double power_sum_row_f32(const float*, Py_ssize_t, double)
    double power_sum_row_f64(const double*, Py_ssize_t, double)
    void scale_row_f32(float*, float, Py_ssize_t)
    void scale_row_f64(double*, double, Py_ssize_t)
    void clip_row_f32(float*, float, Py_ssize_t)
    void clip_row_f64(double*, double, Py_ssize_t)


cdef inline Py_ssize_t sum_parts(const call_t* c) noexcept nogil:
    return least(PARTS, ceil_div(c.n[0], RUN))


cdef void power_sum_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const real* x = <const real*>c.p[1]
    cdef Py_ssize_t start = cut(c.n[0], sum_parts(c), task), n = cut(c.n[0], sum_parts(c), task + 1) - start
    cdef double* totals = <double*>c.shared
    if real is float:
        totals[task] = power_sum_row_f32(x + start, n, c.f[0])
    else:
        totals[task] = power_sum_row_f64(x + start, n, c.f[0])


cdef void power_sum(real* of_type, const call_t* c) noexcept nogil:
    cdef const double* before = <const double*>c.p[2]
    cdef const double* totals = <const double*>c.shared
    cdef double total = 0 if before == NULL else before[0]
    cdef Py_ssize_t i
    parallel(<task_fn>power_sum_task[real], c, sum_parts(c), BYTE * sizeof(real) * c.n[0])
    for i in range(sum_parts(c)):
        total = gathered(total, totals[i], c.f[0] == INFINITY)
    (<double*>c.p[0])[0] = total


cdef void clip_scale(double* norm, const call_t* c) noexcept nogil:
    cdef double* scale = <double*>c.p[1]
    cdef double total = (<const double*>c.p[2])[0]
    norm[0] = total if c.f[0] == INFINITY else pow(total, 1 / c.f[0])
    scale[0] = c.f[1] / (norm[0] + 1e-6)
    if scale[0] > 1:
        scale[0] = 1


cdef void clip_by_scale_task(real* grad, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef real scale = <real>(<const double*>c.p[1])[0]
    if real is float:
        scale_row_f32(grad + i, scale, n)
    else:
        scale_row_f64(grad + i, scale, n)


cdef void clip_by_scale(real* grad, const call_t* c) noexcept nogil:
    if (<const double*>c.p[1])[0] != 1:  # mostly nothing is to be clipped
        parallel(<task_fn>clip_by_scale_task[real], c, ceil_div(c.n[0], RUN), BYTE * sizeof(real) * c.n[0])


cdef void clip_by_value_task(real* grad, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    if real is float:
        clip_row_f32(grad + i, <float>c.f[0], n)
    else:
        clip_row_f64(grad + i, c.f[0], n)


cdef void clip_by_value(real* grad, const call_t* c) noexcept nogil:
    parallel(<task_fn>clip_by_value_task[real], c, ceil_div(c.n[0], RUN), BYTE * sizeof(real) * c.n[0])


def clip_kernels():
    return {
        "power_sum": (<size_t>power_sum[float], <size_t>power_sum[double]),
        "clip_scale": (<size_t>clip_scale, <size_t>clip_scale),
        "clip_by_scale": (<size_t>clip_by_scale[float], <size_t>clip_by_scale[double]),
        "clip_by_value": (<size_t>clip_by_value[float], <size_t>clip_by_value[double]),
    }
