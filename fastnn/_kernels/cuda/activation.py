"""Activations, and softmax's relatives (see `reference` for the formulas)."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from .elementwise import binary, unary
from .launch import BLOCK, device, kernel
from .rows import over_rows, row_max, row_sum

Sizes = dict[str, int]

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_PI = math.sqrt(2 * math.pi)
_SLOPE = math.sqrt(2 / math.pi)
_CUBE = 0.044715


# --- of scalars -------------------------------------------------------------------------------------------------------


def _relu(T: Any, x: Any, a: Any, b: Any) -> Any:
    return T(0) if x <= T(0) else x


def _relu_backward(T: Any, dy: Any, y: Any, a: Any, b: Any) -> Any:
    return T(0) if y <= T(0) else dy


def _leaky_relu(T: Any, x: Any, negative_slope: Any, b: Any) -> Any:
    return x if x > T(0) else x * negative_slope


def _leaky_relu_backward(T: Any, dy: Any, x: Any, negative_slope: Any, b: Any) -> Any:
    return dy if x > T(0) else dy * negative_slope


def _elu(T: Any, x: Any, alpha: Any, b: Any) -> Any:
    return x if x > T(0) else alpha * T(math.expm1(x))


def _elu_backward(T: Any, dy: Any, x: Any, alpha: Any, b: Any) -> Any:
    return dy if x > T(0) else dy * (alpha * T(math.exp(x)))


@device
def sigmoid_of(T: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)), of which no part overflows."""
    tail = T(math.exp(-abs(x)))
    return (T(1) if x >= T(0) else tail) / (T(1) + tail)


@device
def _normal(T: Any, x: Any) -> Any:
    return T(0.5) * T(math.erfc(-x * T(_ROOT_HALF)))


@device
def _twice_u(T: Any, x: Any) -> Any:
    return T(2 * _SLOPE) * (x + T(_CUBE) * (x * x * x))


def _gelu(T: Any, x: Any, a: Any, b: Any) -> Any:
    return x * _normal(T, x)


def _gelu_backward(T: Any, dy: Any, x: Any, a: Any, b: Any) -> Any:
    return dy * (_normal(T, x) + x * (T(math.exp(-(x * x) / T(2))) / T(_ROOT_2_PI)))


def _gelu_tanh(T: Any, x: Any, a: Any, b: Any) -> Any:
    return x * sigmoid_of(T, _twice_u(T, x))


def _gelu_tanh_backward(T: Any, dy: Any, x: Any, a: Any, b: Any) -> Any:
    s = sigmoid_of(T, _twice_u(T, x))
    return dy * (s + x * (s * (T(1) - s)) * (T(2 * _SLOPE) * (T(1) + T(3 * _CUBE) * (x * x))))


def _silu(T: Any, x: Any, a: Any, b: Any) -> Any:
    return x * sigmoid_of(T, x)


def _silu_backward(T: Any, dy: Any, x: Any, a: Any, b: Any) -> Any:
    s = sigmoid_of(T, x)
    return dy * s * (T(1) + x * (T(1) - s))


def _sigmoid(T: Any, x: Any, a: Any, b: Any) -> Any:
    return sigmoid_of(T, x)


def _sigmoid_backward(T: Any, dy: Any, y: Any, a: Any, b: Any) -> Any:
    return dy * (y * (T(1) - y))


def _tanh(T: Any, x: Any, a: Any, b: Any) -> Any:
    return T(math.tanh(x))


def _tanh_backward(T: Any, dy: Any, y: Any, a: Any, b: Any) -> Any:
    return dy * (T(1) - y * y)


def _softplus(T: Any, x: Any, beta: Any, threshold: Any) -> Any:
    z = x * beta
    return x if z > threshold else ((z if z > T(0) else T(0)) + T(math.log1p(T(math.exp(-abs(z)))))) / beta


def _softplus_backward(T: Any, dy: Any, x: Any, beta: Any, threshold: Any) -> Any:
    z = x * beta
    return dy if z > threshold else dy * sigmoid_of(T, z)


