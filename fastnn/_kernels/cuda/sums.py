"""Totals over a whole grid: each block of a kernel leaves a partial sum, which one block then adds up, in order.

Device functions with shared memory of their own, as `block_sum` and `of_thread_0`, are for kernels alone: one that is
linked both directly and through another device function, Numba's compiler refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import cuda, float64

from .launch import BLOCK, block_sum, device, kernel
from .scratch import scratch

#: Bits of the number by which a kernel of losses knows what it is given.
SAMPLE_WEIGHT, WEIGHT, POS_WEIGHT, MEAN, GRADIENT = 1, 2, 4, 8, 16


@device
def of_thread_0(value: Any) -> Any:
    """What thread 0 of the block has, in float64, at every thread."""
    shared = cuda.shared.array(1, float64)
    if cuda.threadIdx.x == 0:
        shared[0] = value
    cuda.syncthreads()
    found = shared[0]
    cuda.syncthreads()  # before another value uses the same memory
    return found


@device
def leave(parts: Any, value: Any) -> Any:
    """A block's part of a sum, which is thread 0's value."""
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = parts.dtype.type(value)


@kernel("float64[::1], float64[::1], int64", "int64[::1], int64[::1], int64")
def _total(total: Any, parts: Any, count: int) -> None:
    found = 0.0
    for i in range(cuda.threadIdx.x, count, BLOCK):
        found += parts[i]
    leave(total, block_sum(found))


def in_parts(total: Any, blocks: int, launch: Callable[[Any], None]) -> None:
    """total: (1,), the sum of what ``launch(parts)`` leaves there, a number for each of its blocks."""
    if blocks == 1:
        launch(total)
        return
    with scratch(total.dtype, blocks) as (parts,):
        launch(parts)
        _total[1, BLOCK](total, parts, blocks)


def given(has: dict[int, Any]) -> int:
    """The bits of those that are there."""
    return sum(bit for bit, there in has.items() if there is not None and there is not False)


def or_else(a: Any, other: Any) -> Any:
    """An array to pass where there is none: `other`, which the kernel then does not look at."""
    return other if a is None else a


@cache
def nothing(dtype: str) -> Any:
    """An array to pass where there is none, and none other of its dtype."""
    return cuda.device_array(1, dtype)
