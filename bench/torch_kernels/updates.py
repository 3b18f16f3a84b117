"""Optimizers and clipping."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..inputs import Call
from .tensors import Make, Tensor, out, tensor, tensors, torch


def _scale(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,), factor = tensors(call, None), out(call), call.params["factor"]
    return lambda: torch.mul(x, factor, out=y)


def _update(call: Call) -> tuple[list[list[Tensor]], list[float], list[Tensor]]:
    """Parameter, gradient and state, each as PyTorch's list of one or none; the options; and the step to be taken."""
    *arrays, options, steps = call.inputs
    return [[] if a is None else [tensor(a)] for a in arrays], options.tolist(), [torch.tensor(float(steps[0] + 1))]


def _sgd(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, momentum, dampening, weight_decay, nesterov, maximize), _ = _update(call)
    options = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": bool(nesterov),
        "maximize": bool(maximize),
        "is_first_step": False,
    }
    return lambda: torch._fused_sgd_(*tensors, **options)


def _rmsprop(call: Call, memory_format: Any) -> Callable[[], Any]:
    rmsprop = import_module("torch.optim.rmsprop").rmsprop
    tensors, (lr, momentum, alpha, eps, weight_decay, maximize), step = _update(call)
    options = {
        "lr": lr,
        "momentum": momentum if tensors[4] else 0.0,
        "alpha": alpha,
        "eps": eps,
        "weight_decay": weight_decay,
        "centered": bool(tensors[3]),
        "maximize": bool(maximize),
        "foreach": True,
    }
    return lambda: rmsprop(*tensors, step, **options)


def _adagrad(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, lr_decay, weight_decay, eps, maximize), step = _update(call)
    options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps, "maximize": bool(maximize)}
    return lambda: torch._fused_adagrad_(*tensors, step, **options)


def _adam(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, beta1, beta2, eps, weight_decay, decoupled, maximize, _), step = _update(call)
    options = {
        "lr": lr,
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "weight_decay": weight_decay,
        "amsgrad": bool(tensors[4]),
        "maximize": bool(maximize),
    }
    update = torch._fused_adamw_ if decoupled else torch._fused_adam_
    return lambda: update(*tensors, step, **options)


def _power_sum(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, before = call.inputs[0], call.inputs[1]
    x, begin = tensor(x), 0.0 if before is None else float(before[0])
    return lambda: torch.dot(x, x) + begin if begin else torch.dot(x, x)


def _clip_by_scale(call: Call, memory_format: Any) -> Callable[[], Any]:
    gradient, scale = tensors(call, None)
    return lambda: gradient.mul_(scale)


def _clip_by_value(call: Call, memory_format: Any) -> Callable[[], Any]:
    (gradient,), limit = tensors(call, None), call.params["limit"]
    return lambda: gradient.clamp_(-limit, limit)


KERNELS: dict[str, Make] = {
    "scale": _scale,
    "power_sum": _power_sum,
    "clip_by_scale": _clip_by_scale,
    "clip_by_value": _clip_by_value,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adam": _adam,
}
