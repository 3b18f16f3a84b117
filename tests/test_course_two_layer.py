"""The results two-layer-toy and cifar-two-layer, and the TwoLayerNet that they train."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn.courses import cifar_two_layer, two_layer_toy
from fastnn.courses.cs231n import seeded
from fastnn.courses.cs231n.neural_net import TwoLayerNet
from fastnn.data import Dataset

CLASSES = tuple("abcdefghij")


@pytest.fixture(autouse=True)
def numpy_random() -> Iterator[None]:
    """Tests seed np.random as notebooks do; it is put back afterwards."""
    with seeded(0):
        yield


# --- TwoLayerNet ------------------------------------------------------------------------------------------------------


def blobs(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 6) float64 around a centre for each of 3 classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, count)
    return rng.standard_normal((count, 6)) + 3 * np.eye(3, 6)[y], y


def net(seed: int = 3) -> TwoLayerNet:
    np.random.seed(seed)
    return TwoLayerNet(6, 5, 3, std=0.3)


HOW: dict[str, Any] = {"learning_rate": 0.2, "learning_rate_decay": 0.9, "reg": 0.01, "num_iters": 20, "batch_size": 20}


def textbook(params: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, reg: float) -> tuple[float, dict[str, Any]]:
    """Loss and gradients in plain NumPy."""
    hidden = np.maximum(x @ params["W1"].T + params["b1"], 0)
    scores = hidden @ params["W2"].T + params["b2"]
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(y))
    penalty = sum(np.sum(params[name] ** 2) for name in ("W1", "W2"))
    loss = -np.log(p[rows, y]).mean() + 0.5 * reg * penalty
    p[rows, y] -= 1
    d = p / len(y)
    dh = (d @ params["W2"]) * (hidden > 0)
    gradients = {"W1": dh.T @ x, "b1": dh.sum(0), "W2": d.T @ hidden, "b2": d.sum(0)}
    for name in ("W1", "W2"):
        gradients[name] += reg * params[name]
    return float(loss), gradients


def test_weights_are_drawn_first_layer_first() -> None:
    params = net(3).params
    np.random.seed(3)
    np.testing.assert_array_equal(params["W1"], 0.3 * np.random.randn(5, 6))
    np.testing.assert_array_equal(params["W2"], 0.3 * np.random.randn(3, 5))
    assert not params["b1"].any() and not params["b2"].any()
    assert [(name, a.shape, a.dtype.name) for name, a in params.items()] == [
        ("W1", (5, 6), "float64"),
        ("b1", (5,), "float64"),
        ("W2", (3, 5), "float64"),
        ("b2", (3,), "float64"),
    ]


def test_scores_loss_and_gradients() -> None:
    (x, y), n = blobs(), net()
    n.params["b1"] = np.linspace(-1, 1, 5)
    params = dict(n.params)
    hidden = np.maximum(x @ params["W1"].T + params["b1"], 0)
    np.testing.assert_allclose(n.loss(x), hidden @ params["W2"].T + params["b2"], rtol=1e-12, atol=1e-12)
    wanted, wanted_gradients = textbook(params, x, y, 0.7)
    for _ in range(2):  # gradients of one call are not those of the next
        loss, gradients = n.loss(x, y, reg=0.7)
        assert loss == pytest.approx(wanted, abs=1e-13) and list(gradients) == ["W1", "b1", "W2", "b2"]
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, wanted_gradients[name], rtol=1e-10, atol=1e-14)
    assert n.loss(x.astype(np.float32), y.tolist())[0] == pytest.approx(textbook(params, x, y, 0)[0], abs=1e-6)


@pytest.mark.parametrize("backend", ["default", "reference"])
def test_training_is_the_textbook_one(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same draws, updates and histories, in plain NumPy."""
    (x, y), n = blobs(), net()
    params = {name: a.copy() for name, a in n.params.items()}
    state = np.random.get_state()
    if backend == "reference":
        with fn.use_backend("reference"):
            history = n.train(x, y, x[:30], y[:30], **HOW)
    else:
        history = n.train(x, y, x[:30], y[:30], **HOW)
    after = np.random.get_state()[2]

    np.random.set_state(state)
    rate, losses, recorded = 0.2, [], 0
    for i in range(20):
        batch = np.random.choice(60, 20)
        loss, gradients = textbook(params, x[batch], y[batch], 0.01)
        losses.append(loss)
        for name, gradient in gradients.items():
            params[name] -= rate * gradient
        if i % 3 == 0:
            recorded += 1
            rate *= 0.9
    np.testing.assert_allclose(history["loss_history"], losses, rtol=1e-11)
    for name, a in params.items():
        np.testing.assert_allclose(n.params[name], a, rtol=1e-9, atol=1e-12)
    assert len(history["train_acc_history"]) == len(history["val_acc_history"]) == recorded == 7
    assert history["val_acc_history"][-1] > 0.6 and np.random.get_state()[2] == after
    assert capsys.readouterr() == ("", "")


