"""Training steps of fastnn and its peers, measured in turn."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .worker import Worker, missing
from .workloads import Workload

OURS = "native"
PEERS = ("torch",)
TITLES = {"native": "fastnn", "reference": "fastnn reference", "torch": "PyTorch"}
PAUSE = 0.05  #: seconds before a block in which the threads of the other peer's pool go to sleep
TRACE = 4  #: steps after which both peers must have had the same losses


@dataclass(frozen=True)
class Figure:
    """One peer at one workload. rounds: the median step of each block, in µs."""

    form: str
    rounds: list[float]

    @property
    def us(self) -> float:
        """The median over all rounds."""
        return median(self.rounds)


@dataclass(frozen=True)
class Comparison:
    """A workload at a number of threads: the figure of each peer, by its name."""

    workload: str
    threads: int
    figures: Mapping[str, Figure]

    def ratio(self, peer: str) -> float:
        """How many times as long a peer takes as fastnn: the median over rounds, in which both ran side by side."""
        pairs = zip(self.figures[peer].rounds, self.figures[OURS].rounds, strict=True)
        return median(theirs / ours for theirs, ours in pairs)


def compare(
    workloads: Iterable[Workload], threads: int, rounds: int, steps: int, tuned: bool = True
) -> tuple[list[Comparison], dict[str, str]]:
    """Measure fastnn and the peers that are installed, a block of steps each in turn. Returns their versions, too.

    tuned: peers run in the environment that suits them best (`worker.TUNING`).
    """
    names = [OURS, *(peer for peer in PEERS if not missing(peer))]
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, threads, tuned)) for name in names}
        about = {key: value for worker in workers.values() for key, value in worker.about.items()}
        return [_compare(workload, workers, threads, rounds, steps) for workload in workloads], about


def _compare(workload: Workload, workers: Mapping[str, Worker], threads: int, rounds: int, steps: int) -> Comparison:
    _check_same(workload, workers)
    forms = {name: worker.prepare_step(workload)["form"] for name, worker in workers.items()}
    found: dict[str, list[float]] = {name: [] for name in workers}
    for i in range(rounds):
        names = list(workers)[:: 1 if i % 2 else -1]
        for name in names:
            time.sleep(PAUSE)
            found[name].append(1e6 * median(workers[name].time_steps(steps)))
    return Comparison(workload.name, threads, {name: Figure(forms[name], found[name]) for name in workers})


def _check_same(workload: Workload, workers: Mapping[str, Worker]) -> None:
    """Raise unless all peers train alike: from the same weights, on the same batches, to the same losses."""
    losses = {name: worker.losses(workload.without_dropout(), TRACE) for name, worker in workers.items()}
    for name, trace in losses.items():
        if any(abs(a - b) > 1e-3 * abs(b) for a, b in zip(trace, losses[OURS], strict=True)):
            raise ArithmeticError(f"{workload.name}: {name} has losses {trace}, fastnn {losses[OURS]}")


# --- what is shown and kept -------------------------------------------------------------------------------------------


def table(comparisons: Sequence[Comparison]) -> str:
    """One line for each workload and peer."""
    head = ("workload", "threads", "fastnn µs", "peer", "µs", "ratio", "fastest form of the peer")
    lines = [head]
    for c in comparisons:
        for peer, figure in c.figures.items():
            if peer == OURS and len(c.figures) > 1:
                continue
            ours = peer == OURS
            lines.append(
                (
                    c.workload,
                    str(c.threads),
                    f"{c.figures[OURS].us:.0f}",
                    "–" if ours else TITLES[peer],
                    "–" if ours else f"{figure.us:.0f}",
                    "–" if ours else f"{c.ratio(peer):.2f}",
                    "–" if ours else figure.form,
                )
            )
    return _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width; those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = {1, 2, 4, 5}
    return "\n".join(
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_json(comparisons: Sequence[Comparison], about: Mapping[str, str]) -> dict[str, Any]:
    """What ``--json`` writes."""
    return {
        "kind": "steps",
        "machine": {"processor": processor(), "system": platform.platform(), "python": platform.python_version()},
        "about": dict(about),
        "comparisons": [asdict(c) for c in comparisons],
    }


def from_json(data: Mapping[str, Any]) -> list[Comparison]:
    """The comparisons in what `as_json` made."""
    return [
        Comparison(c["workload"], c["threads"], {name: Figure(**figure) for name, figure in c["figures"].items()})
        for c in data["comparisons"]
    ]


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
