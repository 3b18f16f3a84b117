"""Kernels that go down the columns of a matrix, as the channels of images whose pixels are its rows.

A block is as wide as the columns are many, up to a warp's 32, so that its threads read what lies side by side; the rows
are cut into parts, by the matrix's shape alone, whose sums are added up in order.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import BLOCK, PARTS, SMALL, device, kernel, over
from .scratch import scratch

WIDEST = 2 if SMALL else 32
ROWS = 8  #: of each thread, at least, before rows are cut into more parts
MOST = 4 if SMALL else 1024  #: blocks that one launch is cut into, about

Grid = tuple[tuple[int, int], tuple[int, int]]


def grid_for(R: int, C: int, most: int = PARTS) -> Grid:
    """Blocks (along columns, along rows) and threads of a block, likewise, for R rows of C columns."""
    width = 1
    while width < min(C, WIDEST):
        width *= 2
    height, across = BLOCK // width, -(-C // width)
    parts = min(most, max(1, MOST // across), -(-R // (height * ROWS)))
    return (across, max(1, parts)), (width, height)


@device
def first_row(R: int, part: int, parts: int) -> Any:
    """Where a part of R rows begins; the next one begins where it ends."""
    return R * part // parts


@device
def column_sum(value: Any, shared: Any) -> Any:
    """The sum over a block's threads of one column, at each of them; shared: BLOCK numbers."""
    x, y, width = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    shared[y * width + x] = value
    cuda.syncthreads()
    step = cuda.blockDim.y // 2
    while step > 0:
        if y < step:
            shared[y * width + x] += shared[(y + step) * width + x]
        cuda.syncthreads()
        step //= 2
    total = shared[x]
    cuda.syncthreads()  # before another sum uses the same memory
    return total


@kernel("T[::1], T[::1], int64, int64")
def _sums(parts: Any, a: Any, R: int, C: int) -> None:
    shared = cuda.shared.array(BLOCK, a.dtype)
    c, part = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
    end = first_row(R, part + 1, cuda.gridDim.y) if c < C else 0
    total = a.dtype.type(0)
    for r in range(first_row(R, part, cuda.gridDim.y) + cuda.threadIdx.y, end, cuda.blockDim.y):
        total += a[r * C + c]
    total = column_sum(total, shared)
    if cuda.threadIdx.y == 0 and c < C:
        parts[part * C + c] = total


@kernel("T[::1], T[::1], int64, int64", "T[::1], float64[::1], int64, int64")
def _added(total: Any, parts: Any, count: int, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        found = parts.dtype.type(0)
        for part in range(count):
            found += parts[part * n + i]
        total[i] = found


def added(total: Any, parts: Any, count: int) -> None:
    """total: (n,), the sum of the parts: (count, n)."""
    over(_added, total.size, total, parts, count, total.size)


def column_sums(total: Any, a: Any, R: int, C: int) -> None:
    """total: (C,), the sums of the columns of a: (R, C)."""
    if not C:
        return
    blocks, threads = grid_for(R, C)
    if blocks[1] == 1:
        _sums[blocks, threads](total, a, R, C)
        return
    with scratch(a.dtype, blocks[1] * C) as (parts,):
        _sums[blocks, threads](parts, a, R, C)
        added(total, parts, blocks[1])