def test_params_that_are_assigned_are_copied() -> None:
    (x, _), n = blobs(), net()
    arrays = dict(n.params)
    n.params = {name: np.zeros_like(p) for name, p in n.params.items()}
    assert not n.loss(x).any() and all(n.params[name] is p for name, p in arrays.items())


def test_labels_that_are_no_class_are_an_error() -> None:
    (x, y), n = blobs(), net()
    for labels, validation, name in ((y - 1, y, "y"), (y, y + 1, "y_val")):
        with pytest.raises(ValueError, match=f"{name}: expected labels from 0 to 2"):
            n.train(x, labels, x, validation, **HOW)


def test_accuracies_are_those_after_the_update() -> None:
    (x, y), n = blobs(), net()
    with pytest.raises(ValueError, match="batch_size"):
        n.train(x, y, x, y, **HOW | {"batch_size": 0})
    history = n.train(x, y, x, y, **HOW | {"num_iters": 1, "batch_size": 100})
    assert history["val_acc_history"] == [(n.predict(x) == y).mean()]
    np.random.seed(3)
    np.random.randn(45)
    batch = np.random.choice(60, 60)  # as many as there are
    assert history["train_acc_history"] == [(n.predict(x[batch]) == y[batch]).mean()]


def test_parameters_are_live_through_trainings() -> None:
    (x, y), n = blobs(), net()
    kept = dict(n.params)
    n.train(x, y, x, y, **HOW)
    n.train(x, y, x, y, **HOW | {"reg": 0.5, "batch_size": 7})
    for name, a in kept.items():
        assert n.params[name] is a or np.shares_memory(n.params[name], a)
    n.params["W2"] = np.zeros((3, 5))
    kept["b2"][...] = (0, 1, 0)
    assert (n.loss(x) == [0, 1, 0]).all() and (n.predict(x) == 1).all()
    with pytest.raises(fn.ShapeError, match=r"W1 of shape \(5, 6\), got \(6, 5\)"):
        n.params["W1"] = np.zeros((6, 5))
    with pytest.raises(KeyError):
        n.params["W3"] = np.zeros(1)
    assert len(n.params) == 4 and "W1" in n.params and repr(n.params).startswith("{'W1': array(")


def test_a_copy_goes_its_own_way() -> None:
    (x, y), n = blobs(), net()
    n.train(x, y, x, y, **HOW)
    twin = copy.deepcopy(n)
    before = {name: a.copy() for name, a in n.params.items()}
    state = np.random.get_state()
    changed = twin.train(x, y, x, y, **HOW)
    assert all((n.params[name] == a).all() for name, a in before.items())
    np.random.set_state(state)
    assert n.train(x, y, x, y, **HOW) == changed
    assert all((n.params[name] == a).all() for name, a in twin.params.items())


def test_labels_that_do_not_fit_are_refused() -> None:
    (x, y), n = blobs(), net()
    with pytest.raises(fn.ShapeError, match="y: expected"):
        n.train(x, y[:5], x, y)
    with pytest.raises(fn.ShapeError, match="y_val: expected"):
        n.train(x, y, x, y[:5])
    with pytest.raises(ValueError, match="from 0 to 2"):
        n.train(x, y + 1, x, y)


