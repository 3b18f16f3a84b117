"""Charts of what was measured, with Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from .cs231n import WAYS, Timing
from .kernels import LEAST_BYTES, Measured, by_family
from .peers import OURS, PEERS
from .report import micros
from .rounds import Comparison
from .scaling import Point

_BAR = 0.22  #: inches, the height of a bar
_MARKS = "osD^vPX*<>"  #: of families
_PAD = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  #: behind a figure that a line crosses
_COPIES = {"16384": "L1", "1048576": "L2", "67108864": "memory"}  #: which copies are lines of the roofline


def draw(data: Mapping[str, Any], out: Path) -> None:
    """Write the picture of what a command saved as JSON."""
    pictures = {
        "steps": _ratios,
        "latency": _ratios,
        "courses": _ratios,
        "kernels": _kernels,
        "scaling": _scaling,
        "cs231n": _layers,
    }
    if data.get("kind") not in pictures:
        raise ValueError(f"there is nothing to draw: expected JSON of {', '.join(pictures)}")
    figure = pictures[data["kind"]](data)
    machine = data["machine"]
    threads = f"up to {data['threads']} threads" if data["threads"] > 1 else "1 thread"
    figure.suptitle(f"{machine['processor']}, {machine['cores']} cores; {threads}", size=9, x=0.01, ha="left")
    figure.savefig(out, dpi=120)


def _titles(names: Sequence[str]) -> list[str]:
    return [PEERS[name].title for name in names]


def _patches(names: Sequence[str]) -> list[Patch]:
    return [Patch(color=PEERS[name].colour) for name in names]


# --- ratios -----------------------------------------------------------------------------------------------------------


def _ratios(data: Mapping[str, Any]) -> Figure:
    """How many times as long each peer takes: bars, and a line where it would take as long as fastnn."""
    comparisons = [Comparison.from_json(c) for c in data["comparisons"]]
    peers = [peer for peer in PEERS if any(peer in c.peers for c in comparisons)]
    bars = sum(len(c.peers) + 1 for c in comparisons)
    figure = Figure(figsize=(8, _BAR * bars + 1.4), layout="constrained")
    axes, y = figure.add_subplot(), 0.0
    ticks, labels = [], []
    for c in comparisons:
        first = y
        for peer in (peer for peer in peers if peer in c.peers):
            ratio = c.ratio(peer)
            axes.barh(y, ratio - 1, left=1, color=PEERS[peer].colour, height=0.9)
            text = f"{ratio:.2f}   ({micros(c.figures[peer].us)} µs)"
            axes.annotate(text, (max(1, ratio), y), (4, 0), textcoords="offset points", va="center", size=7)
            y += 1
        ticks.append((first + y - 1) / 2)
        labels.append(f"{c.task}\n{c.ours.form}: {micros(c.ours.us)} µs")
        y += 1
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(ticks, labels, size=8)
    axes.set_ylim(y - 1.3, -0.7)
    ratios = [c.ratio(peer) for c in comparisons for peer in c.peers] or [1.0]
    axes.set_xlim(min(0.8, 0.8 * min(ratios)), 1.8 * max(2.0, *ratios))
    _log(axes, "x")
    axes.set_xlabel("time of the peer over fastnn's: right of 1, fastnn is the faster one", size=8)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    figure.legend(
        _patches(peers), _titles(peers), loc="outside upper right", ncols=len(peers), frameon=False, fontsize=8
    )
    return figure


# --- kernels ----------------------------------------------------------------------------------------------------------


def _kernels(data: Mapping[str, Any]) -> Figure:
    """The roofline of the rows that compute, and beside it how near the others come to a copy."""
    measured = [Measured.from_json(m) for m in data["measured"] if m["bytes"] >= LEAST_BYTES]
    computing, moving = [m for m in measured if m.flops], [m for m in measured if not m.flops]
    figure = Figure(figsize=(15, max(6.5, 0.28 * len(by_family(moving)) + 1.2)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _roofline(left, computing, data)
    _bandwidths(right, moving)
    peers = [OURS, *dict.fromkeys(peer for m in measured for peer in m.comparison.peers)]
    figure.legend(
        _patches(peers), _titles(peers), loc="outside upper right", ncols=len(peers), frameon=False, fontsize=9
    )
    return figure


def _roofline(axes: Axes, measured: Sequence[Measured], data: Mapping[str, Any]) -> None:
    """GFLOP/s over operations per byte; every row has a mark, every peer a colour."""
    ceiling = max([*data["limits"]["gflops"], *(limit for m in measured for limit in m.limit)])
    intensities = [m.flops / m.bytes for m in measured] or [1.0]
    ends = min(intensities) / 2, max(intensities) * 2
    axes.axhline(ceiling, color="black", linewidth=1)
    axes.annotate(
        f"FMA ceiling {ceiling:.0f} GFLOP/s", (ends[1], ceiling), (0, 3), textcoords="offset points", ha="right", size=8
    )
    for size, name in _COPIES.items():
        rate = data["limits"]["copies"][size]
        axes.plot((ends[0], ceiling / rate), (ends[0] * rate, ceiling), color="black", linewidth=0.7, linestyle=":")
        axes.annotate(
            f"{name} {rate:.0f} GB/s",
            (ceiling / rate, ceiling),
            (-3, -3),
            textcoords="offset points",
            size=7,
            rotation=45,
            ha="right",
            va="top",
            rotation_mode="anchor",
            bbox=_PAD,
        )
    rows = list(dict.fromkeys(m.row for m in measured))
    for m in measured:
        for peer in [*m.comparison.peers, OURS]:
            filled = PEERS[peer].colour if peer == OURS else "none"
            axes.plot(
                m.flops / m.bytes,
                m.rate(peer),
                _MARKS[rows.index(m.row) % len(_MARKS)],
                markersize=6,
                markeredgecolor=PEERS[peer].colour,
                markerfacecolor=filled,
                alpha=0.85,
            )
    axes.set_xlim(ends)
    axes.set_ylim(bottom=min((m.rate(peer) for m in measured for peer in m.comparison.figures), default=1.0) / 1.5)
    _log(axes, "xy")
    axes.set_title(f"roofline of {data['dtype']} kernels", size=10, loc="left")
    axes.set_xlabel("operations per byte", size=8)
    axes.set_ylabel("GFLOP/s", size=8)
    _plain(axes)
    handles = [
        Line2D([], [], marker=_MARKS[i % len(_MARKS)], color="#555555", linestyle="") for i, _ in enumerate(rows)
    ]
    axes.legend(handles, rows, loc="lower right", fontsize=8, frameon=False)


def _bandwidths(axes: Axes, measured: Sequence[Measured]) -> None:
    """A line for each family: what part of a copy's bandwidth each of its rows and shapes reaches, and their means."""
    families = by_family(measured)
    for i, group in enumerate(families.values()):
        for peer in dict.fromkeys(peer for m in group for peer in m.comparison.figures):
            ours, colour = peer == OURS, PEERS[peer].colour
            shares = [m.share(peer) for m in group if peer in m.comparison.figures]
            y = i - 0.17 if ours else i + 0.17
            style: dict[str, Any] = {"markeredgecolor": colour, "linestyle": "none"}
            axes.plot(shares, [y] * len(shares), "o", markerfacecolor=colour if ours else "none", markersize=4, **style)
            axes.plot(geometric_mean(shares), y, "|", markersize=11, markeredgewidth=2, **style)
    axes.axvline(1, color="black", linewidth=1, zorder=0)
    axes.set_yticks(range(len(families)), families, size=8)
    axes.set_ylim(len(families) - 0.4, -0.6)
    axes.set_yticks([i + 0.5 for i in range(len(families) - 1)], minor=True)
    axes.grid(axis="y", which="minor", alpha=0.3)
    _log(axes, "x")
    axes.set_title("kernels that move memory: a dot a shape, a stroke their mean", size=10, loc="left")
    axes.set_xlabel("part of the bandwidth of a copy of the same working set", size=8)
    _plain(axes)
    axes.tick_params(axis="y", which="both", length=0)


