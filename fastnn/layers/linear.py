"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .. import init
from .._kernels import Array
from .layer import Backward, Layer, check_gradient, contiguous, register
from .parameter import Parameter, target


@register
class Linear(Layer):
    """y = x W^T + b, for x (…, in_features); y (…, out_features).

    weight: (out_features, in_features) and bias: (out_features,), drawn as PyTorch draws them, uniform in
    ±1/sqrt(in_features). dtype: ``"float32"`` or ``"float64"``.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: str = "float32") -> None:
        init.check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        weight, shift = init.default((out_features, in_features), in_features, bias, dtype)
        self.weight = Parameter(weight)
        self.bias = None if shift is None else Parameter(shift)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "dtype": self.dtype,
        }

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (…, in_features). Raises `ShapeError`, `DTypeError`."""
        return self.forward_with(x, relu=False)

    def forward_with(self, x: Array, relu: bool) -> tuple[Array, Backward]:
        """The same, or with `relu` the layer and a ReLU after it in one kernel."""
        self.check(x, "...", self.in_features)
        rows = contiguous(x).reshape(-1, self.in_features)
        y = k.linear(rows, self.weight.data, None if self.bias is None else self.bias.data, relu=relu)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, (*x.shape[:-1], self.out_features))
            dy = contiguous(dy).reshape(-1, self.out_features)
            if relu:
                dy = k.relu_backward(dy, y)
            k.linear_backward_weights(dy, rows, out=(self.weight.target(), target(self.bias)))
            return k.linear_backward_data(dy, self.weight.data).reshape(x.shape) if need_dx else None

        return y.reshape(*x.shape[:-1], self.out_features), backward
