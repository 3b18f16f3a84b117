"""Normalisation, softmax and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Call
from .tensors import Make, Tensor, aten, out, tensors, torch


def _batch_norm_statistics(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = tensors(call, memory_format)
    return lambda: torch.var_mean(x, (0, 2, 3), correction=0)[::-1]


def _batch_norm_update(call: Call, memory_format: Any) -> Callable[[], Any]:
    running_mean, running_var, _, mean, var = tensors(call, None)
    momentum = call.params["momentum"]
    return lambda: (running_mean.lerp_(mean, momentum), running_var.lerp_(var, momentum))


def _batch_norm(call: Call, memory_format: Any) -> Callable[[], Any]:
    inputs, eps = tensors(call, memory_format), call.params["eps"]
    if call.params["relu"]:
        return lambda: aten.native_batch_norm(*inputs, False, 0.1, eps)[0].relu_()
    return lambda: aten.native_batch_norm(*inputs, False, 0.1, eps)


def _batch_norm_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x, weight, _, mean, var = tensors(call, memory_format)
    p, rstd = call.params, torch.rsqrt(var + call.params["eps"])
    statistics = (None, None, mean, rstd) if p["train"] else (mean, var, None, None)
    how, y = (*statistics, p["train"], p["eps"], [True, True, True]), x.clone()
    if p["relu"]:
        return lambda: aten.native_batch_norm_backward(aten.threshold_backward(dy, y, 0), x, weight, *how)
    return lambda: aten.native_batch_norm_backward(dy, x, weight, *how)


def _layer_norm(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x, weight, bias), eps = tensors(call, None), call.params["eps"]
    return lambda: aten.native_layer_norm(x, [call.sizes["D"]], weight, bias, eps)[0]


def _layer_norm_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x, weight, mean, rstd = tensors(call, None)
    shape, wanted = [call.sizes["D"]], [True, True, True]
    rows = mean[:, None], rstd[:, None]
    bias = torch.zeros_like(weight)
    return lambda: aten.native_layer_norm_backward(dy, x, shape, *rows, weight, bias, wanted)


def _attention(call: Call, memory_format: Any) -> Callable[[], Any]:
    q, key, value = _in_heads(call, call.inputs[:3])
    mask, causal = _attended(call, call.inputs[3])
    how = {"attn_mask": mask, "is_causal": causal, "dropout_p": call.params.get("p", 0.0)}
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(q, key, value, **how).transpose(1, 2).flatten(2)


def _attention_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    """By the operator behind `scaled_dot_product_attention`, given what its forward pass returned."""
    dy, q, key, value, y = _in_heads(call, [*call.inputs[:4], call.inputs[5]])
    mask, causal = _attended(call, call.inputs[4])
    added = None if mask is None else torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
    sums = torch.from_numpy(call.inputs[6]).nan_to_num(neginf=torch.inf)  # of queries without keys, whose weights are 0
    given = dy, q, key, value, y, sums, 0.0, causal
    operator = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return lambda: tuple(d.transpose(1, 2).flatten(2) for d in operator(*given, attn_mask=added))


def _attended(call: Call, mask: Any) -> tuple[Tensor | None, bool]:
    """PyTorch's mask, and whether it is causal: it takes one of both."""
    if mask is None:
        return None, bool(call.params["causal"])
    allowed = torch.from_numpy(mask)[:, None, None].expand(-1, 1, call.sizes["T"], -1)
    return (allowed.tril() if call.params["causal"] else allowed.contiguous()), False


def _in_heads(call: Call, arrays: Any) -> list[Tensor]:
    """(N, T, E) as (N, heads, T, E / heads)."""
    return [torch.from_numpy(a).unflatten(2, (call.params["heads"], -1)).transpose(1, 2) for a in arrays]


def _log_softmax(call: Call, memory_format: Any) -> Callable[[], Any]:
    (scores,), (logs,) = tensors(call, None), out(call)
    return lambda: aten._log_softmax.out(scores, 1, False, out=logs)


def _softmax_backward(function: Any, name: str) -> Make:
    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (dy, y), (dscores,) = tensors(call, None), out(call)
        return lambda: function(dy, y, 1, y.dtype, **{name: dscores})

    return make


def _softmax(call: Call, memory_format: Any) -> Callable[[], Any]:
    (scores,), (probabilities,) = tensors(call, None), out(call)
    return lambda: aten._softmax.out(scores, 1, False, out=probabilities)


KERNELS: dict[str, Make] = {
    "batch_norm_statistics": _batch_norm_statistics,
    "batch_norm_update": _batch_norm_update,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "attention": _attention,
    "attention_backward": _attention_backward,
    "attention_dropout": _attention,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward(aten._softmax_backward_data.out, "grad_input"),
    "log_softmax": _log_softmax,
    "log_softmax_backward": _softmax_backward(aten._log_softmax_backward_data.out, "out"),
}
