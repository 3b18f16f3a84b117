"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Iterator

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


def _covered(size: int, p: int, kernel: int, stride: int, padding: int) -> tuple[slice, int]:
    """What window p covers of an axis, and how many elements it has there with the padding."""
    first = p * stride - padding
    end = min(first + kernel, size + padding)  # none beyond the padding, where `ceil_mode` lets a window reach
    return slice(max(first, 0), min(end, size)), end - first


def _average_windows(
    size: Pair, stride: Pair, padding: Pair, kernel_size: Pair, ceil_mode: bool, count_include_pad: bool, divisor: int
) -> Iterator[tuple[Pair, tuple[slice, slice], int]]:
    """Of each window its place (p, q), the pixels that it covers, and by what their sum is divided (PyTorch's rule)."""
    counts = (window_count(*axis, 1, ceil_mode) for axis in zip(size, kernel_size, stride, padding, strict=True))
    for place in np.ndindex(*counts):
        axes = zip(size, place, kernel_size, stride, padding, strict=True)
        (rows, height), (cols, width) = (_covered(*axis) for axis in axes)
        inside = (rows.stop - rows.start) * (cols.stop - cols.start)
        yield place, (rows, cols), divisor or (height * width if count_include_pad else inside)


def avg_pool2d(
    x: Array,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
    kernel_size: Pair,
) -> Array:
    """The sum of each window over `divisor`, or, where that is 0, over its size, with or without the padding.

    x: (N, C, H, W). Returns y: (N, C, P, Q).
    """
    how = (stride, padding, kernel_size, ceil_mode, count_include_pad, divisor)
    P, Q = (window_count(x.shape[2 + i], kernel_size[i], stride[i], padding[i], 1, ceil_mode) for i in (0, 1))
    y = np.empty((*x.shape[:2], P, Q), x.dtype)
    for (p, q), (rows, cols), size in _average_windows((x.shape[2], x.shape[3]), *how):
        y[:, :, p, q] = x[:, :, rows, cols].sum(axis=(2, 3)) / size
    return y


def avg_pool2d_backward(
    dy: Array,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
    kernel_size: Pair,
    input_size: Pair,
) -> Array:
    """Each window spreads its gradient evenly over its elements; where windows overlap, gradients add.

    dy: (N, C, P, Q). Returns dx: (N, C, H, W).
    """
    how = (stride, padding, kernel_size, ceil_mode, count_include_pad, divisor)
    dx = np.zeros((*dy.shape[:2], *input_size), dy.dtype)
    for (p, q), (rows, cols), size in _average_windows(input_size, *how):
        dx[:, :, rows, cols] += dy[:, :, p, q, None, None] / size
    return dx


def _adaptive_windows(size: Pair, output_size: Pair) -> Iterator[tuple[Pair, tuple[slice, slice]]]:
    """Of each of P x Q windows its place and the pixels from floor(p H / P) to ceil((p + 1) H / P), and so across."""
    for place in np.ndindex(output_size):
        rows, cols = (
            slice(p * n // count, -(-(p + 1) * n // count))
            for p, n, count in zip(place, size, output_size, strict=True)
        )
        yield place, (rows, cols)


def adaptive_avg_pool2d(x: Array, P: int, Q: int) -> Array:
    """The mean of each of P x Q windows that share the image between them, overlapping where they must.

    x: (N, C, H, W). Returns y: (N, C, P, Q).
    """
    y = np.empty((*x.shape[:2], P, Q), x.dtype)
    for (p, q), (rows, cols) in _adaptive_windows((x.shape[2], x.shape[3]), (P, Q)):
        y[:, :, p, q] = x[:, :, rows, cols].mean(axis=(2, 3))
    return y


def adaptive_avg_pool2d_backward(dy: Array, H: int, W: int) -> Array:
    """As `avg_pool2d_backward`, for the windows of `adaptive_avg_pool2d`.

    dy: (N, C, P, Q). Returns dx: (N, C, H, W).
    """
    dx = np.zeros((*dy.shape[:2], H, W), dy.dtype)
    for (p, q), (rows, cols) in _adaptive_windows((H, W), (dy.shape[2], dy.shape[3])):
        size = (rows.stop - rows.start) * (cols.stop - cols.start)
        dx[:, :, rows, cols] += dy[:, :, p, q, None, None] / size
    return dx
