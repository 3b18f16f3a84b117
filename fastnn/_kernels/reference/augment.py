"""Random changes of images. Image n takes words 4n to 4n + 3 of its key's sequence (see `dropout.random_words`)."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .conv import Pair, crop
from .dropout import random_words


def words(key: Array, N: int) -> Array:
    """(N, 4) uint64 of 32-bit words."""
    return random_words(key, 4 * N).reshape(N, 4)


def below(word: Array, count: int) -> Array:
    """A whole number from 0 to count - 1, evenly drawn by a 32-bit word."""
    found: Array = (word * np.uint64(count) >> np.uint64(32)).astype(np.int64)
    return found


def corners(key: Array | None, N: int, room: Pair) -> Array:
    """Where a window's first row and column lie in each padded image, from 0 to `room`; without a key, in the middle.

    Returns (N, 2) int64.
    """
    if key is None:
        return np.full((N, 2), (room[0] // 2, room[1] // 2))
    drawn = words(key, N)
    return np.stack([below(drawn[:, i], room[i] + 1) for i in (0, 1)], 1)


def random_crop(x: Array, key: Array | None, size: Pair, padding: Pair, fill: float) -> Array:
    """A window of each image, anywhere in the image with `fill` around it.

    x: (N, C, H, W), key: (3,) uint64, or None for the window in the middle. Returns y: (N, C, P, Q), size being (P, Q).
    """
    N, C, H, W = x.shape
    (P, Q), (PH, PW) = size, padding
    padded = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)), constant_values=fill)
    y = np.empty((N, C, P, Q), x.dtype)
    for n, (h, w) in enumerate(corners(key, N, (H + 2 * PH - P, W + 2 * PW - Q))):
        y[n] = padded[n, :, h : h + P, w : w + Q]
    return y


def random_crop_backward(dy: Array, key: Array | None, size: Pair, padding: Pair, input_size: Pair) -> Array:
    """Each window's gradient where the window was; 0 elsewhere.

    dy: (N, C, P, Q), key: as of `random_crop`. Returns dx: (N, C, H, W), input_size being (H, W).
    """
    N, C, P, Q = dy.shape
    (H, W), (PH, PW) = input_size, padding
    dx = np.zeros((N, C, H + 2 * PH, W + 2 * PW), dy.dtype)
    for n, (h, w) in enumerate(corners(key, N, (H + 2 * PH - P, W + 2 * PW - Q))):
        dx[n, :, h : h + P, w : w + Q] = dy[n]
    return crop(dx, padding, input_size)


def random_flip(x: Array, key: Array, p: float) -> Array:
    """Each image mirrored left to right with probability p. Also its own backward: the same key flips the same ones.

    x: (N, C, H, W), key: (3,) uint64. Returns y: (N, C, H, W).
    """
    flipped = words(key, len(x))[:, 0] < np.uint64(p * 2**32)
    return np.where(flipped[:, None, None, None], x[..., ::-1], x)


def cutout(x: Array, key: Array, size: Pair, fill: float) -> Array:
    """A rectangle of each image replaced by `fill`: its centre is any pixel, so part of it may lie outside.

    DeVries, Taylor: "Improved regularization of convolutional neural networks with cutout", 2017, section 3.2.
    With fill 0 also its own backward. x: (N, C, H, W), key: (3,) uint64. Returns y: (N, C, H, W).
    """
    N, _, H, W = x.shape
    drawn = words(key, N)
    y: Array = x.copy()
    for n in range(N):
        h, w = (int(below(drawn[n, i], count)) - size[i] // 2 for i, count in ((0, H), (1, W)))
        y[n, :, max(h, 0) : max(h + size[0], 0), max(w, 0) : max(w + size[1], 0)] = fill
    return y
