"""Functions of a user's own: taken apart, derived, checked; compiled or in NumPy; in steps, files and checkpoints."""

from __future__ import annotations

import copy
import importlib.util
import linecache
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from conftest import needs_native

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn._kernels.jit import compile as jit
from fastnn._kernels.jit.expression import Expression, apply, variable
from fastnn._kernels.jit.program import elementwise_row
from fastnn.layers.layer import REGISTRY

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
SQRT_2_PI = math.sqrt(2 / math.pi)


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled code of these tests is kept apart."""
    before = os.environ.get("FASTNN_CACHE")
    os.environ["FASTNN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["FASTNN_CACHE"]
    else:
        os.environ["FASTNN_CACHE"] = before


def slope_of_cubic(x: float) -> float:
    return 3 * x * x


def loop(x: float) -> float:
    total = 0.0
    for _ in range(3):
        total += x
    return total


@fn.elementwise
def mish(x):
    return x * math.tanh(math.log1p(math.exp(x)))


@fn.elementwise
def swish(x, beta=1.0):
    return x / (1 + math.exp(-beta * x))


@fn.elementwise
def hard_sigmoid(x):
    """max(0, min(1, x / 6 + ½)), elementwise on any shape."""
    return max(0, min(1, x / 6 + 0.5))


@fn.elementwise
def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(SQRT_2_PI * (x + 0.044715 * x**3)))


@fn.elementwise
def rectified(x):
    return max(x, 0.0)


@fn.elementwise
def own_elu(x, alpha=1.0):
    if x > 0:
        return x
    return alpha * math.expm1(x)


@fn.elementwise
def soft_threshold(x, size=0.5):
    beyond = abs(x) - size
    return math.copysign(beyond, x) if beyond > 0 else 0.0


@fn.elementwise(derivative=lambda x: 3.0 if x == x else x)
def tripled(x):
    total = 0.0
    for _ in range(3):
        total += x
    return total


@fn.elementwise_loss
def log_cosh(prediction, target):
    error = abs(prediction - target)
    return error + math.log1p(math.exp(-2 * error)) - math.log(2)


@fn.elementwise_loss(derivative=lambda prediction, target, q=0.5: -q if prediction < target else 1 - q)
def pinball(prediction, target, q=0.5):
    error = target - prediction
    return max(q * error, (q - 1) * error)


@fn.elementwise_loss
def own_mse(prediction, target):
    return (prediction - target) ** 2


@fn.elementwise_optimizer
def Lion(p, grad, m, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    update = np.sign(beta1 * m + (1 - beta1) * grad)
    return p - lr * (update + weight_decay * p), beta2 * m + (1 - beta2) * grad


@fn.elementwise_optimizer
def SignSGD(p, grad, *, lr=0.01):
    return p - lr * np.sign(grad)


@fn.elementwise_optimizer
def OwnAdam(p, grad, m, v, step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad * grad
    rate = lr / (1 - beta1**step)
    return p - rate * m / (math.sqrt(v / (1 - beta2**step)) + eps), m, v


#: Layers of functions, each with PyTorch's function.
LAYERS: dict[str, tuple[Callable[[], fn.Layer], Callable[[Any], Any]]] = {
    "mish": (mish, lambda f: f.mish),
    "swish": (swish, lambda f: f.silu),
    "hard_sigmoid": (hard_sigmoid, lambda f: f.hardsigmoid),
    "gelu_tanh": (gelu_tanh, lambda f: lambda x: f.gelu(x, approximate="tanh")),
    "rectified": (rectified, lambda f: f.relu),
    "own_elu": (lambda: own_elu(alpha=0.7), lambda f: lambda x: f.elu(x, 0.7)),
    "soft_threshold": (soft_threshold, lambda f: f.softshrink),
    "tripled": (tripled, lambda f: lambda x: x * 3),
}


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    values: Array = 2 * np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return values


def wrong_place(error: pytest.ExceptionInfo[Exception]) -> float:
    """The x that a `GradientError` names."""
    return float(str(error.value).split("at x = ")[1].split(",")[0])


# --- layers -----------------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_as_pytorchs(name: str, dtype: str, backend: str) -> None:
    torch = pytest.importorskip("torch")
    make, theirs = LAYERS[name]
    x = np.concatenate([random((40000,), dtype), np.array([0, -0.0, 100, -100, 1000, -1000, 0.5], dtype)])
    dy = random(x.shape, dtype, seed=1)
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(torch.nn.functional)(tx)
    ty.backward(torch.tensor(dy))
    with fn.use_backend(backend):
        y, backward = make().forward(x, train=True)
        dx = backward(dy)
        assert y.dtype == dx.dtype == dtype and backward(dy, need_dx=False) is None
    tolerance = 2e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, ty.detach(), rtol=tolerance, atol=tolerance)
    if name == "hard_sigmoid":
        tolerance = 1e-6  # PyTorch's gradient has 1/6 in single precision
    np.testing.assert_allclose(dx, tx.grad, rtol=tolerance, atol=tolerance)


@every_backend
@every_dtype
def test_special_values(backend: str, dtype: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0], dtype)
    with fn.use_backend(backend):
        y, backward = rectified().forward(x, train=True)
        np.testing.assert_array_equal(y, np.array([np.nan, np.inf, 0, 0, 0], dtype))
        np.testing.assert_array_equal(backward(np.full(5, 2, dtype)), np.array([2, 2, 0, 0, 0], dtype))
        np.testing.assert_array_equal(mish()(x)[:2], x[:2])
        np.testing.assert_array_equal(own_elu()(x), np.array([np.nan, np.inf, -1, 0, 0], dtype))
        for shape in ((0, 4), (), (2, 3, 5, 7)):
            assert swish()(np.ones(shape, dtype)).shape == shape


@every_backend
def test_any_layout(backend: str) -> None:
    x = random((4, 5, 6, 7))
    with fn.use_backend(backend):
        expected = swish(2.0)(x)
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(swish(2.0)(channels_last), expected)
        np.testing.assert_array_equal(swish(2.0)(np.repeat(x, 2, axis=3)[..., ::2]), expected)
        np.testing.assert_array_equal(swish(2.0)(x[::-1]), expected[::-1])


@needs_numba
@needs_native
@every_dtype
def test_functions_are_exact(dtype: str) -> None:
    """Those that run on vectors, beside NumPy's of the same numbers in extended precision."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(20000) * scale for scale in (1e-3, 1, 10, 60)]).astype(dtype)
    names = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus")
    outputs = {name: apply(name, variable("x")) for name in names}
    for name, y in zip(names, elementwise_row("all", ["x"], outputs, [])(x), strict=True):
        with np.errstate(all="ignore"):
            wide = x.astype(np.longdouble)
            exact = np.log1p(np.exp(wide)) if name == "softplus" else 1 / (1 + np.exp(-wide))
            exact = exact if name in ("softplus", "sigmoid") else getattr(np, name)(wide)
        seen = np.isfinite(exact) & (np.abs(exact) > 4 * np.finfo(dtype).tiny) & (np.abs(exact) < np.finfo(dtype).max)
        assert np.array_equal(np.isnan(y), np.isnan(exact)), name
        error = np.abs(y - exact)[seen] / np.spacing(np.abs(exact[seen]).astype(dtype))
        assert error.max() < 5, (name, error.max(), x[seen][error.argmax()])


