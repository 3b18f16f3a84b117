"""Layers that only move numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array
from .layer import Backward, Layer, check_gradient, contiguous, register


@register
class Flatten(Layer):
    """x (N, C, H, W) to (N, C·H·W), in PyTorch's order; axes start_dim to end_dim become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = _axis(start_dim, "Flatten: start_dim"), _axis(end_dim, "Flatten: end_dim")

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"start_dim": self.start_dim, "end_dim": self.end_dim}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that has these axes. Raises `ShapeError`, `DTypeError`."""
        self.check(x)
        start, end = (axis + x.ndim if axis < 0 else axis for axis in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            raise ShapeError(f"{self.label}: cannot join axes {self.start_dim} to {self.end_dim} of {x.shape}")
        size = math.prod(x.shape[start : end + 1])
        in_order = x.flags.c_contiguous
        is_image = x.ndim == 4
        y = contiguous(x).reshape(*x.shape[:start], size, *x.shape[end + 1 :])

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            if not need_dx:
                return None
            dx: Array = contiguous(dy).reshape(x.shape)
            return dx if in_order else k.copy(dx, channels_last=is_image)  # as layers below want it

        return y, backward


@register
class Unflatten(Layer):
    """The reverse of `Flatten`: axis dim becomes axes of unflattened_size, of which one may be -1, for what is left.

    Images made of rows, (N, C·H·W) to (N, C, H, W), lie channels-last in memory, as the layers above want them.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        sizes = tuple(unflattened_size) if isinstance(unflattened_size, Sequence) else ()
        whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= -1 for n in sizes)
        if not sizes or not whole or sizes.count(-1) > 1:
            raise ShapeError(f"Unflatten: expected sizes, one of them -1 at most, got {unflattened_size!r}")
        self.dim, self.unflattened_size = _axis(dim, "Unflatten: dim"), tuple(int(n) for n in sizes)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"dim": self.dim, "unflattened_size": self.unflattened_size}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that has such an axis. Raises `ShapeError`, `DTypeError`."""
        self.check(x)
        at, sizes = self.dim + x.ndim if self.dim < 0 else self.dim, self.unflattened_size
        left = math.prod(n for n in sizes if n >= 0)
        if -1 in sizes and left and 0 <= at < x.ndim:
            sizes = tuple(x.shape[at] // left if n < 0 else n for n in sizes)
        if not 0 <= at < x.ndim or math.prod(sizes) != x.shape[at]:
            raise ShapeError(f"{self.label}: cannot make axis {self.dim} of {x.shape} axes of {self.unflattened_size}")
        y = contiguous(x).reshape(*x.shape[:at], *sizes, *x.shape[at + 1 :])
        is_image = y.ndim == 4 and at == 1

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            return contiguous(dy).reshape(x.shape) if need_dx else None

        return k.copy(y, channels_last=True) if is_image else y, backward


def _axis(number: Any, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise TypeError(f"{what}: expected the number of an axis, got {number!r}")
    return int(number)
