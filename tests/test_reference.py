"""The reference kernels against PyTorch, published numbers and numerical gradients, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kernel_inputs import SPECIAL, make, sample_id, sprinkle

from fastnn._errors import DTypeError
from fastnn._kernels.reference import FUNCTIONS
from fastnn._kernels.reference.activation import relu, relu_backward
from fastnn._kernels.reference.conv import conv2d, conv2d_backward_data, conv2d_backward_weights
from fastnn._kernels.reference.conv_pool import (
    conv2d_max_pool2d,
    conv2d_max_pool2d_backward_data,
    conv2d_max_pool2d_backward_weights,
)
from fastnn._kernels.reference.dropout import dropout, next_key, philox, random_words
from fastnn._kernels.reference.layout import copy, gather_rows
from fastnn._kernels.reference.linear import linear, linear_backward_data, linear_backward_weights
from fastnn._kernels.reference.loss import cross_entropy, softmax
from fastnn._kernels.reference.optim import sgd
from fastnn._kernels.reference.pooling import max_pool2d, max_pool2d_backward
from fastnn._kernels.table import TABLE
from fastnn.gradcheck import Array, GradientError, gradcheck, numerical_gradient, relative_error


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def assert_equal(found: Any, expected: Any) -> None:
    """Equal to 1e-12, NaN and infinity in the same places."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-12, atol=1e-12)


def tensors(torch: Any, *arrays: Array | None) -> list[Any]:
    return [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]


def samples(name: str) -> pytest.MarkDecorator:
    """One test for each of a row's samples."""
    return pytest.mark.parametrize("sample", TABLE[name].samples, ids=sample_id)


def test_every_row_has_a_function_and_every_function_a_row() -> None:
    assert set(FUNCTIONS) == set(TABLE)


# --- against PyTorch ------------------------------------------------------------------------------------------------


@samples("linear")
def test_linear_is_pytorchs(torch: Any, sample: Any) -> None:
    (x, weight, bias), _ = make(TABLE["linear"], sample)
    assert x is not None and weight is not None
    tx, tw, tb = tensors(torch, x, weight, bias)
    ty = torch.nn.functional.linear(tx, tw, tb)
    assert_equal(linear(x, weight, bias, relu=False), ty.detach())
    assert_equal(linear(x, weight, bias, relu=True), ty.detach().relu())
    assert_equal(linear(x, weight, None, relu=False), torch.nn.functional.linear(tx, tw).detach())

    dy = np.random.default_rng(1).standard_normal(ty.shape)
    ty.backward(torch.tensor(dy))
    assert_equal(linear_backward_data(dy, weight), tx.grad)
    dweight, dbias = linear_backward_weights(dy, x)
    assert_equal(dweight, tw.grad)
    assert_equal(dbias, tb.grad)


@samples("conv2d")
def test_conv2d_is_pytorchs(torch: Any, sample: Any) -> None:
    (x, weight, bias), params = make(TABLE["conv2d"], sample)
    assert x is not None and weight is not None
    del params["relu"]
    tx, tw, tb = tensors(torch, x, weight, bias)
    ty = torch.nn.functional.conv2d(tx, tw, tb, **params)
    assert_equal(conv2d(x, weight, bias, **params, relu=True), torch.relu(ty).detach())
    assert_equal(conv2d(x, weight, bias, **params), ty.detach())
    assert_equal(conv2d(x, weight, None, **params), torch.nn.functional.conv2d(tx, tw, **params).detach())

    dy = np.random.default_rng(1).standard_normal(ty.shape)
    ty.backward(torch.tensor(dy))
    assert_equal(conv2d_backward_data(dy, weight, **params, input_size=x.shape[2:]), tx.grad)
    dweight, dbias = conv2d_backward_weights(dy, x, **params, kernel_size=weight.shape[2:])
    assert_equal(dweight, tw.grad)
    assert_equal(dbias, tb.grad)


@samples("conv2d_max_pool2d")
def test_conv2d_max_pool2d_is_pytorchs(torch: Any, sample: Any) -> None:
    (x, weight, bias), how = make(TABLE["conv2d_max_pool2d"], sample)
    assert x is not None and weight is not None
    params = {name: value for name, value in how.items() if name != "pool_size"}
    tx, tw, tb = tensors(torch, x, weight, bias)
    ty = torch.max_pool2d(torch.relu(torch.nn.functional.conv2d(tx, tw, tb, **params)), how["pool_size"])
    y, index = conv2d_max_pool2d(x, weight, bias, **how)
    assert_equal(y, ty.detach())

    dy = np.random.default_rng(1).standard_normal(ty.shape)
    ty.backward(torch.tensor(dy))
    assert_equal(conv2d_max_pool2d_backward_data(dy, weight, index, **how, input_size=x.shape[2:]), tx.grad)
    dweight, dbias = conv2d_max_pool2d_backward_weights(dy, x, index, **how, kernel_size=weight.shape[2:])
    assert_equal(dweight, tw.grad)
    assert_equal(dbias, tb.grad)


