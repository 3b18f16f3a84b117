"""The kernels: ``k.linear(x, weight, bias, relu=False)`` calls the row `linear` of the table on the active backend.

This is the one place where a backend is chosen. ``native`` is the default; ``reference``, plain NumPy, takes its place
where fastnn was installed without compiled kernels (FASTNN_PURE=1).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib.machinery import PathFinder
from typing import Any

import numpy as np

from .._errors import DTypeError
from . import cpu
from .kernel import Array, Backend, Kernel, Target, active, device_backend, is_array, set_default, using
from .reference import ReferenceBackend
from .table import TABLE

#: False where fastnn was installed with FASTNN_PURE=1; a compiled module that is there must load.
COMPILED = PathFinder.find_spec("_runtime", [f"{__path__[0]}/native"]) is not None

_backends: dict[str, Backend] = {"reference": ReferenceBackend()}
if COMPILED:
    from . import native
    from .native import _runtime

    _backends["native"] = native.NativeBackend(native.choose_isa())
    _runtime.set_num_threads(cpu.default_threads())
elif os.path.exists(f"{__path__[0]}/native/_runtime.pyx") and os.environ.get("FASTNN_PURE") != "1":
    warnings.warn(  # an installation has no sources of the kernels
        "fastnn runs from a checkout whose kernels are not compiled, so on plain NumPy: pip install -e . there, "
        "or leave the folder to use an installed fastnn, or set FASTNN_PURE=1",
        stacklevel=2,
    )
set_default(_backends.get("native", _backends["reference"]))

globals().update(TABLE)


def __getattr__(name: str) -> Kernel:
    """Only for names that are no row of the table; it also tells a type checker what the rows are."""
    raise AttributeError(f"there is no kernel {name!r}: the table has {', '.join(TABLE)}")


def backends() -> dict[str, Backend]:
    """Every backend of this installation, by name."""
    return dict(_backends)


def use_backend(name: str) -> AbstractContextManager[None]:
    """Run everything inside the ``with`` block on another backend, in this thread: ``"native"`` or ``"reference"``.

    Arrays on a GPU are computed there in any case.
    """
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
    if COMPILED:
        _runtime.set_num_threads(int(threads))


def get_num_threads() -> int:
    """How many threads kernels use; 1 without compiled kernels."""
    return _runtime.get_num_threads() if COMPILED else 1


def changed() -> None:
    """Note that something changed on which a captured step may depend: a layer, a parameter, an option, the threads."""
    if COMPILED:
        _runtime.changed()


def device_of(a: Any) -> str:
    """Where an array is: ``"cpu"`` or ``"cuda"``."""
    backend = device_backend(a)
    return "cpu" if backend is None else backend.name


def to_device(a: Any, device: str) -> Any:
    """The array where it is, if that is the device, ``"cpu"`` or ``"cuda"``; else a copy there.

    Raises ValueError for another name; DTypeError for what holds no numbers; ImportError and RuntimeError, which say
    what is missing, without a GPU.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"expected device 'cpu' or 'cuda', got {device!r}")
    if device_of(a) == device != "cpu":
        return a
    found = np.asarray(a)
    if found.dtype.kind not in "biuf":
        raise DTypeError(f"to_device: expected an array of numbers, got {type(a).__name__} of dtype {found.dtype}")
    return found if device == "cpu" else _cuda().DeviceArray.of(found)


def fits(arrays: Iterable[Array], device: str) -> bool:
    """Whether there is room for copies of these on a device: they may take half of the memory that is free there."""
    return device == "cpu" or 2 * sum(a.nbytes for a in arrays) <= _cuda().free_memory()


def check_device(device: str) -> None:
    """Raise what `to_device` raises for a device that is not there."""
    to_device(np.zeros(0), device)


def _cuda() -> Any:
    from . import cuda  # which brings Numba

    cuda.check_device()
    return cuda


def aligned_zeros(size: int, dtype: str, device: str = "cpu") -> Array:
    """A flat array of zeros that begins at a multiple of 64 bytes, for parameters and what goes with them."""
    if device != "cpu":
        zeros: Array = to_device(np.zeros(size, dtype), device)
        return zeros
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
    "changed",
    "check_device",
    "device_of",
    "fits",
    "get_num_threads",
    "is_array",
    "isa",
    "set_num_threads",
    "to_device",
    "use_backend",
]
