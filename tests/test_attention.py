"""Attention: others' keys, masks and lengths, dropout of weights, and the two ways in linear time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import assert_close, every_backend, gradients, random

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array

LENGTHS = np.array([5, 1, 3])
KINDS = {
    "full": lambda: fn.MultiheadAttention(6, 2, batch_first=True, dtype="float64"),
    "causal": lambda: fn.MultiheadAttention(6, 2, batch_first=True, is_causal=True, dtype="float64"),
    "linear": lambda: fn.LinearAttention(6, 2, dtype="float64"),
    "causal linear": lambda: fn.LinearAttention(6, 2, causal=True, dtype="float64"),
    "low rank": lambda: fn.LowRankAttention(6, 2, 9, 4, dtype="float64"),
    "transformer": lambda: fn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True, dtype="float64"),
    "transformer, norm first": lambda: fn.TransformerEncoderLayer(
        6, 2, 8, 0.0, "gelu", batch_first=True, norm_first=True, dtype="float64"
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


# --- others' keys -----------------------------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kdim,vdim", [(None, None), (5, 3)])
def test_attention_to_others_is_pytorchs(backend: str, batch_first: bool, kdim: Any, vdim: Any) -> None:
    torch = pytest.importorskip("torch")
    options = {"kdim": kdim, "vdim": vdim, "batch_first": batch_first}
    ours = fn.MultiheadAttention(8, 2, **options, dtype="float64")
    theirs = torch.nn.MultiheadAttention(8, 2, **options, dtype=torch.float64)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    arrays = [random((3, n, width)) for n, width in ((4, 8), (6, kdim or 8), (6, vdim or 8))]
    padding = np.random.default_rng(0).random((3, 6)) < 0.4
    padding[:, 0] = False
    if not batch_first:
        arrays = [a.swapaxes(0, 1) for a in arrays]
    tensors = [torch.tensor(np.array(a)).requires_grad_() for a in arrays]
    expected = theirs(*tensors, key_padding_mask=torch.tensor(padding), need_weights=False)[0]
    dy = random(tuple(expected.shape), seed=3)
    expected.backward(torch.tensor(dy))
    with fn.use_backend(backend):
        y, backward = ours.forward(arrays[0], train=True, key=arrays[1], value=arrays[2], key_padding_mask=padding)
        found = backward(dy)
    assert_close(y, expected.detach().numpy(), "float64", "y")
    for dx, tensor in zip(found, tensors, strict=True):
        assert_close(dx, tensor.grad.numpy(), "float64", "dx")
    for name, p in theirs.named_parameters():
        assert_close(gradients(ours)[name], p.grad.numpy(), "float64", name)


def test_a_key_is_also_the_value() -> None:
    layer = fn.MultiheadAttention(4, 2, batch_first=True, dtype="float64")
    x, key, dy = random((2, 3, 4)), random((2, 5, 4), seed=1), random((2, 3, 4), seed=2)
    (dx, dkey), expected = (
        layer.forward(x, True, **given)[1](dy) for given in ({"key": key}, {"key": key, "value": key.copy()})
    )
    assert_close(dx, expected[0], "float64", "dx")
    assert_close(dkey, expected[1] + expected[2], "float64", "dkey")
    assert layer.forward(x, True, key=key)[1](dy, need_dx=False) is None


# --- several lengths --------------------------------------------------------------------------------------------------


@every_backend
@every_kind
def test_padding_changes_nothing(kind: str, backend: str) -> None:
    """Padded sequences give what each one gives by itself, in outputs and in gradients; the rest is zeros."""
    layer = KINDS[kind]()
    x, dy = random((3, 5, 6)), random((3, 5, 6), seed=1)
    with fn.use_backend(backend):
        alone, grads = [], {name: np.zeros_like(p.grad) for name, p in layer.named_parameters()}
        for values, gradient, n in zip(x, dy, LENGTHS, strict=True):
            layer.zero_grad()
            y, backward = layer.forward(values[None, :n].copy(), train=True)
            alone.append((y[0], backward(gradient[None, :n].copy())[0]))
            grads = {name: grads[name] + gradient for name, gradient in gradients(layer).items()}
        layer.zero_grad()
        y, backward = layer.forward(fn.Padded(x, LENGTHS), train=True)
        dx = backward(dy)
    assert isinstance(y, fn.Padded) and y.lengths is LENGTHS
    for i, n in enumerate(LENGTHS):
        assert_close(y.values[i, :n], alone[i][0], "float64", "y")
        assert_close(dx[i, :n], alone[i][1], "float64", "dx")
        assert not y.values[i, n:].any() and not dx[i, n:].any()
    for name, gradient in gradients(layer).items():
        assert_close(gradient, grads[name], "float64", name)


def test_steps_first_with_lengths() -> None:
    layers = [fn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=first, dtype="float64") for first in (True, False)]
    layers[1].load_state_dict(layers[0].state_dict())
    x = random((3, 5, 6))
    (a, a_backward), (b, b_backward) = (
        layer.forward(fn.Padded(values, LENGTHS), True)
        for layer, values in zip(layers, (x, x.swapaxes(0, 1)), strict=True)
    )
    np.testing.assert_array_equal(a.values, b.values.swapaxes(0, 1))
    np.testing.assert_array_equal(a_backward(x), b_backward(x.swapaxes(0, 1)).swapaxes(0, 1))


@every_backend
@pytest.mark.parametrize("kind", ["full", "linear", "low rank"])
def test_a_query_without_keys_gets_what_zeros_give(kind: str, backend: str) -> None:
    layer = KINDS[kind]()
    layer.out_proj.bias.data[...] = random((6,), seed=5)
    with fn.use_backend(backend):
        y, backward = layer.forward(random((2, 3, 6)), True, key_padding_mask=np.array([[True] * 3, [False] * 3]))
        dx = backward(np.ones((2, 3, 6)))
    if kind != "low rank":  # whose mixtures of nothing are zeros, to which it attends
        np.testing.assert_array_equal(y[0], np.tile(layer.out_proj.bias.data, (3, 1)))
    assert np.isfinite(y).all() and np.isfinite(dx).all() and not dx[0].any()


def test_a_chain_passes_lengths_on() -> None:
    model = fn.Sequential(fn.Embedding(9, 6), fn.TransformerEncoderLayer(6, 2, 8, batch_first=True), fn.Linear(6, 2))
    x = fn.Padded(np.arange(15).reshape(3, 5) % 9, LENGTHS)
    y, backward = model.forward(x, train=True)
    assert isinstance(y, fn.Padded) and y.values.shape == (3, 5, 2)
    assert backward(y.values, need_dx=False) is None
    for wrong in (np.array([5, 1, 6]), np.array([0, 1, 2])):
        with pytest.raises(ValueError, match="expected lengths from 1 to 5"):
            model.forward(fn.Padded(x.values, wrong))


# --- dropout ----------------------------------------------------------------------------------------------------------


@every_backend
def test_dropout_of_weights(backend: str) -> None:
    """With equal keys and one-hot values, y shows the weights."""
    layer = fn.MultiheadAttention(16, 1, 0.25, batch_first=True, dtype="float64")
    for third in range(3):
        layer.in_proj_weight.data[16 * third : 16 * third + 16] = np.eye(16) * (third == 2)
    layer.out_proj.weight.data[...] = np.eye(16)
    layer.reseed(1, 0)
    with fn.use_backend(backend):
        y = layer.forward(np.tile(np.eye(16), (40, 1, 1)), train=True)[0]
        np.testing.assert_allclose(layer(np.eye(16)[None]), 1 / 16)
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_allclose(y[y != 0], 1 / 16 / 0.75)


@every_backend
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_gradients_with_dropout(p: float, backend: str) -> None:
    layer = fn.MultiheadAttention(4, 2, p, batch_first=True, dtype="float64")
    x, dy, step = random((2, 5, 4)), random((2, 5, 4), seed=1), random((2, 5, 4), seed=2)

    def forward(x: Array) -> Any:
        layer.reseed(3, 0)
        return layer.forward(x, train=True)

    with fn.use_backend(backend):
        slope = (forward(x)[1](dy) * step).sum()
        ends = [(forward(x + sign * 1e-6 * step)[0] * dy).sum() for sign in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


@needs_native
def test_a_captured_step_drops_the_same_weights() -> None:
    x, y = random((3, 4, 5, 6), "float32"), np.arange(4) % 3
    results = []
    for captured in (False, True):
        fn.manual_seed(7)
        attention = fn.TransformerEncoderLayer(6, 2, 8, 0.3, batch_first=True)
        model, loss = fn.Sequential(attention, fn.Flatten(), fn.Linear(30, 3)), fn.CrossEntropyLoss()
        optimizer = fn.SGD(model.parameters(), lr=0.1)
        step = fn.capture(model, loss, optimizer, x[0], y) if captured else None
        for batch in x:
            if step is not None:
                step(batch, y)
                continue
            scores, backward = model.forward(batch, train=True)
            backward(loss.forward(scores, y)[1](), need_dx=False)
            optimizer.step()
        results.append({key: value.tobytes() for key, value in model.state_dict().items()})
    assert results[0] == results[1]


# --- in linear time ---------------------------------------------------------------------------------------------------


@needs_native
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 200), st.integers(1, 3), st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_linear_attention_is_its_quadratic_form(N: int, T: int, heads: int, D: int, causal: bool, seed: int) -> None:
    """The reference kernels are that form."""
    q, key, value, dy = (random((N, T, heads * D), seed=seed + i) for i in range(4))
    mask = np.random.default_rng(seed).random((N, T)) < 0.8
    results = []
    for backend in ("native", "reference"):
        with fn.use_backend(backend):
            y, norm = k.linear_attention(q, key, value, mask, heads=heads, causal=causal)
            gradient = k.linear_attention_backward(dy, q, key, value, mask, y, norm, heads=heads, causal=causal)
        results.append((y, *gradient))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 3), st.integers(1, 150), st.integers(0, 150), st.integers(1, 3), st.integers(1, 40), st.booleans()
)
def test_attention_of_any_size(N: int, T: int, S: int, heads: int, D: int, causal: bool) -> None:
    q, dy = random((N, T, heads * D)), random((N, T, heads * D), seed=1)
    key, value = random((N, S, heads * D), seed=2), random((N, S, heads * D), seed=3)
    mask = np.random.default_rng(N).random((N, S)) < 0.6 if T % 2 else None
    results = []
    for backend in k.backends():
        with fn.use_backend(backend):
            y, sums = k.attention(q, key, value, mask, heads=heads, causal=causal)
            gradient = k.attention_backward(dy, q, key, value, mask, y, sums, heads=heads, causal=causal)
        results.append((y, sums, *gradient))
    for found, expected in zip(results[0], results[-1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: fn.MultiheadAttention(6, 4), "MultiheadAttention: expected num_heads that divides embed_dim=6, got 4"),
        (lambda: fn.MultiheadAttention(6, 0), "MultiheadAttention: expected num_heads as a whole number"),
        (lambda: fn.MultiheadAttention(6, 2, 1.5), "MultiheadAttention: expected dropout from 0 to 1, got 1.5"),
        (lambda: fn.MultiheadAttention(6, 2, kdim=0), "MultiheadAttention: expected kdim as a whole number"),
        (lambda: fn.LinearAttention(6, 2, "relu"), r"LinearAttention: expected feature_map 'elu\+1', got 'relu'"),
        (lambda: fn.LowRankAttention(6, 2, 0, 1), "LowRankAttention: expected max_length as a whole number"),
        (lambda: fn.TransformerEncoderLayer(6, 2, activation="elu"), "expected activation 'relu' or 'gelu', got 'elu'"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_inputs() -> None:
    layer, x = fn.MultiheadAttention(6, 2, batch_first=True), random((2, 3, 6), "float32")
    with pytest.raises(fn.ShapeError, match=r"expected \(N, T, 6\), got \(2, 3, 5\)"):
        layer(x[..., :5].copy())
    with pytest.raises(fn.DTypeError, match="expected float32, got float64"):
        layer(x.astype("float64"))
    with pytest.raises(ValueError, match="expected a key where a value is given"):
        layer.forward(x, value=x)
    with pytest.raises(fn.ShapeError, match="of as many samples as queries"):
        layer.forward(x, key=x[:1])
    with pytest.raises(fn.DTypeError, match="key_padding_mask as an array of bool, got int64"):
        layer.forward(x, key_padding_mask=np.zeros((2, 3), np.int64))
    with pytest.raises(fn.ShapeError, match=r"key_padding_mask of shape \(2, 3\), got \(2, 4\)"):
        layer.forward(x, key_padding_mask=np.zeros((2, 4), bool))
    with pytest.raises(fn.ShapeError, match="at most 2 steps, got 3"):
        fn.LowRankAttention(6, 2, 2, 1)(x)
    with pytest.raises(fn.ShapeError, match="causal, so expected as many keys as queries"):
        fn.LinearAttention(6, 2, causal=True).forward(x, key=x[:, :2].copy())


def test_saved_and_loaded(tmp_path: Any) -> None:
    for layer in (
        fn.MultiheadAttention(6, 2, 0.1, kdim=5, vdim=4, is_causal=True),
        fn.LowRankAttention(6, 2, 9, 4, bias=False),
        fn.LinearAttention(6, 3, causal=True),
        fn.TransformerEncoderLayer(6, 2, 8, 0.2, "gelu", norm_first=True, bias=False),
    ):
        fn.save(layer, tmp_path / "layer.safetensors")
        other = fn.load(tmp_path / "layer.safetensors")
        assert other.config() == layer.config()
        for key, value in layer.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[key], value)
