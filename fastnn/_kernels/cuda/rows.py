"""Kernels that go along the rows of a matrix: each row is the work of a few neighbouring threads, its lanes.

Lanes go along a row together, so that what they read lies side by side; their number follows from the row's length, so
that short rows, of ten classes, leave no thread idle. All threads of a block take part in its sums.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import BLOCK, MOST_BLOCKS, SMALL, device

MOST_LANES = 2 if SMALL else 32


def lanes_for(K: int) -> int:
    """How many threads share a row of K numbers: a power of two."""
    lanes = 1
    while lanes < MOST_LANES and 4 * lanes < K:
        lanes *= 2
    return lanes


def blocks_for(N: int, lanes: int, most: int = MOST_BLOCKS) -> int:
    """How many blocks N rows take."""
    return min(most, -(-N * lanes // BLOCK))


def over_rows(kernel: Any, N: int, K: int, *args: Any) -> None:
    """Launch a kernel over N rows of K numbers; its last argument is the number of lanes. Nothing for no rows."""
    if N:
        lanes = lanes_for(K)
        kernel[blocks_for(N, lanes), BLOCK](*args, lanes)


@device
def row_sum(value: Any, shared: Any, lanes: int) -> Any:
    """The sum over a row's lanes, at each of them; shared: BLOCK numbers."""
    t = cuda.threadIdx.x
    shared[t] = value
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if t % lanes < step:
            shared[t] += shared[t + step]
        cuda.syncthreads()
        step //= 2
    total = shared[t - t % lanes]
    cuda.syncthreads()  # before another sum uses the same memory
    return total


@device
def row_max(value: Any, shared: Any, lanes: int) -> Any:
    """The largest over a row's lanes, at each of them; NaN counts for nothing. shared: BLOCK numbers."""
    t = cuda.threadIdx.x
    shared[t] = value
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if t % lanes < step and shared[t + step] > shared[t]:
            shared[t] = shared[t + step]
        cuda.syncthreads()
        step //= 2
    largest = shared[t - t % lanes]
    cuda.syncthreads()
    return largest
