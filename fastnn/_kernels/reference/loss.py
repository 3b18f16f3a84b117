"""Softmax, losses of rows of scores, and the counts of right answers.

`sample_weight` has a weight for each sample, which is `positions` neighbouring rows; None weighs all alike.
"""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def log_softmax(scores: Array) -> Array:
    """s - log Σ exp(s) of each row (N, K)."""
    shifted = scores - scores.max(axis=1, keepdims=True)  # the shift cancels, and keeps exp from overflowing
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def softmax(scores: Array) -> Array:
    """exp(s) / Σ exp(s) of each row.

    scores: (N, K). Returns probabilities: (N, K).
    """
    exps = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = exps / exps.sum(axis=1, keepdims=True)
    return probabilities


def of_rows(sample_weight: Array | None, N: int, positions: int) -> Array:
    """The weight of each row: (N,) float64."""
    return np.ones(N) if sample_weight is None else np.repeat(sample_weight, positions).astype(np.float64)


def reduced(losses: Array, dlosses: Array, weights: Array, divisor: float, left_out: Array) -> tuple[Array, Array]:
    """Σ weights · losses / divisor: (1,) float64, and its gradient (N, K); rows left out have neither."""
    loss = np.where(left_out, 0, weights * losses).sum(keepdims=True, dtype=np.float64) / divisor
    return loss, np.where(left_out[:, None], 0, dlosses * shares_of(weights, divisor)[:, None])


def shares_of(weights: Array, divisor: float) -> Array:
    """weights / divisor; zeros where all together weigh nothing, so that there is no gradient."""
    return weights / np.float64(divisor) if divisor != 0 else np.zeros_like(weights)


