"""The native runtime: makes a planned call into one C record and runs it.

A record (`call_t`) holds the kernel's address, the arrays' addresses and every number the kernel needs, so that it can be
run again without Python. Two functions therefore see every call: `perform` runs it, and notes it where a `Record` is in
progress (record.pxi), and `allocate` is where all memory for outputs, copies and scratch comes from.
"""

import os

cimport cython
cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    unsigned long PyThread_get_thread_ident()
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void** address, size_t alignment, size_t size)

cdef extern from "call.h" nogil:
    ctypedef struct call_t
    ctypedef void (*kernel_fn)(void*, const call_t*) noexcept nogil
    ctypedef struct call_t:
        kernel_fn fn
        void* p[12]
        Py_ssize_t n[32]
        double f[4]
        char* shared
        char* own
        Py_ssize_t own_size
        int threads
        unsigned add
    int CALL_ARRAYS, CALL_SIZES, CALL_FLOATS

cdef extern from "pool.h" nogil:
    void pool_parallel()
    void pool_resize(int threads)
    int pool_size()
    int POOL_MAX_THREADS
    unsigned long flush_denormals()
    void restore_denormals(unsigned long saved)

cdef extern from "cpu.h" nogil:
    bint cpu_runs_avx2()
    bint cpu_runs_avx512()

from fastnn._errors import DTypeError, ShapeError

cnp.import_array()


def runnable():
    """Names of the instruction sets that this processor runs, the widest last."""
    names = ["base"]
    if cpu_runs_avx2():
        names.append("avx2")
    if cpu_runs_avx512():
        names.append("avx512")
    return names


def pool_address():
    """Where `pool_parallel` is, for an instruction set's table to call."""
    return <size_t>&pool_parallel


def set_num_threads(int threads):
    with nogil:
        pool_resize(threads)
    changed()


def get_num_threads():
    return pool_size()


# --- memory: 64-byte aligned blocks that are kept for the next call, since fresh pages cost more than many a kernel --------

cdef enum:
    CLASSES = 160          # four sizes an octave, from 64 bytes
    KEPT_PER_CLASS = 64

cdef void* kept[CLASSES][KEPT_PER_CLASS]
cdef int kept_count[CLASSES]
cdef size_t kept_bytes = 0
cdef size_t KEPT_BYTES = 1 << 29
cdef size_t MOST_BYTES = <size_t>1 << 62


cdef extern from *:
    """
    #ifdef __SANITIZE_ADDRESS__ /* blocks of just the size asked for, never used again: so mistakes are seen */
    #define SANITIZED 1
    #else
    #define SANITIZED 0
    #endif
    """
    bint SANITIZED


cdef int size_class(size_t size, size_t* rounded) noexcept:
    """The class of the smallest block of at least `size` bytes, and its size; CLASSES for one that is not kept."""
    cdef size_t octave = 64
    cdef int i = 0, quarter
    if SANITIZED:
        rounded[0] = max(size, <size_t>1)
        return CLASSES
    while octave * 2 <= size:
        octave *= 2
        i += 4
    for quarter in range(4):
        if octave + octave // 4 * quarter >= size:
            rounded[0] = octave + octave // 4 * quarter
            return i + quarter
    rounded[0] = octave * 2
    return i + 4


@cython.final
@cython.no_gc  # a record refers to no array of its own arena, so there is no cycle
@cython.freelist(64)
cdef class Memory:
    """A block of memory under an array, given back when the last array on it is gone."""

    cdef char* address
    cdef size_t size
    cdef int kind
    cdef Record owner  # the record in whose arena it lies, None for none

    def __cinit__(self, size_t size):
        global kept_bytes
        if size > MOST_BYTES:
            raise MemoryError(f"no memory for {size} bytes")
        self.kind = size_class(size, &self.size)
        if records_here():
            self.address, self.owner = recording.take(self.size), recording
        elif self.kind < CLASSES and kept_count[self.kind]:
            kept_count[self.kind] -= 1
            kept_bytes -= self.size
            self.address = <char*>kept[self.kind][kept_count[self.kind]]
        elif posix_memalign(<void**>&self.address, 64, self.size):
            self.address = NULL
            raise MemoryError(f"no memory for {size} bytes")

    def __dealloc__(self):
        global kept_bytes
        if self.address == NULL:
            return
        if self.owner is not None:
            self.owner.give(self.address)
        elif self.kind < CLASSES and kept_count[self.kind] < KEPT_PER_CLASS and kept_bytes + self.size <= KEPT_BYTES:
            kept[self.kind][kept_count[self.kind]] = self.address
            kept_count[self.kind] += 1
            kept_bytes += self.size
        else:
            free(self.address)


