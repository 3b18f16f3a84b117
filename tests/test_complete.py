"""Nothing public is half done: every layer, loss and optimizer has a reference, a gradient check, a comparison with
PyTorch and shapes in its docstring, and a captured step of it has the bits of one from Python.

What is public is read from `fastnn.__all__`; what is tested, from the tables that run the tests: CASES of layer_cases,
LOSSES of loss_cases and CASES of test_optimizers. Something new is complete with one line in its table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import test_layers
import test_losses
import test_optimizers
from conftest import needs_native
from layer_cases import CASES, assert_close, drawn, every_case, every_dtype, gradients, random
from loss_cases import LOSSES

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn._kernels.kernel import observing
from fastnn._kernels.reference import FUNCTIONS
from fastnn.layers.layer import REGISTRY

#: Layers that PyTorch does not have; their cases compare them with a module written by hand. Each with the reason.
WITHOUT_TWIN = {
    "BertModel": "Hugging Face's; compared with the package transformers",
    "Residual": "in PyTorch one writes x + body(x) oneself",
    "Parallel": "in PyTorch one writes the sum, torch.cat or the tuple of branches oneself",
    "RandomCrop": "torchvision's; drawn from other random numbers",
    "RandomHorizontalFlip": "torchvision's; drawn from other random numbers",
    "RandomShift": "torchvision's RandomAffine; drawn from other random numbers",
    "LinearAttention": "written by hand, in its O(T²) form, with the parameters of MultiheadAttention",
    "LowRankAttention": "written by hand, with the parameters of MultiheadAttention and two more",
    "Cutout": "torchvision's RandomErasing; drawn from other random numbers",
}
#: Losses made of other losses, which PyTorch does not have: what compares them with the same written by hand on every
#: backend, what checks their gradients, and what captures them.
OF_LOSSES = {
    "JointLoss": (
        test_losses.test_joint_loss,
        test_losses.test_gradients_of_joint_losses_and_penalties,
        test_losses.test_captured_joint_loss_with_a_penalty,
    ),
    "L2Penalty": (
        test_losses.test_penalty,
        test_losses.test_gradients_of_joint_losses_and_penalties,
        test_losses.test_captured_joint_loss_with_a_penalty,
    ),
}
#: What a docstring has to say of the arrays that a layer or loss takes: "(N, C, H, W)", "(…, in_features)", or this.
_SHAPE = re.compile(r"\((N|…|\.\.\.)(, [^()]+)?\)|\(N,\)|any shape")


def public(base: Callable[[type], bool]) -> dict[str, type]:
    """The public classes of a kind, by name."""
    found = {name: getattr(fn, name) for name in fn.__all__}
    return {name: value for name, value in found.items() if isinstance(value, type) and base(value)}


LAYERS = public(lambda cls: issubclass(cls, fn.Layer) and cls is not fn.Layer)
LOSS_CLASSES = public(lambda cls: hasattr(cls, "forward") and not issubclass(cls, fn.Layer) and cls is not fn.Loss)
OPTIMIZER_CLASSES = public(lambda cls: issubclass(cls, fn.Optimizer) and cls is not fn.Optimizer)


# --- what is missing --------------------------------------------------------------------------------------------------


def run_by(test: Callable[..., Any], argument: str = "case") -> set[str]:
    """The values of an argument, the first of several, with which pytest calls a test."""
    found = set()
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize" and mark.args[0].split(",")[0] == argument:
            for value in mark.args[1]:
                one = value.values[0] if hasattr(value, "values") and not isinstance(value, dict) else value
                found.add(one)
    return found


def source_of(test: Callable[..., Any]) -> str:
    """The source of a test that pytest finds, and of the functions beside it that it calls."""
    beside = vars(inspect.getmodule(test))
    assert test.__name__.startswith("test_") and beside[test.__name__] is test
    source = inspect.getsource(test)
    called = [beside[name] for name in set(re.findall(r"\b(\w+)\(", source)) if inspect.isfunction(beside.get(name))]
    return "\n".join([source, *(inspect.getsource(function) for function in called if function is not test)])


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
    assert has_shapes(cls)
    if name in OF_LOSSES:
        assert run_by(OF_LOSSES[name][0], "backend") == set(backends())
        for test, does in zip(OF_LOSSES[name], (r"use_backend\(", r"gradcheck\(", r"Replayer\("), strict=True):
            source = source_of(test)
            assert re.search(rf"fn\.{name}\(", source) and re.search(does, source), test.__name__
        return
    own = {case for case, (make, *_) in LOSSES.items() if type(make()) is cls}
    for test in (
        test_losses.test_as_pytorch,
        test_losses.test_gradients_are_the_numerical_ones,
        test_losses.test_captured_steps_have_the_bits_of_eager_ones,
    ):
        assert own & run_by(test), f"{name} has no line in loss_cases.py for {test.__name__}"
    assert run_by(test_losses.test_as_pytorch, "backend") == set(backends())  # so on the reference, too


@pytest.mark.parametrize("name", OPTIMIZER_CLASSES)
def test_every_optimizer_is_complete(name: str) -> None:
    """An update has no gradient, and its arrays any shape; what a docstring has to say is the formula."""
    for test in (test_optimizers.test_as_pytorchs, test_optimizers.test_a_captured_step_has_the_bits_of_the_loop):
        assert name in run_by(test, "name"), f"{name} has no line in CASES of test_optimizers for {test.__name__}"
    assert run_by(test_optimizers.test_as_pytorchs, "backend") == set(backends())
    doc = OPTIMIZER_CLASSES[name].__doc__ or ""
    assert re.search(r"\bp\b", doc) and re.search(r"\blr\b", doc), "no formula for p by lr"


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
@every_case
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


#: Cases whose outputs are no batch of two samples or more, which a step needs: vectors, empty batches, one sample, a
#: batch that is flattened away.
NO_BATCH = {
    "linear on one vector",
    "linear, no samples",
    "conv, no samples",
    "flatten some",
    "transposed conv, no samples",
    "batch norm, no samples",
    "layer norm without weight",
    "layer norm, no samples",
    "softmax of one vector",
    "embedding, no samples",
    "gru, one step of no sequence",
    "attention, no samples",
}


def test_only_these_cases_are_no_batch() -> None:
    assert {case for case in CASES if classifier(case) is None} == NO_BATCH


@needs_native
@pytest.mark.parametrize("case", [case for case in CASES if case not in NO_BATCH])
def test_a_captured_layer_computes_the_same_bits(case: str) -> None:
    inputs = [drawn(CASES[case][2], "float32", seed=i) for i in range(4)]
    batches = [(x, np.arange(i, i + len(x)) % 3) for i, x in enumerate(inputs)]
    eager, replayed = (
        train(model, fn.CrossEntropyLoss(), fn.SGD(model.parameters(), lr=0.1, momentum=0.9), batches, captured)
        for captured in (False, True)
        for model in [classifier(case)]
        if model is not None
    )
    assert eager == replayed
