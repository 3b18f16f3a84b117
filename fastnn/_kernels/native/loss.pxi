# Softmax, the losses of rows of scores (N, K), and the counts of right answers.

cdef extern from "tiles.h" nogil:
    double softmax_row_f32(float*, const float*, Py_ssize_t, float, float*)
    double softmax_row_f64(double*, const double*, Py_ssize_t, double, double*)
    double shares_row_f32(float*, const float*, const float*, const float*, float, float, float, float, float, float*, Py_ssize_t)
    double shares_row_f64(double*, const double*, const double*, const double*, double, double, double, double, double, double*,
                          Py_ssize_t)
    double margin_row_f32(float*, const float*, Py_ssize_t, float, int, float, Py_ssize_t)
    double margin_row_f64(double*, const double*, Py_ssize_t, double, int, double, Py_ssize_t)
    bint is_largest_f32(const float*, Py_ssize_t, Py_ssize_t)
    bint is_largest_f64(const double*, Py_ssize_t, Py_ssize_t)


cdef struct row_sizes:
    Py_ssize_t N, K
    Py_ssize_t mean, positions
    Py_ssize_t ignore_index


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


# --- losses: outputs loss, dscores; inputs scores, labels or target, sample_weight, weight --------------------------------


cdef inline real sample_weight_of(real* of_type, const call_t* c, Py_ssize_t n) noexcept nogil:
    cdef const real* sample_weight = <const real*>c.p[4]
    return <real>1 if sample_weight == NULL else sample_weight[n // (<const row_sizes*>c.n).positions]


cdef inline real label_weight(real* of_type, const call_t* c, int64_t label) noexcept nogil:
    cdef const real* weight = <const real*>c.p[5]
    return <real>1 if weight == NULL or not 0 <= label < c.n[1] else weight[label]


cdef double sum_of_weights(real* of_type, const call_t* c) noexcept nogil:
    """Over all rows: what the mean of a loss without weights for its labels divides by."""
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef double total = 0
    cdef Py_ssize_t n
    if not g.mean:
        return 1
    if c.p[4] == NULL:
        return g.N
    for n in range(g.N):
        total += sample_weight_of(of_type, c, n)
    return total


cdef double sum_of_label_weights(real* of_type, const call_t* c) noexcept nogil:
    """Over the rows that are not ignored: what the mean of a loss with weights for its labels divides by."""
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef double total = 0
    cdef Py_ssize_t n, known = 0
    if not g.mean:
        return 1
    if c.p[4] == NULL and c.p[5] == NULL:
        for n in range(g.N):
            known += labels[n] != g.ignore_index
        return known
    for n in range(g.N):
        if labels[n] != g.ignore_index:
            total += <double>sample_weight_of(of_type, c, n) * label_weight(of_type, c, labels[n])
    return total


cdef void sum_rows_losses(task_fn task, const call_t* c, double divisor) noexcept nogil:
    """Have the tasks fill in the loss of each row, and add these up; tasks find 1 / divisor after them."""
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef double* losses = <double*>c.shared
    cdef double* loss = <double*>c.p[0]
    cdef double total = 0
    cdef Py_ssize_t n
    losses[g.N] = 1 / divisor if divisor != 0 else 0  # what weighs nothing has no gradient
    parallel(task, c, ceil_div(g.N, task_rows(g)), row_work(g))
    for n in range(g.N):
        total += losses[n]
    total /= divisor
    loss[0] = loss[0] + total if c.add & 1 else total


cdef inline double without_loss(real* drow, Py_ssize_t K, double loss) noexcept nogil:
    """A row that has no gradient."""
    if drow != NULL:
        memset(drow, 0, K * sizeof(real))
    return loss


cdef double shared_loss(real* drow, const real* row, const real* target, const call_t* c, Py_ssize_t label, real first,
                        real scale) noexcept nogil:
    """-sum(a log softmax(row)) for the shares a of a smoothed label, or of a soft target, and `scale` times its gradient."""
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef const real* weight = <const real*>c.p[5]
    cdef real even = <real>(c.f[0] / g.K), rest = <real>(1 - c.f[0]), top, mass = 0
    cdef double log_sum = softmax_row(drow, row, g.K, <real>1, &top), cost
    if real is float:
        cost = shares_row_f32(drow, row, target, weight, top, first, rest, even, scale, &mass, g.K)
    else:
        cost = shares_row_f64(drow, row, target, weight, top, first, rest, even, scale, &mass, g.K)
    if label >= 0:
        cost += <double>first * (top - row[label])
        if drow != NULL:
            drow[label] -= scale * first
    return mass * log_sum + cost


cdef void cross_entropy_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef const real* sample_weight = <const real*>c.p[4]
    cdef const real* weight = <const real*>c.p[5]
    cdef double* losses = <double*>c.shared
    cdef real scale = <real>losses[g.N], v = 1, w = 1, top
    cdef bint smooth = c.f[0] != 0
    cdef real* drow = NULL
    cdef const real* row
    cdef Py_ssize_t n
    for n in range(task * task_rows(g), least(g.N, (task + 1) * task_rows(g))):
        row = <const real*>c.p[2] + n * g.K
        if dscores != NULL:
            drow = dscores + n * g.K
        if labels[n] == g.ignore_index or not 0 <= labels[n] < g.K:
            losses[n] = without_loss(drow, g.K, 0 if labels[n] == g.ignore_index else NAN)
            continue
        if sample_weight != NULL:
            v = sample_weight[n // g.positions]
        if weight != NULL:
            w = weight[labels[n]]
        if smooth:
            losses[n] = v * shared_loss(drow, row, <const real*>NULL, c, labels[n], <real>(1 - c.f[0]) * w, scale * v)
            continue
        w *= v
        losses[n] = w * (softmax_row(drow, row, g.K, scale * w, &top) + (top - row[labels[n]]))
        if drow != NULL:
            drow[labels[n]] -= scale * w
        w = 1


cdef void cross_entropy(real* of_type, const call_t* c) noexcept nogil:
    sum_rows_losses(<task_fn>cross_entropy_task[real], c, sum_of_label_weights(of_type, c))


cdef void soft_cross_entropy_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const real* scores = <const real*>c.p[2]
    cdef const real* target = <const real*>c.p[3]
    cdef double* losses = <double*>c.shared
    cdef real v
    cdef Py_ssize_t n, at
    for n in range(task * task_rows(g), least(g.N, (task + 1) * task_rows(g))):
        v, at = sample_weight_of(of_type, c, n), n * g.K
        losses[n] = v * shared_loss(dscores + at if dscores != NULL else dscores, scores + at, target + at, c, -1, <real>0,
                                    <real>losses[g.N] * v)


cdef void soft_cross_entropy(real* of_type, const call_t* c) noexcept nogil:
    sum_rows_losses(<task_fn>soft_cross_entropy_task[real], c, sum_of_weights(of_type, c))


cdef void nll_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const row_sizes* g = <const row_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const real* logs = <const real*>c.p[2]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef double* losses = <double*>c.shared
    cdef real w
    cdef Py_ssize_t n, at
    for n in range(task * task_rows(g), least(g.N, (task + 1) * task_rows(g))):
        at = n * g.K
        losses[n] = without_loss(dscores + at if dscores != NULL else dscores, g.K, 0 if labels[n] == g.ignore_index else NAN)
        if labels[n] != g.ignore_index and 0 <= labels[n] < g.K:
            w = sample_weight_of(of_type, c, n) * label_weight(of_type, c, labels[n])
            losses[n] = -<double>w * logs[at + labels[n]]
            if dscores != NULL:
                dscores[at + labels[n]] = -w * <real>losses[g.N]


cdef void nll(real* of_type, const call_t* c) noexcept nogil:
    sum_rows_losses(<task_fn>nll_task[real], c, sum_of_label_weights(of_type, c))


cdef struct margin_sizes:
    Py_ssize_t N, K
    Py_ssize_t mean, positions
    Py_ssize_t class_mean, p


cdef void multi_margin_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const margin_sizes* g = <const margin_sizes*>c.n
    cdef real* dscores = <real*>c.p[1]
    cdef const real* scores = <const real*>c.p[2]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef double* losses = <double*>c.shared
    cdef double loss
    cdef real w, slope, margin = <real>c.f[0]
    cdef real* drow = NULL
    cdef Py_ssize_t n, at, rows = task_rows(<const row_sizes*>g)
    for n in range(task * rows, least(g.N, (task + 1) * rows)):
        at = n * g.K
        if dscores != NULL:
            drow = dscores + at
        if not 0 <= labels[n] < g.K:
            losses[n] = without_loss(drow, g.K, NAN)
            continue
        w = sample_weight_of(of_type, c, n) * label_weight(of_type, c, labels[n]) / (g.K if g.class_mean else 1)
        slope = w * <real>losses[g.N]
        if real is float:
            loss = margin_row_f32(drow, scores + at, labels[n], margin, <int>g.p, slope, g.K)
        else:
            loss = margin_row_f64(drow, scores + at, labels[n], margin, <int>g.p, slope, g.K)
        losses[n] = w * loss


cdef void multi_margin(real* of_type, const call_t* c) noexcept nogil:
    sum_rows_losses(<task_fn>multi_margin_task[real], c, sum_of_weights(of_type, c))


# --- counts: outputs count, right; inputs scores, labels or target, among -------------------------------------------------


cdef struct count_sizes:
    Py_ssize_t N, K
    Py_ssize_t positions, ignore_index


cdef inline bint is_largest(const real* row, Py_ssize_t K, Py_ssize_t label) noexcept nogil:
    if real is float:
        return is_largest_f32(row, K, label)
    else:
        return is_largest_f64(row, K, label)


cdef Py_ssize_t where_largest(const real* row, Py_ssize_t K) noexcept nogil:
    """The first of equals is the largest, and NaN is larger than any number."""
    cdef Py_ssize_t k, best = 0
    for k in range(1, K):
        if row[k] > row[best] or (row[k] != row[k] and row[best] == row[best]):
            best = k
    return best


cdef inline int is_right(const real* row, Py_ssize_t K, int64_t label) noexcept nogil:
    return 0 <= label < K and is_largest(row, K, label)


cdef void count_samples(const real* scores, const call_t* c, bint soft) noexcept nogil:
    cdef count_sizes g = (<const count_sizes*>c.n)[0]  # a copy: `right` might be anything that the compiler has to read again
    cdef int64_t* count = <int64_t*>c.p[0]
    cdef char* right = <char*>c.p[1]
    cdef const char* among = <const char*>c.p[4]
    cdef const int64_t* labels = <const int64_t*>c.p[3]
    cdef const real* target = <const real*>c.p[3]
    cdef int64_t correct = 0
    cdef Py_ssize_t s, n, samples = g.N if g.positions == 1 else g.N // g.positions
    cdef int found
    for s in range(samples):
        found = -1 if among == NULL or among[s] else 0  # not yet known
        for n in range(s * g.positions, (s + 1) * g.positions):
            if found == 0:
                break
            if soft:
                found = is_right(scores + n * g.K, g.K, where_largest(target + n * g.K, g.K))
            elif labels[n] != g.ignore_index:
                found = is_right(scores + n * g.K, g.K, labels[n])
        correct += found == 1
        if right != NULL:
            right[s] = found == 1
    count[0] = count[0] + correct if c.add & 1 else correct


cdef void count_correct(real* of_type, const call_t* c) noexcept nogil:
    count_samples(<const real*>c.p[2], c, False)


cdef void count_agreeing(real* of_type, const call_t* c) noexcept nogil:
    count_samples(<const real*>c.p[2], c, True)


def loss_kernels():
    return {
        "softmax": (<size_t>softmax[float], <size_t>softmax[double]),
        "cross_entropy": (<size_t>cross_entropy[float], <size_t>cross_entropy[double]),
        "soft_cross_entropy": (<size_t>soft_cross_entropy[float], <size_t>soft_cross_entropy[double]),
        "nll": (<size_t>nll[float], <size_t>nll[double]),
        "multi_margin": (<size_t>multi_margin[float], <size_t>multi_margin[double]),
        "count_correct": (<size_t>count_correct[float], <size_t>count_correct[double]),
        "count_agreeing": (<size_t>count_agreeing[float], <size_t>count_agreeing[double]),
    }