# --- scaling ----------------------------------------------------------------------------------------------------------


def _scaling(data: Mapping[str, Any]) -> Figure:
    """For each sweep, µs over the size: a line for each peer and number of threads."""
    points = [Point.from_json(p) for p in data["points"]]
    sweeps = list(dict.fromkeys(p.sweep for p in points))
    figure = Figure(figsize=(4.6 * len(sweeps) + 1.5, 4.6), layout="constrained")
    styles = ["-", "--", ":", "-."]
    handles: dict[str, Line2D] = {}
    for axes, sweep in zip(figure.subplots(1, len(sweeps), squeeze=False)[0], sweeps, strict=True):
        chosen = [p for p in points if p.sweep == sweep]
        for peer, by_threads in chosen[0].figures.items():
            for i, threads in enumerate(by_threads):
                sizes = [p.size for p in chosen]
                times = [p.figures[peer][threads].us for p in chosen]
                label = f"{PEERS[peer].title}, {threads} thread{'s' * (threads != '1')}"
                style = {"color": PEERS[peer].colour, "linestyle": styles[i % len(styles)], "marker": "o"}
                handles[label] = axes.plot(sizes, times, markersize=4, label=label, **style)[0]
        title, _, varied = sweep.rpartition(", ")
        _log(axes, "xy")
        axes.set_xticks([p.size for p in chosen], [str(p.size) for p in chosen])
        axes.set_title(title, size=10, loc="left")
        axes.set_xlabel(varied, size=8)
        axes.set_ylabel("µs a step; lower is better", size=8)
        axes.grid(alpha=0.3, axis="y")
        _plain(axes)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        handlelength=4,
    )
    return figure


