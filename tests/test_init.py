"""Initial values: PyTorch's functions and formulas, PyTorch's very draws, and states that are saved and restored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import init
from fastnn._kernels import Array
from fastnn._torch_draws import TorchGenerator, _multiply_add

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: Around 8 and 16 numbers, at which PyTorch begins to draw in vectors, and far above.
SIZES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 1000, 65_537)


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch, on a processor on which it multiplies and adds at once."""
    torch = pytest.importorskip("torch")
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("PyTorch's draws are others without AVX2 and FMA")
    state = torch.get_rng_state()
    yield torch
    torch.set_rng_state(state)


# --- PyTorch's draws ----------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("seed", [0, 12321, 2**32 + 5, -3])
def test_the_generator_draws_what_pytorch_draws(torch: Any, seed: int, dtype: str) -> None:
    """One after the other, so that what is left over of one draw is there in the next."""
    torch.manual_seed(seed)
    ours = TorchGenerator(seed)
    for size in SIZES:
        theirs = torch.empty(size, dtype=getattr(torch, dtype))
        for low, high in ((0.0, 1.0), (-0.1, 0.1), (-1 / math.sqrt(784), 1 / math.sqrt(784)), (-1e-3, 1000.0)):
            assert ours.uniform(low, high, (size,), dtype).tobytes() == theirs.uniform_(low, high).numpy().tobytes()
        for mean, std in ((0.0, 1.0), (0.5, 0.3), (0.0, 0.02)):
            assert ours.normal(mean, std, (size,), dtype).tobytes() == theirs.normal_(mean, std).numpy().tobytes()


LAYERS: dict[str, tuple[Callable[[], fn.Layer], Callable[[Any], Any]]] = {
    "linear": (lambda: fn.Linear(784, 10), lambda nn: nn.Linear(784, 10)),
    "small linear": (lambda: fn.Linear(2, 3, bias=False), lambda nn: nn.Linear(2, 3, bias=False)),
    "conv": (lambda: fn.Conv2d(1, 32, 3), lambda nn: nn.Conv2d(1, 32, 3)),
    "conv without bias": (lambda: fn.Conv2d(2, 3, 2, bias=False), lambda nn: nn.Conv2d(2, 3, 2, bias=False)),
    "grouped conv": (lambda: fn.Conv2d(4, 6, (3, 2), groups=2), lambda nn: nn.Conv2d(4, 6, (3, 2), groups=2)),
    "a chain": (
        lambda: fn.Sequential(fn.Conv2d(1, 8, 3), fn.ReLU(), fn.Dropout(), fn.Flatten(), fn.Linear(32, 5)),
        lambda nn: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(32, 5)),
    ),
    "attention": (lambda: fn.MultiheadAttention(12, 3), lambda nn: nn.MultiheadAttention(12, 3)),
    "attention to others": (
        lambda: fn.MultiheadAttention(12, 3, kdim=5, vdim=7, bias=False),
        lambda nn: nn.MultiheadAttention(12, 3, kdim=5, vdim=7, bias=False),
    ),
    "transformer layer": (lambda: fn.TransformerEncoderLayer(8, 2, 9), lambda nn: nn.TransformerEncoderLayer(8, 2, 9)),
    "a large one": (lambda: fn.Linear(1600, 128), lambda nn: nn.Linear(1600, 128)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_weights_that_pytorchs_have(torch: Any, name: str) -> None:
    ours, theirs = LAYERS[name]
    fn.init.torch_manual_seed(12321)
    torch.manual_seed(12321)
    for _ in range(2):  # the second ones go on where the first ones ended
        found, expected = ours().state_dict(), theirs(torch.nn).state_dict()
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert found[key].tobytes() == value.numpy().tobytes(), key


def test_layers_in_float64_have_pytorchs_weights(torch: Any) -> None:
    fn.init.torch_manual_seed(1)
    torch.manual_seed(1)
    found, expected = fn.Linear(50, 7, dtype="float64"), torch.nn.Linear(50, 7, dtype=torch.float64)
    for key, value in expected.state_dict().items():
        assert found.state_dict()[key].tobytes() == value.numpy().tobytes()


@pytest.mark.parametrize("sizes", [(3, 2, 1), (2, 4, 2), (384, 256, 2), (5, 16, 1)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_parameters_of_gru_sizes_have_pytorchs_values(torch: Any, sizes: Any, bidirectional: bool) -> None:
    torch.manual_seed(7)
    theirs = torch.nn.GRU(*sizes, bidirectional=bidirectional)
    fn.init.torch_manual_seed(7)
    bound = 1 / math.sqrt(sizes[1])
    for name, value in theirs.named_parameters():
        ours = init.uniform_(fn.Parameter(np.zeros(tuple(value.shape), np.float32)), -bound, bound)
        assert ours.data.tobytes() == value.detach().numpy().tobytes(), name


@pytest.mark.parametrize("shape", [(3, 4), (5, 3), (30522, 3), (4, 4)])
def test_parameters_of_embedding_sizes_have_pytorchs_values(torch: Any, shape: tuple[int, int]) -> None:
    torch.manual_seed(7)
    theirs = torch.nn.Embedding(*shape).weight.detach().numpy()
    fn.init.torch_manual_seed(7)
    assert init.normal_(np.empty(shape, np.float32)).tobytes() == theirs.tobytes()


@every_dtype
def test_functions_draw_what_pytorchs_draw(torch: Any, dtype: str) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        *(("uniform_", a) for a in ((), (-0.25, 3.0))),
        *(("normal_", a) for a in ((), (1.0, 0.1))),
        *(("constant_", (0.3,)), ("zeros_", ()), ("ones_", ())),
        *(("xavier_uniform_", ()), ("xavier_uniform_", (1.5,)), ("xavier_normal_", ())),
        *(
            ("kaiming_uniform_", ()),
            ("kaiming_uniform_", (math.sqrt(5),)),
            ("kaiming_normal_", (0.0, "fan_out", "relu")),
        ),
        *(("kaiming_normal_", (0.2,)), ("kaiming_normal_", (0.0, "fan_in", "tanh"))),
    ]
    for shape in ((3, 4), (6, 2, 3, 3), (40, 30)):
        for name, arguments in calls:
            fn.init.torch_manual_seed(3)
            torch.manual_seed(3)
            theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=getattr(torch, dtype)), *arguments).numpy()
            ours = getattr(init, name)(np.empty(shape, dtype), *arguments)
            assert ours.tobytes() == theirs.tobytes(), (name, shape)


