"""RMSprop, Adagrad, Adam, AdamW and gradient clipping against PyTorch's; their state; and in captured steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.optim import Optimizer

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
SHAPES = ((3, 4), (5,), (7, 2, 3), (1,))
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.8}),
    ("RMSprop", {"alpha": 0.7, "centered": True, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.8, "centered": True, "momentum": 0.5, "maximize": True, "eps": 1e-2}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adagrad", {"lr": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.3, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.0)}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "maximize": True}),
]
every_case = pytest.mark.parametrize(
    "name,options",
    [pytest.param(name, o, id="-".join([name, *(f"{k}={v}" for k, v in o.items())])) for name, o in CASES],
)


class Pair:
    """The same parameters in fastnn and in PyTorch, given the same gradients."""

    def __init__(self, dtype: str = "float64") -> None:
        self.torch = pytest.importorskip("torch")
        self.rng = np.random.default_rng(1)
        self.dtype = dtype
        values = [self.rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
        order = {3: (2, 0, 1)}
        self.ours = [fn.Parameter(value, order.get(value.ndim)) for value in values]
        self.theirs = [self.torch.nn.Parameter(self.torch.tensor(value)) for value in values]

    def optimizers(self, name: str, options: dict[str, Any], split: bool = False) -> tuple[Any, Any]:
        """One of each; `split` makes two groups."""
        both = []
        for module, parameters in ((fn, self.ours), (self.torch.optim, self.theirs)):
            groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.3}] if split else parameters
            both.append(getattr(module, name)(groups, **options))
        return both[0], both[1]

    def gradients(self, skip: Sequence[int] = (), scale: float = 1.0) -> None:
        """New gradients of all parameters but some."""
        for i, (p, q) in enumerate(zip(self.ours, self.theirs, strict=True)):
            gradient = (scale * self.rng.standard_normal(p.shape)).astype(self.dtype)
            p.grad[...], p.used = gradient, i not in skip
            q.grad = None if i in skip else self.torch.tensor(gradient)

    def step(self, optimizers: tuple[Any, Any], skip: Sequence[int] = ()) -> None:
        """A step of both."""
        self.gradients(skip)
        for optimizer in optimizers:
            optimizer.step()

    def assert_equal(self) -> None:
        close = {"rtol": 1e-10, "atol": 1e-12} if self.dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
        for i, (p, q) in enumerate(zip(self.ours, self.theirs, strict=True)):
            np.testing.assert_allclose(p.data, q.detach().numpy(), **close, err_msg=f"parameter {i}")


# --- against PyTorch --------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@every_case
def test_as_pytorchs(name: str, options: dict[str, Any], dtype: str, backend: str) -> None:
    """Also where parameters have no gradient in some steps, so that their step counts differ."""
    pair = Pair(dtype)
    optimizers = pair.optimizers(name, options)
    with fn.use_backend(backend):
        for skip in ((), (1,), (1, 2), (), (0,), ()):
            pair.step(optimizers, skip)
            pair.assert_equal()


@every_case
def test_groups_and_options_that_change(name: str, options: dict[str, Any]) -> None:
    pair = Pair()
    optimizers = pair.optimizers(name, options, split=True)
    for i in range(5):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            optimizer.param_groups[1]["weight_decay"] = 0.1 * i
        pair.step(optimizers)
        pair.assert_equal()


@given(
    st.floats(0, 0.5),
    st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    st.floats(1e-4, 1),
    st.floats(0, 0.3),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_options_of_adam(
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, maximize: bool
) -> None:
    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    for name in ("Adam", "AdamW"):
        pair = Pair()
        optimizers = pair.optimizers(name, {**options, "amsgrad": amsgrad, "maximize": maximize})
        for _ in range(4):
            pair.step(optimizers)
            pair.assert_equal()


@every_backend
def test_adam_without_bias_correction(backend: str) -> None:
    value, gradients = np.array([1.0, -2.0]), np.array([[0.5, -1.0], [0.25, 3.0], [-1.0, 0.0]])
    p = fn.Parameter(value.copy())
    optimizer = fn.Adam([p], lr=0.1, bias_correction=False)
    m, v = np.zeros(2), np.zeros(2)
    with fn.use_backend(backend):
        for g in gradients:
            p.grad[...], p.used = g, True
            optimizer.step()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            value -= 0.1 * m / (np.sqrt(v) + 1e-8)
            np.testing.assert_allclose(p.data, value, rtol=1e-12)


@pytest.mark.parametrize("name", ["RMSprop", "Adagrad", "Adam", "AdamW"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(name: str, bad: float) -> None:
    pair = Pair()
    optimizers = pair.optimizers(name, {})
    for i in range(3):
        pair.gradients()
        if i == 1:
            pair.ours[0].grad[0, 0] = bad
            pair.theirs[0].grad[0, 0] = bad
        for optimizer in optimizers:
            optimizer.step()
        pair.assert_equal()


@every_backend
@every_dtype
def test_roots_are_as_exact_as_numbers_are(dtype: str, backend: str) -> None:
    """Adagrad's first step by the rate 1 is g / √g²."""
    rng = np.random.default_rng(0)
    p = fn.Parameter(np.zeros(10_000, dtype))
    p.grad[...], p.used = rng.choice([-1, 1], 10_000) * 10 ** rng.uniform(-18, 18, 10_000), True
    with fn.use_backend(backend):
        fn.Adagrad([p], lr=1.0, eps=0.0).step()
    assert np.abs(p.data + np.sign(p.grad)).max() <= 4 * np.finfo(dtype).eps


