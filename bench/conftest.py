"""Options of the benchmarks, and one worker process for each peer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .peers import missing
from .worker import Worker


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--threads N`` and ``--dtype``."""
    parser.addoption("--threads", type=int, default=1, help="threads that each peer may use (default 1)")
    parser.addoption("--dtype", choices=("float32", "float64"), default="float32", help="of the kernels' real arrays")


class Clock:
    """A timer for pytest-benchmark that shows the time which workers measured, instead of the time that passed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


CLOCK = Clock()


class Workers:
    """One worker for each peer, started when first asked for."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._running: dict[str, Worker] = {}

    def of(self, peer: str) -> Worker:
        """The peer's worker; skips the test where the peer is not installed."""
        if reason := missing(peer):
            pytest.skip(reason)
        if peer not in self._running:
            self._running[peer] = Worker(peer, self.threads)
        return self._running[peer]

    def close(self) -> None:
        """End all processes."""
        for worker in self._running.values():
            worker.close()


@pytest.fixture(scope="session")
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """All workers of a run."""
    found = Workers(request.config.getoption("--threads"))
    yield found
    found.close()


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> str:
    """The dtype of real arrays."""
    return str(request.config.getoption("--dtype"))


def record(benchmark: Any, measure: Any, seconds: float, most: int) -> None:
    """Run rounds of `measure`, which returns seconds, for about a third of a second: from 3 to `most` rounds.

    seconds: what one round is expected to take.
    """

    def one_round() -> None:
        CLOCK.seconds += measure()

    benchmark.pedantic(one_round, rounds=max(3, min(most, round(0.3 / seconds))))
