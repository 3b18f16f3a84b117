"""Nothing public is half done: every layer, loss and optimizer has a reference, a gradient check, a comparison with
PyTorch and shapes in its docstring, and a captured step of it has the bits of one from Python.

What is public is read from `fastnn.__all__`; what is tested, from the tables that run the tests: CASES of test_layers,
LOSSES of loss_cases and OPTIMIZERS of optim_cases. Something new is complete with one line in its table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import test_layers
from conftest import needs_native
from loss_cases import LOSSES
from optim_cases import OPTIMIZERS
from test_layers import CASES, assert_close, drawn, every_backend, every_dtype, gradients, random

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn._kernels.kernel import observing
from fastnn._kernels.reference import FUNCTIONS
from fastnn.gradcheck import numerical_gradient
from fastnn.layers.layer import REGISTRY
from fastnn.optim import Optimizer

#: Layers that PyTorch does not have; their cases compare them with a module written by hand. Each with the reason.
WITHOUT_TWIN = {
    "Residual": "in PyTorch one writes x + body(x) oneself",
    "Parallel": "in PyTorch one writes the sum, torch.cat or the tuple of branches oneself",
    "RandomCrop": "torchvision's; drawn from other random numbers",
    "RandomHorizontalFlip": "torchvision's; drawn from other random numbers",
    "RandomShift": "torchvision's RandomAffine; drawn from other random numbers",
    "Cutout": "torchvision's RandomErasing; drawn from other random numbers",
}
#: What a docstring has to say of the arrays that a layer or loss takes: "(N, C, H, W)", "(…, in_features)", or this.
_SHAPE = re.compile(r"\((N|…|\.\.\.)(, [^()]+)?\)|\(N,\)|any shape")


def public(base: Callable[[type], bool]) -> dict[str, type]:
    """The public classes of a kind, by name."""
    found = {name: getattr(fn, name) for name in fn.__all__}
    return {name: value for name, value in found.items() if isinstance(value, type) and base(value)}


LAYERS = public(lambda cls: issubclass(cls, fn.Layer) and cls is not fn.Layer)
LOSS_CLASSES = public(lambda cls: hasattr(cls, "forward") and not issubclass(cls, fn.Layer))
OPTIMIZER_CLASSES = public(lambda cls: issubclass(cls, Optimizer))
every_loss = pytest.mark.parametrize("case", LOSSES)
every_optimizer = pytest.mark.parametrize(("name", "options"), OPTIMIZERS)


# --- what is missing --------------------------------------------------------------------------------------------------


def run_by(test: Callable[..., Any]) -> set[str]:
    """The cases for which pytest calls a test."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize" and mark.args[0] == "case"]
    return {case for mark in marks for case in mark.args[1]}


def has_shapes(cls: type) -> bool:
    """Whether the docstring of a class, or of its forward, names shapes."""
    return any(_SHAPE.search(part.__doc__ or "") for part in (cls, cls.forward))  # type: ignore[attr-defined]


def layer_lacks(name: str, cls: type, cases: Mapping[str, Any] = CASES) -> Iterator[str]:
    """What a layer does not have."""
    own = {case for case in cases if any(type(part) is cls for part in cases[case][0](dtype="float32").modules())}
    for what, test in (
        ("comparison with PyTorch", test_layers.test_as_pytorch),
        ("gradient check", test_layers.test_gradients_are_the_numerical_ones),
        ("comparison with the reference", test_layer_as_its_reference),
    ):
        if not own & run_by(test):
            yield f"{what}: no case in {test.__name__}"
    if REGISTRY.get(name) is not cls:
        yield "registration: it cannot be saved"
    if not has_shapes(cls):
        yield "shapes in its docstring"


def twin_is_lacking(name: str, cls: type) -> bool:
    """Whether no case compares a layer with the module of PyTorch that has its name."""
    torch = pytest.importorskip("torch")
    twins = (
        make_theirs(torch.nn)
        for make, make_theirs, _ in CASES.values()
        if any(type(part) is cls for part in make(dtype="float32").modules())
    )
    return not any(type(part) is getattr(torch.nn, name, None) for twin in twins for part in twin.modules())


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_complete(name: str) -> None:
    assert list(layer_lacks(name, LAYERS[name])) == []


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_compared_with_its_twin(name: str) -> None:
    if name in WITHOUT_TWIN:
        torch = pytest.importorskip("torch")
        assert not hasattr(torch.nn, name)
    else:
        assert not twin_is_lacking(name, LAYERS[name])


@pytest.mark.parametrize("name", LOSS_CLASSES)
def test_every_loss_is_complete(name: str) -> None:
    cls = LOSS_CLASSES[name]
    assert any(type(case[0]()) is cls for case in LOSSES.values()), f"{name} has no line in loss_cases.py"
    assert has_shapes(cls)


