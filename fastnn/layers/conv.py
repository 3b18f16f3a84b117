"""Convolutions."""

from __future__ import annotations

import math
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


def check_channels(layer: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Raise a `ShapeError` that names the layer unless these are sizes, and the channels fall into so many groups."""
    init.check_sizes(layer, in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        raise ShapeError(
            f"{layer}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
        )


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
        check_channels("Conv2d", in_channels, out_channels, groups)
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


@register
class ConvTranspose2d(Layer):
    """The adjoint of `Conv2d` with the same arguments, which enlarges images: x (N, in_channels, H, W) to
    y (N, out_channels, P, Q), where P = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1,
    and Q likewise from W.

    Each pixel of x adds the filters, times its channels, to a window of y (Zeiler et al. 2010, "Deconvolutional
    Networks"). weight: (in_channels, out_channels / groups, KH, KW), bias: (out_channels,), drawn as PyTorch draws
    them, uniform in ±1/sqrt(out_channels / groups · KH · KW). Arguments, order and defaults are PyTorch's; a size is
    one number or two. output_padding must be less than the stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        *,
        dtype: str = "float32",
    ) -> None:
        kind = "ConvTranspose2d"
        check_channels(kind, in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, 1, kind, "kernel_size")
        self.stride = pair(stride, 1, kind, "stride")
        self.padding = pair(padding, 0, kind, "padding")
        self.output_padding = pair(output_padding, 0, kind, "output_padding")
        self.dilation = pair(dilation, 1, kind, "dilation")
        if any(out >= stride for out, stride in zip(self.output_padding, self.stride, strict=True)):
            raise ShapeError(
                f"{kind}: expected output_padding less than stride {self.stride}, got {self.output_padding}"
            )
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        weight, _ = init.default(shape, math.prod(shape[1:]), False, dtype)
        self.weight = Parameter(weight, order=k.TABLE["conv2d"].inputs[1].order)
        self.bias = (
            Parameter(init.uniform((out_channels,), 1 / math.sqrt(math.prod(shape[1:])), dtype)) if bias else None
        )

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "groups")
        values = {name: getattr(self, name) for name in (*names, "dilation", "dtype")}
        return {**values, "bias": self.bias is not None}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, in_channels, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", self.in_channels, "H", "W")
        P, Q = self._output_size(x.shape)
        how: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        how["groups"] = self.groups
        out = None if self.bias is None else (k.channel_bias(self.bias.data, N=len(x), H=P, W=Q), True)
        y = k.conv2d_backward_data(x, self.weight.data, **how, input_size=(P, Q), out=out)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            if self.weight.requires_grad:
                out = (self.weight.target(), False)
                k.conv2d_backward_weights(x, dy, **how, kernel_size=self.kernel_size, out=out)
            if self.bias is not None and self.bias.requires_grad:
                k.channel_bias_backward(dy, out=self.bias.target())
            return k.conv2d(dy, self.weight.data, None, **how, relu=False) if need_dx else None

        return y, backward

    def _output_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of y for x of this shape."""
        axes = zip(
            *(shape[2:], self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation), strict=True
        )
        P, Q = ((n - 1) * s - 2 * p + d * (size - 1) + extra + 1 for n, size, s, p, extra, d in axes)
        if min(P, Q, *shape[2:]) < 1:
            raise ShapeError(f"{self.label}: images {shape} would become {P}x{Q}")
        return P, Q
