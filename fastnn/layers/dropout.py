"""Dropout."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import _kernels as k
from .. import init
from .._kernels import Array, Kernel
from .drawn import Drawn
from .layer import Backward, check_gradient, register


class _Dropout(Drawn):
    """Base of layers that drop something; which is drawn anew each step, see `Drawn`."""

    kernel: ClassVar[Kernel]  #: also its own backward
    dims: ClassVar[tuple[str, ...]] = ()  #: of x, where they matter

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        init.check_probability(type(self).__name__, p=p)
        self.p = float(p)

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

    Which numbers fall is drawn anew each step; see `Drawn`. x: any shape.
    """

    kernel = k.dropout


@register
class Dropout2d(_Dropout):
    """The same for whole channels of images, (N, C, H, W): numbers beside each other in an image say much the same.

    Tompson et al.: "Efficient object localization using convolutional networks", 2015, section 3.2.
    """

    kernel = k.dropout2d
    dims = ("N", "C", "H", "W")
