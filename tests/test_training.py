"""fit, evaluate and History: what is trained, in which order, with which bits, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.layers.layer import Backward
from fastnn.losses.loss import LossBackward
from fastnn.training.batches import open_data
from fastnn.training.passes import evaluation

every_backend = pytest.mark.parametrize("backend", list(backends()))
CLASSES = 3


def blobs(samples: int = 100, features: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Classes that a small network tells apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    centres = np.random.default_rng(99).standard_normal((CLASSES, features)) * 2
    return (centres[labels] + rng.standard_normal((samples, features))).astype(np.float32), labels


def images(samples: int = 48) -> tuple[Array, Array]:
    """Noise, large enough that kernels divide it among threads."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((samples, 2, 14, 14), np.float32), rng.integers(0, CLASSES, samples)


def mlp(dropout: float = 0.2, dtype: str = "float32") -> fn.Sequential:
    fn.manual_seed(5)
    return fn.Sequential(
        fn.Linear(6, 16, dtype=dtype), fn.ReLU(), fn.Dropout(dropout), fn.Linear(16, CLASSES, dtype=dtype)
    )


def cnn() -> fn.Sequential:
    fn.manual_seed(5)
    return fn.Sequential(
        fn.Conv2d(2, 16, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Dropout(0.3), fn.Linear(576, CLASSES)
    )


def weights(model: fn.Layer) -> bytes:
    """All bits of a model."""
    return b"".join(value.tobytes() for value in model.state_dict().values())


def history_bits(history: fn.History) -> list[list[float]]:
    """What of a history is the same in each run."""
    return [history.loss, history.accuracy, history.val_loss, history.val_accuracy]


def by_hand(model: fn.Layer, batches: list[tuple[Array, Array]], optimizer: fn.SGD) -> list[tuple[float, int]]:
    """The loop as a user writes it: loss and right answers of each batch."""
    loss, seen = fn.CrossEntropyLoss(), []
    for x, y in batches:
        scores, backward = model.forward(x, train=True)
        value, loss_backward = loss.forward(scores, y)
        seen.append((value, loss.count_correct(scores, y)))
        backward(loss_backward())
        optimizer.step()
    return seen


# --- what is computed -------------------------------------------------------------------------------------------------


@every_backend
def test_learns(backend: str) -> None:
    x, y = blobs()
    model = mlp()
    with fn.use_backend(backend):
        history = fn.fit(model, x, y, seed=0, epochs=15, validation_data=blobs(seed=1))
    assert history.epochs == len(history.loss) == len(history.accuracy) == 15
    assert len(history.val_loss) == len(history.val_accuracy) == 15
    assert history.loss[-1] < history.loss[0] / 2
    assert history.val_accuracy[-1] > 0.8
    assert not history.interrupted
    assert all(seconds > 0 for seconds in history.seconds)


@every_backend
@pytest.mark.parametrize("drop_last", [False, True])
def test_in_order_equals_the_loop_by_hand(backend: str, drop_last: bool) -> None:
    x, y = blobs(70)  # two batches of 32 and a remainder of 6
    model, other = mlp(0), mlp(0)
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 64 if drop_last else 70, 32)]
    with fn.use_backend(backend):
        history = fn.fit(
            model, x, y, optimizer=fn.SGD(lr=0.1, momentum=0.5), epochs=1, shuffle=False, drop_last=drop_last
        )
        seen = by_hand(other, batches, fn.SGD(other.parameters(), lr=0.1, momentum=0.5))
    assert weights(model) == weights(other)
    samples = sum(len(labels) for _, labels in batches)
    means = sum(value * len(labels) for (value, _), (_, labels) in zip(seen, batches, strict=True)) / samples
    assert history.loss == [pytest.approx(means, rel=1e-14)]
    assert history.accuracy == [sum(correct for _, correct in seen) / samples]


