"""The callbacks that come with fastnn, metrics of one's own, and the history that holds them."""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import X, Y, blobs, mlp, weights

import fastnn as fn
from fastnn._kernels import Array

VALIDATION = blobs(seed=1)


def measured(values: list[float]) -> Any:
    """A metric that says these numbers, one after the other."""
    rest = iter(values)
    return {"luck": lambda y_true, y_pred: next(rest)}


def train(values: list[float], *callbacks: Any, epochs: int = 8) -> tuple[fn.Sequential, fn.History, list[bytes]]:
    """A training with a metric of these values; also the weights after each epoch."""
    model, seen = mlp(), list[bytes]()
    history = fn.fit(
        model,
        X,
        Y,
        seed=0,
        epochs=epochs,
        validation_data=VALIDATION,
        metrics=measured(values),
        callbacks=[*callbacks, lambda m, h: seen.append(weights(m))],
    )
    return model, history, seen


NAN = math.nan


@pytest.mark.parametrize(
    "values,mode,options,epochs,best",
    [
        ([5, 4, 3, 2, 1, 0, 0, 0], "min", {"patience": 3}, 8, 6),
        ([5, 4, 5, 4, 4, 0, 0, 0], "min", {"patience": 3}, 5, 2),
        ([1, 2, 3, 3, 3, 9, 9, 9], "max", {"patience": 2}, 5, 3),
        ([1, 2, 3, 3, 3, 9, 9, 9], "max", {"patience": 3}, 8, 6),
        ([3, 2.95, 2.85, 2.84, 2.8, 1, 1, 1], "min", {"patience": 2, "min_delta": 0.1}, 5, 3),
        ([NAN, 5, NAN, NAN, 1, 1, 1, 1], "min", {"patience": 2}, 4, 2),
        ([NAN] * 8, "max", {"patience": 4}, 4, 0),
        ([math.inf, 3, -math.inf, 0, 0, 0, 0, 0], "min", {"patience": 2}, 5, 3),
    ],
)
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(
    values: list[float], mode: str, options: dict[str, Any], epochs: int, best: int, restore: bool
) -> None:
    stopping = fn.EarlyStopping("val_luck", mode=mode, restore_best=restore, **options)
    model, history, seen = train(values, stopping)
    assert history.epochs == epochs
    assert stopping.epoch == best
    assert weights(model) == seen[best - 1 if restore and best else -1]


def test_early_stopping_by_the_loss_of_the_validation() -> None:
    stopping = fn.EarlyStopping(patience=1, min_delta=0.05)
    history = fn.fit(mlp(), X, Y, seed=0, epochs=100, validation_data=VALIDATION, callbacks=[stopping])
    assert 1 < history.epochs < 100
    assert history.val_loss[-1] > stopping.best - 0.05 and stopping.best == history.val_loss[-2]


def test_a_callback_can_be_used_again() -> None:
    stopping = fn.EarlyStopping("val_luck", mode="min", patience=2)
    for _ in range(2):
        assert train([1, 2, 3, 4], stopping)[1].epochs == 3


