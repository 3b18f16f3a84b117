"""Elementwise functions, and softmax along rows."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import kernel, over


def relu(y: Any, x: Any, *, dims: dict[str, int]) -> None:
    over(_relu, dims["*"], y, x, dims["*"])


def relu_backward(dx: Any, dy: Any, y: Any, *, dims: dict[str, int]) -> None:
    over(_relu_backward, dims["*"], dx, dy, y, dims["*"])


@kernel("T[::1], T[::1], int64")
def _relu(y: Any, x: Any, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = x.dtype.type(0) if x[i] <= 0 else x[i]  # NaN passes


@kernel("T[::1], T[::1], T[::1], int64")
def _relu_backward(dx: Any, dy: Any, y: Any, n: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        dx[i] = dy.dtype.type(0) if y[i] <= 0 else dy[i]  # of a NaN it passes, too
