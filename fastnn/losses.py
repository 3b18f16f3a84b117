"""Losses: ``forward(scores, target)`` returns the loss and a function that returns its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from . import _kernels as k
from ._errors import DTypeError, ShapeError
from ._kernels import Array

LossBackward = Callable[[], Array]


class Loss(Protocol):
    """What `fit` needs of a loss. One with ``count_correct(scores, labels)`` too is given labels, others numbers."""

    def forward(self, scores: Array, target: Any, /, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss of a batch, and the function that returns its gradient by the scores."""
        ...


class CrossEntropyLoss:
    """The softmax cross-entropy, -log softmax(scores)[label], of scores (N, classes) and integer labels (N,).

    reduction: ``"mean"`` over the batch (NaN, with zero gradients, for an empty one) or ``"sum"``.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"CrossEntropyLoss: expected reduction 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def forward(self, scores: Array, labels: Any, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss, and the function that returns its gradient by the scores (N, classes).

        Raises `ShapeError`, `DTypeError`, and ValueError for a label outside of 0 … classes-1.
        """
        wanted = self.check(scores, labels)
        how = {"mean": self.reduction == "mean"}
        loss, dscores = k.cross_entropy(scores, wanted, **how, out=(None, None if need_grad else False))

        def backward() -> Array:
            gradient: Array = dscores if need_grad else k.cross_entropy(scores, wanted, **how)[1]
            return gradient

        return float(loss[0]), backward

    def check(self, scores: Array, labels: Any) -> Array:
        """Labels as int64, after checking that they fit the scores."""
        if not isinstance(scores, np.ndarray) or scores.ndim != 2:
            raise ShapeError(f"CrossEntropyLoss: expected scores (N, classes), got {np.shape(scores)}")
        checked = check_labels(labels, len(scores), "CrossEntropyLoss")
        check_range(checked, scores.shape[1], "CrossEntropyLoss")
        return checked

    @staticmethod
    def count_correct(scores: Array, labels: Array) -> int:
        """How many rows have their highest score at the label (the first of equal scores counts)."""
        return int(k.count_correct(scores, labels)[0])


def check_labels(labels: Any, count: int | None, what: str) -> Array:
    """Labels as an int64 array (count,)."""
    found: Array = np.asarray(labels)
    if found.dtype.kind not in "iub" and found.size:
        raise DTypeError(f"{what}: expected integer labels, got {found.dtype}")
    if found.ndim != 1 or (count is not None and len(found) != count):
        raise ShapeError(f"{what}: expected labels ({'N' if count is None else count},), got {found.shape}")
    converted: Array = found.astype(np.int64, copy=False)
    return converted


def check_range(labels: Array, classes: int, what: str) -> None:
    """Raise ValueError, naming the first sample, for a label outside of 0 … classes-1."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        first = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise ValueError(f"{what}: expected labels from 0 to {classes - 1}, got {labels[first]} (sample {first})")
