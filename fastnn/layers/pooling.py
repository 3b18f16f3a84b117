"""Pooling."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .. import init
from .._errors import ShapeError
from .._kernels import Array
from .conv import check_windows, pair
from .layer import Backward, Layer, check_gradient, register


def _check_padding(layer: str, padding: tuple[int, int], kernel_size: tuple[int, int]) -> None:
    if any(2 * p > size for p, size in zip(padding, kernel_size, strict=True)):
        raise ShapeError(f"{layer}: padding {padding} is more than half of kernel_size {kernel_size}")


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
        _check_padding("MaxPool2d", self.padding, self.kernel_size)

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
            check_gradient(self, dy, y.shape)
            if not need_dx:
                return None
            where = k.max_pool2d(x, **how)[1] if index is None else index
            dx: Array = k.max_pool2d_backward(dy, where, **how, input_size=x.shape[2:])
            return dx

        return y, backward


@register
class AvgPool2d(Layer):
    """The mean of each window of x (N, C, H, W); y (N, C, P, Q), sizes as of `Conv2d` without dilation.

    ceil_mode lets a last window begin inside the image and end outside of it. count_include_pad: whether zeros of the
    padding count as elements of a window. divisor_override: None, or by what the sums are divided instead.
    Arguments, order and defaults (stride: the kernel size) are PyTorch's.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = pair(kernel_size, 1, "AvgPool2d", "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, 1, "AvgPool2d", "stride")
        self.padding = pair(padding, 0, "AvgPool2d", "padding")
        self.ceil_mode, self.count_include_pad = bool(ceil_mode), bool(count_include_pad)
        _check_padding("AvgPool2d", self.padding, self.kernel_size)
        if divisor_override is not None:
            init.check_sizes("AvgPool2d", divisor_override=divisor_override)
        self.divisor_override = None if divisor_override is None else int(divisor_override)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        return {name: getattr(self, name) for name in names}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if not self.ceil_mode:  # which lets a window reach out of the image
            check_windows(self, x.shape, self.kernel_size, self.padding, (1, 1))
        how: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        how |= {"count_include_pad": self.count_include_pad, "divisor": self.divisor_override or 0}
        how["kernel_size"] = self.kernel_size
        y = k.avg_pool2d(x, **how)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            return k.avg_pool2d_backward(dy, **how, input_size=x.shape[2:]) if need_dx else None

        return y, backward


@register
class AdaptiveAvgPool2d(Layer):
    """x (N, C, H, W) to y (N, C, P, Q), the means of P x Q windows that share the image between them.

    Window p reaches from floor(p H / P) to ceil((p + 1) H / P), and likewise across. output_size, PyTorch's argument:
    (P, Q), or one number for both; None for the size of the image. ``AdaptiveAvgPool2d(1)`` averages all of it.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        both = list(output_size) if isinstance(output_size, tuple | list) else [output_size, output_size]
        sizes = pair([1 if size is None else size for size in both], 1, "AdaptiveAvgPool2d", "output_size")
        self.output_size = tuple(None if size is None else n for size, n in zip(both, sizes, strict=True))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"output_size": self.output_size}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if 0 in x.shape[2:]:
            raise ShapeError(f"{self.label}: expected images of at least one pixel, got {x.shape}")
        H, W = x.shape[2:]
        P, Q = (n if wanted is None else wanted for wanted, n in zip(self.output_size, (H, W), strict=True))
        y = k.adaptive_avg_pool2d(x, P=P, Q=Q)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            return k.adaptive_avg_pool2d_backward(dy, H=H, W=W) if need_dx else None

        return y, backward
