"""Activations."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def relu(x: Array) -> Array:
    """y = max(x, 0), elementwise; NaN stays NaN.

    x: any shape. Returns y of the same shape.
    """
    return np.where(x <= 0, 0, x)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where the output was positive (or NaN), else 0.

    dy, y: any shape, y being the output of `relu`. Returns dx of the same shape.
    """
    return np.where(y <= 0, 0, dy)
