"""A table of numbers as a picture: the points of a grid of settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import as_array
from .._errors import DTypeError, ShapeError
from .._files import StrPath
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat_map(
    values: Any,
    row_names: Sequence[Any],
    column_names: Sequence[Any],
    path: StrPath | None = None,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    number: str = ".3f",
) -> Figure:
    """Numbers in a table of coloured cells, the largest one framed.

    values: (rows, columns) real numbers, at least one of them finite; the others have no colour.
    row_names, column_names: what stands beside each row and below each column. number: how a cell's is written.
    xlabel, ylabel: what the columns differ in, and the rows. path: a file to write.

    Raises ImportError without matplotlib, `ShapeError`, `DTypeError`, ValueError.
    """
    table = _table(values, len(row_names), len(column_names))
    rows, columns = table.shape
    longest = max(len(str(name)) for name in row_names)
    size = 1.5 + 0.07 * longest + 0.8 * columns, 1.4 + 0.5 * rows
    figure: Figure = figure_class()(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, cmap="Blues", aspect="auto")
    low, high = image.get_clim()
    for (i, j), value in np.ndenumerate(table):
        dark = value > (low + high) / 2
        axes.text(j, i, format(value, number), ha="center", va="center", fontsize=9, color="white" if dark else "black")
    _frame(axes, *np.unravel_index(np.nanargmax(table), table.shape))
    axes.set_xticks(range(columns), [str(name) for name in column_names], parse_math=False)
    axes.set_yticks(range(rows), [str(name) for name in row_names], parse_math=False)
    axes.set_title(title, parse_math=False)
    axes.set_xlabel(xlabel, parse_math=False)
    axes.set_ylabel(ylabel, parse_math=False)
    return written(figure, path)


def _table(values: Any, rows: int, columns: int) -> Any:
    table = as_array(values, "heat_map: values")
    if table.dtype.kind not in "fiub":
        raise DTypeError(f"heat_map: expected real numbers, got {table.dtype}")
    if table.shape != (rows, columns) or not table.size:
        raise ShapeError(f"heat_map: expected values for {rows} rows and {columns} columns, got {table.shape}")
    table = np.where(np.isfinite(table), table, np.nan)
    if np.isnan(table).all():
        raise ValueError("heat_map: expected a finite number, got none")
    return table


def _frame(axes: Any, row: Any, column: Any) -> None:
    """A frame around a cell, which is one by one around whole numbers."""
    from matplotlib.patches import Rectangle

    where = column - 0.48, row - 0.48
    axes.add_patch(Rectangle(where, 0.96, 0.96, fill=False, edgecolor="tab:orange", linewidth=2))