def test_shuffles_are_permutations_drawn_from_the_seed() -> None:
    x, y = blobs(50)
    model, other = mlp(0), mlp(0)
    fn.fit(model, x, y, optimizer=fn.SGD(lr=0.1), epochs=2, batch_size=16, seed=3)
    rng, optimizer = np.random.default_rng(3), fn.SGD(other.parameters(), lr=0.1)
    for _ in range(2):
        order = rng.permutation(50)
        by_hand(other, [(x[order[i : i + 16]], y[order[i : i + 16]]) for i in range(0, 50, 16)], optimizer)
    assert weights(model) == weights(other)


def test_defaults() -> None:
    x, y = blobs()
    model, other = mlp(), mlp()
    fn.fit(model, x, y, seed=0, epochs=2)
    optimizer = fn.SGD(other.parameters(), lr=0.01, momentum=0.9)
    fn.fit(other, x, y, loss=fn.CrossEntropyLoss(), optimizer=optimizer, batch_size=32, epochs=2, seed=0)
    assert weights(model) == weights(other)
    assert fn.fit(mlp(), x, y).epochs == 10


def test_a_sum_is_reported_as_a_mean() -> None:
    x, y = blobs()
    frozen = fn.SGD(lr=0)
    mean = fn.fit(mlp(0), x, y, optimizer=frozen, epochs=1, shuffle=False)
    summed = fn.fit(
        mlp(0), x, y, optimizer=fn.SGD(lr=0), loss=fn.CrossEntropyLoss(reduction="sum"), epochs=1, shuffle=False
    )
    assert summed.loss == pytest.approx(mean.loss, rel=1e-6)
    assert fn.evaluate(mlp(0), x, y, loss=fn.CrossEntropyLoss(reduction="sum"))["loss"] == pytest.approx(
        mean.loss[0], rel=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "uint64", "float16", ">f8", "bool", "list"])
def test_x_of_any_real_kind_is_converted(dtype: str, kind: str) -> None:
    x, y = blobs(40)
    given_x: Any = (np.abs(x) * 2).astype("int8" if kind == "list" else kind)
    expected = mlp(dtype=dtype)
    fn.fit(expected, given_x.astype(dtype), y, seed=0, epochs=1)
    model = mlp(dtype=dtype)
    fn.fit(
        model, given_x.tolist() if kind == "list" else given_x, y.tolist() if kind == "list" else y, seed=0, epochs=1
    )
    assert weights(model) == weights(expected)


def test_layout_of_x_does_not_matter_and_x_is_not_changed() -> None:
    x, y = images()
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.repeat(x, 2, axis=3)[..., ::2]
    before = x.copy()
    bits = []
    for same in (x, last, wide):
        model = cnn()
        fn.fit(model, same, y, seed=0, epochs=1)
        bits.append(weights(model))
    assert bits[0] == bits[1] == bits[2]
    assert (x == before).all()


class MeanSquare:
    """A loss of one's own, without labels."""

    def forward(self, scores: Array, target: Any, need_grad: bool = True) -> tuple[float, LossBackward]:
        difference = scores - target
        return float(np.mean(difference**2)), lambda: (2 / difference.size) * difference


def test_a_loss_without_labels_has_no_accuracy() -> None:
    x, _ = blobs()
    model = fn.Sequential(fn.Linear(6, 2))
    target = x[:, :2] * 3 + 1
    history = fn.fit(model, x, target, loss=MeanSquare(), validation_data=(x, target), epochs=30, seed=0)
    assert history.loss[-1] < history.loss[0] / 10
    assert history.accuracy == history.val_accuracy == []
    assert fn.evaluate(model, x, target, loss=MeanSquare()) == {"loss": history.val_loss[-1]}
    with pytest.raises(fn.ShapeError, match=r"^y: expected 100 targets.*\(99, 2\)"):
        fn.fit(model, x, target[1:], loss=MeanSquare())
    with pytest.raises(ValueError, match=r"^y: expected finite numbers, got NaN in sample 7"):
        fn.fit(model, x, np.where(np.arange(100)[:, None] == 7, np.nan, target), loss=MeanSquare())
    with pytest.raises(fn.ShapeError, match=r"^x: it does not fit the model: .*Linear"):
        fn.fit(model, x[:, 1:], target, loss=MeanSquare())


