"""Losses of scores of classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _kernels as k
from .._arrays import as_array, check_range
from .._errors import ShapeError
from .._kernels import Array, Target
from .loss import KernelLoss, Result, constant
from .targets import as_numbers, check_labels


class _ClassLoss(KernelLoss):
    """Base: scores (N, K) of K classes, or (N, K, d1) and (N, K, d1, d2), and labels (N,), (N, d1), (N, d1, d2)."""

    most_dims = 4
    takes_soft_targets = False
    weighs_labels = False  #: whether a mean divides by the weights of the labels, and leaves ignored ones out
    weight: Array | None
    ignore_index: int | None = None

    def __init__(self, weight: Any, reduction: str) -> None:
        super().__init__(reduction)
        self.weight = constant(weight, f"{type(self).__name__}: weight")
        if self.weight is not None and self.weight.ndim != 1:
            raise ShapeError(f"{type(self).__name__}: expected weight (classes,), got {self.weight.shape}")

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Array:
        if not k.is_array(scores) or not 2 <= scores.ndim <= self.most_dims:
            wanted = "(N, classes)" if self.most_dims == 2 else "(N, classes) or (N, classes, d1[, d2])"
            raise ShapeError(f"{what}: {type(self).__name__} expected scores {wanted}, got {np.shape(scores)}")
        classes, positions = scores.shape[1], scores.shape[2:]
        if self.weight is not None and np.shape(self.weight) != (classes,):
            found = np.shape(self.weight)
            raise ShapeError(f"{type(self).__name__}: expected weight ({classes},), one for each class, got {found}")
        y = as_array(y, what)
        if self.takes_soft_targets and (y.shape[1:] == scores.shape[1:] or (y.dtype.kind == "f" and y.ndim > 1)):
            return as_numbers(y, (count, *scores.shape[1:]), scores.dtype.name, what)
        labels = check_labels(y, count, what, positions)
        check_range(labels, classes, what, besides=self.ignore_index)
        return labels

    def mean_weights(self, target: Array, sample_weight: Array | None) -> Array | None:
        """What each sample weighs in the mean, (N,) float64: see `Loss`."""
        if not self.weighs_labels or target.dtype.kind == "f":
            return sample_weight
        counts = target != self.ignore_index
        if self.weight is None and counts.all():
            return sample_weight
        of_label = 1.0 if self.weight is None else self.weight[np.where(counts, target, 0)]
        each: Array = np.where(counts, of_label, 0.0).reshape(len(target), -1).mean(axis=1)
        return each if sample_weight is None else each * sample_weight

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        weight = None if self.weight is None else self._constant("weight", scores.shape[1:2], scores)
        rows, wanted, positions = rows_of(scores, target)
        loss, dscores = self._kernel(rows, wanted, sample_weight, weight, self.reduction == "mean", positions, out)
        if dscores is not None and scores.ndim > 2:
            dscores = np.moveaxis(dscores.reshape(len(scores), *scores.shape[2:], scores.shape[1]), -1, 1)
        return loss, dscores

    def _kernel(
        self, scores: Array, target: Array, sample_weight: Any, weight: Any, mean: bool, positions: int, out: Any
    ) -> Result:
        raise TypeError(f"{type(self).__name__} defines no kernel")

    def count_correct(self, scores: Array, target: Array) -> Array:
        """How many samples have their highest score (the first of equal ones) at the label: (1,) int64.

        With several positions in a sample all have to be right. Ignored labels do not matter, but one other is needed.
        """
        return self.which_correct(scores, target, out=(None, False))[0]

    def which_correct(
        self, scores: Array, target: Array, among: Array | None = None, out: tuple[Target, Target] | None = None
    ) -> Result:
        """How many of the samples `among` (N,) bool are right, (1,) int64, and which, (N,) bool."""
        rows, wanted, positions = rows_of(scores, target)
        found: Result
        if target.dtype.kind == "f":
            found = k.count_agreeing(rows, wanted, among, positions=positions, out=out)
        else:
            ignored = -1 if self.ignore_index is None else self.ignore_index
            found = k.count_correct(rows, wanted, among, positions=positions, ignore_index=ignored, out=out)
        return found


def rows_of(scores: Array, target: Array) -> tuple[Array, Array, int]:
    """Scores (N, K, …) as rows (N · …, K), their targets likewise, and how many rows a sample has."""
    if scores.ndim == 2:
        return scores, target, 1
    wanted = classes_last(target) if target.dtype.kind == "f" else target.reshape(target.size)
    return classes_last(scores), wanted, math.prod(scores.shape[2:])


def classes_last(scores: Array) -> Array:
    """(N, K, d1) or (N, K, d1, d2) as (N · d1 · d2, K)."""
    last = (scores if scores.ndim == 4 else scores[..., None]).transpose(0, 2, 3, 1)
    if not last.flags.c_contiguous:
        last = k.copy(last.transpose(0, 3, 1, 2), channels_last=True).transpose(0, 2, 3, 1)
    rows: Array = last.reshape(math.prod(last.shape[:3]), scores.shape[1])
    return rows


class CrossEntropyLoss(_ClassLoss):
    """The softmax cross-entropy -Σₖ tₖ log softmax(scores)ₖ, t being 1 at the label, or a soft target.

    scores: (N, classes), or (N, classes, d1) or (N, classes, d1, d2), for a target at each of these positions.
    target: integer labels (N, …), from 0 to classes-1 or `ignore_index`; or, of the scores' shape, one-hot or soft
        targets.
    weight: (classes,), multiplied into each class's term. A mean over labels divides by Σ weight[label], one over soft
        targets by their number (PyTorch's rules).
    ignore_index: rows with this label count nowhere; with no other rows, the mean is NaN with zero gradients.
    reduction: ``"mean"`` over the batch (NaN for an empty one), or ``"sum"``.
    label_smoothing: ε from 0 to 1: t becomes (1 - ε) t + ε / classes (Szegedy et al., CVPR 2016, section 7).
    """

    takes_soft_targets = True
    weighs_labels = True

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(weight, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: expected label_smoothing from 0 to 1, got {label_smoothing!r}")
        self.ignore_index, self.label_smoothing = int(ignore_index), float(label_smoothing)

    def _kernel(
        self, scores: Array, target: Array, sample_weight: Any, weight: Any, mean: bool, positions: int, out: Any
    ) -> Result:
        smoothing = self.label_smoothing
        found: Result
        if target.dtype.kind == "f":
            found = k.soft_cross_entropy(
                scores,
                target,
                sample_weight,
                weight,
                mean=mean,
                positions=positions,
                label_smoothing=smoothing,
                out=out,
            )
        else:
            how = {"mean": mean, "positions": positions, "ignore_index": self.ignore_index}
            found = k.cross_entropy(scores, target, sample_weight, weight, **how, label_smoothing=smoothing, out=out)
        return found


class NLLLoss(_ClassLoss):
    """The negative log likelihood, -scores[label], of logarithms of probabilities, as `LogSoftmax` returns them.

    scores, labels, weight, ignore_index, reduction: as of `CrossEntropyLoss`, which is this after a `LogSoftmax`.
    """

    weighs_labels = True

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = int(ignore_index)

    def _kernel(
        self, scores: Array, target: Array, sample_weight: Any, weight: Any, mean: bool, positions: int, out: Any
    ) -> Result:
        how = {"mean": mean, "positions": positions, "ignore_index": self.ignore_index}
        found: Result = k.nll(scores, target, sample_weight, weight, **how, out=out)
        return found


class MultiMarginLoss(_ClassLoss):
    """The multi-class SVM's loss, Σ max(0, margin - scores[label] + scoresₖ)ᵖ over all classes k but the label.

    scores: (N, classes); labels: (N,) integers from 0 to classes-1. p: 1 or 2.
    weight: (classes,), multiplied into the loss of samples with that label; a mean divides by the number of samples.
    reduction: ``"mean"`` over the batch (NaN for an empty one), or ``"sum"``.
    class_reduction: ``"mean"`` divides the sum over the classes by their number, as PyTorch does; ``"sum"`` does not,
        as in Stanford's course CS231n.
    """

    most_dims = 2

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        *,
        reduction: str = "mean",
        class_reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: expected p 1 or 2, got {p!r}")
        if class_reduction not in ("mean", "sum"):
            raise ValueError(f"MultiMarginLoss: expected class_reduction 'mean' or 'sum', got {class_reduction!r}")
        if not math.isfinite(margin):
            raise ValueError(f"MultiMarginLoss: expected a finite margin, got {margin!r}")
        self.p, self.margin, self.class_reduction = p, margin, class_reduction

    def _kernel(
        self, scores: Array, target: Array, sample_weight: Any, weight: Any, mean: bool, positions: int, out: Any
    ) -> Result:
        how: dict[str, Any] = {
            "class_mean": self.class_reduction == "mean",
            "p": self.p,
            "margin": self.margin,
            "out": out,
        }
        found: Result = k.multi_margin(scores, target, sample_weight, weight, mean=mean, positions=1, **how)
        return found
