"""layer-checks: it holds for any seed; each check fails where its figure is off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import _kernels as k
from fastnn import courses
from fastnn.courses import layer_checks


@pytest.mark.parametrize("seed", [layer_checks.SEED, 1, 2])
def test_layer_checks_hold(seed: int, tmp_path: Path) -> None:
    before = np.random.get_state()[1].tolist()
    found = courses.reproduce("layer-checks", seed=seed, out=tmp_path, progress=True)
    assert found.holds, found.summary()
    assert len(found.found.checks) == 25
    assert os.listdir(tmp_path) == ["report.json"]
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("backend", k.backends())
def test_layer_checks_hold_on_every_backend(backend: str) -> None:
    with fn.use_backend(backend):
        assert courses.reproduce("layer-checks").holds


def test_the_seed_draws_the_inputs() -> None:
    first, again, other = (layer_checks.run(seed=seed).metrics for seed in (3, 3, 4))
    assert first["svm_loss"] == again["svm_loss"] != other["svm_loss"]
    assert first["two_layer_net_losses"] == other["two_layer_net_losses"]


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    """Of the course's seed."""
    return layer_checks.run(seed=layer_checks.SEED).metrics


def changed(value: Any, by: float) -> Any:
    return {name: changed(item, by) for name, item in value.items()} if isinstance(value, dict) else value + by


@pytest.mark.parametrize(
    ("metric", "by", "failing"),
    [
        ("affine", 1e-7, 1),
        ("affine_error", 1e-12, 1),
        ("relu_error", 1e-12, 1),
        ("two_layer_net_scores", 1e-7, 1),
        ("two_layer_net_losses", 1e-10, 2),
        ("svm_loss", 0.02, 1),
        ("softmax_loss", 0.002, 1),
        ("gradient_errors", 1e-6, 17),
    ],
)
def test_each_check_fails_where_its_figure_is_off(
    metrics: dict[str, Any], metric: str, by: float, failing: int
) -> None:
    checks = layer_checks.checks({**metrics, metric: changed(metrics[metric], by)})
    assert sum(not check.holds for check in checks) == failing
