"""Losses that compare number by number, the count of right signs, an L2 penalty, and a loss by a factor."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .loss import shares_of


def reduced(losses: Array, dlosses: Array, sample_weight: Array | None, mean: bool) -> tuple[Array, Array]:
    """Σ v losses, by Σ v over all numbers for the mean: (1,) float64, and its gradient, of the shape of losses.

    losses, dlosses: (N, …), sample_weight v: (N,) or None, for ones.
    """
    v = np.ones(len(losses)) if sample_weight is None else sample_weight.astype(np.float64)
    v = np.broadcast_to(v.reshape(-1, *[1] * (losses.ndim - 1)), losses.shape)
    divisor = v.sum() if mean else np.float64(1)
    return np.sum(v * losses, keepdims=True).reshape(1) / divisor, dlosses * shares_of(v, divisor)


def mse(
    scores: Array, target: Array, sample_weight: Array | None = None, mean: bool = True, factor: float = 1.0
) -> tuple[Array, Array]:
    """loss = factor · (score - target)².

    scores, target: (N, …), sample_weight: (N,) or None. Returns loss: (1,) float64, dscores: (N, …).
    """
    error = scores - target
    return reduced(factor * error**2, 2 * factor * error, sample_weight, mean)


def l1(scores: Array, target: Array, sample_weight: Array | None = None, mean: bool = True) -> tuple[Array, Array]:
    """loss = |score - target|, with gradient 0 at 0.

    scores, target: (N, …), sample_weight: (N,) or None. Returns loss: (1,) float64, dscores: (N, …).
    """
    error = scores - target
    return reduced(np.abs(error), np.sign(error), sample_weight, mean)


def huber(
    scores: Array, target: Array, sample_weight: Array | None = None, mean: bool = True, delta: float = 1.0
) -> tuple[Array, Array]:
    """loss = ½ e² where |e| < delta, else delta (|e| - ½ delta), of the error e = score - target.

    Huber: "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).
    scores, target: (N, …), sample_weight: (N,) or None. Returns loss: (1,) float64, dscores: (N, …).
    """
    error = scores - target
    losses = np.where(np.abs(error) < delta, 0.5 * error**2, delta * (np.abs(error) - 0.5 * delta))
    return reduced(losses, np.clip(error, -delta, delta), sample_weight, mean)


def bce_with_logits(
    scores: Array,
    target: Array,
    sample_weight: Array | None = None,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    mean: bool = True,
) -> tuple[Array, Array]:
    """loss = -w (q t log σ(s) + (1 - t) log(1 - σ(s))) with the logistic function σ, score s and target t.

    Computed as w ((1 - t) s + (1 + (q - 1) t) log(1 + exp(-s))), which does not overflow (PyTorch's formula).
    scores, target: (N, D), sample_weight: (N,) or None, weight w and pos_weight q: (D,) or None, for ones.
    Returns loss: (1,) float64, dscores: (N, D).
    """
    w, q = (1 if a is None else a for a in (weight, pos_weight))
    share, tail = 1 + (q - 1) * target, np.exp(-np.abs(scores))
    losses = w * ((1 - target) * scores + share * (np.log1p(tail) + np.maximum(-scores, 0)))
    of_minus = np.where(scores >= 0, tail, 1) / (1 + tail)  # σ(-s)
    return reduced(losses, w * ((1 - target) - share * of_minus), sample_weight, mean)


def count_signs(scores: Array, target: Array, among: Array | None = None) -> tuple[Array, Array]:
    """How many samples have all their scores above 0 where the target is above ½, and nowhere else, and which.

    scores, target: (N, …), among: (N,) bool or None, the samples that may count.
    Returns count: (1,) int64, right: (N,) bool.
    """
    right = ((scores > 0) == (target > 0.5)).all(axis=tuple(range(1, scores.ndim)))
    right = right & (True if among is None else among)
    return right.sum(keepdims=True), right


def l2_penalty(param: Array, factor: float) -> tuple[Array, Array]:
    """loss = ½ factor Σ param².

    param: (n,). Returns loss: (1,) float64, dparam: (n,).
    """
    loss: Array = (param**2).sum(keepdims=True, dtype=np.float64)
    return 0.5 * factor * loss, factor * param


def scale(x: Array, factor: float) -> Array:
    """y = factor · x.

    x: any shape. Returns y of the shape of x.
    """
    y: Array = factor * x
    return y
