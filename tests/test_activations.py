"""Activations, Softmax, Embedding, Dropout2d and Unflatten: accuracy, semantics, errors, and captured steps.

Outputs and gradients beside PyTorch's, and numerical gradients, are in test_layers.py; contracts of kernels in
test_kernels.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from kernel_inputs import ACTIVATIONS, SPECIAL

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array, backends
from fastnn._kernels.reference import FUNCTIONS

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: Options, and PyTorch's function, by name of the row.
TORCH: dict[str, tuple[dict[str, float], Callable[[Any], Any]]] = {
    "relu": ({}, lambda f: f.relu),
    "leaky_relu": ({"negative_slope": 0.3}, lambda f: lambda x: f.leaky_relu(x, 0.3)),
    "elu": ({"alpha": 0.7}, lambda f: lambda x: f.elu(x, 0.7)),
    "gelu": ({}, lambda f: f.gelu),
    "gelu_tanh": ({}, lambda f: lambda x: f.gelu(x, approximate="tanh")),
    "silu": ({}, lambda f: f.silu),
    "sigmoid": ({}, lambda f: f.sigmoid),
    "tanh": ({}, lambda f: f.tanh),
    "softplus": ({"beta": 2, "threshold": 3}, lambda f: lambda x: f.softplus(x, 2, 3)),
}

#: The functions in extended precision, by name of the row.
EXACT: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "gelu_tanh": lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.longdouble(np.pi)) * (x + 0.044715 * x**3))),
}


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    values: Array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return values


# --- elementwise functions --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_references_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    options, function = TORCH[name]
    x = np.array([v for v in SPECIAL[name]["x"] if np.isfinite(v)] + [np.nan, -9.0, -2.0, 1.4, 1.6, 30.0])
    dy = np.linspace(-1, 1, x.size)
    tx = torch.tensor(x, requires_grad=True)
    ty = function(torch.nn.functional)(tx)
    ty.backward(torch.tensor(dy))
    y = FUNCTIONS[name](x, **options)
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-12, atol=1e-12)
    kept = y if name in ("relu", "sigmoid", "tanh") else x
    dx = FUNCTIONS[f"{name}_backward"](dy, kept, **options)
    known = ~np.isnan(x)  # PyTorch's own forms, with vectors and without, differ in the gradient at NaN
    np.testing.assert_allclose(dx[known], tx.grad[torch.tensor(known)], rtol=1e-12, atol=1e-12)


@needs_native
@every_dtype
@pytest.mark.parametrize("name", EXACT)
def test_functions_are_exact_to_a_few_units_in_the_last_place(name: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(20000) * scale for scale in (1e-3, 1, 10)]).astype(dtype)
    if name == "gelu_tanh":  # in which rounding of x³ tells far below 0
        x = x[x > -3]
    options = {"elu": {"alpha": 1.0}, "softplus": {"beta": 1.0, "threshold": 1e3}}.get(name, {})
    y = k.TABLE[name](x, **options)
    exact = EXACT[name](x.astype(np.longdouble))
    seen = np.abs(exact) > np.finfo(dtype).tiny
    error = np.abs(y - exact)[seen] / np.spacing(np.abs(exact[seen]).astype(dtype))
    assert error.max() < (16 if name == "gelu_tanh" else 5)  # whose exponent, up to 7, has rounding errors of its own


@needs_native
@every_dtype
def test_gelu_is_exact_far_below_zero_too(dtype: str) -> None:
    """Where 1 + erf(x / sqrt(2)), PyTorch's way, has no digit left."""
    x = np.linspace(-9, 9, 2001).astype(dtype)
    exact = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.astype(float)])
    allowed = (6 + x.astype(float) ** 2) * np.finfo(dtype).eps
    assert (np.abs(k.gelu(x) - exact) <= allowed * np.abs(exact) + np.finfo(dtype).tiny).all()


