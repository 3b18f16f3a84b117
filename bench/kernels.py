"""Every row of the kernel table at the shapes of real networks, beside its peers and beside the machine itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import geometric_mean, median
from typing import Any

from .inputs import family, make, shapes
from .machine import Machine
from .peers import OURS, PEERS
from .report import aligned, micros
from .rounds import PAUSE, Comparison, figure, in_turn, workers_of
from .worker import Worker

WORKING_SETS = [4**i * 1024 for i in range(2, 9)]  #: bytes: 16 KB to 64 MB
LEAST_BYTES = 1000  #: of a call; one that moves less says nothing but what a call costs


class AboveCeiling(ArithmeticError):
    """A kernel measured faster than the machine can compute: the measurement is broken."""


@dataclass(frozen=True)
class Measured:
    """A row at a shape.

    comparison: of calls from Python, as the peers' are. replayed: µs of fastnn's kernel by itself in each round, as in
    a captured step; what a peer computes in that way nobody can tell.
    sizes: the call's, by symbol. flops, bytes: of a call.
    limit: of each round, the FMA ceiling in GFLOP/s, or, for a row without arithmetic to speak of, the GB/s of a copy
    that reads and writes as large a working set.
    """

    row: str
    shape: str
    family: str
    sizes: dict[str, int]
    flops: int
    bytes: int
    limit: list[float]
    comparison: Comparison
    replayed: list[float]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.row} {self.shape}"

    @property
    def work(self) -> int:
        """Operations, or bytes where there are none."""
        return self.flops or self.bytes

    @property
    def unit(self) -> str:
        """Of `rate` and `limit`."""
        return "GFLOP/s" if self.flops else "GB/s"

    def rounds(self, peer: str = OURS) -> list[float]:
        """The µs of a kernel in each round; of fastnn's without the call from Python."""
        return self.replayed if peer == OURS else self.comparison.figures[peer].rounds

    def rate(self, peer: str = OURS) -> float:
        """Operations or bytes a nanosecond."""
        return self.work / median(self.rounds(peer)) / 1e3

    def share(self, peer: str = OURS) -> float:
        """The part of the limit that is reached: the median over rounds, each with the limit measured beside it."""
        return median(self.work / us / 1e3 / limit for us, limit in zip(self.rounds(peer), self.limit, strict=True))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Measured:
        """What ``dataclasses.asdict`` described, after its way through JSON."""
        return Measured(**{**data, "comparison": Comparison.from_json(data["comparison"])})


@dataclass(frozen=True)
class Limits:
    """What the machine can do. unit: the instruction set of the ceiling; gflops: the ceiling before and after the run;
    copies: GB/s by the bytes of the working set."""

    unit: str
    gflops: list[float]
    copies: dict[str, float]

    def __str__(self) -> str:
        copies = ", ".join(f"{int(size) // 1024} KB {rate:.0f}" for size, rate in self.copies.items())
        before, after = self.gflops
        ceiling = f"FMA ceiling, {self.unit}: {before:.0f} GFLOP/s before, {after:.0f} after"
        return f"{ceiling}\ncopy by working set, GB/s read and written: {copies}"


def compare(
    cases: Sequence[tuple[str, str]], peers: Sequence[str], threads: int, rounds: int, dtype: str
) -> tuple[list[Measured], Limits, dict[str, str]]:
    """Measure every (row, name of a shape), the machine beside each. Returns the machine's limits and versions, too."""
    with Machine() as machine, workers_of(peers, threads) as workers:
        about = {key: value for worker in workers.values() for key, value in worker.about.items()}
        before = machine.gflops(threads, dtype)
        copies = {str(size): median(machine.copied(size, threads) for _ in range(5)) for size in WORKING_SETS}
        found = [_compare(row, shape, machine, workers, threads, rounds, dtype) for row, shape in cases]
        return found, Limits(machine.unit, [before, machine.gflops(threads, dtype)], copies), about


