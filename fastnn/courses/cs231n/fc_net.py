"""Fully connected networks whose weights lie in a dictionary `params`, (in, out): W1, b1, W2, b2, …

Like the course's own module it also hands on the layers, which a notebook gets from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ... import _kernels as k
from ..._kernels import Array
from . import layer_utils, layers
from .layer_utils import *  # noqa: F403
from .layers import *  # noqa: F403


class FullyConnectedNet:
    """(affine, perhaps batch normalisation, ReLU, perhaps dropout) for each hidden layer, then affine and softmax.

    Weights are drawn from NumPy's global random numbers with standard deviation `weight_scale`, first layer first, as
    (in, out) matrices; biases and betas are 0, gammas 1.
    params: W1, b1, … and with batch normalisation gamma1, beta1, …, all of `dtype`; they may be replaced.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 0,
        use_batchnorm: bool = False,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
    ) -> None:
        """hidden_dims: the sizes of the hidden layers. dropout: the probability with which a number is dropped, 0 for
        no dropout layers. reg: factor of ½ ‖W‖² of all weights. seed: of dropout, the same at every call, which a check
        of gradients needs; None draws anew.
        """
        sizes = [input_dim, *hidden_dims, num_classes]
        self.reg, self.dtype, self.num_layers = reg, np.dtype(dtype), len(sizes) - 1
        self.use_batchnorm, self.use_dropout = use_batchnorm, dropout > 0
        self.params: dict[str, Array] = {}
        for i, (before, after) in enumerate(pairwise(sizes), 1):
            self.params[f"W{i}"] = (weight_scale * np.random.randn(before, after)).astype(self.dtype)
            self.params[f"b{i}"] = np.zeros(after, self.dtype)
        for i, size in enumerate(hidden_dims if use_batchnorm else (), 1):
            self.params[f"gamma{i}"], self.params[f"beta{i}"] = np.ones(size, self.dtype), np.zeros(size, self.dtype)
        self.bn_params: list[dict[str, Any]] = [{"mode": "train"} for _ in hidden_dims] if use_batchnorm else []
        self.dropout_param: dict[str, Any] = {"mode": "train", "p": dropout} if self.use_dropout else {}
        if self.use_dropout and seed is not None:
            self.dropout_param["seed"] = seed

    def loss(self, X: Any, y: Any = None) -> Any:
        """Scores (N, num_classes) in test mode, or, with labels y: (N,), the loss and the gradients in training mode.

        X: (N, …) with input_dim numbers a sample. The gradients are a dictionary like `params`.
        """
        for options in (*self.bn_params, self.dropout_param):
            options["mode"] = "test" if y is None else "train"
        out, backwards = np.asarray(X, self.dtype), []
        for i in range(1, self.num_layers + 1):
            out, backward = self._forward(out, i)
            backwards.append(backward)
        if y is None:
            return out
        loss, dout = layers.softmax_loss(out, y)
        grads: dict[str, Array] = {}
        for backward in reversed(backwards):
            dout = backward(dout, grads)
        return loss + self._penalty(grads), grads

    def _forward(self, x: Array, i: int) -> tuple[Array, Any]:
        """Block i, from 1 on; the function returned puts its gradients into a dictionary."""
        hidden, p = i < self.num_layers, self.params
        out, affine_cache = layers.affine_forward(x, p[f"W{i}"], p[f"b{i}"])
        if hidden and self.use_batchnorm:
            out, norm_cache = layers.batchnorm_forward(out, p[f"gamma{i}"], p[f"beta{i}"], self.bn_params[i - 1])
        if hidden:
            out, relu_cache = layers.relu_forward(out)
        if hidden and self.use_dropout:
            out, dropout_cache = layers.dropout_forward(out, self.dropout_param)

        def backward(dout: Array, grads: dict[str, Array]) -> Array:
            if hidden and self.use_dropout:
                dout = layers.dropout_backward(dout, dropout_cache)
            if hidden:
                dout = layers.relu_backward(dout, relu_cache)
            if hidden and self.use_batchnorm:
                dout, grads[f"gamma{i}"], grads[f"beta{i}"] = layers.batchnorm_backward(dout, norm_cache)
            dx, grads[f"W{i}"], grads[f"b{i}"] = layers.affine_backward(dout, affine_cache)
            return dx

        return out, backward

    def _penalty(self, grads: dict[str, Array]) -> float:
        """½ reg ‖W‖² of all weights, whose gradients are added."""
        loss = np.zeros(1)
        for name in (name for name in grads if name.startswith("W") and self.reg):
            weights, grads[name] = layers.reals(self.params[name], grads[name])
            k.l2_penalty(weights.reshape(-1), factor=self.reg, out=((loss, True), (grads[name].reshape(-1), True)))
        return float(loss[0])


class TwoLayerNet(FullyConnectedNet):
    """Affine, ReLU, affine, softmax, in float64."""

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dims: int = 100,
        num_classes: int = 10,
        dropout: float = 0,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        """hidden_dims: the size of the one hidden layer. dropout: accepted as in the course, which never uses it."""
        super().__init__([hidden_dims], input_dim, num_classes, reg=reg, weight_scale=weight_scale, dtype=np.float64)


__all__ = ["FullyConnectedNet", "TwoLayerNet", *layer_utils.__all__, *layers.__all__]
