"""The gradient of a table whose rows were looked up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from .launch import kernel, over
from .scratch import scratch

Sizes = dict[str, int]


@kernel("T[::1], int64")
def _clear(a: Any, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        a[i] = a.dtype.type(0)


@kernel("int64[::1], int64[::1], int64[::1], int64, int64, int64")
def _chain(before: Any, after: Any, index: Any, B: int, M: int, padding: int) -> None:
    """Of each lookup whether an earlier one has the same row, and which is the next one that has it, or B."""
    for b in range(cuda.grid(1), B, cuda.gridsize(1)):
        row = index[b]
        earlier, later = b - 1, b + 1
        if 0 <= row < M and row != padding:
            while earlier >= 0 and index[earlier] != row:
                earlier -= 1
            while later < B and index[later] != row:
                later += 1
            before[b] = earlier
            after[b] = later
        else:
            before[b] = 0  # as if it were no first one


@kernel("T[::1], T[::1], int64[::1], int64[::1], int64[::1], int64, int64")
def _embedding_backward(dweight: Any, dy: Any, index: Any, before: Any, after: Any, B: int, D: int) -> None:
    """The first lookup of a row adds up all of them, in order: a thread a column."""
    for i in range(cuda.grid(1), B * D, cuda.gridsize(1)):
        b, d = i // D, i % D
        if before[b] < 0:
            row, total = index[b], dy.dtype.type(0)
            while b < B:
                total += dy[b * D + d]
                b = after[b]
            dweight[row * D + d] = total


def embedding_backward(
    dweight: Any, dy: Any, index: Any, *, num_embeddings: int, padding_idx: int, dims: Sizes
) -> None:
    """dW[m] = Σ dy[b] over all b with index[b] = m, in the order of b; dW[padding_idx] stays 0."""
    B, D = dims["B"], dims["D"]
    over(_clear, num_embeddings * D, dweight, num_embeddings * D)
    if B and D:
        with scratch(np.int64, B, B) as (before, after):
            over(_chain, B, before, after, index, B, num_embeddings, padding_idx)
            over(_embedding_backward, B * D, dweight, dy, index, before, after, B, D)
