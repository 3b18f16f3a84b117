"""Convolution, ReLU and max pooling in one, the pooling's windows lying side by side (the stride is the window)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel import Array
from ..table import window_count
from .conv import Pair, conv2d, conv2d_backward_data, conv2d_backward_weights
from .pooling import max_pool2d, max_pool2d_backward

NOWHERE = 65535  #: the index where the maximum is not above 0, so that ReLU lets no gradient pass


def _tiling(pool_size: Pair) -> dict[str, Any]:
    return {
        "stride": pool_size,
        "padding": (0, 0),
        "dilation": (1, 1),
        "kernel_size": pool_size,
        "ceil_mode": False,
    }


def conv2d_max_pool2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
) -> tuple[Array, Array]:
    """The largest element of each window of relu(conv2d(x)), and where in the window it is: NOWHERE if it is 0.

    x: (N, C, H, W), weight: (O, C / groups, KH, KW), bias: (O,) or None.
    Returns y: (N, O, YH, YW), index: (N, O, YH, YW) uint16.
    """
    y, index = max_pool2d(conv2d(x, weight, bias, stride, padding, dilation, groups), **_tiling(pool_size))
    return np.where(y <= 0, 0, y), np.where(y <= 0, NOWHERE, index)


def conv2d_max_pool2d_backward_data(
    dy: Array,
    weight: Array,
    index: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
    input_size: Pair,
) -> Array:
    """The gradient passes to the element that was the maximum, if that was positive, and on through the convolution.

    dy, index: (N, O, YH, YW), weight: (O, C / groups, KH, KW). Returns dx: (N, C, H, W).
    """
    P, Q = (window_count(input_size[i], weight.shape[2 + i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    dconv = max_pool2d_backward(dy, index, **_tiling(pool_size), input_size=(P, Q))
    return conv2d_backward_data(dconv, weight, stride, padding, dilation, groups, input_size)


def conv2d_max_pool2d_backward_weights(
    dy: Array,
    x: Array,
    index: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
    kernel_size: Pair,
) -> tuple[Array, Array]:
    """As `conv2d_backward_weights`, from the gradient of the pooled output.

    dy, index: (N, O, YH, YW), x: (N, C, H, W). Returns dweight: (O, C / groups, KH, KW), dbias: (O,).
    """
    P, Q = (window_count(x.shape[2 + i], kernel_size[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    dconv = max_pool2d_backward(dy, index, **_tiling(pool_size), input_size=(P, Q))
    return conv2d_backward_weights(dconv, x, stride, padding, dilation, groups, kernel_size)
