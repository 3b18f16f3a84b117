"""A user's activations, compiled by Numba, beside the built-in ones of the same bytes: calls from Python, in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array, Kernel
from fastnn.custom.elementwise import Elementwise
from fastnn.layers.activation import Activation

from .inputs import stored
from .report import aligned, micros
from .rounds import in_turn

SHAPES = {"a layer": (128, 512), "images": (32, 32, 26, 26)}
SLICE = 0.01  #: seconds that a measurement lasts at least


@fn.elementwise
def own_relu(x: float) -> float:
    """As `ReLU`."""
    return max(x, 0)


@fn.elementwise
def own_silu(x: float) -> float:
    """As `SiLU`."""
    return x / (1 + math.exp(-x))


@fn.elementwise
def own_elu(x: float, alpha: float = 1.0) -> float:
    """As `ELU`."""
    return x if x > 0 else alpha * math.expm1(x)


@fn.elementwise
def own_softplus(x: float) -> float:
    """As `Softplus`."""
    return math.log1p(math.exp(x))


@fn.elementwise
def own_tanh(x: float) -> float:
    """As `Tanh`."""
    return math.tanh(x)


PAIRS: dict[str, tuple[type[Elementwise], type[Activation]]] = {
    "ReLU": (own_relu, fn.ReLU),
    "SiLU": (own_silu, fn.SiLU),
    "ELU": (own_elu, fn.ELU),
    "Softplus": (own_softplus, fn.Softplus),
    "Tanh": (own_tanh, fn.Tanh),
}
TASKS = tuple(f"{name}, {way}, {shape}" for name in PAIRS for way in ("forward", "backward") for shape in SHAPES)


@dataclass(frozen=True)
class Timing:
    """One task. own, built_in: the µs of each round."""

    task: str
    own: Sequence[float]
    built_in: Sequence[float]

    def ratio(self) -> float:
        """How many times as long the user's takes: the median over rounds."""
        return median(a / b for a, b in zip(self.own, self.built_in, strict=True))


def compare(names: Sequence[str], threads: int, rounds: int, dtype: str = "float32") -> list[Timing]:
    """Measure the tasks of these names, in turn."""
    fn.set_num_threads(threads)
    calls = {(name, who): call for name in names for who, call in enumerate(_calls(name, dtype))}
    repeats = {key: max(1, round(SLICE / _seconds(call, 3))) for key, call in calls.items()}  # compiled by the first
    found: dict[Any, list[float]] = {}
    for name in names:
        both: Mapping[Any, Callable[[], float]]
        both = {key: _measure(calls[key], repeats[key]) for key in ((name, 0), (name, 1))}
        found |= in_turn(both, rounds, pause=0.01)
    return [Timing(name, *([1e6 * s for s in found[name, who]] for who in (0, 1))) for name in names]


def _calls(task: str, dtype: str) -> list[Callable[[], Any]]:
    """What calls the user's kernel, and the built-in one."""
    name, way, shape = task.split(", ")
    rng = np.random.default_rng(0)
    x, dy = (stored(rng.standard_normal(SHAPES[shape]).astype(dtype), None) for _ in range(2))
    return [_call(layer(), way == "backward", x, dy) for layer in PAIRS[name]]


def _call(layer: Activation, backward: bool, x: Array, dy: Array) -> Callable[[], Any]:
    kernel: Kernel = layer.kernels()[backward]
    options = {name: getattr(layer, name) for name in kernel.floats}
    out = stored(np.zeros_like(x), None)
    arrays = (dy, x) if backward else (x,)
    return lambda: kernel(*arrays, out=out, **options)


def _measure(call: Callable[[], Any], repeats: int) -> Callable[[], float]:
    return lambda: _seconds(call, repeats)


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    """Of one call, after one that does not count."""
    call()
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def table(timings: Sequence[Timing]) -> str:
    """One line for each task; µs are medians."""
    lines = [("activation", "a user's µs", "built in µs", "ratio")]
    lines += [(t.task, micros(median(t.own)), micros(median(t.built_in)), f"{t.ratio():.2f}") for t in timings]
    return aligned(lines, right={1, 2, 3})
