"""Max and average pooling: a thread a number, neighbours along the channels (see `reference` for the rules).

Backwards, each pixel gathers from the windows that saw it, in the order of the reference's sums: nothing is added to by
two threads.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from .launch import device, kernel, over
from .sums import nothing, or_else

Pair = tuple[int, int]
Sizes = dict[str, int]


@kernel("T[::1], uint16[::1], T[::1], UniTuple(int64, 14), boolean")
def _max_pool2d(y: Any, index: Any, x: Any, sizes: tuple[int, ...], wants_index: bool) -> None:
    C, H, W, P, Q, KH, KW, SH, SW, PH, PW, DH, DW, n = sizes
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        top, left = pixel // Q % P * SH - PH, pixel % Q * SW - PW
        image = pixel // (P * Q) * H * W
        best, place = x.dtype.type(-math.inf), -1
        for kh in range(KH):
            h = top + kh * DH
            for kw in range(KW):
                w = left + kw * DW
                if 0 <= h < H and 0 <= w < W:
                    v = x[(image + h * W + w) * C + c]
                    if v > best or v != v or place < 0:  # a NaN wins over all before it
                        best, place = v, kh * KW + kw
        y[i] = best
        if wants_index:
            index[i] = place


def max_pool2d(
    y: Any,
    index: Any,
    x: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    kernel_size: Pair,
    ceil_mode: bool,
    dims: Sizes,
) -> None:
    """The largest element of each window, and where in the window it is."""
    n = dims["N"] * dims["P"] * dims["Q"] * dims["C"]
    sizes = *(dims[s] for s in ("C", "H", "W", "P", "Q")), *kernel_size, *stride, *padding, *dilation, n
    over(_max_pool2d, n, y, or_else(index, nothing("uint16")), x, sizes, index is not None)


@kernel("T[::1], T[::1], uint16[::1], UniTuple(int64, 14)")
def _max_pool2d_backward(dx: Any, dy: Any, index: Any, sizes: tuple[int, ...]) -> None:
    C, H, W, P, Q, KH, KW, SH, SW, PH, PW, DH, DW, n = sizes
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        h, w = pixel // W % H + PH, pixel % W + PW
        image = pixel // (H * W) * P * Q
        total = dy.dtype.type(0)
        for kh in range(KH):
            top = h - kh * DH
            if top >= 0 and top % SH == 0 and top // SH < P:
                for kw in range(KW):
                    left = w - kw * DW
                    if left >= 0 and left % SW == 0 and left // SW < Q:
                        at = (image + top // SH * Q + left // SW) * C + c
                        if index[at] == kh * KW + kw:
                            total += dy[at]
        dx[i] = total


def max_pool2d_backward(
    dx: Any,
    dy: Any,
    index: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    kernel_size: Pair,
    ceil_mode: bool,
    input_size: Pair,
    dims: Sizes,
) -> None:
    """Each window sends its gradient to the element that it chose; where windows overlap, gradients add."""
    n = dims["N"] * dims["H"] * dims["W"] * dims["C"]
    sizes = *(dims[s] for s in ("C", "H", "W", "P", "Q")), *kernel_size, *stride, *padding, *dilation, n
    over(_max_pool2d_backward, n, dx, dy, index, sizes)


@device
def _divisor(
    h: Any, w: Any, H: int, W: int, KH: int, KW: int, PH: int, PW: int, with_padding: Any, divisor: Any
) -> Any:
    """By what the sum of the window that begins at (h, w) is divided."""
    if divisor:
        return divisor
    if with_padding:  # none beyond the padding, where `ceil_mode` lets a window reach
        return (min(h + KH, H + PH) - h) * (min(w + KW, W + PW) - w)
    return (min(h + KH, H) - max(h, 0)) * (min(w + KW, W) - max(w, 0))


@kernel("T[::1], T[::1], UniTuple(int64, 14)")
def _avg_pool2d(y: Any, x: Any, sizes: tuple[int, ...]) -> None:
    C, H, W, P, Q, KH, KW, SH, SW, PH, PW, with_padding, divisor, n = sizes
    T = x.dtype.type
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        top, left = pixel // Q % P * SH - PH, pixel % Q * SW - PW
        image = pixel // (P * Q) * H * W
        total = T(0)
        for h in range(max(top, 0), min(top + KH, H)):
            for w in range(max(left, 0), min(left + KW, W)):
                total += x[(image + h * W + w) * C + c]
        y[i] = total / T(_divisor(top, left, H, W, KH, KW, PH, PW, with_padding, divisor))


@kernel("T[::1], T[::1], UniTuple(int64, 14)")
def _avg_pool2d_backward(dx: Any, dy: Any, sizes: tuple[int, ...]) -> None:
    C, H, W, P, Q, KH, KW, SH, SW, PH, PW, with_padding, divisor, n = sizes
    T = dy.dtype.type
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        h, w = pixel // W % H + PH, pixel % W + PW
        image = pixel // (H * W) * P * Q
        total = T(0)
        for p in range(max(h - KH + SH, 0) // SH, min(h // SH + 1, P)):
            for q in range(max(w - KW + SW, 0) // SW, min(w // SW + 1, Q)):
                size = _divisor(p * SH - PH, q * SW - PW, H, W, KH, KW, PH, PW, with_padding, divisor)
                total += dy[(image + p * Q + q) * C + c] / T(size)
        dx[i] = total


def avg_pool2d(
    y: Any,
    x: Any,
    *,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
    kernel_size: Pair,
    dims: Sizes,
) -> None:
    """The sum of each window over `divisor`, or, where that is 0, over its size, with or without the padding."""
    n = dims["N"] * dims["P"] * dims["Q"] * dims["C"]
    how = *kernel_size, *stride, *padding, int(count_include_pad), divisor
    over(_avg_pool2d, n, y, x, (*(dims[s] for s in ("C", "H", "W", "P", "Q")), *how, n))


def avg_pool2d_backward(
    dx: Any,
    dy: Any,
    *,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
    kernel_size: Pair,
    input_size: Pair,
    dims: Sizes,
) -> None:
    """Each window spreads its gradient evenly over its elements; where windows overlap, gradients add."""
    n = dims["N"] * dims["H"] * dims["W"] * dims["C"]
    how = *kernel_size, *stride, *padding, int(count_include_pad), divisor
    over(_avg_pool2d_backward, n, dx, dy, (*(dims[s] for s in ("C", "H", "W", "P", "Q")), *how, n))


@device
def _begins(p: Any, size: int, count: int) -> Any:
    """The first pixel of window p of `count` windows that share `size` pixels."""
    return p * size // count


@device
def _ends(p: Any, size: int, count: int) -> Any:
    """One behind the last pixel of window p."""
    return ((p + 1) * size + count - 1) // count


@kernel("T[::1], T[::1], UniTuple(int64, 6)")
def _adaptive(y: Any, x: Any, sizes: tuple[int, ...]) -> None:
    C, H, W, P, Q, n = sizes
    T = x.dtype.type
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        p, q, image = pixel // Q % P, pixel % Q, pixel // (P * Q) * H * W
        top, bottom = _begins(p, H, P), _ends(p, H, P)
        left, right = _begins(q, W, Q), _ends(q, W, Q)
        total = T(0)
        for h in range(top, bottom):
            for w in range(left, right):
                total += x[(image + h * W + w) * C + c]
        y[i] = total / T((bottom - top) * (right - left))


@kernel("T[::1], T[::1], UniTuple(int64, 6)")
def _adaptive_backward(dx: Any, dy: Any, sizes: tuple[int, ...]) -> None:
    """A pixel lies in the windows from floor(h P / H) to ceil((h + 1) P / H) - 1: the other way round the same rule."""
    C, H, W, P, Q, n = sizes
    T = dy.dtype.type
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        c, pixel = i % C, i // C
        h, w, image = pixel // W % H, pixel % W, pixel // (H * W) * P * Q
        total = T(0)
        for p in range(_begins(h, P, H), _ends(h, P, H)):
            for q in range(_begins(w, Q, W), _ends(w, Q, W)):
                size = (_ends(p, H, P) - _begins(p, H, P)) * (_ends(q, W, Q) - _begins(q, W, Q))
                total += dy[(image + p * Q + q) * C + c] / T(size)
        dx[i] = total


def adaptive_avg_pool2d(y: Any, x: Any, *, P: int, Q: int, dims: Sizes) -> None:
    """The mean of each of P x Q windows that share the image between them, overlapping where they must."""
    n = dims["N"] * P * Q * dims["C"]
    over(_adaptive, n, y, x, (*(dims[s] for s in ("C", "H", "W")), P, Q, n))


def adaptive_avg_pool2d_backward(dx: Any, dy: Any, *, H: int, W: int, dims: Sizes) -> None:
    """As `avg_pool2d_backward`, for the windows of `adaptive_avg_pool2d`."""
    n = dims["N"] * H * W * dims["C"]
    over(_adaptive_backward, n, dx, dy, (dims["C"], H, W, dims["P"], dims["Q"], n))
