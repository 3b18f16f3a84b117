"""Every layer against PyTorch: outputs, gradients, keys, initial values; and what it says to wrong input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import (
    CASES,
    Spy,
    assert_as_torch,
    assert_close,
    drawn,
    every_backend,
    every_case,
    every_dtype,
    gradients,
    random,
)

import fastnn as fn
from fastnn import init
from fastnn._kernels import Array
from fastnn.gradcheck import gradcheck
from fastnn.layers.layer import REGISTRY, Backward

# --- against PyTorch --------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@every_case
def test_as_pytorch(case: str, dtype: str, backend: str) -> None:
    torch = pytest.importorskip("torch")
    make, make_theirs, shape = CASES[case]
    with fn.use_backend(backend):
        assert_as_torch(make(dtype=dtype), make_theirs(torch.nn), drawn(shape, dtype))


sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), sizes, pairs, pairs, paddings, pairs, st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_conv_is_as_pytorchs(
    N: int, groups: int, C: int, K: int, kernel: Any, stride: Any, padding: Any, dilation: Any, bias: bool
) -> None:
    torch = pytest.importorskip("torch")
    arguments = (C * groups, K * groups, kernel, stride, padding, dilation, groups, bias)
    x = random((N, C * groups, 7, 8))
    assert_as_torch(fn.Conv2d(*arguments, dtype="float64"), torch.nn.Conv2d(*arguments), x)


@given(st.integers(1, 2), sizes, pairs, pairs, paddings, pairs, st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_max_pool_is_as_pytorchs(
    N: int, C: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> None:
    torch = pytest.importorskip("torch")
    padding = tuple(min(p, size // 2) for p, size in zip(padding, kernel, strict=True))
    x = np.round(random((N, C, 8, 9)))  # with ties
    arguments = (kernel, stride, padding, dilation)
    theirs = torch.nn.MaxPool2d(*arguments, ceil_mode=ceil_mode)
    assert_as_torch(fn.MaxPool2d(*arguments, ceil_mode=ceil_mode), theirs, x)


@every_case
def test_pytorch_loads_our_weights(case: str) -> None:
    torch = pytest.importorskip("torch")
    make, make_theirs, shape = CASES[case]
    ours, theirs = make(dtype="float32"), make_theirs(torch.nn).eval()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
    x = drawn(shape, "float32")
    with torch.no_grad():
        assert_close(ours(x), theirs(torch.from_numpy(x)).numpy(), "float32", "y")


@every_dtype
def test_defaults_are_pytorchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = fn.MaxPool2d(3), torch.nn.MaxPool2d(3)
    assert ours.stride == (theirs.stride, theirs.stride)
    assert fn.Dropout().p == torch.nn.Dropout().p
    assert fn.Flatten().config() == {"start_dim": torch.nn.Flatten().start_dim, "end_dim": torch.nn.Flatten().end_dim}
    conv = torch.nn.Conv2d(2, 3, 4)
    config = fn.Conv2d(2, 3, 4, dtype=dtype).config()
    assert config.pop("bias") and config.pop("dtype") == dtype
    assert config == {name: getattr(conv, name) for name in config}


# --- gradients --------------------------------------------------------------------------------------------------------


@every_backend
@every_case
def test_gradients_are_the_numerical_ones(case: str, backend: str) -> None:
    make, _, shape = CASES[case]
    with fn.use_backend(backend):
        x = drawn(shape)
        errors = gradcheck(make(dtype="float64"), x)
    assert ("x" in errors) == (x.dtype.kind == "f")


@every_dtype
@every_case
def test_without_dx_gradients_are_the_same(case: str, dtype: str) -> None:
    make, _, shape = CASES[case]
    layer, x = make(dtype=dtype), drawn(shape, dtype)
    y, backward = layer.forward(x, train=True)
    dy = random(y.shape, dtype, seed=1)
    backward(dy)
    expected = gradients(layer)
    layer.zero_grad()
    assert layer.forward(x, train=True)[1](dy, need_dx=False) is None
    for name, gradient in gradients(layer).items():
        assert (gradient == expected[name]).all()


@every_dtype
@every_case
def test_a_second_backward_pass_adds_and_the_next_step_overwrites(case: str, dtype: str) -> None:
    make, _, shape = CASES[case]
    layer = make(dtype=dtype)
    one, two = drawn(shape, dtype), drawn(shape, dtype, seed=2)

    def run(x: Array) -> None:
        y, backward = layer.forward(x, train=True)
        backward(random(y.shape, dtype, seed=1))

    singles = []
    for x in (one, two):
        layer.zero_grad()
        run(x)
        singles.append(gradients(layer))
    layer.zero_grad()
    run(one)
    run(two)
    for name, gradient in gradients(layer).items():
        assert_close(gradient, singles[0][name] + singles[1][name], dtype, name)
    layer.zero_grad()
    assert all((gradient == 0).all() for gradient in gradients(layer).values())
    run(one)
    for name, gradient in gradients(layer).items():
        assert (gradient == singles[0][name]).all()


@every_backend
def test_a_layer_used_twice(backend: str) -> None:
    torch = pytest.importorskip("torch")
    layer, theirs = fn.Linear(4, 4, dtype="float64"), torch.nn.Linear(4, 4)
    with fn.use_backend(backend):
        model = fn.Sequential(layer, fn.ReLU(), layer, layer)
        assert len(list(model.parameters())) == 2
        assert_as_torch(model, torch.nn.Sequential(theirs, torch.nn.ReLU(), theirs, theirs), random((5, 4)))


def test_tied_weights() -> None:
    torch = pytest.importorskip("torch")
    ours = [fn.Linear(4, 4, dtype="float64") for _ in range(2)]
    theirs = [torch.nn.Linear(4, 4) for _ in range(2)]
    ours[1].weight, theirs[1].weight = ours[0].weight, theirs[0].weight
    model = fn.Sequential(*ours)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert_as_torch(model, torch.nn.Sequential(*theirs), random((5, 4)))


# --- frozen -----------------------------------------------------------------------------------------------------------


@every_case
def test_frozen_parameters_get_no_gradient_but_pass_dx_on(case: str) -> None:
    make, _, shape = CASES[case]
    layer, x = make(dtype="float64"), drawn(shape)
    y, backward = layer.forward(x, train=True)
    dy = random(y.shape, seed=1)
    expected = backward(dy)
    before = gradients(layer)
    assert layer.requires_grad_(False) is layer
    dx = layer.forward(x, train=True)[1](dy)
    assert np.array_equal(dx, expected)  # None, both of them, where x has no gradient
    assert all((gradient == before[name]).all() for name, gradient in gradients(layer).items())
    layer.requires_grad_()
    assert all(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize(
    "frozen,expected",
    [((), [[], [True], [True]]), ((1,), [[], [], [True]]), ((1, 3), [[], [], []])],
    ids=["nothing frozen", "lowest frozen", "all frozen"],
)
def test_a_chain_stops_below_its_lowest_trained_layer(frozen: tuple[int, ...], expected: list[list[bool]]) -> None:
    spies = [Spy(), Spy(), Spy()]
    model = fn.Sequential(spies[0], fn.Linear(3, 3), spies[1], fn.Linear(3, 3), spies[2])
    for i in frozen:
        model[i].requires_grad_(False)
    y, backward = model.forward(random((2, 3), "float32"), train=True)
    assert backward(y, need_dx=False) is None
    assert [spy.calls for spy in spies] == expected
    assert model.forward(random((2, 3), "float32"), train=True)[1](y) is not None
    assert [spy.calls[len(calls) :] for spy, calls in zip(spies, expected, strict=True)] == [[True]] * 3


# --- initial values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make,fan_in",
    [
        (lambda dtype: fn.Linear(300, 200, dtype=dtype), 300),
        (lambda dtype: fn.Conv2d(24, 300, (3, 2), dtype=dtype), 144),
        (lambda dtype: fn.Conv2d(48, 600, 3, groups=4, dtype=dtype), 108),
    ],
    ids=["linear", "conv", "grouped conv"],
)
@every_dtype
def test_initial_values_are_uniform_within_pytorchs_bounds(make: Any, fan_in: int, dtype: str) -> None:
    bound = 1 / math.sqrt(fan_in)
    layer = make(dtype)
    for name, p in layer.named_parameters():
        assert p.dtype == dtype
        assert abs(p.data).max() <= bound
        shares = np.histogram(p.data, bins=8, range=(-bound, bound))[0] / p.size
        np.testing.assert_allclose(shares, 1 / 8, atol=5 * math.sqrt(7 / 64 / p.size), err_msg=name)
    assert len(np.unique(layer.weight.data)) > 0.9 * layer.weight.size


def test_manual_seed_repeats_initial_values() -> None:
    def drawn(seed: int) -> bytes:
        fn.manual_seed(seed)
        model = fn.Sequential(fn.Conv2d(1, 2, 3), fn.Linear(3, 4), fn.Linear(3, 4))
        return b"".join(value.tobytes() for value in model.state_dict().values())

    assert drawn(1) == drawn(1) != drawn(2)
    a, b = fn.Linear(9, 9), fn.Linear(9, 9)
    assert (a.weight.data != b.weight.data).any()


@pytest.mark.parametrize("seed", [-1, 1.0, True, None, "0"])
def test_bad_seeds(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"^manual_seed: expected a whole number"):
        fn.manual_seed(seed)


def test_blank_layers_draw_nothing_and_are_limited() -> None:
    fn.manual_seed(1)
    expected = init.generator().random()
    fn.manual_seed(1)
    with init.blank(12):
        layers = [fn.Linear(2, 2), fn.Linear(2, 2)]
        with pytest.raises(fn.ShapeError, match="more than the 0 numbers that are left"):
            fn.Linear(1, 1)
    assert all((p.data == 0).all() for layer in layers for p in layer.parameters())
    assert init.generator().random() == expected
    assert (fn.Linear(9, 9).weight.data != 0).any()


# --- dropout ----------------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_and_scales_the_rest(p: float, dtype: str, backend: str) -> None:
    x = np.ones((200, 300), dtype)
    with fn.use_backend(backend):
        y, backward = fn.Dropout(p).forward(x, train=True)
        dx = backward(x * 3)
    assert y.dtype == dtype
    assert abs((y == 0).mean() - p) < 0.01
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(dx, y * 3, rtol=1e-6)  # the backward pass drops the same ones


def test_dropout_is_new_each_step_and_begins_again_with_its_seed() -> None:
    x = np.ones((8, 16), np.float32)
    layer, other = fn.Dropout(0.5), fn.Dropout(0.5)

    def steps(layer: fn.Dropout, seed: int, number: int) -> list[bytes]:
        layer.reseed(seed, number)
        return [layer.forward(x, train=True)[0].tobytes() for _ in range(3)]

    first = steps(layer, 1, 0)
    assert len(set(first)) == 3
    assert steps(layer, 1, 0) == steps(other, 1, 0) == first
    assert not set(first) & set(steps(layer, 1, 1)) and not set(first) & set(steps(layer, 2, 0))
    assert steps(layer, 2**64 + 1, 0) == first


def test_dropout_does_nothing_outside_training_or_with_p_0() -> None:
    x = random((4, 5))
    layer = fn.Dropout(0.5)
    state = layer.state.copy()
    y, backward = layer.forward(x)
    assert (y == x).all() and (backward(x) == x).all() and backward(x, need_dx=False) is None
    assert (layer.state == state).all()
    assert (fn.Dropout(0).forward(x, train=True)[0] == x).all()
    y, backward = fn.Dropout(1).forward(x, train=True)
    assert (y == 0).all() and (backward(x) == 0).all()


@pytest.mark.parametrize("shape,order", [((3, 5, 4, 6), (0, 2, 3, 1)), ((7, 9), (1, 0))])
def test_dropout_does_not_depend_on_the_order_in_memory(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    x = random(shape)
    other = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    layer = fn.Dropout(0.5)
    results = []
    for same in (x, other):
        layer.reseed(1, 0)
        results.append(layer.forward(same, train=True)[0])
    assert (results[0] == results[1]).all()


# --- memory -----------------------------------------------------------------------------------------------------------


def layouts(x: Array) -> Iterator[Array]:
    """x itself, and equal arrays that lie otherwise in memory."""
    yield x
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield x[..., ::-1].copy()[..., ::-1]
    if x.ndim == 4:
        yield np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    read_only = x.copy()
    read_only.flags.writeable = False
    yield read_only


@every_case
def test_the_layout_of_x_and_dy_does_not_matter(case: str) -> None:
    make, _, shape = CASES[case]
    layer, x = make(dtype="float64"), drawn(shape)
    dy = random(layer(x).shape, seed=1)
    results = []
    for x_again, dy_again in zip(layouts(x), layouts(dy), strict=False):
        layer.zero_grad()
        y, backward = layer.forward(x_again, train=True)
        dx = backward(dy_again)
        results.append([np.ascontiguousarray(a).tobytes() for a in (y, dx, *gradients(layer).values())])
        assert (x_again == x).all() and (dy_again == dy).all()
    assert all(result == results[0] for result in results)


def test_parameters_are_aligned_views_of_flat_buffers() -> None:
    model = fn.Sequential(fn.Conv2d(2, 5, 3), fn.Linear(3, 7), fn.Linear(5, 1, dtype="float64"))
    before = model.state_dict()
    optimizer = fn.SGD(model.parameters(), lr=0.1)
    assert len(optimizer._segments) == 2
    for _, segment in optimizer._segments:
        for p in segment.parameters:
            for array, flat in ((p.data, segment.data), (p.grad, segment.grad)):
                assert np.shares_memory(array, flat) and array.ctypes.data % 64 == 0
        outside = np.ones(len(segment.data), bool)
        for start, p in zip(segment.starts, segment.parameters, strict=False):
            outside[start : start + p.size] = False
        assert (segment.data[outside] == 0).all()
    assert all((value == before[key]).all() for key, value in model.state_dict().items())


def test_loading_copies_in_place() -> None:
    layer = fn.Conv2d(2, 3, 2)
    data = layer.weight.data
    values = {"weight": random((3, 2, 2, 2), seed=3), "bias": np.arange(3)}  # converted from float64 and integers
    layer.load_state_dict(values)
    assert layer.weight.data is data
    assert (data == values["weight"].astype(np.float32)).all()
    state = layer.state_dict()
    state["bias"][:] = 9
    assert layer.bias is not None and (layer.bias.data == [0, 1, 2]).all()
    assert all(value.flags.c_contiguous for value in state.values())


def test_a_parameter_is_an_array_to_numpy() -> None:
    p = fn.Linear(2, 3).weight
    assert p.shape == (3, 2) and p.size == 6 and p.dtype == np.float32
    assert (np.asarray(p) == p.data).all()
    assert np.shares_memory(np.asarray(p), p.data) and not np.shares_memory(np.array(p), p.data)
    assert np.asarray(p, dtype="float64").dtype == np.float64
    assert repr(p) == "Parameter((3, 2), float32)"
    p.requires_grad = False
    assert repr(p) == "Parameter((3, 2), float32, frozen)"


# --- errors -----------------------------------------------------------------------------------------------------------


def named() -> fn.Sequential:
    return fn.Sequential(
        {"conv1": fn.Conv2d(3, 4, 3), "pool": fn.MaxPool2d(2), "flat": fn.Flatten(), "fc": fn.Linear(36, 2)}
    )


def fused() -> fn.Sequential:
    return fn.Sequential({"conv1": fn.Conv2d(3, 4, 3), "relu": fn.ReLU(), "pool": fn.MaxPool2d(2)})


class Doubled(fn.ReLU):
    """A subclass that is another function."""

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Any]:
        y, backward = super().forward(x, train)
        return 2 * y, lambda dy, need_dx=True: backward(2 * dy, need_dx)


def test_a_subclass_is_not_fused() -> None:
    conv, pool, x = fn.Conv2d(3, 4, 3), fn.MaxPool2d(2), random((2, 3, 8, 8), F32)
    for chain in (fn.Sequential(conv, Doubled(), pool), fn.Sequential(conv, Doubled())):
        plain = fn.Sequential(*(fn.ReLU() if type(layer) is Doubled else layer for layer in chain))
        np.testing.assert_array_equal(chain(x), 2 * plain(x))


def test_a_fused_chain_gives_what_its_layers_give_by_themselves() -> None:
    chain, x = fused(), random((3, 3, 9, 11), F32)
    y, backward = chain.forward(x, train=True)
    dy = random(y.shape, F32, seed=1)
    dx = backward(dy)
    grads = gradients(chain)

    z, backwards = x, []
    for layer in chain:
        z, step = layer.forward(z, train=True)
        backwards.append(step)
    assert y.tobytes() == z.tobytes() == chain(x).tobytes()
    chain.zero_grad()
    for step in reversed(backwards):
        dy = step(dy)
    assert_close(dx, dy, F32, "dx")
    for name, grad in gradients(chain).items():
        assert_close(grads[name], grad, F32, name)


def test_fused_layers_that_are_frozen_or_evaluated() -> None:
    chain, x = fused(), random((3, 3, 9, 11), F32)
    y, backward = chain.forward(x, train=True)
    dy = random(y.shape, F32, seed=1)
    dx = backward(dy)
    np.testing.assert_array_equal(chain.forward(x, train=False)[1](dy), dx)
    assert backward(dy, need_dx=False) is None
    chain.requires_grad_(False)
    before = gradients(chain)
    np.testing.assert_array_equal(backward(dy), dx)
    for name, grad in gradients(chain).items():
        np.testing.assert_array_equal(grad, before[name])
    assert backward(dy, need_dx=False) is None


F32, F64 = "float32", "float64"
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "channels": (
        lambda: named()(random((32, 1, 28, 28), F32)),
        fn.ShapeError,
        r"conv1 \(Conv2d\): expected \(N, 3, H, W\), got \(32, 1, 28, 28\)",
    ),
    "dimensions": (
        lambda: named()(random((3, 8, 8), F32)),
        fn.ShapeError,
        r"conv1 \(Conv2d\): expected \(N, 3, H, W\), got \(3, 8, 8\)",
    ),
    "too small": (
        lambda: named()(random((1, 3, 2, 9), F32)),
        fn.ShapeError,
        r"conv1 \(Conv2d\): expected images of at least 3x3, got \(1, 3, 2, 9\)",
    ),
    "too small to pool": (
        lambda: named()(random((1, 3, 3, 9), F32)),
        fn.ShapeError,
        r"pool \(MaxPool2d\): expected images of at least 2x2, got \(1, 4, 1, 7\)",
    ),
    "too small to pool, fused": (
        lambda: fused()(random((1, 3, 3, 9), F32)),
        fn.ShapeError,
        r"pool \(MaxPool2d\): expected images of at least 2x2, got \(1, 4, 1, 7\)",
    ),
    "channels, fused": (
        lambda: fused()(random((32, 1, 28, 28), F32)),
        fn.ShapeError,
        r"conv1 \(Conv2d\): expected \(N, 3, H, W\), got \(32, 1, 28, 28\)",
    ),
    "gradient, fused": (
        lambda: fused().forward(random((2, 3, 8, 8), F32), train=True)[1](random((2, 4, 6, 6), F32)),
        fn.ShapeError,
        r"pool \(MaxPool2d\): expected the gradient of its output, \(2, 4, 3, 3\), got \(2, 4, 6, 6\)",
    ),
    "features": (
        lambda: named()(random((1, 3, 10, 10), F32)),
        fn.ShapeError,
        r"fc \(Linear\): expected \(\.\.\., 36\), got \(1, 64\)",
    ),
    "dtype": (lambda: named()(random((1, 3, 8, 8))), fn.DTypeError, r"conv1 \(Conv2d\): expected float32, got float64"),
    "integers": (lambda: fn.ReLU()(np.arange(3)), fn.DTypeError, r"ReLU: expected float32 or float64, got int64"),
    "half": (lambda: fn.Linear(2, 2)(np.ones((1, 2), "f2")), fn.DTypeError, r"Linear: expected float32, got float16"),
    "a list": (lambda: fn.Linear(2, 2)([[1.0, 2.0]]), fn.DTypeError, r"Linear: expected a NumPy array, got list"),  # type: ignore[arg-type]
    "a number": (lambda: fn.Linear(1, 1)(np.float32(1)), fn.DTypeError, r"Linear: expected a NumPy array, got float32"),
    "no dimensions": (lambda: fn.Linear(2, 2)(np.array(1, F32)), fn.ShapeError, r"Linear: expected .*got \(\)"),
    "flatten what": (lambda: fn.Flatten("a"), TypeError, "Flatten: start_dim: expected the number of an axis, got 'a'"),  # type: ignore[arg-type]
    "unflatten what": (lambda: fn.Unflatten("a", (2, 2)), TypeError, "Unflatten: dim: expected the number of an axis"),  # type: ignore[arg-type]
    "flatten": (lambda: fn.Flatten(2)(random((2, 3))), fn.ShapeError, r"Flatten: cannot join axes 2 to -1 of \(2, 3\)"),
    "stride 0": (lambda: fn.Conv2d(1, 1, 3, stride=0), fn.ShapeError, r"Conv2d: expected stride .*at least 1, got 0"),
    "strides": (
        lambda: fn.Conv2d(1, 1, 3, stride=(1, 0)),
        fn.ShapeError,
        r"Conv2d: expected stride .*at least 1, got \(1, 0\)",
    ),
    "pool stride 0": (lambda: fn.MaxPool2d(2, stride=0), fn.ShapeError, r"MaxPool2d: expected stride .*at least 1"),
    "kernel 0": (lambda: fn.Conv2d(1, 1, 0), fn.ShapeError, r"Conv2d: expected kernel_size .*at least 1, got 0"),
    "three kernels": (lambda: fn.Conv2d(1, 1, (1, 2, 3)), fn.ShapeError, r"Conv2d: expected kernel_size as one or two"),  # type: ignore[arg-type]
    "real kernel": (lambda: fn.MaxPool2d(2.0), fn.ShapeError, r"MaxPool2d: expected kernel_size as one or two whole"),  # type: ignore[arg-type]
    "padding": (
        lambda: fn.Conv2d(1, 1, 3, padding=-1),
        fn.ShapeError,
        r"Conv2d: expected padding .*at least 0, got -1",
    ),
    "dilation": (
        lambda: fn.Conv2d(1, 1, 3, dilation=0),
        fn.ShapeError,
        r"Conv2d: expected dilation .*at least 1, got 0",
    ),
    "groups": (
        lambda: fn.Conv2d(4, 6, 3, groups=4),
        fn.ShapeError,
        r"Conv2d: groups=4 must divide in_channels=4 and out_channels=6",
    ),
    "no groups": (lambda: fn.Conv2d(4, 6, 3, groups=0), fn.ShapeError, r"Conv2d: expected groups .*at least 1, got 0"),
    "pool padding": (
        lambda: fn.MaxPool2d(2, padding=2),
        fn.ShapeError,
        r"MaxPool2d: padding \(2, 2\) is more than half of kernel_size \(2, 2\)",
    ),
    "no features": (lambda: fn.Linear(0, 2), fn.ShapeError, r"Linear: expected in_features .*at least 1, got 0"),
    "real features": (lambda: fn.Linear(2.0, 2), fn.ShapeError, r"Linear: expected in_features as a whole number"),  # type: ignore[arg-type]
    "true features": (lambda: fn.Linear(2, True), fn.ShapeError, r"Linear: expected out_features as a whole number"),
    "kind": (
        lambda: fn.Linear(2, 2, dtype="float16"),
        fn.DTypeError,
        "expected dtype float32 or float64, got 'float16'",
    ),
    "p": (lambda: fn.Dropout(1.5), ValueError, r"Dropout: expected p from 0 to 1, got 1\.5"),
    "p is NaN": (lambda: fn.Dropout(math.nan), ValueError, r"Dropout: expected p from 0 to 1, got nan"),
    "no layer": (lambda: fn.Sequential(fn.ReLU(), 3), TypeError, "Sequential: expected layers, got int as '1'"),  # type: ignore[arg-type]
    "a class": (lambda: fn.Sequential(fn.ReLU), TypeError, "Sequential: expected layers, got type as '0'"),  # type: ignore[arg-type]
    "dot": (lambda: fn.Sequential({"a.b": fn.ReLU()}), ValueError, r"Sequential: a layer's name .*'a\.b'"),
    "no name": (lambda: fn.Sequential({"": fn.ReLU()}), ValueError, r"Sequential: a layer's name .*''"),
    "no forward": (lambda: fn.Layer()(random((2, 2))), TypeError, r"Layer defines no forward"),
    "no config": (lambda: Spy().config(), TypeError, r"Spy defines no config"),
    "keys": (
        lambda: fn.Linear(2, 2).load_state_dict({"weight": np.ones((2, 2)), "w": 1, "v": 2}),
        KeyError,
        r"Linear: state_dict lacks \['bias'\], unexpected: \['w', 'v'\]",
    ),
    "weight": (
        lambda: fn.Linear(2, 2, bias=False).load_state_dict({"weight": np.ones((2, 3))}),
        fn.ShapeError,
        r"Linear: expected weight of shape \(2, 2\), got \(2, 3\)",
    ),
    "weight's kind": (
        lambda: fn.Linear(1, 1, bias=False).load_state_dict({"weight": [["1"]]}),
        fn.DTypeError,
        r"Linear: expected numbers for weight, got <U1",
    ),
    "predict from images": (
        lambda: fn.ReLU().predict(random((2, 3, 4))),
        fn.ShapeError,
        r"ReLU: expected scores of shape \(N, classes\) to predict from, got \(2, 3, 4\)",
    ),
    "predict from text": (lambda: fn.Linear(2, 2).predict([["a", "b"]]), fn.DTypeError, "x: expected real numbers"),
    "batch of 0": (
        lambda: fn.Linear(2, 2).predict(random((2, 2)), 0),
        ValueError,
        "batch_size: expected a whole number of at least 1",
    ),
    "predict from a number": (lambda: fn.Linear(2, 2).predict(3.0), fn.ShapeError, "x: expected a batch of samples"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_layer_expected_and_got(case: str) -> None:
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message) as caught:
        call()
    if error is not KeyError:  # whose text is quoted
        assert not message.startswith(("conv1", "pool", "fc")) or str(caught.value).startswith(message.split(" ")[0])


def test_a_failed_load_changes_nothing() -> None:
    model = fn.Sequential(fn.Linear(2, 2), fn.Linear(2, 3))
    before = model.state_dict()
    bad = {**{key: value + 1 for key, value in before.items()}, "1.bias": np.ones(4)}
    with pytest.raises(fn.ShapeError):
        model.load_state_dict(bad)
    assert all((value == before[key]).all() for key, value in model.state_dict().items())


@every_backend
@pytest.mark.parametrize("make", [lambda: fn.Linear(4, 3), lambda: fn.Conv2d(2, 3, 3, padding=1)])
def test_a_gradient_of_the_wrong_shape_is_refused(make: Callable[[], fn.Layer], backend: str) -> None:
    layer = make()
    x = random((5, 4) if isinstance(layer, fn.Linear) else (5, 2, 6, 6), "float32")
    with fn.use_backend(backend):
        y, backward = layer.forward(x, train=True)
        with pytest.raises(ValueError):
            backward(y[:4])


# --- containers and layers of one's own -------------------------------------------------------------------------------


def test_sequential_is_a_sequence() -> None:
    layers = [fn.Linear(2, 3), fn.ReLU(), fn.Linear(3, 2)]
    model = fn.Sequential(*layers)
    assert len(model) == 3 and list(model) == layers and model[-1] is layers[2]
    part = model[1:]
    assert isinstance(part, fn.Sequential) and list(part) == layers[1:]
    assert list(part.state_dict()) == ["2.weight", "2.bias"]
    assert len(fn.Sequential()) == 0
    x = random((2, 2))
    assert fn.Sequential()(x) is x
    assert [type(layer).__name__ for layer in model.modules()] == ["Sequential", "Linear", "ReLU", "Linear"]


class Block(fn.Layer):
    """A layer of a user's own."""

    def __init__(self, size: int) -> None:
        self.first = fn.Linear(size, size, dtype="float64")
        self.second = fn.Linear(size, size, dtype="float64")
        self.relu = fn.ReLU()

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        h, first = self.first.forward(x, train)
        h, relu = self.relu.forward(h, train)
        h, second = self.second.forward(h, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = first(relu(second(dy)), need_dx)
            return dy + dx if need_dx else None

        return x + h, backward


def test_a_layer_of_ones_own() -> None:
    model = fn.Sequential({"block": Block(3)})
    assert list(model.state_dict()) == [
        "block.first.weight",
        "block.first.bias",
        "block.second.weight",
        "block.second.bias",
    ]
    assert model.dtype == "float64"
    assert gradcheck(model, random((4, 3)))
    with pytest.raises(fn.ShapeError, match=r"^first \(Linear\): expected \(\.\.\., 3\), got \(4, 2\)"):
        model(random((4, 2)))


def test_sizes_may_be_numpys() -> None:
    two = np.int64(2)
    conv = fn.Conv2d(two, two, two, stride=(two, 1), padding=two, groups=two)
    assert conv.config() == fn.Conv2d(2, 2, 2, stride=(2, 1), padding=2, groups=2).config()
    assert fn.MaxPool2d(two)(random((1, 1, 4, 4))).shape == (1, 1, 2, 2)
    assert fn.Linear(two, two)(random((3, 2), "float32")).shape == (3, 2)
    assert fn.Flatten(two).config() == fn.Flatten(2).config() and type(fn.Flatten(two).start_dim) is int
    assert fn.Unflatten(two, (two, two)).config() == fn.Unflatten(2, (2, 2)).config()
    crops = fn.RandomCrop(two, fill=np.float32(0.5)), fn.RandomCrop(2, fill=0.5)
    assert crops[0].config() == crops[1].config() and type(crops[0].fill) is float


def test_every_registered_layer_is_tested() -> None:
    covered = {type(layer).__name__ for make, _, _ in CASES.values() for layer in make().modules()}
    assert {name for name, cls in REGISTRY.items() if cls.__module__.startswith("fastnn.")} <= covered


# --- prediction -------------------------------------------------------------------------------------------------------


@every_backend
def test_prediction(backend: str) -> None:
    model = named()
    x = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
    with fn.use_backend(backend):
        scores = model.scores(x)
        assert scores.dtype == np.float32 and scores.shape == (10, 2)
        assert (scores == model(x.astype(np.float32))).all()
        for batch_size in (1, 3, 10, 11):
            np.testing.assert_allclose(model.scores(x, batch_size), scores, rtol=1e-5, atol=1e-3)
        classes, probabilities = model.predict(x), model.predict_proba(x)
    assert classes.dtype == np.int64 and (classes == scores.argmax(1)).all()
    exps = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, exps / exps.sum(1, keepdims=True), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)


