"""The NumPy backend: the definition of every kernel.

Each kernel is one function, named as its row in the table, from arrays in logical shapes to new arrays. Nothing here is
tuned: where it differs from a compiled backend, the compiled backend is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..._errors import DTypeError, ShapeError
from ..kernel import Array, Plan, Target, device_backend
from ..table import TABLE
from . import (
    activation,
    attention,
    augment,
    branches,
    clip,
    conv,
    conv_pool,
    dropout,
    embedding,
    layout,
    linear,
    linear_attention,
    loss,
    norm,
    optim,
    pointwise,
    pooling,
    recurrence,
)

_FAMILIES = (
    linear,
    conv,
    conv_pool,
    pooling,
    activation,
    branches,
    dropout,
    attention,
    linear_attention,
    loss,
    optim,
    layout,
    augment,
    norm,
    pointwise,
    clip,
    embedding,
    recurrence,
)
#: Every row's function, which has the row's name.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function for family in _FAMILIES for name, function in vars(family).items() if name in TABLE
}


class ReferenceBackend:
    """Runs a planned call as plain NumPy."""

    name = "reference"
    Record = None

    def run(
        self, plan: Plan, inputs: Sequence[Array | None], params: Mapping[str, Any], out: Sequence[Target]
    ) -> tuple[Array | None, ...]:
        """Compute the outputs of one call, written or added to the targets in `out`."""
        if any(device_backend(a) is not None for a in inputs):
            raise TypeError(f"{plan.kernel.name}: expected NumPy's arrays")  # those on a device would be copied
        with np.errstate(all="ignore"):  # as silent about NaN and infinity as compiled code
            made = plan.kernel.made
            results = (FUNCTIONS[plan.kernel.name] if made is None else made.reference)(*inputs, **params)
            results = results if isinstance(results, tuple) else (results,)
            return tuple(
                _deliver(plan, i, result, target) for i, (result, target) in enumerate(zip(results, out, strict=True))
            )


def _deliver(plan: Plan, i: int, result: Array, target: Target) -> Array | None:
    """Put output number `i` where its target says."""
    shape, dtype = plan.out_shapes[i], np.dtype(plan.out_dtypes[i])
    if target is False:
        if not plan.kernel.outputs[i].optional:
            raise TypeError(f"{plan.kernel.name}: {plan.kernel.outputs[i].name} cannot be left out")
        return None
    if target is None:
        return np.asarray(result, dtype)
    into, add = target if isinstance(target, tuple) else (target, False)
    name = f"{plan.kernel.name}: out for {plan.kernel.outputs[i].name}"
    if not isinstance(into, np.ndarray):
        raise TypeError(f"{name} must be an array, (array, bool), None or False, got {into!r}")
    if into.shape != shape:  # else NumPy would broadcast
        raise ShapeError(f"{name} must have shape {shape}, got {into.shape}")
    if into.dtype != dtype:
        raise DTypeError(f"{name} must be {dtype.name}, got {into.dtype.name}")
    if add:
        into += result
    else:
        into[...] = result
    return into
