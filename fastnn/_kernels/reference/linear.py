"""Linear layers."""

from __future__ import annotations

from ..kernel import Array


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x Wᵀ + b.

    x: (N, I), weight: (O, I), bias: (O,) or None. Returns y: (N, O).
    """
    y: Array = x @ weight.T
    return y if bias is None else y + bias


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
