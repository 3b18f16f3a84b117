"""Layers that only move numbers."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array
from .layer import Backward, Layer, check_gradient, register


@register
class Flatten(Layer):
    """x (N, C, H, W) to (N, C·H·W), in PyTorch's order; axes start_dim to end_dim become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"start_dim": self.start_dim, "end_dim": self.end_dim}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that has these axes. Raises `ShapeError`, `DTypeError`."""
        self.check(x)
        start, end = (axis + x.ndim if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            raise ShapeError(f"{self.label}: cannot join axes {self.start_dim} to {self.end_dim} of {x.shape}")
        size = 1
        for n in x.shape[start : end + 1]:
            size *= n
        in_order = x.flags.c_contiguous
        is_image = x.ndim == 4
        rows = x if in_order else k.copy(x, channels_last=False)
        y = rows.reshape(*x.shape[:start], size, *x.shape[end + 1 :])

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            if not need_dx:
                return None
            dx: Array = dy.reshape(x.shape)
            return dx if in_order else k.copy(dx, channels_last=is_image)  # as layers below want it

        return y, backward