@pytest.mark.parametrize("name", OPTIMIZER_CLASSES)
def test_every_optimizer_is_complete(name: str) -> None:
    """Their arrays may have any shape; what a docstring has to say is the formula."""
    cls = OPTIMIZER_CLASSES[name]
    assert name in dict(OPTIMIZERS), f"{name} has no line in optim_cases.py"
    assert re.search(r"\bp\b", cls.__doc__ or "") and re.search(r"\blr\b", cls.__doc__ or ""), "no formula for p by lr"


def test_what_is_lacking_is_found() -> None:
    class Bare(fn.Linear):
        """Has nothing of its own."""

        def forward(self, x: Array, train: bool = False) -> Any:
            return super().forward(x, train)

    assert [lack.split(":")[0] for lack in layer_lacks("Bare", Bare)] == [
        "comparison with PyTorch",
        "gradient check",
        "comparison with the reference",
        "registration",
        "shapes in its docstring",
    ]
    in_a_table_that_nobody_runs = {"bare": (lambda **d: Bare(2, 2), lambda nn: nn.Linear(2, 2), (3, 2))}
    assert "gradient check: no case in" in " ".join(layer_lacks("Bare", Bare, in_a_table_that_nobody_runs))
    assert list(layer_lacks("Linear", fn.Linear)) == []


# --- layers -----------------------------------------------------------------------------------------------------------


def each(a: Any) -> tuple[Any, ...]:
    """The arrays of an output that may be a tuple."""
    return a if isinstance(a, tuple) else (a,)


def passes(layer: fn.Layer, x: Array) -> dict[str, Array]:
    """All that a forward and a backward pass compute, copied."""
    y, backward = layer.forward(x, train=True)
    dy = tuple(random(part.shape, part.dtype.name, seed=1) for part in each(y))
    dx = backward(dy if isinstance(y, tuple) else dy[0])
    found = {f"y{i}": np.array(part) for i, part in enumerate(each(y))}
    found |= {f"evaluated y{i}": np.array(part) for i, part in enumerate(each(layer(x)))}
    return found | gradients(layer) | ({} if dx is None else {"dx": np.array(dx)})


@every_dtype
@test_layers.every_case
def test_layer_as_its_reference(case: str, dtype: str) -> None:
    """Every kernel that it calls has a reference function, and on them it computes the same."""
    make, _, shape = CASES[case]
    called: set[str] = set()
    layer, x, results = make(dtype=dtype), drawn(shape, dtype), []
    state = layer.state_dict()
    for backend in backends():
        layer.zero_grad()
        layer.load_state_dict(state)  # which may hold running statistics
        with fn.use_backend(backend), observing(lambda plan: called.add(plan.kernel.name)):
            results.append(passes(layer, x))
    assert called <= set(FUNCTIONS)
    for name, expected in results[0].items():
        assert_close(results[-1][name], expected, dtype, name)


def classifier(case: str) -> fn.Sequential | None:
    """A layer below others that make scores for 3 classes of what it returns; None if that is no array of samples."""
    make, _, shape = CASES[case]
    fn.manual_seed(3)
    layer, x = make(dtype="float32"), drawn(shape, "float32")
    y = layer(x)
    if x.ndim < 2 or not isinstance(y, np.ndarray) or y.ndim < 2 or len(y) != len(x) or len(y) < 2:
        return None
    size = int(np.prod(y.shape[1:]))
    fn.manual_seed(4)
    return fn.Sequential(layer, fn.Flatten(), fn.Linear(size, 3))


def train(model: fn.Layer, loss: Any, optimizer: Any, batches: list[Any], captured: bool) -> tuple[list[float], Any]:
    """Losses and weights after a step on each batch."""
    losses = []
    if captured:
        step = fn.capture(model, loss, optimizer, *batches[0])
        losses = [step(x, y) for x, y in batches]
    else:
        for x, y in batches:
            scores, backward = model.forward(x, train=True)
            value, loss_backward = loss.forward(scores, y)
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            losses.append(value)
    return losses, {key: value.tobytes() for key, value in model.state_dict().items()}


@needs_native
@test_layers.every_case
def test_a_captured_layer_computes_the_same_bits(case: str) -> None:
    if classifier(case) is None:
        pytest.skip("its output is no batch of samples")
    inputs = [drawn(CASES[case][2], "float32", seed=i) for i in range(4)]
    batches = [(x, np.arange(i, i + len(x)) % 3) for i, x in enumerate(inputs)]
    eager, replayed = (
        train(model, fn.CrossEntropyLoss(), fn.SGD(model.parameters(), lr=0.1, momentum=0.9), batches, captured)
        for captured in (False, True)
        for model in [classifier(case)]
        if model is not None
    )
    assert eager == replayed


# --- losses -----------------------------------------------------------------------------------------------------------


