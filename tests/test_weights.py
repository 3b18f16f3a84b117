"""Weights of samples and of classes, and targets that are several arrays, in `fit`, `evaluate` and `capture`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from test_training import CLASSES, X, Y, blobs, mlp, weights

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array
from fastnn.training import passes
from fastnn.training.weights import class_weights


class Slow(fn.Callback):
    """A callback for each batch, so that nothing is replayed."""

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        pass


WEIGHT = np.random.default_rng(8).uniform(0.1, 3, 100)


class Weighted:
    """The cross-entropy with weights, in NumPy."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, scores: Array, target: Array, need_grad: bool = True, sample_weight: Any = None) -> Any:
        weight = np.ones(len(target)) if sample_weight is None else sample_weight.astype(np.float64)
        exp = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float64)
        p = exp / exp.sum(1, keepdims=True)
        total = weight.sum() if self.reduction == "mean" else 1
        rows = np.arange(len(target))
        gradient = (p - np.eye(p.shape[1])[target]) * (weight / total)[:, None]
        return float(-(weight * np.log(p[rows, target])).sum() / total), lambda: gradient.astype(scores.dtype)

    def count_correct(self, scores: Array, target: Array) -> int:
        return int((scores.argmax(1) == target).sum())


def by_hand(loss: Weighted, weight: Array, order: Array) -> tuple[fn.Sequential, float]:
    """An epoch as a user writes it; the model and the mean loss."""
    model, total, weighed = mlp(0), 0.0, 0.0
    optimizer = fn.SGD(model.parameters(), lr=RATES[loss.reduction])
    for i in range(0, 100, 32):
        where = order[i : i + 32]
        scores, backward = model.forward(X[where], train=True)
        value, loss_backward = loss.forward(scores, Y[where], sample_weight=weight[where])
        backward(loss_backward())
        optimizer.step()
        weighed += weight[where].sum()
        total += value * (weight[where].sum() if loss.reduction == "mean" else 1)
    return model, total / weighed


RATES = {"mean": 0.1, "sum": 0.002}
BALANCED = 100 / (CLASSES * np.bincount(Y))
ODD = np.array([1.0, 5.0, 0.5])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    "given,weight",
    [
        ({"sample_weight": WEIGHT}, WEIGHT),
        ({"sample_weight": WEIGHT.tolist()}, WEIGHT),
        ({"class_weight": {1: 5, 2: 0.5}}, ODD[Y]),
        ({"class_weight": ODD}, ODD[Y]),
        ({"class_weight": "balanced"}, BALANCED[Y]),
        ({"class_weight": "balanced", "sample_weight": WEIGHT}, BALANCED[Y] * WEIGHT),
    ],
)
def test_fit_with_weights_is_the_loop_by_hand(
    reduction: str, shuffle: bool, given: dict[str, Any], weight: Array
) -> None:
    model = mlp(0)
    history = fn.fit(
        model,
        X,
        Y,
        loss=Weighted(reduction),
        optimizer=fn.SGD(lr=RATES[reduction]),
        epochs=1,
        shuffle=shuffle,
        seed=3,
        **given,
    )
    order = np.random.default_rng(3).permutation(100) if shuffle else np.arange(100)
    expected, mean = by_hand(Weighted(reduction), weight.astype(np.float32), order)
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(value, expected.state_dict()[key], rtol=1e-5, atol=1e-6)
    assert history.loss == [pytest.approx(mean, rel=1e-6)]


def test_a_weight_counts_like_copies_of_the_sample() -> None:
    times = np.random.default_rng(4).integers(0, 4, 100)
    more = np.repeat(np.arange(100), times)
    model = mlp()
    for size in (256, 64):
        found = fn.evaluate(model, X, Y, loss=Weighted(), sample_weight=times, batch_size=size)
        assert found["loss"] == pytest.approx(fn.evaluate(model, X[more], Y[more])["loss"], rel=1e-6)
    assert found["accuracy"] == fn.evaluate(model, X, Y)["accuracy"]  # how many are right has no weight
    history = fn.fit(
        model, X, Y, loss=Weighted(), optimizer=fn.SGD(lr=0), epochs=1, validation_data=(X, Y, times), seed=0
    )
    assert history.val_loss == [fn.evaluate(model, X, Y, loss=Weighted(), sample_weight=times)["loss"]]


def test_weights_that_come_with_batches() -> None:
    batches = [(X[i : i + 32], Y[i : i + 32], WEIGHT[i : i + 32]) for i in range(0, 100, 32)]
    found = []
    for x, y, weight in ((X, Y, WEIGHT), (batches, None, None)):
        model = mlp()
        how: dict[str, Any] = {"loss": Weighted(), "class_weight": ODD, "sample_weight": weight, "shuffle": False}
        history = fn.fit(model, x, y, epochs=2, seed=0, **how)
        found.append((history.loss, weights(model)))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"^x, batch 1: expected .* as in the first batch"):
        fn.fit(mlp(), [batches[0], batches[1][:2]], loss=Weighted(), epochs=1)