@needs_native
def test_same_bits_on_any_number_of_threads(threads: None) -> None:
    x = random((300, 401), "float32")
    found = []
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        y, backward = mish().forward(x, train=True)
        found.append((y.tobytes(), backward(x).tobytes()))
    assert found[0] == found[1] == found[2]


def test_options() -> None:
    assert repr(swish(beta=2)) == "swish(beta=2.0)" and swish(3).beta == 3.0 and swish.function(0.0) == 0
    assert hard_sigmoid.__doc__ and hard_sigmoid.__name__ == "hard_sigmoid" and swish.__module__ == __name__
    for wrong in ({"gamma": 1}, {"beta": "much"}, {"beta": math.nan}):
        with pytest.raises((TypeError, ValueError), match="swish"):
            swish(**wrong)
    with pytest.raises(TypeError, match=r"swish takes \(beta\), got \(1, 2\)"):
        swish(1, 2)
    assert copy.deepcopy(swish(2.0)).beta == pickle.loads(pickle.dumps(swish(2.0))).beta == 2.0
    with pytest.raises(fn.DTypeError, match="swish: expected float32 or float64, got int64"):
        swish()(np.arange(3))


def test_definitions_that_cannot_be() -> None:
    for define, message in (
        (lambda: fn.elementwise(math.exp), "expected a Python function"),
        (lambda: fn.elementwise(lambda: 1.0), "1 parameters or more"),
        (lambda: fn.elementwise(lambda x, b: x * b), "needs a default for 'b'"),
        (lambda: fn.elementwise(lambda x, name=1.0: x * name), "cannot be called 'name'"),
        (lambda: fn.elementwise(lambda x, a=1, b=1, c=1, d=1, e=1: x), "has 5 further parameters, there can be 4"),
        (lambda: fn.elementwise(lambda *x: x), "may not take"),
        (lambda: fn.elementwise_loss(lambda p, t, reduction=1.0: p), "cannot be called 'reduction'"),
        (lambda: fn.elementwise_optimizer(lambda p, g: p), "p, grad, state …, lr"),
        (lambda: fn.elementwise_optimizer(lambda p, g, m, lr=1.0: p - lr * g), "the new number and 1 new states"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            define()

    def ReLU(x: float) -> float:
        return x

    with pytest.raises(ValueError, match="there is a layer ReLU already"):
        fn.elementwise(ReLU)


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 1 / (1 + x * x) - x**-3 + 2**x,
        lambda x: math.sqrt(abs(x) + 1) * math.sin(x) - math.cos(x) ** 2,
        lambda x: math.log(1 + math.exp(x)) + math.log1p(x * x) + math.log(2 + x * x),
        lambda x: math.expm1(-abs(x)) if x < 1 or x > 2 else max(x, 1.5, -x),
        lambda x: np.where(x > 0, np.exp(-x), np.minimum(x, 1)) + np.clip(x, -1, 1) + (x > 1) * x,
        lambda x: math.erf(x) + math.fabs(x) + pow(x, 3) + slope_of_cubic(x) + np.sign(x),
        lambda x: math.exp(x) / (1 + math.exp(x)) + 3 / (math.exp(-2 * x) + 1) + (x * x + 1) ** (x / 9),
        lambda x: 2.5,
    ],
)
def test_derived_derivatives_are_the_numerical_ones(function: Callable[[float], float]) -> None:
    with fn.use_backend("reference"):
        layer = fn.elementwise(function)()
        x = random((50,)) * 2
        y = layer(x)
        np.testing.assert_allclose(y, [function(v) for v in x], rtol=1e-12, atol=1e-12)
        fn.gradcheck(layer, x)


