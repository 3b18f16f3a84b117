"""Parameters and the flat buffers that they are views of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .. import _kernels as k
from .._errors import DTypeError
from .._kernels import Array, Target
from .._kernels.kernel import REAL


class Parameter:
    """A trainable array and its gradient.

    data, grad: arrays of the same shape and dtype. They are views into flat buffers (see `Segment`) and may lie in
        memory in another order than the logical one; change them in place, ``p.data[...] = values``, never rebind them.
    requires_grad: False freezes the parameter: it gets no gradient and no update.

    Made from an array of float32 or float64. A layer of one's own passes `target()` to a kernel as the place of a
    gradient or, writing `grad` itself, sets `used` to True: an update passes over parameters that were not used.

    Within one step the first backward pass that uses the parameter overwrites `grad` and later ones add to it; an
    optimizer's `step`, or `zero_grad`, ends the step.
    """

    __slots__ = ("data", "grad", "order", "requires_grad", "segment", "used")

    def __init__(self, data: Array, order: tuple[int, ...] | None = None) -> None:
        """data: initial values; order: the axes from the outermost to the innermost in memory, None for C order."""
        data = data if k.is_array(data) else np.asarray(data)
        if data.dtype.name not in REAL or not data.dtype.isnative:
            raise DTypeError(f"Parameter: expected an array of float32 or float64, got {data.dtype}")
        self.order = tuple(range(data.ndim)) if order is None else order
        self.requires_grad = True
        self.used = False  #: whether `grad` holds the gradient of the step in progress
        self.segment: Segment
        self.data = data
        self.grad = data
        Segment([self])

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name != "used":
            k.changed()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of data and gradient."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """NumPy's float32 or float64."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return self.data.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __getstate__(self) -> tuple[Any, ...]:
        """A copy (by copy.deepcopy or pickle) is a parameter by itself, in buffers of its own."""
        return self.data.copy(), self.grad.copy(), self.order, self.requires_grad, self.used

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.data, self.grad, self.order, self.requires_grad, self.used = state
        Segment([self])

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", frozen"
        return f"Parameter({self.shape}, {self.dtype.name}{frozen})"

    def target(self) -> Target:
        """Where a kernel is to put this gradient: nowhere, over the last step's, or added to this step's."""
        if not self.requires_grad:
            return False
        added, self.used = self.used, True
        if not added:
            k.changed()  # a captured step that comes before the next update has to add to this gradient
        return self.grad, added

    def zero_grad(self) -> None:
        """Set the gradient to zero; the next backward pass overwrites it."""
        self.grad[...] = 0
        self.used = False


def target(parameter: Parameter | None) -> Target:
    """The gradient target of a parameter that a layer may lack."""
    return False if parameter is None else parameter.target()


class Segment:
    """Parameters of one dtype side by side in one flat, 64-byte aligned buffer, their gradients in another.

    An update, a norm or a copy of all of them is then one pass over memory. Each parameter begins at a multiple of 64
    bytes; the gaps are zeros and stay zeros.
    """

    def __init__(self, parameters: Sequence[Parameter], device: str | None = None) -> None:
        """Move the parameters' values here; their `data` and `grad` become views of the new buffers.

        device: where these are, by default where the parameters are, all of them.
        """
        dtype, places = parameters[0].dtype.name, {k.device_of(p.data) for p in parameters}
        if device is None:
            if len(places) > 1:
                raise ValueError(f"expected parameters on one device, got some on each of {', '.join(sorted(places))}")
            (device,) = places
        step = 64 // parameters[0].dtype.itemsize
        sizes = [-(-p.size // step) * step for p in parameters]
        self.parameters = list(parameters)
        self.starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        self.data = k.aligned_zeros(self.starts[-1], dtype, device)
        self.grad = k.aligned_zeros(self.starts[-1], dtype, device)
        for p, start in zip(self.parameters, self.starts, strict=False):
            data, grad = (view(flat, p, start) for flat in (self.data, self.grad))
            data[...] = p.data
            if p.grad is not p.data:  # else the parameter is new and has no gradient yet
                grad[...] = p.grad
            p.data, p.grad, p.segment = data, grad, self

    def runs(self, keys: Sequence[Any]) -> Iterator[tuple[slice, slice]]:
        """Neighbours with the same key, None being none: where their numbers lie, and which parameters they are."""
        for key, run in groupby(range(len(keys)), lambda j: keys[j]):
            if key is not None:
                which = list(run)
                first, stop = which[0], which[-1] + 1
                yield slice(self.starts[first], self.starts[stop]), slice(first, stop)


def view(flat: Array, p: Parameter, start: int) -> Array:
    """The part of a flat buffer beside p's segment that belongs to p, in p's shape and order in memory."""
    in_memory = flat[start : start + p.size].reshape([p.shape[axis] for axis in p.order])
    view: Array = in_memory.transpose(np.argsort(p.order))
    return view
