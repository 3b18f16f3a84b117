"""Whole training steps: forward, loss, backward and update, without gathering the batch."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import CLOCK, Workers, record
from .peers import PEERS
from .workloads import WORKLOADS

STEPS = 10  #: in a round


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_step(benchmark: Any, workers: Workers, workload: str, peer: str) -> None:
    """Seconds per step, the median of each round. ``python -m bench steps`` compares better: in turn."""
    worker = workers.of(peer)
    prepared = worker.prepare_step(WORKLOADS[workload])
    if prepared is None:
        pytest.skip(f"{peer} cannot do {workload}")
    form = prepared["form"]
    benchmark.group = f"step {workload}"
    what = {"kind": "step", "shape": workload}
    benchmark.extra_info.update(**prepared, **what, peer=peer, threads=workers.threads, about=worker.about)
    record(benchmark, lambda: worker.time_steps(form, STEPS), STEPS * prepared["seconds"], most=30)