def test_conditions_and_options_are_compiled_as_they_are_in_numpy() -> None:
    def kinked(x: float, a: float = 0.3, b: float = 2.0) -> float:
        y = a if x < 0 and not x < -1 else b
        if a < b:
            y += math.exp(a) + max(a, b) + math.log1p(math.exp(b)) + np.sign(a) + a**b
        return y * x if 0 < x < 1 or x == 2 else y + (x if x else 7)

    x = np.concatenate([random((99,)), [0.0, 2.0, -1.0, 1.0]])
    layer = fn.elementwise(kinked)(a=0.2)
    expected = [kinked(v, 0.2) for v in x.tolist()]
    for backend in backends():
        with fn.use_backend(backend):
            np.testing.assert_allclose(layer(x), expected, rtol=1e-13)


def test_what_the_derivative_needs_is_kept() -> None:
    for function, kept in (
        (lambda x: math.tanh(2 * x), True),
        (lambda x: 1 / (1 + math.exp(-x)), True),
        (lambda x: 3 * x, True),
        (lambda x: x * math.tanh(x), False),
    ):
        layer = fn.elementwise(function)
        assert layer.keeps_output == kept
        with fn.use_backend("reference"):
            fn.gradcheck(layer(), random((20,)))


def test_a_wrong_derivative_is_found_and_its_place_named() -> None:
    with pytest.raises(fn.GradientError, match=r"<lambda>: the derivative given is .* numerically it is"):
        fn.elementwise(lambda x: x**3, derivative=lambda x: 2 * x * x)
    with pytest.raises(fn.GradientError) as error:  # only beyond 1
        fn.elementwise(lambda x: abs(x), derivative=lambda x: 1.0 if x > 1 else np.sign(x) if x > -1 else -2.0)
    assert wrong_place(error) < -1
    with pytest.raises(fn.GradientError, match=r"prediction = .*, target = "):
        fn.elementwise_loss(
            lambda prediction, target: (prediction - target) ** 2,
            derivative=lambda prediction, target: prediction - target,
        )
    straight_through = fn.elementwise(lambda x: np.sign(x), derivative=lambda x: 1.0, check=False)
    with fn.use_backend("reference"):
        y, backward = straight_through().forward(random((5,)), train=True)
        assert set(y) <= {-1, 1} and backward(y).tolist() == y.tolist()
    fn.elementwise(lambda x: x**3, derivative=slope_of_cubic)
    with pytest.raises(TypeError, match="expected a derivative of <lambda> with parameters"):
        fn.elementwise(lambda x, a=1.0: a * x, derivative=lambda x: 1.0)