def test_balanced_is_that_of_scikit_learn() -> None:
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    for labels in (Y, Y[Y != 1]):
        found = class_weights("balanced", CLASSES, np.array_split(labels, 7))
        assert found[np.unique(labels)] == pytest.approx(compute("balanced", classes=np.unique(labels), y=labels))


@pytest.mark.parametrize("ignored", [-100, 1, CLASSES, 255])
def test_balanced_does_not_count_what_a_loss_ignores(ignored: int) -> None:
    labels = np.where(np.arange(100) % 4 == 0, ignored, Y)
    known = labels[labels != ignored]
    counts = np.bincount(known, minlength=CLASSES)
    expected = np.where(counts, len(known) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1)
    assert class_weights("balanced", CLASSES, np.array_split(labels, 7), ignored) == pytest.approx(expected)
    models = mlp(), mlp()
    loss, weight = fn.CrossEntropyLoss(ignore_index=ignored), dict(enumerate(expected))
    for model, given in zip(models, ("balanced", weight), strict=True):
        fn.fit(model, X, labels, loss=loss, class_weight=given, epochs=1, seed=0)
    assert weights(models[0]) == weights(models[1])


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sample_weight": WEIGHT[1:]}, fn.ShapeError, r"sample_weight: expected \(100,\).*\(99,\)"),
    ({"sample_weight": -WEIGHT}, ValueError, "sample_weight: expected finite numbers of at least 0"),
    ({"sample_weight": WEIGHT * np.nan}, ValueError, "sample_weight: expected finite numbers"),
    ({"sample_weight": "balanced"}, fn.DTypeError, "sample_weight: expected real numbers"),
    ({"class_weight": "even"}, ValueError, "class_weight: expected 'balanced'"),
    ({"class_weight": {3: 1}}, ValueError, "class_weight: expected classes from 0 to 2, got 3"),
    ({"class_weight": {"a": 1}}, ValueError, "class_weight: expected classes"),
    ({"class_weight": {1: -1}}, ValueError, "class_weight: expected finite numbers of at least 0"),
    ({"class_weight": [1, 2]}, fn.ShapeError, r"class_weight: expected \(3,\)"),
]


@pytest.mark.parametrize("given,error,message", BAD)
def test_bad_weights_are_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    model = mlp()
    before = weights(model)
    with pytest.raises(error, match=f"^{message}"):
        fn.fit(model, X, Y, loss=Weighted(), **given)
    assert weights(model) == before


def test_a_loss_without_weights_is_named() -> None:
    class Plain:
        def forward(self, scores: Array, target: Array, need_grad: bool = True) -> Any:
            raise AssertionError

    for given in ({"sample_weight": WEIGHT}, {"class_weight": "balanced"}):
        with pytest.raises(ValueError, match=f"^{next(iter(given))}: Plain takes no weights of samples"):
            fn.fit(mlp(), X, Y, loss=Plain(), **given)  # type: ignore[arg-type]


# --- made of kernels --------------------------------------------------------------------------------------------------


ONE = np.ones((1, 1))
ONE.flags.writeable = False


class Pull:
    """Σ (a + b + weight) · score for targets (a, b), one score a sample: made of kernels, as a joint loss is."""

    reduction = "sum"

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def as_targets(self, y: Any, scores_of_one: Array, count: int, what: str) -> Any:
        parts = tuple(np.ascontiguousarray(part, scores_of_one.dtype) for part in y)
        assert len(parts) == self.heads and all(part.shape == (count,) for part in parts)
        return parts

    def compute(self, scores: Array, target: Any, need_grad: bool = True, sample_weight: Any = None) -> Any:
        parts = target if sample_weight is None else (*target, sample_weight)
        dscores = k.linear_backward_data(parts[0].reshape(-1, 1), ONE)
        for part in parts[1:]:
            k.linear_backward_data(part.reshape(-1, 1), ONE, out=(dscores, True))
        loss = k.linear(dscores.reshape(1, -1), scores.reshape(1, -1), None, relu=False)
        return loss.reshape(1), lambda: dscores

    def forward(self, scores: Array, target: Any, need_grad: bool = True, sample_weight: Any = None) -> Any:
        loss, backward = self.compute(scores, target, need_grad, sample_weight)
        return float(loss[0]), backward


WIDE = X.astype(np.float64)
SAMPLES = np.random.default_rng(3).standard_normal((5, 100))


def regression() -> fn.Sequential:
    fn.manual_seed(2)
    return fn.Sequential(fn.Linear(6, 5, dtype="float64"), fn.ReLU(), fn.Linear(5, 1, dtype="float64"))


