# Softmax and its cross-entropy, over rows (N, K).

cdef extern from "tiles.h" nogil:
    double softmax_row_f32(float*, const float*, Py_ssize_t, float, float*)
    double softmax_row_f64(double*, const double*, Py_ssize_t, double, double*)
    bint is_largest_f32(const float*, Py_ssize_t, Py_ssize_t)
    bint is_largest_f64(const double*, Py_ssize_t, Py_ssize_t)


cdef struct row_sizes:
    Py_ssize_t N, K
    Py_ssize_t mean


cdef inline double softmax_row(real* p, const real* scores, Py_ssize_t K, real scale, real* top) noexcept nogil:
    """p = scale * softmax(scores), unless p is NULL; returns log(sum(exp(scores - top)))."""
    if real is float:
        return softmax_row_f32(p, scores, K, scale, top)
    else:
        return softmax_row_f64(p, scores, K, scale, top)


cdef enum:
    TASK_SCORES = 8192


cdef inline Py_ssize_t task_rows(const row_sizes* g) noexcept nogil:
    return most(1, TASK_SCORES // g.K)


cdef inline double row_work(const row_sizes* g) noexcept nogil:
    return g.N * (30 + 0.5 * g.K)


cdef void softmax_task(real* p, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef const real* scores = <const real*>c.p[1]
    cdef real top
    cdef Py_ssize_t n
    for n in range(task * task_rows(g), least(g.N, (task + 1) * task_rows(g))):
        softmax_row(p + n * g.K, scores + n * g.K, g.K, <real>1, &top)


cdef void softmax(real* p, const call_t* c) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    parallel(<task_fn>softmax_task[real], c, ceil_div(g.N, task_rows(g)), row_work(g))


cdef void cross_entropy_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const real* scores = <const real*>c.p[2]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef double* losses = <double*>c.shared
    cdef real scale = <real>(1.0 / g.N) if g.mean else 1, top
    cdef real* drow = NULL
    cdef const real* row
    cdef Py_ssize_t n
    for n in range(task * task_rows(g), least(g.N, (task + 1) * task_rows(g))):
        row = scores + n * g.K
        if dscores != NULL:
            drow = dscores + n * g.K
        if not 0 <= labels[n] < g.K:
            losses[n] = NAN
            if drow != NULL:
                memset(drow, 0, g.K * sizeof(real))
            continue
        losses[n] = softmax_row(drow, row, g.K, scale, &top)
        losses[n] += top - row[labels[n]]
        if drow != NULL:
            drow[labels[n]] -= scale


cdef void cross_entropy(real* first, const call_t* c) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef double* loss = <double*>c.p[0]
    cdef const double* losses = <const double*>c.shared
    cdef double total = 0
    cdef Py_ssize_t n
    parallel(<task_fn>cross_entropy_task[real], c, ceil_div(g.N, task_rows(g)), row_work(g))
    for n in range(g.N):
        total += losses[n]
    if g.mean:
        total = total / g.N if g.N else NAN
    loss[0] = loss[0] + total if c.add & 1 else total


cdef void count_correct(real* first, const call_t* c) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef int64_t* count = <int64_t*>c.p[0]
    cdef const real* scores = <const real*>c.p[1]
    cdef const int64_t* labels = <const int64_t*>c.p[2]
    cdef Py_ssize_t n
    cdef int64_t correct = 0
    for n in range(g.N):
        if 0 <= labels[n] < g.K:
            if real is float:
                correct += is_largest_f32(scores + n * g.K, g.K, labels[n])
            else:
                correct += is_largest_f64(scores + n * g.K, g.K, labels[n])
    count[0] = count[0] + correct if c.add & 1 else correct


def loss_kernels():
    return {
        "softmax": (<size_t>softmax[float], <size_t>softmax[double]),
        "cross_entropy": (<size_t>cross_entropy[float], <size_t>cross_entropy[double]),
        "count_correct": (<size_t>count_correct[float], <size_t>count_correct[double]),
    }
