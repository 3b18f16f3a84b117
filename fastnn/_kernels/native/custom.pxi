# Kernels made while the program runs, of users' functions: see ../jit. A row gives n[0], how many numbers each array has,
# and after its other sizes the address of a `stretch_fn`. A task is a run of numbers, by shape alone, so that bits do not
# depend on threads.

cdef extern from "call.h" nogil:
    enum:
        CALL_ARRAYS

# Computes n numbers; arrays begin where these do, options are real numbers.
ctypedef void (*stretch_fn)(void** arrays, Py_ssize_t n, const double* options) noexcept nogil

cdef enum:
    MOST_OPTIONS = 32


cdef inline void compute_run(Py_ssize_t function, const call_t* c, int arrays, Py_ssize_t itemsize,
                             const double* options, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t at = task * RUN
    cdef void* moved[CALL_ARRAYS]
    cdef int i
    for i in range(arrays):
        moved[i] = <char*>c.p[i] + at * itemsize
    (<stretch_fn>function)(moved, least(RUN, c.n[0] - at), options)


cdef struct elementwise_sizes:
    Py_ssize_t n, function, arrays, itemsize


cdef void elementwise_task(void* first, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const elementwise_sizes* g = <const elementwise_sizes*>c.n
    compute_run(g.function, c, <int>g.arrays, g.itemsize, c.f, task)


cdef void elementwise(void* first, const call_t* c) noexcept nogil:
    cdef const elementwise_sizes* g = <const elementwise_sizes*>c.n
    parallel(elementwise_task, c, ceil_div(g.n, RUN), BYTE * g.arrays * g.itemsize * g.n)


cdef struct update_sizes:
    Py_ssize_t n, T, H, function, arrays, itemsize


cdef void update_task(void* first, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """The options are those in memory, and after them the number of this update, from 1."""
    cdef const update_sizes* g = <const update_sizes*>c.n
    cdef double options[MOST_OPTIONS + 1]
    memcpy(options, c.p[g.arrays], g.H * sizeof(double))
    options[g.H] = (<const int64_t*>c.p[g.arrays + 1])[0] + 1
    compute_run(g.function, c, <int>g.arrays, g.itemsize, options, task)


cdef void update(void* first, const call_t* c) noexcept nogil:
    cdef const update_sizes* g = <const update_sizes*>c.n
    parallel(update_task, c, ceil_div(g.n, RUN), BYTE * g.arrays * g.itemsize * g.n)
    count(<int64_t*>c.p[g.arrays + 1], c)


def custom_kernels():
    return {
        "elementwise": (<size_t>elementwise, <size_t>elementwise),
        "update": (<size_t>update, <size_t>update),
    }
