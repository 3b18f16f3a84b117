"""Every loss beside PyTorch's. A line here puts a loss through all that tests ask of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

Draw = Callable[[tuple[int, ...]], Array]
#: Ours; PyTorch's, from torch.nn and a conversion to tensors; the shape of the scores, or of each array of a tuple;
#: targets of so many samples.
LossCase = tuple[Callable[[], Any], Callable[[Any, Any], Any], tuple[Any, ...], Callable[[int], Any]]

WEIGHT = np.array([0.5, 2.0, 1.0, 0.25, 3.0])  #: of five classes
COLUMNS = np.array([0.5, 2.0, 1.0])  #: weights of three answers


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def labels(shape: tuple[int, ...]) -> Array:
    """(N, …) int64 for scores (N, classes, …)."""
    return rng().integers(0, shape[1], (shape[0], *shape[2:]))


def ignoring(index: int) -> Draw:
    """Some labels that are ignored."""

    def draw(shape: tuple[int, ...]) -> Array:
        drawn = labels(shape)
        drawn.flat[::3] = index
        return drawn

    return draw


def soft(shape: tuple[int, ...]) -> Array:
    """Probabilities of the classes."""
    drawn = rng().random(shape)
    rows: Array = drawn / drawn.sum(axis=1, keepdims=True)
    return rows


def numbers(shape: tuple[int, ...]) -> Array:
    """Of the scores' shape."""
    return np.asarray(rng().standard_normal(shape))


def answers(shape: tuple[int, ...]) -> Array:
    """0 or 1."""
    return rng().integers(0, 2, shape).astype(float)


def shares(shape: tuple[int, ...]) -> Array:
    """From 0 to 1."""
    return np.asarray(rng().random(shape))


def alike(name: str, shape: tuple[int, ...], draw: Draw, **options: Any) -> LossCase:
    """A loss of PyTorch's name, with the same options."""

    def theirs(nn: Any, tensor: Any) -> Any:
        return getattr(nn, name)(**{key: tensor(a) if "weight" in key else a for key, a in options.items()})

    return lambda: getattr(fn, name)(**options), theirs, shape, lambda count: draw((count, *shape[1:]))


def joint() -> fn.JointLoss:
    return fn.JointLoss((fn.CrossEntropyLoss(WEIGHT), fn.BCEWithLogitsLoss()), weights=(0.25, 2))


def their_joint(nn: Any, tensor: Any, penalty: float = 0.0) -> Any:
    first, second = nn.CrossEntropyLoss(tensor(WEIGHT)), nn.BCEWithLogitsLoss()
    weights = tensor(PENALIZED.data)
    return lambda s, t: 0.25 * first(s[0], t[0]) + 2 * second(s[1], t[1]) + 0.5 * penalty * (weights**2).sum()


PENALIZED = fn.Parameter(numbers((4, 3)))
HEADS = (6, 5), (6, 3)


def two_targets(count: int) -> tuple[Array, Array]:
    return labels((count, 5)), answers((count, 3))


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
    "joint": (joint, their_joint, HEADS, two_targets),
    "penalty": (
        lambda: fn.L2Penalty(joint(), [PENALIZED], 0.3),
        lambda nn, t: their_joint(nn, t, 0.3),
        HEADS,
        two_targets,
    ),
}
