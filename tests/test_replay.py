"""Captured steps and replayed predictions: the bits are those from Python; what cannot be replayed is caught."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array
from fastnn.layers.layer import Backward

if not k.COMPILED:
    pytest.skip("installed without compiled kernels", allow_module_level=True)

RNG = np.random.default_rng(5)
X = RNG.standard_normal((90, 2, 8, 8)).astype(np.float32)
ROWS = np.ascontiguousarray(X[:, 0, :3, :4]).reshape(90, 12)
Y = RNG.integers(0, 5, 90)


class Slow(fn.Callback):
    """A callback for each batch, so that nothing is replayed."""

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        pass


class Counting(fn.Layer):
    """Counts how often it is called from Python."""

    def __init__(self) -> None:
        self.calls = [0]

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        self.calls[0] += 1
        return x, lambda dy, need_dx=True: dy


def cnn(dtype: str = "float32") -> fn.Sequential:
    fn.manual_seed(3)
    return fn.Sequential(
        fn.Conv2d(2, 6, 3, padding=1, dtype=dtype),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Conv2d(6, 9, 3, dtype=dtype),
        fn.ReLU(),
        fn.Flatten(),
        fn.Dropout(0.3),
        fn.Linear(36, 5, dtype=dtype),
    )


def mlp(*more: fn.Layer) -> fn.Sequential:
    fn.manual_seed(4)
    return fn.Sequential(fn.Linear(12, 7), *more, fn.ReLU(), fn.Linear(7, 5))


def sgd(model: fn.Layer, **options: Any) -> fn.SGD:
    return fn.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, "nesterov": True, **options})


def eager(model: fn.Layer, optimizer: fn.SGD, x: Array, y: Array) -> float:
    scores, backward = model.forward(x, train=True)
    loss, loss_backward = fn.CrossEntropyLoss().forward(scores, y)
    backward(loss_backward(), need_dx=False)
    optimizer.step()
    return loss


def assert_same(a: fn.Layer, b: fn.Layer) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert np.array_equal(p.data, q.data), name
        assert np.array_equal(p.grad, q.grad), f"gradient of {name}"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = k.get_num_threads()
    fn.set_num_threads(2)
    yield
    fn.set_num_threads(before)


# --- the same bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_captured_step_has_the_bits_of_the_loop(dtype: str, threads: int) -> None:
    fn.set_num_threads(threads)
    x = X.astype(dtype)
    a, b = cnn(dtype), cnn(dtype)
    one, other = sgd(a), sgd(b)
    step = fn.capture(b, fn.CrossEntropyLoss(), other, x[:20], Y[:20])
    for i in (0, 20, 40, 0, 60):
        assert step(x[i : i + 20], Y[i : i + 20]) == eager(a, one, x[i : i + 20], Y[i : i + 20])
        assert_same(a, b)


def test_capturing_changes_nothing() -> None:
    model = cnn()
    optimizer = sgd(model)
    eager(model, optimizer, X[:20], Y[:20])
    before = [p.data.copy() for p in model.parameters()]
    state, momentum = model[6].state.copy(), optimizer._state[0]["momentum_buffer"].copy()
    fn.capture(model, fn.CrossEntropyLoss(), optimizer, X[:20], Y[:20])
    assert all(np.array_equal(p, q.data) for p, q in zip(before, model.parameters(), strict=True))
    assert np.array_equal(model[6].state, state)
    assert np.array_equal(optimizer._state[0]["momentum_buffer"], momentum)
    assert optimizer._steps[0].tolist() == [1] * 6


def test_undoing_a_part_and_then_the_whole() -> None:
    kept = np.full(8, np.float32(-7))
    record = k.active().Record()
    assert record.start()
    try:
        k.relu(np.ones(3, np.float32), out=kept[:3])
        k.relu(np.full(8, np.float32(2)), out=kept)
    finally:
        record.stop()
    assert kept.tolist() == [2] * 8
    record.restore()
    assert kept.tolist() == [-7] * 8


def test_loops_from_python_and_captured_may_alternate() -> None:
    a, b = cnn(), cnn()
    one, other = sgd(a), sgd(b)
    step = fn.capture(b, fn.CrossEntropyLoss(), other, X[:20], Y[:20])
    for i in range(6):
        batch = X[10 * i : 10 * i + 20], Y[10 * i : 10 * i + 20]
        expected = eager(a, one, *batch)
        assert (step(*batch) if i % 2 else eager(b, other, *batch)) == expected
    assert_same(a, b)


@pytest.mark.parametrize("count", [80, 90, 20, 7])
def test_an_epoch_is_its_steps(count: int) -> None:
    a, b = cnn(), cnn()
    one = sgd(a)
    step = fn.capture(b, fn.CrossEntropyLoss(), sgd(b), X[:20], Y[:20])
    total = 0.0
    for i in range(0, count, 20):
        batch = X[i : min(count, i + 20)], Y[i : min(count, i + 20)]
        total += eager(a, one, *batch) * len(batch[0])
    assert step.epoch(X[:count], Y[:count]) == total / count
    assert_same(a, b)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_fit_has_the_bits_of_fit_from_python(shuffle: bool, drop_last: bool) -> None:
    histories, models = [], []
    for callbacks in ([], [Slow()]):
        model = cnn()
        how: dict[str, Any] = {"batch_size": 16, "epochs": 5, "shuffle": shuffle, "drop_last": drop_last, "seed": 1}
        found = fn.fit(model, X, Y, optimizer=sgd(model), validation_data=(X, Y), callbacks=callbacks, **how).as_dict()
        histories.append({name: value for name, value in found.items() if name != "seconds"})
        models.append(model)
    assert histories[0] == histories[1]
    assert_same(*models)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    samples=st.integers(1, 60),
    batch=st.integers(1, 25),
    reduction=st.sampled_from(["mean", "sum"]),
    momentum=st.sampled_from([0.0, 0.9]),
    dropout=st.booleans(),
)
def test_any_network(
    widths: list[int], samples: int, batch: int, reduction: str, momentum: float, dropout: bool
) -> None:
    found = []
    for callbacks in ([], [Slow()]):
        fn.manual_seed(0)
        layers: list[fn.Layer] = []
        for i, o in zip([12, *widths], [*widths, 5], strict=True):
            layers += [fn.Linear(i, o), fn.ReLU(), *([fn.Dropout(0.4)] if dropout else [])]
        model = fn.Sequential(*layers)
        how: dict[str, Any] = {"batch_size": batch, "epochs": 4, "seed": 2, "callbacks": callbacks}
        loss, optimizer = fn.CrossEntropyLoss(reduction=reduction), fn.SGD(lr=0.01, momentum=momentum)
        history = fn.fit(model, ROWS[:samples], Y[:samples], loss=loss, optimizer=optimizer, **how)
        found.append((model, history.loss, history.accuracy))
    assert found[0][1:] == found[1][1:]
    assert_same(found[0][0], found[1][0])


def test_fit_replays_all_but_the_first_steps() -> None:
    counting = Counting()
    fn.fit(mlp(counting), ROWS, Y, batch_size=15, epochs=10, seed=0)
    assert counting.calls[0] == 1 + 2  # the check of the data, a step to record and one to verify; not 60


def test_a_callback_for_each_batch_turns_replay_off() -> None:
    counting = Counting()
    fn.fit(mlp(counting), ROWS, Y, batch_size=15, epochs=10, seed=0, callbacks=[Slow()])
    assert counting.calls[0] == 1 + 60


def test_one_batch_for_ever_is_not_trusted() -> None:
    """What is never computed anew cannot be told from what is, as long as nothing changes."""
    counting = Counting()
    fn.fit(mlp(counting), ROWS, Y, batch_size=90, epochs=5, shuffle=False)
    assert counting.calls[0] == 1 + 5


def test_replaying_allocates_nothing() -> None:
    model = cnn()
    step = fn.capture(model, fn.CrossEntropyLoss(), sgd(model), X[:10], Y[:10])
    step.epoch(X, Y)
    tracemalloc.start()
    try:
        for _ in range(20):
            step.epoch(X, Y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8192  # a batch alone is 5120 bytes of images, its activations many times as much


def test_a_profile_is_a_step_and_names_its_kernels() -> None:
    a, b = cnn(), cnn()
    step = fn.capture(b, fn.CrossEntropyLoss(), sgd(b), X[:20], Y[:20])
    found = step.profile(X[:20], Y[:20])
    eager(a, sgd(a), X[:20], Y[:20])
    assert_same(a, b)
    assert ("linear", "7 (Linear)") in [names[:2] for names in found]
    assert found[-1][:2] == ("sgd", "SGD")
    assert all(microseconds > 0 for _, _, microseconds in found)


def test_ctrl_c_is_served_within_an_epoch() -> None:
    script = textwrap.dedent(
        """
        import warnings
        import numpy as np
        import fastnn as fn

        class Ready(fn.Callback):
            def on_train_begin(self, model, history):
                print("ready", flush=True)

        fn.set_num_threads(1)
        x, y = np.random.default_rng(0).random((200_000, 64), np.float32), np.arange(200_000) % 10
        widths = 64, 300, 300, 300, 300, 10
        layers = [layer for i, o in zip(widths, widths[1:]) for layer in (fn.Linear(i, o), fn.ReLU())]
        warnings.simplefilter("ignore")
        history = fn.fit(fn.Sequential(*layers[:-1]), x, y, batch_size=1, epochs=1, callbacks=[Ready()])
        print(history.interrupted, history.epochs)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.5)  # of an epoch of half a minute
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=8)
        finally:
            process.kill()
    assert rest == "True 0\n"


