"""How quantities grow: curves on logarithmic axes, where a power of the size is a straight line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .._files import StrPath
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_log(
    panels: Mapping[str, Mapping[str, Mapping[float, float]]], path: StrPath | None = None, *, xlabel: str = ""
) -> Figure:
    """A panel for each quantity, with a curve for each name, the same colour in all panels; both axes logarithmic.

    panels: quantity, with its unit, to name to points, x to y, which are positive; others are left out. At least one.
    xlabel: what x is. path: a file to write.

    Raises ImportError without matplotlib, ValueError for no panels.
    """
    if not panels:
        raise ValueError("log_log: expected at least one panel")
    figure: Figure = figure_class()(figsize=(1 + 5 * len(panels), 4.6), layout="constrained")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    lines = {}
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, points in curves.items():
            drawn, i = {x: y for x, y in points.items() if x > 0 and y > 0}, names.index(name)
            style = {"color": f"C{i % 10}", "markersize": 4 + 2 * (len(names) - i), "lw": 1 + 1.5 * (len(names) - i)}
            (lines[name],) = axes.plot(list(drawn), list(drawn.values()), "o-", **style)  # a hidden one looks out below
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(quantity, parse_math=False)
        axes.set_xlabel(xlabel, parse_math=False)
        axes.grid(alpha=0.3)
    labels = [name for name in names if name in lines]
    legend = figure.legend([lines[name] for name in labels], labels, loc="outside upper center", ncols=2, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return written(figure, path)
