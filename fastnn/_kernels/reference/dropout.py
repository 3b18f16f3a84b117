"""Dropout, with bits that depend on nothing but (seed, layer, step, element)."""

from __future__ import annotations

import numpy as np

from ..kernel import Array

WORD = np.uint64(0xFFFFFFFF)
ROUNDS = 10


def philox(counter: Array, key: Array) -> Array:
    """Philox4x32-10, a counter-based generator: four random words from four words of counter and two of key.

    Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
    counter: (4, ...) uint64, key: (2,) uint64, each element a 32-bit word. Returns (4, ...) uint64 of 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), product1 & WORD
        c2, c3 = (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), product0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def random_words(key: Array, count: int) -> Array:
    """The random words of elements 0 to count - 1: element i takes word i mod 4 of counter block i div 4.

    key: (3,) uint64, being seed, layer and step. Returns (count,) uint64 of 32-bit words.
    """
    seed, layer, step = key
    block = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.stack(np.broadcast_arrays(block & WORD, block >> np.uint64(32), layer & WORD, step & WORD))
    words: Array = philox(counter, np.array([seed & WORD, seed >> np.uint64(32)])).T.reshape(-1)
    return words[:count]


def next_key(state: Array) -> Array:
    """The key of this step's dropout; the state goes on to the next step.

    state: (3,) uint64, being seed, layer and step; its step is raised in place. Returns key: (3,) uint64.
    """
    key: Array = state.copy()
    state[2] += np.uint64(1)
    return key


def dropout(x: Array, key: Array, p: float) -> Array:
    """Each element is dropped with probability p, else divided by 1 - p.

    Also its own backward: the same key drops the same elements, by index in logical order.
    x: any shape, key: (3,) uint64. Returns y of the shape of x.
    """
    dropped: Array = random_words(key, x.size).reshape(x.shape) < np.uint64(p * 2**32)
    scale = x.dtype.type(1 / (1 - p)) if p < 1 else x.dtype.type(0)
    return np.where(dropped, 0, x * scale)


def dropout2d(x: Array, key: Array, p: float) -> Array:
    """Each channel of each image is dropped with probability p, else divided by 1 - p.

    Tompson et al.: "Efficient object localization using convolutional networks", 2015, section 3.2.
    Also its own backward, as `dropout`, of which channel c of image n has the element n * C + c.
    x: (N, C, H, W), key: (3,) uint64. Returns y: (N, C, H, W).
    """
    kept = dropout(np.ones(x.shape[:2], x.dtype), key, p)[:, :, None, None]
    return np.where(kept == 0, 0, x * kept)
