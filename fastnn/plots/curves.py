"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import StrPath
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Title, unit and factor of a metric's panel; others stand under their own name, accuracies in percent as well.
_PANELS = {"loss": ("Loss", "mean loss per sample", 1), "accuracy": ("Accuracy", "correct (%)", 100)}
#: What begins a metric's name in a history, what it is called, and its line.
_PARTS = (("", "training", "-"), ("val_", "validation", "--"))


def learning_curves(
    history: Any,
    path: StrPath | None = None,
    *,
    metrics: str | Sequence[str] = ("loss", "accuracy"),
    every: int = 1,
    first: int = 1,
    unit: str = "epoch",
) -> Figure:
    """Metrics over the epochs, training solid and validation dashed; of one run, or of several, a colour each.

    history: what `fit` returns, or anything with such lists: ``loss``, one number an epoch, and ``val_loss`` for the
        validation; or, for several runs, a dictionary, name to history.
    metrics: one or several of a history's, a panel each; what no run has is left out. Accuracies are fractions and
        drawn as percentages. A number that is not finite is left out.
    path: a file to write.
    every, first, unit: the numbers are those of epochs 1, 2, …; or of every so many of another unit, from the first:
        ``every=100, first=0, unit="iteration"``.

    Raises ImportError without matplotlib.
    """
    runs = dict(history) if isinstance(history, Mapping) else {"": history}
    wanted = [metrics] if isinstance(metrics, str) else list(metrics)
    drawn = [metric for metric in wanted if _epochs(runs, metric)] or wanted[:1]
    figure: Figure = figure_class()(figsize=(1 + 4 * len(drawn), 4), layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    places = range(first, first + every * max([*(_epochs(runs, metric) for metric in drawn), 1]), every)
    for axes, metric in zip(panels, drawn, strict=True):
        _draw(axes, runs, metric, places, unit)
    if not any(axes.lines for axes in panels):
        panels[0].text(0.5, 0.5, "no complete epoch", ha="center", va="center", transform=panels[0].transAxes)
    elif isinstance(history, Mapping):
        _name_runs(figure, panels, runs)
    else:  # above the panels, where it can cover no curve
        figure.legend(handles=_one_of_each(panels), loc="outside upper center", ncols=2, frameon=False)
    return written(figure, path)


def _curve(run: Any, name: str) -> list[float]:
    """A metric, one number an epoch; none if the run does not have it."""
    return list(getattr(run, name, ()))


def _epochs(runs: Mapping[str, Any], metric: str) -> int:
    """How many epochs the longest curve of a metric has."""
    return max((len(_curve(run, part + metric)) for run in runs.values() for part, *_ in _PARTS), default=0)


def _panel(metric: str) -> tuple[str, str, float]:
    """Title, unit and factor."""
    if metric.endswith("_accuracy"):
        return metric.replace("_", " ").capitalize(), *_PANELS["accuracy"][1:]
    return _PANELS.get(metric, (metric, "", 1))


def _draw(axes: Axes, runs: Mapping[str, Any], metric: str, places: range, axis: str) -> None:
    """One panel above that axis; lines have dots where epochs are so few that a line alone might be invisible."""
    from matplotlib.ticker import MaxNLocator

    title, unit, scale = _panel(metric)
    epochs = _epochs(runs, metric)
    dots: dict[str, Any] = {"marker": "o" if epochs <= 20 else None, "markersize": 4 if len(runs) == 1 else 3}
    for i, run in enumerate(runs.values()):
        for j, (part, label, style) in enumerate(_PARTS):
            values = [scale * value if np.isfinite(value) else np.nan for value in _curve(run, part + metric)]
            if values:
                colour = _colour(j, 2) if len(runs) == 1 else _colour(i, len(runs))
                axes.plot(places[: len(values)], values, style, color=colour, label=label, **dots)
    axes.set_xlim(places[0] - 0.5 * places.step, places[max(epochs, 1) - 1] + 0.5 * places.step)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_title(title, parse_math=False)
    axes.set_xlabel(axis, parse_math=False)
    axes.set_ylabel(unit, parse_math=False)
    axes.grid(alpha=0.3)


def _colour(i: int, count: int) -> Any:
    """That of run i: of a few runs, one of ten that differ much; of many, its place in a rainbow."""
    from matplotlib import colormaps

    return colormaps["tab10"](i) if count <= 10 else colormaps["turbo"]((i + 0.5) / count)


def _one_of_each(panels: Sequence[Axes]) -> list[Any]:
    """A line of the training and one of the validation, where there are such."""
    lines = {str(line.get_label()): line for axes in panels for line in axes.lines}
    return [lines[label] for label in sorted(lines)]


def _name_runs(figure: Figure, panels: Sequence[Axes], runs: Mapping[str, Any]) -> None:
    """A legend beside the panels, for which the figure grows: the colours of the runs, and what is solid or dashed."""
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=_colour(i, len(runs)), lw=3, label=str(name)) for i, name in enumerate(runs)]
    drawn = _one_of_each(panels)
    entries += [Line2D([], [], color="0.4", ls=line.get_linestyle(), label=line.get_label()) for line in drawn]
    columns = 1 + len(entries) // 30
    legend = figure.legend(handles=entries, loc="outside right center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    box = legend.get_window_extent()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + box.width / figure.dpi, max(height, box.height / figure.dpi + 0.2))
