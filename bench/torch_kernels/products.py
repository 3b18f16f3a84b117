"""Products: linear layers and convolutions, with the pooling after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..inputs import Call
from .tensors import Make, Tensor, aten, out, tensor, tensors, torch


def _linear(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, weight, bias = tensors(call, memory_format)
    (y,), transposed = out(call), weight.t()
    return lambda: torch.addmm(bias, x, transposed, out=y)


def _linear_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, weight = tensors(call, memory_format)
    (dx,) = out(call)
    return lambda: torch.mm(dy, weight, out=dx)


def _linear_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x = tensors(call, memory_format)
    (dweight, dbias), transposed = out(call), dy.t()
    return lambda: (torch.mm(transposed, x, out=dweight), torch.sum(dy, 0, out=dbias))


def _geometry(call: Call) -> tuple[Any, ...]:
    """The arguments of a convolution after its tensors."""
    p = call.params
    return list(p["stride"]), list(p["padding"]), list(p["dilation"]), False, [0, 0], p["groups"]


def _conv2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, weight, bias = tensors(call, memory_format)
    how = _geometry(call)
    if call.params.get("relu"):
        return lambda: aten.convolution(x, weight, bias, *how).relu_()
    return lambda: aten.convolution(x, weight, bias, *how)


def _conv2d_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, weight = tensors(call, memory_format)
    x = torch.empty(call.targets[0].shape, dtype=dy.dtype).contiguous(memory_format=memory_format)
    how, wanted = _geometry(call), [True, False, False]
    return lambda: aten.convolution_backward(dy, x, weight, None, *how, wanted)


def _conv2d_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x = tensors(call, memory_format)
    weight = tensor(np.zeros_like(call.targets[0]), memory_format)
    how, wanted, channels = _geometry(call), [False, True, True], [call.sizes["O"]]
    return lambda: aten.convolution_backward(dy, x, weight, channels, *how, wanted)


def _pool_size(call: Call) -> tuple[Any, ...]:
    """The arguments, after its input, of max pooling that a convolution is fused with."""
    size = list(call.params["pool_size"])
    return size, size, [0, 0], [1, 1], False


def _conv2d_max_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    conv, pool = _conv2d(call, memory_format), _pool_size(call)
    return lambda: aten.max_pool2d_with_indices(conv().relu_(), *pool)


def _unpool(call: Call, memory_format: Any) -> tuple[Callable[[], Tensor], Tensor]:
    """From the pooled gradient to that of the convolution; the convolution's other input."""
    dy, other, _ = tensors(call, memory_format)
    shape = (call.sizes["N"], call.sizes["O"], *_conv_size(call))
    y = torch.randn(shape, dtype=dy.dtype).contiguous(memory_format=memory_format).relu_()
    pool = _pool_size(call)
    index = aten.max_pool2d_with_indices(y, *pool)[1]

    def unpool() -> Tensor:
        return aten.threshold_backward(aten.max_pool2d_with_indices_backward(dy, y, *pool, index), y, 0)

    return unpool, other


def _conv_size(call: Call) -> tuple[int, int]:
    """Height and width of the convolution's output, of which the pooling may drop a rest."""
    d = call.sizes
    return (
        (d["H"] + 2 * d["PH"] - d["DH"] * (d["KH"] - 1) - 1) // d["SH"] + 1,
        (d["W"] + 2 * d["PW"] - d["DW"] * (d["KW"] - 1) - 1) // d["SW"] + 1,
    )


def _conv2d_max_pool2d_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    unpool, weight = _unpool(call, memory_format)
    x = torch.empty(call.targets[0].shape, dtype=weight.dtype).contiguous(memory_format=memory_format)
    how, wanted = _geometry(call), [True, False, False]
    return lambda: aten.convolution_backward(unpool(), x, weight, None, *how, wanted)


def _conv2d_max_pool2d_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    unpool, x = _unpool(call, memory_format)
    weight = tensor(np.zeros_like(call.targets[0]), memory_format)
    how, wanted, channels = _geometry(call), [False, True, True], [call.sizes["O"]]
    return lambda: aten.convolution_backward(unpool(), x, weight, channels, *how, wanted)


KERNELS: dict[str, Make] = {
    "linear": _linear,
    "linear_backward_data": _linear_backward_data,
    "linear_backward_weights": _linear_backward_weights,
    "conv2d": _conv2d,
    "conv2d_backward_data": _conv2d_backward_data,
    "conv2d_backward_weights": _conv2d_backward_weights,
    "conv2d_max_pool2d": _conv2d_max_pool2d,
    "conv2d_max_pool2d_backward_data": _conv2d_max_pool2d_backward_data,
    "conv2d_max_pool2d_backward_weights": _conv2d_max_pool2d_backward_weights,
}
