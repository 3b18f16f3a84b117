"""model.summary(): shapes, parameters and multiply-adds, against PyTorch's own counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from layer_cases import CASES, drawn, every_backend, every_case

import fastnn as fn
from fastnn import init
from fastnn._kernels import Array
from fastnn.layers.layer import Backward


def cnn() -> fn.Sequential:
    return fn.Sequential(
        {
            "conv1": fn.Conv2d(1, 32, 3),
            "relu1": fn.ReLU(),
            "pool1": fn.MaxPool2d(2),
            "conv2": fn.Conv2d(32, 64, 3, padding=1, groups=2),
            "rest": fn.Sequential(fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Dropout(0.5), fn.Linear(2304, 10)),
        }
    )


TABLE = """\
Sequential for x (N, 1, 28, 28) float32
------------------------------------------------------------------------
layer  kind        output           parameters  trainable  multiply-adds
------------------------------------------------------------------------
conv1  Conv2d      (N, 32, 26, 26)         320          0        194,688
relu1  ReLU        (N, 32, 26, 26)           -          -              -
pool1  MaxPool2d   (N, 32, 13, 13)           -          -              -
conv2  Conv2d      (N, 64, 13, 13)       9,280      9,280      1,557,504
rest   Sequential  (N, 10)                   -          -              -
  0    ReLU        (N, 64, 13, 13)           -          -              -
  1    MaxPool2d   (N, 64, 6, 6)             -          -              -
  2    Flatten     (N, 2304)                 -          -              -
  3    Dropout     (N, 2304)                 -          -              -
  4    Linear      (N, 10)              23,050     23,050         23,040
------------------------------------------------------------------------
total              (N, 10)              32,650     32,330      1,775,232
32,650 parameters: 32,330 trainable, 320 frozen"""


@every_backend
def test_the_table(backend: str) -> None:
    model = cnn()
    model[0].requires_grad_(False)
    with fn.use_backend(backend):
        found = model.summary((1, 28, 28))

    assert str(found) == TABLE
    assert repr(found) == str(found)
    assert (found.parameters, found.trainable, found.frozen) == (32650, 32330, 320)
    assert found.multiply_adds == 194688 + 1557504 + 23040


@every_case
def test_multiply_adds_are_pytorchs(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    make, make_theirs, shape = CASES[case]
    x = drawn(shape)
    if x.ndim < 2:
        pytest.skip("it takes no batch of samples")
    if "linear attention" in case:
        pytest.skip("its twin forms the matrix that it does without")
    model, theirs = make(dtype="float64"), make_theirs(torch.nn).eval()
    found = model.summary(x.shape[1:], None if x.dtype.kind == "f" else x.dtype.name)
    # Operators that do all of an LSTM, or of attention, at once are not counted.
    plain, products = torch.backends.mkldnn.flags(enabled=False), torch.nn.attention.SDPBackend.MATH
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain, torch.nn.attention.sdpa_kernel(products):
        zeros = torch.zeros(2, *x.shape[1:], dtype=torch.int64 if x.dtype.kind == "i" else torch.float32)
        y = theirs(zeros)  # of two samples; an operation is a product or a sum
    assert 4 * found.multiply_adds == counter.get_total_flops()
    assert found.parameters == sum(p.numel() for p in theirs.parameters())
    first = "N" if y.shape[0] == 2 else f"{y.shape[0] // 2}N"
    assert found.output == f"({', '.join([first, *map(str, y.shape[1:])])})"


@needs_native
def test_a_summary_changes_nothing() -> None:
    model, x = cnn(), np.ones((2, 1, 28, 28), np.float32)
    for _ in range(3):
        model.predict(x)  # replayed by now
    replayer, state = model._replayer, model.state_dict()
    before = [(id(p.data), id(p.grad), p.segment) for p in model.parameters()]
    fn.manual_seed(5)
    expected = init.next_stream()
    fn.manual_seed(5)
    model.summary((1, 28, 28))
    assert init.next_stream() == expected
    assert model._replayer is replayer
    assert all((value == state[key]).all() for key, value in model.state_dict().items())
    assert [(id(p.data), id(p.grad), p.segment) for p in model.parameters()] == before
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert not any(p.used for p in model.parameters())


# --- shared parts -----------------------------------------------------------------------------------------------------


def test_what_is_shared_counts_once() -> None:
    layer, other = fn.Linear(4, 4), fn.Linear(4, 4)
    other.weight = layer.weight
    found = fn.Sequential({"one": fn.Sequential(layer, fn.ReLU()), "two": layer, "three": other}).summary(4)
    rows = {(row.depth, row.name): row for row in found.rows}
    assert [(row.parameters, row.shared) for row in found.rows] == [(0, 0), (20, 0), (0, 0), (0, 20), (4, 16)]
    assert found.parameters == 24
    assert rows[1, "0"].multiply_adds == 32 and rows[0, "two"].multiply_adds == 0  # both calls, at their first row
    assert found.multiply_adds == 48
    assert str(found).count("shared with above") == 2


def test_a_block_used_twice_is_listed_once() -> None:
    block = fn.Sequential(fn.Linear(3, 3), fn.ReLU())
    found = fn.Sequential(block, block).summary(3)
    assert [(row.name, row.kind) for row in found.rows] == [
        ("0", "Sequential"),
        ("0", "Linear"),
        ("1", "ReLU"),
        ("1", "Sequential"),
    ]
    assert (found.parameters, found.multiply_adds) == (12, 18)


# --- layers of one's own ----------------------------------------------------------------------------------------------


class Heads(fn.Layer):
    """Two heads on one trunk, which has a parameter of the model's own beside it, and a layer that is never called."""

    def __init__(self) -> None:
        self.trunk = fn.Linear(3, 5)
        self.left, self.right = fn.Linear(5, 2), fn.Linear(5, 4)
        self.unused = fn.Linear(7, 7)
        self.scale = fn.Parameter(np.ones(6, np.float32))

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        h = self.trunk(x)
        return (self.left(h), self.right(h)), lambda dy, need_dx=True: None


