"""Clipping of gradients, by their norm and by value (see `reference`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float64

from .elementwise import unary
from .launch import BLOCK, block_sum, device, kernel, over, parts
from .scratch import scratch
from .sums import leave, or_else

Sizes = dict[str, int]


@device
def _power(x: Any, p: Any) -> Any:
    size = abs(np.float64(x))
    return size * size if p == 2 else size if p == 1 else size**p


@device
def _larger(a: Any, b: Any) -> Any:
    """The larger one; NaN is larger than any number."""
    return a if a > b or a != a else b


@kernel("float64[::1], T[::1], int64, float64")
def _powers(sums: Any, x: Any, n: int, p: Any) -> None:
    total = np.float64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total += _power(x[i], p)
    leave(sums, block_sum(total))


@kernel("float64[::1], T[::1], int64, float64")
def _largest(found: Any, x: Any, n: int, p: Any) -> None:
    shared = cuda.shared.array(BLOCK, float64)
    t, most = cuda.threadIdx.x, np.float64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        most = _larger(abs(np.float64(x[i])), most)
    shared[t] = most
    cuda.syncthreads()
    step = BLOCK // 2
    while step > 0:
        if t < step:
            shared[t] = _larger(shared[t], shared[t + step])
        cuda.syncthreads()
        step //= 2
    leave(found, shared[0])


@kernel("float64[::1], float64[::1], int64, float64[::1], boolean, boolean")
def _together(total: Any, sums: Any, count: int, before: Any, has_before: bool, largest: bool) -> None:
    """One thread goes through the blocks' results, a few hundred, in order."""
    found = np.float64(0)
    for i in range(count):
        found = _larger(sums[i], found) if largest else found + sums[i]
    if has_before:
        found = _larger(before[0], found) if largest else before[0] + found
    total[0] = found


def power_sum(total: Any, x: Any, before: Any, *, norm_type: float, dims: Sizes) -> None:
    """Σ |x|^p, or the largest |x| for p = inf, going on from `before`."""
    n, largest = dims["n"], norm_type == math.inf
    blocks, first = parts(n), _largest if largest else _powers
    if blocks == 1 and before is None:
        first[1, BLOCK](total, x, n, float(norm_type))
        return
    with scratch(np.float64, blocks) as (sums,):
        first[blocks, BLOCK](sums, x, n, float(norm_type))
        _together[1, 1](total, sums, blocks, or_else(before, sums), before is not None, largest)


@kernel("float64[::1], float64[::1], float64[::1], float64, float64")
def _clip_scale(norm: Any, scale: Any, total: Any, p: Any, max_norm: Any) -> None:
    found = total[0]
    if p == 2:
        found = np.float64(math.sqrt(found))
    elif not math.isinf(p):
        found = found ** (np.float64(1) / p)
    factor = max_norm / (found + np.float64(1e-6))
    norm[0] = found
    scale[0] = np.float64(1) if factor > np.float64(1) else factor


def clip_scale(norm: Any, scale: Any, total: Any, *, norm_type: float, max_norm: float, dims: Sizes) -> None:
    """The norm, and by what gradients are multiplied for it to be max_norm at most."""
    _clip_scale[1, 1](norm, scale, total, np.float64(norm_type), np.float64(max_norm))


@kernel("T[::1], float64[::1], int64")
def _clip_by_scale(grad: Any, scale: Any, n: int) -> None:
    factor = grad.dtype.type(scale[0])
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        grad[i] *= factor


def clip_by_scale(grad: Any, scale: Any, *, dims: Sizes) -> None:
    """grad ← scale · grad."""
    over(_clip_by_scale, dims["n"], grad, scale, dims["n"])


def _clipped(T: Any, x: Any, limit: Any, b: Any) -> Any:
    return limit if x > limit else (-limit if x < -limit else x)


_clip_by_value = unary(_clipped, "limit")


def clip_by_value(grad: Any, *, limit: float, dims: Sizes) -> None:
    """grad ← min(max(grad, -limit), limit); NaN stays."""
    _clip_by_value(grad, grad, dims=dims, limit=limit)