@pytest.mark.parametrize("special", [False, True])
@samples("max_pool2d")
def test_max_pool2d_is_pytorchs(torch: Any, sample: Any, special: bool) -> None:
    inputs, params = make(TABLE["max_pool2d"], sample)
    (x,) = sprinkle(TABLE["max_pool2d"], inputs, 0.7) if special else inputs
    assert x is not None
    (tx,) = tensors(torch, x)
    ty, tindex = torch.nn.functional.max_pool2d(tx, **params, return_indices=True)
    y, index = max_pool2d(x, **params)
    assert_equal(y, ty.detach())

    (SH, SW), (PH, PW), (DH, DW) = params["stride"], params["padding"], params["dilation"]
    h = np.arange(y.shape[2])[:, None] * SH - PH + index // params["kernel_size"][1] * DH
    w = np.arange(y.shape[3]) * SW - PW + index % params["kernel_size"][1] * DW
    assert_equal(h * x.shape[3] + w, tindex)

    dy = np.asarray(np.random.default_rng(1).standard_normal(y.shape))
    ty.backward(torch.tensor(dy))
    assert_equal(max_pool2d_backward(dy, index, **params, input_size=x.shape[2:]), tx.grad)


def test_relu_is_pytorchs(torch: Any) -> None:
    x = np.array([*SPECIAL["relu"]["x"], -2.0, 3.0])
    (tx,) = tensors(torch, x)
    ty = torch.relu(tx)
    assert_equal(relu(x), ty.detach())
    dy = np.arange(1.0, 1.0 + x.size)
    ty.backward(torch.tensor(dy))
    assert_equal(relu_backward(dy, relu(x)), tx.grad)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@samples("softmax")
def test_softmax_is_pytorchs(torch: Any, sample: Any) -> None:
    kernel = TABLE["softmax"]
    inputs, _ = make(kernel, sample)
    for scores in (inputs[0], sprinkle(kernel, inputs, 0.3)[0]):
        assert scores is not None
        assert_equal(softmax(scores), torch.softmax(torch.tensor(scores), 1))
    for row in ([np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3):
        assert_equal(softmax(np.array([row])), torch.softmax(torch.tensor([row]), 1))


def test_cross_entropy_of_an_unknown_label_is_nan_without_gradient() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 4))
    for label in (-1, 4, 2**62, -(2**63)):
        loss, dscores = cross_entropy(scores, np.array([1, label, 0]), mean=True)
        assert np.isnan(loss[0])
        assert_equal(dscores[[0, 2]], cross_entropy(scores[[0, 2]], np.array([1, 0]), mean=False)[1] / 3)
        assert not dscores[1].any()


@pytest.mark.parametrize("weight_decay,maximize", [*product((0.0, 0.01), (False, True))])
@pytest.mark.parametrize(
    "momentum,dampening,nesterov", [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.3, False), (0.9, 0.0, True)]
)
def test_sgd_is_pytorchs(
    torch: Any, momentum: float, dampening: float, nesterov: bool, weight_decay: float, maximize: bool
) -> None:
    rng = np.random.default_rng(0)
    param = rng.standard_normal(7)
    buffer = np.full(7, np.nan) if momentum else None  # the first step must not look at it
    steps = np.zeros(1, np.int64)
    hyper = np.array([0.1, momentum, dampening, weight_decay, nesterov, maximize])
    tparam = torch.tensor(param.copy(), requires_grad=True)
    optimizer = torch.optim.SGD([tparam], 0.1, momentum, dampening, weight_decay, nesterov, maximize=maximize)
    for _ in range(4):
        grad = rng.standard_normal(7)
        sgd(param, grad, buffer, hyper, steps)
        tparam.grad = torch.tensor(grad)
        optimizer.step()
        assert_equal(param, tparam.detach())


