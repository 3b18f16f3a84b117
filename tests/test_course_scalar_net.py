"""fastnn.courses.scalar_net: the course's digits, the same ones in plain NumPy, and what is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn._kernels import backends
from fastnn.courses import scalar_net


@pytest.mark.parametrize("backend", backends())
def test_it_comes_to_the_course_digits(backend: str) -> None:
    with fn.use_backend(backend):
        report = courses.reproduce("scalar-net")
    assert report.holds and len(report.found.checks) == 6, report.summary()
    assert report.found.metrics["relu_slope_at_zero"] == 0


def test_plain_numpy_comes_to_the_same() -> None:
    w, b, v = np.ones((3, 2)), np.zeros(3), np.ones(3)
    for _ in range(10):
        for x, y in scalar_net.POINTS:
            z = w @ x + b
            error = v @ np.maximum(z, 0) - y
            dz = error * v * (z > 0)
            v, b, w = v - 0.001 * error * np.maximum(z, 0), b - 0.001 * dz, w - 0.001 * np.outer(dz, x)
    found = courses.reproduce("scalar-net").found.metrics["predictions"]
    for point, ours in zip(scalar_net.PREDICTIONS, found.values(), strict=True):
        assert v @ np.maximum(w @ point + b, 0) == pytest.approx(ours, rel=0, abs=1e-12)


def test_the_biases_are_trained() -> None:
    model = scalar_net.network()
    assert {name: p.data.tolist() for name, p in model.named_parameters()} == {
        "0.weight": [[1, 1]] * 3,
        "0.bias": [0] * 3,
        "2.weight": [[1] * 3],
    }
    assert all(p.requires_grad and p.data.dtype == np.float64 for p in model.parameters())


def test_other_epochs_are_not_held_against_the_predictions() -> None:
    assert [check.what for check in courses.reproduce("scalar-net", epochs=9).found.checks] == ["ReLU'(0)"]


def test_a_check_that_is_off_fails() -> None:
    right = dict(scalar_net.PREDICTIONS)
    assert all(check.holds for check in scalar_net.checks(10, right, 0.0))
    wrong = scalar_net.checks(10, right | {(1, 1): right[1, 1] + 2e-12}, 0.5)
    assert [check.holds for check in wrong] == [False, False, True, True, True, True]


def test_model_and_picture_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    report = courses.reproduce("scalar-net", out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["learning_curve.png", "model.safetensors", "report.json"]
    assert [*report.found.pictures] == ["learning_curve.png"]
    prediction = fn.load(tmp_path / "model.safetensors")(np.array([[1.0, 1.0]]))
    assert float(prediction.item()) == report.found.metrics["predictions"]["(1, 1)"]


def test_progress_has_the_name_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    courses.reproduce("scalar-net", progress=True)
    assert "scalar net: epoch 10/10" in capsys.readouterr().err


def test_interrupted_it_reports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any, **__: Any) -> fn.History:
        return fn.History(interrupted=True)

    monkeypatch.setattr(fn, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("scalar-net", out=tmp_path)
    assert os.listdir(tmp_path) == []