def test_an_infinite_weight_stays_infinite_without_decay() -> None:
    for make in (fn.RMSprop, fn.Adagrad, fn.Adam, fn.AdamW):
        p = fn.Parameter(np.array([math.inf, 1.0]))
        optimizer = make([p])
        p.grad[...], p.used = 1, True
        optimizer.step()
        assert p.data[0] == math.inf and np.isfinite(p.data[1])


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "lr": (lambda: fn.Adam(lr=-1), ValueError, "Adam: expected lr of at least 0, got -1"),
    "eps": (lambda: fn.AdamW(eps=-1), ValueError, "AdamW: expected eps of at least 0, got -1"),
    "betas": (lambda: fn.Adam(betas=(0.9, 1.0)), ValueError, "Adam: expected two betas from 0 to below 1"),
    "one beta": (lambda: fn.Adam(betas=0.9), ValueError, "Adam: expected two betas"),  # type: ignore[arg-type]
    "alpha": (lambda: fn.RMSprop(alpha=-1), ValueError, "RMSprop: expected alpha of at least 0"),
    "momentum": (
        lambda: fn.RMSprop(momentum=math.nan),
        ValueError,
        "RMSprop: expected momentum of at least 0, got nan",
    ),
    "lr_decay": (lambda: fn.Adagrad(lr_decay=-1), ValueError, "Adagrad: expected lr_decay of at least 0"),
    "begin": (
        lambda: fn.Adagrad(initial_accumulator_value=-1),
        ValueError,
        "Adagrad: expected initial_accumulator_value of at least 0",
    ),
    "two clips": (
        lambda: fn.SGD(clip_norm=1, clip_value=1),
        ValueError,
        "SGD: expected clip_norm or clip_value, got both",
    ),
    "clip": (lambda: fn.Adam(clip_norm=-1), ValueError, "Adam: expected clip_norm of at least 0, got -1"),
    "max_norm": (lambda: fn.clip_grad_norm_([], math.nan), ValueError, "clip_grad_norm_: expected max_norm"),
    "norm_type": (lambda: fn.clip_grad_norm_([], 1, 0), ValueError, "clip_grad_norm_: expected norm_type above 0"),
    "clip_value": (lambda: fn.clip_grad_value_([], -1), ValueError, "clip_grad_value_: expected clip_value"),
    "unbound state": (lambda: fn.Adam().state_dict(), ValueError, "Adam has no parameters"),
    "base": (lambda: Optimizer(None), TypeError, "Optimizer does not define"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        call()


# --- clipping ---------------------------------------------------------------------------------------------------------


def clipped(pair: Pair, norm_type: float, max_norm: float) -> None:
    """Clip both and compare norms and gradients."""
    norm = fn.clip_grad_norm_(pair.ours, max_norm, norm_type)
    expected = pair.torch.nn.utils.clip_grad_norm_(pair.theirs, max_norm, norm_type)
    close = {"rtol": 1e-12} if pair.dtype == "float64" else {"rtol": 1e-5}
    np.testing.assert_allclose(norm, float(expected), **close)
    assert_gradients(pair, close)


def assert_gradients(pair: Pair, close: dict[str, float]) -> None:
    for p, q in zip(pair.ours, pair.theirs, strict=True):
        if q.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy(), **close)