def loss_input(case: str, dtype: str) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """Scores and targets, of each head."""
    _, _, shape, draw = LOSSES[case]
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    targets = (np.asarray(target) for target in each(draw(shapes[0][0])))
    return (
        tuple(random(shape, dtype, seed=i) for i, shape in enumerate(shapes)),
        tuple(target.astype(dtype) if target.dtype.kind == "f" else target for target in targets),
    )


def alone(arrays: tuple[Any, ...]) -> Any:
    """A tuple of several arrays, or the only one by itself."""
    return arrays if len(arrays) > 1 else arrays[0]


@every_backend
@every_dtype
@every_loss
def test_loss_as_pytorchs(case: str, dtype: str, backend: str) -> None:
    torch = pytest.importorskip("torch")

    def tensor(a: Any) -> Any:
        return torch.tensor(np.asarray(a), dtype=getattr(torch, dtype) if np.asarray(a).dtype.kind == "f" else None)

    make, make_theirs, *_ = LOSSES[case]
    scores, targets = loss_input(case, dtype)
    called: set[str] = set()
    with fn.use_backend(backend), observing(lambda plan: called.add(plan.kernel.name)):
        loss, backward = make().forward(alone(scores), alone(targets))
        found = each(backward())
    assert called and called <= set(FUNCTIONS)
    theirs = tuple(tensor(a).requires_grad_() for a in scores)
    expected = make_theirs(torch.nn, tensor)(alone(theirs), alone(tuple(map(tensor, targets))))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12 if dtype == "float64" else 1e-5)
    for dscores, its in zip(found, theirs, strict=True):
        assert_close(dscores, its.grad.numpy(), dtype, "the gradient")


@every_backend
@every_loss
def test_gradient_of_a_loss_is_the_numerical_one(case: str, backend: str) -> None:
    loss = LOSSES[case][0]()
    scores, targets = loss_input(case, "float64")

    def value(_: Array) -> Array:
        return np.array(loss.forward(alone(scores), alone(targets))[0])

    with fn.use_backend(backend):
        found = [np.array(a) for a in each(loss.forward(alone(scores), alone(targets))[1]())]
        for dscores, head in zip(found, scores, strict=True):
            np.testing.assert_allclose(dscores, numerical_gradient(value, head), rtol=1e-5, atol=1e-7)


@needs_native
@every_loss
def test_a_captured_loss_computes_the_same_bits(case: str) -> None:
    make, _, shape, _ = LOSSES[case]
    if len(shape) != 2 or isinstance(shape[0], tuple):
        pytest.skip("a linear layer makes no such scores")
    target = loss_input(case, "float32")[1][0]
    batches = [(random((shape[0], 4), "float32", seed=i), np.roll(target, i, axis=0)) for i in range(4)]
    results = []
    for captured in (False, True):
        fn.manual_seed(1)
        model = fn.Linear(4, shape[1])
        results.append(train(model, make(), fn.SGD(model.parameters(), lr=0.1), batches, captured))
    assert results[0] == results[1]


# --- optimizers -------------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@every_optimizer
def test_optimizer_as_pytorchs(name: str, options: dict[str, Any], dtype: str, backend: str) -> None:
    """Seven steps on given gradients, of arrays with gaps between them in the flat buffer."""
    torch = pytest.importorskip("torch")
    values = [random(shape, dtype, seed=i) for i, shape in enumerate([(3, 5), (7,), (33, 2, 1)])]
    ours = [fn.Parameter(value) for value in values]
    theirs = [torch.tensor(value, requires_grad=True) for value in values]
    optimizer = OPTIMIZER_CLASSES[name](ours, **options)
    its = getattr(torch.optim, name)(theirs, **options)
    called: set[str] = set()
    with fn.use_backend(backend), observing(lambda plan: called.add(plan.kernel.name)):
        for step in range(7):
            for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
                p.grad[...], p.used = random(p.shape, dtype, seed=10 * step + i), True
                q.grad = torch.tensor(p.grad)
            optimizer.step()
            its.step()
    assert called and called <= set(FUNCTIONS)
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(p.data, q.detach().numpy(), dtype, f"parameter {i}")


@needs_native
@every_optimizer
def test_a_captured_optimizer_computes_the_same_bits(name: str, options: dict[str, Any]) -> None:
    batches = [(random((6, 4), "float32", seed=i), np.arange(i, i + 6) % 3) for i in range(5)]
    results = []
    for captured in (False, True):
        fn.manual_seed(1)
        model = fn.Sequential(fn.Linear(4, 5), fn.ReLU(), fn.Linear(5, 3))
        optimizer = OPTIMIZER_CLASSES[name](model.parameters(), **options)
        results.append(train(model, fn.CrossEntropyLoss(), optimizer, batches, captured))
    assert results[0] == results[1]
