"""What a network is given of a file: columns and pixels as numbers.

Numbers are imputed by their median and standardised, booleans are 0 or 1 and imputed by the more frequent one,
categories are one-hot encoded, a missing one being a category by itself. Pixels are standardised by channel. What was
fitted is a few numbers and texts, which JSON keeps; `encode` applies them in plain NumPy, to the bits of scikit-learn's
transformers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._kernels import Array
from .pictures import Size
from .table import Column, Table, short


@dataclass(frozen=True)
class NumberColumn:
    """Standardised numbers; `median` stands for a missing one."""

    kind: ClassVar[str] = "number"
    name: str
    median: float
    mean: float
    scale: float

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return 1

    def encode(self, column: Column) -> Array:
        """(N, 1) float64."""
        values = column.numbers
        encoded: Array = (np.where(np.isnan(values), self.median, values) - self.mean) / self.scale
        return encoded[:, None]


@dataclass(frozen=True)
class BooleanColumn:
    """0 or 1; `usual` stands for a missing one."""

    kind: ClassVar[str] = "boolean"
    name: str
    usual: float

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return 1

    def encode(self, column: Column) -> Array:
        """(N, 1) float64."""
        values = column.booleans
        return np.where(np.isnan(values), self.usual, values)[:, None]


@dataclass(frozen=True)
class CategoryColumn:
    """One of several texts, "" for a missing one; of others, of which a warning tells, all numbers are 0."""

    kind: ClassVar[str] = "category"
    name: str
    categories: list[str]

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return len(self.categories)

    def encode(self, column: Column) -> Array:
        """(N, categories) float64."""
        places = {category: i for i, category in enumerate(self.categories)}
        texts = [text or "" for text in column.texts]
        found = np.array([places.get(text, -1) for text in texts])
        if (found < 0).any():
            unknown = [text for text, place in zip(texts, found, strict=True) if place < 0]
            names = [short(text) if text else "a missing value" for text in dict.fromkeys(unknown)]
            warnings.warn(
                f"{column.where}: {len(unknown)} of {len(texts)} values are categories that the training did not have, "
                f"and count as none: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}",
                stacklevel=2,
            )
        return np.asarray(found[:, None] == np.arange(self.width), np.float64)


Encoder = NumberColumn | BooleanColumn | CategoryColumn
#: By what a column holds, in the order of inputs.
ENCODERS: dict[str, type[Encoder]] = {cls.kind: cls for cls in (NumberColumn, BooleanColumn, CategoryColumn)}


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are a network's input."""

    kind: ClassVar[str] = "table"
    columns: list[Encoder]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one sample."""
        return (sum(column.width for column in self.columns),)

    def encode(self, table: Table) -> Array:
        """(N, features) float32. Raises ValueError for a column that is missing or of another kind."""
        found = table.select([column.name for column in self.columns])
        x = np.empty((table.rows, *self.shape), np.float32)
        at = 0
        for encoder, column in zip(self.columns, found, strict=True):
            with np.errstate(over="ignore"):  # an overflow becomes an infinity
                x[:, at : at + encoder.width] = encoder.encode(column)
            at += encoder.width
        if not np.isfinite(x).all():
            raise ValueError(f"{table.file}: a number is too large beside those of the training")
        return x

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"kind": self.kind, "columns": [{"kind": c.kind, **vars(c)} for c in self.columns]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Columns:
        """Raises LookupError, TypeError or ValueError for values that `to_json` has not made."""
        columns: list[Encoder] = []
        for column in values["columns"]:
            made = ENCODERS[column["kind"]](**{name: value for name, value in column.items() if name != "kind"})
            _check_fields(made)
            columns.append(made)
        return cls(columns)


@dataclass(frozen=True)
class Pixels:
    """Images, standardised by channel.

    kind: where they come from, ``"pictures"`` or ``"array"``, whose pixels need not mean the same
    shape: (C, H, W). resize: whether pictures of other sizes are resized to it. means, scales: of each channel
    """

    kind: str
    shape: tuple[int, ...]
    resize: bool
    means: list[float]
    scales: list[float]

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(*self.shape[1:])

    def encode(self, images: Array) -> Array:
        """(N, C, H, W) float32. Raises ValueError for images of another shape."""
        if images.shape[1:] != self.shape:
            raise ValueError(f"x: expected images (N, C, H, W) with (C, H, W) = {self.shape}, got {images.shape}")
        x = np.empty(images.shape, np.float32)
        for channel, (mean, scale) in enumerate(zip(self.means, self.scales, strict=True)):
            x[:, channel] = (images[:, channel] - mean) / scale
        return x

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Pixels:
        """Raises LookupError, TypeError or ValueError for values that `to_json` has not made."""
        made = cls(**{**values, "shape": tuple(values["shape"])})
        C, H, W = made.shape
        numbers = [*made.means, *made.scales]
        if not all(isinstance(n, int) and n > 0 for n in (C, H, W)) or len(made.means) != C or len(made.scales) != C:
            raise ValueError("expected a mean and a scale for each channel")
        if (
            made.kind not in ("pictures", "array")
            or not isinstance(made.resize, bool)
            or not all(map(_finite, numbers))
        ):
            raise ValueError("expected finite numbers")
        return made


def _check_fields(column: Encoder) -> None:
    """Raise TypeError for what JSON may hold in the place of names, numbers and categories."""
    for name, value in vars(column).items():
        if name == "categories":
            right = isinstance(value, list) and all(isinstance(text, str) for text in value)
        else:
            right = isinstance(value, str) if name == "name" else _finite(value)
        if not right:
            raise TypeError(f"{name}: got {short(repr(value))}")


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
