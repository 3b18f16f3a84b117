"""SGD against PyTorch's, step by step; which parameters are updated; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.optim import Optimizer

every_backend = pytest.mark.parametrize("backend", list(backends()))
LAYERS = ((3, 4), (4, 4), (4, 2))
Makes = Callable[[Any], Any]


def batches(count: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.standard_normal((8, 3)), rng.integers(0, 2, 8)


class Pair:
    """A network in fastnn and the same one in PyTorch, in float64, trained alike; `skip` leaves layers out."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")
        nn = self.torch.nn
        self.ours = [fn.Linear(i, o, dtype="float64") for i, o in LAYERS]
        self.theirs = [nn.Linear(i, o, dtype=self.torch.float64) for i, o in LAYERS]
        for mine, its in zip(self.ours, self.theirs, strict=True):
            mine.load_state_dict({key: value.numpy() for key, value in its.state_dict().items()})

    def step(self, x: Array, y: Array, optimizers: Any, skip: tuple[int, ...] = ()) -> None:
        """One step of both, with a pair (ours, theirs) of optimizers."""
        torch, used = self.torch, [i for i in range(len(LAYERS)) if i not in skip]
        mine, its = optimizers
        scores, backward = fn.Sequential(*(self.ours[i] for i in used)).forward(x, train=True)
        _, loss_backward = fn.CrossEntropyLoss().forward(scores, y)
        backward(loss_backward())
        mine.step()

        its.zero_grad()
        scores = torch.from_numpy(x)
        for i in used:
            scores = self.theirs[i](scores)
        torch.nn.functional.cross_entropy(scores, torch.from_numpy(y)).backward()
        its.step()

    def optimizers(self, groups: Callable[[list[Any]], Any] | None = None, **options: Any) -> tuple[fn.SGD, Any]:
        """An SGD of each; `groups` makes the parameters from the layers, all of them by default."""
        groups = groups or (lambda layers: [p for layer in layers for p in layer.parameters()])
        return fn.SGD(groups(self.ours), **options), self.torch.optim.SGD(groups(self.theirs), **options)

    def assert_equal(self) -> None:
        for i, (mine, its) in enumerate(zip(self.ours, self.theirs, strict=True)):
            for key, value in its.state_dict().items():
                message = f"layer {i}, {key}"
                np.testing.assert_allclose(
                    mine.state_dict()[key], value.numpy(), rtol=1e-10, atol=1e-12, err_msg=message
                )


# --- against PyTorch --------------------------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {},
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.1, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05, "nesterov": True},
    {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05, "dampening": 0.5, "maximize": True},
    {"lr": 0.1, "maximize": True},
    {"lr": 0.0, "momentum": 0.9},
]


@every_backend
@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()) or "defaults"
)
def test_as_pytorchs(options: dict[str, Any], backend: str) -> None:
    pair = Pair()
    optimizers = pair.optimizers(**options)
    with fn.use_backend(backend):
        for x, y in batches(7):
            pair.step(x, y, optimizers)
            pair.assert_equal()


