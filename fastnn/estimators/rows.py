"""What estimators are given, as what a network takes."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

from .._errors import ShapeError
from .._kernels import Array
from ..layers import Layer

AT_ONCE = 1024  #: rows that are computed at a time; so many of a sparse matrix are dense


class DenseRows:
    """A sparse matrix that `fit` reads batch by batch: never more than a batch of it is dense."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix.tocsr()

    def __len__(self) -> int:
        return int(self._matrix.shape[0])

    def __getitem__(self, where: slice | Array) -> Array:
        rows: Array = self._matrix[where].toarray()
        return rows


def as_data(x: Any) -> Any:
    """x as `fit` takes it."""
    return DenseRows(x) if issparse(x) else x


def parts(x: Any) -> Iterator[tuple[slice, Array]]:
    """All rows, some at a time."""
    data = as_data(x)
    for start in range(0, x.shape[0], AT_ONCE):
        where = slice(start, min(start + AT_ONCE, x.shape[0]))
        yield where, data[where]


def scores_of(network: Layer, x: Any) -> Array:
    """The network's scores of all rows: (N, …)."""
    found = [network.scores(rows) for _, rows in parts(x)]
    for scores in found:
        if not isinstance(scores, np.ndarray):
            raise ShapeError(f"{network.label}: expected one array of scores from the model, got {len(scores)}")
    return np.concatenate(found) if len(found) > 1 else found[0]


def weights_of(sample_weight: Any, samples: int) -> Array | None:
    """A weight for each sample, (N,) float64; None for all alike. A single number is that of every sample."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        return np.full(samples, sample_weight, np.float64)
    found: Array = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if found.shape != (samples,):
        raise ShapeError(f"sample_weight: expected ({samples},), a weight for each sample, got {found.shape}")
    if found.min() < 0 or not found.any():
        raise ValueError("sample_weight: expected numbers of at least 0 that are not all zero")
    return found
