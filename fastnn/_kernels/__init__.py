"""The kernels: ``k.linear(x, weight, bias)`` calls the row `linear` of the table on the active backend.

This is the one place where a backend is chosen. ``native`` is the default; ``reference``, plain NumPy, takes its place
where fastnn was installed without compiled kernels (FASTNN_PURE=1).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from . import cpu
from .kernel import Array, Backend, Kernel, Target, active, set_default, using
from .reference import ReferenceBackend
from .table import TABLE

try:
    from . import native
    from .native import _runtime
except ImportError as error:
    if "_runtime" not in str(error):
        raise
    native = None  # type: ignore[assignment]

_backends: dict[str, Backend] = {"reference": ReferenceBackend()}
if native is not None:
    _backends["native"] = native.NativeBackend(native.choose_isa())
    _runtime.set_num_threads(cpu.default_threads())
set_default(_backends.get("native", _backends["reference"]))

linear = TABLE["linear"]
linear_backward_data = TABLE["linear_backward_data"]
linear_backward_weights = TABLE["linear_backward_weights"]
conv2d = TABLE["conv2d"]
conv2d_backward_data = TABLE["conv2d_backward_data"]
conv2d_backward_weights = TABLE["conv2d_backward_weights"]
max_pool2d = TABLE["max_pool2d"]
max_pool2d_backward = TABLE["max_pool2d_backward"]
relu = TABLE["relu"]
relu_backward = TABLE["relu_backward"]
next_key = TABLE["next_key"]
dropout = TABLE["dropout"]
softmax = TABLE["softmax"]
cross_entropy = TABLE["cross_entropy"]
count_correct = TABLE["count_correct"]
sgd = TABLE["sgd"]
gather_rows = TABLE["gather_rows"]
copy = TABLE["copy"]


def backends() -> dict[str, Backend]:
    """Every backend of this installation, by name."""
    return dict(_backends)


def use_backend(name: str) -> AbstractContextManager[None]:
    """Run everything inside the ``with`` block on another backend, in this thread: ``"native"`` or ``"reference"``."""
    if name not in _backends:
        raise ValueError(f"use_backend: expected one of {', '.join(sorted(_backends))}, got {name!r}")
    return using(_backends[name])


def isa() -> str:
    """The instruction set of the native kernels (base, avx2, avx512), or ``"none"`` without them."""
    return getattr(_backends.get("native"), "isa", "none")


def set_num_threads(threads: int) -> None:
    """Set how many threads kernels use, the calling one included. Results do not depend on it, to the bit."""
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or not 1 <= threads <= cpu.MAX_THREADS:
        raise ValueError(f"set_num_threads: expected a whole number from 1 to {cpu.MAX_THREADS}, got {threads!r}")
    if native is not None:
        _runtime.set_num_threads(int(threads))


def get_num_threads() -> int:
    """How many threads kernels use; 1 without compiled kernels."""
    return _runtime.get_num_threads() if native is not None else 1


def aligned_zeros(size: int, dtype: str) -> Array:
    """A flat array of zeros that begins at a multiple of 64 bytes, for parameters and what goes with them."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size * itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * itemsize].view(dtype)


__all__ = [
    "TABLE",
    "Array",
    "Kernel",
    "Target",
    "active",
    "aligned_zeros",
    "backends",
    "get_num_threads",
    "isa",
    "set_num_threads",
    "use_backend",
    *TABLE,
]
