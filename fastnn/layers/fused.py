"""Neighbouring layers of a chain that are computed together: their outputs are those of one after the other to the bit,
their gradients up to the order of sums.

Only layers of exactly the types named here are: a subclass may be another function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from .. import _kernels as k
from .._kernels import Array
from .._kernels.table import window_count
from .activation import ReLU
from .conv import Conv2d, check_windows
from .layer import Backward, Layer, check_gradient
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d
from .pooling import MaxPool2d

Forward = Callable[[Array, bool], tuple[Any, Backward]]


def steps(layers: Sequence[Layer]) -> Iterator[tuple[Sequence[Layer], Forward]]:
    """The layers in groups, in their order, each with the function that computes it as `Layer.forward` does."""
    i = 0
    while i < len(layers):
        forward, count = _step(layers, i)
        yield layers[i : i + count], forward
        i += count


def _step(layers: Sequence[Layer], i: int) -> tuple[Forward, int]:
    """What computes layer i and those after it that go with it; how many these are."""
    for types, allowed, forward in FUSED:
        group = layers[i : i + len(types)]
        if tuple(map(type, group)) == types and allowed(*group) and not any("forward" in vars(x) for x in group):
            return partial(forward, *group), len(group)
    return layers[i].forward, 1


def _tiles(conv: Conv2d, relu: ReLU, pool: MaxPool2d) -> bool:
    """Whether the pooling's windows lie side by side, as the fused kernel has them."""
    size = pool.kernel_size
    plain = pool.padding == (0, 0) and pool.dilation == (1, 1) and not pool.ceil_mode
    return plain and pool.stride == size and size[0] * size[1] < 65535


def conv_relu_max_pool(conv: Conv2d, relu: ReLU, pool: MaxPool2d, x: Array, train: bool) -> tuple[Array, Backward]:
    """The convolution's output, four times or more as large as the pooled one, is never written to memory."""
    conv.check_images(x)
    sizes = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    shape = (len(x), conv.out_channels, *(window_count(*axis) for axis in sizes))
    check_windows(pool, shape, pool.kernel_size, pool.padding, pool.dilation)
    how = conv.geometry | {"pool_size": pool.kernel_size}
    y, index = k.conv2d_max_pool2d(x, *conv.arrays, **how, out=(None, None if train else False))

    def backward(dy: Array, need_dx: bool = True) -> Array | None:
        check_gradient(pool, dy, y.shape)
        where = k.conv2d_max_pool2d(x, *conv.arrays, **how)[1] if index is None else index
        out, size = conv.gradients, conv.kernel_size
        k.conv2d_max_pool2d_backward_weights(dy, x, where, **how, kernel_size=size, out=out)
        if not need_dx:
            return None
        dx: Array = k.conv2d_max_pool2d_backward_data(dy, conv.weight.data, where, **how, input_size=x.shape[2:])
        return dx

    return y, backward


def conv_relu(conv: Conv2d, relu: ReLU, x: Array, train: bool) -> tuple[Array, Backward]:
    """ReLU while the convolution's sums are still in registers."""
    conv.check_images(x)
    y = k.conv2d(x, *conv.arrays, **conv.geometry, relu=True)

    def backward(dy: Array, need_dx: bool = True) -> Array | None:
        check_gradient(relu, dy, y.shape)
        return conv.backward(k.relu_backward(dy, y), x, need_dx)

    return y, backward


def linear_relu(linear: Linear, relu: ReLU, x: Array, train: bool) -> tuple[Array, Backward]:
    """ReLU while the layer's sums are still in registers."""
    return linear.forward_with(x, relu=True)


def batch_norm_relu(norm: BatchNorm1d | BatchNorm2d, relu: ReLU, x: Array, train: bool) -> tuple[Array, Backward]:
    """ReLU in the pass that normalises; in the backward passes its sign is computed again rather than read."""
    return norm.forward_with(x, train, relu=True)


def relu_max_pool(relu: ReLU, pool: MaxPool2d, x: Array, train: bool) -> tuple[Array, Backward]:
    """Max pooling first, so that ReLU has fewer numbers.

    The maximum of a window commutes with a function that never falls; where it is not above 0 no gradient passes.
    """
    relu.check(x)
    y, pool_backward = pool.forward(x, train)
    y, relu_backward = relu.forward(y, train)

    def backward(dy: Array, need_dx: bool = True) -> Array | None:
        dx: Array | None = pool_backward(relu_backward(dy, need_dx), need_dx)
        return dx

    return y, backward


#: Types of neighbours, whether these layers of such types may be computed together, and by what; the longest first.
FUSED: tuple[tuple[tuple[type[Layer], ...], Callable[..., bool], Callable[..., tuple[Array, Backward]]], ...] = (
    ((Conv2d, ReLU, MaxPool2d), _tiles, conv_relu_max_pool),
    ((Conv2d, ReLU), lambda *layers: True, conv_relu),
    ((Linear, ReLU), lambda *layers: True, linear_relu),
    ((BatchNorm1d, ReLU), lambda *layers: True, batch_norm_relu),
    ((BatchNorm2d, ReLU), lambda *layers: True, batch_norm_relu),
    ((ReLU, MaxPool2d), lambda *layers: True, relu_max_pool),
)
