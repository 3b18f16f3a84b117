"""Recurrent layers beside PyTorch's, by themselves: sequences of several lengths, states, what they return, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import assert_close, every_backend, every_dtype, gradients, random

import fastnn as fn
from fastnn import init
from fastnn._kernels import Array

KINDS = ("RNN", "GRU", "LSTM")
every_kind = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """The layer in float64 and PyTorch's, with its weights."""
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(fn, kind)(*args, dtype="float64", **options), getattr(torch.nn, kind)(*args, **options)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.double().state_dict().items()})
    return ours, theirs


def as_list(states: Any) -> list[Any]:
    """h, or h and c."""
    return list(states) if isinstance(states, tuple) else [states]


def assert_as_torch(kind: str, ours: Any, theirs: Any, x: Array, lengths: Array | None, with_h0: bool) -> None:
    """Equal outputs, last states and gradients by x, first states and all weights, to 1e-10."""
    torch = pytest.importorskip("torch")
    rnn = torch.nn.utils.rnn
    batch_first, T = theirs.batch_first, x.shape[theirs.batch_first]
    shape = theirs.num_layers * (1 + theirs.bidirectional), x.shape[not batch_first], theirs.hidden_size
    h0 = [random(shape, seed=seed) for seed in range(1 + (kind == "LSTM"))]
    tx, th0 = torch.tensor(x, requires_grad=True), [torch.tensor(h, requires_grad=True) for h in h0]
    given = tx if lengths is None else rnn.pack_padded_sequence(tx, torch.tensor(lengths), batch_first, False)
    ty, tlast = theirs(given, *([tuple(th0) if len(th0) > 1 else th0[0]] if with_h0 else []))
    if lengths is not None:
        ty, _ = rnn.pad_packed_sequence(ty, batch_first, total_length=T)
    dy, dlast = random(tuple(ty.shape), seed=3), [random(shape, seed=4 + i) for i in range(len(h0))]
    torch.autograd.backward([ty, *as_list(tlast)], [torch.from_numpy(a) for a in (dy, *dlast)])

    begin = (tuple(h0) if len(h0) > 1 else h0[0]) if with_h0 else None
    (y, last), backward = ours.forward(x if lengths is None else fn.Padded(x, lengths), train=True, h0=begin)
    found = backward((dy, tuple(dlast) if len(dlast) > 1 else dlast[0]))
    dx, dh0 = found if with_h0 else (found, ())
    if lengths is not None:
        assert y.lengths is lengths
        y = y.values
    assert_close(y, ty.detach().numpy(), "float64", "y")
    for a, b in zip(as_list(last), as_list(tlast), strict=True):
        assert_close(a, b.detach().numpy(), "float64", "last state")
    assert_close(dx, tx.grad.numpy(), "float64", "dx")
    for a, b in zip(as_list(dh0), th0, strict=False):
        assert_close(a, b.grad.numpy(), "float64", "dh0")
    for name, p in theirs.named_parameters():
        assert_close(gradients(ours)[name], p.grad.numpy(), "float64", name)


@every_backend
@every_kind
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_two_layers_both_ways_are_as_pytorchs(kind: str, batch_first: bool, padded: bool, backend: str) -> None:
    ours, theirs = pair(kind, 7, 17, 2, batch_first=batch_first, bidirectional=True)
    N, T = 19, 6
    lengths = np.random.default_rng(0).integers(1, T + 1, N) if padded else None
    with fn.use_backend(backend):
        x = random((N, T, 7) if batch_first else (T, N, 7))
        assert_as_torch(kind, ours, theirs, x, lengths, with_h0=True)


@given(
    st.sampled_from(KINDS),
    *(st.integers(1, most) for most in (4, 20, 5, 9, 2)),
    *(st.booleans() for _ in range(6)),
)
@settings(max_examples=40, deadline=None)
def test_any_is_as_pytorchs(
    kind: str,
    T: int,
    N: int,
    inputs: int,
    hidden: int,
    layers: int,
    bias: bool,
    batch_first: bool,
    bidirectional: bool,
    padded: bool,
    with_h0: bool,
    strided: bool,
) -> None:
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    ours, theirs = pair(kind, inputs, hidden, layers, **options)
    lengths = np.random.default_rng(T).integers(1, T + 1, N) if padded else None
    x = random((N, T, inputs) if batch_first else (T, N, inputs))
    x = np.asfortranarray(x) if strided else x
    assert_as_torch(kind, ours, theirs, x, lengths, with_h0)


