"""Convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _kernels as k
from .. import init
from .._errors import ShapeError
from .._kernels import Array, Target
from .layer import Backward, Layer, check_gradient, register
from .parameter import Parameter, target


def pair(value: int | tuple[int, int] | list[int], least: int, layer: str, name: str) -> tuple[int, int]:
    """One number for both axes, or one for each, as a tuple; an error names the layer and the argument."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least for v in both):
        raise ShapeError(f"{layer}: expected {name} as one or two whole numbers of at least {least}, got {value!r}")
    return int(both[0]), int(both[1])


def check_windows(
    layer: Layer,
    shape: tuple[int, ...],
    kernel_size: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Raise a `ShapeError` that names the layer if no window fits into images of this shape (N, C, H, W)."""
    least = [d * (size - 1) + 1 - 2 * p for d, size, p in zip(dilation, kernel_size, padding, strict=True)]
    if shape[2] < least[0] or shape[3] < least[1]:
        raise ShapeError(
            f"{layer.label}: expected images of at least {max(least[0], 1)}x{max(least[1], 1)}, got {shape}"
        )


@register
class Conv2d(Layer):
    """Cross-correlation of images x (N, in_channels, H, W) with learned filters; y (N, out_channels, P, Q), where
    P = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1, and Q likewise from W.

    weight: (out_channels, in_channels / groups, KH, KW), bias: (out_channels,), drawn as PyTorch draws them, uniform in
    ±1/sqrt(in_channels / groups · KH · KW). Arguments, order and defaults are PyTorch's; a size is one number or two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: str = "float32",
    ) -> None:
        init.check_sizes("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"Conv2d: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, 1, "Conv2d", "kernel_size")
        self.stride = pair(stride, 1, "Conv2d", "stride")
        self.padding = pair(padding, 0, "Conv2d", "padding")
        self.dilation = pair(dilation, 1, "Conv2d", "dilation")
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        weight, shift = init.default(shape, shape[1] * shape[2] * shape[3], bias, dtype)
        self.weight = Parameter(weight, order=k.TABLE["conv2d"].inputs[1].order)
        self.bias = None if shift is None else Parameter(shift)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "dtype")
        return {**{name: getattr(self, name) for name in names}, "bias": self.bias is not None}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, in_channels, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check_images(x)
        y = k.conv2d(x, *self.arrays, **self.geometry, relu=False)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            return self.backward(dy, x, need_dx)

        return y, backward

    # --- what convolutions fused with their neighbours share with this one (see `fused`) ----------------

    @property
    def arrays(self) -> tuple[Array, Array | None]:
        """Weight and bias, as the kernels take them."""
        return self.weight.data, None if self.bias is None else self.bias.data

    @property
    def gradients(self) -> tuple[Target, Target]:
        """Where the kernels are to put the gradients of weight and bias."""
        return self.weight.target(), target(self.bias)

    @property
    def geometry(self) -> dict[str, Any]:
        """The parameters that all kernels of the convolution take."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def check_images(self, x: Array) -> None:
        """Raise a `ShapeError` or `DTypeError` that names the layer unless x fits."""
        self.check(x, "N", self.in_channels, "H", "W")
        check_windows(self, x.shape, self.kernel_size, self.padding, self.dilation)

    def backward(self, dy: Array, x: Array, need_dx: bool) -> Array | None:
        """The parameters' gradients, and with `need_dx` that of x, from that of the output."""
        how = self.geometry
        k.conv2d_backward_weights(dy, x, **how, kernel_size=self.kernel_size, out=self.gradients)
        return k.conv2d_backward_data(dy, self.weight.data, **how, input_size=x.shape[2:]) if need_dx else None
