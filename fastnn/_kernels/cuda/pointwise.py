"""Losses that compare number by number, the count of right signs, an L2 penalty, and a loss by a factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, int64

from .elementwise import unary
from .launch import BLOCK, PARTS, block_sum, device, kernel, parts
from .rows import blocks_for, lanes_for, row_sum
from .sums import (
    GRADIENT,
    MEAN,
    POS_WEIGHT,
    SAMPLE_WEIGHT,
    WEIGHT,
    given,
    in_parts,
    leave,
    nothing,
    of_thread_0,
    or_else,
)

Sizes = dict[str, int]


@device
def _weights(sample_weight: Any, N: int, D: int, has: int) -> Any:
    """A thread's part of what the losses of all numbers are divided by, the sum of their weights."""
    total = np.float64(0)
    if has & MEAN and has & SAMPLE_WEIGHT:
        for n in range(cuda.threadIdx.x, N, BLOCK):
            total += np.float64(sample_weight[n])
        return total * np.float64(D)
    if cuda.threadIdx.x == 0:
        total = np.float64(N) * np.float64(D) if has & MEAN else np.float64(1)
    return total


def _compared(f: Callable[..., Any], *options: str) -> Callable[..., None]:
    """The row of a loss (loss, its derivative) = f(T, score, target, weight, pos_weight, a), a being the option."""
    of = device(f)

    @kernel("float64[::1], T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, T, int64")
    def compare(
        loss: Any,
        dscores: Any,
        scores: Any,
        target: Any,
        sample_weight: Any,
        weight: Any,
        pos_weight: Any,
        N: int,
        D: int,
        a: Any,
        has: int,
    ) -> None:
        T = scores.dtype.type
        divisor = of_thread_0(block_sum(_weights(sample_weight, N, D, has)))
        total = np.float64(0)
        for i in range(cuda.grid(1), N * D, cuda.gridsize(1)):
            v = np.float64(sample_weight[i // D]) if has & SAMPLE_WEIGHT else np.float64(1)
            w = weight[i % D] if has & WEIGHT else T(1)
            q = pos_weight[i % D] if has & POS_WEIGHT else T(1)
            value, slope = of(T, scores[i], target[i], w, q, a)
            total += v * value
            if has & GRADIENT:
                dscores[i] = slope * T(v / divisor if divisor != 0 else np.float64(0))
        leave(loss, block_sum(total) / divisor)

    def row(
        loss: Any,
        dscores: Any,
        scores: Any,
        target: Any,
        sample_weight: Any,
        weight: Any = None,
        pos_weight: Any = None,
        *,
        mean: bool,
        dims: Sizes,
        **params: float,
    ) -> None:
        N, D = dims["N"], dims["D"] if "D" in dims else dims["*"]
        own = {GRADIENT: dscores, SAMPLE_WEIGHT: sample_weight, WEIGHT: weight, POS_WEIGHT: pos_weight}
        arrays = (or_else(a, scores) for a in (dscores, scores, target, sample_weight, weight, pos_weight))
        option = scores.dtype.type(params[options[0]] if options else 0)
        args = (*arrays, N, D, option, given({**own, MEAN: bool(mean)}))
        blocks = parts(N * D)
        in_parts(loss, blocks, lambda partial: compare[blocks, BLOCK](partial, *args))

    return row


def _mse(T: Any, score: Any, target: Any, w: Any, q: Any, factor: Any) -> Any:
    error = score - target
    return factor * (error * error), T(2) * factor * error


def _l1(T: Any, score: Any, target: Any, w: Any, q: Any, a: Any) -> Any:
    error = score - target
    sign = T(1) if error > T(0) else (T(-1) if error < T(0) else error)
    return abs(error), sign


def _huber(T: Any, score: Any, target: Any, w: Any, q: Any, delta: Any) -> Any:
    error = score - target
    size = abs(error)
    if size < delta:
        return T(0.5) * error * error, error
    slope = delta if error > T(0) else (-delta if error < T(0) else error)
    return delta * (size - T(0.5) * delta), slope


def _bce_with_logits(T: Any, score: Any, target: Any, w: Any, q: Any, a: Any) -> Any:
    share, tail = T(1) + (q - T(1)) * target, T(math.exp(-abs(score)))
    below = -score if score < T(0) else T(0)
    value = w * ((T(1) - target) * score + share * (T(math.log1p(tail)) + below))
    of_minus = (tail if score >= T(0) else T(1)) / (T(1) + tail)
    return value, w * ((T(1) - target) - share * of_minus)


def _reduced(T: Any, loss: Any, dloss: Any, w: Any, q: Any, a: Any) -> Any:
    return loss, dloss


mse = _compared(_mse, "factor")
l1 = _compared(_l1)
huber = _compared(_huber, "delta")
bce_with_logits = _compared(_bce_with_logits)
reduced = _compared(_reduced)


_AMONG, _RIGHT = 1, 2


@kernel("int64[::1], boolean[::1], T[::1], T[::1], boolean[::1], int64, int64, int64, int64")
def _count_signs(
    count: Any, right: Any, scores: Any, target: Any, among: Any, N: int, D: int, has: int, lanes: int
) -> None:
    T = scores.dtype.type
    shared = cuda.shared.array(BLOCK, int64)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    found = 0
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        wrong = 0
        for i in range(n * D + lane, (n + 1) * D if n < N else 0, lanes):
            wrong += 1 if (scores[i] > T(0)) != (target[i] > T(0.5)) else 0
        wrong = row_sum(wrong, shared, lanes)
        if n < N and lane == 0:
            is_right = wrong == 0 and (among[n] if has & _AMONG else True)
            found += 1 if is_right else 0
            if has & _RIGHT:
                right[n] = is_right
    leave(count, block_sum(found))


def count_signs(count: Any, right: Any, scores: Any, target: Any, among: Any, *, dims: Sizes) -> None:
    """How many samples have all their scores above 0 where the target is above ½, and nowhere else, and which."""
    N, D, none = dims["N"], dims["*"], nothing("bool")
    lanes = lanes_for(D)
    blocks = max(1, blocks_for(N, lanes, PARTS))
    arrays = or_else(right, none), scores, target, or_else(among, none)
    args = (*arrays, N, D, given({_AMONG: among, _RIGHT: right}), lanes)
    in_parts(count, blocks, lambda partial: _count_signs[blocks, BLOCK](partial, *args))


_LOSS = 1  #: beside GRADIENT


@kernel("float64[::1], T[::1], T[::1], int64, T, int64")
def _l2_penalty(loss: Any, dparam: Any, param: Any, n: int, factor: Any, has: int) -> None:
    total = np.float64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total += np.float64(param[i] * param[i])
        if has & GRADIENT:
            dparam[i] = factor * param[i]
    total = block_sum(total)
    if has & _LOSS:
        leave(loss, np.float64(0.5) * np.float64(factor) * total)


def l2_penalty(loss: Any, dparam: Any, param: Any, *, factor: float, dims: Sizes) -> None:
    """loss = ½ factor Σ param²."""
    n, has = dims["n"], given({_LOSS: loss, GRADIENT: dparam})
    blocks = parts(n)
    args = or_else(dparam, param), param, n, param.dtype.type(factor), has
    if loss is None:
        _l2_penalty[blocks, BLOCK](nothing("float64"), *args)
    else:
        in_parts(loss, blocks, lambda partial: _l2_penalty[blocks, BLOCK](partial, *args))


def _scale(T: Any, x: Any, factor: Any, b: Any) -> Any:
    return factor * x


scale = unary(_scale, "factor")
