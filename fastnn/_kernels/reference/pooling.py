"""Max pooling."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from ..table import window_count
from .conv import Pair, crop, windows


def pad(x: Array, padding: Pair, stride: Pair, value: float) -> Array:
    """x: (N, C, H, W) with `value` around each image, and a stride further where `ceil_mode` may let windows reach."""
    (PH, PW), (SH, SW) = padding, stride
    return np.pad(x, ((0, 0), (0, 0), (PH, PH + SH), (PW, PW + SW)), constant_values=value)


def max_pool2d(
    x: Array, stride: Pair, padding: Pair, dilation: Pair, kernel_size: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """The largest element of each window, and where in the window it is, kh * KW + kw.

    The first of equals wins. A NaN wins over everything before it (PyTorch's rule). Padding is never chosen.
    x: (N, C, H, W). Returns y: (N, C, P, Q), index: (N, C, P, Q) uint16.
    """
    P, Q = (window_count(x.shape[2 + i], kernel_size[i], stride[i], padding[i], dilation[i], ceil_mode) for i in (0, 1))
    image = np.ones((1, 1, *x.shape[2:]), bool)
    seen = windows(pad(x, padding, stride, -np.inf), kernel_size, stride, dilation)[:, :, :P, :Q]
    inside = windows(pad(image, padding, stride, False), kernel_size, stride, dilation)[0, 0, :P, :Q]

    y = np.full(seen.shape[:4], -np.inf, x.dtype)
    index = np.zeros(y.shape, np.uint16)
    started = np.zeros((P, Q), bool)
    for tap, (h, w) in enumerate(np.ndindex(kernel_size)):
        v, real = seen[..., h, w], inside[..., h, w]
        better = real & ((v > y) | np.isnan(v) | ~started)
        y = np.where(better, v, y)
        index[better] = tap
        started |= real
    return y, index


def max_pool2d_backward(
    dy: Array,
    index: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    kernel_size: Pair,
    ceil_mode: bool,
    input_size: Pair,
) -> Array:
    """Each window sends its gradient to the element that it chose; where windows overlap, gradients add.

    dy: (N, C, P, Q), index: (N, C, P, Q) as from `max_pool2d`. Returns dx: (N, C, H, W).
    """
    N, C, P, Q = dy.shape
    dx = pad(np.zeros((N, C, *input_size), dy.dtype), padding, stride, 0)
    seen = windows(dx, kernel_size, stride, dilation)[:, :, :P, :Q]
    for tap, (h, w) in enumerate(np.ndindex(kernel_size)):
        seen[..., h, w] += np.where(index == tap, dy, 0)
    return crop(dx, padding, input_size)
