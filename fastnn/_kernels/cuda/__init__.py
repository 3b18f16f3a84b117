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

try:
    import numba.cuda  # noqa: F401
except ImportError as error:
    raise ImportError(
        "device 'cuda' needs Numba and its CUDA target, the package numba-cuda: pip install \"fastnn[cuda]\""
    ) from error

from ..._errors import DTypeError, ShapeError
from .. import kernel
from ..kernel import Arg, Plan, Target
from ..table import TABLE
from . import (
    activation,
    augment,
    branches,
    clip,
    conv,
    conv_pool,
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
from .array import DeviceArray, free_memory, move
from .launch import check_device

_FAMILIES = (
    linear,
    conv,
    conv_pool,
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
        function = self._function(plan)
        free = _free_order(row.name, inputs[0])
        orders = [_order(arg, free) for arg in (*row.outputs, *row.inputs)]
        late: list[tuple[DeviceArray, DeviceArray, bool]] = []
        targets = [_target(plan, i, target, orders[i], late) for i, target in enumerate(out)]
        # Copies are held until the kernels are launched: what is let go of is memory for the next array.
        given = zip(row.inputs, inputs, orders[len(out) :], strict=True)
        arrays = [*(into for _, into in targets), *(_given(row.name, *one) for one in given)]
        flat = (a.flat(order) if isinstance(a, DeviceArray) else a for a, order in zip(arrays, orders, strict=True))
        function(*flat, dims=plan.dims, **params)
        for place, value, added in late:
            move(place, value, added)
        return tuple(result for result, _ in targets)

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


def _given(name: str, arg: Arg, a: Any, order: Order) -> Any:
    """An input, laid out as the function of the row takes it."""
    if a is None or (arg.host and not isinstance(a, DeviceArray)):
        return a
    if arg.host or not isinstance(a, DeviceArray):
        raise TypeError(f"{name}: expected {arg.name} in the {'host' if arg.host else 'GPU'}'s memory")
    if arg.inout and a.flat(order) is None:
        raise ValueError(f"{name}: {arg.name} is changed in place, so it must be contiguous")
    return a.dense(order)


def _target(
    plan: Plan, i: int, target: Target, order: Order, late: list[tuple[DeviceArray, DeviceArray, bool]]
) -> tuple[DeviceArray | None, DeviceArray | None]:
    """What the call returns as output `i`, and the array that the function writes it to."""
    shape, dtype = plan.out_shapes[i], plan.out_dtypes[i]
    if target is False:
        if not plan.kernel.outputs[i].optional:
            raise TypeError(f"{plan.kernel.name}: {plan.kernel.outputs[i].name} cannot be left out")
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
    assert result is not None and into is not None
    if np.may_share_memory(x.shadow, into.shadow):
        x = x.copy()
    move(into, x)
    for place, value, added in late:
        move(place, value, added)
    return result


BACKEND = CudaBackend()
DeviceArray.device_backend = BACKEND

__all__ = ["BACKEND", "FUNCTIONS", "CudaBackend", "DeviceArray", "check_device", "free_memory"]
