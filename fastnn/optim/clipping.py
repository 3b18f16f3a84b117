"""Gradient clipping, as torch.nn.utils has it; optimizers have it as an option, for `fit` and captured steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import _kernels as k
from .._kernels import Array
from ..layers.parameter import Parameter


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale gradients in place so that their norm, as of one vector, is at most `max_norm`; returns the norm before.

    norm_type: p of (Σ |g|^p)^(1/p), above 0; infinity for the largest |g|. The factor is max_norm / (norm + 1e-6), if
    that is below 1. Parameters that are frozen, or got no gradient in this step, do not count. The norm is computed in
    float64. One that is NaN makes all gradients NaN, an infinite one makes them 0 or NaN, as in PyTorch;
    error_if_nonfinite: raise RuntimeError instead. Raises ValueError for a bad max_norm or norm_type.
    """
    check_limit("clip_grad_norm_", "max_norm", max_norm)
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: expected norm_type above 0, got {norm_type!r}")
    chosen = _chosen(parameters)
    limits = _limits(chosen, max_norm, norm_type)
    if limits is None:
        return 0.0
    norm, scale = limits
    if error_if_nonfinite and not math.isfinite(norm[0]):
        raise RuntimeError(f"clip_grad_norm_: the norm of order {norm_type} of the gradients is {norm[0]}")
    _scale(chosen, scale)
    return float(norm[0])


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Limit gradients in place to the range from -clip_value to clip_value; NaN stays.

    Parameters that are frozen, or got no gradient in this step, are left alone. Raises ValueError for a bad clip_value.
    """
    check_limit("clip_grad_value_", "clip_value", clip_value)
    limit_values(parameters, clip_value)


def limit_norm(parameters: Iterable[Parameter], max_norm: float) -> None:
    """Scale gradients so that their Euclidean norm is at most `max_norm`; by kernels alone."""
    chosen = _chosen(parameters)
    limits = _limits(chosen, max_norm, 2.0)
    if limits is not None:
        _scale(chosen, limits[1])


def limit_values(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Limit each number of the gradients; by kernels alone."""
    for gradients in _runs(_chosen(parameters)):
        k.clip_by_value(gradients, limit=clip_value)


def check_limit(what: str, name: str, value: float) -> None:
    """Raise ValueError for what cannot bound a norm or a value."""
    if not value >= 0:
        raise ValueError(f"{what}: expected {name} of at least 0, got {value!r}")


def _chosen(parameters: Parameter | Iterable[Parameter]) -> list[Parameter]:
    """Those whose gradients are of this step and not frozen, each once."""
    found = [parameters] if isinstance(parameters, Parameter) else parameters
    return list({id(p): p for p in found if p.used and p.requires_grad}.values())


def _limits(chosen: list[Parameter], max_norm: float, norm_type: float) -> tuple[Array, Array] | None:
    """The norm of their gradients and the factor that brings it to `max_norm`, each (1,) float64."""
    total: Array | None = None
    for gradients in _runs(chosen):
        total = k.power_sum(gradients, total, norm_type=norm_type)
    if total is None:
        return None
    norm, scale = k.clip_scale(total, norm_type=norm_type, max_norm=max_norm)
    return norm, scale


def _scale(chosen: list[Parameter], scale: Array) -> None:
    """Each by itself: a factor that is NaN must not come into the gaps between them."""
    for p in chosen:
        k.clip_by_scale(p.grad.transpose(p.order).reshape(-1), scale)  # as it lies in memory


def _runs(chosen: list[Parameter]) -> list[Array]:
    """Their gradients as flat arrays, few of them: neighbours in a segment are one."""
    segments = {id(p): p.segment for p in chosen}
    return [
        segment.grad[where]
        for segment in {id(segment): segment for segment in segments.values()}.values()
        for where, _ in segment.runs([segments.get(id(p)) is segment or None for p in segment.parameters])
    ]