def test_what_cannot_be_derived_asks_for_a_derivative() -> None:
    for function, message in (
        (loop, "line .*: a statement of kind 'for' is not understood"),
        (lambda x: math.gamma(x), "the function 'math.gamma' is not understood"),
        (lambda x: x % 2, "'x % 2' is not understood"),
        (lambda x: unknown(x), "there is nothing called 'unknown'"),  # noqa: F821
        (lambda x: (x, x), "returns tuple"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*Give one: elementwise\(derivative=…\)"):
            fn.elementwise(function)


def test_lambdas_of_one_line_are_told_apart() -> None:
    functions = (lambda x: math.sin(x), lambda x: math.cos(x), lambda x, a=2.0: a * x, lambda x: 2.5, lambda x: x)
    with fn.use_backend("reference"):
        found = [fn.elementwise(function)()(np.ones(1))[0] for function in functions]
    assert found == [math.sin(1), math.cos(1), 2, 2.5, 1]


def defined(source: str, filename: str) -> Any:
    """A function that is defined by this source, as if in a file of that name."""
    namespace: dict[str, Any] = {"math": math, "fn": fn}
    exec(compile(source, filename, "exec"), namespace)
    return namespace["f"]


def test_functions_without_a_file() -> None:
    source = "def f(x):\n    return x * math.tanh(x)\n"
    with pytest.raises(ValueError, match=r"the source of f cannot be read.*Give one"):
        fn.elementwise(defined(source, "<stdin>"))
    linecache.cache["<cell 0>"] = (7, None, ["def f(x):\n", "    return x * math.sin(x)\n"], "<cell 0>")
    with pytest.raises(ValueError, match=r"the source of f is not what its file has now.*Give one"):
        fn.elementwise(defined(source, "<cell 0>"))
    given = defined("def f(x):\n    return math.tanh(x) + x * (1 - math.tanh(x) ** 2)\n", "<stdin>")
    layer = fn.elementwise(defined(source, "<stdin>"), derivative=given)()
    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(True), "<cell 1>")  # as a notebook does
    same = fn.elementwise(defined(source, "<cell 1>"))()
    x = random((20,))
    with fn.use_backend("reference"):
        for found, expected in zip(both(layer, x), both(same, x), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def both(layer: fn.Layer, x: Array) -> tuple[Array, Array]:
    """Output and gradient."""
    y, backward = layer.forward(x, train=True)
    return y, backward(np.ones_like(y))


# --- losses and optimizers --------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_are_as_the_built_in_ones(reduction: str, dtype: str, backend: str) -> None:
    scores, target, weight = random((33, 7), dtype), random((33, 7), dtype, 1), np.linspace(0, 2, 33, dtype=dtype)
    with fn.use_backend(backend):
        for sample_weight in (None, weight):
            found, slope = own_mse(reduction=reduction).forward(scores, target, sample_weight=sample_weight)
            expected, expected_slope = fn.MSELoss(reduction=reduction).forward(
                scores, target, sample_weight=sample_weight
            )
            np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-13)
            np.testing.assert_allclose(slope(), expected_slope(), rtol=1e-5, atol=1e-9)
        value, later = own_mse(reduction=reduction).forward(scores, target, need_grad=False)
        np.testing.assert_array_equal(later(), own_mse(reduction=reduction).forward(scores, target)[1]())
        assert math.isnan(own_mse().forward(scores[:0], target[:0])[0])
        assert value == own_mse(reduction=reduction).forward(scores, target)[0]
    if dtype == "float64":
        with fn.use_backend(backend):
            fn.gradcheck(log_cosh(reduction=reduction), scores, target)
            fn.gradcheck(pinball(0.3, reduction=reduction), scores, target)


@every_backend
@every_dtype
def test_updates_are_as_the_built_in_ones(dtype: str, backend: str) -> None:
    values = [random((20, 30), dtype), random((5,), dtype, 1)]
    with fn.use_backend(backend):
        results = []
        for make in (lambda p: OwnAdam(p, lr=0.1), lambda p: fn.Adam(p, lr=0.1)):
            parameters = [fn.Parameter(value) for value in values]
            optimizer = make(parameters)
            for i in range(5):
                for p in parameters:
                    p.grad[...] = random(p.shape, dtype, seed=i)
                    p.used = True
                optimizer.step()
            results.append([*parameters, *optimizer.state_dict()["state"][0].values()])
    for found, expected in zip(*results, strict=True):
        found, expected = (getattr(a, "data", a) if isinstance(a, fn.Parameter) else a for a in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-7)


def network() -> fn.Sequential:
    fn.manual_seed(1)
    return fn.Sequential(fn.Linear(6, 300), swish(beta=1.5), fn.Linear(300, 9), mish(), fn.Linear(9, 2))


OPTIMIZERS: dict[str, Callable[[Any], fn.Optimizer]] = {
    "Lion": lambda p: Lion(p, lr=0.01, weight_decay=0.1),
    "SignSGD": lambda p: SignSGD(p, clip_norm=1.0),
    "OwnAdam": OwnAdam,
}


@needs_native
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_captured_steps_have_the_bits_of_eager_ones(name: str, threads: None) -> None:
    batches = [(random((200, 6), "float32", i), random((200, 2), "float32", i + 9)) for i in range(4)]
    found = []
    for captured, count in ((False, 1), (True, 1), (True, 2)):
        fn.set_num_threads(count)
        model, loss = network(), log_cosh()
        optimizer, losses = OPTIMIZERS[name](model.parameters()), []
        if captured:
            step = fn.capture(model, loss, optimizer, *batches[0])
            losses = [step(x, y) for x, y in batches]
            optimizer.param_groups[0]["lr"] = 0.5
            losses.append(step(*batches[0]))
        else:
            for i, (x, y) in enumerate((*batches, batches[0])):
                if i == 4:
                    optimizer.param_groups[0]["lr"] = 0.5
                scores, backward = model.forward(x, train=True)
                value, slope = loss.forward(scores, y)
                backward(slope(), need_dx=False)
                optimizer.step()
                losses.append(value)
        found.append((losses, {key: a.tobytes() for key, a in model.state_dict().items()}))
    assert found[0] == found[1] == found[2]


@needs_numba
def test_training_goes_on_with_the_same_bits(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    x, y = random((96, 6), "float32"), random((96, 2), "float32", 1)
    how: dict[str, Any] = {"loss": pinball(0.4), "batch_size": 32, "seed": 0}
    whole, part = network(), network()
    expected = fn.fit(whole, x, y, optimizer=Lion(lr=0.01), epochs=6, **how)
    path = tmp_path / "run.safetensors"
    fn.fit(part, x, y, optimizer=Lion(lr=0.01), epochs=3, callbacks=[fn.Checkpoint(path)], **how)
    part = network()
    again = fn.fit(part, x, y, optimizer=Lion(lr=0.01), epochs=6, resume=path, **how)
    assert again.loss == expected.loss and expected.loss[-1] < expected.loss[0]
    for a, b in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert [str(w.message) for w in recwarn] == []  # of steps that are not captured


def test_options_of_an_optimizer() -> None:
    model = network()
    optimizer = Lion(model.parameters(), lr=0.2)
    schedule = fn.StepLR(optimizer, 1, gamma=0.1)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    with pytest.raises(TypeError, match="Lion: expected options of lr, beta1"):
        Lion(model.parameters(), gamma=1)
    with pytest.raises(ValueError, match="Lion: expected lr of at least 0"):
        Lion(model.parameters(), lr=-1.0)
    with pytest.raises(ValueError, match="Lion: expected beta1 as a finite number"):
        Lion(beta1=math.inf)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_saved_model_names_the_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = tmp_path / "m.safetensors", random((3, 6), "float32")
    model = network()
    fn.save(model, path)
    with fn.use_backend("reference"):
        loaded = fn.load(path)
        assert loaded.scores(x).tobytes() == model.scores(x).tobytes() and loaded[1].beta == 1.5
    monkeypatch.delitem(REGISTRY, "swish")
    with pytest.raises(fn.CheckpointError, match=r"unknown layer 'swish'.*Define it first.*fastnn.elementwise"):
        fn.load(path)


@needs_numba
@needs_native
def test_compiled_code_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import math, numpy as np, fastnn as fn\n"
        "@fn.elementwise\ndef f(x):\n    return math.exp(-x * x)\n"
        "f()(np.ones(3))\n"
        "from fastnn._kernels.jit import compile\n"
        "(made,) = compile._made.values()\n"
        "print(made.cache_hits)\n"
    )
    environment = {"PYTHONPATH": str(Path(fn.__file__).parent.parent), **os.environ, "FASTNN_CACHE": str(tmp_path)}
    for hits in ("0", "1"):
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == [hits], done.stderr


@needs_numba
def test_without_files_it_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = swish.rows[0].made.program
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "folder", tmp_path, tmp_path):  # nobody can make the first one
        monkeypatch.setenv("FASTNN_CACHE", str(folder))
        monkeypatch.setattr(jit, "_made", {})
        assert jit.address(program, "float64")
        assert [made.cache_hits for made in jit._made.values()] == [0]
        for kept in tmp_path.glob("jit/__pycache__/*.nbi"):
            kept.write_bytes(b"damaged")
    assert kept.read_bytes() == b"damaged"


