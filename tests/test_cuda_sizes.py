"""The CUDA kernels on the simulator with the blocks and tiles that a GPU gets, which takes minutes to simulate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rows", ["linear", "conv", "norm", "softmax or entropy or count", "pool and not conv"])
def test_results_with_the_sizes_of_a_gpu(rows: str) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_cuda.py"]
    done = subprocess.run(
        [*command, "-k", f"test_result and float32 and ({rows})"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "FASTNN_CUDASIM": "full"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