# --- cs231n -----------------------------------------------------------------------------------------------------------


def _layers(data: Mapping[str, Any]) -> Figure:
    """A group of bars for each of CS231n's functions: the time of each way, and how many times fastnn's it is."""
    timings = [Timing(**timing) for timing in data["timings"]]
    colours = {"loops": "#D55E00", "im2col": "#999999", "fastnn": PEERS[OURS].colour}
    figure = Figure(figsize=(8, _BAR * (len(WAYS) + 1) * len(timings) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for i, timing in enumerate(timings):
        for j, way in enumerate(WAYS):
            us, y = timing.median(way), i * (len(WAYS) + 1) + j
            axes.barh(y, us / 1e3, color=colours[way], height=0.9)
            times = "" if way == "fastnn" else f"   ({micros(timing.ratio(way))}×)"
            text = (f"{us / 1e6:.2f} s" if us >= 1e6 else f"{micros(us / 1e3)} ms") + times
            axes.annotate(text, (us / 1e3, y), (4, 0), textcoords="offset points", va="center", size=7)
    middles = [i * (len(WAYS) + 1) + (len(WAYS) - 1) / 2 for i in range(len(timings))]
    axes.set_yticks(middles, [timing.task.replace(", ", ",\n") for timing in timings], size=8)
    axes.set_ylim(len(timings) * (len(WAYS) + 1) - 1.3, -0.7)
    axes.set_xscale("log")
    least, most = (end(t.median(way) for t in timings for way in WAYS) / 1e3 for end in (min, max))
    axes.set_xlim(least / 3, most * 10)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("ms a call; lower is better", size=8)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    figure.legend(
        [Patch(color=colours[way]) for way in WAYS],
        WAYS.values(),
        loc="outside upper right",
        ncols=len(WAYS),
        frameon=False,
        fontsize=8,
    )
    return figure


def _log(axes: Axes, names: str) -> None:
    """Logarithmic axes that say 1, 2, 5, 10 rather than powers of ten. names: "x", "y" or both."""
    axes.set(**{f"{name}scale": "log" for name in names})
    for axis in ({"x": axes.xaxis, "y": axes.yaxis}[name] for name in names):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