@every_backend
@every_dtype
def test_limits(backend: str, dtype: str) -> None:
    x = np.array([-np.inf, -1e30, 0, 1e30, np.inf], dtype)
    with fn.use_backend(backend):
        found = {
            layer: layer(x).tolist() for layer in (fn.Sigmoid(), fn.Tanh(), fn.ELU(), fn.Softplus(), fn.LeakyReLU())
        }
        sigmoid, tanh, elu, softplus, leaky = found.values()
    big = float(dtype == "float32" and np.float32(1e30)) or 1e30
    assert sigmoid == [0, 0, 0.5, 1, 1]
    assert tanh == [-1, -1, 0, 1, 1]
    assert elu == [-1, -1, 0, big, np.inf]
    np.testing.assert_allclose(softplus, [0, 0, math.log(2), big, np.inf], rtol=1e-6)
    np.testing.assert_allclose(leaky, [-np.inf, -1e28, 0, big, np.inf], rtol=1e-6)


# --- along an axis ----------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -4])
def test_softmax_along_any_axis(backend: str, dtype: str, dim: int) -> None:
    x = random((3, 4, 5, 2), dtype) * 30
    for images in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        with fn.use_backend(backend):
            p, logs = fn.Softmax(dim)(images), fn.LogSoftmax(dim)(images)
        shifted = (x - x.max(dim, keepdims=True)).astype(float)
        expected = shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))
        np.testing.assert_allclose(p, np.exp(expected), rtol=2e-5, atol=1e-30)
        np.testing.assert_allclose(logs, expected, rtol=2e-5, atol=1e-4)


# --- embedding --------------------------------------------------------------------------------------------------------


@every_dtype
def test_padding_begins_at_zero_and_stays(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[1, 4, 4], [0, 4, 1]])
    ours, theirs = fn.Embedding(5, 3, padding_idx=4, dtype=dtype), torch.nn.Embedding(5, 3, padding_idx=4)
    assert not ours.weight.data[4].any() and ours.weight.data[:4].all()
    dy = random((2, 3, 3), dtype)
    ours.forward(x, train=True)[1](dy)
    theirs.to(getattr(torch, dtype))(torch.tensor(x)).backward(torch.tensor(dy))
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad, rtol=1e-6)
    assert fn.Embedding(5, 3, -1).padding_idx == 4


@every_dtype
def test_embedding_is_drawn_from_the_standard_normal_distribution(dtype: str) -> None:
    weight = fn.Embedding(400, 200, dtype=dtype).weight.data
    assert weight.dtype == dtype
    assert abs(weight.mean()) < 0.02 and abs(weight.std() - 1) < 0.02 and 3.5 < abs(weight).max() < 7


@every_backend
def test_unknown_indices_get_no_gradient(backend: str) -> None:
    dy, index = random((4, 2)), np.array([-1, 3, 1, 2**40])
    with fn.use_backend(backend):
        dweight = k.embedding_backward(dy, index, num_embeddings=3, padding_idx=-1)
    np.testing.assert_array_equal(dweight, [[0, 0], dy[2], [0, 0]])


@needs_native
def test_an_index_out_of_range_is_seen_and_nothing_is_read_there() -> None:
    found = k.gather_rows(random((3, 2)), np.array([0, 3, -1]))
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True]
    assert k.gather_rows(np.arange(3), np.array([2**40, 1])).tolist() == [-1, 1]


