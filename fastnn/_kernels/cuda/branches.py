"""What graphs that are not chains need: sums of branches, and branches side by side."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import kernel, over


def add(y: Any, a: Any, b: Any, *, dims: dict[str, int], relu: bool) -> None:
    over(_add, dims["*"], y, a, b, dims["*"], bool(relu))


@kernel("T[::1], T[::1], T[::1], int64, boolean")
def _add(y: Any, a: Any, b: Any, n: int, relu: bool) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total = a[i] + b[i]
        y[i] = y.dtype.type(0) if relu and total <= 0 else total  # NaN passes


@kernel("T[::1], T[::1], int64, int64, int64, int64, int64, int64")
def _columns(y: Any, x: Any, n: int, width: int, y_width: int, y_start: int, x_width: int, x_start: int) -> None:
    """Columns of x, `width` of them, to columns of y."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i // width * y_width + y_start + i % width] = x[i // width * x_width + x_start + i % width]


def concatenate(y: Any, *x: Any, dims: dict[str, int]) -> None:
    """Rows side by side; what is None is left out."""
    R, start = dims["R"], 0
    for part, width in zip(x, (dims[f"K{i}"] for i in range(len(x))), strict=True):
        if part is not None:
            over(_columns, R * width, y, part, R * width, width, dims["K"], start, width, 0)
            start += width


def columns(y: Any, x: Any, *, start: int, count: int, dims: dict[str, int]) -> None:
    """Some columns of x."""
    over(_columns, dims["R"] * count, y, x, dims["R"] * count, count, count, 0, dims["K"], start)
