"""Targets as the kernels of losses take them, each check a clear error that names the argument."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._arrays import as_array, check_finite, check_range
from .._errors import DTypeError, ShapeError
from .._kernels import Array
from ..layers.layer import as_real

Shape = tuple[int, ...]


def check_labels(labels: Any, count: int | None, what: str, positions: Shape = ()) -> Array:
    """Labels as a contiguous int64 array (count, *positions)."""
    found = as_array(labels, what)
    if found.dtype.kind not in "iub" and found.size:
        raise DTypeError(f"{what}: expected integer labels, got {found.dtype}")
    if found.shape[1:] != positions or found.ndim < 1 or (count is not None and len(found) != count):
        sizes = ", ".join(map(str, ("N" if count is None else count, *positions)))
        wanted = f"({sizes}), one for each position of the scores" if positions else f"({sizes},)"
        raise ShapeError(f"{what}: expected labels {wanted}, got {found.shape}")
    return np.ascontiguousarray(found, np.int64)


def as_numbers(y: Any, shape: Shape, dtype: str, what: str) -> Array:
    """Targets of this shape as a contiguous array of `dtype`; (N,) and (N, 1) are the same."""
    with np.errstate(over="ignore"):  # an overflow becomes an infinity
        found = as_real(as_array(y, what), dtype, what)
    alike = math.prod(shape[1:]) == 1 and found.ndim and len(found) == shape[0] and found.size == shape[0]
    if found.shape != shape and not alike:
        raise ShapeError(f"{what}: expected targets {shape}, as the scores are, got {found.shape}")
    return np.ascontiguousarray(found).reshape(shape)


def check_weight(weight: Any, count: int, dtype: str, what: str) -> Array:
    """Weights of so many samples, or classes, finite and at least 0, as a contiguous array of `dtype`."""
    found: Array = np.ascontiguousarray(as_real(as_array(weight, what), dtype, what))
    if found.shape != (count,):
        raise ShapeError(f"{what}: expected ({count},), a weight for each sample, got shape {np.shape(weight)}")
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"{what}: expected finite numbers of at least 0, got {found.min()} … {found.max()}")
    return found


def targets_of(loss: Any, y: Any, scores_of_one: Any, count: int, what: str) -> Any:
    """All targets of a data set as a loss takes them, checked: an array, or a tuple of arrays.

    A loss without `as_targets` is given labels if it has `count_correct`, else numbers.
    """
    if hasattr(loss, "as_targets"):
        return loss.as_targets(y, scores_of_one, count, what)
    if not hasattr(loss, "count_correct"):
        one = scores_of_one[0] if isinstance(scores_of_one, tuple) else scores_of_one
        with np.errstate(over="ignore"):
            numbers = as_real(as_array(y, what), one.dtype.name, what)
        if numbers.ndim < 1 or len(numbers) != count:
            raise ShapeError(f"{what}: expected {count} targets, one for each sample, got shape {numbers.shape}")
        check_finite(numbers, what)
        return np.ascontiguousarray(numbers)
    if np.ndim(scores_of_one) != 2 or len(scores_of_one) != 1:
        raise ShapeError(
            f"{what}: labels need scores (1, classes) from the model for one sample, got {np.shape(scores_of_one)}"
        )
    labels = check_labels(y, count, what)
    check_range(labels, scores_of_one.shape[1], what)
    return labels
