# Updates: one pass over parameter, gradient and state.

cdef extern from "tiles.h" nogil:
    ctypedef struct sgd_options:
        pass
    ctypedef struct rmsprop_options:
        pass
    ctypedef struct adagrad_options:
        pass
    ctypedef struct adam_options:
        pass
    void sgd_row_f32(float*, const float*, float*, const sgd_options*, int64_t, Py_ssize_t)
    void sgd_row_f64(double*, const double*, double*, const sgd_options*, int64_t, Py_ssize_t)
    void rmsprop_row_f32(float*, const float*, float*, float*, float*, const rmsprop_options*, Py_ssize_t)
    void rmsprop_row_f64(double*, const double*, double*, double*, double*, const rmsprop_options*, Py_ssize_t)
    void adagrad_row_f32(float*, const float*, float*, const adagrad_options*, int64_t, Py_ssize_t)
    void adagrad_row_f64(double*, const double*, double*, const adagrad_options*, int64_t, Py_ssize_t)
    void adam_row_f32(float*, const float*, float*, float*, float*, const adam_options*, int64_t, Py_ssize_t)
    void adam_row_f64(double*, const double*, double*, double*, double*, const adam_options*, int64_t, Py_ssize_t)


cdef inline real* part(real* p, Py_ssize_t i) noexcept nogil:
    """Where a task's part of an array begins that may be left out."""
    return NULL if p == NULL else p + i


cdef void count(int64_t* steps, const call_t* c) noexcept nogil:
    """One more step of each parameter: when all of its numbers have taken it."""
    cdef Py_ssize_t t
    for t in range(c.n[1]):
        steps[t] += 1


cdef void sgd_task(real* param, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* grad = <const real*>c.p[1] + i
    cdef real* buffer = part(<real*>c.p[2], i)
    cdef const sgd_options* options = <const sgd_options*>c.p[3]
    cdef int64_t steps = (<const int64_t*>c.p[4])[0]
    if real is float:
        sgd_row_f32(param + i, grad, buffer, options, steps, n)
    else:
        sgd_row_f64(param + i, grad, buffer, options, steps, n)


cdef void sgd(real* param, const call_t* c) noexcept nogil:
    parallel(<task_fn>sgd_task[real], c, ceil_div(c.n[0], RUN), 3 * BYTE * sizeof(real) * c.n[0])
    if c.p[2] != NULL:  # without a buffer there is nothing that a later step would go on from
        count(<int64_t*>c.p[4], c)


cdef void rmsprop_task(real* param, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* grad = <const real*>c.p[1] + i
    cdef real* square = <real*>c.p[2] + i
    cdef real* mean = part(<real*>c.p[3], i)
    cdef real* buffer = part(<real*>c.p[4], i)
    cdef const rmsprop_options* options = <const rmsprop_options*>c.p[5]
    if real is float:
        rmsprop_row_f32(param + i, grad, square, mean, buffer, options, n)
    else:
        rmsprop_row_f64(param + i, grad, square, mean, buffer, options, n)


cdef void rmsprop(real* param, const call_t* c) noexcept nogil:
    parallel(<task_fn>rmsprop_task[real], c, ceil_div(c.n[0], RUN), 4 * BYTE * sizeof(real) * c.n[0])
    count(<int64_t*>c.p[6], c)


cdef void adagrad_task(real* param, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* grad = <const real*>c.p[1] + i
    cdef real* squares = <real*>c.p[2] + i
    cdef const adagrad_options* options = <const adagrad_options*>c.p[3]
    cdef int64_t steps = (<const int64_t*>c.p[4])[0]
    if real is float:
        adagrad_row_f32(param + i, grad, squares, options, steps, n)
    else:
        adagrad_row_f64(param + i, grad, squares, options, steps, n)


cdef void adagrad(real* param, const call_t* c) noexcept nogil:
    parallel(<task_fn>adagrad_task[real], c, ceil_div(c.n[0], RUN), 4 * BYTE * sizeof(real) * c.n[0])
    count(<int64_t*>c.p[4], c)


cdef void adam_task(real* param, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef const real* grad = <const real*>c.p[1] + i
    cdef real* mean = <real*>c.p[2] + i
    cdef real* square = <real*>c.p[3] + i
    cdef real* most = part(<real*>c.p[4], i)
    cdef const adam_options* options = <const adam_options*>c.p[5]
    cdef int64_t steps = (<const int64_t*>c.p[6])[0]
    if real is float:
        adam_row_f32(param + i, grad, mean, square, most, options, steps, n)
    else:
        adam_row_f64(param + i, grad, mean, square, most, options, steps, n)


cdef void adam(real* param, const call_t* c) noexcept nogil:
    parallel(<task_fn>adam_task[real], c, ceil_div(c.n[0], RUN), 5 * BYTE * sizeof(real) * c.n[0])
    count(<int64_t*>c.p[6], c)


cdef void next_rates(double* plan, const call_t* c) noexcept nogil:
    cdef int64_t* position = <int64_t*>c.p[1]
    memcpy(c.p[2], plan + least(position[0], c.n[0] - 1) * c.n[1], c.n[1] * sizeof(double))
    position[0] += 1


def optim_kernels():
    return {
        "sgd": (<size_t>sgd[float], <size_t>sgd[double]),
        "rmsprop": (<size_t>rmsprop[float], <size_t>rmsprop[double]),
        "adagrad": (<size_t>adagrad[float], <size_t>adagrad[double]),
        "adam": (<size_t>adam[float], <size_t>adam[double]),
        "next_rates": (<size_t>next_rates, <size_t>next_rates),
    }
