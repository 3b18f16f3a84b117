"""What users pass as arrays: errors that name the argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._errors import DTypeError, ShapeError
from ._kernels import Array

_CHECKED_AT_ONCE = 1 << 18  # numbers; a check of a whole data set then needs little memory


def as_array(a: Any, what: str) -> Array:
    """`a` as an array."""
    try:
        array: Array = np.asarray(a)
        return array
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{what}: {error}") from error
    except TypeError as error:
        raise DTypeError(f"{what}: {error}") from error


def check_finite(a: Array, what: str) -> None:
    """Raise ValueError, naming the first sample, for NaN or infinity."""
    rows = max(1, _CHECKED_AT_ONCE * len(a) // max(a.size, 1))
    for i in range(0, len(a), rows):
        finite = np.isfinite(a[i : i + rows])
        if not finite.all():
            sample = i + int(np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))[0])
            found = "NaN" if np.isnan(a[sample]).any() else f"infinity (as {a.dtype.name})"
            raise ValueError(f"{what}: expected finite numbers, got {found} in sample {sample}")


def check_range(a: Array, count: int, what: str, kind: str = "labels", besides: int | None = None) -> None:
    """Raise ValueError, naming the first sample, for a whole number that is neither in 0 … count-1 nor `besides`."""
    if not a.size or (a.min() >= 0 and a.max() < count):
        return
    wrong = (a < 0) | (a >= count)
    if besides is not None:
        wrong &= a != besides
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        where = f" (sample {at[0]})" if at else ""
        raise ValueError(f"{what}: expected {kind} from 0 to {count - 1}, got {a[at]}{where}")
