"""Copies: rows of a data set. `copy` itself is the backend's, which lays arrays out anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from .launch import kernel, over


def gather_rows(y: Any, x: Any, index: Any, *, dims: dict[str, int]) -> None:
    M, B, size = dims["M"], dims["B"], dims["*"]
    # Of an index that is not in x nothing is read: NaN, or -1, lets the caller's mistake be seen.
    nowhere = np.full(1, 255, np.uint8).repeat(y.dtype.itemsize).view(y.dtype)[0]
    over(_gather_rows, B * size, y, x, index, M, B, size, nowhere)


_NUMBERS = ("T", "int64", "uint8", "boolean")


@kernel(*(f"{t}[::1], {t}[::1], int64[::1], int64, int64, int64, {t}" for t in _NUMBERS))
def _gather_rows(y: Any, x: Any, index: Any, M: int, B: int, size: int, nowhere: Any) -> None:
    for i in range(cuda.grid(1), B * size, cuda.gridsize(1)):
        row = index[i // size]
        y[i] = x[row * size + i % size] if 0 <= row < M else nowhere
