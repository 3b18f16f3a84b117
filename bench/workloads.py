"""Training steps to be measured: networks, data and optimizers, in the names that fastnn shares with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn._kernels import Array
from fastnn.courses import fashion, fashion_fnn, mitx
from fastnn.courses.images import Split

from .inputs import stored

BATCHES = 16  #: how many batches a measurement goes through in turn, unless a workload says otherwise


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained, on scores of ten classes and the mean cross-entropy.

    input: the shape of one sample. layers: (name of the class, its arguments), from the input to the scores.
    optimizer: the name of the class; options: its arguments. count: of batches. A GRU passes on the last hidden states
    of its last layer, side by side.
    """

    name: str
    input: tuple[int, ...]
    layers: tuple[tuple[Any, ...], ...]
    batch: int = 32
    optimizer: str = "SGD"
    options: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    count: int = BATCHES

    def build(self, library: Any) -> Any:
        """The model in what has ``Sequential`` and all the layers; its GRU returns what `last` of `fastnn.GRU` is."""
        return library.Sequential(*(getattr(library, name)(*args) for name, *args in self.layers))

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are, where x is made of these."""
        name, *args = self.layers[0]
        return args[0] if name == "BertModel" else None

    def as_json(self) -> dict[str, Any]:
        """What `from_json` makes the workload from."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Workload:
        """The workload that `as_json` described, after its way through JSON."""
        layers = tuple(tuple(layer) for layer in data["layers"])
        return Workload(**{**data, "input": tuple(data["input"]), "layers": layers})

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all parameters by PyTorch's keys, for peers that have no layers of these names."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (name, *args) in enumerate(self.layers):
            if name in ("Linear", "Conv2d"):
                window = (args[2], args[2]) if name == "Conv2d" else ()
                shapes |= {f"{i}.weight": (args[1], args[0], *window), f"{i}.bias": (args[1],)}
        return shapes

    def without_dropout(self) -> Workload:
        """The same network with nothing random in it, for comparing losses."""
        return self._without(f"{self.name} without dropout", "Dropout")

    def asked_of(self, peer: str) -> Workload:
        """What a peer computes in its place: JAX, which has no layers, the bare network by SGD if it is normalised."""
        if peer != "jax" or all(layer[0] != "BatchNorm1d" for layer in self.layers):
            return self
        bare = self._without(f"{self.name}, bare", "BatchNorm1d", "Dropout")
        return replace(bare, optimizer="SGD", options={"lr": self.options["lr"]})

    def _without(self, name: str, *left_out: str) -> Workload:
        return replace(self, name=name, layers=tuple(layer for layer in self.layers if layer[0] not in left_out))


def _mlp(*widths: int, batch: int = 32) -> Workload:
    layers: list[tuple[Any, ...]] = []
    for i, o in pairwise(widths):
        layers += [("Linear", i, o), ("ReLU",)]
    name = "-".join(map(str, widths)) + ("" if batch == 32 else f" batch {batch}")
    return Workload(name, widths[:1], tuple(layers[:-1]), batch)


MNIST_CNN = Workload(
    "MNIST CNN",
    (1, 28, 28),
    (
        ("Conv2d", 1, 32, 3),
        ("ReLU",),
        ("MaxPool2d", 2),
        ("Conv2d", 32, 64, 3),
        ("ReLU",),
        ("MaxPool2d", 2),
        ("Flatten",),
        ("Linear", 1600, 128),
        ("Dropout", 0.5),
        ("Linear", 128, 10),
    ),
    options={"lr": 0.01, "momentum": 0.9, "nesterov": True},
)


#: The classifier of a course's sentiment analysis, on vectors of a sentence encoder.
GRU = Workload(
    "2-layer bidirectional GRU 384-256, batch 32 of 128 steps",
    (128, 384),
    (("GRU", 384, 256, 2, True, True, 0.0, True), ("Linear", 512, 10)),
    count=2,
)


