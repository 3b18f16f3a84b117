"""What a model is made of: output shapes, parameters and multiply-adds of its layers, as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import _kernels as k
from ._errors import DTypeError, ShapeError
from ._kernels import Array
from ._kernels.kernel import Dims, Plan, observing
from .layers import Layer, Parameter
from .layers.layer import Backward


def _conv(d: Dims) -> int:
    return math.prod(d[size] for size in ("N", "O", "P", "Q", "I", "KH", "KW"))


#: By kernel, the multiply-adds of its products; other kernels have none. Masks and causality make them no fewer.
_MULTIPLY_ADDS: dict[str, Callable[[Dims], int]] = {
    "linear": lambda d: d["N"] * d["I"] * d["O"],
    "conv2d": _conv,
    "conv2d_max_pool2d": _conv,
    "conv2d_backward_data": _conv,  # the forward of a transposed convolution
    "recurrence": lambda d: d["A"] * d["B"] * d["G"] * d["H"],
    "attention": lambda d: 2 * d["N"] * d["T"] * d["S"] * d["E"],
    "linear_attention": lambda d: d["N"] * (d["T"] + d["S"]) * d["E"] * (d["E"] // d["A"]),
    "mix_steps": lambda d: d["N"] * d["R"] * d["S"] * d["E"],
}
_SAMPLES = 2  #: with one, a batch normalisation that keeps no running statistics would have nothing to normalise by
_HEADING = ("layer", "kind", "output", "parameters", "trainable", "multiply-adds", "")


@dataclass(frozen=True)
class Row:
    """A layer; what a row above has counted, be it parameters or the layer itself, does not count again.

    name: its key in the layer that contains it. depth: in how many layers it lies, the model not counted.
    output: its shape, N standing for the samples; several for a tuple, empty for a layer that was not called.
    shared: how many of its own parameters rows above have counted.
    """

    name: str
    kind: str
    depth: int
    output: str
    parameters: int
    trainable: int
    multiply_adds: int
    shared: int = 0

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        parameters = [f"{n:,}" if self.parameters else "-" for n in (self.parameters, self.trainable)]
        multiply_adds = f"{self.multiply_adds:,}" if self.multiply_adds else "-"
        note = f"{self.shared:,} shared with above" if self.shared else ""
        return "  " * self.depth + self.name, self.kind, self.output, *parameters, multiply_adds, note


@dataclass(frozen=True, repr=False)
class Summary:
    """All layers of a model, and the totals; printed, a table.

    output: the shape of the model's, as of a row.
    multiply_adds: of one sample going forward through convolutions and linear layers, products with padding included,
    as PyTorch counts them (its `FlopCounterMode` counts each twice, as a product and a sum). Of other layers: 0.
    """

    title: str
    output: str
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all parameters, each counted once."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Numbers in parameters that are not frozen."""
        return sum(row.trainable for row in self.rows)

    @property
    def frozen(self) -> int:
        """Numbers in frozen parameters."""
        return self.parameters - self.trainable

    @property
    def multiply_adds(self) -> int:
        """Those of all layers."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        total = Row("total", "", 0, self.output, self.parameters, self.trainable, self.multiply_adds)
        lines = _aligned([_HEADING, *(row.cells() for row in self.rows), total.cells()])
        rule = "-" * max(map(len, lines))
        frozen = f"{self.parameters:,} parameters: {self.trainable:,} trainable, {self.frozen:,} frozen"
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], frozen])

    __repr__ = __str__


def summary(model: Layer, input_shape: int | Sequence[int], dtype: str | None = None) -> Summary:
    """What `Layer.summary` returns."""
    x = _zeros(input_shape, dtype or (model.dtype if model.vocabulary is None else "int64"))
    model = _copy(model)
    watch = _Watch(model)
    with observing(watch.kernel):
        try:
            model.forward(k.to_device(x, model.device), train=False)
        except ShapeError as error:
            raise ShapeError(f"input_shape: it does not fit the model: {error}") from error
    title = f"{type(model).__name__} for x {_shape(x)} {x.dtype.name}"
    return Summary(title, watch.outputs[model], tuple(_rows(model, watch)))


def _zeros(input_shape: int | Sequence[int], dtype: str) -> Array:
    shape = tuple(np.atleast_1d(np.asarray(input_shape, object)).tolist())
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0 for n in shape):
        raise ShapeError(f"input_shape: expected whole numbers, the shape of one sample, got {input_shape!r}")
    try:
        return np.zeros((_SAMPLES, *shape), dtype)
    except TypeError as error:
        raise DTypeError(f"dtype: {error}") from error


def _copy(model: Layer) -> Layer:
    """The same layers, with the very same parameters: what is done to their `forward` is not done to the model."""
    known: dict[int, Any] = {id(p): p for p in model.parameters()}
    known |= {id(layer): copy(layer) for layer in model.modules() if not any(layer.named_children())}
    return deepcopy(model, known)


class _Watch:
    """Notes what the layers of a model return, and what the kernels that each of them calls multiply."""

    def __init__(self, model: Layer) -> None:
        self.outputs: dict[Layer, str] = {}
        self.multiply_adds: Counter[Layer] = Counter()
        self._running: list[Layer] = []
        for layer in set(model.modules()):
            vars(layer)["forward"] = partial(self._forward, layer, layer.forward)

    def _forward(self, layer: Layer, forward: Any, *arguments: Any, **options: Any) -> tuple[Any, Backward]:
        self._running.append(layer)
        y, backward = forward(*arguments, **options)
        self._running.pop()
        self.outputs[layer] = _shape(y)
        return y, backward

    def kernel(self, plan: Plan) -> None:
        """A kernel is called by the innermost layer."""
        count = _MULTIPLY_ADDS.get(plan.kernel.name)
        if count is not None:
            self.multiply_adds[self._running[-1]] += count(plan.dims) // _SAMPLES


def _shape(y: Any) -> str:
    """``(N, 3)`` for an array (2, 3) that came of two samples, ``(4N, 3)`` for (8, 3); of a tuple, that of each."""
    if isinstance(y, tuple | list):
        return ", ".join(map(_shape, y))
    sizes = [str(n) for n in y.shape]
    if sizes and y.shape[0] % _SAMPLES == 0:
        sizes[0] = "N" if y.shape[0] == _SAMPLES else f"{y.shape[0] // _SAMPLES}N"
    return f"({', '.join(sizes)})"


def _rows(model: Layer, watch: _Watch) -> Iterator[Row]:
    """A row for each layer inside the model, in their order; one for the model if it has something of its own."""
    counted: set[int] = set()

    def rows(layer: Layer, name: str, depth: int) -> Iterator[Row]:
        again = id(layer) in counted
        own = {id(p): p for p in vars(layer).values() if isinstance(p, Parameter)}
        new = [p for p in own.values() if id(p) not in counted]
        counted.update((id(layer), *own))
        row = Row(
            name,
            type(layer).__name__,
            max(depth, 0),
            watch.outputs.get(layer, ""),
            sum(p.size for p in new),
            sum(p.size for p in new if p.requires_grad),
            0 if again else watch.multiply_adds[layer],
            sum(p.size for p in own.values()) - sum(p.size for p in new),
        )
        is_frame = depth < 0 and any(layer.named_children())
        if not is_frame or own or row.multiply_adds:
            yield row
        for child_name, child in () if again else layer.named_children():
            yield from rows(child, child_name, depth + 1)

    return rows(model, model.name or "", -1)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADING))]

    def line(row: Sequence[str]) -> str:
        numbered = enumerate(zip(row, widths, strict=True))
        return "  ".join(cell.rjust(w) if 3 <= i <= 5 else cell.ljust(w) for i, (cell, w) in numbered).rstrip()

    return [line(row) for row in rows]
