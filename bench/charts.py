"""Charts of what was measured, with Matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .steps import OURS, TITLES, Comparison, from_json

#: By peer, in the order of its bars; from Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"native": "#0072B2", "torch": "#E69F00", "reference": "#999999"}
COLUMNS = 3
_INCH = 0.2  #: height of a bar
_LEAST_BYTES = 1000  #: of a call; the rate of one that moves less says nothing but what a call costs


@dataclass
class Panel:
    """One set of axes: bars, grouped by label, one for each peer.

    unit: of the values, such as "GFLOP/s"; note: which end is the better one.
    """

    title: str
    unit: str
    note: str
    bars: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def height(self) -> float:
        """Bars, and the gaps between groups, to be drawn."""
        return sum(len(group) + 0.6 for group in self.bars.values())


# --- what there is to be drawn ----------------------------------------------------------------------------------------


def panels_of_benchmarks(data: Mapping[str, Any]) -> list[Panel]:
    """Panels from the JSON that pytest-benchmark saved: one for each row of the kernel table, one for each step."""
    panels: dict[str, Panel] = {}
    for benchmark in data["benchmarks"]:
        info, seconds = benchmark["extra_info"], benchmark["stats"]["median"]
        if info.get("bytes", _LEAST_BYTES) < _LEAST_BYTES:
            continue
        threads = f"{info['threads']} thread{'s' * (info['threads'] > 1)}"
        if info["kind"] == "step":
            new = Panel(f"step of {info['shape']}, {threads}", "µs", "shorter is better")
            label, value = "", 1e6 * seconds
        else:
            new, value = _kernel_panel(info, threads, seconds)
            label = info["shape"]
        panel = panels.setdefault(new.title, new)
        panel.bars.setdefault(label, {})[info["peer"]] = value
    return list(panels.values())


def _kernel_panel(info: Mapping[str, Any], threads: str, seconds: float) -> tuple[Panel, float]:
    """A row's panel, still empty, and the value of one bar: GFLOP/s for arithmetic, else GB/s."""
    title = f"{info['row']}, {info['dtype']}, {threads}"
    unit, work = ("GFLOP/s", info["flops"]) if info["flops"] else ("GB/s", info["bytes"])
    return Panel(title, unit, "longer is better"), work / seconds / 1e9


def panels_of_steps(comparisons: Iterable[Comparison]) -> list[Panel]:
    """One panel for each workload that `steps.compare` measured."""
    return [_step_panel(c) for c in comparisons]


def _step_panel(c: Comparison) -> Panel:
    title = f"step of {c.workload}, {c.threads} thread{'s' * (c.threads > 1)}"
    for peer in c.figures:
        if peer != OURS:
            title += f"\n{TITLES[peer]} takes {c.ratio(peer):.2f} times as long"
    return Panel(title, "µs", "shorter is better", {"": {peer: figure.us for peer, figure in c.figures.items()}})


def draw_data(data: Mapping[str, Any], out: Path) -> None:
    """Draw the JSON of pytest-benchmark, or that of ``python -m bench steps --json``."""
    if data.get("kind") == "steps":
        draw(panels_of_steps(from_json(data)), out, data["machine"]["processor"])
    else:
        draw(panels_of_benchmarks(data), out, data["machine_info"].get("cpu", {}).get("brand_raw", ""))


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(panels: Sequence[Panel], out: Path, title: str) -> None:
    """Write all panels into one picture, three in a line, with a title and a legend on top."""
    if not panels:
        raise ValueError("there is nothing to draw: no benchmark of kernels or steps")
    columns = min(COLUMNS, len(panels))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in line) + 4 for line in lines]
    figure = Figure(figsize=(5.4 * columns, _INCH * sum(heights) + 0.7), layout="constrained")
    grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
    for i, line in enumerate(lines):
        for j, panel in enumerate(line):
            _draw_panel(figure.add_subplot(grid[i, j]), panel, max(other.height for other in line))
    figure.suptitle(title, size=11, x=0.01, ha="left")
    peers = [peer for peer in COLOURS if any(peer in group for panel in panels for group in panel.bars.values())]
    handles = [Patch(color=COLOURS[peer]) for peer in peers]
    figure.legend(handles, [TITLES[peer] for peer in peers], loc="outside upper right", ncols=len(peers), frameon=False)
    figure.savefig(out, dpi=120)


def _draw_panel(axes: Axes, panel: Panel, height: float) -> None:
    """Horizontal bars from the top down, each with its value; `height` is that of the highest panel beside it."""
    y, ticks = 0.0, []
    for group in panel.bars.values():
        first = y
        for peer in filter(group.__contains__, COLOURS):
            axes.barh(y, group[peer], color=COLOURS[peer], height=0.9)
            text = f"{group[peer]:.0f}" if group[peer] >= 10 else f"{group[peer]:.2g}"
            axes.annotate(text, (group[peer], y), (3, 0), textcoords="offset points", va="center", size=7)
            y += 1
        ticks.append((first + y - 1) / 2)
        y += 0.6
    axes.set_yticks(ticks, list(panel.bars), size=8)
    axes.set_ylim(height - 1, -0.6)
    axes.margins(x=0.12)
    axes.set_title(panel.title, size=10, loc="left")
    axes.set_xlabel(f"{panel.unit} ({panel.note})", size=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
