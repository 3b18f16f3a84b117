"""Dropout."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import _kernels as k
from .. import init
from .._kernels import Array, Kernel
from .layer import Backward, Layer, check_gradient, register


class _Dropout(Layer):
    """Base of layers that drop something: which is a function of (seed, layer, step, index), by Philox4x32-10."""

    kernel: ClassVar[Kernel]  #: also its own backward
    dims: ClassVar[tuple[str, ...]] = ()  #: of x, where they matter

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: expected p from 0 to 1, got {p!r}")
        self.p = float(p)
        self.state = np.zeros(3, np.uint64)
        self.reseed(*init.next_stream())

    def reseed(self, seed: int, layer: int) -> None:
        """Begin a new sequence: step 0 of this seed and layer number."""
        self.state[:] = seed % 2**64, layer, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Dropout:
        """A copy drops other numbers than its original; a pickled one goes on with the same."""
        return type(self)(self.p)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"p": self.p}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that the layer takes. Raises `ShapeError`, `DTypeError`."""
        self.check(x, *self.dims)
        if not train or self.p == 0:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        key = k.next_key(self.state)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            return self.kernel(dy, key, p=self.p) if need_dx else None

        return self.kernel(x, key, p=self.p), backward


@register
class Dropout(_Dropout):
    """In training, sets each number to 0 with probability p and multiplies the others by 1/(1-p); else does nothing.

    Which numbers fall is a function of (seed, layer, step, index), by the Philox4x32-10 generator: it depends neither
    on threads nor on the order in memory. `manual_seed` and the seed of `fit` set the first; each call is a step.
    x: any shape.
    """

    kernel = k.dropout


@register
class Dropout2d(_Dropout):
    """The same for whole channels of images, (N, C, H, W): numbers beside each other in an image say much the same.

    Tompson et al.: "Efficient object localization using convolutional networks", 2015, section 3.2.
    """

    kernel = k.dropout2d
    dims = ("N", "C", "H", "W")