@given(
    st.floats(0, 0.5),
    st.floats(0, 1.5),
    st.floats(-0.5, 1.5),
    st.floats(0, 0.3),
    st.booleans(),
    st.booleans(),
    st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_any_options_are_as_pytorchs(
    lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool, steps: int
) -> None:
    nesterov = nesterov and momentum > 0
    pair = Pair()
    optimizers = pair.optimizers(
        lr=lr,
        momentum=momentum,
        dampening=0.0 if nesterov else dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
    )
    for x, y in batches(steps):
        pair.step(x, y, optimizers)
    pair.assert_equal()


def test_groups() -> None:
    pair = Pair()
    optimizers = pair.optimizers(
        lambda layers: [
            {"params": [layers[0].weight, layers[2].bias], "lr": 0.5, "momentum": 0.0},
            {"params": layers[1].parameters(), "weight_decay": 0.1, "maximize": True},
            {"params": [layers[2].weight], "nesterov": True},
        ],
        lr=0.1,
        momentum=0.9,
    )
    for x, y in batches(5):
        pair.step(x, y, optimizers)
        pair.assert_equal()
    assert [group["lr"] for group in optimizers[0].param_groups] == [0.5, 0.1, 0.1]


def test_options_may_be_changed_between_steps() -> None:
    pair = Pair()
    optimizers = pair.optimizers(lr=0.1, momentum=0.9)
    for i, (x, y) in enumerate(batches(9)):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            optimizer.param_groups[0]["weight_decay"] = 0.01 * i
            optimizer.param_groups[0]["momentum"] = (0.9, 0.5, 0.0)[i % 3]
        pair.step(x, y, optimizers)
        pair.assert_equal()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unused_parameters_are_skipped(momentum: float) -> None:
    """Also their momentum: it begins with a parameter's own first gradient."""
    pair = Pair()
    optimizers = pair.optimizers(lr=0.1, momentum=momentum, dampening=0.5 if momentum else 0.0, weight_decay=0.1)
    for (x, y), skip in zip(batches(6), ((1,), (1,), (), (1,), (), ()), strict=True):
        before = pair.ours[1].state_dict()
        pair.step(x, y, optimizers, skip)
        pair.assert_equal()
        assert all((value == before[key]).all() for key, value in pair.ours[1].state_dict().items()) == bool(skip)


def test_frozen_parameters_are_skipped() -> None:
    pair = Pair()
    optimizers = pair.optimizers(lr=0.1, momentum=0.9, weight_decay=0.1)
    for (x, y), frozen in zip(batches(6), (True, False, False, True, True, False), strict=True):
        for layer in (pair.ours[1], pair.theirs[1]):
            layer.requires_grad_(not frozen)
        before = pair.ours[1].state_dict()
        pair.step(x, y, optimizers)
        pair.assert_equal()
        assert all((value == before[key]).all() for key, value in pair.ours[1].state_dict().items()) == frozen


def test_a_parameter_frozen_after_its_gradient_is_not_updated() -> None:
    layer = fn.Linear(2, 2)
    optimizer = fn.SGD(layer.parameters(), lr=0.1)
    y, backward = layer.forward(np.ones((1, 2), np.float32), train=True)
    backward(y + 1)
    before = layer.state_dict()
    layer.weight.requires_grad = False
    optimizer.step()
    changed = {key for key, value in layer.state_dict().items() if (value != before[key]).any()}
    assert changed == {"bias"}


def test_two_optimizers_on_the_same_parameters() -> None:
    pair = Pair()
    all_of_them = pair.optimizers(lr=0.1, momentum=0.9)
    some = pair.optimizers(
        lambda layers: [layers[2].bias, layers[0].weight, layers[1].weight], lr=0.05, momentum=0.5, weight_decay=0.1
    )
    for i, (x, y) in enumerate(batches(8)):
        pair.step(x, y, (all_of_them, some)[i % 3 == 1])
        if i % 3 == 1:  # it leaves gradients of the other parameters behind
            for layer in (*pair.ours, *pair.theirs):
                layer.zero_grad()
        pair.assert_equal()


@every_backend
def test_both_dtypes_in_one_optimizer(backend: str) -> None:
    torch = pytest.importorskip("torch")
    values = [np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3) for dtype in ("float32", "float64")]
    gradients = [np.ones((2, 3), value.dtype) * 0.3 for value in values]
    ours = [fn.Parameter(value) for value in values]
    theirs = [torch.tensor(value, requires_grad=True) for value in values]
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    with fn.use_backend(backend):
        mine, its = fn.SGD(ours, **options), torch.optim.SGD(theirs, **options)
        for _ in range(3):
            for p, q, gradient in zip(ours, theirs, gradients, strict=True):
                p.grad[...], p.used = gradient, True
                q.grad = torch.tensor(gradient)
            mine.step()
            its.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-6 if p.dtype == np.float32 else 1e-13)


# --- by itself --------------------------------------------------------------------------------------------------------


def test_filters_move_into_the_buffer_and_back_unchanged() -> None:
    conv = fn.Conv2d(3, 5, (2, 3))
    before = conv.state_dict()
    for _ in range(2):
        fn.SGD(conv.parameters(), lr=0.1)
        assert all((value == before[key]).all() for key, value in conv.state_dict().items())


def test_a_gradient_survives_the_move_to_another_optimizer() -> None:
    layer = fn.Linear(3, 2)
    first = fn.SGD(layer.parameters(), lr=0.1)
    y, backward = layer.forward(np.ones((4, 3), np.float32), train=True)
    backward(y)
    gradient, before = layer.weight.grad.copy(), layer.weight.data.copy()
    fn.SGD(layer.parameters(), lr=9)
    assert (layer.weight.grad == gradient).all() and gradient.any()
    first.step()
    np.testing.assert_allclose(layer.weight.data, before - np.float32(0.1) * gradient, rtol=1e-6)


