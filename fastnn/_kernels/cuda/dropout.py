"""Dropout: the reference's random numbers, Philox4x32-10 of (seed, layer, step, element), made on the device.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from .launch import BLOCK, MOST_BLOCKS, SMALL, device, kernel, over

Sizes = dict[str, int]

SLICES = 2 if SMALL else 16  #: in how many the pixels of an image are cut, at most


@device
def philox(block: Any, seed: Any, layer: Any, step: Any) -> Any:
    """The four random words, each in 64 bits, of a block of four elements; all arguments uint64."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = block & low, block >> half, layer & low, step & low
    k0, k1 = seed & low, seed >> half
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (product1 >> half) ^ c1 ^ k0, product1 & low
        c2, c3 = (product0 >> half) ^ c3 ^ k1, product0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@device
def word_of(i: int, seed: Any, layer: Any, step: Any) -> Any:
    """The random word of element i."""
    words = philox(np.uint64(i // 4), seed, layer, step)
    j = i % 4
    return words[0] if j == 0 else words[1] if j == 1 else words[2] if j == 2 else words[3]


@device
def _drop(y: Any, x: Any, i: int, n: int, word: Any, least: Any, scale: Any) -> Any:
    if i < n:
        y[i] = x.dtype.type(0) if word < least else x[i] * scale


@kernel("T[::1], T[::1], int64, uint64, uint64, uint64, uint64, T")
def _dropout(y: Any, x: Any, n: int, seed: Any, layer: Any, step: Any, least: Any, scale: Any) -> None:
    """A thread makes the words of four elements."""
    for block in range(cuda.grid(1), (n + 3) // 4, cuda.gridsize(1)):
        w0, w1, w2, w3 = philox(np.uint64(block), seed, layer, step)
        i = 4 * block
        _drop(y, x, i, n, w0, least, scale)
        _drop(y, x, i + 1, n, w1, least, scale)
        _drop(y, x, i + 2, n, w2, least, scale)
        _drop(y, x, i + 3, n, w3, least, scale)


@kernel("T[::1], T[::1], int64, int64, int64, uint64, uint64, uint64, uint64, T")
def _dropout2d(
    y: Any, x: Any, images: int, C: int, pixels: int, seed: Any, layer: Any, step: Any, least: Any, scale: Any
) -> None:
    """A thread has a channel of an image, and makes its word once for a slice of the pixels."""
    for i in range(cuda.grid(1), images * C, cuda.gridDim.x * cuda.blockDim.x):
        dropped, first = word_of(i, seed, layer, step) < least, i // C * pixels
        for pixel in range(first + cuda.blockIdx.y, first + pixels, cuda.gridDim.y):
            at = pixel * C + i % C
            y[at] = x.dtype.type(0) if dropped else x[at] * scale


def _drawn(x: Any, key: Any, p: float) -> tuple[Any, ...]:
    """The key's numbers, the least word of an element that stays, and by what that is multiplied."""
    scale = x.dtype.type(1 / (1 - p)) if p < 1 else x.dtype.type(0)
    return (*(np.uint64(part) for part in key), np.uint64(p * 2**32), scale)


def dropout(y: Any, x: Any, key: Any, *, p: float, dims: Sizes) -> None:
    """Each element is dropped with probability p, else divided by 1 - p."""
    over(_dropout, -(-x.size // 4), y, x, x.size, *_drawn(x, key, p))


def dropout2d(y: Any, x: Any, key: Any, *, p: float, dims: Sizes) -> None:
    """Each channel of each image is dropped with probability p, else divided by 1 - p."""
    N, C, pixels = dims["N"], dims["C"], dims["H"] * dims["W"]
    if x.size:
        blocks = min(MOST_BLOCKS, -(-N * C // BLOCK)), min(SLICES, pixels)
        _dropout2d[blocks, BLOCK](y, x, N, C, pixels, *_drawn(x, key, p))
