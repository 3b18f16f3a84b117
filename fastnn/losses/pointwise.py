"""Losses that compare scores with targets of the same shape, number by number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array, Target
from .loss import KernelLoss, Result, constant
from .targets import as_numbers


class PointwiseLoss(KernelLoss):
    """Base: scores (N, …) and targets of the same shape; (N,) and (N, 1) go together."""

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Array:
        if not k.is_array(scores) or scores.ndim < 1:
            raise ShapeError(f"{what}: {type(self).__name__} expected scores (N, …), got {np.shape(scores)}")
        return as_numbers(y, (count, *scores.shape[1:]), scores.dtype.name, what)


class MSELoss(PointwiseLoss):
    """The squared error, (score - target)².

    scores, target: (N, …). reduction: ``"mean"`` over all numbers (NaN for an empty batch), or ``"sum"``.
    half: ½ (score - target)² instead, as some courses have it.
    """

    def __init__(self, *, reduction: str = "mean", half: bool = False) -> None:
        super().__init__(reduction)
        self.half = bool(half)

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        mean, factor = self.reduction == "mean", 0.5 if self.half else 1.0
        found: Result = k.mse(scores, target, sample_weight, mean=mean, factor=factor, out=out)
        return found


class L1Loss(PointwiseLoss):
    """The absolute error, |score - target|, with gradient 0 at 0.

    scores, target: (N, …). reduction: ``"mean"`` over all numbers (NaN for an empty batch), or ``"sum"``.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        found: Result = k.l1(scores, target, sample_weight, mean=self.reduction == "mean", out=out)
        return found


class HuberLoss(PointwiseLoss):
    """½ e² where the error e = score - target is smaller than delta, else delta (|e| - ½ delta).

    scores, target: (N, …). reduction: ``"mean"`` over all numbers (NaN for an empty batch), or ``"sum"``.
    delta: above 0.
    Huber: "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if not 0 < delta < math.inf:
            raise ValueError(f"HuberLoss: expected a finite delta above 0, got {delta!r}")
        self.delta = delta

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        mean = self.reduction == "mean"
        found: Result = k.huber(scores, target, sample_weight, mean=mean, delta=self.delta, out=out)
        return found


class BCEWithLogitsLoss(PointwiseLoss):
    """The binary cross-entropy, -(q t log σ(s) + (1 - t) log(1 - σ(s))), of scores s before the logistic function σ.

    scores: (N, …); target t: of the same shape, from 0 to 1. A score above 0 is a yes.
    weight: multiplied into each term; pos_weight q: into those of positive targets. Each a number or an array that
        broadcasts to the shape of one sample's scores. A mean divides by the number of terms, as in PyTorch.
    reduction: ``"mean"`` over all numbers (NaN for an empty batch), or ``"sum"``.
    """

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.weight = constant(weight, "BCEWithLogitsLoss: weight")
        self.pos_weight = constant(pos_weight, "BCEWithLogitsLoss: pos_weight")

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Array:
        target = super()._fitting(y, scores, count, what)
        if target.size and (target.min() < 0 or target.max() > 1):
            where = tuple(int(i[0]) for i in np.nonzero((target < 0) | (target > 1)))
            raise ValueError(f"{what}: expected targets from 0 to 1, got {target[where]:g} (sample {where[0]})")
        for name in ("weight", "pos_weight"):  # whose shapes may not fit
            self._constant(name, scores.shape[1:], scores)
        return target

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        weights = (self._constant(name, scores.shape[1:], scores) for name in ("weight", "pos_weight"))
        flat = (a if a is None else a.reshape(a.size) for a in weights)
        rows = (samples_as_rows(a) for a in (scores, target))
        loss, dscores = k.bce_with_logits(*rows, sample_weight, *flat, mean=self.reduction == "mean", out=out)
        return loss, dscores if dscores is None else dscores.reshape(scores.shape)

    def count_correct(self, scores: Array, target: Array) -> Array:
        """How many samples have all their scores above 0 where the target is above ½, and nowhere else: (1,) int64."""
        return self.which_correct(scores, target, out=(None, False))[0]

    def which_correct(
        self, scores: Array, target: Array, among: Array | None = None, out: tuple[Target, Target] | None = None
    ) -> Result:
        """How many of the samples `among` (N,) bool are right, (1,) int64, and which, (N,) bool."""
        found: Result = k.count_signs(scores, target, among, out=out)
        return found


def samples_as_rows(a: Array) -> Array:
    """(N, …) as (N, D), in the logical order."""
    if a.ndim == 2:
        return a
    dense = a if a.flags.c_contiguous else k.copy(a, channels_last=False)
    rows: Array = dense.reshape(len(a), math.prod(a.shape[1:]))
    return rows
