"""Fully connected layers: products of matrices, tile by tile in shared memory."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .columns import column_sums
from .launch import SMALL, kernel, tiles

TILE = 4 if SMALL else 16


def linear(y: Any, x: Any, weight: Any, bias: Any, *, dims: dict[str, int], relu: bool) -> None:
    N, I, O = dims["N"], dims["I"], dims["O"]  # noqa: E741
    steps = (I, 1, 1, I)
    tiles(_product, N, O, TILE, y, x, weight, y if bias is None else bias, N, O, I, steps, bias is not None, bool(relu))


def linear_backward_data(dx: Any, dy: Any, weight: Any, *, dims: dict[str, int]) -> None:
    N, I, O = dims["N"], dims["I"], dims["O"]  # noqa: E741
    tiles(_product, N, I, TILE, dx, dy, weight, dx, N, I, O, (O, 1, I, 1), False, False)


def linear_backward_weights(dweight: Any, dbias: Any, dy: Any, x: Any, *, dims: dict[str, int]) -> None:
    N, I, O = dims["N"], dims["I"], dims["O"]  # noqa: E741
    if dweight is not None:
        tiles(_product, O, I, TILE, dweight, dy, x, dweight, O, I, N, (1, O, I, 1), False, False)
    if dbias is not None:
        column_sums(dbias, dy, N, O)


@kernel("T[::1], T[::1], T[::1], T[::1], int64, int64, int64, UniTuple(int64, 4), boolean, boolean")
def _product(
    c: Any,
    a: Any,
    b: Any,
    bias: Any,
    M: int,
    N: int,
    K: int,
    steps: tuple[int, int, int, int],
    has_bias: bool,
    relu: bool,
) -> None:
    """c (M, N) = a (M, K) b (K, N) + bias (N,); steps: from one row and column to the next, in a, then in b."""
    a_tile = cuda.shared.array((TILE, TILE), a.dtype)
    b_tile = cuda.shared.array((TILE, TILE), b.dtype)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    zero = c.dtype.type(0)
    for row in range(cuda.blockIdx.y * TILE, M, cuda.gridDim.y * TILE):
        for column in range(cuda.blockIdx.x * TILE, N, cuda.gridDim.x * TILE):
            m, n = row + i, column + j
            total = zero
            for k in range(0, K, TILE):
                a_tile[i, j] = a[m * steps[0] + (k + j) * steps[1]] if m < M and k + j < K else zero
                b_tile[i, j] = b[(k + i) * steps[2] + n * steps[3]] if k + i < K and n < N else zero
                cuda.syncthreads()
                for s in range(min(TILE, K - k)):
                    total += a_tile[i, s] * b_tile[s, j]
                cuda.syncthreads()
            if m < M and n < N:
                if has_bias:
                    total += bias[n]
                if relu and total <= zero:  # NaN passes
                    total = zero
                c[m * N + n] = total
