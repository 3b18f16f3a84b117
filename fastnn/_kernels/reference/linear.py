"""Linear layers."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def linear(x: Array, weight: Array, bias: Array | None, relu: bool) -> Array:
    """y = x Wᵀ + b, or with `relu` max(x Wᵀ + b, 0), where NaN passes.

    x: (N, I), weight: (O, I), bias: (O,) or None. Returns y: (N, O).
    """
    y: Array = x @ weight.T
    if bias is not None:
        y = y + bias
    return np.where(y <= 0, 0, y) if relu else y


def linear_backward_data(dy: Array, weight: Array) -> Array:
    """dx = dy W.

    dy: (N, O), weight: (O, I). Returns dx: (N, I).
    """
    dx: Array = dy @ weight
    return dx


def linear_backward_weights(dy: Array, x: Array) -> tuple[Array, Array]:
    """dW = dyᵀ x, and db = dy summed over the batch.

    dy: (N, O), x: (N, I). Returns dweight: (O, I), dbias: (O,).
    """
    return dy.T @ x, dy.sum(axis=0)
