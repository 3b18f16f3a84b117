"""Weights of samples and of classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .._arrays import as_array
from .._errors import ShapeError
from .._kernels import Array
from ..layers.layer import as_real
from ..losses import Loss
from ..losses.targets import check_weight


def check_takes_weights(loss: Loss, what: str) -> None:
    """Raise ValueError unless the loss takes weights of samples."""
    function = getattr(loss, "compute", loss.forward)
    if "sample_weight" not in inspect.signature(function).parameters:
        raise ValueError(f"{what}: {type(loss).__name__} takes no weights of samples")


def batch_weights(samples: int, batch_size: int, each: Array | None) -> Array:
    """(batches,) float64: what each batch of so many samples weighs, their number or the sum of their weights."""
    starts = np.arange(0, samples, batch_size)
    if each is None:
        return np.minimum(batch_size, samples - starts).astype(np.float64)
    weights: Array = np.add.reduceat(each[:samples].astype(np.float64), starts)
    return weights


def class_weights(class_weight: Any, classes: int, labels: Iterable[Array], ignore_index: int | None = None) -> Array:
    """(classes,) float64: the weight of each class.

    class_weight: an array of them; a dictionary, in which classes left out have 1; or ``"balanced"``, scikit-learn's
    samples / (classes that occur · samples of the class), for which `labels` are gone through; those that are no
    class, or `ignore_index`, do not count.
    """
    table = np.ones(classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight: expected 'balanced', a dictionary or an array, got {class_weight!r}")
        counts = np.sum([np.bincount(part[(part >= 0) & (part < classes)], minlength=classes) for part in labels], 0)
        if ignore_index is not None and 0 <= ignore_index < classes:
            counts[ignore_index] = 0
        occur = counts > 0
        table[occur] = counts.sum() / (occur.sum() * counts[occur])
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            if not isinstance(label, int | np.integer) or not 0 <= label < classes:
                raise ValueError(f"class_weight: expected classes from 0 to {classes - 1}, got {label!r}")
            table[label] = weight
    else:
        table = as_real(as_array(class_weight, "class_weight"), "float64", "class_weight")
        if table.shape != (classes,):
            raise ShapeError(f"class_weight: expected ({classes},), a weight for each class, got {table.shape}")
    return check_weight(table, classes, "float64", "class_weight")