# --- without Numba ----------------------------------------------------------------------------------------------------


@needs_native
def test_without_numba_all_of_it_runs_in_numpy(monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(jit, "_warned", False)

    @fn.elementwise
    def bump(x, width=1.0):
        return math.exp(-((x / width) ** 2))

    @fn.elementwise_loss
    def cubic(prediction, target):
        return abs(prediction - target) ** 3

    @fn.elementwise_optimizer
    def Plain(p, grad, m, step, lr=0.1):
        m = 0.5 * m + grad / step
        return p - lr * m, m

    x, y = random((64, 6), "float32"), random((64, 2), "float32", 1)
    found = []
    with pytest.warns(UserWarning) as caught:
        for captured, count in ((True, 2), (False, 1)):
            fn.set_num_threads(count)
            fn.manual_seed(0)
            model = fn.Sequential(fn.Linear(6, 2000), bump(width=2.0), fn.Linear(2000, 2))
            optimizer = Plain(model.parameters(), lr=1e-5)
            if captured:
                step = fn.capture(model, cubic(), optimizer, x, y)
                losses = [step(x, y) for _ in range(4)]
            else:
                with fn.use_backend("reference"):
                    losses = []
                    for _ in range(4):
                        scores, backward = model.forward(x, train=True)
                        value, slope = cubic().forward(scores, y)
                        backward(slope(), need_dx=False)
                        optimizer.step()
                        losses.append(value)
            found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)
    assert found[0][-1] < found[0][0]
    assert [str(w.message)[:36] for w in caught] == ["functions of your own run in NumPy, "]


def test_expressions_are_one_object_each() -> None:
    x = variable("x")
    minus = -x
    assert x * 2 is x * 2.0 and x + 0 is x and 1 * x is x and -minus is x and (x**2) is x * x
    assert x * -0.0 is not x * 0.0
    assert isinstance(x + 1, Expression) and isinstance(slope_of_cubic, FunctionType)
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(x)