def test_tuples_own_parameters_and_unused_layers() -> None:
    found = Heads().summary(3)
    assert [(row.name, row.kind, row.depth, row.output, row.parameters, row.multiply_adds) for row in found.rows] == [
        ("", "Heads", 0, "(N, 2), (N, 4)", 6, 0),
        ("trunk", "Linear", 0, "(N, 5)", 20, 15),
        ("left", "Linear", 0, "(N, 2)", 12, 10),
        ("right", "Linear", 0, "(N, 4)", 24, 20),
        ("unused", "Linear", 0, "", 56, 0),
    ]


class Counting(fn.Layer):
    """Calls kernels of a layer that it hides from its children."""

    def __init__(self) -> None:
        self.hidden = [fn.Linear(3, 3)]

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        return self.hidden[0].forward(x, train)


def test_kernels_of_hidden_layers_count_for_the_layer_that_hides_them() -> None:
    assert fn.Sequential(Counting()).summary(3).rows[0].multiply_adds == 9


class Whole(fn.Layer):
    """Takes whole numbers."""

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        assert x.dtype == np.int64
        return x, lambda dy, need_dx=True: None


def test_dtypes() -> None:
    assert Whole().summary(5, dtype="int64").rows[0].output == "(N, 5)"
    assert "float64" in fn.Linear(2, 2, dtype="float64").summary(2).title
    assert fn.ReLU().summary(()).rows[0].output == "(N)"


def test_a_single_layer_is_its_own_row() -> None:
    (row,) = fn.Linear(3, 2).summary(3).rows
    assert (row.kind, row.output, row.parameters, row.trainable, row.multiply_adds) == ("Linear", "(N, 2)", 8, 8, 6)


def test_an_empty_model() -> None:
    found = fn.Sequential().summary(3)
    assert (found.parameters, found.multiply_adds) == (0, 0) and "total" in str(found)


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        (
            (3, 28, 28),
            None,
            fn.ShapeError,
            r"input_shape: .*conv1 .* got \(2, 3, 28, 28\)",
        ),
        ((1, 28.0, 28), None, fn.ShapeError, r"input_shape: expected whole numbers, .* got \(1, 28.0, 28\)"),
        ((1, -28, 28), None, fn.ShapeError, "input_shape: expected whole numbers"),
        ("28", None, fn.ShapeError, "input_shape: expected whole numbers"),
        ((1, 28, 28), "float64", fn.DTypeError, "conv1 .* expected float32, got float64"),
        ((1, 28, 28), "number", fn.DTypeError, "dtype: .*number"),
    ],
)
def test_refused(shape: Any, dtype: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cnn().summary(shape, dtype)


def test_a_layer_with_a_forward_of_its_own_is_not_fused() -> None:
    conv, relu, x = fn.Conv2d(1, 2, 3), fn.ReLU(), np.random.default_rng(0).standard_normal((1, 1, 5, 5), np.float32)
    chain, calls = fn.Sequential(conv, relu), []
    before, forward = chain(x), relu.forward

    def noted(x: Array, train: bool = False) -> tuple[Array, Backward]:
        calls.append(x.shape)
        return forward(x, train)

    relu.forward = noted  # type: ignore[method-assign]
    assert (chain(x) == before).all() and calls == [(1, 2, 3, 3)]


def test_a_fused_activation_of_a_residual_block_has_its_own_row() -> None:
    """Its sum and its ReLU are one kernel, but not where somebody watches the ReLU."""
    block = fn.Residual(fn.Linear(3, 3), activation=fn.ReLU())
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    before = block(x)
    assert [(row.kind, row.output) for row in block.summary(3).rows] == [("Linear", "(N, 3)"), ("ReLU", "(N, 3)")]
    assert (block(x) == before).all()
