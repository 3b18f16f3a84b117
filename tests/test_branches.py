"""Graphs that are not chains: blocks, branches and heads, trained, frozen, captured, saved and predicted with; and the
layers that such networks are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import make
from layer_cases import Spy, assert_as_torch, assert_close, every_backend, every_dtype, gradients, random
from test_kernels import assert_contract, every_backend_here, layouts, reals, sizes, small, windowed
from torch_graphs import parallel

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import TABLE, Array
from fastnn.gradcheck import gradcheck

needs_native = pytest.mark.skipif(not k.COMPILED, reason="installed without compiled kernels")


def resnet(dtype: str = "float32") -> fn.Sequential:
    """A small network of He et al. 2015, with no normalisation."""

    def block(inputs: int, outputs: int, stride: int) -> fn.Residual:
        body = fn.Sequential(
            fn.Conv2d(inputs, outputs, 3, stride, 1, dtype=dtype),
            fn.ReLU(),
            fn.Conv2d(outputs, outputs, 3, padding=1, dtype=dtype),
        )
        same = inputs == outputs and stride == 1
        return fn.Residual(body, None if same else fn.Conv2d(inputs, outputs, 1, stride, dtype=dtype), fn.ReLU())

    fn.manual_seed(3)
    return fn.Sequential(
        *(fn.Conv2d(2, 6, 3, padding=1, dtype=dtype), fn.ReLU(), block(6, 6, 1), block(6, 9, 2)),
        *(fn.AdaptiveAvgPool2d(1), fn.Flatten(), fn.Linear(9, 5, dtype=dtype)),
    )


def inception(dtype: str = "float32") -> fn.Sequential:
    """Branches side by side, enlarged again, and summed."""
    fn.manual_seed(4)
    return fn.Sequential(
        fn.Parallel(
            {
                "point": fn.Conv2d(2, 4, 1, dtype=dtype),
                "wide": fn.Sequential(fn.Conv2d(2, 3, 3, padding=1, dtype=dtype), fn.ReLU()),
                "pool": fn.AvgPool2d(3, 1, 1),
            },
            mode="concatenate",
        ),
        fn.AvgPool2d(2),
        fn.ConvTranspose2d(9, 4, 2, 2, dtype=dtype),
        fn.Parallel(fn.Conv2d(4, 4, 3, dtype=dtype), fn.Conv2d(4, 4, 3, dtype=dtype), fn.Conv2d(4, 4, 3, dtype=dtype)),
        fn.Flatten(),
        fn.Linear(144, 5, dtype=dtype),
    )


def two_heads(dtype: str = "float32") -> fn.Sequential:
    """A body and two heads, of 4 and of 3 classes."""
    fn.manual_seed(5)
    heads = fn.Parallel({"first": fn.Linear(7, 4, dtype=dtype), "second": fn.Linear(7, 3, dtype=dtype)}, mode="tuple")
    return fn.Sequential(fn.Linear(6, 7, dtype=dtype), fn.ReLU(), heads)


RNG = np.random.default_rng(5)
X = RNG.standard_normal((60, 2, 8, 8)).astype(np.float32)
Y = RNG.integers(0, 5, 60)
ROWS = RNG.standard_normal((30, 6)).astype(np.float32)
LABELS = np.stack([RNG.integers(0, n, 30) for n in (4, 3)], axis=1)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [resnet, inception])
def test_gradients_are_the_numerical_ones(network: Callable[[str], fn.Sequential]) -> None:
    assert gradcheck(network("float64"), X[:2].astype("float64"))


@every_backend
def test_gradients_of_heads(backend: str) -> None:
    with fn.use_backend(backend):
        assert "2.second.weight" in gradcheck(two_heads("float64"), ROWS[:3].astype("float64"))


@every_dtype
def test_heads_are_pytorchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    ours = fn.Sequential(
        fn.Linear(6, 7, dtype=dtype),
        fn.Parallel(fn.Linear(7, 4, dtype=dtype), fn.Linear(7, 3, dtype=dtype), mode="tuple"),
    )
    theirs = nn.Sequential(nn.Linear(6, 7), parallel(nn, nn.Linear(7, 4), nn.Linear(7, 3), mode="tuple"))
    theirs = theirs.to(getattr(torch, dtype))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = ROWS.astype(dtype)
    tx = torch.from_numpy(x).requires_grad_()
    tys = theirs(tx)
    ys, backward = ours.forward(x, train=True)
    assert isinstance(ys, tuple)
    dys = [random(y.shape, dtype, seed=i) for i, y in enumerate(ys)]
    torch.autograd.backward(tys, [torch.from_numpy(dy) for dy in dys])
    assert_close(backward(tuple(dys)), tx.grad.numpy(), dtype, "dx")
    for y, ty in zip(ys, tys, strict=True):
        assert_close(y, ty.detach().numpy(), dtype, "y")
    for name, p in theirs.named_parameters():
        assert_close(gradients(ours)[name], p.grad.numpy(), dtype, name)


@needs_native
@every_dtype
@pytest.mark.parametrize("network", [resnet, inception])
def test_a_captured_step_has_the_bits_of_the_loop(network: Callable[[str], fn.Sequential], dtype: str) -> None:
    x, a, b = X.astype(dtype), network(dtype), network(dtype)
    one, other = (fn.SGD(model.parameters(), lr=0.05, momentum=0.9) for model in (a, b))
    step = fn.capture(b, fn.CrossEntropyLoss(), other, x[:20], Y[:20])
    for i in (0, 20, 40, 0):
        scores, backward = a.forward(x[i : i + 20], train=True)
        loss, loss_backward = fn.CrossEntropyLoss().forward(scores, Y[i : i + 20])
        backward(loss_backward(), need_dx=False)
        one.step()
        assert step(x[i : i + 20], Y[i : i + 20]) == loss
        for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
            assert p.data.tobytes() == q.data.tobytes(), name


@needs_native
def test_captured_heads_have_the_bits_of_the_loop() -> None:
    a, b, loss = two_heads(), two_heads(), fn.JointLoss((fn.CrossEntropyLoss(), fn.CrossEntropyLoss()))
    one, other = (fn.SGD(model.parameters(), lr=0.05, momentum=0.9) for model in (a, b))
    step = fn.capture(b, loss, other, ROWS[:10], LABELS[:10])
    for i in (0, 10, 20, 0):
        scores, backward = a.forward(ROWS[i : i + 10], train=True)
        value, loss_backward = loss.forward(scores, LABELS[:10])
        backward(loss_backward(), need_dx=False)
        one.step()
        assert step(ROWS[i : i + 10], LABELS[:10]) == value
        for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
            assert p.data.tobytes() == q.data.tobytes(), name


def test_fit_trains_a_residual_network() -> None:
    brighter = X + Y[:, None, None, None].astype(np.float32) / 2
    history = fn.fit(resnet(), brighter, Y, optimizer=fn.SGD(lr=0.02, momentum=0.9), batch_size=20, epochs=40, seed=0)
    assert history.loss[-1] < 0.75 * history.loss[0]


# --- frozen -----------------------------------------------------------------------------------------------------------


def spied(layer: fn.Layer) -> tuple[fn.Sequential, Spy]:
    """The layer with a spy behind it, and the spy."""
    spy = Spy()
    return fn.Sequential(layer, spy), spy


@pytest.mark.parametrize("kind", ["residual", "sum", "concatenate", "tuple"])
def test_branches_without_anything_to_train_are_not_run_backward(kind: str) -> None:
    (a, spy_a), (b, spy_b) = spied(fn.Linear(3, 3)), spied(fn.Linear(3, 3))
    model = fn.Residual(a, b) if kind == "residual" else fn.Parallel(a, b, mode=kind)
    a.requires_grad_(False)
    x = random((2, 3), "float32")
    y, backward = model.forward(x, train=True)
    assert backward(y, need_dx=False) is None
    assert (spy_a.calls, spy_b.calls) == ([], [True])
    assert backward(y) is not None
    assert (spy_a.calls, spy_b.calls) == ([True], [True, True])
    b.requires_grad_(False)
    assert backward(y, need_dx=False) is None
    assert (spy_a.calls, spy_b.calls) == ([True], [True, True])
    chain = fn.Sequential(fn.Linear(3, 3), model)  # whose lowest layer wants a gradient from both
    y, backward = chain.forward(x, train=True)
    assert backward(y, need_dx=False) is None
    assert (len(spy_a.calls), len(spy_b.calls)) == (2, 3)


def test_only_the_activation_is_trained() -> None:
    block = fn.Residual(fn.Linear(3, 3), None, fn.Linear(3, 2))
    block.body.requires_grad_(False)
    y, backward = block.forward(random((2, 3), "float32"), train=True)
    assert backward(np.ones_like(y), need_dx=False) is None
    assert block.activation is not None and all((p.grad != 0).any() for p in block.activation.parameters())


@pytest.mark.parametrize("freeze", ["weight", "bias"])
def test_a_half_frozen_transposed_convolution(freeze: str) -> None:
    layer = fn.ConvTranspose2d(2, 3, 2)
    getattr(layer, freeze).requires_grad = False
    y, backward = layer.forward(random((2, 2, 3, 3), "float32"), train=True)
    backward(np.ones_like(y))
    assert {name: bool(p.grad.any()) for name, p in layer.named_parameters()} == {
        "weight": freeze != "weight",
        "bias": freeze != "bias",
    }


@pytest.mark.parametrize("make_block", [lambda: fn.Residual(fn.Dropout(0)), lambda: fn.Parallel(*[fn.Dropout(0)] * 3)])
def test_what_is_passed_on_is_not_written_over(make_block: Callable[[], fn.Layer]) -> None:
    block, x = make_block(), random((4, 5))
    y, backward = block.forward(x, train=True)
    dy = random((4, 5), seed=1)
    times = len(list(block.named_children())) + isinstance(block, fn.Residual)
    np.testing.assert_allclose(y, times * random((4, 5)))
    np.testing.assert_allclose(backward(dy), times * random((4, 5), seed=1))
    assert (x == random((4, 5))).all() and (dy == random((4, 5), seed=1)).all()


def test_a_subclass_of_relu_is_the_function_that_it_is() -> None:
    class Doubled(fn.ReLU):
        def forward(self, x: Array, train: bool = False) -> tuple[Array, Any]:
            y, backward = super().forward(x, train)
            return 2 * y, lambda dy, need_dx=True: backward(2 * dy, need_dx)

    layer, x = fn.Linear(3, 3), random((4, 3), "float32")
    plain = fn.Residual(layer, activation=fn.ReLU())
    np.testing.assert_array_equal(fn.Residual(layer, activation=Doubled())(x), 2 * plain(x))
    np.testing.assert_array_equal(plain(x), np.maximum(layer(x) + x, 0))


# --- prediction -------------------------------------------------------------------------------------------------------


@every_backend
def test_predictions_of_heads(backend: str) -> None:
    model = two_heads()
    with fn.use_backend(backend):
        expected = model(ROWS)
        for _ in range(4):  # the third time they are replayed
            scores = model.scores(ROWS)
            assert isinstance(scores, tuple) and [a.shape for a in scores] == [(30, 4), (30, 3)]
            for found, e in zip(scores, expected, strict=True):
                assert found.tobytes() == e.tobytes() and not np.shares_memory(found, e)
        if backend == "native":
            assert model._replayer is not None and model._replayer.results((ROWS,)) is not None
        classes, probabilities = model.predict(ROWS), model.predict_proba(ROWS)
        in_parts = model.scores(ROWS, batch_size=7)
    for i, scores in enumerate(expected):
        assert (classes[i] == scores.argmax(1)).all()
        np.testing.assert_allclose(probabilities[i].sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(in_parts[i], scores, rtol=1e-5, atol=1e-6)
    assert [a.shape for a in model.scores(ROWS[:0])] == [(0, 4), (0, 3)]


def test_replayed_heads_of_later_inputs_are_not_those_of_earlier_ones() -> None:
    model = two_heads()
    kept = [model.scores(ROWS[i : i + 5]) for i in (0, 0, 0, 5, 10)]
    for i, heads in zip((0, 0, 0, 5, 10), kept, strict=True):
        for found, expected in zip(heads, model(ROWS[i : i + 5]), strict=True):
            assert (found == expected).all()


# --- names and files --------------------------------------------------------------------------------------------------


def test_names() -> None:
    model = fn.Sequential(
        {
            "stem": fn.Linear(3, 3),
            "block": fn.Residual(fn.Sequential(fn.Linear(3, 3)), fn.Linear(3, 3, bias=False)),
            "heads": fn.Parallel(fn.Linear(3, 2, bias=False), fn.Linear(3, 2, bias=False), mode="tuple"),
        }
    )
    assert list(model.state_dict()) == [
        *("stem.weight", "stem.bias", "block.body.0.weight", "block.body.0.bias", "block.shortcut.weight"),
        *("heads.0.weight", "heads.1.weight"),
    ]
    assert model[2][1].label == "1 (Linear)" and len(model[2]) == 2  # type: ignore[index, arg-type]


@pytest.mark.parametrize("network", [resnet, inception, two_heads])
def test_nested_layers_in_files(network: Callable[[], fn.Sequential], tmp_path: Path) -> None:
    model = network()
    fn.save(model, tmp_path / "m.safetensors")
    again = fn.load(tmp_path / "m.safetensors")
    assert repr(again) == repr(model)
    x = ROWS if network is two_heads else X[:5]
    found, expected = again(x), model(x)
    for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (found, expected)), strict=True):
        assert (a == b).all()


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "unequal block": (
        lambda: fn.Sequential({"block": fn.Residual(fn.Linear(3, 2))})(random((4, 3), "float32")),
        fn.ShapeError,
        r"block \(Residual\): expected branches to give equal shapes, got \(4, 2\) and \(4, 3\)",
    ),
    "unequal sum": (
        lambda: fn.Parallel(fn.Linear(3, 2), fn.Linear(3, 3))(random((4, 3), "float32")),
        fn.ShapeError,
        r"Parallel: expected branches to give equal shapes, got \(4, 2\) and \(4, 3\)",
    ),
    "unequal images": (
        lambda: fn.Parallel(fn.MaxPool2d(2), fn.AvgPool2d(3), mode="concatenate")(random((1, 2, 6, 6))),
        fn.ShapeError,
        r"equal shapes but along axis 1, got \(1, 2, 3, 3\) and \(1, 2, 2, 2\)",
    ),
    "other dimensions": (
        lambda: fn.Parallel(fn.ReLU(), fn.Flatten(), mode="concatenate")(random((1, 2, 6))),
        fn.ShapeError,
        r"equal shapes but along axis 1, got \(1, 2, 6\) and \(1, 12\)",
    ),
    "no such axis": (
        lambda: fn.Parallel(fn.ReLU(), mode="concatenate", dim=2)(random((4, 3))),
        fn.ShapeError,
        r"Parallel: cannot concatenate along axis 2 of \(4, 3\)",
    ),
    "samples": (
        lambda: fn.Parallel(fn.ReLU(), mode="concatenate", dim=-2)(random((4, 3))),
        fn.ShapeError,
        r"cannot concatenate along axis -2",
    ),
    "heads of heads": (
        lambda: fn.Residual(fn.Parallel(fn.ReLU(), fn.ReLU(), mode="tuple"))(random((4, 3))),
        fn.ShapeError,
        r"Residual: expected an array from each branch, got tuple",
    ),
    "after heads": (
        lambda: fn.Sequential(two_heads(), fn.ReLU())(ROWS),
        fn.DTypeError,
        r"1 \(ReLU\): expected a NumPy array, got tuple",
    ),
    "one gradient": (
        lambda: two_heads().forward(ROWS, train=True)[1](ROWS),
        fn.ShapeError,
        r"2 \(Parallel\): expected a gradient for each of 2 heads, got ndarray",
    ),
    "three gradients": (
        lambda: two_heads().forward(ROWS, train=True)[1]((ROWS,) * 3),
        fn.ShapeError,
        r"expected a gradient for each of 2 heads, got 3 of them",
    ),
    "gradient of a block": (
        lambda: fn.Residual(fn.ReLU()).forward(random((4, 3)))[1](random((4, 2))),
        fn.ShapeError,
        r"Residual: expected the gradient of its output, \(4, 3\), got \(4, 2\)",
    ),
    "gradient of a sum": (
        lambda: fn.Parallel(fn.ReLU()).forward(random((4, 3)))[1](random((4, 2))),
        fn.ShapeError,
        r"Parallel: expected the gradient of its output, \(4, 3\), got \(4, 2\)",
    ),
    "no body": (lambda: fn.Residual(None), TypeError, "Residual: expected a layer as body, got NoneType"),  # type: ignore[arg-type]
    "shortcut": (
        lambda: fn.Residual(fn.ReLU(), 3),  # type: ignore[arg-type]
        TypeError,
        "Residual: expected a layer as shortcut, got int",
    ),
    "mode": (lambda: fn.Parallel(fn.ReLU(), mode="mean"), ValueError, "Parallel: expected mode 'sum', .* got 'mean'"),
    "dim": (lambda: fn.Parallel(fn.ReLU(), dim=0), ValueError, "Parallel: expected dim .*other than 0.* got 0"),
    "no branch": (lambda: fn.Parallel(), ValueError, "Parallel: expected at least one branch"),
    "not a layer": (lambda: fn.Parallel(fn.ReLU(), 3), TypeError, "Parallel: expected layers, got int as '1'"),  # type: ignore[arg-type]
    "padding": (lambda: fn.AvgPool2d(2, padding=2), fn.ShapeError, "AvgPool2d: padding .* more than half"),
    "divisor": (
        lambda: fn.AvgPool2d(2, divisor_override=0),
        fn.ShapeError,
        "AvgPool2d: expected divisor_override .*got 0",
    ),
    "too small": (
        lambda: fn.AvgPool2d(3)(random((1, 2, 2, 9))),
        fn.ShapeError,
        r"AvgPool2d: expected images of at least 3x3, got \(1, 2, 2, 9\)",
    ),
    "output size": (
        lambda: fn.AdaptiveAvgPool2d((0, 2)),
        fn.ShapeError,
        "AdaptiveAvgPool2d: expected output_size .*at least 1",
    ),
    "three sizes": (
        lambda: fn.AdaptiveAvgPool2d((1, 2, 3)),  # type: ignore[arg-type]
        fn.ShapeError,
        "AdaptiveAvgPool2d: expected output_size as one or two",
    ),
    "no pixels": (
        lambda: fn.AdaptiveAvgPool2d(1)(random((1, 2, 0, 9))),
        fn.ShapeError,
        r"AdaptiveAvgPool2d: expected images of at least one pixel, got \(1, 2, 0, 9\)",
    ),
    "output padding": (
        lambda: fn.ConvTranspose2d(1, 1, 3, stride=2, output_padding=2),
        fn.ShapeError,
        r"ConvTranspose2d: expected output_padding less than stride \(2, 2\), got \(2, 2\)",
    ),
    "groups": (
        lambda: fn.ConvTranspose2d(4, 6, 3, groups=4),
        fn.ShapeError,
        "ConvTranspose2d: groups=4 must divide in_channels=4 and out_channels=6",
    ),
    "channels": (
        lambda: fn.ConvTranspose2d(3, 6, 3)(random((1, 2, 4, 4), "float32")),
        fn.ShapeError,
        r"ConvTranspose2d: expected \(N, 3, H, W\), got \(1, 2, 4, 4\)",
    ),
    "nothing left": (
        lambda: fn.ConvTranspose2d(1, 1, 1, padding=1)(random((1, 1, 2, 4), "float32")),
        fn.ShapeError,
        r"ConvTranspose2d: images \(1, 1, 2, 4\) would become 0x2",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_layer_expected_and_got(case: str) -> None:
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()


# --- layers and kernels of any size -----------------------------------------------------------------------------------

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(st.integers(0, 1), st.integers(0, 1))


def test_defaults_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    pool, ours = torch.nn.AvgPool2d(3), fn.AvgPool2d(3).config()
    assert ours.pop("kernel_size") == ours.pop("stride") == (3, 3) and pool.stride == 3
    assert ours.pop("padding") == (0, 0)
    assert ours == {name: getattr(pool, name) for name in ours}
    conv, ours = torch.nn.ConvTranspose2d(2, 3, 4), fn.ConvTranspose2d(2, 3, 4).config()
    assert ours.pop("bias") and ours.pop("dtype") == "float32"
    assert ours == {name: getattr(conv, name) for name in ours}


def test_initial_values_of_a_transposed_convolution_are_within_pytorchs_bounds() -> None:
    layer = fn.ConvTranspose2d(40, 300, (3, 2), groups=2)
    bound = 1 / np.sqrt(150 * 6)  # PyTorch takes the second axis of the weight for the inputs
    for p in layer.parameters():
        assert 0.9 * bound < np.abs(p.data).max() <= bound


@given(st.integers(1, 20), pairs, pairs, paddings, st.booleans(), st.booleans(), st.sampled_from((None, 3)))
@settings(max_examples=40, deadline=None)
def test_any_avg_pool_is_as_pytorchs(
    C: int, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool, divisor: int | None
) -> None:
    torch = pytest.importorskip("torch")
    padding = tuple(min(p, size // 2) for p, size in zip(padding, kernel, strict=True))
    arguments = (kernel, stride, padding, ceil_mode, include, divisor)
    assert_as_torch(fn.AvgPool2d(*arguments), torch.nn.AvgPool2d(*arguments), random((2, C, 8, 9)))


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_any_adaptive_avg_pool_is_as_pytorchs(C: int, H: int, W: int, P: int, Q: int) -> None:
    torch = pytest.importorskip("torch")
    assert_as_torch(fn.AdaptiveAvgPool2d((P, Q)), torch.nn.AdaptiveAvgPool2d((P, Q)), random((2, C, H, W)))


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), pairs, pairs, paddings, paddings, pairs, st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_transposed_conv_is_as_pytorchs(
    groups: int, C: int, K: int, kernel: Any, stride: Any, padding: Any, extra: Any, dilation: Any, bias: bool
) -> None:
    torch = pytest.importorskip("torch")
    extra = tuple(min(e, s - 1) for e, s in zip(extra, stride, strict=True))
    arguments = (C * groups, K * groups, kernel, stride, padding, extra, groups, bias, dilation)
    x = random((2, C * groups, 5, 6))
    assert_as_torch(fn.ConvTranspose2d(*arguments, dtype="float64"), torch.nn.ConvTranspose2d(*arguments), x)


BACKENDS = pytest.mark.parametrize("backend", every_backend_here())


@BACKENDS
@small
@given(
    sample=windowed(),
    C=sizes(1, 40),
    how=st.tuples(st.booleans(), st.booleans(), st.sampled_from((0, 5))),
    dtype=reals,
    layout=layouts,
    seed=sizes(0, 99),
)
def test_avg_pool2d_of_any_size(
    backend: str, sample: Any, C: int, how: tuple[bool, bool, int], dtype: str, layout: str, seed: int
) -> None:
    sample = sample | {"C": C, "dilation": (1, 1)}
    sample |= dict(zip(("ceil_mode", "count_include_pad", "divisor"), how, strict=True))
    for name in ("avg_pool2d", "avg_pool2d_backward"):
        inputs, params = make(TABLE[name], sample, dtype, seed)
        assert_contract(backend, TABLE[name], inputs, params, dtype, layout)


@BACKENDS
@small
@given(
    shape=st.tuples(sizes(0, 4), sizes(1, 40), sizes(1, 20), sizes(1, 20)),
    size=st.tuples(sizes(1, 20), sizes(1, 20)),
    dtype=reals,
    layout=layouts,
    seed=sizes(0, 99),
)
def test_adaptive_avg_pool2d_of_any_size(
    backend: str, shape: tuple[int, ...], size: tuple[int, int], dtype: str, layout: str, seed: int
) -> None:
    sample = dict(zip("NCHWPQ", (*shape, *size), strict=True))
    for name in ("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward"):
        inputs, params = make(TABLE[name], sample, dtype, seed)
        assert_contract(backend, TABLE[name], inputs, params, dtype, layout)


@BACKENDS
@small
@given(rows=sizes(0, 60), widths=st.tuples(*[sizes(0, 70)] * 4), dtype=reals, layout=layouts)
def test_rows_side_by_side_of_any_size(
    backend: str, rows: int, widths: tuple[int, ...], dtype: str, layout: str
) -> None:
    sample = {"R": rows, "K": sum(widths), **{f"K{i}": width for i, width in enumerate(widths)}}
    inputs, params = make(TABLE["concatenate"], sample, dtype)
    assert_contract(backend, TABLE["concatenate"], inputs, params, dtype, layout)
    part = {"R": rows, "K": sum(widths), "B": widths[1], "start": widths[0], "count": widths[1]}
    inputs, params = make(TABLE["columns"], part, dtype)
    assert_contract(backend, TABLE["columns"], inputs, params, dtype, layout)


def test_a_sum_may_be_written_over_what_is_added() -> None:
    for backend, dtype in ((b, d) for b in k.backends() for d in ("float32", "float64")):
        a, b = random((3, 40), dtype), random((3, 40), dtype, seed=1)
        expected = a + b
        with fn.use_backend(backend):
            assert k.add(a, b, relu=False, out=a) is a
        assert (a == expected).all()


@pytest.mark.parametrize(
    "name,inputs,params,message",
    [
        ("avg_pool2d", [(1, 2, 5, 5)], {"padding": (2, 0)}, "more than half"),
        ("avg_pool2d", [(1, 2, 1, 5)], {}, "window of 2 does not fit into H=1"),
        ("avg_pool2d_backward", [(1, 2, 2, 3)], {"input_size": (5, 5)}, "expected Q=2 for W=5, got Q=3"),
        ("adaptive_avg_pool2d", [(1, 2, 5, 5)], {"P": 0, "Q": 1}, "at least one pixel"),
        ("add", [(2, 3), (3, 2)], {"relu": False}, "expected b of shape"),
        ("concatenate", [(2, 3), (3, 3), None, None], {}, r"expected x1 of shape \(R=2, K1=3\), got \(3, 3\)"),
        ("columns", [(2, 3)], {"start": 2, "count": 2}, "2 columns from 2 on are not in x of 3 columns"),
        ("columns", [(2, 3)], {"start": -1, "count": 2}, "2 columns from -1 on are not in x of 3 columns"),
    ],
)
def test_wrong_calls(name: str, inputs: Any, params: Any, message: str) -> None:
    how = {"stride": (2, 2), "padding": (0, 0), "ceil_mode": False, "count_include_pad": True, "divisor": 0}
    if name.startswith("avg"):
        params = how | {"kernel_size": (2, 2)} | params
    with pytest.raises(fn.ShapeError, match=message):
        TABLE[name](*(None if shape is None else random(shape, "float32") for shape in inputs), **params)
