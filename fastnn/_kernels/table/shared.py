"""What the rows of several families use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..kernel import Array, Dims

#: Shapes with which tests call rows that work on numbers in any order, and on rows of scores.
ELEMENTWISE = tuple({"shape": s} for s in ((1,), (3, 5), (17, 33), (2, 3, 5, 7), (0, 4), (70000,)))
SCORES = tuple({"N": n, "K": k} for n, k in ((1, 1), (3, 2), (32, 10), (7, 17), (0, 5), (300, 33)))


def classes(d: Dims, p: Mapping[str, Any]) -> None:
    if d["K"] < 1:
        raise ShapeError("expected scores of shape (N, K) with K at least 1, got K=0")


def rounded(size: int) -> int:
    """Bytes of scratch that end at a multiple of 64."""
    return -(-size // 64) * 64


Values = Callable[["np.random.Generator", tuple[int, ...], Mapping[str, int]], Any]


def below(size: str) -> Values:
    """Whole numbers from 0 to one less than a size."""
    return lambda rng, shape, d: rng.integers(0, d[size], shape)


def numbers(*given: float, dtype: str = "float64") -> Values:
    """These numbers, or one of them everywhere."""

    def values(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
        return np.full(shape, given, dtype)

    return values