def test_moving_elements() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    for channels_last, a in product((False, True), (x, x.transpose(3, 2, 1, 0), x[::-1, ::2])):
        y = copy(a, channels_last)
        assert np.array_equal(y, a) and not np.shares_memory(y, a)
        assert (np.moveaxis(y, 1, -1) if channels_last else y).flags.c_contiguous
    assert np.array_equal(gather_rows(x, np.array([2, 0, 2])), x[[2, 0, 2]])


# --- dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter,key,expected",
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    """Those that Random123, the code of the paper, is shipped with (tests/kat_vectors, philox4x32 10)."""

    def words(text: str) -> Array:
        return np.array([int(word, 16) for word in text.split()], np.uint64)

    assert philox(words(counter), words(key)).tolist() == words(expected).tolist()


def test_random_words_count_blocks_and_lanes() -> None:
    """Element i is word i mod 4 of block i div 4; the layer and the step fill the counter, the seed is the key."""
    seed, layer, step = 0x123456789ABCDEF0, 0x1_0000_0007, 11
    words = random_words(np.array([seed, layer, step], np.uint64), 10)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    for block in range(3):
        expected = philox(np.array([block, 0, layer & 0xFFFFFFFF, step], np.uint64), key)
        assert words[4 * block : 4 * block + 4].tolist() == expected[: 10 - 4 * block].tolist()


def test_dropout_keeps_the_expected_value_and_follows_its_key() -> None:
    x = np.ones((100, 1000))
    state = np.array([3, 1, 0], np.uint64)
    key = next_key(state)
    assert key.tolist() == [3, 1, 0] and state.tolist() == [3, 1, 1]
    for p in (0.0, 0.1, 0.5, 0.9):
        y = dropout(x, key, p)
        assert set(np.unique(y)) <= {0.0, 1 / (1 - p)}
        assert abs(np.mean(y == 0) - p) <= 5 * np.sqrt(p * (1 - p) / x.size)
        assert np.array_equal(dropout(x, key, p), y)
    half = dropout(x, key, 0.5)
    assert np.array_equal(dropout(x[:7, :].T.copy().T, key, 0.5), half[:7])  # by logical index, not by address
    for other in ([4, 1, 0], [3, 2, 0], [3, 1, 1]):
        assert abs(np.mean(dropout(x, np.array(other, np.uint64), 0.5) == half) - 0.5) < 0.01


def test_dropout_of_everything_is_zero() -> None:
    x = np.array([1.0, np.nan, np.inf, -np.inf])
    with np.errstate(invalid="ignore"):
        assert dropout(x, np.array([0, 0, 0], np.uint64), 1.0).tolist() == [0.0] * 4


# --- numerical gradients --------------------------------------------------------------------------------------------


class Layer:
    """A layer of reference kernels, as `gradcheck` wants it: parameters that add up gradients until zero_grad."""

    def __init__(
        self, forward: Callable[..., Array], backward: Callable[..., tuple[Array, ...]], **parameters: Array
    ) -> None:
        self.parameters = {
            name: SimpleNamespace(data=data, grad=np.full(data.shape, np.nan)) for name, data in parameters.items()
        }
        self._forward, self._backward = forward, backward

    def named_parameters(self) -> Iterator[tuple[str, SimpleNamespace]]:
        yield from self.parameters.items()

    def zero_grad(self) -> None:
        for p in self.parameters.values():
            p.grad[...] = 0

    def forward(self, x: Array, train: bool) -> tuple[Array, Callable[[Array], Array]]:
        values = [p.data for p in self.parameters.values()]
        y = self._forward(x, *values)

        def backward(dy: Array) -> Array:
            dx, *gradients = self._backward(dy, x, y, *values)
            for p, gradient in zip(self.parameters.values(), gradients, strict=True):
                p.grad += gradient
            return dx

        return y, backward


def linear_layer() -> Layer:
    rng = np.random.default_rng(0)
    return Layer(
        lambda x, weight, bias: linear(x, weight, bias, relu=False),
        lambda dy, x, y, weight, bias: (linear_backward_data(dy, weight), *linear_backward_weights(dy, x)),
        weight=rng.standard_normal((3, 4)),
        bias=rng.standard_normal(3),
    )


def test_linear_gradients() -> None:
    errors = gradcheck(linear_layer(), np.random.default_rng(1).standard_normal((2, 4)))
    assert set(errors) == {"x", "weight", "bias"} and max(errors.values()) < 1e-6


