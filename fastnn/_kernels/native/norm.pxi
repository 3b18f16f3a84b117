# Batch and layer normalisation. Images lie channels-last, so that both see rows of numbers: x (rows, cols).

cdef extern from "tiles.h" nogil:
    ctypedef struct columns_f32 "columns_t_f32":
        const float *mean
        const float *scale
        const float *shift
        const float *constant
        const float *slope
    ctypedef struct columns_f64 "columns_t_f64":
        const double *mean
        const double *scale
        const double *shift
        const double *constant
        const double *slope
    void add_moments_f32(double*, Py_ssize_t, double, const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void add_moments_f64(double*, Py_ssize_t, double, const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    void join_moments_f64(double*, double, const double*, double, Py_ssize_t)
    void mean_and_variance_f32(float*, float*, const double*, double, Py_ssize_t)
    void mean_and_variance_f64(double*, double*, const double*, double, Py_ssize_t)
    void scale_and_shift_f32(float*, float*, const float*, const float*, const float*, float, Py_ssize_t)
    void scale_and_shift_f64(double*, double*, const double*, const double*, const double*, double, Py_ssize_t)
    void normalize_rows_f32(float*, const float*, const columns_f32*, Py_ssize_t, Py_ssize_t, int)
    void normalize_rows_f64(double*, const double*, const columns_f64*, Py_ssize_t, Py_ssize_t, int)
    void add_products_f32(double*, double*, const float*, const float*, const columns_f32*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void add_products_f64(double*, double*, const double*, const double*, const columns_f64*, Py_ssize_t, Py_ssize_t, Py_ssize_t, int)
    void finish_products_f32(float*, float*, float*, float*, const double*, const double*, const float*, float, double, Py_ssize_t, int, int)
    void finish_products_f64(double*, double*, double*, double*, const double*, const double*, const double*, double, double, Py_ssize_t, int, int)
    void denormalize_rows_f32(float*, const float*, const float*, const columns_f32*, Py_ssize_t, Py_ssize_t, int, int)
    void denormalize_rows_f64(double*, const double*, const double*, const columns_f64*, Py_ssize_t, Py_ssize_t, int, int)
    void layer_norm_rows_f32(float*, float*, float*, const float*, const float*, const float*, float, Py_ssize_t, Py_ssize_t)
    void layer_norm_rows_f64(double*, double*, double*, const double*, const double*, const double*, double, Py_ssize_t, Py_ssize_t)
    void layer_norm_backward_rows_f32(float*, const float*, const float*, const float*, const float*, const float*, Py_ssize_t, Py_ssize_t)
    void layer_norm_backward_rows_f64(double*, const double*, const double*, const double*, const double*, const double*, Py_ssize_t, Py_ssize_t)
    void add_layer_products_f32(double*, double*, const float*, const float*, const float*, const float*, Py_ssize_t, Py_ssize_t)
    void add_layer_products_f64(double*, double*, const double*, const double*, const double*, const double*, Py_ssize_t, Py_ssize_t)
    void add_doubles_f64(double*, const double*, Py_ssize_t)
    void round_sums_f32(float*, const double*, Py_ssize_t, int)
    void round_sums_f64(double*, const double*, Py_ssize_t, int)


cdef struct batch_sizes:
    Py_ssize_t N, C, H, W
    Py_ssize_t relu, train


cdef enum:
    SUMMED_ROWS = 64    # that are summed in the type of x, each vector of columns by an accumulator: see norm_of.h
    PARTED_ROWS = 512   # from how many on the rows are cut into parts; fewer are not, but their columns into stripes; as in table/norm.py
    NORM_PARTS = PARTS
    STRIPE = 256        # bytes of a row


cdef struct stripe_t:  # what one task sums
    Py_ssize_t part, row, end, col, cols


cdef inline Py_ssize_t rows_of(const batch_sizes* g) noexcept nogil:
    return g.N * g.H * g.W


cdef inline Py_ssize_t norm_parts(Py_ssize_t rows) noexcept nogil:
    return NORM_PARTS if rows >= PARTED_ROWS else 1


cdef inline Py_ssize_t summed_rows(Py_ssize_t width) noexcept nogil:
    """How many rows of so many bytes are summed in the type of x: of less than four vectors, each has four accumulators."""
    return SUMMED_ROWS if width >= 4 * VBYTES else 4 * SUMMED_ROWS


cdef inline Py_ssize_t stripes(real* of_type, const batch_sizes* g) noexcept nogil:
    """How many tasks the sums over rows are."""
    return NORM_PARTS if norm_parts(rows_of(g)) > 1 else ceil_div(g.C * <Py_ssize_t>sizeof(real), STRIPE)


cdef inline stripe_t stripe(real* of_type, const batch_sizes* g, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t rows = rows_of(g), width = STRIPE // <Py_ssize_t>sizeof(real)
    if norm_parts(rows) > 1:
        return stripe_t(task, cut(rows, NORM_PARTS, task), cut(rows, NORM_PARTS, task + 1), 0, g.C)
    return stripe_t(0, 0, rows, task * width, least(width, g.C - task * width))


cdef inline void point_f32(columns_f32* c, const float* mean, const float* columns, Py_ssize_t C) noexcept nogil:
    c.mean, c.scale, c.shift, c.constant, c.slope = mean, columns, columns + C, columns + 2 * C, columns + 3 * C


cdef inline void point_f64(columns_f64* c, const double* mean, const double* columns, Py_ssize_t C) noexcept nogil:
    c.mean, c.scale, c.shift, c.constant, c.slope = mean, columns, columns + C, columns + 2 * C, columns + 3 * C


# --- batch normalisation: mean, var; x. Scratch: the moments of each part.

cdef void batch_norm_statistics_task(real* mean, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef stripe_t s = stripe(mean, g, task)
    cdef double* moments = <double*>c.shared + 3 * s.part * g.C + s.col
    cdef const real* x = <const real*>c.p[2] + s.col
    cdef Py_ssize_t row = s.row, some = summed_rows(s.cols * sizeof(real))
    while row < s.end:
        if real is float:
            add_moments_f32(moments, g.C, row - s.row, x + row * g.C, least(some, s.end - row), s.cols, g.C)
        else:
            add_moments_f64(moments, g.C, row - s.row, x + row * g.C, least(some, s.end - row), s.cols, g.C)
        row += some


cdef void batch_norm_statistics(real* mean, const call_t* c) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef Py_ssize_t rows = rows_of(g), parts = norm_parts(rows), part
    cdef double* moments = <double*>c.shared
    parallel(<task_fn>batch_norm_statistics_task[real], c, stripes(mean, g), BYTE * sizeof(real) * rows * g.C)
    for part in range(1, parts):
        join_moments_f64(moments, cut(rows, parts, part), moments + 3 * part * g.C,
                         cut(rows, parts, part + 1) - cut(rows, parts, part), g.C)
    if real is float:
        mean_and_variance_f32(mean, <float*>c.p[1], moments, rows, g.C)
    else:
        mean_and_variance_f64(mean, <double*>c.p[1], moments, rows, g.C)


cdef void batch_norm_update(real* running_mean, const call_t* c) noexcept nogil:
    """running_mean, running_var, batches; mean, var."""
    cdef real* running_var = <real*>c.p[1]
    cdef int64_t* batches = <int64_t*>c.p[2]
    cdef const real* mean = <const real*>c.p[3]
    cdef const real* var = <const real*>c.p[4]
    cdef Py_ssize_t C = c.n[0], count = c.n[1], i
    cdef bint biased = c.n[2] != 0
    batches[0] += 1
    if count == 0:
        return
    cdef double momentum = 1.0 / batches[0] if c.n[3] else c.f[0]
    cdef real share = <real>momentum, rest = <real>(1 - momentum)
    cdef real unbiased = 1 if biased else <real>(count / <double>(count - 1))
    for i in range(C):
        running_mean[i] = rest * running_mean[i] + share * mean[i]
        running_var[i] = rest * running_var[i] + share * (unbiased * var[i])


# --- y; x, weight, bias, mean, var. Scratch: scale and shift of each column.

cdef inline Py_ssize_t task_of_rows(Py_ssize_t cols) noexcept nogil:
    """Rows of one task."""
    return most(4, RUN // most(1, cols) // 4 * 4)


cdef inline void prepare_columns(real* columns, const call_t* c, const void* weight, const void* bias, const void* var) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    if real is float:
        scale_and_shift_f32(columns, columns + g.C, <const float*>var, <const float*>weight, <const float*>bias, <float>c.f[0], g.C)
    else:
        scale_and_shift_f64(columns, columns + g.C, <const double*>var, <const double*>weight, <const double*>bias, c.f[0], g.C)


cdef void batch_norm_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef Py_ssize_t row = task * task_of_rows(g.C), rows = least(task_of_rows(g.C), rows_of(g) - row)
    cdef const real* x = <const real*>c.p[1] + row * g.C
    cdef columns_f32 f
    cdef columns_f64 d
    if real is float:
        point_f32(&f, <const float*>c.p[4], <const float*>c.shared, g.C)
        normalize_rows_f32(y + row * g.C, x, &f, rows, g.C, g.relu)
    else:
        point_f64(&d, <const double*>c.p[4], <const double*>c.shared, g.C)
        normalize_rows_f64(y + row * g.C, x, &d, rows, g.C, g.relu)


cdef void batch_norm(real* y, const call_t* c) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    prepare_columns(<real*>c.shared, c, c.p[2], c.p[3], c.p[5])
    parallel(<task_fn>batch_norm_task[real], c, ceil_div(rows_of(g), task_of_rows(g.C)),
             2 * BYTE * sizeof(real) * rows_of(g) * g.C)


# --- dx, dweight, dbias; dy, x, weight, bias, mean, var. Scratch: of each column scale, shift, constant and slope, then of
# the parts the sums of dy, and of dy (x - mean).

cdef void batch_norm_products_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef stripe_t s = stripe(dx, g, task)
    cdef const real* columns = <const real*>c.shared
    cdef double* sums = <double*>(columns + 4 * g.C) + s.part * g.C + s.col
    cdef double* products = sums + norm_parts(rows_of(g)) * g.C
    cdef const real* dy = <const real*>c.p[3] + s.col
    cdef const real* x = <const real*>c.p[4] + s.col
    cdef const real* mean = <const real*>c.p[7] + s.col
    cdef Py_ssize_t row = s.row, some = summed_rows(s.cols * sizeof(real))
    cdef columns_f32 f
    cdef columns_f64 d
    memset(sums, 0, s.cols * sizeof(double))
    memset(products, 0, s.cols * sizeof(double))
    while row < s.end:
        if real is float:
            point_f32(&f, mean, columns + s.col, g.C)
            add_products_f32(sums, products, dy + row * g.C, x + row * g.C, &f, least(some, s.end - row), s.cols, g.C, g.relu)
        else:
            point_f64(&d, mean, columns + s.col, g.C)
            add_products_f64(sums, products, dy + row * g.C, x + row * g.C, &d, least(some, s.end - row), s.cols, g.C, g.relu)
        row += some


cdef void batch_norm_data_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef Py_ssize_t row = task * task_of_rows(g.C), rows = least(task_of_rows(g.C), rows_of(g) - row)
    cdef const real* dy = <const real*>c.p[3] + row * g.C
    cdef const real* x = <const real*>c.p[4] + row * g.C
    cdef columns_f32 f
    cdef columns_f64 d
    if real is float:
        point_f32(&f, <const float*>c.p[7], <const float*>c.shared, g.C)
        denormalize_rows_f32(dx + row * g.C, dy, x, &f, rows, g.C, g.train, g.relu)
    else:
        point_f64(&d, <const double*>c.p[7], <const double*>c.shared, g.C)
        denormalize_rows_f64(dx + row * g.C, dy, x, &d, rows, g.C, g.train, g.relu)


cdef void batch_norm_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const batch_sizes* g = <const batch_sizes*>c.n
    cdef Py_ssize_t rows = rows_of(g), parts = norm_parts(rows), part
    cdef real* columns = <real*>c.shared
    cdef double* sums = <double*>(columns + 4 * g.C)
    cdef double* products = sums + parts * g.C
    cdef double work = BYTE * sizeof(real) * rows * g.C
    prepare_columns(columns, c, c.p[5], c.p[6], c.p[8])
    if g.train or c.p[1] != NULL or c.p[2] != NULL:
        parallel(<task_fn>batch_norm_products_task[real], c, stripes(dx, g), 2 * work)
        for part in range(1, parts):
            add_doubles_f64(sums, sums + part * g.C, g.C)
            add_doubles_f64(products, products + part * g.C, g.C)
        if real is float:
            finish_products_f32(<float*>c.p[1], <float*>c.p[2], columns + 2 * g.C, columns + 3 * g.C, sums, products,
                                <const float*>c.p[8], <float>c.f[0], rows, g.C, (c.add & 2) != 0, (c.add & 4) != 0)
        else:
            finish_products_f64(<double*>c.p[1], <double*>c.p[2], columns + 2 * g.C, columns + 3 * g.C, sums, products,
                                <const double*>c.p[8], c.f[0], rows, g.C, (c.add & 2) != 0, (c.add & 4) != 0)
    if dx != NULL:
        parallel(<task_fn>batch_norm_data_task[real], c, ceil_div(rows, task_of_rows(g.C)), 3 * work)


# --- layer normalisation: y, mean, rstd; x, weight, bias.

cdef struct layer_sizes:
    Py_ssize_t N, D


cdef void layer_norm_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const layer_sizes* g = <const layer_sizes*>c.n
    cdef Py_ssize_t n = task * task_of_rows(g.D), rows = least(task_of_rows(g.D), g.N - n)
    cdef real* mean = <real*>c.p[1] + n
    cdef real* rstd = <real*>c.p[2] + n
    cdef const real* x = <const real*>c.p[3] + n * g.D
    if real is float:
        layer_norm_rows_f32(y + n * g.D, mean, rstd, x, <const float*>c.p[4], <const float*>c.p[5], <float>c.f[0], rows, g.D)
    else:
        layer_norm_rows_f64(y + n * g.D, mean, rstd, x, <const double*>c.p[4], <const double*>c.p[5], c.f[0], rows, g.D)


cdef void layer_norm(real* y, const call_t* c) noexcept nogil:
    cdef const layer_sizes* g = <const layer_sizes*>c.n
    parallel(<task_fn>layer_norm_task[real], c, ceil_div(g.N, task_of_rows(g.D)), g.N * (10 + 2 * BYTE * sizeof(real) * g.D))


# --- dx, dweight, dbias; dy, x, weight, mean, rstd. Scratch: of the parts the sums of dy, and of dy (x - mean) rstd.

cdef enum:
    LAYER_ROWS = 16  # of which dx is computed before they are summed: they are near then


cdef inline Py_ssize_t layer_parts(const layer_sizes* g) noexcept nogil:
    return most(1, least(NORM_PARTS, g.N // LAYER_ROWS))


cdef void layer_norm_backward_task(real* dx, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const layer_sizes* g = <const layer_sizes*>c.n
    cdef Py_ssize_t parts = layer_parts(g), row = cut(g.N, parts, task), end = cut(g.N, parts, task + 1), to
    cdef double* sums = <double*>c.shared + task * g.D
    cdef double* products = sums + parts * g.D
    cdef const real* dy = <const real*>c.p[3]
    cdef const real* x = <const real*>c.p[4]
    cdef const real* mean = <const real*>c.p[6]
    cdef const real* rstd = <const real*>c.p[7]
    memset(sums, 0, g.D * sizeof(double))
    memset(products, 0, g.D * sizeof(double))
    while row < end:
        to = least(end, row + LAYER_ROWS)
        if dx != NULL:
            if real is float:
                layer_norm_backward_rows_f32(dx + row * g.D, dy + row * g.D, x + row * g.D, <const float*>c.p[5], mean + row,
                                             rstd + row, to - row, g.D)
            else:
                layer_norm_backward_rows_f64(dx + row * g.D, dy + row * g.D, x + row * g.D, <const double*>c.p[5], mean + row,
                                             rstd + row, to - row, g.D)
        if c.p[1] != NULL or c.p[2] != NULL:
            if real is float:
                add_layer_products_f32(sums, products, dy + row * g.D, x + row * g.D, mean + row, rstd + row, to - row, g.D)
            else:
                add_layer_products_f64(sums, products, dy + row * g.D, x + row * g.D, mean + row, rstd + row, to - row, g.D)
        row = to


cdef inline void round_sums(real* y, const double* sums, Py_ssize_t n, bint add) noexcept nogil:
    if real is float:
        round_sums_f32(y, sums, n, add)
    else:
        round_sums_f64(y, sums, n, add)


cdef void layer_norm_backward(real* dx, const call_t* c) noexcept nogil:
    cdef const layer_sizes* g = <const layer_sizes*>c.n
    cdef Py_ssize_t parts = layer_parts(g), part
    cdef double* sums = <double*>c.shared
    cdef double* products = sums + parts * g.D
    parallel(<task_fn>layer_norm_backward_task[real], c, parts, g.N * (10 + 4 * BYTE * sizeof(real) * g.D))
    for part in range(1, parts):
        add_doubles_f64(sums, sums + part * g.D, g.D)
        add_doubles_f64(products, products + part * g.D, g.D)
    if c.p[1] != NULL:
        round_sums(<real*>c.p[1], products, g.D, (c.add & 2) != 0)
    if c.p[2] != NULL:
        round_sums(<real*>c.p[2], sums, g.D, (c.add & 4) != 0)


def norm_kernels():
    return {
        "batch_norm_statistics": (<size_t>batch_norm_statistics[float], <size_t>batch_norm_statistics[double]),
        "batch_norm_update": (<size_t>batch_norm_update[float], <size_t>batch_norm_update[double]),
        "batch_norm": (<size_t>batch_norm[float], <size_t>batch_norm[double]),
        "batch_norm_backward": (<size_t>batch_norm_backward[float], <size_t>batch_norm_backward[double]),
        "layer_norm": (<size_t>layer_norm[float], <size_t>layer_norm[double]),
        "layer_norm_backward": (<size_t>layer_norm_backward[float], <size_t>layer_norm_backward[double]),
    }
