"""The CUDA backend: numba.cuda kernels on arrays in a GPU's memory.

Each kernel of the table is one function, named as its row, in the module of its family; it launches CUDA kernels. A row
that has none is an error that says so. Outputs come first, then inputs, as in the row: flat arrays of Numba's, in the
row's order in memory, None where an optional one is left out; then the call's parameters by name, and `dims`, the sizes
by symbol. Outputs are overwritten, whatever they hold, inputs that the row calls `inout` changed in place; what the row
calls `host` is an array of NumPy's. Two runs give the same bits.

Imported when a device is first asked for: ``import fastnn`` loads neither Numba nor a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..._errors import DTypeError, ShapeError
from .. import kernel
from ..kernel import Arg, Plan, Target
from ..table import TABLE
from . import (
    activation,
    augment,
    branches,
    clip,
    custom,
    dropout,
    embedding,
    layout,
    linear,
    loss,
    norm,
    optim,
    pointwise,
    pooling,
)
from .array import DeviceArray, move
from .launch import check_device, free_memory

_FAMILIES = (
    linear,
    pooling,
    activation,
    branches,
    dropout,
    loss,
    optim,
    layout,
    augment,
    norm,
    pointwise,
    clip,
    embedding,
)
#: The function of each row that has one, which has the row's name.
FUNCTIONS: dict[str, Callable[..., None]] = {
    name: function for family in _FAMILIES for name, function in vars(family).items() if name in TABLE
}

_CHANNELS_LAST = (0, 2, 3, 1)
_BY_INDEX = ("dropout",)  #: of the rows for arrays of any shape, those whose result depends on where a number stands

Order = tuple[int, ...] | None


class CudaBackend:
    """Runs planned calls on arrays in a GPU's memory."""

    name = "cuda"
    Record = None

    def run(
        self, plan: Plan, inputs: Sequence[Any], params: Mapping[str, Any], out: Sequence[Target]
    ) -> tuple[Any, ...]:
        """Compute one call; arrays that are not laid out as the row says are copied first."""
        row = plan.kernel
        if row.name == "copy":
            return (_copy(plan, inputs[0], params, out[0]),)
        free = _free_order(row.name, inputs[0])
        given = [
            None if a is None else _given(row.name, arg, a, free) for arg, a in zip(row.inputs, inputs, strict=True)
        ]
        results: list[Any] = []
        written: list[Any] = []
        late: list[tuple[DeviceArray, DeviceArray, bool]] = []
        for i, target in enumerate(out):
            arg, order = row.outputs[i], _order(row.outputs[i], free)
            result, into = _target(plan, i, target, order, late)
            results.append(result)
            written.append(None if into is None else into.flat(order))
            if into is None and not arg.optional:
                raise TypeError(f"{row.name}: {arg.name} cannot be left out")
        self._function(plan)(*written, *given, dims=plan.dims, **params)
        for place, value, added in late:
            move(place, value, added)
        return tuple(results)

    def _function(self, plan: Plan) -> Callable[..., None]:
        name, made = plan.kernel.name, plan.kernel.made
        if made is not None:
            return partial(custom.compute, made)
        if name not in FUNCTIONS:
            caller = kernel.where()
            raise NotImplementedError(f'{caller + ": " if caller else ""}no CUDA kernel for {name!r}; model.to("cpu")')
        return FUNCTIONS[name]


def _free_order(name: str, first: Any) -> Order:
    """The order in which arrays of any shape lie: that of the first of them if it has no gaps, else C order."""
    if name in _BY_INDEX or first.ndim != 4 or first.flat() is not None or first.flat(_CHANNELS_LAST) is None:
        return None
    return _CHANNELS_LAST


def _order(arg: Arg, free: Order) -> Order:
    return free if arg.dims[-1:] == ("*",) else arg.order


def _given(name: str, arg: Arg, a: Any, free: Order) -> Any:
    """An input as the function of the row takes it."""
    if isinstance(a, DeviceArray) == arg.host:
        here, there = ("the host's", "the GPU's") if arg.host else ("the GPU's", "the host's")
        raise TypeError(f"{name}: expected {arg.name} in {here} memory, got it in {there}; see fastnn.to_device")
    if arg.host:
        return a
    order = _order(arg, free)
    flat = a.flat(order)
    if flat is None and arg.inout:
        raise ValueError(f"{name}: {arg.name} is changed in place, so it must be contiguous")
    return a.dense(order).flat(order) if flat is None else flat


def _target(
    plan: Plan, i: int, target: Target, order: Order, late: list[tuple[DeviceArray, DeviceArray, bool]]
) -> tuple[DeviceArray | None, DeviceArray | None]:
    """What the call returns as output `i`, and the array that the function writes it to."""
    shape, dtype = plan.out_shapes[i], plan.out_dtypes[i]
    if target is False:
        return None, None
    if target is None:
        made = DeviceArray.empty(shape, dtype, order)
        return made, made
    into, added = target if isinstance(target, tuple) else (target, False)
    name = f"{plan.kernel.name}: out for {plan.kernel.outputs[i].name}"
    if not isinstance(into, DeviceArray):
        raise TypeError(f"{name} must be an array in the GPU's memory, got {type(into).__name__}")
    if into.shape != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {into.shape}")
    if into.dtype != dtype:
        raise DTypeError(f"{name} must be {dtype}, got {into.dtype}")
    if not added and into.flat(order) is not None:
        return into, into
    made = DeviceArray.empty(shape, dtype, order)
    late.append((into, made, bool(added)))
    return into, made


def _copy(plan: Plan, x: DeviceArray, params: Mapping[str, Any], target: Target) -> DeviceArray:
    """The row `copy`: arrays are moved from one order to another by the backend in any case."""
    order = _CHANNELS_LAST if params["channels_last"] and x.ndim == 4 else None
    late: list[tuple[DeviceArray, DeviceArray, bool]] = []
    result, into = _target(plan, 0, target, order, late)
    if result is None or into is None:
        raise TypeError("copy: y cannot be left out")
    if np.may_share_memory(x.shadow, into.shadow):
        x = x.copy()
    move(into, x)
    for place, value, added in late:
        move(place, value, added)
    return result


BACKEND = CudaBackend()
DeviceArray.backend = BACKEND

__all__ = ["BACKEND", "FUNCTIONS", "CudaBackend", "DeviceArray", "check_device", "free_memory"]