# --- what must be caught ----------------------------------------------------------------------------------------------


class Stray(fn.Layer):
    """Doubles its input, somewhere with NumPy instead of a kernel."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.kept = np.zeros((15, 7), np.float32)

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        if self.how == "forward":
            y = x * np.float32(2)
        elif self.how == "kept array" and len(x) == len(self.kept):
            y = np.multiply(x, np.float32(2), out=self.kept)
        else:
            y = k.linear(x, np.eye(7, dtype=np.float32) * 2 if self.how == "new array" else EYE, None, relu=False)

        def backward(dy: Array, need_dx: bool = True) -> Array:
            if self.how == "backward":
                return dy * np.float32(2)
            return k.linear_backward_data(dy, EYE)  # type: ignore[no-any-return]

        return y, backward


EYE = np.eye(7, dtype=np.float32) * 2
STRAYS = ["forward", "kept array", "new array", "backward"]


@pytest.mark.parametrize("how", STRAYS)
def test_a_stray_numpy_operation_is_found_and_named(how: str) -> None:
    model = mlp(Stray(how))
    with pytest.raises(fn.CaptureError, match=r"1 \(Stray\)|2 \(ReLU\)|0 \(Linear\)"):
        fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS[:15], Y[:15])
    assert_same(model, mlp(Stray(how)))


@pytest.mark.parametrize("how", STRAYS)
def test_fit_goes_on_from_python_where_a_stray_operation_was_found(how: str) -> None:
    fit_twice(lambda: mlp(Stray(how)), ROWS, warns="fit: steps run from Python")


def fit_twice(make: Callable[[], fn.Sequential], x: Array, warns: str = "", **how: Any) -> list[fn.History]:
    """Train with and without replay to the same bits; `warns` is what the first one must warn of."""
    models, histories = [], []
    arguments: dict[str, Any] = {"batch_size": 15, "epochs": 4, "seed": 0, **how}
    for callbacks in ([], [Slow()]):
        models.append(make())
        more = {name: value() if callable(value) else value for name, value in arguments.items()}
        more["callbacks"] = [*more.get("callbacks", []), *callbacks]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            histories.append(fn.fit(models[-1], x, Y[: len(x)], **more))
        expected = [True] if warns and not callbacks else []
        assert [warns in str(w.message) if warns else str(w.message) for w in caught] == expected
    assert histories[0].loss == histories[1].loss
    assert histories[0].accuracy == histories[1].accuracy
    assert histories[0].val_loss == histories[1].val_loss
    assert_same(*models)
    return histories


class Scaled(fn.Layer):
    """A linear layer whose doubled weight NumPy writes to an array that it keeps."""

    def __init__(self) -> None:
        self.weight, self.kept = fn.Parameter(np.eye(7, dtype=np.float32)), np.zeros((7, 7), np.float32)

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        np.multiply(self.weight.data, np.float32(2), out=self.kept)
        return k.linear(x, self.kept, None, relu=False), lambda dy, need_dx=True: dy


def test_weights_that_pass_through_numpy() -> None:
    model = fn.Sequential(fn.Linear(12, 7), Scaled(), fn.Linear(7, 5))
    for i in range(5):
        model[1].weight.data[...] *= 1 + i
        assert np.array_equal(model.scores(ROWS[:4]), model(ROWS[:4]))


def test_validation_of_weights_that_pass_through_numpy() -> None:
    def make() -> fn.Sequential:
        fn.manual_seed(0)
        return fn.Sequential(fn.Linear(12, 7), Scaled(), fn.Linear(7, 5))

    histories = fit_twice(make, ROWS, warns="gives linear an array", validation_data=(ROWS, Y))
    assert len(histories[0].val_loss) == 4


def test_statistics_that_numpy_keeps() -> None:
    class Running(fn.Layer):
        def __init__(self) -> None:
            self.mean = np.zeros(7, np.float32)

        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            self.mean *= np.float32(0.9)
            self.mean += np.float32(0.1) * x.mean(0)
            return x, lambda dy, need_dx=True: dy

    layers: list[Running] = []

    def make() -> fn.Sequential:
        layers.append(Running())
        return mlp(layers[-1])

    fit_twice(make, ROWS, warns=r"1 (Running).mean is changed, but not by a kernel")
    assert np.array_equal(layers[0].mean, layers[1].mean)


def test_samples_that_are_alike() -> None:
    class Kept(fn.Layer):
        def __init__(self) -> None:
            self.kept = np.zeros((1, 12), np.float32)

        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            return np.multiply(x, np.float32(2), out=self.kept), lambda dy, need_dx=True: dy

    def make() -> fn.Sequential:
        fn.manual_seed(0)
        return fn.Sequential(Kept(), fn.Linear(12, 5))

    fit_twice(make, np.tile(ROWS[:4], (5, 1)), warns="gives linear an array", batch_size=1)


def test_accuracy_that_numpy_computes() -> None:
    class TopTwo(fn.CrossEntropyLoss):
        @staticmethod
        def count_correct(scores: Array, labels: Array) -> Any:
            return int(sum(label in row for row, label in zip(scores.argsort(1)[:, -2:], labels, strict=True)))

    fit_twice(mlp, ROWS, warns="what it returns was not written by a kernel", loss=TopTwo, batch_size=3)


def test_what_is_not_returned_by_a_kernel_is_found() -> None:
    class Last(fn.Layer):
        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            return x + np.float32(1), lambda dy, need_dx=True: dy

    model = fn.Sequential(fn.Linear(12, 5), Last())
    for _ in range(4):
        x = RNG.standard_normal((6, 12)).astype(np.float32)
        assert np.array_equal(model.scores(x), model(x))


def test_a_layer_that_changes_in_each_run_is_not_replayed() -> None:
    class Remembers(fn.Layer):
        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            self.last = x
            return x, lambda dy, need_dx=True: dy

    with pytest.warns(UserWarning, match="attributes of a layer, or options, change from run to run"):
        fn.fit(mlp(Remembers()), ROWS, Y, batch_size=15, epochs=2)


def test_a_loss_of_numpy_is_not_replayed() -> None:
    class Mean:
        def forward(self, scores: Array, target: Any, need_grad: bool = True) -> tuple[float, Callable[[], Array]]:
            return float((scores**2).mean()), lambda: scores * np.float32(2 / scores.size)

    model = mlp()
    with pytest.raises(fn.CaptureError, match="Mean is not made of kernels"):
        fn.capture(model, Mean(), sgd(model), ROWS, ROWS)
    history = fn.fit(model, ROWS, ROWS, loss=Mean(), epochs=3, batch_size=15)
    assert history.loss[2] < history.loss[0]


def test_a_loss_that_computes_with_numpy_is_found() -> None:
    class Doubled(fn.CrossEntropyLoss):
        def compute(self, scores: Array, labels: Array, need_grad: bool = True) -> Any:
            loss, backward = super().compute(scores, labels, need_grad)
            return loss * 2, lambda: backward() * np.float32(2)

    model = mlp()
    with pytest.raises(fn.CaptureError, match="what it returns was not written by a kernel"):
        fn.capture(model, Doubled(), sgd(model), ROWS, Y)


def test_the_reference_is_not_captured_but_trains() -> None:
    model = mlp()
    with fn.use_backend("reference"):
        with pytest.raises(fn.CaptureError, match="the reference backend cannot replay"):
            fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS, Y)
        assert len(fn.fit(model, ROWS, Y, epochs=3, batch_size=15).loss) == 3


# --- what may change --------------------------------------------------------------------------------------------------


class Twins:
    """A model trained by a captured step, and one that does the same from Python."""

    def __init__(self, make: Callable[[], fn.Sequential] = mlp, **options: Any) -> None:
        self.models = make(), make()
        self.optimizers = [sgd(model, **options) for model in self.models]
        self.x = ROWS if make is mlp else X
        self.step_ = fn.capture(self.models[0], fn.CrossEntropyLoss(), self.optimizers[0], self.x[:20], Y[:20])

    def step(self, i: int = 0, size: int = 20) -> None:
        x, y = self.x[i : i + size], Y[i : i + size]
        assert self.step_(x, y) == eager(self.models[1], self.optimizers[1], x, y)
        assert_same(*self.models)


def test_a_replaced_array_of_a_parameter() -> None:
    twins = Twins()
    twins.step()
    for model in twins.models:
        model[0].weight.data = np.full((7, 12), np.float32(0.1))
    twins.step(20)
    twins.step(40)


def test_a_replaced_parameter() -> None:
    twins = Twins()
    twins.step()
    for model, optimizer in zip(twins.models, twins.optimizers, strict=True):
        model[0].weight = fn.Parameter(np.full((7, 12), np.float32(0.1)))
        optimizer.param_groups[0]["lr"] = 0.01
    for i in (20, 40):  # which the optimizers do not know: it stays what it is, and so does its gradient's first value
        twins.models[1][0].weight.used = False
        twins.step(i)
    assert np.array_equal(twins.models[0][0].weight.data, np.full((7, 12), np.float32(0.1)))


def test_a_frozen_layer() -> None:
    twins = Twins()
    twins.step()
    for model in twins.models:
        model[0].requires_grad_(False)
    frozen = twins.models[0][0].weight.data.copy()
    twins.step(20)
    twins.step(40)
    assert np.array_equal(twins.models[0][0].weight.data, frozen)
    for model in twins.models:
        model[0].requires_grad_(True)
    twins.step(20)
    assert not np.array_equal(twins.models[0][0].weight.data, frozen)


def test_another_dropout() -> None:
    twins = Twins(cnn)
    twins.step()
    for model in twins.models:
        model[6].p = 0.8
    twins.step(20)


def test_the_number_of_threads() -> None:
    twins = Twins(cnn)
    for threads in (2, 1, 3, 2):
        fn.set_num_threads(threads)
        twins.step(20)


def test_batches_of_other_sizes() -> None:
    twins = Twins(cnn)
    for size in (20, 7, 20, 1, 7, 33, 2, 3, 4, 5, 6, 8, 9, 20):
        twins.step(5, size)


@pytest.mark.parametrize("options", [{"lr": 0.5}, {"momentum": 0.0, "nesterov": False}, {"weight_decay": 0.1}])
def test_options_of_the_optimizer(options: dict[str, Any]) -> None:
    twins = Twins()
    twins.step()
    for optimizer in twins.optimizers:
        optimizer.param_groups[0].update(options)
    twins.step(20)
    for optimizer in twins.optimizers:
        optimizer.param_groups[0]["lr"] = 0.001
        optimizer.param_groups[0] |= {"momentum": 0.5}
    twins.step(40)


def test_momentum_that_begins_later() -> None:
    twins = Twins(momentum=0.0, nesterov=False)
    twins.step()
    for optimizer in twins.optimizers:
        optimizer.param_groups[0]["momentum"] = 0.9
    twins.step(20)
    twins.step(40)


def test_another_optimizer_takes_the_parameters_over() -> None:
    twins = Twins()
    twins.step()
    for model in twins.models:
        eager(model, fn.SGD(model.parameters(), lr=0.3), ROWS[:9], Y[:9])
    twins.step(20)
    twins.step(40)


def test_layers_in_another_order_of_memory() -> None:
    a, b = cnn(), cnn()
    last = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    step = fn.capture(b, fn.CrossEntropyLoss(), sgd(b), X[:20], Y[:20])
    one = sgd(a)
    for x in (X[:20], last[:20], X[40:0:-2], X[20:40]):
        assert step(x, Y[:20]) == eager(a, one, np.ascontiguousarray(x), Y[:20])
    assert_same(a, b)


def test_a_layer_frozen_by_a_callback() -> None:
    models = []
    for callbacks in ([], [Slow()]):
        model = cnn()

        def freeze(model: fn.Layer, history: fn.History) -> None:
            model[0].requires_grad_(history.epochs != 2)  # type: ignore[index]

        fn.fit(model, X, Y, batch_size=20, epochs=5, seed=0, callbacks=[freeze, *callbacks])
        models.append(model)
    assert_same(*models)


def test_bad_batches_are_refused_and_change_nothing() -> None:
    model = mlp()
    step = fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS[:20], Y[:20])
    step(ROWS[:20], Y[:20])
    before = model.state_dict()
    for x, y, error, message in (
        (ROWS[:20], np.full(20, 5), ValueError, "y: expected labels from 0 to 4, got 5"),
        (ROWS[:20], np.full(20, -1), ValueError, "y: expected labels from 0 to 4, got -1"),
        (ROWS[:20], Y[:19], fn.ShapeError, r"y: expected labels \(20,\)"),
        (ROWS[:20], Y[:20] + 0.5, fn.DTypeError, "y: expected integer labels"),
        (ROWS[:20, :11], Y[:20], fn.ShapeError, "0 .Linear."),
        (np.full((20, 12), "a"), Y[:20], fn.DTypeError, "x: expected real numbers"),
    ):
        with pytest.raises(error, match=message):
            step(x, y)
        for key, value in model.state_dict().items():
            assert np.array_equal(value, before[key])
    for x, y in ((ROWS[:0], Y[:0]), (np.float32(1), Y[:1])):
        with pytest.raises(fn.ShapeError, match="x: expected at least one sample"):
            step(x, y)
        with pytest.raises(fn.ShapeError, match="x: expected at least one sample"):
            step.epoch(x, y)


def test_batches_of_other_dtypes_and_alignments_are_converted() -> None:
    twins = Twins()
    bytes_ = np.zeros(20 * 12 * 4 + 1, np.uint8)
    crooked = bytes_[1:].view(np.float32).reshape(20, 12)
    crooked[...] = ROWS[:20]
    for x, y in (
        (ROWS[:20].astype(np.float64), Y[:20]),
        (ROWS[:20], Y[:20].astype(np.int8)),
        (ROWS[:20], Y[:20].astype(np.longlong)),
        (ROWS[:20].astype(">f4"), Y[:20].tolist()),
        (crooked, Y[:20]),
    ):
        expected = eager(twins.models[1], twins.optimizers[1], ROWS[:20], Y[:20])
        assert twins.step_(x, y) == expected
        assert_same(*twins.models)


def test_gradients_that_are_there_are_added_to() -> None:
    twins = Twins()
    for i in (0, 20):
        twins.step(i)
        for model in twins.models:
            scores, backward = model.forward(ROWS[40:60], train=True)
            backward(fn.CrossEntropyLoss().forward(scores, Y[40:60])[1](), need_dx=False)
        twins.step(i)
        for model in twins.models:
            scores, backward = model.forward(ROWS[40:60], train=True)
            backward(fn.CrossEntropyLoss().forward(scores, Y[40:60])[1](), need_dx=False)
        twins.step(5, size=9)
        twins.step(7, size=9)


def test_a_step_of_some_of_the_parameters() -> None:
    twins = Twins()
    for model, optimizer in zip(twins.models, twins.optimizers, strict=True):
        y, backward = model[2].forward(np.ones((3, 7), np.float32), train=True)
        backward(np.ones_like(y))
        optimizer.step()
    for i in (0, 20, 40):
        twins.step(i)


def test_two_optimizers_in_turn() -> None:
    a, b = mlp(), mlp()
    pairs = [(sgd(a, lr=lr), sgd(b, lr=lr)) for lr in (0.01, 0.3)]
    steps = [fn.capture(a, fn.CrossEntropyLoss(), one, ROWS[:20], Y[:20]) for one, _ in pairs]
    for i in range(16):
        x, y = ROWS[i : i + 20], Y[i : i + 20]
        assert steps[i % 2](x, y) == eager(b, pairs[i % 2][1], x, y)
        assert_same(a, b)


def test_options_that_are_taken_away_and_set_again() -> None:
    twins = Twins()
    twins.step()
    for optimizer in twins.optimizers:
        optimizer.param_groups[0].pop("lr")
        optimizer.param_groups[0].setdefault("lr", 0.7)
    twins.step(20)


def test_another_reduction() -> None:
    model = mlp()
    loss = fn.CrossEntropyLoss()
    step = fn.capture(model, loss, fn.SGD(model.parameters(), lr=0.0), ROWS[:20], Y[:20])
    mean = step(ROWS[:20], Y[:20])
    loss.reduction = "sum"
    assert step(ROWS[:20], Y[:20]) == pytest.approx(20 * mean)


def test_another_backend() -> None:
    twins = Twins()
    for i in (0, 20):
        with fn.use_backend("reference"):
            twins.step(i)
        twins.step(i)


def test_another_head() -> None:
    twins = Twins()
    twins.step()
    for model, optimizer in zip(twins.models, twins.optimizers, strict=True):
        fn.manual_seed(9)
        model._layers["2"] = fn.Linear(7, 9)
        optimizer.param_groups[0]["lr"] = 0.1
    twins.models[1][2].weight.used = False
    assert np.isfinite(twins.step_(ROWS[:20], Y[:20] + 4))
    with pytest.raises(ValueError, match="expected labels from 0 to 8, got 9"):
        twins.step_(ROWS[:20], Y[:20] + 5)


@pytest.mark.parametrize("batch", [90, 60])
def test_a_learning_rate_that_a_callback_sets(batch: int) -> None:
    def how() -> list[Any]:
        def schedule(model: fn.Layer, history: fn.History) -> None:
            optimizers[-1].param_groups[0]["lr"] /= 2

        return [schedule]

    optimizers: list[fn.SGD] = []

    def optimizer() -> fn.SGD:
        optimizers.append(fn.SGD(lr=0.2, momentum=0.9))
        return optimizers[-1]

    fit_twice(mlp, ROWS, batch_size=batch, epochs=6, optimizer=optimizer, callbacks=how)


def test_captures_while_other_threads_record() -> None:
    stop, trouble = threading.Event(), []

    def record() -> None:
        while not stop.is_set():
            model = mlp()
            for _ in range(3):
                model.scores(ROWS[:4])

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for _ in range(100):
            model = mlp()
            before = model.state_dict()
            step = fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS[:20], Y[:20])
            if any(not np.array_equal(value, before[key]) for key, value in model.state_dict().items()):
                trouble.append("changed")
            step(ROWS[:20], Y[:20])
    finally:
        stop.set()
        thread.join()
    assert not trouble


def test_a_model_is_freed_with_its_records() -> None:
    import gc
    import weakref

    gc.disable()
    try:
        model = mlp()
        for i in range(4):
            model.scores(ROWS[i : i + 3])
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_a_call() -> None:
    model = cnn()
    for i in range(12):
        size = (1, 7, 1, 20)[i % 4]
        x = RNG.standard_normal((size, 2, 8, 8)).astype(np.float32)
        expected = model(x)
        assert np.array_equal(model.scores(x), expected)
        assert np.array_equal(model.predict(x), expected.argmax(1))
        assert np.array_equal(model.scores(x[:, :, ::-1]), model(x[:, :, ::-1]))


def test_predictions_are_replayed_and_keep_their_results() -> None:
    counting = Counting()
    model = mlp(counting)
    first = [model.scores(ROWS[i : i + 1]) for i in range(3)]
    calls = counting.calls[0]
    rest = [model.scores(ROWS[i : i + 1]) for i in range(3, 90)]
    assert counting.calls[0] == calls
    assert np.array_equal(np.concatenate(first + rest), np.concatenate([model(ROWS[i : i + 1]) for i in range(90)]))


def test_predictions_follow_the_weights() -> None:
    model = cnn()
    for i in range(6):
        fn.fit(model, X, Y, epochs=1, seed=i)
        assert np.array_equal(model.scores(X[:3]), model(X[:3]))
        if i == 3:
            model[7].weight.data = np.ones((5, 36), np.float32)
        if i == 4:
            fn.set_num_threads(1)


def test_threads_may_predict_at_once() -> None:
    models = cnn(), mlp()
    data = X, ROWS
    expected = [[model(x[i : i + 1]) for i in range(90)] for model, x in zip(models, data, strict=True)]
    wrong: list[tuple[int, int]] = []

    def predict(start: int) -> None:
        for i in range(start, start + 600):
            which = i % 2
            found = models[which].scores(data[which][i % 90 : i % 90 + 1])
            if not np.array_equal(found, expected[which][i % 90]):
                wrong.append((which, i))
            if i % 50 == 0:
                k.changed()  # as a layer made in another thread would

    threads = [threading.Thread(target=predict, args=(21 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_may_train_at_once() -> None:
    models = [cnn() for _ in range(4)]
    threads = [
        threading.Thread(target=fn.fit, args=(m, X, Y), kwargs={"batch_size": 10, "epochs": 4, "seed": 0})
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models[1:]:
        assert_same(models[0], model)


def test_threads_that_share_a_captured_step_take_turns() -> None:
    a, b = cnn(), cnn()
    step = fn.capture(b, fn.CrossEntropyLoss(), sgd(b), X[:20], Y[:20])
    threads = [threading.Thread(target=lambda: [step(X[:20], Y[:20]) for _ in range(25)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    optimizer = sgd(a)
    for _ in range(75):
        eager(a, optimizer, X[:20], Y[:20])
    assert_same(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_captures_while_its_parent_recorded() -> None:
    class Forks(fn.Layer):
        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            if train and not done:
                done.append(os.fork())  # in the child, the recording goes on
            return x, lambda dy, need_dx=True: dy

    done: list[int] = []
    model, failed = mlp(Forks()), True
    try:
        fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS[:15], Y[:15])(ROWS[:15], Y[:15])
        failed = False
    finally:
        if done and done[0] == 0:  # the child must not go on with the tests
            os._exit(failed)
    assert os.waitstatus_to_exitcode(os.waitpid(done[0], 0)[1]) == 0


def test_a_layer_may_say_that_it_is_not_to_be_replayed() -> None:
    class Branches(fn.Layer):
        replays = False

        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            if x.max() > 1e6:
                return k.relu(x), lambda dy, need_dx=True: dy
            return x, lambda dy, need_dx=True: dy

    model = fn.Sequential(fn.Linear(12, 5), Branches())
    large = ROWS[:4] * np.float32(1e8)
    for x in (ROWS[:4], ROWS[4:8], ROWS[8:12], large):
        assert np.array_equal(model.scores(x), model(x))
    with pytest.raises(fn.CaptureError, match=r"1 \(Branches\) is not to be replayed"):
        fn.capture(model, fn.CrossEntropyLoss(), sgd(model), ROWS, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fn.fit(model, ROWS, Y, epochs=2, batch_size=15)


def test_a_copied_model_predicts_by_itself() -> None:
    import copy
    import pickle

    model = mlp()
    for _ in range(3):
        model.scores(ROWS[:4])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other[0].weight.data[...] = 0
        for _ in range(3):
            assert np.array_equal(other.scores(ROWS[:4]), other(ROWS[:4]))
    assert np.array_equal(model.scores(ROWS[:4]), model(ROWS[:4]))