def _compare(
    row: str, shape: str, machine: Machine, workers: Mapping[str, Worker], threads: int, rounds: int, dtype: str
) -> Measured:
    prepared = {peer: worker.prepare_kernel(row, shape, dtype) for peer, worker in workers.items()}
    able = {peer: found for peer, found in prepared.items() if found is not None}
    work = able[OURS]
    forms = {peer: _form_of(work, "from Python") if peer == OURS else p["form"] for peer, p in able.items()}
    ours = partial(workers[OURS].time_kernel, _form_of(work, "replayed"), work["repeats"])
    measures: dict[str, Callable[[], float]]
    measures = {"machine": _limit(work, machine, threads, dtype), "replayed": ours}  # first, and so beside each other
    measures |= {peer: partial(workers[peer].time_kernel, forms[peer], p["repeats"]) for peer, p in able.items()}
    found = in_turn(measures, rounds, PAUSE if threads > 1 else PAUSE / 10)
    figures = {peer: figure(p, found[peer], forms[peer]) for peer, p in able.items()}
    comparison, replayed = Comparison(f"{row} {shape}", threads, figures), [1e6 * s for s in found["replayed"]]
    sizes = make(row, shapes(row)[shape], dtype).sizes
    return Measured(
        row, shape, family(row), sizes, work["flops"], work["bytes"], found["machine"], comparison, replayed
    )


def _form_of(prepared: Mapping[str, Any], name: str) -> str:
    """The title of the form of that name."""
    titles: dict[str, float] = prepared["forms"]
    return next(title for title in titles if title.startswith(name))


def _limit(work: Mapping[str, Any], machine: Machine, threads: int, dtype: str) -> Callable[[], float]:
    """What measures the most that the machine could do of such work."""
    if work["flops"]:
        return partial(machine.gflops, threads, dtype)
    return partial(machine.copied, work["footprint"], threads)


def check_below_ceiling(measured: Sequence[Measured]) -> None:
    """Raise if anything computes faster than the machine did at its best beside it."""
    above = [
        f"{m.name}: {PEERS[peer].title} at {m.rate(peer):.0f} GFLOP/s, the ceiling is {max(m.limit):.0f}"
        for m in measured
        for peer in m.comparison.figures
        if m.flops and m.rate(peer) > max(m.limit)
    ]
    if above:
        raise AboveCeiling("a broken measurement, above what the machine can compute: " + "; ".join(above))


def table(measured: Sequence[Measured], limits: Limits, marks: Mapping[str, str]) -> str:
    """The machine's limits, a line for each row and shape, and the geometric means of every family.

    marks: which targets a row has, by its name.
    """
    peers = list(dict.fromkeys(peer for m in measured for peer in m.comparison.peers))
    head = ["row", "shape", "µs", "rate", "", "of limit", "called µs"]
    lines = [head + [text for peer in peers for text in (f"{PEERS[peer].title} µs", "ratio")] + ["target"]]
    for m in measured:
        theirs = [text for peer in peers for text in _beside(m, peer)]
        ours = [micros(median(m.replayed)), f"{m.rate():.1f}", m.unit, f"{m.share():.0%}"]
        ours.append(micros(m.comparison.ours.us))
        lines.append([m.row, m.shape, *ours, *theirs, marks.get(m.name, "")])
    for name, group in by_family(measured).items():
        share = f"{geometric_mean(m.share() for m in group):.0%}"
        theirs = [text for peer in peers for text in ("", mean_ratio(group, peer))]
        lines.append([name, "geometric mean", "", "", "", share, "", *theirs, ""])
    return f"{limits}\n\n{aligned(lines, right={2, 3, *range(5, 7 + 2 * len(peers))})}"


def by_family(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """What was measured, by family, without calls that do next to nothing."""
    found: dict[str, list[Measured]] = {}
    for m in measured:
        if m.bytes >= LEAST_BYTES:
            found.setdefault(m.family, []).append(m)
    return found


def mean_ratio(measured: Sequence[Measured], peer: str) -> str:
    """The geometric mean of a peer's ratios, for a table."""
    ratios = [m.comparison.ratio(peer) for m in measured if peer in m.comparison.figures]
    return f"{geometric_mean(ratios):.2f}" if ratios else "–"


def _beside(m: Measured, peer: str) -> tuple[str, str]:
    if peer not in m.comparison.figures:
        return "–", "–"
    return micros(m.comparison.figures[peer].us), f"{m.comparison.ratio(peer):.2f}"
