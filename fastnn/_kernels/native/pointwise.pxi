# Losses that compare number by number, the count of right signs, an L2 penalty, and a loss by a factor.

cdef extern from "tiles.h" nogil:
    int MSE, L1, HUBER, BCE, GIVEN
    double loss_row_f32(int, float*, const float*, const float*, const float*, const float*, float, float, float, Py_ssize_t)
    double loss_row_f64(int, double*, const double*, const double*, const double*, const double*, double, double, double,
                        Py_ssize_t)
    double scaled_row_f32(float*, const float*, float, bint, bint, Py_ssize_t)
    double scaled_row_f64(double*, const double*, double, bint, bint, Py_ssize_t)
    bint same_signs_f32(const float*, const float*, Py_ssize_t)
    bint same_signs_f64(const double*, const double*, Py_ssize_t)


cdef struct point_sizes:
    Py_ssize_t N, D  # samples, and numbers in each
    Py_ssize_t mean


cdef struct sums_t:  # in the shared scratch
    double of_part[PARTS]
    double scale
    int64_t kind


cdef inline Py_ssize_t parts_of(Py_ssize_t size) noexcept nogil:
    return least(PARTS, ceil_div(size, RUN))


cdef void add_parts(double* loss, bint add, const sums_t* sums, Py_ssize_t parts, double divisor) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(parts):
        total += sums.of_part[i]
    loss[0] = loss[0] + total / divisor if add else total / divisor


# --- losses: outputs loss, dscores; inputs scores, target (or each number's loss and slope), sample_weight, weight, pos_weight


cdef inline double loss_row(real* of_type, const call_t* c, Py_ssize_t i, const real* w, const real* q, real one,
                            Py_ssize_t n) noexcept nogil:
    """Of n numbers from number i on."""
    cdef const sums_t* sums = <const sums_t*>c.shared
    cdef real* d = <real*>c.p[1] + i if c.p[1] != NULL else <real*>NULL
    cdef const real* x = <const real*>c.p[2] + i
    cdef const real* t = <const real*>c.p[3] + i
    cdef real scale = <real>sums.scale, a = <real>c.f[0]
    if real is float:
        return loss_row_f32(<int>sums.kind, d, x, t, w, q, a, one, scale, n)
    else:
        return loss_row_f64(<int>sums.kind, d, x, t, w, q, a, one, scale, n)