def normalised(*widths: int, batch: int) -> Workload:
    """Blocks of Linear, ReLU, BatchNorm and Dropout, and a last Linear; by Adam."""
    layers: list[tuple[Any, ...]] = []
    for i, o in pairwise(widths[:-1]):
        layers += [("Linear", i, o), ("ReLU",), ("BatchNorm1d", o), ("Dropout", 0.5)]
    name = f"{'-'.join(map(str, widths))} normalised, Adam, batch {batch}"
    return Workload(name, widths[:1], (*layers, ("Linear", *widths[-2:])), batch, "Adam", {"lr": 0.001})


WORKLOADS = {
    workload.name: workload
    for workload in (
        MNIST_CNN,
        _mlp(784, 128, 10),
        _mlp(784, 10, 10),
        _mlp(3072, 50, 10, batch=200),
        normalised(784, 512, 128, 64, 10, batch=128),
        GRU,
    )
}
#: Networks that are only evaluated: all-MiniLM-L6-v2's shape, whose states, side by side, are its scores.
ENCODERS = {
    workload.name: workload
    for workload in (
        Workload("MiniLM encoder, 32 x 128 tokens", (128,), (("BertModel", 30522, 384, 6, 12, 1536), ("Flatten",))),
    )
}
#: What ``python -m bench scaling`` varies: title of the varied size, and the workload at each of its values.
SWEEPS = {
    "MNIST CNN, batch": {n: replace(MNIST_CNN, name=f"MNIST CNN batch {n}", batch=n) for n in (1, 8, 32, 128)},
    "784-128-10, batch": {n: replace(_mlp(784, 128, 10), name=f"784-128-10 batch {n}", batch=n) for n in (8, 32, 128)},
    "784-width-10, width": {width: _mlp(784, width, 10) for width in (32, 128, 512)},
}


def batches(workload: Workload, seed: int = 0) -> list[tuple[Array, Array]]:
    """Random batches: x (batch, *input) float32, images channels-last in memory, or tokens; and labels (batch,), int64.

    Several, so that neither the branches of a kernel nor the network can learn one by heart.
    """
    rng = np.random.default_rng(seed)
    shape = (workload.batch, *workload.input)
    tokens = workload.vocabulary

    def drawn() -> Array:
        return rng.integers(0, tokens, shape) if tokens else _stored(rng.standard_normal(shape).astype(np.float32))

    return [(drawn(), rng.integers(0, 10, workload.batch)) for _ in range(workload.count)]


@cache
def samples(data: str) -> tuple[Array, Array]:
    """What a course trains on, in its order: x (N, features) float32 and labels (N,) int64.

    data: a name in `SAMPLES`
    """
    if data not in SAMPLES:
        raise ValueError(f"expected data {' or '.join(map(repr, SAMPLES))}, got {data!r}")
    x, labels = SAMPLES[data]().training.flat()
    return x, labels.astype(np.int64)


#: The data sets of courses, in the parts in which they are trained on and tested.
SAMPLES: dict[str, Callable[[], Split]] = {
    "mnist": lambda: mitx.mnist(mitx.SEED),
    "fashion-mnist": lambda: fashion.split(fashion_fnn.HELD_OUT, seed=fashion_fnn.SEED),
}


def stacked(workload: Workload) -> tuple[Array, Array]:
    """All batches, one after the other in one array: x (count * batch, *input) and labels."""
    x, labels = zip(*batches(workload), strict=True)
    return _stored(np.concatenate(x)), np.concatenate(labels)


def _stored(x: Array) -> Array:
    return stored(x, (0, 2, 3, 1) if x.ndim == 4 else None)


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    """Initial parameters by PyTorch's keys, alike for every peer: evenly from ±1/sqrt(fan in), biases 0, scales 1."""
    rng = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for key, shape in shapes.items():
        bound = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.0
        values[key] = rng.uniform(-bound, bound, shape).astype(np.float32)
        if len(shape) == 1 and key.endswith("weight"):
            values[key][:] = 1
    return values
