"""Copies: rows of a data set. `copy` itself is the backend's, which lays arrays out anyway."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import kernel, over


def gather_rows(y: Any, x: Any, index: Any, *, dims: dict[str, int]) -> None:
    over(_gather_rows, dims["B"] * dims["*"], y, x, index, dims["B"], dims["*"])


_NUMBERS = ("T", "int64", "uint8", "boolean")


@kernel(*(f"{t}[::1], {t}[::1], int64[::1], int64, int64" for t in _NUMBERS))
def _gather_rows(y: Any, x: Any, index: Any, B: int, size: int) -> None:
    for i in range(cuda.grid(1), B * size, cuda.gridsize(1)):
        y[i] = x[index[i // size] * size + i % size]