def test_the_best_model_is_kept_and_saved(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    best = fn.BestModel("val_luck", mode="max", path=path)
    model, _, seen = train([1, 3, 2, 3, 0], best, epochs=5)
    assert (best.best, best.epoch) == (3, 2)
    assert weights(model) == weights(fn.load(path)) == seen[1]
    other, _, seen = train(
        [1, 3, 2, 3, 0], fn.BestModel("val_luck", mode="max", path=path, restore_best=False), epochs=5
    )
    assert weights(other) == seen[-1] and weights(fn.load(path)) == seen[1]


@pytest.mark.parametrize("make", [fn.BestModel, fn.EarlyStopping])
def test_monitors_are_checked(make: Any) -> None:
    assert make("loss").mode == make("val_loss").mode == "min"
    assert make("accuracy").mode == make("val_accuracy").mode == "max"
    with pytest.raises(ValueError, match="expected mode 'min' or 'max' for 'val_f1', got None"):
        make("val_f1")
    with pytest.raises(ValueError, match="expected mode 'min' or 'max'"):
        make("val_loss", mode="auto")
    with pytest.raises(ValueError, match="min_delta"):
        make("loss", min_delta=-1)
    with pytest.raises(TypeError, match="name of a metric"):
        make(3)
    with pytest.raises(KeyError, match="has no 'val_f1', but loss, accuracy, seconds"):
        fn.fit(mlp(), X, Y, epochs=1, callbacks=[make("val_f1", mode="max")])
    with pytest.raises(KeyError, match="'val_loss' is not measured in each epoch"):
        fn.fit(mlp(), X, Y, epochs=1, callbacks=[make()])


@pytest.mark.parametrize("patience", [0, 1.5, True])
def test_patience_is_checked(patience: Any) -> None:
    with pytest.raises(ValueError, match="EarlyStopping: patience: expected a whole number"):
        fn.EarlyStopping(patience=patience)


def test_a_table_of_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = fn.CSVLogger(path)
    for _ in range(2):  # the second training writes it anew
        _, history, _ = train([1, 0.1, 1 / 3], log, epochs=3)
        rows = list(csv.reader(path.open(newline="")))
        assert rows[0] == ["epoch", *history.names()]
        assert [int(row[0]) for row in rows[1:]] == [1, 2, 3]
        for name, column in zip(rows[0][1:], list(zip(*rows[1:], strict=True))[1:], strict=True):
            assert [float(value) for value in column] == history[name]


def test_the_table_is_there_after_each_epoch(tmp_path: Path) -> None:
    lines: list[int] = []
    log = fn.CSVLogger(tmp_path / "log.csv")
    fn.fit(mlp(), X, Y, epochs=3, callbacks=[log, lambda m, h: lines.append(len(Path(log.path).read_text().split()))])
    assert lines == [2, 3, 4]


def test_a_folder_that_is_not_there_is_named_before_training(tmp_path: Path) -> None:
    path, model = tmp_path / "none" / "file", mlp()
    before = weights(model)
    for callback in (fn.BestModel("loss", path=path), fn.CSVLogger(path), fn.Checkpoint(path)):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
            fn.fit(model, X, Y, callbacks=[callback])
    assert weights(model) == before


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_see_the_validation_data() -> None:
    seen: list[tuple[Array, Array]] = []

    def wrong(y_true: Array, y_pred: Array) -> Any:
        seen.append((y_true, y_pred))
        return (y_true != y_pred).mean()

    model = mlp()
    history = fn.fit(model, X, Y, seed=0, epochs=3, validation_data=blobs(300, seed=1), metrics={"wrong": wrong})
    assert history.val_wrong == [pytest.approx(1 - accuracy) for accuracy in history.val_accuracy]
    assert all(type(value) is float for value in history.val_wrong)
    assert (seen[-1][0] == blobs(300, seed=1)[1]).all()
    assert (seen[-1][1] == model.predict(blobs(300, seed=1)[0])).all()


def test_metrics_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found = {"f1": lambda y_true, y_pred: metrics.f1_score(y_true, y_pred, average="macro")}
    stopping = fn.EarlyStopping("val_f1", mode="max", patience=2, restore_best=True)
    model = mlp()
    history = fn.fit(model, X, Y, seed=0, epochs=50, validation_data=VALIDATION, metrics=found, callbacks=[stopping])
    assert max(history.val_f1) == stopping.best == found["f1"](VALIDATION[1], model.predict(VALIDATION[0]))


def test_metrics_of_an_evaluation() -> None:
    def wrong(y_true: Array, y_pred: Array) -> Any:
        return (y_true != y_pred).mean()

    model = mlp()
    found = fn.evaluate(
        model, X, Y, batch_size=7, drop_last=True, metrics={"seen": lambda t, p: len(t), "wrong": wrong}
    )
    stop = len(X) - len(X) % 7
    assert found["seen"] == stop and found["wrong"] == np.mean(model.predict(X[:stop]) != Y[:stop])
    assert {name: found[name] for name in ("loss", "accuracy")} == fn.evaluate(model, X[:stop], Y[:stop], batch_size=7)
    batches = [(X[:4], Y[:4]), (X[4:9], Y[4:9])]
    assert fn.evaluate(model, batches, metrics={"wrong": wrong})["wrong"] == np.mean(model.predict(X[:9]) != Y[:9])
    with pytest.raises(ValueError, match=r"^x: expected at least one batch .* a function that returns an iterator"):
        fn.evaluate(model, iter(batches), metrics={"wrong": wrong})
    with pytest.raises(TypeError, match=r"^metrics: expected functions"):
        fn.evaluate(model, X, Y, metrics=[wrong])  # type: ignore[arg-type]


def test_metrics_of_numbers_get_scores() -> None:
    class Square:
        def forward(self, scores: Array, target: Array, need_grad: bool = True) -> tuple[float, Any]:
            return float(np.mean((scores - target) ** 2)), lambda: (scores - target) * np.float32(2 / scores.size)

    history = fn.fit(
        fn.Sequential(fn.Linear(6, 2)),
        X,
        X[:, :2],
        loss=Square(),
        epochs=2,
        validation_data=(X, X[:, :2]),
        metrics={"error": lambda y_true, y_pred: np.abs(y_true - y_pred).max()},
    )
    assert len(history.val_error) == 2


@pytest.mark.parametrize(
    "metrics,error,message",
    [
        ({"loss": max}, ValueError, "loss is measured anyway"),
        ({"f1": "f1"}, TypeError, "expected functions"),
        ([max], TypeError, "expected functions"),
    ],
)
def test_metrics_are_checked(metrics: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^metrics: .*{message}"):
        fn.fit(mlp(), X, Y, validation_data=(X, Y), metrics=metrics)


def test_metrics_need_validation_data() -> None:
    with pytest.raises(ValueError, match=r"^metrics: they are measured on validation_data"):
        fn.fit(mlp(), X, Y, metrics={"f1": max})


# --- history ----------------------------------------------------------------------------------------------------------


def test_a_history_with_metrics() -> None:
    history = train([3, 2], epochs=2)[1]
    assert history.val_luck == history["val_luck"] == [3, 2]
    assert history.names() == ["loss", "accuracy", "seconds", "val_loss", "val_accuracy", "val_luck"]
    as_dict = json.loads(json.dumps(history.as_dict()))
    for other in (fn.History(**as_dict), copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert other == history and other.val_luck == [3, 2]
    assert fn.History(val_luck=[1]) != fn.History()
    assert "val_luck=[3.0, 2.0]" in repr(history)
    with pytest.raises(AttributeError):
        _ = history.val_f1
    with pytest.raises(KeyError, match="no 'val_f1', but loss, "):
        _ = history["val_f1"]
    with pytest.raises(KeyError):
        _ = history["interrupted"]