relu, relu_backward = unary(_relu), binary(_relu_backward)
leaky_relu, leaky_relu_backward = unary(_leaky_relu, "negative_slope"), binary(_leaky_relu_backward, "negative_slope")
elu, elu_backward = unary(_elu, "alpha"), binary(_elu_backward, "alpha")
gelu, gelu_backward = unary(_gelu), binary(_gelu_backward)
gelu_tanh, gelu_tanh_backward = unary(_gelu_tanh), binary(_gelu_tanh_backward)
silu, silu_backward = unary(_silu), binary(_silu_backward)
sigmoid, sigmoid_backward = unary(_sigmoid), binary(_sigmoid_backward)
tanh, tanh_backward = unary(_tanh), binary(_tanh_backward)
softplus, softplus_backward = unary(_softplus, "beta", "threshold"), binary(_softplus_backward, "beta", "threshold")


# --- along rows -------------------------------------------------------------------------------------------------------


@device
def top_of(scores: Any, start: int, K: int, lane: int, lanes: int, shared: Any) -> Any:
    """The largest score of a row, from `start` on; K is 0 where the lanes have no row."""
    top = scores.dtype.type(-math.inf)
    for k in range(lane, K, lanes):
        top = scores[start + k] if scores[start + k] > top else top
    return row_max(top, shared, lanes)


@device
def exps_of(scores: Any, start: int, K: int, top: Any, lane: int, lanes: int, shared: Any) -> Any:
    """Σ exp(score - top) of a row."""
    T = scores.dtype.type
    total = T(0)
    for k in range(lane, K, lanes):
        total += T(math.exp(scores[start + k] - top))
    return row_sum(total, shared, lanes)


@kernel("T[::1], T[::1], int64, int64, boolean, int64")
def _softmax(y: Any, scores: Any, N: int, K: int, logs: bool, lanes: int) -> None:
    T = scores.dtype.type
    shared = cuda.shared.array(BLOCK, scores.dtype)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count = K if n < N else 0
        top = top_of(scores, n * K, count, lane, lanes, shared)
        exps = exps_of(scores, n * K, count, top, lane, lanes, shared)
        for i in range(n * K + lane, n * K + count, lanes):
            y[i] = scores[i] - top - T(math.log(exps)) if logs else T(math.exp(scores[i] - top)) / exps


@kernel("T[::1], T[::1], T[::1], int64, int64, boolean, int64")
def _softmax_backward(dscores: Any, dy: Any, y: Any, N: int, K: int, logs: bool, lanes: int) -> None:
    T = y.dtype.type
    shared = cuda.shared.array(BLOCK, y.dtype)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count = K if n < N else 0
        total = T(0)
        for i in range(n * K + lane, n * K + count, lanes):
            total += dy[i] if logs else dy[i] * y[i]
        total = row_sum(total, shared, lanes)
        for i in range(n * K + lane, n * K + count, lanes):
            dscores[i] = dy[i] - T(math.exp(y[i])) * total if logs else y[i] * (dy[i] - total)


def softmax(probabilities: Any, scores: Any, *, dims: Sizes) -> None:
    """exp(s) / Σ exp(s) of each row."""
    over_rows(_softmax, dims["N"], dims["K"], probabilities, scores, dims["N"], dims["K"], False)


def log_softmax(logs: Any, scores: Any, *, dims: Sizes) -> None:
    """s - log Σ exp(s) of each row."""
    over_rows(_softmax, dims["N"], dims["K"], logs, scores, dims["N"], dims["K"], True)


def softmax_backward(dscores: Any, dy: Any, y: Any, *, dims: Sizes) -> None:
    """y (dy - Σ dy y) of each row."""
    over_rows(_softmax_backward, dims["N"], dims["K"], dscores, dy, y, dims["N"], dims["K"], False)


def log_softmax_backward(dscores: Any, dy: Any, y: Any, *, dims: Sizes) -> None:
    """dy - exp(y) Σ dy of each row."""
    over_rows(_softmax_backward, dims["N"], dims["K"], dscores, dy, y, dims["N"], dims["K"], True)
