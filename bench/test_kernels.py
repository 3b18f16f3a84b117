"""Every row of the kernel table at the shapes of real networks, on each backend and in each peer."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import CLOCK, Workers, record
from .inputs import cases
from .peers import PEERS

#: fastnn on each backend, and the peers that have single kernels.
ABLE = [peer for peer, info in PEERS.items() if info.package == "fastnn" or "kernels" in info.measures]


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("peer", ABLE)
@pytest.mark.parametrize("row,shape", [pytest.param(row, shape, id=f"{row}-{shape}") for row, shape in cases()])
def test_kernel(benchmark: Any, workers: Workers, row: str, shape: str, peer: str, dtype: str) -> None:
    """Seconds per call; ``extra_info`` holds what GFLOP/s and GB/s are computed from."""
    worker = workers.of(peer)
    prepared = worker.prepare_kernel(row, shape, dtype)
    if prepared is None:
        pytest.skip(f"{peer} has no equivalent of {row}")
    benchmark.group = f"{row} {shape}"
    what = {"kind": "kernel", "row": row, "shape": shape, "dtype": dtype}
    benchmark.extra_info.update(**prepared, **what, peer=peer, threads=workers.threads, about=worker.about)
    form, repeats = prepared["form"], prepared["repeats"]
    record(benchmark, lambda: worker.time_kernel(form, repeats), repeats * prepared["seconds"], most=20)
