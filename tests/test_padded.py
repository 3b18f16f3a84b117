"""Padded batches: what they are, how chains and branches pass them on, and training on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn._kernels import Array


class Last(fn.Layer):
    """The last step of each sequence, (N, C); for a plain array that at the end."""

    takes_padded = True
    replays = False  # it chooses in Python

    def forward(self, x: Any, train: bool = False) -> tuple[Array, Any]:
        padded = isinstance(x, fn.Padded)
        values = x.values if padded else x
        at = np.arange(len(values)), (x.lengths if padded else np.full(len(values), values.shape[1])) - 1

        def backward(dy: Array, need_dx: bool = True) -> Array:
            dx = np.zeros_like(values)
            dx[at] = dy
            return dx

        return values[at], backward


def batch(count: int = 40, seed: int = 0) -> tuple[fn.Padded, Array]:
    """Sequences whose label is the sign of their last step's first number; what is padded says the contrary."""
    rng = np.random.default_rng(seed)
    sequences = [rng.standard_normal((length, 3)).astype(np.float32) for length in rng.integers(1, 6, count)]
    labels = np.array([int(a[-1, 0] > 0) for a in sequences])
    x = fn.Padded.of(sequences)
    for row, length, label in zip(x.values, x.lengths, labels, strict=True):
        row[length:] = -9 if label else 9
    return x, labels


def classifier() -> fn.Sequential:
    fn.manual_seed(0)
    return fn.Sequential(fn.Linear(3, 8), fn.ReLU(), Last(), fn.Linear(8, 2))


def test_padded_from_sequences() -> None:
    x = fn.Padded.of([[1, 2], [3], [4, 5, 6]], value=-1)
    assert x.values.tolist() == [[1, 2, -1], [3, -1, -1], [4, 5, 6]] and x.lengths.tolist() == [2, 1, 3]
    assert x.lengths.dtype == np.int64 and len(x) == 3
    some = x[1:]
    assert some.values.tolist() == [[3, -1, -1], [4, 5, 6]] and some.lengths.tolist() == [1, 3]


@pytest.mark.parametrize("sequences", [[], [[1], []], [3], [np.ones((2, 3)), np.ones((2, 4))]])
def test_sequences_that_cannot_be_padded(sequences: Any) -> None:
    with pytest.raises(fn.ShapeError, match="Padded"):
        fn.Padded.of(sequences)


def test_chains_and_branches_pass_lengths_on() -> None:
    x, _ = batch()
    inner = fn.Residual(fn.Sequential(fn.Linear(3, 3), fn.ReLU()))
    sides = fn.Parallel(fn.Linear(3, 2), fn.Sequential(fn.Tanh(), fn.Linear(3, 2)), mode="concatenate", dim=2)
    y, backward = fn.Sequential(inner, sides).forward(x, train=True)
    assert isinstance(y, fn.Padded) and y.lengths is x.lengths
    plain, plain_backward = fn.Sequential(inner, sides).forward(x.values, train=True)
    np.testing.assert_array_equal(y.values, plain)
    np.testing.assert_array_equal(backward(plain), plain_backward(plain))


def test_layers_inside_branches_see_lengths() -> None:
    x, _ = batch()
    for branch in (fn.Residual(Last(), shortcut=Last()), fn.Parallel(Last(), Last())):
        np.testing.assert_array_equal(branch(x), 2 * Last()(x))


def test_fit_evaluate_and_predict_take_padded(tmp_path: Path) -> None:
    x, labels = batch(400)
    model = classifier()
    history = fn.fit(model, x, labels, epochs=20, optimizer=fn.Adam(lr=0.02), validation_data=batch(60, 1), seed=0)
    assert history.val_accuracy[-1] > 0.9
    measured = fn.evaluate(model, *batch(60, 1))
    assert measured["accuracy"] == history.val_accuracy[-1]
    assert np.mean(model.predict(x) == labels) > 0.9
    np.testing.assert_array_equal(model.scores(x, batch_size=7), model.scores(x, batch_size=400))


