"""Activations: elementwise functions, of arrays of any shape, and softmax's relatives.

Each function's derivative times dy is its ``…_backward``, from the function's x or, where that is simpler, from its y.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernel import Array


def relu(x: Array) -> Array:
    """y = max(x, 0), elementwise; NaN stays NaN.

    x: any shape. Returns y of the same shape.
    """
    return np.where(x <= 0, 0, x)


def relu_backward(dy: Array, y: Array) -> Array:
    """dx = dy where the output was positive (or NaN), else 0.

    dy, y: any shape, y being the output of `relu`. Returns dx of the same shape.
    """
    return np.where(y <= 0, 0, dy)


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """y = x where that is positive, else negative_slope * x (Maas, Hannun, Ng 2013, section 2).

    x: any shape. Returns y of the same shape.
    """
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(dy: Array, x: Array, negative_slope: float) -> Array:
    """dx = dy where x is positive, else negative_slope * dy.

    dy, x: any shape. Returns dx of the same shape.
    """
    return np.where(x > 0, dy, dy * negative_slope)


def elu(x: Array, alpha: float) -> Array:
    """y = x where that is positive, else alpha * (exp(x) - 1) (Clevert, Unterthiner, Hochreiter 2016, equation 15).

    x: any shape. Returns y of the same shape.
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(dy: Array, x: Array, alpha: float) -> Array:
    """dx = dy where x is positive, else dy * alpha * exp(x).

    dy, x: any shape. Returns dx of the same shape.
    """
    return np.where(x > 0, dy, dy * (alpha * np.exp(np.minimum(x, 0))))


def gelu(x: Array) -> Array:
    """y = x Φ(x), Φ being the normal distribution (Hendrycks, Gimpel 2016, section 2).

    x: any shape. Returns y of the same shape.
    """
    return x * _normal(x)


def gelu_backward(dy: Array, x: Array) -> Array:
    """dx = dy * (Φ(x) + x φ(x)), φ being the normal density.

    dy, x: any shape. Returns dx of the same shape.
    """
    dx: Array = dy * (_normal(x) + x * (np.exp(-(x * x) / 2) / math.sqrt(2 * math.pi)))
    return dx


def _normal(x: Array) -> Array:
    cdf: Array = np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[x.dtype])(x)
    return cdf


def gelu_tanh(x: Array) -> Array:
    """y = x * (1 + tanh(u)) / 2 with u = sqrt(2/π) (x + 0.044715 x³) (Hendrycks, Gimpel 2016, section 2).

    x: any shape. Returns y of the same shape.
    """
    return x * sigmoid(2 * _u(x))  # which is the same


def gelu_tanh_backward(dy: Array, x: Array) -> Array:
    """dx = dy * (s + x s (1 - s) 2u') with s = sigmoid(2u) and u' = sqrt(2/π) (1 + 3 · 0.044715 x²).

    dy, x: any shape. Returns dx of the same shape.
    """
    s = sigmoid(2 * _u(x))
    dx: Array = dy * (s + x * (s * (1 - s)) * (2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x))))
    return dx


def _u(x: Array) -> Array:
    u: Array = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
    return u


def silu(x: Array) -> Array:
    """y = x * sigmoid(x), also known as swish (Ramachandran, Zoph, Le 2017, section 3).

    x: any shape. Returns y of the same shape.
    """
    return x * sigmoid(x)


def silu_backward(dy: Array, x: Array) -> Array:
    """dx = dy * s * (1 + x * (1 - s)) with s = sigmoid(x).

    dy, x: any shape. Returns dx of the same shape.
    """
    s = sigmoid(x)
    dx: Array = dy * s * (1 + x * (1 - s))
    return dx


def sigmoid(x: Array) -> Array:
    """y = 1 / (1 + exp(-x)).

    x: any shape. Returns y of the same shape.
    """
    y: Array = 1 / (1 + np.exp(-x))
    return y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dx = dy * y * (1 - y).

    dy, y: any shape, y being the output of `sigmoid`. Returns dx of the same shape.
    """
    dx: Array = dy * (y * (1 - y))
    return dx


def tanh(x: Array) -> Array:
    """y = tanh(x).

    x: any shape. Returns y of the same shape.
    """
    y: Array = np.tanh(x)
    return y


def tanh_backward(dy: Array, y: Array) -> Array:
    """dx = dy * (1 - y²).

    dy, y: any shape, y being the output of `tanh`. Returns dx of the same shape.
    """
    dx: Array = dy * (1 - y * y)
    return dx


def softplus(x: Array, beta: float, threshold: float) -> Array:
    """y = log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold.

    x: any shape. Returns y of the same shape.
    """
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def softplus_backward(dy: Array, x: Array, beta: float, threshold: float) -> Array:
    """dx = dy * sigmoid(beta x), and dy itself where beta x is above the threshold.

    dy, x: any shape. Returns dx of the same shape.
    """
    return np.where(x * beta > threshold, dy, dy * sigmoid(x * beta))


def log_softmax(scores: Array) -> Array:
    """log(exp(s) / Σ exp(s)) of each row.

    scores: (N, K). Returns logs: (N, K).
    """
    shifted = scores - scores.max(axis=1, keepdims=True)  # the shift cancels, and keeps exp from overflowing
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def softmax_backward(dy: Array, y: Array) -> Array:
    """ds = y (dy - Σ dy y) of each row, y being the output of `softmax`.

    dy, y: (N, K). Returns dscores: (N, K).
    """
    dscores: Array = y * (dy - (dy * y).sum(axis=1, keepdims=True))
    return dscores


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """ds = dy - exp(y) Σ dy of each row, y being the output of `log_softmax`.

    dy, y: (N, K). Returns dscores: (N, K).
    """
    dscores: Array = dy - np.exp(y) * dy.sum(axis=1, keepdims=True)
    return dscores
