"""Columns of a table, and what kind of values each of them holds.

A column holds numbers, booleans or categories; or dates, which no network can be given as they are. Numbers are
decimal with points. What one column mixes, such as numbers and words, is refused, never guessed at.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._kernels import Array

#: Texts that stand for a value that is not there, spaces around them left out.
MISSING = {"", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "?"}
_BOOLEANS = {"false": 0.0, "true": 1.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_DATE = re.compile(r"(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{4}/\d{1,2}/\d{1,2})([T ]\d{1,2}:\d{2}.*)?")


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a file.

    values: (N,) float64 with NaN for a missing value; or (N,) object of texts, with None for a missing one
    file: names the file in errors
    categorical: whether somebody has said that these are categories, whatever they look like
    """

    name: str
    values: Array
    file: str
    categorical: bool = False

    @property
    def where(self) -> str:
        """The column in an error."""
        return f"{self.file}: column {self.name!r}"

    @cached_property
    def missing(self) -> Array:
        """Which values are not there, (N,) bool."""
        if self.values.dtype == object:
            return np.fromiter((value is None for value in self.values), bool, len(self.values))
        return np.isnan(self.values)

    @cached_property
    def kind(self) -> str:
        """``"number"``, ``"boolean"``, ``"category"``, ``"date"``, or ``"empty"`` if all values are missing.

        Raises ValueError for values of several kinds, and for numbers with decimal commas.
        """
        if self.missing.all():
            return "empty"
        if self.categorical:
            return "category"
        if self.values.dtype != object:
            return "number"
        texts = set(self._parsed)
        numbers = {text for text, number in self._parsed.items() if number is not None}
        if numbers == texts:
            return "number"
        if numbers:
            words = texts - numbers
            raise ValueError(
                f"{self.where}: mixed, of {len(self.values)} values {self._count(numbers)} are numbers and "
                f"{self._count(words)} are not, such as {self._first(words)}; correct these, or take all of them for "
                f"categories by {option('categorical', self.name)}"
            )
        if all(text.casefold() in _BOOLEANS for text in texts):
            return "boolean"
        if all(_DECIMAL_COMMA.fullmatch(text) for text in texts):
            raise ValueError(f"{self.where}: decimal commas, as in {self._first(texts)}: write numbers with points")
        return "date" if all(_DATE.fullmatch(text) for text in texts) else "category"

    @cached_property
    def numbers(self) -> Array:
        """(N,) float64, NaN where missing. Raises ValueError, which names the row, for what is no finite number."""
        values = self._converted(self._parsed, "a number") if self.values.dtype == object else self.values
        if np.isinf(values).any():
            row = int(np.isinf(values).argmax()) + 1
            raise ValueError(f"{self.where}: expected finite numbers, got infinity in row {row}")
        return values

    @cached_property
    def booleans(self) -> Array:
        """(N,) float64, 0 or 1, NaN where missing. Raises ValueError for anything but true and false, in any case."""
        texts = set(self.texts) - {None}
        return self._converted({text: _BOOLEANS.get(text.casefold()) for text in texts}, "true or false")

    @cached_property
    def texts(self) -> Array:
        """(N,) object of texts, None where missing; a whole number has no point."""
        if self.values.dtype == object:
            return self.values
        found = np.empty(len(self.values), object)
        found[:] = [None if math.isnan(value) else number_text(value) for value in self.values]
        return found

    @cached_property
    def _parsed(self) -> dict[str, float | None]:
        """The different texts, and which number each of them is."""
        return {text: _number(text) for text in set(self.values[~self.missing])}

    def _converted(self, parsed: Mapping[str, float | None], wanted: str) -> Array:
        """The values by what their texts are parsed as."""
        if wrong := {text for text, value in parsed.items() if value is None}:
            raise ValueError(f"{self.where}: expected {wanted} in each row, got {self._first(wrong)}")
        found: dict[str | None, float] = {None: math.nan, **parsed}  # type: ignore[dict-item]  # None was refused
        return np.fromiter(map(found.__getitem__, self.texts), np.float64, len(self.values))

    def _count(self, texts: set[str]) -> int:
        return sum(value in texts for value in self.values)

    def _first(self, texts: set[str]) -> str:
        """The first of these, and where it is."""
        row, value = next((row, value) for row, value in enumerate(self.texts, 1) if value in texts)
        return f"{short(value)} in row {row}"


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of as many values each, by name; rows are counted from 1, the header not being one."""

    columns: Mapping[str, Column]
    file: str

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(next(iter(self.columns.values())).values)

    def __getitem__(self, name: str) -> Column:
        return self.select([name])[0]

    def select(self, names: Sequence[str]) -> list[Column]:
        """Columns by name. Raises ValueError, which names all that there are not."""
        if missing := [name for name in names if name not in self.columns]:
            raise ValueError(f"{self.file}: no column {listed(missing)}; there are {listed(list(self.columns))}")
        return [self.columns[name] for name in names]


def check_names(names: Sequence[str], file: str) -> None:
    """Raise ValueError for a header in which a name is missing or stands twice."""
    if "" in names:
        raise ValueError(f"{file}: the header has no name for column {names.index('') + 1}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{file}: several columns have the name {listed(twice)}")


def number_text(value: float) -> str:
    """A number as text, a whole one without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(float(value))


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in an error, which they must not flood."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more


def option(name: str, value: str) -> str:
    """An option of the command line, to be copied from an error."""
    return f"--{name} {shlex.quote(value)}"


def short(text: str) -> str:
    """A text of a file in an error."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _number(text: str) -> float | None:
    """The number that a text is, be it infinite, None if it is none; Python's underscores are not for files."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) or "_" in text else value