def test_validation_is_what_evaluate_says() -> None:
    x, y = blobs(300)
    xv, yv = blobs(301, seed=1)  # more than are evaluated at once
    model = mlp()
    history = fn.fit(model, x, y, validation_data=(xv, yv), epochs=2, seed=0)
    assert fn.evaluate(model, xv, yv) == {"loss": history.val_loss[-1], "accuracy": history.val_accuracy[-1]}
    other = mlp()
    fn.fit(other, x, y, epochs=2, seed=0)
    assert weights(model) == weights(other)  # looking does not change anything


# --- seeds, threads, backends -----------------------------------------------------------------------------------------


def test_same_seed_same_bits() -> None:
    x, y = blobs()
    results = []
    for start in (0, 1, 2):
        model = mlp()
        fn.manual_seed(start)  # of no influence
        for _ in range(start):
            model.forward(x, train=True)  # moves the dropout on: of no influence
        results.append((history_bits(fn.fit(model, x, y, seed=11, epochs=3)), weights(model)))
    assert results[0] == results[1] == results[2]
    other = mlp()
    fn.fit(other, x, y, seed=12, epochs=3)
    assert weights(other) != results[0][1]


def test_two_dropouts_drop_differently_under_one_seed() -> None:
    one, two = fn.Dropout(0.5), fn.Dropout(0.5)
    x, y = blobs()
    fn.fit(fn.Sequential(fn.Linear(6, CLASSES), one, two), x, y, seed=0, epochs=1)
    ones = np.ones((8, 8), np.float32)
    assert (one.forward(ones, train=True)[0] != two.forward(ones, train=True)[0]).any()


def test_without_a_seed_manual_seed_decides() -> None:
    x, y = blobs()
    bits = []
    for seed in (1, 1, 2):
        fn.manual_seed(seed)
        model = fn.Sequential(fn.Linear(6, 8), fn.Dropout(0.5), fn.Linear(8, CLASSES))
        fn.fit(model, x, y, epochs=2)
        bits.append(weights(model))
    assert bits[0] == bits[1] != bits[2]


@needs_native
@pytest.mark.parametrize("make", [mlp, cnn])
def test_same_bits_for_any_number_of_threads(make: Callable[[], fn.Sequential], threads: None) -> None:
    x, y = blobs(500) if make is mlp else images()
    results = []
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        model = make()
        with fn.use_backend("native"):
            history = fn.fit(model, x, y, seed=0, epochs=2, validation_data=(x, y))
        results.append((history_bits(history), weights(model)))
    assert results[0] == results[1] == results[2]


@needs_native
@pytest.mark.parametrize("make", [mlp, cnn])
def test_backends_agree(make: Callable[[], fn.Sequential]) -> None:
    x, y = blobs() if make is mlp else images()
    models, histories = [], []
    for backend in ("native", "reference"):
        models.append(make())
        with fn.use_backend(backend):
            histories.append(fn.fit(models[-1], x, y, seed=0, epochs=2, validation_data=(x, y)))
    assert history_bits(histories[0]) == [pytest.approx(values, rel=1e-4) for values in history_bits(histories[1])]
    native, reference = (model.state_dict() for model in models)
    for key in native:
        np.testing.assert_allclose(native[key], reference[key], rtol=1e-3, atol=1e-5)


def test_two_threads_fit_two_models() -> None:
    x, y = images()
    expected = []
    for seed in (0, 1):
        model = cnn()
        fn.fit(model, x, y, seed=seed, epochs=3)
        expected.append(weights(model))
    models = [cnn(), cnn()]
    start = threading.Barrier(2)

    def work(seed: int) -> None:
        start.wait()
        fn.fit(models[seed], x, y, seed=seed, epochs=3)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [weights(model) for model in models] == expected


# --- optimizers -------------------------------------------------------------------------------------------------------


