"""Layers as pairs of functions: ``out, cache = …_forward(…)`` and ``…_backward(dout, cache)``; losses with gradients.

Arrays are float64 or float32, as they are given; where they differ, or hold whole numbers, the wider type is taken, as
NumPy does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _kernels as k
from ..._arrays import check_range
from ..._kernels import Array

Cache = Any  #: what a forward function keeps for the backward one


def reals(*arrays: Any) -> tuple[Array, ...]:
    """The arrays, all float64 or all float32."""
    given = [np.asarray(a) for a in arrays]
    dtype = np.float32 if np.result_type(*given) == np.float32 else np.float64
    return tuple(np.asarray(a, dtype) for a in given)


# --- fully connected --------------------------------------------------------------------------------------------------


def affine_forward(x: Any, w: Any, b: Any) -> tuple[Array, Cache]:
    """out = x w + b, the numbers of a sample taken as a row.

    x: (N, …) with D numbers a sample, w: (D, M), b: (M,). Returns out: (N, M), and (x, w, b).
    """
    x, w, b = reals(x, w, b)
    # The kernels' weights lie (out, in). With (in, out), forward and backward change places, and nothing is transposed.
    bias = k.channel_bias(b, N=len(x), H=1, W=1)[:, :, 0, 0]
    return k.linear_backward_data(_rows(x), w, out=(bias, True)), (x, w, b)


def affine_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """dx = dout wᵀ, dw = xᵀ dout, db = dout summed over the samples.

    dout: (N, M). Returns dx: (N, …), dw: (D, M), db: (M,).
    """
    dout, x, w, _ = reals(dout, *cache)
    dx = k.linear(dout, w, None, relu=False).reshape(x.shape)
    dw, _ = k.linear_backward_weights(_rows(x), dout, out=(None, False))
    return dx, dw, k.channel_bias_backward(dout[:, :, None, None])


def _rows(x: Array) -> Array:
    """(N, D), also where N is 0."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def relu_forward(x: Any) -> tuple[Array, Cache]:
    """out = max(x, 0). x: any shape. Returns out of that shape, and x."""
    (x,) = reals(x)
    return k.relu(x), x


def relu_backward(dout: Any, cache: Cache) -> Array:
    """dx = dout where x was positive, else 0. dout: any shape. Returns dx of that shape."""
    dx: Array = k.relu_backward(*reals(dout, cache))
    return dx


# --- regularisation ---------------------------------------------------------------------------------------------------


def batchnorm_forward(x: Any, gamma: Any, beta: Any, bn_param: dict[str, Any]) -> tuple[Array, Cache]:
    """out = gamma (x - mean) / sqrt(variance + eps) + beta of each feature (Ioffe and Szegedy 2015, algorithm 1).

    x: (N, D), gamma, beta: (D,). Returns out: (N, D), and a cache.
    bn_param: mode, "train" with the batch's statistics or "test" with the running ones; eps (1e-5); momentum (.9), how
        much of them is kept in training; running_mean and running_var, (D,), put there by the first call. The variance
        is divided by N in both, as in the course (PyTorch divides that of the running one by N - 1).
    """
    x, gamma, beta = reals(x, gamma, beta)
    mode, eps = bn_param["mode"], bn_param.get("eps", 1e-5)
    if mode not in ("train", "test"):
        raise ValueError(f"batchnorm_forward: expected mode 'train' or 'test', got {mode!r}")
    images = x[:, :, None, None]
    running = [np.array(bn_param.get(name, np.zeros_like(beta)), x.dtype) for name in ("running_mean", "running_var")]
    mean, var = k.batch_norm_statistics(images) if mode == "train" else running
    if mode == "train":
        kept = bn_param.get("momentum", 0.9)
        how = {"count": len(x), "biased": True, "cumulative": False, "momentum": 1 - kept}
        k.batch_norm_update(*running, np.zeros(1, np.int64), mean, var, **how)
    bn_param["running_mean"], bn_param["running_var"] = running
    out = k.batch_norm(images, gamma, beta, mean, var, relu=False, eps=eps)
    return out[:, :, 0, 0], (x, gamma, beta, mean, var, mode == "train", eps)


def batchnorm_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """The gradients of `batchnorm_forward`, in training also through mean and variance.

    dout: (N, D). Returns dx: (N, D), dgamma: (D,), dbeta: (D,).
    """
    *arrays, train, eps = cache
    dout, x, *others = reals(dout, *arrays)
    images = (dout[:, :, None, None], x[:, :, None, None])
    dx, dgamma, dbeta = k.batch_norm_backward(*images, *others, relu=False, train=train, eps=eps)
    return dx[:, :, 0, 0], dgamma, dbeta


def dropout_forward(x: Any, dropout_param: dict[str, Any]) -> tuple[Array, Cache]:
    """In training each number is dropped with probability p, else divided by 1 - p.

    x: any shape. Returns out of that shape, and a cache.
    dropout_param: p, mode, "train" or "test"; seed, a whole number, for the same numbers to be dropped at every call;
        without it NumPy's global random numbers choose.
    """
    (x,) = reals(x)
    p, mode = dropout_param["p"], dropout_param["mode"]
    if mode not in ("train", "test"):
        raise ValueError(f"dropout_forward: expected mode 'train' or 'test', got {mode!r}")
    seed = dropout_param.get("seed")
    if mode == "test":
        return x, (dropout_param, None)
    key = np.array([np.random.randint(2**32, dtype=np.uint64) if seed is None else seed, 0, 0], np.uint64)
    return k.dropout(x, key, p=p), (dropout_param, key)


def dropout_backward(dout: Any, cache: Cache) -> Array:
    """dx is dout by the same factors. dout: any shape. Returns dx of that shape."""
    (dout,), (dropout_param, key) = reals(dout), cache
    dx: Array = dout if key is None else k.dropout(dout, key, p=dropout_param["p"])
    return dx


# --- losses -----------------------------------------------------------------------------------------------------------


def svm_loss(x: Any, y: Any) -> tuple[float, Array]:
    """The mean over samples of Σ max(0, xⱼ - x[y] + 1) over all classes but y (Weston and Watkins 1999).

    x: (N, C) scores, y: (N,) integers. Returns the loss, and dx: (N, C).
    Raises ValueError for a label that is no class.
    """
    (x,) = reals(x)
    loss, dx = k.multi_margin(
        x, _labels(y, x.shape[1]), None, None, mean=True, positions=1, class_mean=False, p=1, margin=1.0
    )
    return float(loss[0]), dx


def softmax_loss(x: Any, y: Any) -> tuple[float, Array]:
    """The mean over samples of -log softmax(x)[y].

    x: (N, C) scores, y: (N,) integers. Returns the loss, and dx: (N, C).
    Raises ValueError for a label that is no class.
    """
    (x,) = reals(x)
    loss, dx = k.cross_entropy(
        x, _labels(y, x.shape[1]), None, None, mean=True, positions=1, ignore_index=-100, label_smoothing=0.0
    )
    return float(loss[0]), dx


def _labels(y: Any, classes: int) -> Array:
    labels: Array = np.asarray(y).astype(np.int64, casting="same_kind")
    check_range(labels, classes, "y")
    return labels


__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_forward",
    "dropout_backward",
    "dropout_forward",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "svm_loss",
]
