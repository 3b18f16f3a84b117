"""Pooling."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array
from .conv import check_windows, pair
from .layer import Backward, Layer, register


@register
class MaxPool2d(Layer):
    """The largest value of each window of x (N, C, H, W); y (N, C, P, Q), sizes as of `Conv2d`.

    The first maximum wins a tie, NaN beats all, padding is never chosen. ceil_mode lets a last window begin inside the
    image and end outside of it. Arguments, order and defaults (stride: the kernel size) are PyTorch's.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = pair(kernel_size, 1, "MaxPool2d", "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, 1, "MaxPool2d", "stride")
        self.padding = pair(padding, 0, "MaxPool2d", "padding")
        self.dilation = pair(dilation, 1, "MaxPool2d", "dilation")
        self.ceil_mode = bool(ceil_mode)
        if any(2 * p > size for p, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ShapeError(f"MaxPool2d: padding {self.padding} is more than half of kernel_size {self.kernel_size}")

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if not self.ceil_mode:  # which lets a window reach out of the image
            check_windows(self, x.shape, self.kernel_size, self.padding, self.dilation)
        how: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        how |= {"kernel_size": self.kernel_size, "ceil_mode": self.ceil_mode}
        y, index = k.max_pool2d(x, **how, out=(None, None if train else False))

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            if not need_dx:
                return None
            where = k.max_pool2d(x, **how)[1] if index is None else index
            dx: Array = k.max_pool2d_backward(dy, where, **how, input_size=x.shape[2:])
            return dx

        return y, backward