@pytest.mark.parametrize(
    "params",
    [
        {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    ],
    ids=sample_id,
)
def test_conv2d_gradients(params: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 6, 5))

    def backward(dy: Array, x: Array, y: Array, weight: Array, bias: Array) -> tuple[Array, ...]:
        return (
            conv2d_backward_data(dy, weight, **params, input_size=x.shape[2:]),
            *conv2d_backward_weights(dy, x, **params, kernel_size=weight.shape[2:]),
        )

    layer = Layer(
        lambda x, weight, bias: conv2d(x, weight, bias, **params),
        backward,
        weight=rng.standard_normal((6, 4 // params["groups"], 3, 2)),
        bias=rng.standard_normal(6),
    )
    assert max(gradcheck(layer, x, rtol=1e-6).values()) < 1e-5


@pytest.mark.parametrize("sample", [s for s in TABLE["max_pool2d"].samples if 0 < s["N"] * s["C"] < 20], ids=sample_id)
def test_max_pool2d_gradients(sample: Any) -> None:
    params = make(TABLE["max_pool2d"], sample)[1]
    shape = tuple(sample[symbol] for symbol in "NCHW")
    x = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape) / 8  # no ties within eps

    def backward(dy: Array, x: Array, y: Array) -> tuple[Array]:
        return (max_pool2d_backward(dy, max_pool2d(x, **params)[1], **params, input_size=x.shape[2:]),)

    gradcheck(Layer(lambda x: max_pool2d(x, **params)[0], backward), x)


def test_relu_gradients() -> None:
    x = np.array([[-2.0, 1.5], [0.25, -0.125]])
    assert max(gradcheck(Layer(relu, lambda dy, x, y: (relu_backward(dy, y),)), x).values()) < 1e-7


@pytest.mark.parametrize("mean", [True, False])
def test_cross_entropy_gradients(mean: bool) -> None:
    scores, labels = np.random.default_rng(0).standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
    dscores = numerical_gradient(lambda s: cross_entropy(s, labels, mean=mean)[0], scores)
    assert relative_error(cross_entropy(scores, labels, mean=mean)[1], dscores) < 1e-6


def test_gradcheck_names_the_parameter_and_its_worst_element() -> None:
    good = linear_layer()

    def spoiled(dy: Array, x: Array, y: Array, weight: Array, bias: Array) -> tuple[Array, ...]:
        dx, dweight, dbias = good._backward(dy, x, y, weight, bias)
        dweight[1, 2] += 1e-3
        return dx, dweight, dbias

    x = np.random.default_rng(1).standard_normal((2, 4))
    before = x.copy()
    layer = Layer(good._forward, spoiled, **{name: p.data for name, p in good.named_parameters()})
    with pytest.raises(GradientError, match=r"gradient of weight: 1 of 12 elements differ, most at \[1, 2\]"):
        gradcheck(layer, x)
    assert np.array_equal(x, before)

    layer._backward = lambda dy, *rest: tuple(np.full_like(a, np.nan) for a in good._backward(dy, *rest))
    with pytest.raises(GradientError, match="gradient of x: 8 of 8"):
        gradcheck(layer, x)
    layer._backward = lambda dy, *rest: (dy[:1], *good._backward(dy, *rest)[1:])
    with pytest.raises(GradientError, match=r"gradient of x: expected shape \(2, 4\), got \(1, 3\)"):
        gradcheck(layer, x)


def test_gradcheck_wants_float64() -> None:
    with pytest.raises(DTypeError, match="x is float32"):
        gradcheck(linear_layer(), np.ones((2, 4), np.float32))
    layer = linear_layer()
    layer.parameters["bias"].data = np.ones(3, np.float32)
    with pytest.raises(DTypeError, match="bias is float32"):
        gradcheck(layer, np.ones((2, 4)))
    with pytest.raises(DTypeError, match="f returned float32"):
        numerical_gradient(lambda x: x.sum(dtype=np.float32), np.ones(2))
    with pytest.raises(ValueError, match="pass its upstream gradient"):
        numerical_gradient(lambda x: x * 2, np.ones(2))


def test_gradcheck_of_a_table_skips_the_gradient_of_its_whole_numbers() -> None:
    table = np.random.default_rng(0).standard_normal((5, 3))

    def backward(dy: Array, x: Array, y: Array, table: Array) -> tuple[Array, Array]:
        dtable = np.zeros_like(table)
        np.add.at(dtable, x, dy)
        return x, dtable

    assert set(gradcheck(Layer(lambda x, table: table[x], backward, table=table), np.array([1, 4, 1]))) == {"table"}