def tokens(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Sequences of 4 of 20 tokens, and which third of the vocabulary the first one is from."""
    x = np.random.default_rng(seed).integers(0, 20, (count, 4))
    return x, x[:, 0] * 3 // 20


def everything(dtype: str = "float32") -> fn.Sequential:
    """A network that has each of these layers."""
    fn.manual_seed(1)
    return fn.Sequential(
        *(fn.Embedding(20, 6, padding_idx=0, dtype=dtype), fn.GELU(), fn.Flatten(), fn.Linear(24, 48, dtype=dtype)),
        *(fn.Unflatten(1, (3, 4, 4)), fn.Conv2d(3, 5, 3, padding=1, dtype=dtype), fn.Dropout2d(0.2), fn.Softplus()),
        *(fn.Softmax(1), fn.LogSoftmax(1), fn.ELU(), fn.Flatten(), fn.SiLU(), fn.LeakyReLU(), fn.GELU("tanh")),
        *(fn.Identity(), fn.Tanh(), fn.Linear(80, 9, dtype=dtype), fn.Sigmoid(), fn.Linear(9, 3, dtype=dtype)),
    )


@needs_native
@every_dtype
def test_a_captured_step_has_the_bits_of_the_loop(dtype: str) -> None:
    x, y = tokens(60)
    a, b = everything(dtype), everything(dtype)
    b.load_state_dict(a.state_dict())
    for i, (one, other) in enumerate(zip(a.modules(), b.modules(), strict=True)):
        if isinstance(one, fn.Dropout2d) and isinstance(other, fn.Dropout2d):
            one.reseed(7, i)
            other.reseed(7, i)
    optimizers = [fn.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (a, b)]
    step = fn.capture(b, fn.CrossEntropyLoss(), optimizers[1], x[:20], y[:20])
    for at in (0, 20, 40, 0):
        scores, backward = a.forward(x[at : at + 20], train=True)
        loss, loss_backward = fn.CrossEntropyLoss().forward(scores, y[at : at + 20])
        backward(loss_backward(), need_dx=False)
        optimizers[0].step()
        assert step(x[at : at + 20], y[at : at + 20]) == loss
        for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
            assert p.data.tobytes() == q.data.tobytes(), name


@every_backend
def test_tokens_are_learned_saved_and_predicted(backend: str, tmp_path: Path) -> None:
    x, y = tokens(200)
    model = fn.Sequential(fn.Embedding(20, 8), fn.Flatten(), fn.Tanh(), fn.Linear(32, 3))
    with fn.use_backend(backend):
        fn.fit(model, x.astype(np.uint8), y, optimizer=fn.SGD(lr=0.2, momentum=0.9), epochs=8, seed=0)
        assert fn.evaluate(model, x.tolist(), y)["accuracy"] > 0.97
        fn.save(model, tmp_path / "m.safetensors")
        again = fn.load(tmp_path / "m.safetensors")
        for _ in range(4):  # the last ones replayed
            assert np.array_equal(again.scores(x[:9].astype(np.int32)), model(x[:9]))
            with pytest.raises(ValueError, match=r"^x: expected indices from 0 to 19, got 20 \(sample 1\)"):
                again.predict(np.where(np.arange(36).reshape(9, 4) == 6, 20, x[:9]))
    fn.save(everything(), tmp_path / "e.safetensors")
    loaded = fn.load(tmp_path / "e.safetensors")
    assert repr(loaded) == repr(everything())
    np.testing.assert_array_equal(loaded(x[:5]), everything()(x[:5]))


@needs_native
@every_dtype
def test_gradients_of_an_embedding_do_not_depend_on_threads(dtype: str, threads: None) -> None:
    dy, index = random((5000, 300), dtype), np.random.default_rng(0).integers(0, 50, 5000)
    found = set()
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        found.add(k.embedding_backward(dy, index, num_embeddings=50, padding_idx=3).tobytes())
    assert len(found) == 1


# --- dropout of channels ----------------------------------------------------------------------------------------------


@every_backend
@every_dtype
def test_whole_channels_are_dropped_or_scaled(backend: str, dtype: str) -> None:
    x = np.abs(random((40, 50, 3, 2), dtype)) + 1
    layer = fn.Dropout2d(0.25)
    with fn.use_backend(backend):
        y, backward = layer.forward(x, train=True)
        dx = backward(x)
        images = layer.forward(np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), train=True)[0]
    dropped = (y == 0).all(axis=(2, 3))
    assert ((y == 0).any(axis=(2, 3)) == dropped).all() and abs(dropped.mean() - 0.25) < 0.05
    np.testing.assert_allclose(y[~dropped], x[~dropped] / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(dx, y)
    assert not np.array_equal((images == 0).all(axis=(2, 3)), dropped)  # a step of its own
    layer.reseed(5, 0)
    with fn.use_backend(backend):
        first = layer.forward(x, train=True)[0]
        layer.reseed(5, 0)
        again = layer.forward(np.asfortranarray(x), train=True)[0]
        assert np.array_equal(first, again) and np.array_equal(layer(x), x)


# --- arguments --------------------------------------------------------------------------------------------------------


def test_defaults_are_pytorchs() -> None:
    nn = pytest.importorskip("torch").nn
    pairs = [
        (fn.LeakyReLU(), nn.LeakyReLU()),
        (fn.ELU(), nn.ELU()),
        (fn.GELU(), nn.GELU()),
        (fn.Softplus(), nn.Softplus()),
        (fn.Dropout2d(), nn.Dropout2d()),
        (fn.Embedding(3, 4), nn.Embedding(3, 4)),
        (fn.Softmax(2), nn.Softmax(2)),
        (fn.Unflatten(1, [2, -1]), nn.Unflatten(1, (2, -1))),
    ]
    for ours, theirs in pairs:
        config = {name: value for name, value in ours.config().items() if name != "dtype"}
        assert config == {name: getattr(theirs, name) for name in config}


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "slope": (lambda: fn.LeakyReLU(math.inf), ValueError, "LeakyReLU: expected negative_slope as a finite number"),
    "alpha": (lambda: fn.ELU("1"), ValueError, "ELU: expected alpha as a finite number, got '1'"),  # type: ignore[arg-type]
    "approximate": (lambda: fn.GELU("erf"), ValueError, "GELU: expected approximate 'none' or 'tanh', got 'erf'"),
    "beta": (lambda: fn.Softplus(0), ValueError, "Softplus: expected beta above 0, got 0"),
    "dim": (lambda: fn.Softmax(1.0), ValueError, r"Softmax: expected dim as a whole number, got 1\.0"),  # type: ignore[arg-type]
    "no such axis": (
        lambda: fn.Sequential({"p": fn.Softmax(2)})(random((3, 4))),
        fn.ShapeError,
        r"p \(Softmax\): expected an axis 2 with something along it, got \(3, 4\)",
    ),
    "empty axis": (lambda: fn.LogSoftmax(-1)(random((3, 0))), fn.ShapeError, r"LogSoftmax: expected an axis -1"),
    "gradient": (
        lambda: fn.SiLU().forward(random((3, 4)))[1](random((4, 3))),
        fn.ShapeError,
        r"SiLU: expected the gradient of its output, \(3, 4\), got \(4, 3\)",
    ),
    "sizes": (lambda: fn.Unflatten(1, (2, -2)), fn.ShapeError, "Unflatten: expected sizes, one of them -1 at most"),
    "two unknown": (lambda: fn.Unflatten(1, (-1, -1)), fn.ShapeError, "one of them -1 at most, got "),
    "one size": (lambda: fn.Unflatten(1, 4), fn.ShapeError, "Unflatten: expected sizes, .* got 4"),  # type: ignore[arg-type]
    "other size": (
        lambda: fn.Unflatten(1, (2, 3))(random((4, 5))),
        fn.ShapeError,
        r"Unflatten: cannot make axis 1 of \(4, 5\) axes of \(2, 3\)",
    ),
    "remainder": (lambda: fn.Unflatten(1, (2, -1))(random((4, 5))), fn.ShapeError, "cannot make axis 1"),
    "channels": (lambda: fn.Dropout2d()(random((4, 5))), fn.ShapeError, r"Dropout2d: expected \(N, C, H, W\), got"),
    "no rows": (lambda: fn.Embedding(0, 2), fn.ShapeError, "Embedding: expected num_embeddings .*at least 1, got 0"),
    "padding": (
        lambda: fn.Embedding(3, 2, 3),
        ValueError,
        "Embedding: expected padding_idx as one of 3 indices, got 3",
    ),
    "reals": (
        lambda: fn.Embedding(3, 2)(random((2, 2))),
        fn.DTypeError,
        "Embedding: expected an array of indices as int64, got float64",
    ),
    "other integers": (
        lambda: fn.Embedding(3, 2)(np.zeros(2, np.int32)),
        fn.DTypeError,
        "Embedding: expected an array of indices as int64, got int32",
    ),
    "index": (
        lambda: fn.Sequential({"words": fn.Embedding(3, 2)})(np.array([[0, 1], [2, 3]])),
        ValueError,
        r"words \(Embedding\): expected indices from 0 to 2, got 3 \(sample 1\)",
    ),
    "negative index": (lambda: fn.Embedding(3, 2)(np.array(-1)), ValueError, "expected indices from 0 to 2, got -1"),
    "reals to fit": (
        lambda: fn.fit(fn.Sequential(fn.Embedding(3, 2), fn.Flatten()), random((4, 1)), np.zeros(4, int)),
        fn.DTypeError,
        "x: expected whole numbers, indices below 3, got float64",
    ),
    "index to fit": (
        lambda: fn.fit(fn.Sequential(fn.Embedding(3, 2), fn.Flatten()), [[0], [5]], [0, 1]),
        ValueError,
        r"x: expected indices from 0 to 2, got 5 \(sample 1\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_layer_expected_and_got(case: str) -> None:
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
