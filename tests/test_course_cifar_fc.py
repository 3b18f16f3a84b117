"""cifar-fc: the networks and their training are the course's; on the real images it reaches its figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn.courses import cifar_fc
from fastnn.courses.cs231n.solver import Solver


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """300 + 50 + 50 images in the place of CIFAR-10: class c has a bright square at a place of its own, in noise."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, count)
        x = rng.standard_normal((count, 3, 32, 32)) * 20
        for image, label in zip(x, y, strict=True):
            row, column = divmod(int(label), 4)
            image[label % 3, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 100
        return x, y

    parts = {"train": part(300), "val": part(50), "test": part(50)}
    data = {f"{name}_{key}": a for key, pair in parts.items() for name, a in zip("Xy", pair, strict=True)}
    monkeypatch.setattr(cifar_fc, "get_CIFAR10_data", lambda **_: data)
    return data


def test_cifar_fc_trains_as_the_course_does(small_cifar: dict[str, np.ndarray]) -> None:
    two_layers, three = cifar_fc.two_layer_solver(small_cifar, 7), cifar_fc.overfitting_solver(small_cifar)
    assert {name: p.shape for name, p in two_layers.model.params.items()} == {
        "W1": (3072, 200),
        "b1": (200,),
        "W2": (200, 10),
        "b2": (10,),
    }
    assert two_layers.num_epochs == 7 and two_layers.X_train is small_cifar["X_train"]
    shapes = [p.shape for p in three.model.params.values()]
    assert shapes == [(3072, 100), (100,), (100, 100), (100,), (100, 10), (10,)]
    assert three.optim_config == {"learning_rate": 1e-2}
    assert abs(three.model.params["W1"].std() - 1e-2) < 1e-4
    assert (len(three.X_train), three.batch_size, three.num_epochs) == (50, 25, 20)


def test_cifar_fc_runs(small_cifar: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    before = np.random.get_state()[1].tolist()
    found = courses.reproduce("cifar-fc", epochs=3, out=tmp_path, progress=True)
    assert np.random.get_state()[1].tolist() == before
    pictures = ["filters.png", "learning_curve.png", "overfitting.png"]
    assert sorted(os.listdir(tmp_path)) == sorted([*pictures, "model.safetensors", "report.json"])
    assert sorted(found.found.pictures) == pictures
    metrics = found.found.metrics
    assert len(metrics["validation_accuracy"]) == 4 and metrics["epochs"] == 3
    assert metrics["best_validation_accuracy"] == max(metrics["validation_accuracy"]) > 0.5
    printed = capsys.readouterr()
    assert "(Epoch 3 / 3)" in printed.err and not printed.out

    model = fn.load(tmp_path / "model.safetensors")
    assert (model.predict(small_cifar["X_val"]) == small_cifar["y_val"]).mean() == metrics["best_validation_accuracy"]
    assert (model.predict(small_cifar["X_test"]) == small_cifar["y_test"]).mean() == metrics["test_accuracy"]


def test_the_model_has_the_scores_of_the_network(small_cifar: dict[str, np.ndarray]) -> None:
    net = cifar_fc.two_layer_solver(small_cifar, 1).model
    x = small_cifar["X_test"]
    np.testing.assert_allclose(cifar_fc.as_model(net)(x), net.loss(x), rtol=1e-10)


def test_cifar_fc_interrupted_reports_nothing(
    small_cifar: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(solver: Solver) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Solver, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("cifar-fc", out=tmp_path)
    assert os.listdir(tmp_path) == []


def test_cifar_fc_checks() -> None:
    metrics: dict[str, Any] = {"best_validation_accuracy": 0.4, "overfitted_training_accuracy": [0.5, 1.0]}
    assert [check.holds for check in cifar_fc.checks(metrics)] == [True, True]
    worse = {"best_validation_accuracy": 0.399, "overfitted_training_accuracy": [1.0, 0.98]}
    assert [check.holds for check in cifar_fc.checks(worse)] == [False, False]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_cifar_fc_reaches_the_course(real_data: Path) -> None:
    found = courses.reproduce("cifar-fc", data=real_data, download=False)
    assert found.holds, found.summary()
    assert found.found.metrics["best_validation_accuracy"] >= 0.5
