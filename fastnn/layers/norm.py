"""Normalisation."""

from __future__ import annotations

import math
from typing import Any

from .. import _kernels as k
from .. import init
from .._errors import ShapeError
from .._kernels import Array, Target
from .layer import Backward, Layer, check_gradient, contiguous, register
from .parameter import Parameter, target


class _BatchNorm(Layer):
    """What batch normalisation of rows and of images share; see `BatchNorm1d`."""

    buffers = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        biased_variance: bool = False,
        dtype: str = "float32",
    ) -> None:
        kind = type(self).__name__
        init.check_sizes(kind, num_features=num_features)
        if not 0 <= eps < math.inf:
            raise ValueError(f"{kind}: expected eps of at least 0, got {eps!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"{kind}: expected momentum from 0 to 1, or None, got {momentum!r}")
        init.check_dtype(dtype)
        self.num_features, self.eps = int(num_features), float(eps)
        self.momentum = None if momentum is None else float(momentum)
        self.biased_variance = bool(biased_variance)
        shape = (self.num_features,)
        self.weight = Parameter(init.filled(shape, 1, dtype)) if affine else None
        self.bias = Parameter(init.filled(shape, 0, dtype)) if affine else None
        self.running_mean = init.filled(shape, 0, dtype) if track_running_stats else None
        self.running_var = init.filled(shape, 1, dtype) if track_running_stats else None
        self.num_batches_tracked = init.filled((), 0, "int64") if track_running_stats else None

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("num_features", "eps", "momentum", "biased_variance", "dtype")
        return {
            **{name: getattr(self, name) for name in names},
            "affine": self.weight is not None,
            "track_running_stats": self.running_mean is not None,
        }

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: see the class. Raises `ShapeError`, `DTypeError`, and ValueError: training takes two values a channel."""
        return self.forward_with(x, train, relu=False)

    def forward_with(self, x: Array, train: bool, relu: bool) -> tuple[Array, Backward]:
        """The same, or with `relu` the layer and a ReLU after it in one kernel."""
        images = self._as_images(x)
        if x.size == self.num_features and (train or self.running_mean is None):
            raise ValueError(f"{self.label}: expected more than 1 value per channel in training, got {x.shape}")
        mean, var = self._statistics(images, train)
        batch = mean is not self.running_mean
        weight, bias = (None if p is None else p.data for p in (self.weight, self.bias))
        how: dict[str, Any] = {"relu": relu, "eps": self.eps}
        y = _in_shape(k.batch_norm(images, weight, bias, mean, var, **how), x.ndim)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            out = (None if need_dx else False, target(self.weight), target(self.bias))
            dimages = self._as_images(dy)
            dx = k.batch_norm_backward(dimages, images, weight, bias, mean, var, **how, train=batch, out=out)[0]
            return _in_shape(dx, x.ndim) if need_dx else None

        return y, backward

    def _statistics(self, images: Array, train: bool) -> tuple[Array, Array]:
        """Mean and variance to normalise with: the batch's in training, which change the running ones, else these."""
        if not train and self.running_mean is not None and self.running_var is not None:
            return self.running_mean, self.running_var
        mean, var = k.batch_norm_statistics(images)
        if train and self.running_mean is not None and self.num_batches_tracked is not None:
            running = self.running_mean, self.running_var, self.num_batches_tracked.reshape(1)
            k.batch_norm_update(
                *(*running, mean, var),
                count=images.size // self.num_features,
                biased=self.biased_variance,
                cumulative=self.momentum is None,
                momentum=self.momentum or 0.0,
            )
        return mean, var

    def _as_images(self, x: Array) -> Array:
        """x seen as images (N, C, H, W)."""
        raise TypeError(f"{type(self).__name__} does not define which inputs it takes")


def _as_row(gradient: Target) -> Target:
    """Where a gradient goes, as one row."""
    return (gradient[0].reshape(-1), gradient[1]) if isinstance(gradient, tuple) else gradient


def _in_shape(images: Array, ndim: int) -> Array:
    """Images (N, C, 1, L) as arrays of fewer dimensions."""
    return images[:, :, 0, 0] if ndim == 2 else images[:, :, 0] if ndim == 3 else images


@register
class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) weight + bias, for x (N, C) or (N, C, L) with C = num_features channels.

    Ioffe and Szegedy 2015, "Batch Normalization". In training mean and variance are those of each channel of the batch,
    and ``running = (1 - momentum) running + momentum batch's``, where running_var takes the unbiased variance, or with
    `biased_variance` the one that normalises; momentum None makes the running statistics the mean over all batches.
    In evaluation they are the running ones, or without `track_running_stats` still the batch's.

    weight, bias: (C,), ones and zeros, None without `affine`. running_mean, running_var: (C,), num_batches_tracked: ()
    int64, in `state_dict` as in PyTorch. Arguments, order and defaults are PyTorch's.
    """

    def _as_images(self, x: Array) -> Array:
        if getattr(x, "ndim", 2) != 3:
            self.check(x, "N", self.num_features)
            return x[:, :, None, None]
        self.check(x, "N", self.num_features, "L")
        return x[:, :, None]


@register
class BatchNorm2d(_BatchNorm):
    """The same for images x (N, C, H, W): statistics are taken over all pixels of a channel. See `BatchNorm1d`."""

    def _as_images(self, x: Array) -> Array:
        self.check(x, "N", self.num_features, "H", "W")
        return x


@register
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) weight + bias, for x (…, *normalized_shape), with each sample's own statistics.

    Ba, Kiros and Hinton 2016, "Layer Normalization". Mean and variance are taken over the last dimensions, which are
    `normalized_shape`, one number or several; they are the same in training and in evaluation.
    weight, bias: normalized_shape, ones and zeros, None without `elementwise_affine`; `bias` False leaves that one out.
    Arguments, order and defaults are PyTorch's.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: str = "float32",
    ) -> None:
        shape = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        if not shape:
            raise ShapeError("LayerNorm: expected normalized_shape of at least one dimension, got none")
        for size in shape:
            init.check_sizes("LayerNorm", normalized_shape=size)
        if not 0 <= eps < math.inf:
            raise ValueError(f"LayerNorm: expected eps of at least 0, got {eps!r}")
        init.check_dtype(dtype)
        self.normalized_shape, self.eps = tuple(int(size) for size in shape), float(eps)
        self.weight = Parameter(init.filled(self.normalized_shape, 1, dtype)) if elementwise_affine else None
        self.bias = Parameter(init.filled(self.normalized_shape, 0, dtype)) if elementwise_affine and bias else None

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        affine, bias = self.weight is not None, self.bias is not None
        names = ("normalized_shape", "eps", "dtype")
        return {**{n: getattr(self, n) for n in names}, "elementwise_affine": affine, "bias": bias or not affine}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (…, *normalized_shape). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "...", *self.normalized_shape)
        D = math.prod(self.normalized_shape)
        rows = contiguous(x).reshape(-1, D)
        weight, bias = (None if p is None else p.data.reshape(D) for p in (self.weight, self.bias))
        y, mean, rstd = k.layer_norm(rows, weight, bias, eps=self.eps)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            dy = contiguous(dy).reshape(-1, D)
            out = (None if need_dx else False, _as_row(target(self.weight)), _as_row(target(self.bias)))
            dx = k.layer_norm_backward(dy, rows, weight, mean, rstd, out=out)[0]
            return dx.reshape(x.shape) if need_dx else None

        return y.reshape(x.shape), backward
