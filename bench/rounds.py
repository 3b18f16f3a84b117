"""Measuring in turn, and what comes of it: the part that all commands share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from .peers import OURS
from .worker import Worker

PAUSE = 0.05  #: seconds before a measurement in which the threads of another peer's pool go to sleep
K = TypeVar("K")


def in_turn(measures: Mapping[K, Callable[[], float]], rounds: int, pause: float = PAUSE) -> dict[K, list[float]]:
    """What each measure returned in each round; every second round goes backwards."""
    found: dict[K, list[float]] = {key: [] for key in measures}
    for i in range(rounds):
        for key in [*measures][:: 1 if i % 2 else -1]:
            time.sleep(pause)
            found[key].append(measures[key]())
    return found


@contextmanager
def workers_of(peers: Iterable[str], threads: int, tuned: bool = True) -> Iterator[dict[str, Worker]]:
    """fastnn's worker and those of the peers."""
    with ExitStack() as stack:
        yield {peer: stack.enter_context(Worker(peer, threads, tuned)) for peer in (OURS, *peers)}


@dataclass(frozen=True)
class Figure:
    """One peer at one task. rounds: the µs of each; forms: those of each form in the trial that chose this one."""

    form: str
    rounds: list[float]
    forms: dict[str, float]

    @property
    def us(self) -> float:
        """The median over all rounds."""
        return median(self.rounds)


@dataclass(frozen=True)
class Comparison:
    """A task at a number of threads: the figure of each peer that can do it, by its name."""

    task: str
    threads: int
    figures: Mapping[str, Figure]

    @property
    def ours(self) -> Figure:
        """fastnn's figure."""
        return self.figures[OURS]

    @property
    def peers(self) -> list[str]:
        """Those beside fastnn."""
        return [peer for peer in self.figures if peer != OURS]

    def ratio(self, peer: str) -> float:
        """How many times as long a peer takes as fastnn: the median over rounds, in which both ran side by side."""
        pairs = zip(self.figures[peer].rounds, self.ours.rounds, strict=True)
        return median(theirs / ours for theirs, ours in pairs)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Comparison:
        """The comparison that ``dataclasses.asdict`` described, after its way through JSON."""
        return Comparison(**{**data, "figures": {peer: Figure(**figure) for peer, figure in data["figures"].items()}})


def figure(prepared: Mapping[str, Any], seconds: Iterable[float], form: str | None = None) -> Figure:
    """The figure of a peer, from what a worker prepared and the seconds of each round."""
    trial = {title: 1e6 * s for title, s in prepared["forms"].items()}
    return Figure(form or prepared["form"], [1e6 * s for s in seconds], trial)
