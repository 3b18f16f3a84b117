"""Convolution and max pooling as pairs of functions, under the names of CS231n's own fast ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import _kernels as k
from ..._errors import ShapeError
from ..._kernels import Array
from .layers import Cache, reals


def conv_forward_fast(x: Any, w: Any, b: Any, conv_param: Mapping[str, int]) -> tuple[Array, Cache]:
    """Each output is the weighted sum of its window, plus the bias of its filter.

    x: (N, C, H, W), w: (F, C, HH, WW), b: (F,). conv_param: stride and pad, in pixels, the same both ways.
    Returns out: (N, F, H', W') with H' = 1 + (H + 2 pad - HH) // stride, W' alike, and (x, w, b, conv_param).
    """
    x, w, b = reals(x, w, b)
    return k.conv2d(x, w, b, **_conv(conv_param), relu=False), (x, w, b, conv_param)


def conv_backward_fast(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """The gradients of `conv_forward_fast`.

    dout: (N, F, H', W'). Returns dx: (N, C, H, W), dw: (F, C, HH, WW), db: (F,).
    """
    *arrays, conv_param = cache
    dout, x, w, _ = reals(dout, *arrays)
    how = _conv(conv_param)
    dw, db = k.conv2d_backward_weights(dout, x, **how, kernel_size=w.shape[2:])
    return k.conv2d_backward_data(dout, w, **how, input_size=x.shape[2:]), dw, db


def max_pool_forward_fast(x: Any, pool_param: Mapping[str, int]) -> tuple[Array, Cache]:
    """The largest number of each window.

    x: (N, C, H, W). pool_param: pool_height, pool_width, stride, in pixels.
    Returns out: (N, C, H', W') with H' = 1 + (H - pool_height) // stride, W' alike, and a cache.
    """
    (x,) = reals(x)
    out, index = k.max_pool2d(x, **_pool(pool_param))
    return out, (index, x.shape, pool_param)


def max_pool_backward_fast(dout: Any, cache: Cache) -> Array:
    """Each window's gradient goes to its largest number, the first of equals.

    dout: (N, C, H', W'). Returns dx: (N, C, H, W).
    """
    (dout,), (index, shape, pool_param) = reals(dout), cache
    dx: Array = k.max_pool2d_backward(dout, index, **_pool(pool_param), input_size=shape[2:])
    return dx


def _conv(conv_param: Mapping[str, int]) -> dict[str, Any]:
    stride, pad = conv_param["stride"], conv_param["pad"]
    if stride < 1 or pad < 0:
        raise ShapeError(f"conv_param: expected a stride of at least 1 and a pad of at least 0, got {dict(conv_param)}")
    return {"stride": (stride, stride), "padding": (pad, pad), "dilation": (1, 1), "groups": 1}


def _pool(pool_param: Mapping[str, int]) -> dict[str, Any]:
    size, stride = (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"]
    if min(*size, stride) < 1:
        raise ShapeError(f"pool_param: expected sizes and a stride of at least 1, got {dict(pool_param)}")
    how = {"padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    return {"kernel_size": size, "stride": (stride, stride), **how}


__all__ = ["conv_backward_fast", "conv_forward_fast", "max_pool_backward_fast", "max_pool_forward_fast"]
