"""Activation functions."""

from __future__ import annotations

from .. import _kernels as k
from .._kernels import Array
from .layer import Backward, Elementwise, register


@register
class ReLU(Elementwise):
    """max(x, 0), elementwise on any shape; NaN passes. Its derivative at 0 is 0."""

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape. Raises `DTypeError`."""
        self.check(x)
        y = k.relu(x)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return k.relu_backward(dy, y) if need_dx else None

        return y, backward