def test_verbose_prints_every_hundredth_loss(capsys: pytest.CaptureFixture[str]) -> None:
    (x, y), n = blobs(), net()
    losses = n.train(x, y, x, y, **HOW | {"num_iters": 102}, verbose=True)["loss_history"]
    lines = [f"iteration 0 / 102: loss {losses[0]}", f"iteration 100 / 102: loss {losses[100]}"]
    assert capsys.readouterr().out.splitlines() == lines


def test_no_iterations() -> None:
    (x, y), n = blobs(), net()
    assert not any(n.train(x, y, x, y, num_iters=0, progress="none").values())


@pytest.mark.parametrize("missing", [False, True])
def test_progress_names_the_training(
    missing: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    else:
        pytest.importorskip("tqdm")
    (x, y), n = blobs(), net()
    n.train(x, y, x, y, **HOW, progress="lr 0.2, reg 0.01")
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1].split("\r")[-1].startswith("lr 0.2, reg 0.01: ") and "epoch" not in shown
    assert "loss" in shown and "val_acc" in shown and ("20/20" in shown) != missing


# --- two-layer-toy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_two_layer_toy_reaches_the_course(count: int, threads: None) -> None:
    fn.set_num_threads(count)
    before = np.random.get_state()[1].tolist(), np.random.get_state()[2]
    found = courses.reproduce("two-layer-toy")
    assert found.holds and len(found.found.checks) == 7, found.summary()
    assert (np.random.get_state()[1].tolist(), np.random.get_state()[2]) == before


def test_two_layer_toy_with_another_seed() -> None:
    found = courses.reproduce("two-layer-toy", seed=5)
    assert not found.found.checks and "seed 0" in found.found.notes[0]