@every_kind
@every_dtype
def test_initial_weights_are_pytorchs(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    init.torch_manual_seed(5)
    torch.manual_seed(5)
    ours = getattr(fn, kind)(6, 5, 2, bidirectional=True, dtype=dtype)
    theirs = getattr(torch.nn, kind)(6, 5, 2, bidirectional=True, dtype=getattr(torch, dtype))
    for (key, a), (name, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert key == name
        assert a.tobytes() == b.numpy().tobytes()


@every_kind
def test_parts_of_what_is_returned(kind: str) -> None:
    x = random((4, 3, 5))
    made = {}
    for returns in ("tuple", "sequence", "last"):
        fn.manual_seed(1)
        made[returns] = getattr(fn, kind)(5, 4, 2, bidirectional=True, returns=returns, dtype="float64")
    (output, states), backward = made["tuple"].forward(x, train=True)
    h = as_list(states)[0]
    y, backward_y = made["sequence"].forward(x, train=True)
    end, backward_end = made["last"].forward(x, train=True)
    assert (y == output).all() and end.shape == (3, 8)
    assert (end == h[-2:].transpose(1, 0, 2).reshape(3, 8)).all()
    dy, dend = random(y.shape, seed=1), random(end.shape, seed=2)
    dh = np.zeros_like(h)
    dh[-2:] = dend.reshape(3, 2, 4).transpose(1, 0, 2)
    np.testing.assert_allclose(backward((dy, None)), backward_y(dy), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        backward((None, (dh, None) if kind == "LSTM" else dh)), backward_end(dend), rtol=1e-12, atol=1e-12
    )
    assert not backward((None, None)).any()


@every_kind
def test_padding_is_nothing(kind: str) -> None:
    """Whatever stands in the padding is not seen, and gets no gradient."""
    lengths = np.array([2, 5, 1])
    layer = getattr(fn, kind)(3, 4, 2, batch_first=True, bidirectional=True, returns="sequence", dtype="float64")
    x = random((3, 5, 3))
    for n, length in enumerate(lengths):
        x[n, length:] = 1e9
    y, backward = layer.forward(fn.Padded(x, lengths), train=True)
    dx = backward(np.ones_like(y.values))
    found = gradients(layer)
    layer.zero_grad()
    for n, length in enumerate(lengths):
        alone, backward = layer.forward(x[n : n + 1, :length], train=True)
        np.testing.assert_allclose(y.values[n, :length], alone[0], rtol=1e-12)
        np.testing.assert_allclose(dx[n, :length], backward(np.ones_like(alone))[0], rtol=1e-10, atol=1e-14)
        assert not y.values[n, length:].any() and not dx[n, length:].any()
    for name, gradient in gradients(layer).items():
        assert_close(found[name], gradient, "float64", name)


def test_in_a_model() -> None:
    """Padding passes through layers that know nothing of it, and ends at the last hidden state."""
    model = fn.Sequential(
        fn.Embedding(9, 4, dtype="float64"),
        fn.GRU(4, 5, batch_first=True, returns="sequence", dtype="float64"),
        fn.GRU(5, 3, batch_first=True, bidirectional=True, returns="last", dtype="float64"),
        fn.Linear(6, 1, dtype="float64"),
    )
    tokens = np.array([[1, 2, 3], [4, 0, 0]])
    y = model(fn.Padded(tokens, np.array([3, 1])))
    assert y.shape == (2, 1)
    np.testing.assert_allclose(y[1], model(tokens[1:, :1])[0], rtol=1e-12)


@every_backend
def test_dropout_between_layers(backend: str) -> None:
    layer = fn.GRU(3, 50, 2, dropout=0.5, returns="sequence", dtype="float64")
    x = random((4, 6, 3))
    with fn.use_backend(backend):
        layer.reseed(1, 2)
        first, backward = layer.forward(x, train=True)
        dy = random(first.shape, seed=1)
        dx = backward(dy)
        assert (layer.forward(x, train=True)[0] != first).any()
        layer.reseed(1, 2)
        assert (layer.forward(x, train=True)[0] == first).all()
        assert (layer(x) == layer(x)).all()
        layer.dropout = 0.0
        assert (layer.forward(x, train=True)[0] == layer(x)).all()
        layer.dropout = 0.5
    step, at = 1e-6, (1, 2, 0)  # the gradient goes through what was kept
    losses = []
    for sign in (1, -1):
        x[at] += sign * step
        layer.reseed(1, 2)
        losses.append((layer.forward(x, train=True)[0] * dy).sum())
        x[at] -= sign * step
    np.testing.assert_allclose((losses[0] - losses[1]) / (2 * step), dx[at], rtol=1e-6)


@every_kind
def test_save_and_load(kind: str, tmp_path: Any) -> None:
    options = {"nonlinearity": "identity"} if kind == "RNN" else {}
    layer = getattr(fn, kind)(3, 4, 2, batch_first=True, dropout=0.25, bidirectional=True, returns="last", **options)
    fn.save(fn.Sequential(layer), tmp_path / "m.safetensors")
    loaded = fn.load(tmp_path / "m.safetensors")
    x = random((2, 5, 3), "float32")
    assert (loaded(x) == layer(x)).all()
    assert loaded[0].config() == layer.config()


def test_summary_counts_all_steps() -> None:
    table = fn.Sequential(fn.GRU(3, 4, batch_first=True, returns="sequence")).summary((5, 3))
    assert table.multiply_adds == 5 * 12 * (3 + 4)


@needs_native
@every_kind
def test_threads_do_not_change_bits(kind: str, threads: None) -> None:
    x, lengths = random((40, 9, 6), "float32"), np.random.default_rng(0).integers(1, 10, 40)
    layer = getattr(fn, kind)(6, 33, 2, batch_first=True, bidirectional=True, returns="sequence")
    found = set()
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        layer.zero_grad()
        y, backward = layer.forward(fn.Padded(x, lengths), train=True)
        dx = backward(random(y.values.shape, "float32"))
        found.add(b"".join(a.tobytes() for a in (y.values, dx, *gradients(layer).values())))
    assert len(found) == 1


@pytest.mark.parametrize(
    "make,error,message",
    [
        (lambda: fn.GRU(0, 4), fn.ShapeError, "GRU: expected input_size as a whole number"),
        (lambda: fn.LSTM(3, 4, 0), fn.ShapeError, "LSTM: expected num_layers"),
        (lambda: fn.GRU(3, 4, dropout=1.5), ValueError, "GRU: expected dropout from 0 to 1, got 1.5"),
        (
            lambda: fn.GRU(3, 4, returns="all"),
            ValueError,
            "GRU: expected returns as one of 'tuple', 'sequence', 'last'",
        ),
        (lambda: fn.GRU(3, 4, dtype="int64"), fn.DTypeError, "float32 or float64"),
        (lambda: fn.RNN(3, 4, 1, "gelu"), ValueError, "RNN: expected nonlinearity 'tanh', 'relu' or 'identity'"),
        (lambda: fn.GRU(3, 4)(random((2, 3), "float32")), fn.ShapeError, r"GRU: expected \(T, N, 3\), got \(2, 3\)"),
        (lambda: fn.GRU(3, 4)(random((2, 2, 3))), fn.DTypeError, "GRU: expected float32"),
        (lambda: fn.GRU(3, 4)(random((0, 2, 3), "float32")), fn.ShapeError, "at least one step"),
        (
            lambda: fn.GRU(3, 4)(fn.Padded(random((2, 2, 3), "float32"), np.array([1, 3]))),
            ValueError,
            "GRU: expected lengths from 1 to 2",
        ),
        (
            lambda: fn.GRU(3, 4).forward(random((2, 2, 3), "float32"), h0=random((2, 2, 4), "float32")),
            fn.ShapeError,
            r"GRU: expected \(1, 2, 4\), got \(2, 2, 4\)",
        ),
        (
            lambda: fn.LSTM(3, 4).forward(random((2, 2, 3), "float32"), h0=random((1, 2, 4), "float32")),
            fn.ShapeError,
            "LSTM: expected h0 as a pair, of h and of c, got ndarray",
        ),
        (
            lambda: fn.GRU(3, 4).forward(random((2, 2, 3), "float32"))[1](random((2, 2, 4), "float32")),
            fn.ShapeError,
            "GRU: expected a pair of gradients",
        ),
        (
            lambda: fn.GRU(3, 4, returns="last").forward(random((2, 2, 3), "float32"))[1](random((2, 5), "float32")),
            fn.ShapeError,
            r"GRU: expected the gradient of its output, \(2, 4\), got \(2, 5\)",
        ),
    ],
)
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_dropout_without_a_layer_above_warns() -> None:
    with pytest.warns(UserWarning, match="LSTM: dropout=0.5 acts between layers"):
        fn.LSTM(3, 4, dropout=0.5)