cdef Memory allocate(size_t size):
    return Memory(size)


cdef cnp.ndarray new_array(int nd, const cnp.npy_intp* shape, int typenum, Py_ssize_t itemsize, const int* order):
    """An uninitialised array whose axes lie in memory as `order` says, the innermost last."""
    cdef cnp.npy_intp strides[cnp.NPY_MAXDIMS]
    cdef Py_ssize_t size = itemsize
    cdef int i
    for i in range(nd - 1, -1, -1):
        strides[order[i]] = size
        size *= shape[order[i]]
    cdef Memory memory = allocate(size)
    cdef cnp.ndarray a = cnp.PyArray_New(cnp.ndarray, nd, <cnp.npy_intp*>shape, typenum, strides, memory.address, 0,
                                         cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED, None)
    Py_INCREF(memory)
    cnp.PyArray_SetBaseObject(a, memory)
    return a


cdef int C_ORDER[cnp.NPY_MAXDIMS]
cdef int CHANNELS_LAST[4]
for _i in range(cnp.NPY_MAXDIMS):
    C_ORDER[_i] = _i
CHANNELS_LAST[0], CHANNELS_LAST[1], CHANNELS_LAST[2], CHANNELS_LAST[3] = 0, 2, 3, 1


cdef bint is_dense(cnp.ndarray a, const int* order):
    """Whether the axes of `a` lie in memory in this order, without gaps and aligned."""
    cdef Py_ssize_t step = a.itemsize
    cdef int i, axis
    if not cnp.PyArray_ISALIGNED(a):
        return False
    if cnp.PyArray_SIZE(a) == 0:
        return True
    for i in range(cnp.PyArray_NDIM(a) - 1, -1, -1):
        axis = order[i]
        if cnp.PyArray_DIM(a, axis) != 1 and cnp.PyArray_STRIDE(a, axis) != step:
            return False
        step *= cnp.PyArray_DIM(a, axis)
    return True


cdef void execute(call_t* call) noexcept:
    """Run one call."""
    cdef unsigned long saved
    with nogil:
        saved = flush_denormals()
        call.fn(call.p[0], call)
        restore_denormals(saved)


cdef inline void perform(call_t* call, str name, list arrays, unsigned written) except *:
    """Run one call, and note it where a record is in progress: see `Record.perform`."""
    if records_here():
        recording.perform(call, name, arrays, written)
    else:
        execute(call)


cdef bint lie_apart(cnp.ndarray x, cnp.ndarray dense):
    """Whether no byte of x can be one of a dense array."""
    cdef char* low = <char*>cnp.PyArray_DATA(x)
    cdef char* high = low + cnp.PyArray_ITEMSIZE(x)
    cdef char* start = <char*>cnp.PyArray_DATA(dense)
    cdef int i
    for i in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_STRIDE(x, i) < 0:
            low += (cnp.PyArray_DIM(x, i) - 1) * cnp.PyArray_STRIDE(x, i)
        else:
            high += (cnp.PyArray_DIM(x, i) - 1) * cnp.PyArray_STRIDE(x, i)
    return high <= start or start + cnp.PyArray_NBYTES(dense) <= low


cdef cnp.ndarray dense_copy(kernel_fn copy, cnp.ndarray x, const int* order, cnp.ndarray y=None):
    """A copy of x, in y if given, whose axes lie in memory in this order, by the kernel `copy`: see layout.pxi."""
    cdef int nd = cnp.PyArray_NDIM(x), i, dims = 0, across
    if y is None:
        y = new_array(nd, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), x.itemsize, order)
    cdef call_t call
    memset(&call, 0, sizeof(call_t))
    cdef Py_ssize_t* shape = &call.n[2]
    cdef Py_ssize_t* stride = &call.n[8]
    cdef Py_ssize_t size, step
    for i in range(nd):
        size, step = cnp.PyArray_DIM(x, order[i]), cnp.PyArray_STRIDE(x, order[i])
        if size == 1:
            continue
        if dims and stride[dims - 1] == step * size:  # one run with the axis outside of it
            shape[dims - 1] *= size
            stride[dims - 1] = step
            continue
        if dims == 6:
            raise ValueError(f"an array of {nd} dimensions that is not contiguous cannot be copied: 6 at most")
        shape[dims], stride[dims] = size, step
        dims += 1
    if not dims:
        shape[0], stride[0], dims = 1 if cnp.PyArray_SIZE(x) else 0, x.itemsize, 1
    across = dims - 2 if dims > 1 else 0
    for i in range(dims - 1):
        if abs(stride[i]) < abs(stride[across]):
            across = i
    call.fn = copy
    call.n[0], call.n[1], call.n[14] = x.itemsize, dims, across
    call.p[0], call.p[1] = cnp.PyArray_DATA(y), cnp.PyArray_DATA(x)
    call.threads = POOL_MAX_THREADS  # it needs no scratch
    perform(&call, "copy", [y, x], 1)
    return y