@every_backend
@every_dtype
@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf, 3.0, 0.5])
@pytest.mark.parametrize("max_norm", [0.1, 1e6, 0.0])
def test_clip_grad_norm(norm_type: float, max_norm: float, dtype: str, backend: str) -> None:
    pair = Pair(dtype)
    pair.gradients(skip=(1,))
    before = pair.ours[1].grad.copy()
    with fn.use_backend(backend):
        clipped(pair, norm_type, max_norm)
    assert (pair.ours[1].grad == before).all()  # it is of no step


@pytest.mark.parametrize("norm_type", [2.0, math.inf])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_norms_that_are_not_finite(norm_type: float, bad: float) -> None:
    pair = Pair()
    pair.gradients()
    pair.ours[0].grad[1, 1] = bad
    pair.theirs[0].grad[1, 1] = bad
    with pytest.raises(RuntimeError, match=r"^clip_grad_norm_: the norm of order"):
        fn.clip_grad_norm_(pair.ours, 1.0, norm_type, error_if_nonfinite=True)
    clipped(pair, norm_type, 1.0)


def test_a_norm_that_was_nan_is_forgotten() -> None:
    """It must not stay in the gaps between parameters, which are part of the next norm."""
    pair = Pair()
    optimizer = fn.SGD(pair.ours)
    pair.gradients()
    pair.ours[0].grad[0, 0] = math.nan
    assert math.isnan(fn.clip_grad_norm_(pair.ours, 1.0))
    optimizer.zero_grad()
    pair.gradients()
    clipped(pair, 2.0, 1.0)


def test_a_parameter_that_comes_twice_counts_once() -> None:
    p = fn.Parameter(np.zeros(4))
    p.grad[...], p.used = 2, True
    assert fn.clip_grad_norm_([p, p], 1.0) == 4
    np.testing.assert_allclose(p.grad, 0.5, rtol=1e-6)


def test_frozen_gradients_do_not_count() -> None:
    pair = Pair()
    pair.gradients()
    pair.ours[2].requires_grad = False
    pair.theirs[2].grad = None
    clipped(pair, 2.0, 0.5)


def test_nothing_to_clip() -> None:
    assert fn.clip_grad_norm_(fn.Linear(2, 2).parameters(), 1.0) == 0.0


@every_backend
def test_clip_grad_value(backend: str) -> None:
    pair = Pair()
    pair.gradients(scale=2)
    pair.ours[0].grad[0, :3] = math.nan, math.inf, -math.inf
    pair.theirs[0].grad[0, :3] = pair.torch.tensor([math.nan, math.inf, -math.inf])
    with fn.use_backend(backend):
        fn.clip_grad_value_(pair.ours, 0.5)
    pair.torch.nn.utils.clip_grad_value_(pair.theirs, 0.5)
    assert_gradients(pair, {"rtol": 0})


def test_one_parameter_by_itself_is_clipped() -> None:
    p = fn.Parameter(np.zeros(4))
    p.grad[...], p.used = 2, True
    assert fn.clip_grad_norm_(p, 1.0) == 4
    np.testing.assert_allclose(p.grad, 0.5, rtol=1e-6)


@pytest.mark.parametrize("clip", ["norm", "value"])
def test_an_optimizer_clips_before_its_step(clip: str) -> None:
    pair, other = Pair("float32"), Pair("float32")
    optimizer = fn.SGD(
        pair.ours, lr=0.1, clip_norm=0.5 if clip == "norm" else None, clip_value=None if clip == "norm" else 0.5
    )
    plain = fn.SGD(other.ours, lr=0.1)
    for skip in ((), (1,), ()):
        pair.gradients(skip)
        other.gradients(skip)
        optimizer.step()
        (fn.clip_grad_norm_ if clip == "norm" else fn.clip_grad_value_)(other.ours, 0.5)
        plain.step()
        for p, q in zip(pair.ours, other.ours, strict=True):
            assert p.data.tobytes() == q.data.tobytes()
            assert p.grad.tobytes() == q.grad.tobytes()


