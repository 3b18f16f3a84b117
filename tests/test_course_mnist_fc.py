"""fastnn.courses.mnist_fc: the ten runs are the course's, down to the weights; what is checked, noted and written."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn.courses import mnist_fc
from fastnn.courses.images import Part
from fastnn.courses.mnist_fc import RUNS, Trained
from fastnn.data import Dataset


def trained(validation: float = 0.9, **test: float) -> Trained:
    history = fn.History([1.0], [0.5], [0.1], [1.0], [validation])
    return Trained(mnist_fc.network(10), history, {"loss": 0.5, "accuracy": 0.9, **test})


def the_course() -> dict[str, Trained]:
    """Ten runs that found what the course did."""
    return {
        name: trained(loss=course.loss, accuracy=course.accuracy or 0.5)
        for name, course in ((name, how.course) for name, how in RUNS.items())
    }


def test_the_runs_are_the_course_variations() -> None:
    ways = [(32, 0.1, 0, fn.ReLU), (64, 0.1, 0, fn.ReLU), (32, 0.01, 0, fn.ReLU), (32, 0.1, 0.9, fn.ReLU)]
    ways.append((32, 0.1, 0, fn.LeakyReLU))
    found = [(how.hidden, (how.batch, how.lr, how.momentum, how.activation)) for how in RUNS.values()]
    assert found == [(hidden, way) for hidden in (10, 128) for way in ways]
    assert [p.shape for p in mnist_fc.network(128).parameters()] == [(128, 784), (128,), (10, 128), (10,)]
    assert fn.LeakyReLU().negative_slope == 0.01


def test_every_run_trains_as_the_course_does(small_mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the course's order, remainders dropped, from the same weights each time."""
    seen: list[dict[str, Any]] = []

    def fit(model: fn.Sequential, x: np.ndarray, y: np.ndarray, **options: Any) -> fn.History:
        seen.append({**options, "x": x, "y": y, "weights": model.state_dict()["0.weight"].copy(), "model": model})
        return fn.History([1.0], [0.5], [0.1], [1.0], [0.5])

    monkeypatch.setattr(fn, "fit", fit)
    found = mnist_fc.run(seed=12321, progress=True)
    order = np.arange(630)
    np.random.RandomState(12321).shuffle(order)
    assert len(seen) == 10
    for options, (name, how) in zip(seen, RUNS.items(), strict=True):
        np.testing.assert_array_equal(options["x"], small_mnist.x_train[:630].reshape(630, 784)[order])
        np.testing.assert_array_equal(options["y"], small_mnist.y_train[:630][order])
        assert len(options["validation_data"][1]) == 64  # of 70
        assert (options["shuffle"], options["drop_last"], options["epochs"]) == (False, True, 10)
        assert (options["batch_size"], options["progress"]) == (how.batch, name)
        assert isinstance(options["model"][1], how.activation)
        defaults = options["optimizer"].defaults
        assert (defaults["lr"], defaults["momentum"], defaults["nesterov"]) == (how.lr, how.momentum, False)
        first = seen[0 if how.hidden == 10 else 5]
        np.testing.assert_array_equal(options["weights"], first["weights"])
        accuracy = fn.evaluate(options["model"], small_mnist.x_test[:64].reshape(64, 784), small_mnist.y_test[:64])
        if how.batch == 64:  # one whole batch of 100 images
            assert found.metrics[name]["test_accuracy"] == accuracy["accuracy"]


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_the_first_weights_are_those_of_torch() -> None:
    # In a process of its own: two OpenMP runtimes in one disturb each other.
    code = "import test_course_mnist_fc; test_course_mnist_fc.compare_with_torch()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, timeout=120)


def compare_with_torch() -> None:
    """The weights after the course's seed, to the bit; raises where they differ."""
    import torch

    for how in RUNS.values():
        fn.init.torch_manual_seed(mnist_fc.SEED)
        ours = mnist_fc.network(how.hidden, how.activation).state_dict()
        torch.manual_seed(12321)
        activation = getattr(torch.nn, how.activation.__name__)()
        model = torch.nn.Sequential(torch.nn.Linear(784, how.hidden), activation, torch.nn.Linear(how.hidden, 10))
        theirs = model.state_dict()
        assert [*ours] == [*theirs]
        for name, values in theirs.items():
            assert np.array_equal(ours[name], values.numpy()), name


def test_it_runs(small_mnist: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    report = courses.reproduce("mnist-fc", epochs=2, out=tmp_path)
    found = report.found
    assert sorted(os.listdir(tmp_path)) == sorted([*found.pictures, "model.safetensors", "report.json"])
    assert sorted(found.pictures) == [
        "confusion_matrix.png",
        "learning_curves_10.png",
        "learning_curves_128.png",
        "test_errors.png",
        "test_losses.png",
        "worst_mistakes.png",
    ]
    assert len(found.checks) == 2 and report.holds and "10 epochs" in found.notes[0]
    assert [*found.metrics] == ["epochs", *RUNS]
    winner = max(RUNS, key=lambda name: found.metrics[name]["validation_accuracy"])
    assert winner in found.pictures["confusion_matrix.png"]
    x, y = Part(small_mnist.x_test, small_mnist.y_test).flat().whole_batches(RUNS[winner].batch)
    test = fn.evaluate(fn.load(tmp_path / "model.safetensors"), x, y)
    assert test["accuracy"] == pytest.approx(found.metrics[winner]["test_accuracy"])
    assert test["loss"] == pytest.approx(found.metrics[winner]["test_loss"])


def test_interrupted_it_reports_nothing(small_mnist: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("mnist-fc", out=tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_course_figures_hold_and_every_bound_can_fail() -> None:
    found = the_course()
    holding = mnist_fc.checks(mnist_fc.SEED, 10, found)
    assert len(holding) == 12 and all(check.holds for check in holding)
    assert mnist_fc.checks(mnist_fc.SEED, 9, found) == holding[:2] and not mnist_fc.checks(1, 10, found)
    assert not mnist_fc.first_weights(10, seed=1).holds
    for i, (name, how) in enumerate(RUNS.items()):
        of = "loss" if name == "hidden 10, lr .01" else "accuracy"
        for shift, holds in ((0.9, True), (1.1, False), (-1.1, False)):
            test = dict(found[name].test)
            test[of] += shift * how.course.tolerance
            checks = mnist_fc.checks(mnist_fc.SEED, 10, found | {name: trained(**test)})[2:]
            assert [check.holds for check in checks] == [holds or j != i for j in range(10)]
            assert of in checks[i].what and name in checks[i].what


def test_bounds_are_the_required_ones() -> None:
    assert [how.course.tolerance for how in RUNS.values()] == [
        *(0.0003, 0.002, 1e-5, 0.08, 0.0003),
        *(0.002, 0.002, 0.002, 0.015, 0.002),
    ]


def test_notes_show_all_figures_beside_the_course() -> None:
    found = the_course() | {"hidden 10, base": trained(0.95, loss=0.25, accuracy=0.75)}
    notes = mnist_fc.notes(mnist_fc.SEED, 10, found)
    assert notes[0] == (
        "hidden 10, base: test loss 0.25000000 (course 0.26722689), accuracy 0.75000000 (course 0.92047276), "
        "validation accuracy 0.950000"
    )
    assert "accuracy 0.50000000 (course cut off)" in notes[2]
    assert notes[10] == (
        "Best in validation with hidden 10: hidden 10, base, 0.950000 (course hidden 10, batch 64, 0.940020)"
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_reaches_the_course(real_data: Path) -> None:
    report = courses.reproduce("mnist-fc", data=real_data, download=False)
    assert report.holds, report.summary()
