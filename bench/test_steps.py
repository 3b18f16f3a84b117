"""Whole training steps: forward, loss, backward and update, without gathering the batch."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from .conftest import CLOCK, Workers, record
from .worker import PEERS
from .workloads import WORKLOADS

STEPS = 10  #: in a round


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_step(benchmark: Any, workers: Workers, workload: str, peer: str) -> None:
    """Seconds per step, the median of each round. ``python -m bench steps`` compares better: in turn."""
    worker = workers.of(peer)
    prepared = worker.prepare_step(WORKLOADS[workload])
    benchmark.group = f"step {workload}"
    what = {"kind": "step", "shape": workload}
    benchmark.extra_info.update(**prepared, **what, peer=peer, threads=workers.threads, about=worker.about)
    record(benchmark, lambda: median(worker.time_steps(STEPS)), STEPS * prepared["seconds"], most=30)
