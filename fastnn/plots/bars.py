"""Bars of numbers to be compared, with marks where they were expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .._files import StrPath
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(
    values: Mapping[str, float],
    path: StrPath | None = None,
    *,
    marks: Mapping[str, float] | None = None,
    mark: str = "expected",
    xlabel: str = "",
    title: str = "",
) -> Figure:
    """A bar for each number, from 0 to the right, the first on top; its name before it and the number behind it.

    values: numbers by name, at least one. One that is not finite has no bar, only its name and the number's.
    marks: for some or all of these names, numbers that are marked by a line across the bar and stand in brackets behind
        the bar's own; one that is not finite is left out.
    mark: what the marks are, for the legend. xlabel: what the numbers are, with their unit. path: a file to write.

    Raises ImportError without matplotlib, ValueError for no values or for marks of names that are not among them.
    """
    marks = marks or {}
    if not values:
        raise ValueError("bars: expected at least one value")
    if unknown := [name for name in marks if name not in values]:
        raise ValueError(f"bars: there are marks, but no values, of {', '.join(unknown)}")
    figure: Figure = figure_class()(figsize=(8, 1.4 + 0.42 * len(values)), layout="constrained")
    axes = figure.subplots()
    lengths = [value if np.isfinite(value) else 0.0 for value in values.values()]
    axes.barh(range(len(lengths)), lengths, height=0.7, color="tab:blue")
    marked = {row: marks[name] for row, name in enumerate(values) if np.isfinite(marks.get(name, np.nan))}
    for row, (name, value) in enumerate(values.items()):
        _number(axes, row, value, marks.get(name) if row in marked else None)
    if marked:
        low, high = [row - 0.45 for row in marked], [row + 0.45 for row in marked]
        axes.vlines(list(marked.values()), low, high, color="black", lw=2.5, label=mark)
        for text in figure.legend(loc="outside upper right", frameon=False).get_texts():
            text.set_parse_math(False)
    axes.set_yticks(range(len(values)), [str(name) for name in values], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.35)  # room for the numbers
    axes.set_xlabel(xlabel, parse_math=False)
    axes.set_title(title, loc="left", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return written(figure, path)


def _number(axes: Axes, row: int, value: float, expected: float | None) -> None:
    """A bar's number, and in brackets the mark's, behind both of them."""
    text = f"{value:.4g}" + ("" if expected is None else f" ({expected:.4g})")
    ends = [end for end in (value, expected or 0.0) if np.isfinite(end)]
    axes.annotate(text, (max(ends, default=0.0), row), xytext=(6, 0), textcoords="offset points", va="center")
