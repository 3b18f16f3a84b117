"""Sums of branches, and branches side by side."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .activation import relu as rectified


def add(a: Array, b: Array, relu: bool) -> Array:
    """y = a + b, then ReLU if asked for, as where He et al. 2015 ("Deep Residual Learning", figure 2) join a shortcut.

    a, b: any one shape. Returns y of the same shape.
    """
    y: Array = a + b
    return rectified(y) if relu else y


def concatenate(*x: Array | None) -> Array:
    """Rows side by side; what is None is left out.

    x0: (R, K0), x1: (R, K1), … Returns y: (R, K0 + K1 + …).
    """
    y: Array = np.concatenate([part for part in x if part is not None], axis=1)
    return y


def columns(x: Array, start: int, count: int) -> Array:
    """Some columns of x, which are the gradient of one part of what `concatenate` joined.

    x: (R, K). Returns y: (R, count).
    """
    y: Array = x[:, start : start + count].copy()
    return y
