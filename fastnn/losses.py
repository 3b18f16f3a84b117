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
    """What `fit` needs of a loss. One with ``count_correct(scores, labels)`` too is given labels, others numbers.

    A loss made of kernels alone can be part of a captured step: ``compute(scores, target, need_grad=True)`` then
    returns what `forward` does, without its checks and with the loss as an array (1,) float64, and ``count_correct`` an
    array (1,) int64.
    """

    def forward(self, scores: Array, target: Any, /, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss of a batch, and the function that returns its gradient by the scores."""
        ...


class CrossEntropyLoss:
    """The softmax cross-entropy, -log softmax(scores)[label], of scores (N, classes) and integer labels (N,).

    reduction: ``"mean"`` over the batch (NaN, with zero gradients, for an empty one) or ``"sum"``.
    """

    names_calls = True  #: in messages, kernels that it calls are named after it

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        k.changed()

    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"CrossEntropyLoss: expected reduction 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def forward(self, scores: Array, labels: Any, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss, and the function that returns its gradient by the scores (N, classes).

        Raises `ShapeError`, `DTypeError`, and ValueError for a label outside of 0 … classes-1.
        """
        loss, backward = self.compute(scores, self.check(scores, labels), need_grad)
        return float(loss[0]), backward

    def compute(self, scores: Array, labels: Array, need_grad: bool = True) -> tuple[Array, LossBackward]:
        """As `forward`, for labels that were checked: the loss is an array (1,) float64."""
        how = {"mean": self.reduction == "mean"}
        loss, dscores = k.cross_entropy(scores, labels, **how, out=(None, None if need_grad else False))

        def backward() -> Array:
            gradient: Array = dscores if need_grad else k.cross_entropy(scores, labels, **how)[1]
            return gradient

        return loss, backward

    def check(self, scores: Array, labels: Any) -> Array:
        """Labels as int64, after checking that they fit the scores."""
        if not isinstance(scores, np.ndarray) or scores.ndim != 2:
            raise ShapeError(f"CrossEntropyLoss: expected scores (N, classes), got {np.shape(scores)}")
        checked = check_labels(labels, len(scores), "CrossEntropyLoss")
        check_range(checked, scores.shape[1], "CrossEntropyLoss")
        return checked

    @staticmethod
    def count_correct(scores: Array, labels: Array) -> Array:
        """How many rows have their highest score at the label (the first of equal scores counts): (1,) int64."""
        correct: Array = k.count_correct(scores, labels)
        return correct


def computed(
    loss: Loss, scores: Array, target: Any, need_grad: bool = True, sample_weight: Array | None = None
) -> tuple[Array, LossBackward]:
    """The loss of a batch that was checked, as an array (1,) float64, and the function that returns its gradient."""
    options: dict[str, Any] = {} if sample_weight is None else {"sample_weight": sample_weight}
    if hasattr(loss, "compute"):
        found: tuple[Array, LossBackward] = loss.compute(scores, target, need_grad, **options)
        return found
    value, backward = loss.forward(scores, target, *(() if need_grad else (False,)), **options)
    return np.array([value], np.float64), backward


def counted(loss: Loss, scores: Array, labels: Array) -> tuple[Array, ...]:
    """How many of a batch are right, as one array (1,) int64; none for a loss without labels."""
    if not hasattr(loss, "count_correct"):
        return ()
    count = loss.count_correct(scores, labels)
    return (count if isinstance(count, np.ndarray) else np.array([count], np.int64),)


def is_mean(loss: Loss) -> bool:
    """Whether the loss of a batch is a mean over its samples, not their sum."""
    return getattr(loss, "reduction", "mean") != "sum"


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