# --- state ------------------------------------------------------------------------------------------------------------


def assert_same_state(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for key, entry in expected["state"].items():
        assert found["state"][key].keys() == entry.keys()
        for name, value in entry.items():
            assert np.array_equal(found["state"][key][name], value), f"{name} of {key}"


@every_case
def test_a_run_goes_on_from_a_state_with_the_same_bits(name: str, options: dict[str, Any]) -> None:
    first = Pair("float32")
    optimizer = first.optimizers(name, options, split=True)[0]
    for skip in ((), (1,), ()):
        first.gradients(skip)
        optimizer.step()
    second = Pair("float32")
    resumed = second.optimizers(name, {**options, "lr": 0.7}, split=True)[0]
    second.gradients()
    resumed.step()  # what it was does not matter
    for p, q in zip(first.ours, second.ours, strict=True):
        q.data[...] = p.data
    state = optimizer.state_dict()
    resumed.load_state_dict(state)
    assert_same_state(resumed.state_dict(), state)
    first.rng, second.rng = np.random.default_rng(7), np.random.default_rng(7)
    for skip in ((0,), (), ()):
        for pair, each in ((first, optimizer), (second, resumed)):
            pair.gradients(skip)
            each.step()
    for p, q in zip(first.ours, second.ours, strict=True):
        assert p.data.tobytes() == q.data.tobytes()
    assert_same_state(resumed.state_dict(), optimizer.state_dict())


@every_case
def test_state_goes_to_pytorch_and_back(name: str, options: dict[str, Any]) -> None:
    pair = Pair()
    mine, its = pair.optimizers(name, options, split=True)
    for skip in ((), (1,), ()):
        pair.step((mine, its), skip)
    again = pair.optimizers(name, options, split=True)
    again[0].load_state_dict(its.state_dict())
    state = mine.state_dict()
    for entry in state["state"].values():
        for key, value in entry.items():
            entry[key] = pair.torch.tensor(value) if isinstance(value, np.ndarray) else value
    again[1].load_state_dict(state)
    for _ in range(3):
        pair.step(again)
        pair.assert_equal()


def test_a_copy_goes_on_by_itself() -> None:
    pair = Pair()
    optimizer = pair.optimizers("Adam", {}, split=True)[0]
    pair.gradients()
    optimizer.step()
    ours, other = copy.deepcopy((pair.ours, optimizer))
    other.param_groups[0]["lr"] = 0.25
    assert optimizer.param_groups[0]["lr"] == 1e-3
    for each in (pair.ours, ours):
        for p in each:
            p.grad[...], p.used = 1, True
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.25
    other.step()
    assert (ours[0].data != pair.ours[0].data).all()
    for p, q in zip(ours[1:], pair.ours[1:], strict=True):
        assert p.data.tobytes() == q.data.tobytes()


def test_pytorchs_adagrad_takes_a_state_before_the_first_step() -> None:
    pair = Pair()
    mine, its = pair.optimizers("Adagrad", {"initial_accumulator_value": 0.5})
    state = mine.state_dict()
    for entry in state["state"].values():
        entry["sum"] = pair.torch.tensor(entry["sum"])
    its.load_state_dict(state)
    pair.step((mine, its))
    pair.assert_equal()


def test_a_state_lies_in_logical_order_and_is_a_copy() -> None:
    conv = fn.Conv2d(2, 3, 2)
    optimizer = fn.Adam(conv.parameters())
    assert optimizer.state_dict() == {
        "state": {},
        "param_groups": [{**optimizer.defaults, "params": [0, 1]}],
    }
    conv.weight.grad[...], conv.weight.used = np.arange(24).reshape(3, 2, 2, 2), True
    optimizer.step()
    state = optimizer.state_dict()["state"]
    assert list(state) == [0] and state[0]["step"] == 1
    np.testing.assert_allclose(state[0]["exp_avg"], 0.1 * np.arange(24).reshape(3, 2, 2, 2), rtol=1e-6)
    assert state[0]["exp_avg"].flags.c_contiguous
    state[0]["exp_avg"][...] = 9
    assert optimizer.state_dict()["state"][0]["exp_avg"].max() < 9


def test_states_that_do_not_fit_change_nothing() -> None:
    layer = fn.Linear(3, 2)
    optimizer = fn.Adam(layer.parameters(), lr=0.5)
    for p in layer.parameters():
        p.grad[...], p.used = 1, True
    optimizer.step()
    before = optimizer.state_dict()
    other = fn.Adam(fn.Linear(2, 2).parameters(), lr=0.25)
    bad = {**before, "state": {0: {"step": 1, "momentum_buffer": np.zeros((2, 3))}}}
    for state, error, message in (
        (
            fn.SGD([fn.Parameter(np.ones(2))]).state_dict(),
            ValueError,
            r"Adam: expected groups of \[2\] parameters, got \[1\]",
        ),
        (bad, ValueError, "Adam: expected state of .*exp_avg.*, got 'momentum_buffer'"),
        ({**before, "param_groups": [{**before["param_groups"][0], "lr": -1}]}, ValueError, "Adam: expected lr"),
        (
            {**other.state_dict(), "state": {0: {"step": 1, "exp_avg": np.zeros((2, 2))}}},
            fn.ShapeError,
            "Adam: expected exp_avg",
        ),
    ):
        with pytest.raises(error, match=f"^{message}"):
            optimizer.load_state_dict(state)
        assert_same_state(optimizer.state_dict(), before)


# --- captured ---------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(5)
X = RNG.standard_normal((90, 2, 6, 6)).astype(np.float32)
Y = RNG.integers(0, 5, 90)


def network() -> fn.Sequential:
    fn.manual_seed(3)
    return fn.Sequential(fn.Conv2d(2, 6, 3), fn.ReLU(), fn.Flatten(), fn.Dropout(0.3), fn.Linear(96, 5))


def python_step(model: fn.Layer, optimizer: Optimizer, x: Array, y: Array) -> float:
    scores, backward = model.forward(x, train=True)
    loss, loss_backward = fn.CrossEntropyLoss().forward(scores, y)
    backward(loss_backward(), need_dx=False)
    optimizer.step()
    return loss


@needs_native
@every_case
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.1}, {"clip_value": 0.01}], ids=["", "norm", "value"])
def test_a_captured_step_has_the_bits_of_the_loop(name: str, options: dict[str, Any], clip: dict[str, float]) -> None:
    a, b = network(), network()
    one, other = (getattr(fn, name)(model.parameters(), **options, **clip) for model in (a, b))
    step = fn.capture(b, fn.CrossEntropyLoss(), other, X[:20], Y[:20])
    for i, at in enumerate((0, 20, 40, 0, 60)):
        if i == 2:  # an option that kernels read, and one that decides about kernels
            for optimizer in (one, other):
                optimizer.param_groups[0]["weight_decay"] = 0.2
                optimizer.clip_norm = 0.05 if optimizer.clip_value is None else None
        if i == 3:  # from now on the filters have taken fewer steps
            for model in (a, b):
                model[0].requires_grad_(False)
        if i == 4:
            for model in (a, b):
                model[0].requires_grad_(True)
        x, y = X[at : at + 20], Y[at : at + 20]
        assert step(x, y) == python_step(a, one, x, y)
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert p.data.tobytes() == q.data.tobytes()
            assert p.grad.tobytes() == q.grad.tobytes()
    assert_same_state(other.state_dict(), one.state_dict())


@needs_native
def test_a_loaded_state_is_seen_by_a_captured_step() -> None:
    a, b = network(), network()
    one, other = fn.Adam(a.parameters()), fn.Adam(b.parameters())
    step = fn.capture(b, fn.CrossEntropyLoss(), other, X[:20], Y[:20])
    for _ in range(2):
        python_step(a, one, X[:20], Y[:20])
    b.load_state_dict(a.state_dict())
    other.load_state_dict(one.state_dict())
    for model in (a, b):
        model[3].reseed(1, 0)
    assert step(X[20:40], Y[20:40]) == python_step(a, one, X[20:40], Y[20:40])
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.data.tobytes() == q.data.tobytes()


@needs_native
def test_any_number_of_threads_clips_to_the_same_bits(threads: None) -> None:
    gradient = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    found = set()
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        p = fn.Parameter(np.zeros(300_000, np.float32))
        p.grad[...], p.used = gradient, True
        found.add((fn.clip_grad_norm_(p, 1.0), p.grad.tobytes()))
    assert len(found) == 1
