"""Arrays with which a row of the kernel table is measured, at the shapes of real networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._kernels import TABLE, Array, Kernel, Target, aligned_zeros, use_backend
from fastnn._kernels.kernel import REAL, Arg

Shape = Mapping[str, Any]
SHAPES = Path(__file__).with_name("shapes.json")


@dataclass
class Call:
    """A row with everything that one call of it takes."""

    kernel: Kernel
    shape: Shape
    sizes: dict[str, int]  #: every size of the row by its symbol
    params: dict[str, Any]
    inputs: list[Any] = field(default_factory=list)  #: arrays; None for those that the shape is "without"
    targets: tuple[Array, ...] = ()  #: one for each output, in the row's order in memory

    def shape_of(self, arg: Arg) -> tuple[int, ...]:
        """The shape of one of the row's arrays."""
        dims: list[int] = []
        for symbol in arg.dims:
            if symbol == "*":
                dims += self.shape["shape"]
            else:
                dims.append(symbol if isinstance(symbol, int) else self.sizes[symbol])
        return tuple(dims)

    def run(self) -> Any:
        """Run the row on the active backend."""
        return self.kernel(*self.inputs, out=self._out(), **self.params)

    def _out(self) -> Target | tuple[Target, ...]:
        if not self.targets:
            return None
        return self.targets if len(self.targets) > 1 else self.targets[0]


# --- shapes -----------------------------------------------------------------------------------------------------------


@cache
def shapes(row: str) -> dict[str, Shape]:
    """The shapes of a row, by name: those of `shapes.json`, else the largest of the row's own samples."""
    if found := _families().get(family(row)):
        return {name: _tuples({**found["defaults"], **shape}) for name, shape in found["shapes"].items()}
    samples = TABLE[row].samples
    return {"sample": max(samples, key=lambda shape: sum(a.size for a in make(row, shape).inputs if a is not None))}


def family(row: str) -> str:
    """The name of the family of rows in `shapes.json` that this one belongs to; else its own."""
    return next((name for name, found in _families().items() if row in found["rows"]), row)


@cache
def _families() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHAPES.read_text(encoding="utf-8"))
    return found


def _tuples(shape: Shape) -> Shape:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()}


def cases() -> list[tuple[str, str]]:
    """Every (row, name of a shape) that there is to measure."""
    return [(row, name) for row in TABLE for name in shapes(row)]


# --- sizes and parameters ---------------------------------------------------------------------------------------------


def parameters(kernel: Kernel, shape: Shape) -> dict[str, Any]:
    """The call's keyword arguments."""
    given = dict(shape)
    if "W" in shape:
        given["input_size"] = shape["H"], shape["W"]
    if "KH" in shape:
        given["kernel_size"] = shape["KH"], shape["KW"]
    return {name: given[name] for name in (*kernel.ints, *kernel.floats)}


def sizes(kernel: Kernel, shape: Shape) -> dict[str, int]:
    """Every size of a call by its symbol; the row itself derives those that follow from others."""
    found = {name: value for name, value in shape.items() if isinstance(value, int) and len(name) <= 2}
    if "groups" in shape:
        found["I"] = shape["C"] // shape["groups"]
    if "shape" in shape:
        found["*"] = int(np.prod(shape["shape"], dtype=np.int64))
    if kernel.derive is not None:
        kernel.derive(found, parameters(kernel, shape))
    return found


# --- arrays -----------------------------------------------------------------------------------------------------------


def make(row: str, shape: Shape, dtype: str = "float32", seed: int = 0) -> Call:
    """A call of a row: inputs drawn from a seed, and memory for the outputs, all laid out as the row has them.

    Arrays begin at multiples of 64 bytes, as in a network's buffers and as PyTorch's do.
    """
    kernel = TABLE[row]
    rng = np.random.default_rng(seed)
    call = Call(kernel, shape, sizes(kernel, shape), parameters(kernel, shape))
    for arg in kernel.inputs:
        if arg.name in shape.get("without", ()):
            call.inputs.append(None)
            continue
        # `copy` needs an input in the order that it changes.
        order = (0, 2, 3, 1) if call.params.get("channels_last") is False and len(shape["shape"]) == 4 else arg.order
        call.inputs.append(stored(_value(call, arg, dtype, rng), order))
    call.targets = tuple(stored(np.zeros(call.shape_of(arg), _dtype(arg, dtype)), arg.order) for arg in kernel.outputs)
    return call


def stored(a: Array, order: tuple[int, ...] | None) -> Array:
    """A copy of an array, aligned to 64 bytes. order: its axes from the outermost to the innermost in memory."""
    axes = tuple(range(a.ndim)) if order is None else order
    view: Array = (
        aligned_zeros(a.size, a.dtype.name).reshape([a.shape[axis] for axis in axes]).transpose(np.argsort(axes))
    )
    view[...] = a
    return view


def _dtype(arg: Arg, dtype: str) -> str:
    return dtype if arg.dtype in ("real", "any") else arg.dtype


def _value(call: Call, arg: Arg, dtype: str, rng: np.random.Generator) -> Array:
    """Numbers for one argument, of the size that they have in a network."""
    row, shape = call.kernel.name, call.shape_of(arg)
    if arg.values is not None:
        drawn: Array = arg.values(rng, shape, call.sizes)
        return drawn.astype(dtype) if arg.dtype == "real" else drawn
    if arg.name == "index":
        return _chosen(call, rng)
    if _dtype(arg, dtype) not in REAL:
        return rng.integers(0, 100, shape).astype(_dtype(arg, dtype))
    a = rng.standard_normal(shape)
    if arg.name == "weight":  # this and the next keep sums of many products near 1
        a /= np.sqrt(max(1, a[:1].size))
    elif arg.name == "dy" and row.endswith("_backward_weights"):
        a /= np.sqrt(max(1, a[:, :1].size))
    elif arg.name == "y":  # what ReLU returned
        a = np.maximum(a, 0)
    return a.astype(dtype)


def _chosen(call: Call, rng: np.random.Generator) -> Array:
    """Where max pooling found its maxima in random images; fused with a convolution, that has ReLU in front of it."""
    if "pool_size" in call.params:
        taps = call.sizes["MH"] * call.sizes["MW"]
        shape = [call.sizes[symbol] for symbol in ("N", "O", "YH", "YW")]
        return rng.choice(np.array([*range(taps), 65535], np.uint16), shape)
    x = rng.standard_normal([call.sizes[symbol] for symbol in "NCHW"])
    params = {name: value for name, value in call.params.items() if name != "input_size"}
    with use_backend("reference"):
        index: Array = TABLE["max_pool2d"](x, **params)[1]
    return index
