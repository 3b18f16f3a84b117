"""Every loss beside PyTorch's. A line here puts a loss through all that tests/test_complete.py asks of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

#: Ours; PyTorch's, from torch.nn and a conversion to tensors; the shape of the scores, or of each array of a tuple;
#: targets of so many samples.
LossCase = tuple[Callable[[], Any], Callable[[Any, Any], Any], tuple[Any, ...], Callable[[int], Any]]


def labels(count: int, classes: int) -> Array:
    """(count,) int64."""
    drawn: Array = np.random.default_rng(1).integers(0, classes, count)
    return drawn


LOSSES: dict[str, LossCase] = {
    "cross-entropy": (
        lambda: fn.CrossEntropyLoss(),
        lambda nn, t: nn.CrossEntropyLoss(),
        (7, 5),
        lambda n: labels(n, 5),
    ),
    "cross-entropy, sum": (
        lambda: fn.CrossEntropyLoss(reduction="sum"),
        lambda nn, t: nn.CrossEntropyLoss(reduction="sum"),
        (7, 5),
        lambda n: labels(n, 5),
    ),
    "cross-entropy of one sample": (
        lambda: fn.CrossEntropyLoss(),
        lambda nn, t: nn.CrossEntropyLoss(),
        (1, 40),
        lambda n: labels(n, 40),
    ),
}