def test_zero_grad_ends_the_step() -> None:
    layer = fn.Linear(3, 2)
    optimizer = fn.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    before = layer.state_dict()
    y, backward = layer.forward(np.ones((4, 3), np.float32), train=True)
    backward(y)
    optimizer.zero_grad()
    assert not layer.weight.grad.any()
    optimizer.step()  # there is no gradient
    assert all((value == before[key]).all() for key, value in layer.state_dict().items())


def test_a_step_ends_the_step() -> None:
    layer = fn.Linear(3, 2)
    optimizer = fn.SGD(layer.parameters(), lr=0.0)
    x = np.ones((4, 3), np.float32)
    for _ in range(3):
        y, backward = layer.forward(x, train=True)
        backward(np.ones_like(y))
        assert (layer.weight.grad == 4).all()  # not 8, not 12
        optimizer.step()


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "lr": (lambda: fn.SGD(lr=-1), ValueError, "SGD: expected lr of at least 0, got -1"),
    "NaN": (lambda: fn.SGD(lr=float("nan")), ValueError, "SGD: expected lr of at least 0, got nan"),
    "momentum": (lambda: fn.SGD(momentum=-0.1), ValueError, "SGD: expected momentum of at least 0"),
    "weight decay": (lambda: fn.SGD(weight_decay=-1), ValueError, "SGD: expected weight_decay of at least 0"),
    "nesterov": (lambda: fn.SGD(nesterov=True), ValueError, "SGD: nesterov needs a momentum above 0"),
    "dampened nesterov": (
        lambda: fn.SGD(momentum=0.9, dampening=0.1, nesterov=True),
        ValueError,
        "SGD: nesterov needs .* no dampening",
    ),
    "empty": (lambda: fn.SGD([]), ValueError, "SGD: got no parameters"),
    "arrays": (lambda: fn.SGD([np.ones(3)]), TypeError, "SGD: expected parameters, got ndarray"),  # type: ignore[arg-type]
    "layers": (lambda: fn.SGD([fn.ReLU()]), TypeError, "SGD: expected parameters, got ReLU"),  # type: ignore[arg-type]
    "twice": (lambda: fn.SGD([fn.Linear(1, 1).weight] * 2), ValueError, "SGD: a parameter appears twice"),
    "in two groups": (
        lambda: fn.SGD([{"params": [p]} for p in [fn.Linear(1, 1).weight] * 2]),
        ValueError,
        "SGD: a parameter appears twice",
    ),
    "unknown option": (
        lambda: fn.SGD([{"params": fn.Linear(1, 1).parameters(), "beta": 1}]),
        ValueError,
        "SGD: a group has 'params' and any of .*'lr'.*, got .*'beta'",
    ),
    "no params": (lambda: fn.SGD([{"lr": 1}]), ValueError, "SGD: a group has 'params'"),
    "option of a group": (
        lambda: fn.SGD([{"params": fn.Linear(1, 1).parameters(), "lr": -1}]),
        ValueError,
        "SGD: expected lr of at least 0",
    ),
    "unbound": (lambda: fn.SGD(lr=1).step(), ValueError, r"SGD has no parameters: pass model\.parameters\(\)"),
    "bound twice": (
        lambda: fn.SGD(fn.Linear(1, 1).parameters()).bind(fn.Linear(1, 1).parameters()),
        ValueError,
        "SGD has its parameters already",
    ),
    "base": (lambda: Optimizer(None), TypeError, "Optimizer does not define"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_momentum_switched_on_later_starts_its_buffer_then() -> None:
    torch = pytest.importorskip("torch")
    start, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    p = fn.Parameter(start.copy())
    q = torch.nn.Parameter(torch.tensor(start))
    ours, theirs = fn.SGD([p], lr=0.1, dampening=0.5), torch.optim.SGD([q], lr=0.1, dampening=0.5)
    for momentum in (0.0, 0.9, 0.9, 0.0, 0.9):
        ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = momentum
        p.grad[...], p.used = gradient, True
        q.grad = torch.tensor(gradient)
        ours.step()
        theirs.step()
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12)
