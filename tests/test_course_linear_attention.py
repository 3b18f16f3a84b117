"""linear-attention: what it computes holds for any seed; each check fails where its figure is off."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_native

import fastnn as fn
from fastnn import courses
from fastnn._kernels import TABLE
from fastnn.courses import linear_attention
from fastnn.courses.linear_attention import FULL, LENGTHS, LINEAR, LOW_RANK, MATRIX


@needs_native
def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = courses.reproduce("linear-attention", seed=1, out=tmp_path, lengths=(32, 64), progress=True)
    assert found.holds, found.summary()
    assert len(found.found.checks) == 3  # no exponents
    assert sorted(os.listdir(tmp_path)) == ["report.json", "scaling.png"]
    assert capsys.readouterr().err.splitlines()[-1] == "linear-attention: round 5 of 5"
    metrics = found.found.metrics
    assert set(metrics["seconds"]) == {FULL, LINEAR, LOW_RANK} and set(metrics["seconds"][FULL]) == {32, 64}
    assert all(math.isnan(value) for value in metrics["time_exponents"].values())


@pytest.mark.slow
@needs_native
def test_the_whole_run() -> None:
    found = courses.reproduce("linear-attention")
    assert found.holds, found.summary()
    assert len(found.found.checks) == 10


def test_it_measures_compiled_kernels() -> None:
    with fn.use_backend("reference"), pytest.raises(RuntimeError, match="which are not in use here"):
        linear_attention.run(seed=0)


@needs_native
def test_memory_is_that_of_all_results() -> None:
    layer, x = fn.Linear(4, 3), np.zeros((1, 5, 4), np.float32)
    results = 4 * (5 * 3 + 3 * 4 + 3 + 5 * 4)  # y, dweight, dbias, dx
    kernels = (TABLE[name] for name in ("linear", "linear_backward_data", "linear_backward_weights"))
    memory = (kernel.scratch({"N": 5, "I": 4, "O": 3}, 4) for kernel in kernels if kernel.scratch is not None)
    scratch = max(shared + own * fn.get_num_threads() for shared, own in memory)
    assert linear_attention.bytes_of_kernels(lambda: linear_attention.step(layer, x)) == results + scratch


def made_up(**changes: Any) -> dict[str, Any]:
    """Metrics that hold, but for changes."""
    exponents = {FULL: 1.9, LINEAR: 1.1, LOW_RANK: 1.15}
    return {
        "time_exponents": exponents,
        "memory_exponents": {FULL: 1.0, LINEAR: 1.0, LOW_RANK: 1.0, MATRIX: 2.0},
        "quadratic_form_error": {"False": 1e-12, "True": 1e-12},
        "full_rank_error": 0.0,
    } | changes


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({}, 0),
        ({"time_exponents": {FULL: 1.7, LINEAR: 1.16, LOW_RANK: 1.2}}, 3),
        ({"memory_exponents": {FULL: 1.2, LINEAR: 1.2, LOW_RANK: 1.2, MATRIX: 1.0}}, 4),
        ({"quadratic_form_error": {"False": 1e-9, "True": math.nan}}, 2),
        ({"full_rank_error": 1e-9}, 1),
    ],
)
def test_each_check_fails_where_its_figure_is_off(changes: dict[str, Any], failing: int) -> None:
    assert sum(not check.holds for check in linear_attention.checks(made_up(**changes))) == failing


def test_exponents() -> None:
    curve = {T: 3.0 * T**1.5 for T in LENGTHS}
    assert linear_attention.exponent(curve) == pytest.approx(1.5)
    assert linear_attention.exponent({**curve, 256: 7.0}) == pytest.approx(1.5)  # below what is fitted
    assert math.isnan(linear_attention.exponent({256: 1.0, 4096: 2.0}))
