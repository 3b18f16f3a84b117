"""What a network is to predict: one of several classes, or a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import fastnn as fn

from .. import _kernels as k
from .._kernels import Array
from .table import Column, number_text, short

MOST_WHOLE_CLASSES = (
    20  #: whole numbers of no more different values are taken for classes unless somebody says otherwise
)


@dataclass(frozen=True)
class Classes:
    """One of `names`; the network has a score for each."""

    task: ClassVar[str] = "classification"
    name: str
    names: list[str]

    @property
    def outputs(self) -> int:
        """How many numbers the network has for a sample."""
        return len(self.names)

    @property
    def loss(self) -> fn.Loss:
        """What the network is trained by."""
        return fn.CrossEntropyLoss()

    def decode(self, scores: Array) -> tuple[list[str], Array]:
        """The most probable class of each sample, and all probabilities (N, classes)."""
        return [self.names[i] for i in scores.argmax(1)], k.softmax(scores)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"task": self.task, **vars(self)}


@dataclass(frozen=True)
class Quantity:
    """A number, of which the network predicts (number - mean) / scale."""

    task: ClassVar[str] = "regression"
    name: str
    mean: float
    scale: float

    @property
    def outputs(self) -> int:
        """How many numbers the network has for a sample."""
        return 1

    @property
    def loss(self) -> fn.Loss:
        """What the network is trained by."""
        return fn.MSELoss()

    def decode(self, scores: Array) -> tuple[Array, None]:
        """The numbers (N,) float64."""
        return scores[:, 0].astype(np.float64) * self.scale + self.mean, None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"task": self.task, **vars(self)}


Target = Classes | Quantity


def target_from_json(values: Mapping[str, Any]) -> Target:
    """Raises LookupError, TypeError or ValueError for values that `to_json` has not made."""
    fields = {name: value for name, value in values.items() if name != "task"}
    made: Target = {"classification": Classes, "regression": Quantity}[values["task"]](**fields)
    texts = [made.name, *(made.names if isinstance(made, Classes) else ())]
    numbers = [made.mean, made.scale] if isinstance(made, Quantity) else []
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(number, float) and math.isfinite(number) for number in numbers
    ):
        raise TypeError("expected a name, and the names of classes or a finite mean and scale")
    return made


def task_of(column: Column, task: str) -> str:
    """``"classification"`` or ``"regression"``; ``"auto"`` is decided by what the column holds.

    Texts and booleans are classes, and so are whole numbers of at most MOST_WHOLE_CLASSES different values.
    Raises ValueError for a target with missing values or dates.
    """
    if column.missing.any():
        rows = np.flatnonzero(column.missing) + 1
        raise ValueError(f"{column.where}: the target is missing in {len(rows)} rows, the first being row {rows[0]}")
    if task != "auto":
        return task
    if column.kind == "date":
        raise ValueError(f"{column.where}: a target of dates; take them for classes by --task classification")
    if column.kind != "number":
        return "classification"
    values = np.unique(column.numbers)
    whole = bool((values == np.round(values)).all())
    return "classification" if whole and len(values) <= MOST_WHOLE_CLASSES else "regression"


def encode_classes(column: Column) -> tuple[Classes, Array]:
    """The classes in a column, and which of them each value is, (N,) int64.

    Texts are sorted as texts, numbers as numbers. Raises ValueError unless there are several, of three samples each:
    training, validation and test need one.
    """
    from sklearn.preprocessing import LabelEncoder

    encoder = LabelEncoder()
    numbers = column.values.dtype != object or column.kind == "number"
    y = encoder.fit_transform(column.numbers if numbers else column.texts.astype(str))
    names = [number_text(float(value)) if numbers else str(value) for value in encoder.classes_]
    if len(names) == 1:
        raise ValueError(f"{column.where}: a target with one class only, {short(names[0])}: there is nothing to learn")
    counts = np.bincount(y)
    if counts.min() < 3:
        few = int(counts.argmin())
        found = "one sample" if counts[few] == 1 else "two samples"
        raise ValueError(
            f"{column.where}: class {short(names[few])} has {found}, but training, validation and test need one each; "
            f"of {len(names)} classes {(counts < 3).sum()} have fewer than 3: leave these out, or join them"
        )
    return Classes(column.name, names), y.astype(np.int64)


def encode_numbers(column: Column, rows: Array) -> tuple[Quantity, Array]:
    """The mean and the standard deviation of these rows of a column, and all values standardised so, (N,) float64.

    Raises ValueError if these rows do not differ.
    """
    from sklearn.preprocessing import StandardScaler

    values = column.numbers
    if (values[rows] == values[rows[0]]).all():
        raise ValueError(
            f"{column.where}: a target with one value only, {values[rows[0]]:g}: there is nothing to learn"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a scale that is not finite, which is refused
        scaler = StandardScaler().fit(values[rows, None])
    mean, scale = float(scaler.mean_[0]), float(scaler.scale_[0])
    if not math.isfinite(mean + scale):
        raise ValueError(f"{column.where}: its numbers are too large to be scaled")
    return Quantity(column.name, mean, scale), (values - mean) / scale