def test_an_optimizer_without_parameters_is_bound() -> None:
    x, y = blobs()
    model, optimizer = mlp(), fn.SGD(lr=0.1)
    fn.fit(model, x, y, optimizer=optimizer, epochs=1)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(p) for p in model.parameters()]
    before = weights(model)
    fn.fit(model, x, y, optimizer=optimizer, epochs=1)  # and stays bound
    assert weights(model) != before


def test_an_optimizer_keeps_the_parameters_it_has() -> None:
    x, y = blobs()
    model = mlp()
    before = model.state_dict()
    fn.fit(model, x, y, optimizer=fn.SGD(model[3].parameters(), lr=0.1), epochs=1)
    changed = [key for key, value in model.state_dict().items() if (value != before[key]).any()]
    assert changed == ["3.weight", "3.bias"]


def test_an_optimizer_of_another_model_is_refused() -> None:
    x, y = blobs()
    optimizer = fn.SGD(lr=0.1)
    fn.fit(mlp(), x, y, optimizer=optimizer, epochs=1)
    with pytest.raises(ValueError, match=r"^optimizer: .*none of this model"):
        fn.fit(mlp(), x, y, optimizer=optimizer, epochs=1)


def test_a_frozen_model_is_not_changed() -> None:
    x, y = blobs()
    model = mlp()
    model.requires_grad_(False)
    before = weights(model)
    assert fn.fit(model, x, y, epochs=1).epochs == 1
    assert weights(model) == before


def test_gradients_left_by_an_earlier_step_do_not_count() -> None:
    x, y = blobs()
    model, other = mlp(), mlp()
    scores, backward = model.forward(x, train=True)
    backward(np.ones_like(scores))  # no step follows
    for each in (model, other):
        fn.fit(each, x, y, seed=0, epochs=1)
    assert weights(model) == weights(other)


# --- refused ----------------------------------------------------------------------------------------------------------

X, Y = blobs()


def with_value(value: float, sample: int) -> Array:
    x: Array = X.copy()
    x[sample, 2] = value
    return x


def labels_with(value: int, sample: int) -> Array:
    y: Array = Y.copy()
    y[sample] = value
    return y