# --- calls ---------------------------------------------------------------------------------------------------------------

cdef enum:
    MAX_AXES = 4


cdef struct arg_t:
    int order[MAX_AXES]
    int follows     # its further dimensions, and so its order, are those of the first input
    int inout
    int adds        # an output to which the kernel can add
    int optional
    int typenum     # of an output
    int itemsize
    int nd
    cnp.npy_intp shape[cnp.NPY_MAXDIMS]


@cython.final
cdef class Bound:
    """A plan in C: what does not change from call to call."""

    cdef call_t call
    cdef arg_t args[12]
    cdef int outputs, inputs, sizes
    cdef bint is_copy
    cdef kernel_fn copy
    cdef size_t shared
    cdef unsigned written  # bit i: array i is changed
    cdef str name
    cdef tuple names

    def __init__(self, size_t address, size_t copy_address, plan, shared_and_own):
        row = plan.kernel
        memset(&self.call, 0, sizeof(call_t))
        self.name = row.name
        self.names = tuple(arg.name for arg in (*row.outputs, *row.inputs))
        self.call.fn, self.copy = <kernel_fn>address, <kernel_fn>copy_address
        self.outputs, self.inputs = len(row.outputs), len(row.inputs)
        numbers = [*(plan.dims[s] for s in row.sizes), *plan.ints]
        if self.outputs + self.inputs > CALL_ARRAYS or len(numbers) + 3 > CALL_SIZES or len(plan.floats) > CALL_FLOATS:
            raise ValueError(f"{row.name}: its row has more arrays or numbers than a call holds")
        for i, value in enumerate(numbers):
            self.call.n[i] = value
        self.sizes = len(numbers)
        for i, value in enumerate(plan.floats):
            self.call.f[i] = value
        self.is_copy = row.name == "copy"
        for i, arg in enumerate((*row.outputs, *row.inputs)):
            self._bind(&self.args[i], arg)
        for i in range(self.outputs):
            dt = cnp.dtype(plan.out_dtypes[i])
            self.args[i].typenum, self.args[i].itemsize = dt.num, dt.itemsize
            self.args[i].nd = len(plan.out_shapes[i])
            for j in range(self.args[i].nd):
                self.args[i].shape[j] = plan.out_shapes[i][j]
        self.shared, self.call.own_size = (shared_and_own[0] + 63) // 64 * 64, (shared_and_own[1] + 63) // 64 * 64

    cdef void _bind(self, arg_t* a, arg) except *:
        order = arg.order or tuple(range(len(arg.dims)))
        if len(order) > MAX_AXES:
            raise ValueError(f"{self.name}: {arg.name} has more than {MAX_AXES} dimensions")
        for i, axis in enumerate(order):
            a.order[i] = axis
        a.follows = arg.dims[len(arg.dims) - 1:] == ("*",)
        a.inout, a.adds, a.optional = arg.inout, arg.adds, arg.optional
        if a.inout or a - self.args < self.outputs:
            self.written |= 1 << (a - self.args)

    cdef const int* _order(self, int i, const int* first):
        return first if self.args[i].follows else self.args[i].order

    cdef const int* _first_order(self, cnp.ndarray first):
        """The order in which arrays that follow the first one lie: its own if it is dense, else C order."""
        if cnp.PyArray_NDIM(first) == 4 and not is_dense(first, C_ORDER) and is_dense(first, CHANNELS_LAST):
            return CHANNELS_LAST
        return C_ORDER

    def run(self, inputs, out):
        """Run the kernel on arrays that fit the plan; returns a tuple of outputs."""
        cdef call_t call = self.call
        cdef int i
        cdef cnp.ndarray a
        cdef const int* first = self._first_order(inputs[0])
        cdef list arrays = [None] * (self.outputs + self.inputs), results = [], late = None
        if self.is_copy:
            return self._copy(inputs[0], out[0])
        for i in range(self.inputs):
            if inputs[i] is None:
                continue
            a = inputs[i]
            if self.args[self.outputs + i].inout and not cnp.PyArray_ISWRITEABLE(a):
                raise ValueError(f"{self.name}: {self.names[self.outputs + i]} is changed in place, but it is read-only")
            if not is_dense(a, self._order(self.outputs + i, first)):
                if self.args[self.outputs + i].inout:
                    raise ValueError(f"{self.name}: {self.names[self.outputs + i]} is changed in place, so it must be contiguous")
                a = dense_copy(self.copy, a, self._order(self.outputs + i, first))
            arrays[self.outputs + i] = a
            call.p[self.outputs + i] = cnp.PyArray_DATA(a)
            if i == 0:
                self._extra(&call, a, first)
        for i in range(self.outputs):
            late = self._target(&call, i, first, out[i], arrays, results, late)
        call.threads = pool_size()
        if self.shared or call.own_size:
            memory = allocate(self.shared + call.threads * call.own_size)
            call.shared = (<Memory>memory).address
            call.own = call.shared + self.shared
        perform(&call, self.name, arrays, self.written)
        if late is not None:
            self._not_by_a_kernel()
            for target, value, added in late:
                if added:
                    target += value
                else:
                    target[...] = value
        return tuple(results)

    cdef list _target(self, call_t* call, int i, const int* first, target, list arrays, list results,
                      list late):
        """Point output i at its target; one that is not contiguous is filled afterwards."""
        cdef cnp.ndarray a
        cdef bint added = False
        if target is False:
            if not self.args[i].optional:
                raise TypeError(f"{self.name}: {self.names[i]} cannot be left out")
            results.append(None)
            return late
        if isinstance(target, tuple):
            target, added = target
        if target is not None:
            self._check_target(i, target)
        if target is None or (added and not self.args[i].adds) or not is_dense(target, self._order(i, first)):
            a = new_array(self.args[i].nd, self.args[i].shape, self.args[i].typenum, self.args[i].itemsize,
                          self._order(i, first))
            if target is not None:
                late = late or []
                late.append((target, a, added))
                added = False
        else:
            a = target
        arrays[i] = a
        results.append(a if target is None else target)
        call.p[i] = cnp.PyArray_DATA(a)
        if added:
            call.add |= 1 << i
        return late

    cdef void _check_target(self, int i, target) except *:
        cdef arg_t* arg = &self.args[i]
        cdef cnp.ndarray a
        cdef int d
        if not isinstance(target, cnp.ndarray):
            raise TypeError(f"{self.name}: expected an array to write {self.names[i]} to, got {type(target).__name__}")
        a = target
        cdef bint fits = cnp.PyArray_NDIM(a) == arg.nd
        for d in range(arg.nd if fits else 0):
            fits = fits and cnp.PyArray_DIM(a, d) == arg.shape[d]
        if not fits:
            raise ShapeError(f"{self.name}: expected {self.names[i]} of shape "
                             f"{tuple([arg.shape[d] for d in range(arg.nd)])}, got {target.shape}")
        if cnp.PyArray_TYPE(a) != arg.typenum or cnp.PyArray_ISBYTESWAPPED(a):
            raise DTypeError(f"{self.name}: expected {self.names[i]} as {cnp.PyArray_DescrFromType(arg.typenum)}, got {a.dtype}")
        if not cnp.PyArray_ISWRITEABLE(a):
            raise ValueError(f"{self.name}: {self.names[i]} is to be written, but the array is read-only")

    cdef void _extra(self, call_t* call, cnp.ndarray a, const int* order):
        """After the row's numbers: what kernels on arrays of any shape need to know of the first input."""
        call.n[self.sizes] = a.itemsize
        cdef bint last = order == <const int*>CHANNELS_LAST
        call.n[self.sizes + 1] = cnp.PyArray_DIM(a, 1) if last else 1  # channels
        call.n[self.sizes + 2] = cnp.PyArray_DIM(a, 2) * cnp.PyArray_DIM(a, 3) if last else 1  # pixels

    cdef void _not_by_a_kernel(self):
        """The result goes into an array laid out otherwise by NumPy, which no record can repeat."""
        if records_here():
            recording.refuse(f"{self.name} wrote to an array that is laid out otherwise than its row says, or was added to one")

    cdef tuple _copy(self, cnp.ndarray x, target):
        cdef const int* order = C_ORDER
        if self.call.n[1] and cnp.PyArray_NDIM(x) == 4:
            order = CHANNELS_LAST
        if target is None:
            return (dense_copy(self.copy, x, order),)
        target, added = target if isinstance(target, tuple) else (target, False)
        self._check_target(0, target)
        if not added and is_dense(target, order) and lie_apart(x, target):
            return (dense_copy(self.copy, x, order, target),)
        self._not_by_a_kernel()
        y = dense_copy(self.copy, x, order)
        if added:
            target += y
        else:
            target[...] = y
        return (target,)


# --- records -------------------------------------------------------------------------------------------------------------

include "record.pxi"
