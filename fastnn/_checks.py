"""The checks of what `fit` and `evaluate` are given, each a clear error that names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._errors import DTypeError, ShapeError
from ._kernels import Array
from .layers import Layer
from .layers.layer import as_input, as_real
from .losses import CrossEntropyLoss, Loss, check_labels, check_range

_CHECKED_AT_ONCE = 1 << 18  # numbers; a check of all of x then needs little memory


def check_model(model: Any) -> None:
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")


def check_loss(loss: Any) -> Loss:
    if loss is None:
        return CrossEntropyLoss()
    if isinstance(loss, type) or not hasattr(loss, "forward"):
        raise TypeError(f"loss: expected a loss such as CrossEntropyLoss(), got {loss!r}")
    checked: Loss = loss
    return checked


def check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def check_drop_last(drop_last: bool, samples: int, batch_size: int) -> None:
    if drop_last and samples < batch_size:
        raise ValueError(f"drop_last: {samples} samples are fewer than batch_size={batch_size}, so no batch is left")


def check_validation(model: Layer, data: Any, loss: Loss) -> tuple[Array, Array]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(f"validation_data: expected a pair (x, y), got {type(data).__name__}")
    x, y = data
    return check_data(model, x, y, loss, "validation ")


def check_data(model: Layer, x: Any, y: Any, loss: Loss, prefix: str = "") -> tuple[Array, Array]:
    """x in the model's dtype and y as the loss takes it, both contiguous, after checking that they fit the model."""
    x = _input(x, model, f"{prefix}x")
    if x.ndim < 1 or x.size == 0:
        raise ShapeError(f"{prefix}x: expected at least one sample, got shape {x.shape}")
    _check_finite(x, f"{prefix}x")
    scores = scores_of_one(model, x, f"{prefix}x")
    if not hasattr(loss, "count_correct"):
        targets = check_targets(_real(y, model, f"{prefix}y"), len(x), f"{prefix}y")
        _check_finite(targets, f"{prefix}y")
        return x, targets
    if np.ndim(scores) != 2 or len(scores) != 1:
        shape = np.shape(scores)
        raise ShapeError(f"{prefix}x: expected scores (1, classes) from the model for one sample, got {shape}")
    labels = check_labels(_array(y, f"{prefix}y"), len(x), f"{prefix}y")
    check_range(labels, scores.shape[1], f"{prefix}y")
    return x, np.ascontiguousarray(labels)


def scores_of_one(model: Layer, x: Array, what: str = "x") -> Any:
    """The model's output for the first sample; shapes that do not fit are found here."""
    try:
        return model.forward(x[:1], train=False)[0]
    except ShapeError as error:
        raise ShapeError(f"{what}: it does not fit the model: {error}") from error


def check_targets(targets: Array, count: int, what: str) -> Array:
    """Targets that are no labels: one entry for each sample."""
    if targets.ndim < 1 or len(targets) != count:
        raise ShapeError(f"{what}: expected {count} targets, one for each sample, got shape {targets.shape}")
    return targets


def _input(x: Any, model: Layer, what: str) -> Array:
    """x as the model takes it, and contiguous, so that gathering a batch need not copy all of it."""
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the next check names
        return _contiguous(as_input(_array(x, what), model, what))


def _real(a: Any, model: Layer, what: str) -> Array:
    """`a` in the model's dtype, and contiguous."""
    with np.errstate(over="ignore"):
        return _contiguous(as_real(_array(a, what), model.dtype, what))


def _contiguous(a: Array) -> Array:
    return np.ascontiguousarray(a) if a.ndim else a


def _array(a: Any, what: str) -> Array:
    try:
        array: Array = np.asarray(a)
        return array
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{what}: {error}") from error
    except TypeError as error:
        raise DTypeError(f"{what}: {error}") from error


def _check_finite(a: Array, what: str) -> None:
    """Raise ValueError, naming the first sample, for NaN or infinity."""
    rows = max(1, _CHECKED_AT_ONCE * len(a) // max(a.size, 1))
    for i in range(0, len(a), rows):
        finite = np.isfinite(a[i : i + rows])
        if not finite.all():
            sample = i + int(np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))[0])
            found = "NaN" if np.isnan(a[sample]).any() else f"infinity (as {a.dtype.name})"
            raise ValueError(f"{what}: expected finite numbers, got {found} in sample {sample}")
