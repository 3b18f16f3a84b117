# Softmax and its cross-entropy, over rows (N, K).

cdef struct row_sizes:
    Py_ssize_t N, K
    Py_ssize_t mean


cdef inline real exponential(real x) noexcept nogil:
    if real is float:
        return expf(x)
    else:
        return exp(x)


cdef inline real softmax_row(real* p, const real* scores, Py_ssize_t K, real* highest) noexcept nogil:
    """p = exp(scores - highest); returns their sum."""
    cdef Py_ssize_t k
    cdef real top = scores[0], total = 0
    for k in range(1, K):
        if scores[k] > top:
            top = scores[k]
    for k in range(K):
        p[k] = exponential(scores[k] - top)
        total += p[k]
    highest[0] = top
    return total


cdef enum:
    ROWS = 64  # of one task


cdef void softmax_task(real* p, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef const real* scores = <const real*>c.p[1]
    cdef real highest, total
    cdef Py_ssize_t n, k
    for n in range(task * ROWS, least(g.N, (task + 1) * ROWS)):
        total = softmax_row(p + n * g.K, scores + n * g.K, g.K, &highest)
        for k in range(g.K):
            p[n * g.K + k] /= total


cdef void softmax(real* p, const call_t* c) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    if g.K:
        parallel(<task_fn>softmax_task[real], c, ceil_div(g.N, ROWS), 5.0 * g.N * g.K)


cdef void cross_entropy_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const real* scores = <const real*>c.p[2]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef double* losses = <double*>c.shared
    cdef real scale = <real>(1.0 / g.N) if g.mean else 1, highest, total
    cdef Py_ssize_t n, k
    cdef const real* row
    for n in range(task * ROWS, least(g.N, (task + 1) * ROWS)):
        row = scores + n * g.K
        losses[n] = row_loss(row, labels[n], g.K)
        if dscores == NULL:
            continue
        if not 0 <= labels[n] < g.K:
            memset(dscores + n * g.K, 0, g.K * sizeof(real))
            continue
        total = softmax_row(dscores + n * g.K, row, g.K, &highest)
        for k in range(g.K):
            dscores[n * g.K + k] = (dscores[n * g.K + k] / total - (1 if k == labels[n] else 0)) * scale


cdef inline double row_loss(const real* scores, int64_t label, Py_ssize_t K) noexcept nogil:
    """log(sum(exp(scores))) - scores[label]; NaN for a label that is no class."""
    cdef Py_ssize_t k
    cdef double top, total = 0
    if not 0 <= label < K:
        return NAN
    top = scores[0]
    for k in range(1, K):
        if scores[k] > top:
            top = scores[k]
    for k in range(K):
        total += exp(scores[k] - top)
    return log(total) + (top - scores[label])


cdef void cross_entropy(real* first, const call_t* c) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef double* loss = <double*>c.p[0]
    cdef const double* losses = <const double*>c.shared
    cdef double total = 0
    cdef Py_ssize_t n
    parallel(<task_fn>cross_entropy_task[real], c, ceil_div(g.N, ROWS), 20.0 * g.N * g.K)
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
    cdef Py_ssize_t n, k, best
    cdef int64_t correct = 0
    for n in range(g.N):
        best = 0
        for k in range(1, g.K):  # the first maximum; a NaN counts as the largest
            if not scores[k] <= scores[best] and scores[best] == scores[best]:
                best = k
        correct += g.K > 0 and best == labels[n]
        scores += g.K
    count[0] = count[0] + correct if c.add & 1 else correct
