"""Arrays in a GPU's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

from .. import to_device
from ..kernel import Array
from .launch import kernel, over

Shape = tuple[int, ...]


class _Memory:
    """A flat array of Numba's, which is kept for the next one of its size when the last view of it is gone.

    To ask the driver for memory takes longer than most kernels. All kernels run one after the other, on one stream, so
    that those which still read it are done before the next one writes to it.
    """

    __slots__ = ("array",)

    kept: ClassVar[dict[tuple[int, str], list[Any]]] = {}  #: by size and dtype

    def __init__(self, size: int, dtype: np.dtype[Any]) -> None:
        try:
            self.array = self.kept[size, dtype.str].pop()
        except (KeyError, IndexError):
            self.array = self._new(size, dtype)

    def _new(self, size: int, dtype: np.dtype[Any]) -> Any:
        try:
            return cuda.device_array(size, dtype)
        except CudaAPIError:  # no memory is left, but for what is kept
            if not self.kept:
                raise
            self.kept.clear()
            return cuda.device_array(size, dtype)

    def __del__(self) -> None:
        if hasattr(self, "array"):
            self.kept.setdefault((self.array.size, self.array.dtype.str), []).append(self.array)


def free_memory() -> float:
    """Bytes that are free on the GPU, or kept: arrays of other sizes get those as well. Infinity on the simulator."""
    kept = sum(array.nbytes for arrays in _Memory.kept.values() for array in arrays)
    return float(cuda.current_context().get_memory_info()[0] + kept)


class DeviceArray:
    """An array in a GPU's memory, as far as the library needs one: shape, dtype, views, copies; kernels do the rest.

    NumPy reads it by a copy, ``np.asarray(a)``, and so does whatever takes arrays from NumPy; ``a[…] = values`` writes
    it. Slices, `reshape`, `transpose` and `T` are views, as NumPy's are.

    How it lies in memory is told by `shadow`, an array of NumPy's whose memory is reserved and never touched, so that
    it takes none: each view of one is a view of the other.
    """

    __slots__ = ("__weakref__", "_base", "_memory", "shadow")

    device_backend: ClassVar[Any]  #: what computes kernels on such arrays
    __array_ufunc__ = None  #: NumPy does not compute with them: it would do so with copies, without a word

    def __init__(self, memory: _Memory, base: Array, shadow: Array) -> None:
        """base: a flat array of NumPy's as large as the memory; shadow: a view of it."""
        self._memory, self._base, self.shadow = memory, base, shadow

    @classmethod
    def empty(cls, shape: Shape, dtype: Any, order: Sequence[int] | None = None) -> DeviceArray:
        """A new array of any numbers; order: its axes from the outermost to the innermost in memory."""
        size = int(np.prod(shape, dtype=np.int64))
        base = np.empty(size, dtype)
        return cls(_Memory(size, base.dtype), base, _laid(base, shape, order))

    @classmethod
    def of(cls, values: Any) -> DeviceArray:
        """A copy of an array, which lies in memory as that does if that has no gaps, else in C order."""
        a = np.asarray(values)
        axes = _axes(a)
        if not a.transpose(axes).flags.c_contiguous:
            a, axes = np.ascontiguousarray(a), list(range(a.ndim))
        found = cls.empty(a.shape, a.dtype, axes)
        flat = a.transpose(axes).reshape(-1)
        if flat.size:
            found.memory.copy_to_device(
                flat if flat.strides[0] else flat.copy()
            )  # Numba takes a stride of 0 for no axis
        return found

    # --- what it is like ----------------

    @property
    def shape(self) -> Shape:
        shape: Shape = self.shadow.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.shadow.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return self.shadow.ndim

    @property
    def size(self) -> int:
        return self.shadow.size

    @property
    def nbytes(self) -> int:
        return self.shadow.nbytes

    @property
    def itemsize(self) -> int:
        return self.shadow.itemsize

    @property
    def strides(self) -> Shape:
        return self.shadow.strides

    @property
    def flags(self) -> Any:
        return self.shadow.flags

    def __len__(self) -> int:
        return len(self.shadow)

    def __repr__(self) -> str:
        return f"{np.asarray(self)!r} on {self.device_backend.name}"

    def __eq__(self, other: object) -> bool:
        if other is None:
            return False
        raise TypeError("kernels compute on a GPU: to compare such an array, take a copy by np.asarray(a)")

    __hash__ = object.__hash__

    # --- views ----------------

    def _view(self, shadow: Array) -> DeviceArray:
        return DeviceArray(self._memory, self._base, shadow)

    def __getitem__(self, key: Any) -> DeviceArray:
        """A view: of slices and whole numbers, not of arrays of indices."""
        key = key if isinstance(key, tuple) else (key,)
        if not all(part is None or part is Ellipsis or isinstance(part, slice | int | np.integer) for part in key):
            raise TypeError("an array on a GPU takes slices and whole numbers as indices; np.asarray(a) is a copy here")
        return self._view(self.shadow[key if Ellipsis in key else (*key, Ellipsis)])  # which is never a number

    def reshape(self, *shape: Any) -> DeviceArray:
        """A view, or a copy where NumPy's would be one."""
        shadow = self.shadow.reshape(*shape)
        if shadow.size and not np.may_share_memory(shadow, self.shadow):
            return self.copy().reshape(*shape)
        return self._view(shadow)

    def transpose(self, *axes: Any) -> DeviceArray:
        """A view."""
        return self._view(self.shadow.transpose(*axes))

    @property
    def T(self) -> DeviceArray:
        """A view with its axes the other way round."""
        return self._view(self.shadow.T)

    # --- memory ----------------

    @property
    def memory(self) -> Any:
        """The flat array of Numba's in which it lies."""
        return self._memory.array

    def flat(self, order: Sequence[int] | None = None) -> Any:
        """The numbers as they lie in memory, a flat array of Numba's, if they do so in this order of axes; else None.

        order: the axes from the outermost to the innermost, None for C order.
        """
        a = self.shadow if order is None else self.shadow.transpose(order)
        if not a.flags.c_contiguous:
            return None
        if a.size == self._base.size:
            return self.memory
        start = self._offset()
        return self.memory[start : start + a.size]

    def dense(self, order: Sequence[int] | None = None) -> DeviceArray:
        """The array if it lies in this order, without gaps, else a copy that does."""
        if self.flat(order) is not None:
            return self
        found = DeviceArray.empty(self.shape, self.dtype, order)
        move(found, self)
        return found

    def _offset(self) -> int:
        """Where its first element is, counted in elements from the beginning of the memory."""
        if not self.size:
            return 0
        first, base = (a.__array_interface__["data"][0] for a in (self.shadow, self._base))
        return int(first - base) // self.itemsize

    # --- copies ----------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on a GPU cannot be seen by NumPy without a copy")
        axes = _axes(self.shadow)
        dense = self.dense(axes)
        found = _laid(dense.flat(axes).copy_to_host() if self.size else np.empty(0, self.dtype), self.shape, axes)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __setitem__(self, key: Any, values: Any) -> None:
        into = self[key]
        if not isinstance(values, DeviceArray):
            values = DeviceArray.of(np.asarray(values, self.dtype))
        if values.dtype != self.dtype:
            raise TypeError(f"expected {self.dtype} to write into an array on a GPU, got {values.dtype}")
        if np.may_share_memory(into.shadow, values.shadow):  # else a number might be overwritten before it is read
            values = values.copy()
        move(into, values._view(np.broadcast_to(values.shadow, into.shape)))

    def copy(self) -> DeviceArray:
        """A new array in C order."""
        found = DeviceArray.empty(self.shape, self.dtype)
        move(found, self)
        return found

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        """The numbers in another dtype."""
        if self.dtype == dtype:
            return self.copy() if copy else self
        return DeviceArray.of(np.asarray(self).astype(dtype))

    def tobytes(self) -> bytes:
        """The bytes of its numbers in C order."""
        return np.asarray(self).tobytes()

    def tolist(self) -> Any:
        """Python's numbers, in lists."""
        return np.asarray(self).tolist()

    def item(self) -> Any:
        """The only number, as Python's."""
        return np.asarray(self).item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __deepcopy__(self, memo: Any) -> DeviceArray:
        axes = _axes(self.shadow)
        found = DeviceArray.empty(self.shape, self.dtype, axes)
        move(found, self)
        return found

    def __reduce__(self) -> Any:
        return to_device, (np.asarray(self), self.device_backend.name)