def test_batches_and_memory_maps_of_padded_train_alike(tmp_path: Path) -> None:
    x, labels = batch(64)
    np.save(tmp_path / "values.npy", x.values)
    mapped = fn.Padded(np.load(tmp_path / "values.npy", mmap_mode="r"), x.lengths)
    as_batches = [(x[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]
    losses = []
    for data in ((x, labels), (mapped, labels), (as_batches,)):
        history = fn.fit(classifier(), *data, batch_size=16, epochs=3, shuffle=False, seed=0)
        losses.append(history.loss)
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    "lengths, error, message",
    [
        (np.array([1, 2]), fn.ShapeError, "x.lengths: expected a length for each of 3 sequences"),
        (np.array([1, 0, 2]), ValueError, "x.lengths: expected lengths from 1 to 4, got 0 to 2"),
        (np.array([1, 5, 2]), ValueError, "x.lengths: expected lengths from 1 to 4, got 1 to 5"),
        (np.array([1.0, 2.0, 2.0]), fn.DTypeError, "x.lengths: expected lengths as an array of int64, got float64"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Array, error: type[Exception], message: str) -> None:
    x = fn.Padded(np.zeros((3, 4, 3), np.float32), lengths)
    with pytest.raises(error, match=message):
        fn.fit(classifier(), x, np.zeros(3, int))
    with pytest.raises(error, match=message):
        classifier().predict(x)


def test_values_without_steps_are_told() -> None:
    with pytest.raises(fn.ShapeError, match=r"x: expected padded sequences \(N, T, …\), got \(3,\)"):
        classifier().predict(fn.Padded(np.zeros(3, np.float32), np.ones(3, int)))


def recurrent() -> fn.Sequential:
    fn.manual_seed(0)
    gru = fn.GRU(3, 6, 2, batch_first=True, bidirectional=True, dropout=0.2, returns="last")
    return fn.Sequential(fn.Linear(3, 3), fn.Tanh(), gru, fn.Linear(12, 2))


def test_a_captured_step_sees_the_lengths_of_its_batch() -> None:
    x, labels = batch(64)
    losses = []
    for captured in (False, True):
        model, loss, optimizer = recurrent(), fn.CrossEntropyLoss(), fn.Adam()
        optimizer.bind(model.parameters())
        step = fn.capture(model, loss, optimizer, x[:16], labels[:16]) if captured else None
        found = []
        for i in range(0, 64, 16):
            some = x[i : i + 16]
            if step is not None:
                found.append(step(some, labels[i : i + 16]))
                continue
            scores, backward = model.forward(some, train=True)
            mean, loss_backward = loss.forward(scores, labels[i : i + 16])
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            found.append(float(mean))
        losses.append(found)
    assert losses[0] == losses[1]


def test_lengths_that_do_not_fit_a_captured_step() -> None:
    x, labels = batch(16)
    model = recurrent()
    step = fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x, labels)
    step(x, labels)
    for wrong in (0, x.values.shape[1] + 1):
        lengths = x.lengths.copy()
        lengths[3] = wrong
        with pytest.raises(ValueError):
            step(fn.Padded(x.values, lengths), labels)


def test_lengths_that_are_all_alike_are_captured() -> None:
    x, labels = batch(16)
    alike = fn.Padded(x.values, np.full(16, x.values.shape[1]))
    step = fn.capture(recurrent(), fn.CrossEntropyLoss(), fn.SGD(lr=0.1), alike, labels)
    assert np.isfinite(step(alike, labels)) and step(x[:1], labels[:1]) != step(alike[:1], labels[:1])
    calls = []

    class Counting(fn.Layer):
        def forward(self, x: Any, train: bool = False) -> tuple[Any, Any]:
            calls.append(train)
            return x, lambda dy, need_dx=True: dy

    model = fn.Sequential(Counting(), *recurrent())
    fn.fit(model, [(alike[i : i + 4], labels[i : i + 4]) for i in range(0, 16, 4)], epochs=5)
    assert sum(calls) == 2  # a step to record and one to verify


def test_models_that_do_not_have_samples_first() -> None:
    x, labels = batch(8)
    gru = fn.GRU(3, 2, returns="last")
    with pytest.raises(ValueError, match=r"0 \(GRU\): expected batch_first=True"):
        fn.fit(fn.Sequential(gru), x.values, labels)
    with pytest.raises(fn.ShapeError, match="expected an output for each of 3 samples"):
        fn.Sequential(fn.GRU(3, 4, batch_first=True)).scores(x.values, batch_size=3)


def test_gradients_of_padded_are_checked() -> None:
    x = fn.Padded.of([np.ones((2, 3)), np.linspace(-1, 1, 12).reshape(4, 3)])
    model = fn.Sequential(fn.GRU(3, 2, batch_first=True, returns="sequence", dtype="float64"))
    assert fn.gradcheck(model, x)["x"] < 1e-5


class Rating(fn.Layer):
    """A layer of one's own around a recurrent one."""

    def __init__(self) -> None:
        fn.manual_seed(0)
        self.gru, self.out = fn.GRU(3, 5, batch_first=True, returns="last"), fn.Linear(5, 2)

    def forward(self, x: Any, train: bool = False) -> tuple[Array, Any]:
        h, gru_backward = self.gru.forward(x, train)
        y, out_backward = self.out.forward(h, train)
        return y, lambda dy, need_dx=True: gru_backward(out_backward(dy), need_dx)


class PaddedRating(Rating):
    takes_padded = True


def test_layers_of_ones_own_around_recurrent_ones() -> None:
    x, _ = batch(8)
    with pytest.raises(TypeError, match=r"0 \(Rating\): it got padded sequences, whose lengths gru \(GRU\) inside it"):
        fn.Sequential(Rating())(x)
    for row, length, found in zip(x.values, x.lengths, fn.Sequential(PaddedRating())(x), strict=True):
        np.testing.assert_allclose(found, PaddedRating()(row[None, :length])[0], rtol=1e-5)


def test_a_layer_by_itself_takes_padded() -> None:
    x, _ = batch(8)
    linear = fn.Linear(3, 2)
    assert linear(x).lengths is x.lengths
    np.testing.assert_array_equal(linear.scores(x), linear(x.values))
    history = fn.fit(linear, x, linear(x.values) + 1, loss=fn.MSELoss(), epochs=2, optimizer=fn.SGD(lr=1e-3))
    assert history.loss[1] < history.loss[0]


def test_states_are_not_given_in_the_place_of_train() -> None:
    x = np.ones((2, 3, 3), np.float32)
    with pytest.raises(TypeError, match="GRU: expected train as True or False, got ndarray; first states go, as h0"):
        fn.GRU(3, 4).forward(x, np.zeros((1, 3, 4), np.float32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key and value go by name"):
        fn.MultiheadAttention(3, 1).forward(x, x)  # type: ignore[arg-type]
