"""Softmax, its loss, and the count of right answers."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def softmax(scores: Array) -> Array:
    """exp(s) / Σ exp(s) of each row.

    scores: (N, K). Returns probabilities: (N, K).
    """
    exps = np.exp(scores - scores.max(axis=1, keepdims=True))  # the shift cancels, and keeps exp from overflowing
    probabilities: Array = exps / exps.sum(axis=1, keepdims=True)
    return probabilities


def cross_entropy(scores: Array, labels: Array, mean: bool) -> tuple[Array, Array]:
    """loss = Σ (log Σ exp(s) - s[label]) over the rows, and its gradient softmax(s) - onehot(label).

    Both are divided by N for the mean, which makes the loss of no rows NaN.
    A label outside 0 to K - 1 makes the loss NaN and leaves its row's gradient at zero.
    scores: (N, K), labels: (N,) int64. Returns loss: (1,) float64, dscores: (N, K).
    """
    N, K = scores.shape
    rows, known = np.arange(N), (labels >= 0) & (labels < K)
    label = np.where(known, labels, 0)
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, label]
    dscores = softmax(scores)
    dscores[rows, label] -= 1
    dscores[~known] = 0
    loss = np.where(known, losses, np.nan).sum(keepdims=True, dtype=np.float64)
    return (loss / N, dscores / N) if mean else (loss, dscores)


def count_correct(scores: Array, labels: Array) -> Array:
    """How many rows have their largest score at their label.

    The first of equals is the largest, and NaN is larger than any number.
    scores: (N, K), labels: (N,) int64. Returns count: (1,) int64.
    """
    count: Array = np.sum(scores.argmax(axis=1) == labels, keepdims=True)
    return count
