"""Batch normalisation (Ioffe and Szegedy 2015) and layer normalisation (Ba, Kiros and Hinton 2016)."""

from __future__ import annotations

import numpy as np

from ..kernel import Array

_BATCH = (0, 2, 3)  #: the axes over which a channel's statistics are taken


def _by_channel(a: Array | None, missing: float) -> Array | float:
    """(C,) so that it goes with images (N, C, H, W)."""
    return missing if a is None else a[:, None, None]


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance (divided by the count, not by one less) of each channel; NaN for no samples.

    x: (N, C, H, W). Returns mean: (C,), var: (C,).
    """
    if not x[:, :1].size:
        return np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    wide = x.astype(np.float64)
    return wide.mean(_BATCH), wide.var(_BATCH)


def batch_norm_update(
    running_mean: Array,
    running_var: Array,
    batches: Array,
    mean: Array,
    var: Array,
    count: int,
    biased: bool,
    cumulative: bool,
    momentum: float,
) -> tuple[()]:
    """running = (1 - momentum) running + momentum batch's, as in PyTorch's documentation of torch.nn.BatchNorm1d.

    The variance is made the unbiased one, over count - 1, unless `biased`. With `cumulative`, momentum is 1 / batches:
    the running statistics are the mean over all batches. A batch of no samples is counted and changes nothing else.
    running_mean, running_var: (C,), changed; batches: (1,) int64, one more afterwards; mean, var: (C,) of `count`
    numbers for each channel.
    """
    batches += 1
    if count:
        momentum = 1 / int(batches[0]) if cumulative else momentum
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean
        running_var[...] = (1 - momentum) * running_var + momentum * (var if biased else var * (count / (count - 1)))
    return ()


def batch_norm(
    x: Array, weight: Array | None, bias: Array | None, mean: Array, var: Array, relu: bool, eps: float
) -> Array:
    """y = (x - mean) / sqrt(var + eps) weight + bias of each channel; with `relu` max(y, 0), where NaN passes.

    x: (N, C, H, W), weight, bias: (C,) or None for 1 and 0, mean, var: (C,). Returns y: (N, C, H, W).
    """
    scale = _by_channel(1 / np.sqrt(var + x.dtype.type(eps)), 1) * _by_channel(weight, 1)
    y: Array = (x - _by_channel(mean, 0)) * scale + _by_channel(bias, 0)
    return np.where(y <= 0, 0, y) if relu else y


def batch_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array,
    var: Array,
    relu: bool,
    train: bool,
    eps: float,
) -> tuple[Array, Array, Array]:
    """The gradients of `batch_norm`; with `train` mean and var are those of x, through which dx goes as well.

    With x̂ = (x - mean) / sqrt(var + eps): dbias = Σ dy, dweight = Σ dy x̂, and
    dx = weight / sqrt(var + eps) (dy - mean of dy - x̂ mean of (dy x̂)), without `train` the first term only.
    dy, x: (N, C, H, W), the others (C,). Returns dx: (N, C, H, W), dweight: (C,), dbias: (C,).
    """
    if relu:
        dy = np.where(batch_norm(x, weight, bias, mean, var, False, eps) <= 0, 0, dy)
    rstd = _by_channel(1 / np.sqrt(var + x.dtype.type(eps)), 1)
    normal = (x - _by_channel(mean, 0)) * rstd
    dweight, dbias = (dy * normal).sum(_BATCH, np.float64), dy.sum(_BATCH, np.float64)
    if train and dy.size:
        count = x[:, 0].size
        dy = dy - _by_channel(dbias / count, 0) - normal * _by_channel(dweight / count, 0)
    return dy * (rstd * _by_channel(weight, 1)), dweight, dbias


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y = (x - mean) / sqrt(var + eps) weight + bias, with mean and variance of each row.

    x: (N, D), weight, bias: (D,) or None for 1 and 0. Returns y: (N, D), mean: (N,), rstd = 1 / sqrt(var + eps): (N,).
    """
    mean, var = x.mean(1), x.var(1)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    y = (x - mean[:, None]) * rstd[:, None]
    return y * (1 if weight is None else weight) + (0 if bias is None else bias), mean, rstd


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """The gradients of `layer_norm`.

    With x̂ = (x - mean) rstd and g = dy weight: dx = rstd (g - mean of g - x̂ mean of (g x̂)), the means over a row.
    dy, x: (N, D), weight: (D,) or None, mean, rstd: (N,). Returns dx: (N, D), dweight: (D,), dbias: (D,).
    """
    normal = (x - mean[:, None]) * rstd[:, None]
    g = dy if weight is None else dy * weight
    dx = rstd[:, None] * (g - g.mean(1, keepdims=True) - normal * (g * normal).mean(1, keepdims=True))
    return dx, (dy * normal).sum(0, np.float64), dy.sum(0, np.float64)
