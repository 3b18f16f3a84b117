"""Random changes of images: a block an image, each of whose threads makes the image's four random words for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from .dropout import philox
from .launch import BLOCK, MOST_BLOCKS, device, kernel

Pair = tuple[int, int]
Sizes = dict[str, int]

_KEY = "uint64, uint64, uint64"


@device
def _below(word: Any, count: int) -> Any:
    """A whole number from 0 to count - 1, evenly drawn by a 32-bit word."""
    return np.int64((word * np.uint64(count)) >> np.uint64(32))


@kernel(f"T[::1], T[::1], UniTuple(int64, 8), boolean, {_KEY}, T, boolean")
def _random_crop(
    to: Any,
    source: Any,
    sizes: tuple[int, ...],
    random: bool,
    seed: Any,
    layer: Any,
    step: int,
    fill: Any,
    backward: bool,
) -> None:
    """Forward each pixel of the window is taken from the image, backward each of the image from the window."""
    N, C, H, W, P, Q, PH, PW = sizes
    for n in range(cuda.blockIdx.x, N, cuda.gridDim.x):
        down, right = (H + 2 * PH - P) // 2, (W + 2 * PW - Q) // 2
        if random:
            w0, w1, _, _ = philox(np.uint64(n), seed, layer, step)
            down, right = _below(w0, H + 2 * PH - P + 1), _below(w1, W + 2 * PW - Q + 1)
        down, right = (PH - down, PW - right) if backward else (down - PH, right - PW)
        height, width = (H, W) if backward else (P, Q)
        from_height, from_width = (P, Q) if backward else (H, W)
        for i in range(cuda.threadIdx.x, height * width * C, BLOCK):
            h, w, c = i // C // width + down, i // C % width + right, i % C
            inside = 0 <= h < from_height and 0 <= w < from_width
            at = ((n * from_height + h) * from_width + w) * C + c
            to[n * height * width * C + i] = source[at] if inside else fill


def _numbers(key: Any) -> tuple[Any, ...]:
    return tuple(np.uint64(0 if key is None else part) for part in (range(3) if key is None else key))


def _crop(to: Any, source: Any, key: Any, padding: Pair, fill: float, backward: bool, dims: Sizes) -> None:
    sizes = *(dims[s] for s in ("N", "C", "H", "W", "P", "Q")), *padding
    if to.size:
        args = key is not None, *_numbers(key), to.dtype.type(fill), backward
        _random_crop[min(MOST_BLOCKS, dims["N"]), BLOCK](to, source, sizes, *args)


def random_crop(y: Any, x: Any, key: Any, *, size: Pair, padding: Pair, fill: float, dims: Sizes) -> None:
    """A window of each image, anywhere in the image with `fill` around it; without a key in the middle."""
    _crop(y, x, key, padding, fill, False, dims)


def random_crop_backward(
    dx: Any, dy: Any, key: Any, *, size: Pair, padding: Pair, input_size: Pair, dims: Sizes
) -> None:
    """Each window's gradient where the window was; 0 elsewhere."""
    _crop(dx, dy, key, padding, 0.0, True, dims)


@kernel(f"T[::1], T[::1], UniTuple(int64, 4), {_KEY}, uint64")
def _random_flip(y: Any, x: Any, sizes: tuple[int, ...], seed: Any, layer: Any, step: Any, least: Any) -> None:
    N, C, H, W = sizes
    for n in range(cuda.blockIdx.x, N, cuda.gridDim.x):
        flipped = philox(np.uint64(n), seed, layer, step)[0] < least
        for i in range(cuda.threadIdx.x, H * W * C, BLOCK):
            row, w, c = i // C // W, i // C % W, i % C
            at = (row * W + (W - 1 - w if flipped else w)) * C + c
            y[n * H * W * C + i] = x[n * H * W * C + at]


def random_flip(y: Any, x: Any, key: Any, *, p: float, dims: Sizes) -> None:
    """Each image mirrored left to right with probability p."""
    sizes = tuple(dims[s] for s in "NCHW")
    if y.size:
        _random_flip[min(MOST_BLOCKS, dims["N"]), BLOCK](y, x, sizes, *_numbers(key), np.uint64(p * 2**32))


@kernel(f"T[::1], T[::1], UniTuple(int64, 6), {_KEY}, T")
def _cutout(y: Any, x: Any, sizes: tuple[int, ...], seed: Any, layer: Any, step: Any, fill: Any) -> None:
    N, C, H, W, height, width = sizes
    for n in range(cuda.blockIdx.x, N, cuda.gridDim.x):
        w0, w1, _, _ = philox(np.uint64(n), seed, layer, step)
        top, left = _below(w0, H) - height // 2, _below(w1, W) - width // 2
        for i in range(cuda.threadIdx.x, H * W * C, BLOCK):
            h, w = i // C // W, i // C % W
            inside = top <= h < top + height and left <= w < left + width
            y[n * H * W * C + i] = fill if inside else x[n * H * W * C + i]


def cutout(y: Any, x: Any, key: Any, *, size: Pair, fill: float, dims: Sizes) -> None:
    """A rectangle of each image replaced by `fill`: its centre is any pixel, so part of it may lie outside."""
    sizes = *(dims[s] for s in "NCHW"), *size
    if y.size:
        _cutout[min(MOST_BLOCKS, dims["N"]), BLOCK](y, x, sizes, *_numbers(key), y.dtype.type(fill))
