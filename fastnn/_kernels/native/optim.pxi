# Updates: one pass over parameter, gradient and state.

cdef extern from "tiles.h" nogil:
    ctypedef struct sgd_f32 "sgd_t_f32":
        float lr, momentum, undamped, decay, sign
        int nesterov, started
    ctypedef struct sgd_f64 "sgd_t_f64":
        double lr, momentum, undamped, decay, sign
        int nesterov, started
    void sgd_row_f32(float*, const float*, float*, sgd_f32, Py_ssize_t)
    void sgd_row_f64(double*, const double*, double*, sgd_f64, Py_ssize_t)


cdef struct sgd_hyper:  # as SGD writes it: see the row of the table
    double lr, momentum, dampening, weight_decay, nesterov, maximize


cdef void sgd_task(real* param, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const real* grad = <const real*>c.p[1]
    cdef real* buffer = <real*>c.p[2]
    cdef const sgd_hyper* h = <const sgd_hyper*>c.p[3]
    cdef bint started = (<const int64_t*>c.p[4])[0] > 0
    cdef Py_ssize_t i = task * RUN, n = least(RUN, c.n[0] - i)
    cdef sgd_f32 f
    cdef sgd_f64 d
    if buffer != NULL:
        buffer += i
    if real is float:
        f.lr, f.momentum, f.undamped = <float>h.lr, <float>h.momentum, <float>(1 - h.dampening)
        f.decay, f.sign, f.nesterov, f.started = <float>h.weight_decay, -1 if h.maximize else 1, h.nesterov != 0, started
        sgd_row_f32(param + i, grad + i, buffer, f, n)
    else:
        d.lr, d.momentum, d.undamped = h.lr, h.momentum, 1 - h.dampening
        d.decay, d.sign, d.nesterov, d.started = h.weight_decay, -1 if h.maximize else 1, h.nesterov != 0, started
        sgd_row_f64(param + i, grad + i, buffer, d, n)


cdef void sgd(real* param, const call_t* c) noexcept nogil:
    cdef int64_t* steps = <int64_t*>c.p[4]
    cdef Py_ssize_t t
    parallel(<task_fn>sgd_task[real], c, ceil_div(c.n[0], RUN), 3 * BYTE * sizeof(real) * c.n[0])
    if c.p[2] != NULL:  # without a buffer there is nothing that a later step would go on from
        for t in range(c.n[1]):
            steps[t] += 1


def optim_kernels():
    return {
        "sgd": (<size_t>sgd[float], <size_t>sgd[double]),
    }
