"""Updates, each one kernel over the parameters; options and counts of steps stay with the host (see `reference`)."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda

from .launch import device, kernel, over
from .sums import given, or_else

Sizes = dict[str, int]

_FIRST, _SECOND, _NEGATIVE, _NESTEROV, _DECOUPLED = 1, 2, 4, 8, 16


def _reals(like: Any, *numbers: float) -> tuple[Any, ...]:
    """Options in the dtype of the parameters."""
    return tuple(like.dtype.type(number) for number in numbers)


@device
def _descent(param: Any, grad: Any, weight_decay: float, has: int) -> Any:
    """The gradient that goes down, with that of ½ · weight_decay · param²."""
    g = -grad if has & _NEGATIVE else grad
    return g + weight_decay * param if weight_decay != 0 else g


@kernel("T[::1], T[::1], T[::1], int64, T, T, T, T, int64, int64")
def _sgd(
    param: Any,
    grad: Any,
    buffer: Any,
    n: int,
    lr: float,
    momentum: float,
    kept: float,
    weight_decay: float,
    step: int,
    has: int,
) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        g = (-grad[i] if has & _NEGATIVE else grad[i]) + weight_decay * param[i]
        if has & _FIRST:
            b = momentum * buffer[i] + kept * g if step else g
            buffer[i] = b
            g = g + momentum * b if has & _NESTEROV else b
        param[i] -= lr * g


def sgd(param: Any, grad: Any, buffer: Any, hyper: Any, steps: Any, *, dims: Sizes) -> None:
    """Stochastic gradient descent with momentum."""
    lr, momentum, dampening, weight_decay, nesterov, maximize = hyper.tolist()
    has = given({_FIRST: buffer, _NESTEROV: bool(nesterov), _NEGATIVE: bool(maximize)})
    reals = _reals(param, lr, momentum, 1 - dampening, weight_decay)
    step = int(steps[0]) if buffer is not None else 0
    over(_sgd, dims["n"], param, grad, or_else(buffer, param), dims["n"], *reals, step, has)
    if buffer is not None:
        steps += 1


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], int64, T, T, T, T, T, T, int64")
def _rmsprop(
    param: Any,
    grad: Any,
    square_avg: Any,
    grad_avg: Any,
    buffer: Any,
    n: int,
    lr: float,
    momentum: float,
    alpha: float,
    rest: float,
    eps: float,
    weight_decay: float,
    has: int,
) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        g = _descent(param[i], grad[i], weight_decay, has)
        variance = alpha * square_avg[i] + rest * g * g
        square_avg[i] = variance
        if has & _FIRST:
            mean = grad_avg[i] + rest * (g - grad_avg[i])
            grad_avg[i] = mean
            variance -= mean * mean
        g = g / (param.dtype.type(math.sqrt(variance)) + eps)
        if has & _SECOND:
            g += momentum * buffer[i]
            buffer[i] = g
        param[i] -= lr * g


def rmsprop(
    param: Any, grad: Any, square_avg: Any, grad_avg: Any, buffer: Any, hyper: Any, steps: Any, *, dims: Sizes
) -> None:
    """RMSprop, centered where there is grad_avg, with momentum where there is a buffer."""
    lr, momentum, alpha, eps, weight_decay, maximize = hyper.tolist()
    has = given({_FIRST: grad_avg, _SECOND: buffer, _NEGATIVE: bool(maximize)})
    arrays = param, grad, square_avg, or_else(grad_avg, param), or_else(buffer, param)
    reals = _reals(param, lr, momentum, alpha, 1 - alpha, eps, weight_decay)
    over(_rmsprop, dims["n"], *arrays, dims["n"], *reals, has)
    steps += 1


@kernel("T[::1], T[::1], T[::1], int64, T, T, T, int64")
def _adagrad(param: Any, grad: Any, total: Any, n: int, rate: float, weight_decay: float, eps: float, has: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        g = _descent(param[i], grad[i], weight_decay, has)
        squares = total[i] + g * g
        total[i] = squares
        param[i] -= rate * (g / (param.dtype.type(math.sqrt(squares)) + eps))


def adagrad(param: Any, grad: Any, sum: Any, hyper: Any, steps: Any, *, dims: Sizes) -> None:
    """Adagrad."""
    lr, lr_decay, weight_decay, eps, maximize = hyper.tolist()
    rate = lr / (1 + float(steps[0]) * lr_decay)
    has = given({_NEGATIVE: bool(maximize)})
    over(_adagrad, dims["n"], param, grad, sum, dims["n"], *_reals(param, rate, weight_decay, eps), has)
    steps += 1


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], int64, T, T, T, T, T, T, T, T, int64")
def _adam(
    param: Any,
    grad: Any,
    mean: Any,
    square: Any,
    largest: Any,
    n: int,
    rate: float,
    shrink: float,
    rest1: float,
    beta2: float,
    rest2: float,
    root: float,
    eps: float,
    weight_decay: float,
    has: int,
) -> None:
    T = param.dtype.type
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        g = _descent(param[i], grad[i], weight_decay, has)
        m = mean[i] + rest1 * (g - mean[i])
        v = beta2 * square[i] + rest2 * g * g
        mean[i] = m
        square[i] = v
        if has & _FIRST:
            v = largest[i] if largest[i] > v or largest[i] != largest[i] else v
            largest[i] = v
        p = param[i] * shrink if has & _DECOUPLED else param[i]
        param[i] = p - rate * (m / (T(math.sqrt(v)) / root + eps))


def adam(
    param: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, hyper: Any, steps: Any, *, dims: Sizes
) -> None:
    """Adam, and AdamW where `decoupled`, AMSGrad where there is max_exp_avg_sq."""
    lr, beta1, beta2, eps, weight_decay, decoupled, maximize, bias_correction = hyper.tolist()
    step = float(steps[0]) + 1
    correction1, correction2 = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    has = given({_FIRST: max_exp_avg_sq, _DECOUPLED: bool(decoupled), _NEGATIVE: bool(maximize)})
    arrays = param, grad, exp_avg, exp_avg_sq, or_else(max_exp_avg_sq, param)
    options = (1 - lr * weight_decay, 1 - beta1, beta2, 1 - beta2, correction2**0.5, eps)
    reals = _reals(param, lr / correction1, *options, 0 if decoupled else weight_decay)
    over(_adam, dims["n"], *arrays, dims["n"], *reals, has)
    steps += 1
