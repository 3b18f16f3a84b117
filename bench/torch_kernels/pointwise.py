"""What is done to each number by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Call
from .tensors import Make, aten, out, tensor, tensors, torch


def _channel_bias(call: Call, memory_format: Any) -> Callable[[], Any]:
    (bias,), y = tensors(call, None), tensor(call.targets[0])
    spread = bias[:, None, None].expand_as(y)
    return lambda: y.copy_(spread)


def _channel_bias_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,), (dbias,) = tensors(call, memory_format), out(call)
    return lambda: torch.sum(dy, (0, 2, 3), out=dbias)


def _add(call: Call, memory_format: Any) -> Callable[[], Any]:
    (a, b), (y,) = tensors(call, None), out(call)
    if call.params["relu"]:
        return lambda: torch.add(a, b, out=y).relu_()
    return lambda: torch.add(a, b, out=y)


def _relu(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,) = tensors(call, None), out(call)
    return lambda: torch.clamp_min(x, 0, out=y)


def _relu_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, y), (dx,) = tensors(call, None), out(call)
    return lambda: aten.threshold_backward.grad_input(dy, y, 0, grad_input=dx)


def _elementwise(function: Any, *names: str) -> Make:
    """An operator on one array, with its options by name, into given memory."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (x,), (y,) = tensors(call, None), out(call)
        options = [call.params[name] for name in names]
        return lambda: function(x, *options, out=y)

    return make


def _derivative(function: Any, *names: Any, **more: Any) -> Make:
    """An operator's backward one: of a gradient and what is kept, with options by name or by value."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (dy, kept), (dx,) = tensors(call, None), out(call)
        options = [call.params[name] if isinstance(name, str) else name for name in names]
        return lambda: function(dy, kept, *options, **more, grad_input=dx)

    return make


def _elu_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, x), (dx,), alpha = tensors(call, None), out(call), call.params["alpha"]
    return lambda: aten.elu_backward.grad_input(dy, alpha, 1, 1, False, x, grad_input=dx)


def _gelu(approximate: str) -> Make:
    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (x,), (y,) = tensors(call, None), out(call)
        return lambda: aten.gelu.out(x, approximate=approximate, out=y)

    return make


def _dropout(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = tensor(call.inputs[0]), call.params["p"]
    return lambda: aten.native_dropout(x, p, True)


def _dropout2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = tensor(call.inputs[0], memory_format), call.params["p"]
    return lambda: torch.feature_dropout(x, p, True)


KERNELS: dict[str, Make] = {
    "channel_bias": _channel_bias,
    "channel_bias_backward": _channel_bias_backward,
    "add": _add,
    "relu": _relu,
    "relu_backward": _relu_backward,
    "leaky_relu": _elementwise(aten.leaky_relu.out, "negative_slope"),
    "leaky_relu_backward": _derivative(aten.leaky_relu_backward.grad_input, "negative_slope", False),
    "elu": _elementwise(aten.elu.out, "alpha"),
    "elu_backward": _elu_backward,
    "gelu": _gelu("none"),
    "gelu_backward": _derivative(aten.gelu_backward.grad_input, approximate="none"),
    "gelu_tanh": _gelu("tanh"),
    "gelu_tanh_backward": _derivative(aten.gelu_backward.grad_input, approximate="tanh"),
    "silu": _elementwise(aten.silu.out),
    "silu_backward": _derivative(aten.silu_backward.grad_input),
    "sigmoid": _elementwise(aten.sigmoid.out),
    "sigmoid_backward": _derivative(aten.sigmoid_backward.grad_input),
    "tanh": _elementwise(aten.tanh.out),
    "tanh_backward": _derivative(aten.tanh_backward.grad_input),
    "softplus": _elementwise(aten.softplus.out, "beta", "threshold"),
    "softplus_backward": _derivative(aten.softplus_backward.grad_input, "beta", "threshold"),
    "dropout": _dropout,
    "dropout2d": _dropout2d,
}
