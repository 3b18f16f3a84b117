"""Whole models as their users handle them: copied, pickled, extended, taken apart, given wrong things."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array
from fastnn.layers.layer import Backward

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 1, 6, 6)).astype("f"), np.arange(60) % 3
POOL = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "kernel_size": (2, 2), "ceil_mode": False}
X[Y == 1] += 1
X[Y == 2] -= 1


def model() -> fn.Sequential:
    return fn.Sequential(fn.Conv2d(1, 8, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Linear(32, 3))


def weights(m: fn.Layer) -> dict[str, Array]:
    return m.state_dict()


def copied(thing: Any, how: str) -> Any:
    return copy.deepcopy(thing) if how == "deepcopy" else pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copied_model_trains_by_itself(how: str) -> None:
    original = model()
    fn.fit(original, X, Y, epochs=1, seed=0)
    before = weights(original)
    twin = copied(original, how)
    history = fn.fit(twin, X, Y, optimizer=fn.SGD(lr=0.1), epochs=8, seed=0)
    assert history.accuracy[-1] > 0.9
    for name, value in weights(original).items():
        np.testing.assert_array_equal(value, before[name])
        assert not np.array_equal(value, weights(twin)[name])


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_model_and_optimizer_copied_together_go_on_alike(how: str) -> None:
    first = model()
    optimizer = fn.SGD(first.parameters(), lr=0.05, momentum=0.9, dampening=0.5)
    fn.fit(first, X, Y, optimizer=optimizer, epochs=1, seed=0)
    second, other = copied((first, optimizer), how)
    for m, o in ((first, optimizer), (second, other)):
        fn.fit(m, X, Y, optimizer=o, epochs=2, seed=1)
    for name, value in weights(first).items():
        np.testing.assert_array_equal(value, weights(second)[name])


class Shifted(fn.ReLU):
    """Falls and rises: not what max pooling may be moved past."""

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        y, backward = super().forward(-x, train)
        return -y, lambda dy, need_dx=True: backward(dy, need_dx)


def test_pooling_moves_past_relu_and_nothing_else() -> None:
    x = RNG.standard_normal((2, 3, 4, 4))
    pool = fn.MaxPool2d(2)
    for layer in (fn.ReLU(), Shifted()):
        np.testing.assert_array_equal(fn.Sequential(layer, pool)(x), pool(layer(x)))
    chain = fn.Sequential(fn.ReLU(), pool)
    y, backward = chain.forward(x, train=True)
    one, back_one = fn.ReLU().forward(x, train=True)
    two, back_two = pool.forward(one, train=True)
    dy = RNG.standard_normal(y.shape)
    np.testing.assert_array_equal(y, two)
    np.testing.assert_array_equal(backward(dy), back_one(back_two(dy)))


class Block(fn.Layer):
    """A layer of one's own, with an attribute named as many name it."""

    def __init__(self) -> None:
        self.layers = fn.Sequential(fn.Linear(5, 4), fn.ReLU())
        self.head = fn.Linear(4, 3)

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        h, back_layers = self.layers.forward(x, train)
        y, back_head = self.head.forward(h, train)
        return y, lambda dy, need_dx=True: back_layers(back_head(dy), need_dx)


def test_a_layer_of_ones_own() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters("net")] == [
        "net.layers.0.weight",
        "net.layers.0.bias",
        "net.head.weight",
        "net.head.bias",
    ]
    assert [type(m).__name__ for m in block.modules()] == ["Block", "Sequential", "Linear", "ReLU", "Linear"]
    x, y = RNG.standard_normal((40, 5)), np.arange(40) % 3
    x[:, :3] += 3 * np.eye(3)[y]
    history = fn.fit(block, x, y, optimizer=fn.SGD(lr=0.3, momentum=0.9), epochs=20, seed=0)
    assert history.accuracy[-1] > 0.9


def test_load_state_dict_in_part() -> None:
    m = model()
    bias = np.arange(8, dtype="f")
    missing, unexpected = m.load_state_dict({"0.bias": bias, "9.bias": bias}, strict=False)
    assert missing == ["0.weight", "4.weight", "4.bias"]
    assert unexpected == ["9.bias"]
    np.testing.assert_array_equal(m.state_dict()["0.bias"], bias)


def test_a_wrong_gradient_leaves_the_step_as_it_was() -> None:
    layer = fn.Linear(3, 2, dtype="float64")
    x, dy = np.ones((4, 3)), np.ones((4, 2))
    layer.forward(x, train=True)[1](dy)
    expected = layer.weight.grad.copy()
    layer.zero_grad()
    _, backward = layer.forward(x, train=True)
    with pytest.raises(fn.ShapeError, match=r"Linear: expected the gradient of its output, \(4, 2\), got \(3, 2\)"):
        backward(dy[:3])
    backward(dy)
    np.testing.assert_array_equal(layer.weight.grad, expected)


def test_dtypes_by_name_or_by_type() -> None:
    assert fn.Linear(2, 2, dtype=np.float64).weight.dtype == np.float64  # type: ignore[arg-type]
    with pytest.raises(fn.DTypeError, match="expected dtype float32 or float64, got 'float16'"):
        fn.Linear(2, 2, dtype="float16")


def test_ceil_mode_takes_an_image_smaller_than_its_stride() -> None:
    x = np.full((1, 1, 2, 2), 3.0)
    np.testing.assert_array_equal(fn.MaxPool2d(2, 3, ceil_mode=True)(x), [[[[3.0]]]])


@pytest.mark.parametrize("backend", sorted(k.backends()))
def test_what_a_kernel_refuses(backend: str) -> None:
    x = np.ones((2, 3), "f")
    image, how = np.ones((1, 0, 4, 4), "f"), {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    with fn.use_backend(backend):
        with pytest.raises(TypeError, match="relu: y cannot be left out"):
            k.relu(x, out=False)
        with pytest.raises(TypeError, match="one target for each of 2 outputs"):
            k.max_pool2d(image, **POOL, out=(None, None, None))
        with pytest.raises(fn.ShapeError, match="at least one input and one output channel, got 0 and 5"):
            k.conv2d(image, np.ones((5, 0, 3, 3), "f"), None, **how, relu=False)
        with pytest.raises(fn.DTypeError, match="expected x to hold numbers, got object"):
            k.copy(np.array([None]), channels_last=False)
    if backend == "native":
        frozen = np.ones(4, "f")
        frozen.flags.writeable = False
        with pytest.raises(ValueError, match="param is changed in place, but it is read-only"):
            k.sgd(frozen, np.ones(4, "f"), None, np.array([1.0, 0, 0, 0, 0, 0]), np.zeros(1, np.int64))


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    fn.save(model(), pipe)
    reader.join(30)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "file").write_bytes(received[0])
    assert isinstance(fn.load(tmp_path / "file"), fn.Sequential)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fn.save(model(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_stride_far_beyond_the_image_takes_no_time() -> None:
    layer = fn.Conv2d(1, 1, 1, stride=100_000)
    y, backward = layer.forward(X, train=True)
    dx = backward(np.ones_like(y))
    assert np.count_nonzero(dx) == len(X)


def test_copied_dropout_drops_other_numbers() -> None:
    layer, x = fn.Dropout(0.5), np.ones((50, 50))
    assert not np.array_equal(copy.deepcopy(layer).forward(x, True)[0], layer.forward(x, True)[0])


def test_layers_describe_themselves() -> None:
    assert repr(fn.Sequential(fn.Linear(2, 3), fn.ReLU())) == (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True, dtype='float32')\n  (1): ReLU()\n)"
    )
