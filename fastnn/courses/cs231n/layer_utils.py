"""Layers that often follow one another, as one pair of functions; and the fast convolution and pooling."""

from __future__ import annotations

from typing import Any

from ..._kernels import Array
from .fast_layers import conv_backward_fast, conv_forward_fast, max_pool_backward_fast, max_pool_forward_fast
from .layers import Cache, affine_backward, affine_forward, relu_backward, relu_forward


def affine_relu_forward(x: Any, w: Any, b: Any) -> tuple[Array, Cache]:
    """out = max(x w + b, 0); arguments and shapes are those of `affine_forward`."""
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """The gradients of `affine_relu_forward`, in the shapes of `affine_backward`."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


__all__ = [
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_backward_fast",
    "conv_forward_fast",
    "max_pool_backward_fast",
    "max_pool_forward_fast",
]