def cross_entropy(
    scores: Array,
    labels: Array,
    sample_weight: Array | None = None,
    weight: Array | None = None,
    mean: bool = True,
    positions: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """loss = -Σₖ aₖ log softmax(s)ₖ of a row, aₖ = (1 - ε) w[label] [k = label] + ε wₖ / K with ε = label_smoothing.

    Szegedy et al.: "Rethinking the Inception architecture", CVPR 2016, section 7; weights as in PyTorch: the mean is
    Σ v loss / Σ v w[label] over all rows whose label is not `ignore_index`, v being the sample's weight.
    Any other label outside 0 to K - 1 makes the loss NaN, counts like a class of weight 1, and has no gradient.
    scores: (N, K), labels: (N,) int64, sample_weight: (N / positions,) or None, weight w: (K,) or None, for ones.
    Returns loss: (1,) float64, dscores: (N, K).
    """
    N, K = scores.shape
    rows, known, ignored = np.arange(N), (labels >= 0) & (labels < K), labels == ignore_index
    label, w = np.where(known, labels, 0), np.ones(K, scores.dtype) if weight is None else weight
    of_label = np.where(known, w[label], 1)
    logs = log_softmax(scores)
    losses = -(1 - label_smoothing) * of_label * logs[rows, label]
    shares = np.tile(label_smoothing / K * w, (N, 1))
    if label_smoothing:
        losses = losses - (shares * logs).sum(axis=1)
    shares[rows, label] += (1 - label_smoothing) * of_label
    dlosses = softmax(scores) * shares.sum(axis=1, keepdims=True) - shares
    weights = of_rows(sample_weight, N, positions)
    divisor = np.sum((weights * of_label)[~ignored]) if mean else 1.0
    loss, dscores = reduced(np.where(known, losses, np.nan), dlosses, weights, divisor, ignored)
    return loss, np.where(known[:, None], dscores, 0)


def soft_cross_entropy(
    scores: Array,
    target: Array,
    sample_weight: Array | None = None,
    weight: Array | None = None,
    mean: bool = True,
    positions: int = 1,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """loss = -Σₖ aₖ log softmax(s)ₖ of a row, aₖ = wₖ ((1 - ε) targetₖ + ε / K) with ε = label_smoothing.

    The mean is Σ v loss / Σ v, v being the sample's weight: as in PyTorch, the classes' weights do not count in it.
    scores, target: (N, K), sample_weight: (N / positions,) or None, weight w: (K,) or None, for ones.
    Returns loss: (1,) float64, dscores: (N, K).
    """
    N, K = scores.shape
    shares = ((1 - label_smoothing) * target + label_smoothing / K) * (1 if weight is None else weight)
    losses = -(shares * log_softmax(scores)).sum(axis=1)
    dlosses = softmax(scores) * shares.sum(axis=1, keepdims=True) - shares
    weights = of_rows(sample_weight, N, positions)
    return reduced(losses, dlosses, weights, weights.sum() if mean else 1.0, np.zeros(N, bool))


def nll(
    log_probabilities: Array,
    labels: Array,
    sample_weight: Array | None = None,
    weight: Array | None = None,
    mean: bool = True,
    positions: int = 1,
    ignore_index: int = -100,
) -> tuple[Array, Array]:
    """loss = -w[label] log_probabilities[label] of a row; the mean, and labels that are no class, as in cross_entropy.

    log_probabilities: (N, K), labels: (N,) int64, sample_weight: (N / positions,) or None, weight w: (K,) or None, for
    ones. Returns loss: (1,) float64, dscores: (N, K).
    """
    N, K = log_probabilities.shape
    known, ignored = (labels >= 0) & (labels < K), labels == ignore_index
    label, w = np.where(known, labels, 0), np.ones(K, log_probabilities.dtype) if weight is None else weight
    of_label = np.where(known, w[label], 1)
    weights = of_rows(sample_weight, N, positions) * of_label
    divisor = weights[~ignored].sum() if mean else np.float64(1)
    losses = np.where(known, -weights * log_probabilities[np.arange(N), label], np.nan)
    dscores, rows = np.zeros_like(log_probabilities), np.flatnonzero(known & ~ignored)
    dscores[rows, label[rows]] = -shares_of(weights, divisor)[rows]
    return np.where(ignored, 0, losses).sum(keepdims=True, dtype=np.float64) / divisor, dscores


def multi_margin(
    scores: Array,
    labels: Array,
    sample_weight: Array | None = None,
    weight: Array | None = None,
    mean: bool = True,
    positions: int = 1,
    class_mean: bool = True,
    p: int = 1,
    margin: float = 1.0,
) -> tuple[Array, Array]:
    """loss = w[label] Σ max(0, margin - s[label] + sₖ)ᵖ over all k but the label, by K if `class_mean`.

    Weston, Watkins: "Support vector machines for multi-class pattern recognition", ESANN 1999; Stanford's course CS231n
    sums over the classes, PyTorch takes their mean. The mean over rows is Σ v loss / Σ v, v being the sample's weight.
    A label outside 0 to K - 1 makes the loss NaN, and has no gradient.
    scores: (N, K), labels: (N,) int64, sample_weight: (N / positions,) or None, weight w: (K,) or None, for ones.
    Returns loss: (1,) float64, dscores: (N, K).
    """
    N, K = scores.shape
    rows, known = np.arange(N), (labels >= 0) & (labels < K)
    label = np.where(known, labels, 0)
    factor = (1 if weight is None else weight[label]) / (K if class_mean else 1) * np.ones(N, scores.dtype)
    z = margin - scores[rows, label][:, None] + scores
    z[rows, label] = 0
    z = np.where(z > 0, z, 0)
    losses = np.where(known, factor * (z**p).sum(axis=1), np.nan)
    dlosses = factor[:, None] * (z > 0 if p == 1 else 2 * z)
    dlosses[rows, label] = -dlosses.sum(axis=1)
    weights = of_rows(sample_weight, N, positions)
    loss, dscores = reduced(losses, dlosses, weights, weights.sum() if mean else 1.0, np.zeros(N, bool))
    return loss, np.where(known[:, None], dscores, 0)


def count_correct(
    scores: Array, labels: Array, among: Array | None = None, positions: int = 1, ignore_index: int = -100
) -> tuple[Array, Array]:
    """How many samples have, at each of their rows, the largest score at the label, and which.

    The first of equals is the largest, and NaN is larger than any number. Rows labelled `ignore_index` do not matter,
    but a sample with no other rows is not right.
    scores: (N, K), labels: (N,) int64, among: (N / positions,) bool or None, the samples that may count.
    Returns count: (1,) int64, right: (N / positions,) bool.
    """
    ignored = (labels == ignore_index).reshape(-1, positions)
    hits = (scores.argmax(axis=1) == labels).reshape(-1, positions)
    right = (hits | ignored).all(axis=1) & ~ignored.all(axis=1) & (True if among is None else among)
    return right.sum(keepdims=True), right


def count_agreeing(scores: Array, target: Array, among: Array | None = None, positions: int = 1) -> tuple[Array, Array]:
    """As `count_correct`, the label of a row being where its target is largest.

    scores, target: (N, K), among: (N / positions,) bool or None.
    Returns count: (1,) int64, right: (N / positions,) bool.
    """
    return count_correct(scores, target.argmax(axis=1), among, positions, ignore_index=-1)
