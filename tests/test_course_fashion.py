"""fashion-fnn and fashion-best: on made-up images what is trained and told; on the real ones the course's figures."""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import cli, courses
from fastnn.courses import fashion, fashion_best, fashion_fnn
from fastnn.courses.fashion_fnn import F1
from fastnn.data import Dataset

CLASSES = fn.data.fashion_mnist.__globals__["CLASS_NAMES"]


@pytest.fixture
def small_fashion(small_mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """700 and 100 images in the place of Fashion-MNIST."""
    data = dataclasses.replace(small_mnist, class_names=CLASSES)
    monkeypatch.setattr(fn.data, "fashion_mnist", lambda root, *, download: data)
    return data


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each `fit`, which trains nothing: its macro-F1 is best in epoch 2."""
    calls: list[dict[str, Any]] = []

    def fit(model: fn.Sequential, x: np.ndarray, y: np.ndarray, **options: Any) -> fn.History:
        calls.append({**options, "model": model, "x": x, "y": y})
        history = fn.History()
        for hook in (hook for hook in options["callbacks"] if isinstance(hook, fn.BestModel)):
            for i, score in enumerate([0.25, 0.5, 0.125]):
                history._add({"loss": 1.0 + i, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.5, F1: score}, 1.0)
                hook.on_epoch_end(model, history)
        return history

    monkeypatch.setattr(fn, "fit", fit)
    return calls


# --- the split --------------------------------------------------------------------------------------------------------


def test_split(small_fashion: Dataset) -> None:
    in_order = fashion.split(0.1)
    np.testing.assert_array_equal(in_order.training.x, small_fashion.x_train[:630])
    np.testing.assert_array_equal(in_order.validation.y, small_fashion.y_train[630:])
    np.testing.assert_array_equal(in_order.test.x, small_fashion.x_test)
    order = np.arange(700)
    np.random.RandomState(12).shuffle(order)
    drawn = fashion.split(0.2, seed=12)
    np.testing.assert_array_equal(drawn.training.y, small_fashion.y_train[order[:560]])
    np.testing.assert_array_equal(drawn.validation.x, small_fashion.x_train[order[560:]])


# --- fashion-fnn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blocks", "weights"),
    [
        ("784-128-64-10", "LRBDLRBL", 109_770),
        ("784-512-128-64-10", "LRBDLRBDLRBL", 477_898),
        ("784-512-128-64-32-10", "LRBDLRBDLRBDLRBDL", 479_722),
    ],
)
def test_fnn_networks(name: str, blocks: str, weights: int) -> None:
    model = fashion_fnn.network(name)
    assert "".join(type(layer).__name__[0] for layer in model) == "F" + blocks
    assert sum(p.data.size for p in model.parameters()) == weights
    for layer in model:
        if isinstance(layer, fn.Linear):
            assert not layer.bias.data.any()
            spread = layer.weight.data.std() * np.sqrt(layer.in_features / 2)
            assert abs(spread - 1) < 5 / np.sqrt(2 * layer.weight.data.size)
        if isinstance(layer, fn.BatchNorm1d):
            assert (layer.eps, layer.momentum, layer.biased_variance) == (1e-7, 0.1, True)
        if isinstance(layer, fn.Dropout):
            assert layer.p == 0.5


def test_fnn_trains_as_the_course_does(small_fashion: Dataset, fits: list[dict[str, Any]]) -> None:
    found = fashion_fnn.run(seed=12)
    names = [layers for layers in fashion_fnn.NETWORKS for _ in range(4)]
    assert [len(fit["model"]) for fit in fits] == [len(fashion_fnn.network(name)) for name in names]
    assert [fit["optimizer"].defaults["lr"] for fit in fits] == [0.005, 0.001, 0.0005, 0.0001] * 3
    split = fashion.split(0.2, seed=12)
    for fit in fits:
        wanted = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": False}
        assert isinstance(fit["optimizer"], fn.Adam)
        assert {name: fit["optimizer"].defaults[name] for name in wanted} == wanted
        assert (fit["batch_size"], fit["epochs"], fit.get("shuffle", True)) == (128, 10, True)
        np.testing.assert_array_equal(fit["x"], split.training.x[:512])
        np.testing.assert_array_equal(fit["validation_data"].x, split.validation.x)
    assert found.metrics["epoch_1_training_loss"] == 1.0
    assert found.metrics["best"] == {"network": "784-128-64-10", "lr": 0.005, "epoch": 2}  # of equals the first


def test_fnn_runs(small_fashion: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    found = courses.reproduce("fashion-fnn", epochs=2, out=tmp_path)
    pictures = [
        "confusion_matrix_test.png",
        "confusion_matrix_validation.png",
        *(f"learning_curves_{name}.png" for name in sorted(fashion_fnn.NETWORKS)),
        "worst_mistakes.png",
    ]
    assert sorted(os.listdir(tmp_path)) == sorted([*pictures, "model.safetensors", "report.json"])
    assert sorted(found.found.pictures) == sorted(pictures)
    metrics = found.found.metrics
    assert [check.what for check in found.found.checks] == ["training loss, epoch 1, lr .005"]
    best = metrics["runs"]["{network}, lr {lr:g}".format(**metrics["best"])]
    assert best[f"val_{F1}"] == max(run[f"val_{F1}"] for run in metrics["runs"].values()) == metrics["validation"][F1]
    assert len(metrics["runs"]) == 12 and best["epoch"] == metrics["best"]["epoch"]
    assert metrics["test"]["accuracy"] > 0.3 and found.seed == 12

    model = fn.load(tmp_path / "model.safetensors")
    assert {"3.running_mean", "3.running_var"} <= set(model.state_dict())
    test = fn.evaluate(model, small_fashion.x_test, small_fashion.y_test)
    assert test == {name: metrics["test"][name] for name in test}


def test_fnn_with_the_mistake(small_fashion: Dataset, fits: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    without = courses.reproduce("fashion-fnn")
    found = courses.reproduce("fashion-fnn", course_mistake=True, out=tmp_path)
    assert "confusion_matrix_validation_course_way.png" in os.listdir(tmp_path)
    more = {"validation_course_way", "test_batch_statistics_only"}
    assert set(found.found.metrics) - set(without.found.metrics) == more
    assert len(found.found.notes) == len(without.found.notes) + 1
    assert [check.what for check in found.found.checks] == [check.what for check in without.found.checks]


@pytest.mark.parametrize("mistake", [False, True])
def test_the_mistake_on_the_command_line(monkeypatch: pytest.MonkeyPatch, mistake: bool) -> None:
    asked: list[bool] = []

    def run(*, seed: int, out: Path | None, progress: bool, download: bool = True, course_mistake: bool = False) -> Any:
        asked.append(course_mistake)
        return courses.Found({}, [])

    monkeypatch.setattr(fashion_fnn, "run", run)
    assert cli.main(["reproduce", "fashion-fnn", *["--course-mistake"][:mistake]]) == 0
    assert asked == [mistake]


def test_results_without_a_mistake_refuse_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "fashion-best", "--course-mistake"]) == 2
    assert "fashion-best takes no course_mistake" in capsys.readouterr().err


def test_the_course_way_of_evaluating(small_fashion: Dataset) -> None:
    """By NumPy, with dropout off; and the model, its running statistics and dropout's place included, is left alone."""
    pytest.importorskip("sklearn")
    model = fashion_fnn.network(fashion_fnn.REPORTED)
    before = copy.deepcopy(model.state_dict())
    places = [layer.state.copy() for layer in model.modules() if isinstance(layer, fn.Dropout)]
    x, y = small_fashion.x_test, small_fashion.y_test
    ours = fashion_fnn.course_scores(model, x, dropout=False)
    a = x.reshape(len(x), -1)
    for layer in model:
        if isinstance(layer, fn.Linear):
            a = a @ layer.weight.data.T
        elif isinstance(layer, fn.BatchNorm1d):
            a = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-7)
        elif isinstance(layer, fn.ReLU):
            a = np.maximum(a, 0)
    np.testing.assert_allclose(ours, a, rtol=1e-3, atol=1e-3)
    wrong = fashion_fnn.course_scores(model, x)
    assert np.abs(wrong - ours).max() > 0.1
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    for layer, place in zip((m for m in model.modules() if isinstance(m, fn.Dropout)), places, strict=True):
        assert layer.p == 0.5
        np.testing.assert_array_equal(layer.state, place)
    measured = fashion_fnn.measured(ours, y, fashion_fnn._macro_f1())
    p = np.exp(ours - ours.max(1, keepdims=True))
    loss = -np.log(p[np.arange(100), y] / p.sum(1)).mean()
    assert measured["loss"] == pytest.approx(loss, rel=1e-5)
    assert measured["accuracy"] == np.mean(ours.argmax(1) == y)


@pytest.mark.parametrize("name", ["fashion-fnn", "fashion-best"])
def test_interrupted_runs_report_nothing(
    small_fashion: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce(name, out=tmp_path)
    assert os.listdir(tmp_path) == []


def test_fnn_without_scikit_learn(small_fashion: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"fastnn\[sklearn\]"):
        fashion_fnn.run(seed=12)


@pytest.mark.parametrize(("epochs", "threads", "count"), [(1, 2, 0), (11, 2, 0), (12, 2, 2), (12, 1, 1), (13, 2, 1)])
def test_best_checks(epochs: int, threads: int, count: int) -> None:
    good = {"training_seconds": 599.0, "test_accuracy": 0.93}
    bad = {"training_seconds": 600.0, "test_accuracy": 0.9299}
    assert [check.holds for check in fashion_best.checks(epochs, threads, good)] == [True] * count
    assert [check.holds for check in fashion_best.checks(epochs, threads, bad)] == [False] * count


# --- the real data ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["fashion-fnn", "fashion-best"])
def test_fashion_reaches_the_course(real_data: Path, name: str) -> None:
    found = courses.reproduce(name, data=real_data, download=False)
    assert found.holds, found.summary()
