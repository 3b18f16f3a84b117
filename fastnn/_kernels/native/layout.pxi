# Copies: rows of a data set, and an array from one order in memory to another.

cdef struct gather_sizes:
    Py_ssize_t M, B, row, itemsize


cdef void gather_rows_task(char* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const gather_sizes* g = <const gather_sizes*>c.n
    cdef const char* x = <const char*>c.p[1]
    cdef const int64_t* index = <const int64_t*>c.p[2]
    cdef Py_ssize_t size = g.row * g.itemsize, b
    for b in range(cut(g.B, 8, task), cut(g.B, 8, task + 1)):
        if 0 <= index[b] < g.M:
            memcpy(y + b * size, x + index[b] * size, size)
        else:  # the caller's mistake: nothing outside of x is read, and NaN, or -1, lets it be seen
            memset(y + b * size, 0xFF, size)


cdef void gather_rows(char* y, const call_t* c) noexcept nogil:
    cdef const gather_sizes* g = <const gather_sizes*>c.n
    parallel(<task_fn>gather_rows_task, c, 8, BYTE * g.B * g.row * g.itemsize)


cdef enum:
    COPY_DIMS = 6
    COPY_BLOCK = 16


cdef struct copy_sizes:  # dimensions in the order of y's memory, the innermost last; strides of x in bytes
    Py_ssize_t itemsize, dims
    Py_ssize_t shape[COPY_DIMS]
    Py_ssize_t stride[COPY_DIMS]
    Py_ssize_t across  # the dimension along which x is densest


cdef inline void copy_blocks(char* y, Py_ssize_t y_across, const char* x, Py_ssize_t x_across, Py_ssize_t x_inner,
                             Py_ssize_t across, Py_ssize_t inner, Py_ssize_t itemsize) noexcept nogil:
    """y[a, i] = x[a, i] in square blocks: y is dense along i and x may be along a, so each line of both is used whole."""
    cdef Py_ssize_t A, B, a, i
    for A in range(ceil_div(across, COPY_BLOCK)):
        for B in range(ceil_div(inner, COPY_BLOCK)):
            for a in range(A * COPY_BLOCK, least(across, (A + 1) * COPY_BLOCK)):
                for i in range(B * COPY_BLOCK, least(inner, (B + 1) * COPY_BLOCK)):
                    memcpy(y + a * y_across + i * itemsize, x + a * x_across + i * x_inner, itemsize)


cdef inline bint transposable(const char* y, const char* x, Py_ssize_t x_across, Py_ssize_t x_inner,
                              Py_ssize_t itemsize) noexcept nogil:
    """Whether x is dense along `across`, and the numbers of both are aligned."""
    return x_across == itemsize and x_inner % itemsize == 0 and (<size_t>x | <size_t>y) % <size_t>itemsize == 0


cdef void copy_plane(char* y, Py_ssize_t y_across, const char* x, Py_ssize_t x_across, Py_ssize_t x_inner,
                     Py_ssize_t across, Py_ssize_t inner, Py_ssize_t itemsize) noexcept nogil:
    """y[a, i] = x[a, i], y being dense along i; for each size of an item a loop of its own."""
    if itemsize == 4 and transposable(y, x, x_across, x_inner, 4):
        transpose_f32(<float*>y, y_across // 4, <const float*>x, x_inner // 4, inner, across, NULL)
    elif itemsize == 8 and transposable(y, x, x_across, x_inner, 8):
        transpose_f64(<double*>y, y_across // 8, <const double*>x, x_inner // 8, inner, across, NULL)
    elif itemsize == 4:
        copy_blocks(y, y_across, x, x_across, x_inner, across, inner, 4)
    elif itemsize == 8:
        copy_blocks(y, y_across, x, x_across, x_inner, across, inner, 8)
    elif itemsize == 1:
        copy_blocks(y, y_across, x, x_across, x_inner, across, inner, 1)
    else:
        copy_blocks(y, y_across, x, x_across, x_inner, across, inner, itemsize)


cdef void copy_task(char* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """One place of all dimensions but the innermost and `across`: a plane of these two."""
    cdef const copy_sizes* g = <const copy_sizes*>c.n
    cdef const char* x = <const char*>c.p[1]
    cdef Py_ssize_t d, at, step = g.itemsize, inner = g.dims - 1, y_across = 0
    for d in range(g.dims - 1, -1, -1):
        if d == g.across:
            y_across = step
        elif d != inner:
            at = task % g.shape[d]
            task //= g.shape[d]
            y += at * step
            x += at * g.stride[d]
        step *= g.shape[d]
    if g.stride[inner] == g.itemsize:
        for d in range(g.shape[g.across] if g.across != inner else 1):
            memcpy(y + d * y_across, x + d * g.stride[g.across], g.shape[inner] * g.itemsize)
    elif g.across == inner:
        copy_plane(y, 0, x, 0, g.stride[inner], 1, g.shape[inner], g.itemsize)
    else:
        copy_plane(y, y_across, x, g.stride[g.across], g.stride[inner], g.shape[g.across], g.shape[inner], g.itemsize)


cdef void copy(char* y, const call_t* c) noexcept nogil:
    cdef const copy_sizes* g = <const copy_sizes*>c.n
    cdef Py_ssize_t d, tasks = 1, bytes = g.itemsize
    for d in range(g.dims):
        bytes *= g.shape[d]
        if d != g.across and d != g.dims - 1:
            tasks *= g.shape[d]
    if bytes:
        parallel(<task_fn>copy_task, c, tasks, 2 * BYTE * bytes)


def layout_kernels():
    return {
        "gather_rows": (<size_t>gather_rows, <size_t>gather_rows),
        "copy": (<size_t>copy, <size_t>copy),
    }