def sgd() -> fn.SGD:
    return fn.SGD(lr=1e-3, momentum=0.5)


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_several_targets_and_weights_replayed(heads: int, weighted: bool, shuffle: bool) -> None:
    targets, weight = tuple(SAMPLES[:heads]), WEIGHT if weighted else None
    found = []
    for callbacks in ([], [Slow()]):
        model = regression()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            history = fn.fit(
                model,
                WIDE,
                targets,
                loss=Pull(heads),
                optimizer=sgd(),
                batch_size=15,
                epochs=4,
                shuffle=shuffle,
                sample_weight=weight,
                validation_data=(WIDE, targets) if weight is None else (WIDE, targets, weight),
                callbacks=callbacks,
                seed=1,
            )
        found.append((history.loss, history.val_loss, weights(model)))
    assert found[0] == found[1]
    total = WEIGHT.sum() if weighted else 100
    assert fn.evaluate(model, WIDE, targets, loss=Pull(heads), sample_weight=weight)["loss"] == history.val_loss[-1]
    scores = model.scores(WIDE)[:, 0]
    expected = scores @ (SAMPLES[:heads].sum(0) + (WEIGHT if weighted else 0)) / total
    assert history.val_loss[-1] == pytest.approx(expected, rel=1e-12)


@needs_native
@pytest.mark.parametrize("shuffle", [True, False])
def test_weights_that_are_all_alike_are_replayed(shuffle: bool) -> None:
    calls = []

    class Counting(fn.Layer):
        def forward(self, x: Array, train: bool = False) -> Any:
            calls.append(train)
            return x, lambda dy, need_dx=True: dy

    how: dict[str, Any] = {"loss": Pull(2), "optimizer": sgd(), "shuffle": shuffle, "batch_size": 20, "seed": 0}
    model = fn.Sequential(Counting(), regression())
    fn.fit(model, WIDE, (SAMPLES[0], np.zeros(100)), sample_weight=np.ones(100), **how)
    assert sum(calls) == 2  # a step to record and one to verify


@needs_native
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_captured_step_with_them(heads: int, weighted: bool) -> None:
    a, b = regression(), regression()
    one = fn.SGD(a.parameters(), lr=1e-3, momentum=0.5)
    weight = WEIGHT if weighted else None

    def part(at: int, size: int) -> Any:
        where = slice(at, at + size)
        return WIDE[where], tuple(SAMPLES[:heads, where]), None if weight is None else weight[where]

    step = fn.capture(b, Pull(heads), sgd(), *part(0, 20))
    for at, size in ((0, 20), (20, 20), (60, 20), (80, 7)):
        x, y, w = part(at, size)
        scores, backward = a.forward(x, train=True)
        value, loss_backward = Pull(heads).forward(scores, y, sample_weight=w)
        backward(loss_backward())
        one.step()
        assert step(x, y, w) == value
        assert weights(a) == weights(b)
    x, y, w = part(0, 100)
    before = step.epoch(*part(0, 90))
    assert np.isfinite(before) and [name for name, _, _ in step.profile(x, y, w)].count("sgd") == 1
    with pytest.raises(ValueError, match=r"expected a batch of .*, as it was captured"):
        step(x, y, None if weighted else WEIGHT)


@needs_native
@pytest.mark.parametrize("shuffle", [True, False])
def test_bits_do_not_depend_on_where_a_stretch_of_replay_ends(shuffle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seconds in (1e-9, 10):  # a step at a time, and an epoch
        monkeypatch.setattr(passes, "STRETCH", seconds)
        model, targets = regression(), tuple(SAMPLES[:2])
        how: dict[str, Any] = {"loss": Pull(2), "optimizer": sgd(), "batch_size": 7, "shuffle": shuffle, "seed": 1}
        history = fn.fit(model, WIDE, targets, sample_weight=WEIGHT, epochs=4, **how)
        found.append((history.loss, weights(model)))
    assert found[0] == found[1]


@needs_native
def test_the_epoch_of_a_captured_step_is_a_weighted_mean() -> None:
    class Mean(Pull):
        reduction = "mean"

    model = regression()
    step = fn.capture(model, Mean(1), fn.SGD(lr=0), WIDE[:30], (SAMPLES[0, :30],), WEIGHT[:30])
    values = [step(WIDE[i : i + 30], (SAMPLES[0, i : i + 30],), WEIGHT[i : i + 30]) for i in range(0, 100, 30)]
    sums = np.add.reduceat(WEIGHT, range(0, 100, 30))
    assert step.epoch(WIDE, (SAMPLES[0],), WEIGHT) == pytest.approx(values @ sums / WEIGHT.sum(), rel=1e-13)


@needs_native
def test_labels_in_a_captured_step_are_still_checked() -> None:
    x, y = blobs()
    step = fn.capture(mlp(), fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x[:10], y[:10])
    with pytest.raises(ValueError, match=r"^y: expected labels from 0 to 2, got 3 \(sample 4\)"):
        step(x[:10], np.where(np.arange(10) == 4, 3, y[:10]))
