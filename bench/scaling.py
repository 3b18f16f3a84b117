"""How a training step grows with batch and width, and shrinks with threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from .peers import OURS, PEERS
from .report import aligned, micros
from .rounds import Figure, figure, in_turn, workers_of
from .steps import check_same_losses
from .worker import Worker
from .workloads import Workload


@dataclass(frozen=True)
class Point:
    """A workload at one size. figures: by peer, then by number of threads, as text since JSON has no other keys."""

    sweep: str
    size: int
    figures: dict[str, dict[str, Figure]]

    def gain(self, peer: str, threads: int) -> float:
        """How many times as fast as with one thread: the median over rounds."""
        one, more = (self.figures[peer][str(n)].rounds for n in (1, threads))
        return median(a / b for a, b in zip(one, more, strict=True))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Point:
        """What ``dataclasses.asdict`` described, after its way through JSON."""
        figures = {
            peer: {threads: Figure(**found) for threads, found in by_threads.items()}
            for peer, by_threads in data["figures"].items()
        }
        return Point(data["sweep"], data["size"], figures)


def thread_counts(most: int) -> list[int]:
    """1, 2, 4 … and the most."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def compare(
    sweeps: Mapping[str, Mapping[int, Workload]], peers: Sequence[str], threads: int, rounds: int, steps: int
) -> tuple[list[Point], dict[str, str]]:
    """Measure every workload with every number of threads in turn, and return the peers' versions, too."""
    with ExitStack() as stack:
        workers = {n: stack.enter_context(workers_of(peers, n)) for n in thread_counts(threads)}
        about = {key: value for worker in workers[1].values() for key, value in worker.about.items()}
        points = [
            Point(sweep, size, _compare(workload, workers, rounds, steps))
            for sweep, workloads in sweeps.items()
            for size, workload in workloads.items()
        ]
        return points, about


def _compare(
    workload: Workload, workers: Mapping[int, Mapping[str, Worker]], rounds: int, steps: int
) -> dict[str, dict[str, Figure]]:
    check_same_losses(workload, workers[1])
    lanes = {(peer, n): worker for n, group in workers.items() for peer, worker in group.items()}
    prepared = {lane: worker.prepare_step(workload) for lane, worker in lanes.items()}
    able = {lane: found for lane, found in prepared.items() if found is not None}
    seconds = in_turn({lane: partial(lanes[lane].time_steps, p["form"], steps) for lane, p in able.items()}, rounds)
    found: dict[str, dict[str, Figure]] = {}
    for (peer, n), one in able.items():
        found.setdefault(peer, {})[str(n)] = figure(one, seconds[peer, n])
    return found


def table(points: Sequence[Point]) -> str:
    """One line for each size and peer: µs by threads, and what more threads gain."""
    counts = [int(n) for n in points[0].figures[OURS]]
    more = counts[1:]
    head = ["", "size", "peer", *(f"µs, {n} thread{'s' * (n > 1)}" for n in counts), *(f"gain of {n}" for n in more)]
    lines = [head]
    for point in points:
        for peer, figures in point.figures.items():
            times = [micros(figures[str(n)].us) for n in counts]
            gains = [f"{point.gain(peer, n):.2f}" for n in more]
            lines.append([point.sweep, str(point.size), PEERS[peer].title, *times, *gains])
    return aligned(lines, right={1, *range(3, len(head))})
