"""Clipping of gradients, as in torch.nn.utils.clip_grad_norm_ and clip_grad_value_."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def power_sum(x: Array, before: Array | None, norm_type: float) -> Array:
    """Σ |x|^p, or the largest |x| for p = inf, in float64; `before` is the same of other numbers, to go on from.

    x: (n,), before: (1,) float64 or None. Returns total: (1,) float64.
    """
    sizes = np.abs(x.astype(np.float64))
    found: Array = np.array([sizes.max(initial=0) if norm_type == np.inf else (sizes**norm_type).sum()])
    if before is not None:
        found = np.maximum(before, found) if norm_type == np.inf else before + found
    return found


def clip_scale(total: Array, norm_type: float, max_norm: float) -> tuple[Array, Array]:
    """The norm, and by what gradients are multiplied for it to be max_norm at most: max_norm / (norm + 1e-6), or 1.

    NaN stays NaN. total: (1,) float64, of `power_sum`. Returns norm: (1,) float64, scale: (1,) float64.
    """
    norm = total.copy() if norm_type == np.inf else total ** (1 / norm_type)
    return norm, np.minimum(max_norm / (norm + 1e-6), 1)


def clip_by_scale(grad: Array, scale: Array) -> tuple[()]:
    """grad ← scale · grad.

    grad: (n,), changed; scale: (1,) float64.
    """
    grad *= grad.dtype.type(scale[0])
    return ()


def clip_by_value(grad: Array, limit: float) -> tuple[()]:
    """grad ← min(max(grad, -limit), limit); NaN stays.

    grad: (n,), changed.
    """
    np.clip(grad, -limit, limit, out=grad)
    return ()
