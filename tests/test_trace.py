"""Ten training steps of a convolutional network, loss by loss as PyTorch takes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.data import mnist

STEPS, BATCH = 10, 32
every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype,tolerance", [("float64", 1e-10), ("float32", 1e-4)])

#: What PyTorch 2.13 says in float64 of `synthetic()` and `weights()`, by `their_losses`.
EXPECTED = [
    2.30355047825108,
    2.1570513731271617,
    2.0062619018084336,
    1.729707335218907,
    1.458783310773654,
    1.1126676360285923,
    0.8124381244234655,
    0.4122053068119845,
    0.3066520508360891,
    0.20611562058448862,
]


def ours(dtype: str) -> fn.Sequential:
    return fn.Sequential(
        *(fn.Conv2d(1, 32, 3, dtype=dtype), fn.ReLU(), fn.MaxPool2d(2)),
        *(fn.Conv2d(32, 64, 3, dtype=dtype), fn.ReLU(), fn.MaxPool2d(2)),
        *(fn.Flatten(), fn.Linear(1600, 128, dtype=dtype), fn.Dropout(0), fn.Linear(128, 10, dtype=dtype)),
    )


def theirs(torch: Any, dtype: str) -> Any:
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1600, 128), nn.Dropout(0), nn.Linear(128, 10)),
    )
    return model.to(getattr(torch, dtype))


def weights() -> dict[str, Array]:
    """Initial weights that need no PyTorch: uniform in ±1/sqrt(fan_in), drawn by NumPy."""
    rng = np.random.default_rng(2024)
    state = {}
    for name, shape in (("0", (32, 1, 3, 3)), ("3", (64, 32, 3, 3)), ("7", (128, 1600)), ("9", (10, 128))):
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        state[f"{name}.weight"] = rng.uniform(-bound, bound, shape)
        state[f"{name}.bias"] = rng.uniform(-bound, bound, shape[:1])
    return state


def synthetic() -> tuple[Array, Array]:
    """Images of the size of MNIST's: noise, and a bright square whose place depends on the label."""
    rng = np.random.default_rng(7)
    x, y = rng.random((STEPS * BATCH, 1, 28, 28)), rng.integers(0, 10, STEPS * BATCH)
    for image, label in zip(x, y, strict=True):
        row, column = 5 * (label // 5) + 6, 5 * (label % 5) + 2
        image[0, row : row + 4, column : column + 4] += 6
    return x, y


class Trace(fn.Callback):
    """Notes down the loss of each batch, before its update."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        self.losses.append(loss)


def our_losses(model: fn.Layer, x: Array, y: Array) -> list[float]:
    """One epoch, in the order given, loss by loss."""
    trace, optimizer = Trace(), fn.SGD(lr=0.01, momentum=0.9, nesterov=True)
    fn.fit(model, x, y, optimizer=optimizer, batch_size=BATCH, epochs=1, shuffle=False, callbacks=[trace])
    return trace.losses


def their_losses(torch: Any, model: Any, x: Array, y: Array) -> list[float]:
    """The same, by PyTorch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    losses = []
    for i in range(0, len(x), BATCH):
        scores = model(torch.from_numpy(x[i : i + BATCH]))
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y[i : i + BATCH]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@every_dtype
@every_backend
def test_ten_losses_are_the_stored_ones(backend: str, dtype: str, tolerance: float) -> None:
    model = ours(dtype)
    model.load_state_dict(weights())
    with fn.use_backend(backend):
        assert our_losses(model, *synthetic()) == pytest.approx(EXPECTED, rel=tolerance)


def assert_as_pytorch(x: Array, y: Array, dtype: str, tolerance: float) -> None:
    """Ten steps of both, from PyTorch's own initial weights; then the weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    its, mine = theirs(torch, dtype), ours(dtype)
    mine.load_state_dict({key: value.numpy() for key, value in its.state_dict().items()})
    x = x.astype(dtype)
    assert our_losses(mine, x, y) == pytest.approx(their_losses(torch, its, x, y), rel=tolerance)
    for key, value in mine.state_dict().items():
        np.testing.assert_allclose(value, its.state_dict()[key].numpy(), rtol=tolerance, atol=tolerance, err_msg=key)


@every_dtype
def test_as_pytorch_on_synthetic_images(dtype: str, tolerance: float) -> None:
    assert_as_pytorch(*synthetic(), dtype, tolerance)


@every_dtype
def test_as_pytorch_on_mnist(real_data: Path, dtype: str, tolerance: float) -> None:
    data = mnist(real_data / "mnist")
    assert_as_pytorch(data.x_train[: STEPS * BATCH], data.y_train[: STEPS * BATCH], dtype, tolerance)


def test_the_stored_losses_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    model = theirs(torch, "float64")
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights().items()})
    assert their_losses(torch, model, *synthetic()) == pytest.approx(EXPECTED, rel=1e-10)