def test_prediction_for_no_samples() -> None:
    model = fn.Linear(3, 2)
    assert model.predict(np.zeros((0, 3))).shape == (0,)
    assert model.predict_proba(np.zeros((0, 3))).shape == (0, 2)
    assert model.scores([[1, 2, 3]]).shape == (1, 2)


def test_predicting_needs_no_gradient_and_changes_nothing() -> None:
    model = fn.Sequential(fn.Linear(3, 3), fn.Dropout(0.5))
    x = random((4, 3))
    before = model.state_dict()
    assert (model.scores(x) == model.scores(x)).all()
    assert all((value == before[key]).all() for key, value in model.state_dict().items())
    assert not any(p.used for p in model.parameters())


@every_backend
@every_dtype
@pytest.mark.parametrize("sizes", [(3, 5, 4), (40, 70, 50)])
def test_linear_with_its_relu_in_one_kernel(backend: str, dtype: str, sizes: tuple[int, int, int]) -> None:
    """The same bits as the two layers one after the other."""
    N, in_features, out_features = sizes
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((N, in_features)).astype(dtype), rng.standard_normal((N, out_features)).astype(dtype)
    x[0, 0] = np.nan
    layer, relu = fn.Linear(in_features, out_features, dtype=dtype), fn.ReLU()
    with fn.use_backend(backend):
        y, backward = layer.forward(x)
        z, relu_backward = relu.forward(y)
        expected = [z, backward(relu_backward(dy)), layer.weight.grad.copy()]
        layer.zero_grad()
        z, backward = layer.forward_with(x, relu=True)
        found = [z, backward(dy), layer.weight.grad]
    for f, e in zip(found, expected, strict=True):
        assert f is not None and e is not None
        assert f.tobytes() == e.tobytes()