def _axes(a: Array) -> list[int]:
    """Its axes from the outermost to the innermost in memory."""
    return sorted(range(a.ndim), key=lambda axis: -abs(a.strides[axis]))


def _laid(flat: Array, shape: Shape, order: Sequence[int] | None) -> Array:
    """Flat memory as an array of this shape that lies in this order."""
    order = range(len(shape)) if order is None else order
    laid: Array = flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    return laid


# --- copies on the device ---------------------------------------------------------------------------------------------


def move(into: DeviceArray, values: DeviceArray, add: bool = False) -> None:
    """Copy the values, or add them, to an array of the same shape and dtype; the two may not overlap otherwise."""
    n = into.size
    axes = _axes(into.shadow)
    y, x = into.flat(axes), values.flat(axes)
    if y is not None and x is not None:
        over(_add if add else _copy, n, y, x, n)
    else:
        shape = into.shape or (1,)
        steps = (tuple(s // a.itemsize for s in a.strides) or (0,) for a in (into, values))
        places = (into.memory, into._offset(), values.memory, values._offset())
        over(_add_strided if add else _copy_strided, n, *places, shape, *steps, n)


_NUMBERS = ("T", "int64", "uint8", "uint16", "boolean")
_SUMMED = _NUMBERS[:2]
_FLAT = "{0}[::1], {0}[::1], int64"
_STRIDED = "{0}[::1], int64, {0}[::1], int64, " + "UniTuple(int64, 4), " * 3 + "int64"


@kernel(*map(_FLAT.format, _NUMBERS))
def _copy(y: Any, x: Any, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = x[i]


@kernel(*map(_FLAT.format, _SUMMED))
def _add(y: Any, x: Any, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] += x[i]


@kernel(*map(_STRIDED.format, _NUMBERS))
def _copy_strided(
    y: Any, y_start: int, x: Any, x_start: int, shape: Shape, y_steps: Shape, x_steps: Shape, n: int
) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rest, at, from_ = i, y_start, x_start
        for d in range(len(shape) - 1, -1, -1):
            j = rest % shape[d]
            rest //= shape[d]
            at += j * y_steps[d]
            from_ += j * x_steps[d]
        y[at] = x[from_]


@kernel(*map(_STRIDED.format, _SUMMED))
def _add_strided(
    y: Any, y_start: int, x: Any, x_start: int, shape: Shape, y_steps: Shape, x_steps: Shape, n: int
) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rest, at, from_ = i, y_start, x_start
        for d in range(len(shape) - 1, -1, -1):
            j = rest % shape[d]
            rest //= shape[d]
            at += j * y_steps[d]
            from_ += j * x_steps[d]
        y[at] += x[from_]
