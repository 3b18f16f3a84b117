"""Rows to train on, rows that tell when to stop, and rows that only the report sees."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._kernels import Array
from .settings import Settings


class Parts(NamedTuple):
    """Indices of rows."""

    training: Array
    validation: Array
    test: Array

    def sizes(self) -> dict[str, int]:
        """How many rows each part has, by name."""
        return {name: len(rows) for name, rows in self._asdict().items()}


def split(count: int, labels: Array | None, settings: Settings, file: str) -> Parts:
    """A random split; of classes, each part has about the same shares.

    labels: (count,) int64, or None for numbers
    Raises ValueError for too few rows.
    """
    rest, test = _two_parts(np.arange(count), labels, settings.test, settings.seed, f"{file}: test")
    training, validation = _two_parts(rest, labels, settings.validation, settings.seed, f"{file}: validation")
    return Parts(training, validation, test)


def _two_parts(rows: Array, labels: Array | None, share: float, seed: int, what: str) -> tuple[Array, Array]:
    """The rows that are left, and a share of them that is not."""
    from sklearn.model_selection import train_test_split

    held_out = math.ceil(share * len(rows))  # as scikit-learn rounds
    least = 2 if labels is None else int(labels.max()) + 1
    if min(held_out, len(rows) - held_out) < least:
        kind = "rows" if labels is None else "rows, one for each class,"
        raise ValueError(f"{what}: expected {least} {kind} in it and besides it, got {held_out} of {len(rows)} rows")
    if labels is not None and np.bincount(labels[rows], minlength=least).min() < 2:
        raise ValueError(
            f"{what}: a class has fewer than 2 of the {len(rows)} rows that are left for training and validation"
        )
    kept, out = train_test_split(
        rows, test_size=share, random_state=seed, stratify=None if labels is None else labels[rows]
    )
    return kept, out
