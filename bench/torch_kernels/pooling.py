"""Pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Call
from .tensors import Make, Tensor, aten, tensor, tensors, torch


def _windows(call: Call) -> tuple[Any, ...]:
    """The arguments of max pooling after its input."""
    p = call.params
    return *(list(p[name]) for name in ("kernel_size", "stride", "padding", "dilation")), p["ceil_mode"]


def _max_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = tensors(call, memory_format)
    how = _windows(call)
    y, index = aten.max_pool2d_with_indices(x, *how)
    return lambda: aten.max_pool2d_with_indices.out(x, *how, out=y, indices=index)


def _max_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy = tensor(call.inputs[0], memory_format)
    x = torch.randn(call.targets[0].shape, dtype=dy.dtype).contiguous(memory_format=memory_format)
    how = _windows(call)
    index, dx = aten.max_pool2d_with_indices(x, *how)[1], torch.empty_like(x)
    return lambda: aten.max_pool2d_with_indices_backward.grad_input(dy, x, *how, index, grad_input=dx)


def _averaging(call: Call) -> tuple[Any, ...]:
    """The arguments of average pooling after its input."""
    p = call.params
    sizes = (list(p[name]) for name in ("kernel_size", "stride", "padding"))
    return *sizes, p["ceil_mode"], p["count_include_pad"], p["divisor"] or None


def _pooled_image(call: Call, memory_format: Any) -> Tensor:
    """An image of the size of the gradient of a pooling's input."""
    shape, dtype = call.targets[0].shape, torch.from_numpy(call.targets[0]).dtype
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=memory_format)


def _avg_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = tensors(call, memory_format)
    how = _averaging(call)
    y = aten.avg_pool2d(x, *how)
    return lambda: aten.avg_pool2d.out(x, *how, out=y)


def _avg_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,) = tensors(call, memory_format)
    x, how = _pooled_image(call, memory_format), _averaging(call)
    dx = torch.empty_like(x)
    return lambda: aten.avg_pool2d_backward.grad_input(dy, x, *how, grad_input=dx)


def _adaptive_avg_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), size = tensors(call, memory_format), [call.params["P"], call.params["Q"]]
    return lambda: torch.nn.functional.adaptive_avg_pool2d(x, size)


def _adaptive_avg_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,) = tensors(call, memory_format)
    x = _pooled_image(call, memory_format)
    return lambda: aten._adaptive_avg_pool2d_backward(dy, x)


KERNELS: dict[str, Make] = {
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
    "avg_pool2d": _avg_pool2d,
    "avg_pool2d_backward": _avg_pool2d_backward,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_avg_pool2d_backward": _adaptive_avg_pool2d_backward,
}
