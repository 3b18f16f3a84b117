"""Convolution, ReLU and max pooling in one: what lies between them is never stored."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .columns import column_sums
from .conv import (
    NOWHERE,
    Pair,
    Sizes,
    launch_backward_data,
    launch_backward_weights,
    launch_forward,
    sizes_of,
)
from .launch import kernel, over
from .scratch import scratch


@kernel("T[::1], T[::1], uint16[::1], int64")
def _passed(passed: Any, dy: Any, index: Any, n: int) -> None:
    """The gradients that ReLU lets pass."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        passed[i] = dy.dtype.type(0) if index[i] == NOWHERE else dy[i]


def conv2d_max_pool2d(
    y: Any,
    index: Any,
    x: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
    dims: Sizes,
) -> None:
    """The largest element of each window of relu(conv2d(x)), and where in the window it is: NOWHERE if it is 0."""
    sizes = sizes_of(dims, stride, padding, dilation, pool_size)
    launch_forward(y, index, x, weight, bias, sizes, True)


def conv2d_max_pool2d_backward_data(
    dx: Any,
    dy: Any,
    weight: Any,
    index: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
    input_size: Pair,
    dims: Sizes,
) -> None:
    """The gradient passes to the element that was the maximum, if that was positive, and on through the convolution."""
    sizes = sizes_of(dims, stride, padding, dilation, pool_size)
    launch_backward_data(dx, dy, weight, index, sizes)


def conv2d_max_pool2d_backward_weights(
    dweight: Any,
    dbias: Any,
    dy: Any,
    x: Any,
    index: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    pool_size: Pair,
    kernel_size: Pair,
    dims: Sizes,
) -> None:
    """As `conv2d_backward_weights`, from the gradient of the pooled output."""
    if dweight is not None:
        sizes = sizes_of(dims, stride, padding, dilation, pool_size)
        launch_backward_weights(dweight, dy, x, index, sizes)
    if dbias is not None:
        with scratch(dy.dtype, dy.size) as (passed,):
            over(_passed, dy.size, passed, dy, index, dy.size)
            column_sums(dbias, passed, dims["N"] * dims["YH"] * dims["YW"], dims["O"])
