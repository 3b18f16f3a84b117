"""Every loss beside PyTorch's. A line here puts a loss through all that tests ask of losses:

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
LossCase = tuple[Callable[[], Any], Callable[..., Any], tuple[int, ...], Draw]

WEIGHT = np.array([0.5, 2.0, 1.0, 0.25, 3.0])  #: of five classes
COLUMNS = np.array([0.5, 2.0, 1.0])  #: weights of three answers


def labels(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """(N, …) int64 for scores (N, classes, …)."""
    drawn: Array = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    return drawn


def ignoring(index: int) -> Draw:
    """Some labels that are ignored."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        drawn = labels(rng, shape, dtype)
        drawn[rng.random(drawn.shape) < 0.3] = index
        return drawn

    return draw


def soft(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Probabilities of the classes."""
    drawn = rng.random(shape)
    rows: Array = (drawn / drawn.sum(axis=1, keepdims=True)).astype(dtype)
    return rows


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Of the scores' shape."""
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def answers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """0 or 1."""
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)


def shares(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """From 0 to 1."""
    return np.asarray(rng.random(shape)).astype(dtype)


def alike(name: str, shape: tuple[int, ...], draw: Draw, **options: Any) -> LossCase:
    """A loss of PyTorch's name with the same options; PyTorch's is made with others as well if these are given."""

    def theirs(nn: Any, **others: Any) -> Callable[[Any, Any], Any]:
        def loss(scores: Any, target: Any) -> Any:
            given = {key: scores.new_tensor(a) if "weight" in key else a for key, a in (options | others).items()}
            return getattr(nn, name)(**given)(scores, target)

        return loss

    return lambda: getattr(fn, name)(**options), theirs, shape, draw


SUM = {"reduction": "sum"}
LOSSES: dict[str, LossCase] = {
    "cross entropy": alike("CrossEntropyLoss", (7, 5), labels),
    "cross entropy, sum": alike("CrossEntropyLoss", (7, 5), ignoring(-100), **SUM),
    "cross entropy of one sample": alike("CrossEntropyLoss", (1, 40), labels),
    "cross entropy with weights": alike("CrossEntropyLoss", (9, 5), labels, weight=WEIGHT),
    "cross entropy, smoothed": alike("CrossEntropyLoss", (9, 5), ignoring(-100), label_smoothing=0.1),
    "cross entropy with everything": alike(
        "CrossEntropyLoss", (9, 5), ignoring(2), weight=WEIGHT, ignore_index=2, label_smoothing=0.3
    ),
    "cross entropy of positions": alike("CrossEntropyLoss", (3, 5, 4), ignoring(1), weight=WEIGHT, ignore_index=1),
    "cross entropy of pixels": alike("CrossEntropyLoss", (3, 5, 4, 6), labels, label_smoothing=0.2),
    "soft cross entropy": alike("CrossEntropyLoss", (7, 5), soft),
    "soft cross entropy with everything": alike("CrossEntropyLoss", (7, 5), soft, weight=WEIGHT, label_smoothing=0.3),
    "soft cross entropy of pixels, sum": alike("CrossEntropyLoss", (2, 5, 3, 2), soft, weight=WEIGHT, **SUM),
    "nll": alike("NLLLoss", (7, 5), ignoring(-100)),
    "nll of positions, sum": alike("NLLLoss", (7, 5, 2), ignoring(3), weight=WEIGHT, ignore_index=3, **SUM),
    "nll of pixels": alike("NLLLoss", (7, 5, 2, 3), labels, weight=WEIGHT),
    "margin": alike("MultiMarginLoss", (7, 5), labels),
    "margin with everything": alike("MultiMarginLoss", (7, 5), labels, p=2, margin=0.5, weight=WEIGHT, **SUM),
    "margin with weights": alike("MultiMarginLoss", (7, 5), labels, margin=2.0, weight=WEIGHT),
    "mse": alike("MSELoss", (7, 3), numbers),
    "mse of images, sum": alike("MSELoss", (3, 2, 4, 5), numbers, **SUM),
    "l1": alike("L1Loss", (7,), numbers),
    "l1, sum": alike("L1Loss", (7, 2, 3), numbers, **SUM),
    "huber": alike("HuberLoss", (7, 3), numbers),
    "huber with everything": alike("HuberLoss", (7, 3), numbers, delta=0.3, **SUM),
    "bce": alike("BCEWithLogitsLoss", (7, 1), answers),
    "bce with everything": alike("BCEWithLogitsLoss", (7, 3), shares, weight=2.0, pos_weight=COLUMNS, **SUM),
    "bce of images": alike(
        "BCEWithLogitsLoss", (2, 3, 4, 2), answers, weight=COLUMNS[:, None, None], pos_weight=COLUMNS[:, None, None]
    ),
}
