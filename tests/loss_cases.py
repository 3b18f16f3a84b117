"""Every loss beside PyTorch's. A line here puts a loss through all that tests/test_complete.py asks of losses:

    name: (ours, PyTorch's by a constructor of torch.nn, shape of the scores, what draws the target)

The target is drawn from a generator, the shape and the scores' dtype; both losses get it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

Draw = Callable[[np.random.Generator, tuple[int, ...], str], Array]
LossCase = tuple[Callable[[], Any], Callable[[Any], Any], tuple[int, ...], Draw]


def labels(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """(N,) int64 for scores (N, classes)."""
    drawn: Array = rng.integers(0, shape[1], shape[0])
    return drawn


LOSSES: dict[str, LossCase] = {
    "cross entropy": (lambda: fn.CrossEntropyLoss(), lambda nn: nn.CrossEntropyLoss(), (7, 5), labels),
    "cross entropy, sum": (
        lambda: fn.CrossEntropyLoss(reduction="sum"),
        lambda nn: nn.CrossEntropyLoss(reduction="sum"),
        (4, 3),
        labels,
    ),
    "cross entropy of one sample": (lambda: fn.CrossEntropyLoss(), lambda nn: nn.CrossEntropyLoss(), (1, 40), labels),
}