def test_two_layer_toy_writes_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    found = courses.reproduce("two-layer-toy", out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["loss.png", "report.json"] and list(found.found.pictures) == ["loss.png"]


def test_two_layer_toy_checks_fail() -> None:
    metrics = two_layer_toy.run(seed=0).metrics
    off = {
        "scores_difference": 1e-7,
        "loss": metrics["loss"] + 2e-12,
        "gradient_errors": dict.fromkeys(metrics["gradient_errors"], 1e-8),
        "final_training_loss": metrics["final_training_loss"] + 2e-9,
    }
    assert not any(check.holds for check in two_layer_toy.checks(metrics | off))


# --- cifar-two-layer --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """450 and 60 images of bytes in the place of CIFAR-10, 30 of them held out: the higher the class, the lighter."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, count)
        return (rng.integers(0, 100, (count, 3, 32, 32)) + 15 * y[:, None, None, None]).astype(np.float32), y

    data = Dataset(*part(450), *part(60), CLASSES)

    def cifar10(root: Any, *, divisor: float, download: bool) -> Dataset:
        assert divisor == 1
        return data

    monkeypatch.setattr(fn.data, "cifar10", cifar10)
    monkeypatch.setattr(cifar_two_layer, "HELD_OUT", 30)
    return data


def test_cifar_by_the_course(small_cifar: Dataset) -> None:
    split = cifar_two_layer.cifar(None, False)
    assert [len(a) for a in split] == [420, 420, 30, 30, 30, 30] and split.x_train.dtype == np.float64
    np.testing.assert_allclose(split.x_train.mean(0), 0, atol=1e-10)
    mean = small_cifar.x_train[:420].astype(np.float64).mean(0)
    wanted = (small_cifar.x_train[425] - mean).transpose(1, 2, 0).reshape(-1)
    np.testing.assert_allclose(split.x_val[5], wanted, atol=1e-10)
    np.testing.assert_array_equal(split.y_test, small_cifar.y_test[:30])
    assert (small_cifar.x_train >= 0).all()  # the images themselves are as they were


def test_cifar_two_layer_runs(small_cifar: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    before = np.random.get_state()[2]
    found = courses.reproduce("cifar-two-layer", iterations=5, grid_iterations=3, out=tmp_path, progress=True)
    assert np.random.get_state()[2] == before
    pictures = ["accuracy.png", "grid.png", "loss.png", "weights_after.png", "weights_before.png"]
    assert sorted(os.listdir(tmp_path)) == sorted([*pictures, "best.safetensors", "first.safetensors", "report.json"])
    assert sorted(found.found.pictures) == pictures
    metrics = found.found.metrics
    assert len(metrics["training_accuracies"]) == 3  # an epoch is two iterations
    assert [tuple(point.values())[:2] for point in metrics["grid"]] == [
        (rate, reg) for rate in (1e-3, 1e-4, 1e-5) for reg in (0.25, 0.3, 0.35, 0.4)
    ]
    assert metrics["best"]["accuracy"] == max(point["accuracy"] for point in metrics["grid"])
    split = cifar_two_layer.cifar(None, False)
    best = fn.load(tmp_path / "best.safetensors")
    assert metrics["test_accuracy"] == (best.predict(split.x_test) == split.y_test).mean()
    assert not found.found.checks
    shown = capsys.readouterr().err
    for name in (
        "first run: ",
        "grid 1/12, lr 0.001, reg 0.25: ",
        "grid 12/12, lr 1e-05, reg 0.4: ",
        "best point again",
    ):
        assert name in shown


def test_cifar_two_layer_goes_on_with_the_stream_of_the_toy(small_cifar: Dataset) -> None:
    """Weights and batches of the first run come after those of the toy training."""
    losses = cifar_two_layer.run(seed=0, iterations=1, grid_iterations=1).metrics["losses"]
    two_layer_toy.trained(0)
    split = cifar_two_layer.cifar(None, False)
    n = TwoLayerNet(3072, 50, 10)
    batch = np.random.choice(420, 200)
    assert losses == [pytest.approx(n.loss(split.x_train[batch], split.y_train[batch], 0.25)[0], abs=1e-12)]


def test_cifar_two_layer_interrupted_reports_nothing(
    small_cifar: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    train, calls = TwoLayerNet.train, []

    def interrupted(self: TwoLayerNet, *arguments: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(self, *arguments, **options)

    monkeypatch.setattr(TwoLayerNet, "train", interrupted)
    before = np.random.get_state()[1].tolist()
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("cifar-two-layer", iterations=2, grid_iterations=2, out=tmp_path)
    assert os.listdir(tmp_path) == [] and np.random.get_state()[1].tolist() == before
    course = {"learning_rate_decay": 0.95, "batch_size": 200}
    assert all(call.items() >= course.items() for call in calls[1:])
    assert (calls[1]["learning_rate"], calls[1]["reg"]) == (1e-4, 0.25)


def test_cifar_two_layer_checks() -> None:
    metrics: dict[str, Any] = {
        "iterations": 1000,
        "losses": [loss + 9e-10 for loss in cifar_two_layer.LOSSES],
        "training_accuracies": [0.1, 0.165, 0.175, 0.275, 0.26],
        "validation_accuracy": 0.282,
        "grid_iterations": 5000,
        "best": {"accuracy": 0.518},
        "test_accuracy": 0.506,
    }
    found = cifar_two_layer.checks(0, metrics)
    assert len(found) == 18 and all(check.holds for check in found)
    assert len(cifar_two_layer.checks(0, metrics | {"grid_iterations": 5001})) == 16
    assert not cifar_two_layer.checks(0, metrics | {"iterations": 999}) and not cifar_two_layer.checks(1, metrics)
    off = {
        "losses": [loss + 2e-9 for loss in cifar_two_layer.LOSSES],
        "training_accuracies": [0.105, 0.16, 0.18, 0.28, 0.265],
        "validation_accuracy": 0.283,
        "best": {"accuracy": 0.52},
        "test_accuracy": 0.504,
    }
    assert not any(check.holds for check in cifar_two_layer.checks(0, metrics | off))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_cifar_two_layer_reaches_the_course(real_data: Path) -> None:
    found = courses.reproduce("cifar-two-layer", data=real_data, download=False)
    assert found.holds, found.summary()