@every_dtype
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (4, 3, 2, 2), (2, 1)])
def test_orthogonal_is_pytorchs(torch: Any, shape: tuple[int, ...], dtype: str) -> None:
    fn.init.torch_manual_seed(3)
    torch.manual_seed(3)
    theirs = torch.nn.init.orthogonal_(torch.empty(shape, dtype=getattr(torch, dtype)), 2.0).numpy()
    np.testing.assert_allclose(init.orthogonal_(np.empty(shape, dtype), 2.0), theirs, atol=1e-5)


def test_gains_are_pytorchs(torch: Any) -> None:
    for name, *param in (
        *(("linear",), ("conv1d",), ("conv_transpose3d",), ("sigmoid",), ("tanh",), ("relu",), ("selu",)),
        *(("leaky_relu",), ("leaky_relu", 0.2), ("leaky_relu", 3)),
    ):
        assert init.calculate_gain(name, *param) == torch.nn.init.calculate_gain(name, *param)


def test_after_manual_seed_the_draws_are_numpys_again() -> None:
    fn.manual_seed(3)
    expected = fn.Linear(4, 5).weight.data.copy()
    fn.init.torch_manual_seed(3)
    assert (fn.Linear(4, 5).weight.data != expected).any()
    fn.manual_seed(3)
    assert (fn.Linear(4, 5).weight.data == expected).all()


