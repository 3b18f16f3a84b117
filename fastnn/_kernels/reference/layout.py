"""Moving elements without changing them."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def copy(x: Array, channels_last: bool) -> Array:
    """A copy in logical order, or, for a batch of images, in channels-last order.

    x: any shape; (N, C, H, W) where channels_last. Returns y of the same shape.
    """
    return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1) if channels_last else x.copy()


def gather_rows(x: Array, index: Array) -> Array:
    """y[b] = x[index[b]].

    x: (M, ...) of any dtype, index: (B,) int64 in 0 to M - 1. Returns y: (B, ...).
    """
    y: Array = x[index]
    return y
