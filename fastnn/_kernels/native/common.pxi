# What every kernel family uses: the call, the pool, and small helpers.
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from libc.math cimport INFINITY, NAN, sqrt

cdef extern from "call.h" nogil:
    ctypedef struct call_t:
        void* p[12]
        Py_ssize_t n[32]
        double f[4]
        char* shared
        char* own
        Py_ssize_t own_size
        int threads
        unsigned add
    ctypedef void (*task_fn)(void*, const call_t*, Py_ssize_t, int) noexcept nogil
    ctypedef void (*kernel_fn)(void*, const call_t*) noexcept nogil
    ctypedef void (*parallel_fn)(task_fn, const call_t*, Py_ssize_t, double) noexcept nogil

ctypedef fused real:
    float
    double

cdef extern from "tiles.h" nogil:
    parallel_fn parallel
    bint streams(const void*, size_t, size_t)
    void streamed()

cdef enum:
    PARTS = 8  # partial sums of a reduction, at most; as in table/shared.py

# Nominal times on one core, in nanoseconds: they only decide whether work is worth a second thread.
cdef double FLOP = 0.02
cdef double BYTE = 0.1


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t most(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a > b else b


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t cut(Py_ssize_t size, Py_ssize_t parts, Py_ssize_t i) noexcept nogil:
    """Where part i begins when `size` things are cut into `parts` even parts."""
    return size * i // parts