BAD_DATA: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "NaN": (with_value(np.nan, 41), Y, ValueError, "x: expected finite numbers, got NaN in sample 41"),
    "infinity": (with_value(np.inf, 0), Y, ValueError, "x: .*infinity .*in sample 0"),
    "minus infinity": (with_value(-np.inf, 99), Y, ValueError, "x: .*infinity .*in sample 99"),
    "too large for float32": (X.astype(float) * 1e300, Y, ValueError, "x: .*infinity .*float32.*in sample 0"),
    "complex": (X.astype(complex), Y, fn.DTypeError, "x: expected real numbers .*complex128"),
    "object": (X.astype(object), Y, fn.DTypeError, "x: expected real numbers .*object"),
    "text": (X.astype(str), Y, fn.DTypeError, "x: expected real numbers .*<U"),
    "dates": (X.astype("datetime64[s]"), Y, fn.DTypeError, "x: expected real numbers .*datetime"),
    "None": (None, Y, fn.DTypeError, "x: expected real numbers"),
    "ragged": ([[1.0, 2.0], [1.0]], Y, fn.ShapeError, "x: "),
    "a number": (3.0, Y, fn.ShapeError, "x: expected at least one sample"),
    "no samples": (X[:0], Y[:0], fn.ShapeError, r"x: expected at least one sample, got shape \(0, 6\)"),
    "no features": (X[:, :0], Y, fn.ShapeError, "x: expected at least one sample"),
    "features": (X[:, :5], Y, fn.ShapeError, r"x: it does not fit the model: 0 \(Linear\): .*6.*got \(1, 5\)"),
    "fewer labels": (X, Y[:-1], fn.ShapeError, r"y: expected labels \(100,\), got \(99,\)"),
    "columns of labels": (X, Y[:, None], fn.ShapeError, r"y: .*got \(100, 1\)"),
    "one-hot, one class more": (X, np.eye(CLASSES + 1)[Y], fn.ShapeError, r"y: expected .*\(100, 3\).*got \(100, 4\)"),
    "real labels": (X, Y.astype(float), fn.DTypeError, "y: expected integer labels, got float64"),
    "text labels": (X, Y.astype(str), fn.DTypeError, "y: expected integer labels"),
    "no labels": (X, None, fn.DTypeError, "y: expected integer labels"),
    "negative label": (X, labels_with(-1, 17), ValueError, r"y: expected labels from 0 to 2, got -1 \(sample 17\)"),
    "label too large": (X, labels_with(3, 98), ValueError, r"y: expected labels from 0 to 2, got 3 \(sample 98\)"),
}


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize("where", ["fit", "validation", "evaluate"])
def test_bad_data_is_refused_by_name_before_training(case: str, where: str) -> None:
    x, y, error, message = BAD_DATA[case]
    model, optimizer = mlp(), fn.SGD(lr=0.1)
    before = weights(model)
    with pytest.raises(error, match=f"^{'validation ' * (where == 'validation')}{message}"):
        if where == "fit":
            fn.fit(model, x, y, optimizer=optimizer)
        elif where == "validation":
            fn.fit(model, X, Y, optimizer=optimizer, validation_data=(x, y))
        else:
            fn.evaluate(model, x, y)
    assert weights(model) == before
    assert not optimizer.param_groups


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    *[
        ({"batch_size": value}, ValueError, "batch_size: expected a whole number")
        for value in (0, -1, 2.0, True, "32", None)
    ],
    *[({"epochs": value}, ValueError, "epochs: expected a whole number") for value in (-1, 1.5, True, None)],
    *[({"seed": value}, ValueError, "seed: expected a whole number") for value in (-1, 0.5, True)],
    ({"batch_size": 101, "drop_last": True}, ValueError, "drop_last: 100 samples are fewer than batch_size=101"),
    ({"validation_data": X}, ValueError, "validation_data: expected a pair"),
    ({"validation_data": (X,)}, ValueError, "validation_data: expected a pair"),
    ({"loss": fn.CrossEntropyLoss}, TypeError, "loss: expected a loss"),
    ({"loss": "mse"}, TypeError, "loss: expected a loss"),
    ({"optimizer": "adam"}, TypeError, "optimizer: expected an optimizer"),
    ({"optimizer": fn.SGD}, TypeError, "optimizer: expected an optimizer"),
    ({"callbacks": [fn.Callback]}, TypeError, "callbacks: expected"),
    ({"callbacks": [3]}, TypeError, "callbacks: expected"),
]