cdef void loss_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const point_sizes* g = <const point_sizes*>c.n
    cdef sums_t* sums = <sums_t*>c.shared
    cdef const real* v = <const real*>c.p[4]
    cdef const real* w = <const real*>c.p[5]
    cdef const real* q = <const real*>c.p[6]
    cdef Py_ssize_t size = g.N * g.D, parts = parts_of(size)
    cdef Py_ssize_t i = cut(size, parts, task), stop = cut(size, parts, task + 1), n, at
    cdef double total = 0
    if w == NULL and q == NULL and (v == NULL or g.D == 1):  # all samples are one row
        sums.of_part[task] = loss_row(of_type, c, i, v + i if v != NULL else v, q, <real>1, stop - i)
        return
    while i < stop:
        n, at = least(stop, (i // g.D + 1) * g.D) - i, i % g.D
        total += loss_row(of_type, c, i, w + at if w != NULL else w, q + at if q != NULL else q,
                          v[i // g.D] if v != NULL else <real>1, n)
        i += n
    sums.of_part[task] = total


cdef void point_losses(real* of_type, const call_t* c, int kind) noexcept nogil:
    cdef const point_sizes* g = <const point_sizes*>c.n
    cdef sums_t* sums = <sums_t*>c.shared
    cdef const real* v = <const real*>c.p[4]
    cdef Py_ssize_t size = g.N * g.D, n
    cdef double divisor = g.N
    if v != NULL:
        divisor = 0
        for n in range(g.N):
            divisor += v[n]
    divisor = divisor * g.D if g.mean else 1
    sums.scale = 1 / divisor if divisor != 0 else 0  # what weighs nothing has no gradient
    sums.kind = kind
    parallel(<task_fn>loss_task[real], c, parts_of(size), (20 * FLOP if kind == BCE else 0) * size + 3 * BYTE * sizeof(real) * size)
    add_parts(<double*>c.p[0], c.add & 1, sums, parts_of(size), divisor)


cdef void mse(real* of_type, const call_t* c) noexcept nogil:
    point_losses(of_type, c, MSE)


cdef void l1(real* of_type, const call_t* c) noexcept nogil:
    point_losses(of_type, c, L1)


cdef void huber(real* of_type, const call_t* c) noexcept nogil:
    point_losses(of_type, c, HUBER)


cdef void bce_with_logits(real* of_type, const call_t* c) noexcept nogil:
    point_losses(of_type, c, BCE)


cdef void reduced(real* of_type, const call_t* c) noexcept nogil:
    point_losses(of_type, c, GIVEN)


cdef void count_signs(real* of_type, const call_t* c) noexcept nogil:
    cdef const point_sizes* g = <const point_sizes*>c.n
    cdef int64_t* count = <int64_t*>c.p[0]
    cdef char* right = <char*>c.p[1]
    cdef const real* scores = <const real*>c.p[2]
    cdef const real* target = <const real*>c.p[3]
    cdef const char* among = <const char*>c.p[4]
    cdef int64_t correct = 0
    cdef Py_ssize_t n
    cdef bint found
    for n in range(g.N):
        if real is float:
            found = same_signs_f32(scores + n * g.D, target + n * g.D, g.D)
        else:
            found = same_signs_f64(scores + n * g.D, target + n * g.D, g.D)
        found = found and (among == NULL or among[n])
        correct += found
        if right != NULL:
            right[n] = found
    count[0] = count[0] + correct if c.add & 1 else correct


# --- penalty and factor ---------------------------------------------------------------------------------------------------


cdef inline double scaled_row(real* y, const real* x, real factor, bint add, bint squares, Py_ssize_t n) noexcept nogil:
    if real is float:
        return scaled_row_f32(y, x, factor, add, squares, n)
    else:
        return scaled_row_f64(y, x, factor, add, squares, n)


cdef void l2_penalty_task(real* of_type, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef real* dparam = <real*>c.p[1]
    cdef const real* param = <const real*>c.p[2]
    cdef Py_ssize_t parts = parts_of(c.n[0]), i = cut(c.n[0], parts, task)
    (<sums_t*>c.shared).of_part[task] = scaled_row(dparam + i if dparam != NULL else dparam, param + i, <real>c.f[0],
                                                   c.add >> 1 & 1, c.p[0] != NULL, cut(c.n[0], parts, task + 1) - i)


cdef void l2_penalty(real* of_type, const call_t* c) noexcept nogil:
    parallel(<task_fn>l2_penalty_task[real], c, parts_of(c.n[0]), 2 * BYTE * sizeof(real) * c.n[0])
    if c.p[0] != NULL:
        add_parts(<double*>c.p[0], c.add & 1, <const sums_t*>c.shared, parts_of(c.n[0]), 2 / c.f[0])


cdef void scale_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef Py_ssize_t i = task * RUN
    scaled_row(y + i, <const real*>c.p[1] + i, <real>c.f[0], c.add & 1, False, least(RUN, c.n[0] - i))


cdef void scale(real* y, const call_t* c) noexcept nogil:
    parallel(<task_fn>scale_task[real], c, ceil_div(c.n[0], RUN), 2 * BYTE * sizeof(real) * c.n[0])


def pointwise_kernels():
    return {
        "mse": (<size_t>mse[float], <size_t>mse[double]),
        "l1": (<size_t>l1[float], <size_t>l1[double]),
        "huber": (<size_t>huber[float], <size_t>huber[double]),
        "bce_with_logits": (<size_t>bce_with_logits[float], <size_t>bce_with_logits[double]),
        "reduced": (<size_t>reduced[float], <size_t>reduced[double]),
        "count_signs": (<size_t>count_signs[float], <size_t>count_signs[double]),
        "l2_penalty": (<size_t>l2_penalty[float], <size_t>l2_penalty[double]),
        "scale": (<size_t>scale[float], <size_t>scale[double]),
    }