def test_products_and_sums_are_rounded_once() -> None:
    """Against exact arithmetic, where one rounding and two differ."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for dtype, bits in (("float32", 24), ("float64", 53)):
        a, b = (rng.standard_normal(3000).astype(dtype) for _ in range(2))
        c = -(a * b) * rng.choice(np.array([1, 1, 2.0**-bits, 2.0**bits, 0], dtype), 3000)  # cancellation, and ties
        for x, y, z, found in zip(a, b, c, _multiply_add(a, b, c), strict=True):
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            near = [np.nextafter(found, np.array(to, dtype)) for to in (-np.inf, np.inf)]
            distance = abs(Fraction(float(found)) - exact)
            assert all(distance <= abs(Fraction(float(other)) - exact) for other in near)


# --- the formulas, by the distribution that is drawn ----------------------------------------------------------------


@every_dtype
def test_what_is_drawn_has_the_stated_spread(dtype: str) -> None:
    shape = 64, 48, 3, 3  # fan in 432, fan out 576
    for draw, std in (
        (lambda p: init.uniform_(p, -3, 1), 4 / math.sqrt(12)),
        (lambda p: init.normal_(p, 5, 0.2), 0.2),
        (lambda p: init.xavier_uniform_(p, 2), 2 * math.sqrt(2 / 1008)),
        (lambda p: init.xavier_normal_(p), math.sqrt(2 / 1008)),
        (lambda p: init.kaiming_uniform_(p, mode="fan_out"), math.sqrt(2 / 576)),
        (lambda p: init.kaiming_normal_(p, nonlinearity="relu"), math.sqrt(2 / 432)),
    ):
        p = fn.Parameter(np.zeros(shape, dtype), order=(2, 3, 1, 0))
        data = p.data
        assert draw(p) is p and p.data is data and p.dtype == dtype
        assert data.std() == pytest.approx(std, rel=0.02)


def test_orthogonal_rows_or_columns() -> None:
    tall, wide = init.orthogonal_(np.empty((9, 4))), init.orthogonal_(np.empty((3, 2, 2)), 2.0).reshape(3, 4)
    np.testing.assert_allclose(tall.T @ tall, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(wide @ wide.T, 4 * np.eye(3), atol=1e-12)


def test_apply_reaches_every_layer_inner_ones_first() -> None:
    model = fn.Sequential(fn.Sequential(fn.Linear(2, 3)), fn.ReLU(), fn.Linear(3, 1))
    seen: list[fn.Layer] = []

    def reset(layer: fn.Layer) -> None:
        seen.append(layer)
        if isinstance(layer, fn.Linear):
            init.constant_(layer.weight, 0.5)

    assert model.apply(reset) is model
    assert [type(layer).__name__ for layer in seen] == ["Linear", "Sequential", "ReLU", "Linear", "Sequential"]
    assert all((model.state_dict()[key] == 0.5).all() for key in ("0.0.weight", "2.weight"))


def test_weights_are_zeros_in_blank() -> None:
    shape = 3, 3
    assert (init.filled(shape, 2, "float64") == 2).all() and init.normal(shape, "float64").std() > 0
    with init.blank(27):
        for made in (
            init.normal(shape, "float32"),
            init.filled(shape, 1, "float32"),
            init.uniform(shape, 1, "float32"),
        ):
            assert (made == 0).all()
        with pytest.raises(fn.ShapeError, match="more than the 0 numbers that are left"):
            init.filled((1,), 0, "float32")


# --- states -----------------------------------------------------------------------------------------------------------


def draws() -> list[Array]:
    """Of every kind: weights, in odd numbers, a layer with random bits, a shuffle."""
    dropout = fn.Dropout()
    odd = init.normal_(np.empty(3, np.float32))
    return [odd, fn.Linear(3, 5).weight.data, dropout.state, init.generator().permutation(9)]


@pytest.mark.parametrize("seed", [fn.manual_seed, fn.init.torch_manual_seed])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_restored_state_goes_on_with_the_same_draws(seed: Callable[[int], None], before: int) -> None:
    seed(5)
    for _ in range(before):
        draws()
    state = json.loads(json.dumps(init.get_state()))
    expected = draws()
    fn.manual_seed(99)
    draws()
    for _ in range(2):
        init.set_state(state)
        for found, wanted in zip(draws(), expected, strict=True):
            assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("state", [{}, {"seed": 1, "streams": 0, "generator": 3, "torch": None}, None])
def test_a_state_that_is_none_is_refused_and_changes_nothing(state: Any) -> None:
    fn.manual_seed(5)
    before = init.get_state()
    with pytest.raises(ValueError, match=r"^set_state: expected what get_state returned"):
        init.set_state(state)
    assert init.get_state() == before


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one dimension": (
        lambda: init.kaiming_uniform_(np.ones(3)),
        fn.ShapeError,
        r"expected weights .* got shape \(3,\)",
    ),
    "no rows": (lambda: init.orthogonal_(np.ones(3)), fn.ShapeError, r"orthogonal_: .* got shape \(3,\)"),
    "integers": (lambda: init.ones_(np.zeros(3, int)), fn.DTypeError, "expected a Parameter or an array of float32"),
    "a list": (lambda: init.zeros_([1.0]), fn.DTypeError, "got list"),
    "mode": (lambda: init.kaiming_normal_(np.ones((2, 2)), mode="in"), ValueError, "expected mode"),
    "function": (lambda: init.calculate_gain("step"), ValueError, "unknown nonlinearity 'step'"),
    "slope": (lambda: init.calculate_gain("leaky_relu", "1"), ValueError, "slope"),  # type: ignore[arg-type]
    "std": (lambda: init.normal_(np.ones(2), 0, -1), ValueError, "normal_: expected std of at least 0, got -1"),
    "bounds": (lambda: init.uniform_(np.ones(2), 1, 0), ValueError, "uniform_: expected a of at most b"),
    "infinity": (lambda: init.uniform_(np.ones(2), 0, math.inf), ValueError, "uniform_: expected a finite b"),
    "seed": (lambda: init.torch_manual_seed(2**64), ValueError, r"torch_manual_seed: .* below 2\*\*64"),
    "low seed": (lambda: init.torch_manual_seed(-(2**63) - 1), ValueError, "torch_manual_seed: expected a whole"),
    "real seed": (lambda: init.torch_manual_seed(1.0), ValueError, "torch_manual_seed: expected a whole"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