@pytest.mark.parametrize(
    "arguments,error,message", BAD_ARGUMENTS, ids=lambda v: next(iter(v)) if isinstance(v, dict) else ""
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    model = mlp()
    before = weights(model)
    with pytest.raises(error, match=f"^{message}"):
        fn.fit(model, X, Y, **arguments)
    assert weights(model) == before


def test_what_is_no_model_is_refused() -> None:
    for model in (None, fn.Linear, [fn.Linear(2, 2)]):
        with pytest.raises(TypeError, match=r"^model: expected a layer"):
            fn.fit(model, X, Y)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^model: expected a layer"):
            fn.evaluate(model, X, Y)  # type: ignore[arg-type]


def test_scores_of_images_are_refused() -> None:
    with pytest.raises(
        fn.ShapeError, match=r"^y: expected labels \(48, 12, 12\), one for each position of the scores, got \(48,\)"
    ):
        fn.fit(cnn()[:1], *images())
    with pytest.raises(ValueError, match="no parameters"):
        fn.fit(fn.Sequential(fn.ReLU()), X, Y)


@given(st.integers(0, 5999), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_first_sample_that_is_not_finite_is_named(sample: int, value: float, column: int) -> None:
    x = np.zeros((6000, 100), np.float32)  # checked in more than one piece
    x[sample, column] = value
    x[sample:, 99] = np.nan
    with pytest.raises(ValueError, match=f"in sample {sample}$"):
        fn.evaluate(fn.Linear(100, 2), x, np.zeros(6000, int))


def test_checking_takes_little_memory() -> None:
    x, y = np.zeros((20_000, 400), np.float32), np.zeros(20_000, np.int64)
    model = fn.Linear(400, 2)
    fn.evaluate(model, x[:10], y[:10])
    tracemalloc.start()
    fn.evaluate(model, x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # x alone has 32 MB


# --- callbacks --------------------------------------------------------------------------------------------------------


class Log(fn.Callback):
    """Notes down every call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.losses: list[float] = []

    def on_train_begin(self, model: fn.Layer, history: fn.History) -> None:
        self.calls.append(("begin", history.epochs))

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        self.calls.append(batch)
        self.losses.append(loss)

    def on_epoch_end(self, model: fn.Layer, history: fn.History) -> bool | None:
        self.calls.append(("epoch", history.epochs, len(history.val_loss)))
        return None

    def on_train_end(self, model: fn.Layer, history: fn.History) -> None:
        self.calls.append(("end", history.epochs))


def test_callbacks_are_called_in_order() -> None:
    log, model = Log(), mlp()
    history = fn.fit(model, X, Y, epochs=2, batch_size=40, validation_data=(X, Y), callbacks=[log], seed=0)
    epoch = [0, 1, 2]
    assert log.calls == [("begin", 0), *epoch, ("epoch", 1, 1), *epoch, ("epoch", 2, 2), ("end", 2)]
    assert history.loss[0] == pytest.approx(np.average(log.losses[:3], weights=[40, 40, 20]))


def test_plain_functions_are_called_after_each_epoch() -> None:
    model, seen = mlp(), []
    history = fn.fit(model, X, Y, epochs=2, callbacks=[lambda m, h: seen.append((m, h, h.epochs))])
    assert seen == [(model, history, 1), (model, history, 2)]


@pytest.mark.parametrize("stop", [True, np.True_])
def test_true_stops_and_all_callbacks_still_see_the_epoch(stop: Any) -> None:
    log = Log()
    history = fn.fit(mlp(), X, Y, epochs=9, callbacks=[lambda m, h: stop if h.epochs == 3 else None, log])
    assert history.epochs == 3
    assert ("epoch", 3, 0) in log.calls and log.calls[-1] == ("end", 3)
    assert not history.interrupted


@pytest.mark.parametrize("other", [1, "stop", {"loss": 1.0}, False, None])
def test_only_true_stops(other: Any) -> None:
    assert fn.fit(mlp(), X, Y, epochs=2, callbacks=[lambda m, h: other]).epochs == 2


def test_an_error_in_a_callback_is_raised() -> None:
    def broken(model: fn.Layer, history: fn.History) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fn.fit(mlp(), X, Y, epochs=2, callbacks=[broken])


@pytest.mark.parametrize("epochs", [0, np.int64(2)])
def test_numbers_of_epochs(epochs: Any) -> None:
    log, model = Log(), mlp()
    before = weights(model)
    history = fn.fit(model, X, Y, epochs=epochs, batch_size=np.int32(50), seed=np.uint8(1), callbacks=[log])
    assert history.epochs == epochs
    assert (weights(model) == before) == (epochs == 0)
    assert log.calls[0] == ("begin", 0) and log.calls[-1] == ("end", epochs)
    if not epochs:
        assert history == fn.History()


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


class Interrupt(Log):
    """Presses Ctrl-C in a batch (counted over all epochs), or after an epoch."""

    def __init__(self, batch: int | None = None, epoch: int | None = None) -> None:
        super().__init__()
        self.batch, self.epoch = batch, epoch

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        super().on_batch_end(model, batch, loss)
        if len(self.losses) == self.batch:
            raise KeyboardInterrupt

    def on_epoch_end(self, model: fn.Layer, history: fn.History) -> bool | None:
        super().on_epoch_end(model, history)
        if history.epochs == self.epoch:
            raise KeyboardInterrupt
        return None


@pytest.mark.parametrize("progress", [False, True])
def test_ctrl_c_in_a_batch_keeps_what_was_learned(progress: bool) -> None:
    interrupt, model = Interrupt(batch=6), mlp()
    with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
        history = fn.fit(
            model, X, Y, batch_size=25, validation_data=(X, Y), callbacks=[interrupt], seed=0, progress=progress
        )
    assert history.interrupted and history.epochs == 1
    assert [len(values) for values in history_bits(history)] == [1, 1, 1, 1]
    assert interrupt.calls[-1] == ("end", 1)
    # Six batches were learned, and nothing else was disturbed.
    other, rng = mlp(), np.random.default_rng(0)
    other[2].reseed(0, 0)  # type: ignore[attr-defined]
    orders = [rng.permutation(100), rng.permutation(100)[:50]]
    batches = [(X[order[i : i + 25]], Y[order[i : i + 25]]) for order in orders for i in range(0, len(order), 25)]
    by_hand(other, batches, fn.SGD(other.parameters(), lr=0.01, momentum=0.9))
    assert weights(model) == weights(other)


def test_ctrl_c_after_an_epoch_keeps_the_epoch() -> None:
    with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
        history = fn.fit(mlp(), X, Y, callbacks=[Interrupt(epoch=2)])
    assert history.interrupted and history.epochs == 2


class Breaks(fn.Layer):
    """A layer in which Ctrl-C is pressed: in its n-th forward or backward pass of training, or in evaluation."""

    def __init__(self, where: str, count: int) -> None:
        self.where, self.count = where, count

    def _pass(self, where: str) -> None:
        self.count -= where == self.where
        if self.count < 0 and where == self.where:
            self.where = "nowhere any more"
            raise KeyboardInterrupt

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        self._pass("forward" if train else "evaluation")

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            self._pass("backward")
            return dy if need_dx else None

        return x, backward


@pytest.mark.parametrize("where,count", [("forward", 5), ("backward", 5), ("evaluation", 3)])
def test_ctrl_c_anywhere_leaves_a_model_that_trains_on(where: str, count: int) -> None:
    model = fn.Sequential(fn.Linear(6, 8), Breaks(where, count), fn.Linear(8, CLASSES))
    with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
        history = fn.fit(model, X, Y, batch_size=25, validation_data=(X, Y), seed=0)
    assert history.interrupted
    assert [len(values) for values in (*history_bits(history), history.seconds)] == [1] * 5
    assert not any(p.used for p in model.parameters())  # or else the next step would add to this gradient
    assert np.isfinite(fn.fit(model, X, Y, epochs=1).loss[0])


def test_ctrl_c_during_the_checks_is_not_caught() -> None:
    model = fn.Sequential(fn.Linear(6, CLASSES), Breaks("evaluation", 0))
    with pytest.raises(KeyboardInterrupt):
        fn.fit(model, X, Y)


def test_a_real_sigint() -> None:
    script = textwrap.dedent(
        """
        import warnings
        import numpy as np
        import fastnn as fn

        fn.manual_seed(0)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((256, 6)), rng.integers(0, 3, 256)
        model = fn.Sequential(fn.Linear(6, 16), fn.ReLU(), fn.Linear(16, 3))

        def ready(model, history):
            if history.epochs == 1:
                print("ready", flush=True)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = fn.fit(model, x, y, epochs=10**9, validation_data=(x, y), callbacks=[ready])
        lengths = {len(v) for v in (history.loss, history.accuracy, history.val_loss, history.val_accuracy)}
        print(history.interrupted, lengths == {history.epochs}, [w.category.__name__ for w in caught])
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert rest == "True True ['UserWarning']\n"


# --- progress ---------------------------------------------------------------------------------------------------------


def test_nothing_is_shown_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    fn.fit(mlp(), X, Y, epochs=1)
    assert capfd.readouterr() == ("", "")


def test_a_bar_for_each_epoch(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    quiet, shown = mlp(), mlp()
    fn.fit(quiet, X, Y, epochs=2, seed=0)
    history = fn.fit(shown, X, Y, epochs=2, seed=0, validation_data=(X, Y), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    for epoch, loss, val_accuracy in zip((1, 2), history.loss, history.val_accuracy, strict=True):
        last = next(line for line in reversed(err.replace("\r", "\n").split("\n")) if f"epoch {epoch}/2" in line)
        assert "4/4" in last and f"loss={loss:.4f}" in last and f"val_accuracy={val_accuracy:.4f}" in last
    assert weights(quiet) == weights(shown)
    fn.fit(mlp(), X, Y, epochs=1, progress="small net")
    assert "small net: epoch 1/1:" in capfd.readouterr().err


def test_a_line_for_each_epoch_without_tqdm(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    history = fn.fit(mlp(), X, Y, epochs=2, validation_data=(X, Y), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    for i, line in enumerate(lines):
        assert line.startswith(
            f"epoch {i + 1}/2: loss {history.loss[i]:.4f}, accuracy {history.accuracy[i]:.4f}, val_loss "
        )
    fn.fit(mlp(), X, Y, epochs=1, progress="small net")
    assert capfd.readouterr().err.startswith("small net: epoch 1/1: loss ")


# --- evaluate ---------------------------------------------------------------------------------------------------------


@every_backend
def test_evaluate(backend: str) -> None:
    model = mlp()
    scores = model.scores(X).astype(np.float64)
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(100), Y]
    with fn.use_backend(backend):
        for size in (1, 7, 100, 256):
            result = fn.evaluate(model, X, Y, batch_size=size)
            assert result == {
                "loss": pytest.approx(losses.mean(), rel=1e-5),
                "accuracy": (scores.argmax(1) == Y).mean(),
            }
        kept = fn.evaluate(model, X, Y, batch_size=32, drop_last=True)
    assert kept["loss"] == pytest.approx(losses[:96].mean(), rel=1e-5)
    assert kept["accuracy"] == (scores.argmax(1) == Y)[:96].mean()
    assert model.predict(X).tolist() == scores.argmax(1).tolist()


def test_evaluate_refuses_what_fit_refuses() -> None:
    with pytest.raises(ValueError, match=r"^batch_size: "):
        fn.evaluate(mlp(), X, Y, batch_size=0)
    with pytest.raises(ValueError, match=r"^drop_last: "):
        fn.evaluate(mlp(), X, Y, batch_size=101, drop_last=True)
    with pytest.raises(TypeError, match=r"^loss: "):
        fn.evaluate(mlp(), X, Y, loss=3)  # type: ignore[arg-type]


# --- history ----------------------------------------------------------------------------------------------------------


def test_a_history_is_json() -> None:
    history = fn.fit(mlp(), X, Y, epochs=2, validation_data=(X, Y))
    copy = history.as_dict()
    assert json.loads(json.dumps(copy)) == copy
    assert fn.History(**copy) == history
    copy["loss"].clear()
    assert len(history.loss) == 2


def test_a_history_can_be_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = fn.fit(mlp(), X, Y, epochs=2, validation_data=(X, Y)).plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert len(figure.axes) == 2


@needs_native
def test_a_validation_of_one_batch_is_replayed() -> None:
    """It has the same numbers in each epoch, so that none of its runs could verify a record of another."""
    model = fn.Sequential(fn.Linear(3, 4), fn.Tanh(), fn.Linear(4, 2))
    x, y = np.random.default_rng(0).standard_normal((300, 3)).astype("f"), np.arange(300) % 2
    loss = fn.CrossEntropyLoss()
    measuring = evaluation(model, open_data(model, x, y, loss), loss, 256)
    before = model.state_dict()
    means = [measuring.means() for _ in range(3)]
    assert means[0] == means[1] == means[2] == fn.evaluate(model, x, y)
    for rows in (slice(0, 256), slice(256, 300)):
        assert measuring._in_order.record((x[rows], y[rows])) is not None
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
