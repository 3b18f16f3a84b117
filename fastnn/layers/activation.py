"""Activation functions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array, Kernel
from .layer import Backward, Layer, check_gradient, contiguous, register


class Activation(Layer):
    """Base of elementwise functions."""

    rows: ClassVar[tuple[Kernel, Kernel]]  #: of the function and its derivative; their options are the layer's
    keeps_output: ClassVar[bool] = False  #: whether the derivative is computed from the output, else from the input

    def kernels(self) -> tuple[Kernel, Kernel]:
        """The function and its derivative."""
        return self.rows

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in self.rows[0].floats}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape; y has the same. Raises `ShapeError`, `DTypeError`."""
        self.check(x)
        function, derivative = self.kernels()
        options = {name: getattr(self, name) for name in function.floats}
        y = function(x, **options)
        kept = y if self.keeps_output else x

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            return derivative(dy, kept, **options) if need_dx else None

        return y, backward


@register
class ReLU(Activation):
    """max(x, 0), elementwise on any shape; NaN passes. Its derivative at 0 is 0."""

    rows = k.relu, k.relu_backward
    keeps_output = True


@register
class LeakyReLU(Activation):
    """x where that is positive, else negative_slope * x, elementwise on any shape. Its derivative at 0 is the slope.

    Maas, Hannun, Ng: "Rectifier nonlinearities improve neural network acoustic models", 2013, section 2.
    """

    rows = k.leaky_relu, k.leaky_relu_backward

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = finite_number("LeakyReLU", "negative_slope", negative_slope)


@register
class ELU(Activation):
    """x where that is positive, else alpha * (exp(x) - 1), elementwise on any shape.

    Clevert, Unterthiner, Hochreiter: "Fast and accurate deep network learning by exponential linear units", 2016,
    equation 15.
    """

    rows = k.elu, k.elu_backward

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = finite_number("ELU", "alpha", alpha)


@register
class GELU(Activation):
    """x Φ(x), Φ being the normal distribution, elementwise on any shape.

    approximate: ``"none"``, or ``"tanh"`` for x (1 + tanh(sqrt(2/π) (x + 0.044715 x³))) / 2.
    Hendrycks, Gimpel: "Gaussian error linear units (GELUs)", 2016, section 2.
    """

    rows = k.gelu, k.gelu_backward

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: expected approximate 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"approximate": self.approximate}

    def kernels(self) -> tuple[Kernel, Kernel]:
        """The function and its derivative."""
        return (k.gelu_tanh, k.gelu_tanh_backward) if self.approximate == "tanh" else self.rows


@register
class SiLU(Activation):
    """x * sigmoid(x), elementwise on any shape: Ramachandran, Zoph, Le, "Searching for activation functions", 2017."""

    rows = k.silu, k.silu_backward


@register
class Sigmoid(Activation):
    """1 / (1 + exp(-x)), elementwise on any shape."""

    rows = k.sigmoid, k.sigmoid_backward
    keeps_output = True


@register
class Tanh(Activation):
    """tanh(x), elementwise on any shape."""

    rows = k.tanh, k.tanh_backward
    keeps_output = True


@register
class Softplus(Activation):
    """log(1 + exp(beta x)) / beta, elementwise on any shape; x itself where beta x is above `threshold`."""

    rows = k.softplus, k.softplus_backward

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = finite_number("Softplus", "beta", beta)
        self.threshold = finite_number("Softplus", "threshold", threshold)
        if self.beta <= 0:
            raise ValueError(f"Softplus: expected beta above 0, got {beta!r}")


def finite_number(layer: str, name: str, value: Any) -> float:
    """An option as a float; a ValueError unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValueError(f"{layer}: expected {name} as a finite number, got {value!r}")
    return float(value)


# --- along an axis ----------------------------------------------------------------------------------------------------


class _AlongAxis(Layer):
    """Base of functions of the numbers along one axis, which for the kernels becomes the last one."""

    rows: ClassVar[tuple[Kernel, Kernel]]  #: of the function and its derivative

    def __init__(self, dim: int) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer):
            raise ValueError(f"{type(self).__name__}: expected dim as a whole number, got {dim!r}")
        self.dim = int(dim)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"dim": self.dim}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that has the axis; y has the same. Raises `ShapeError`, `DTypeError`."""
        self.check(x)
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] == 0:
            raise ShapeError(f"{self.label}: expected an axis {self.dim} with something along it, got {x.shape}")
        function, derivative = self.rows
        y = function(self._as_rows(x))

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            return self._as_before(derivative(self._as_rows(dy), y), x) if need_dx else None

        return self._as_before(y, x), backward

    def _as_rows(self, x: Array) -> Array:
        return contiguous(np.moveaxis(x, self.dim, -1)).reshape(-1, x.shape[self.dim])

    def _as_before(self, rows: Array, x: Array) -> Array:
        return np.moveaxis(rows.reshape(np.moveaxis(x, self.dim, -1).shape), -1, self.dim)


@register
class Softmax(_AlongAxis):
    """exp(x) / Σ exp(x), the sum being along axis `dim`. `CrossEntropyLoss` wants scores, without this."""

    rows = k.softmax, k.softmax_backward


@register
class LogSoftmax(_AlongAxis):
    """log(exp(x) / Σ exp(x)), the sum being along axis `dim`. `CrossEntropyLoss` wants scores, without this."""

    rows = k.log_softmax, k.log_softmax_backward


@register
class Identity(Layer):
    """x itself."""

    def config(self) -> dict[str, Any]:
        """No arguments."""
        return {}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape. Raises `DTypeError`."""
        self.check(x)
        return x, lambda dy, need_dx=True: dy if need_dx else None
