"""Batch and layer normalisation (see `reference` for the formulas).

Images are matrices of pixels by channels: sums over a channel are sums of a column, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float64

from .columns import added, column_sum, first_row, grid_for
from .launch import BLOCK, MOST_BLOCKS, device, kernel, over
from .rows import over_rows, row_sum
from .scratch import scratch
from .sums import given, or_else

Sizes = dict[str, int]

_WEIGHT, _BIAS, _RELU, _TRAIN = 1, 2, 4, 8


@kernel("float64[::1], float64[::1], T[::1], int64, int64")
def _moments(sums: Any, squares: Any, x: Any, R: int, C: int) -> None:
    """Of each part of the rows the sum of a column, and that of its squared distances from the part's mean."""
    shared = cuda.shared.array(BLOCK, float64)
    c, part, parts = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    first, end = first_row(R, part, parts), first_row(R, part + 1, parts)
    last = end if c < C else 0
    total = np.float64(0)
    for r in range(first + cuda.threadIdx.y, last, cuda.blockDim.y):
        total += np.float64(x[r * C + c])
    total = column_sum(total, shared)
    mean, square = total / np.float64(end - first), np.float64(0)
    for r in range(first + cuda.threadIdx.y, last, cuda.blockDim.y):
        distance = np.float64(x[r * C + c]) - mean
        square += distance * distance
    square = column_sum(square, shared)
    if cuda.threadIdx.y == 0 and c < C:
        sums[part * C + c] = total
        squares[part * C + c] = square


@kernel("T[::1], T[::1], float64[::1], float64[::1], int64, int64, int64")
def _mean_and_var(mean: Any, var: Any, sums: Any, squares: Any, R: int, C: int, parts: int) -> None:
    for c in range(cuda.grid(1), C, cuda.gridsize(1)):
        total, square = np.float64(0), np.float64(0)
        for part in range(parts):
            total += sums[part * C + c]
        middle = total / np.float64(R)
        for part in range(parts):
            count = np.float64(first_row(R, part + 1, parts) - first_row(R, part, parts))
            distance = sums[part * C + c] / count - middle
            square += squares[part * C + c] + count * (distance * distance)
        mean[c] = middle
        var[c] = square / np.float64(R)


def batch_norm_statistics(mean: Any, var: Any, x: Any, *, dims: Sizes) -> None:
    """Mean and variance (divided by the count) of each channel; NaN for no samples."""
    R, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
    blocks, threads = grid_for(R, C)
    if C:
        with scratch(np.float64, blocks[1] * C, blocks[1] * C) as (sums, squares):
            _moments[blocks, threads](sums, squares, x, R, C)
            over(_mean_and_var, C, mean, var, sums, squares, R, C, blocks[1])


@kernel("T[::1], T[::1], int64[::1], T[::1], T[::1], int64, int64, float64, boolean, float64")
def _update(
    running_mean: Any,
    running_var: Any,
    batches: Any,
    mean: Any,
    var: Any,
    C: int,
    count: int,
    unbiased: Any,
    cumulative: bool,
    momentum: Any,
) -> None:
    """In one block, whose threads all know the number of batches before it changes."""
    T = mean.dtype.type
    batch = batches[0] + 1
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        batches[0] = batch
    share = np.float64(1) / np.float64(batch) if cumulative else momentum
    for c in range(cuda.threadIdx.x, C if count else 0, BLOCK):
        running_mean[c] = T(np.float64(1) - share) * running_mean[c] + T(share) * mean[c]
        running_var[c] = T(np.float64(1) - share) * running_var[c] + T(share) * (var[c] * T(unbiased))


def batch_norm_update(
    running_mean: Any,
    running_var: Any,
    batches: Any,
    mean: Any,
    var: Any,
    *,
    count: int,
    biased: bool,
    cumulative: bool,
    momentum: float,
    dims: Sizes,
) -> None:
    """running = (1 - momentum) running + momentum batch's; a batch of no samples is counted and no more."""
    unbiased = 1.0 if biased or not count else count / (count - 1)
    options = np.float64(unbiased), bool(cumulative), np.float64(momentum)
    _update[1, BLOCK](running_mean, running_var, batches, mean, var, dims["C"], count, *options)


@device
def _rstd(T: Any, var: Any, eps: Any) -> Any:
    return T(1) / T(math.sqrt(var + eps))


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, T, int64")
def _batch_norm(
    y: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, R: int, C: int, eps: Any, has: int
) -> None:
    T = x.dtype.type
    c = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if c >= C:
        return
    middle, scale = mean[c], _rstd(T, var[c], eps) * (weight[c] if has & _WEIGHT else T(1))
    shift = bias[c] if has & _BIAS else T(0)
    for r in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, R, cuda.gridDim.y * cuda.blockDim.y):
        value = (x[r * C + c] - middle) * scale + shift
        y[r * C + c] = T(0) if has & _RELU and value <= T(0) else value


def batch_norm(
    y: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *, relu: bool, eps: float, dims: Sizes
) -> None:
    """y = (x - mean) / sqrt(var + eps) weight + bias of each channel, then ReLU if asked for."""
    R, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
    has = given({_WEIGHT: weight, _BIAS: bias, _RELU: bool(relu)})
    if R and C:
        blocks, threads = grid_for(R, C, MOST_BLOCKS)
        arrays = y, x, or_else(weight, mean), or_else(bias, mean), mean, var
        _batch_norm[blocks, threads](*arrays, R, C, x.dtype.type(eps), has)


@device
def _passed(T: Any, dy: Any, distance: Any, scale: Any, shift: Any, has: int) -> Any:
    """dy, but 0 where ReLU let nothing pass; distance: of x from the mean."""
    return T(0) if has & _RELU and distance * scale + shift <= T(0) else dy


@kernel(
    "float64[::1], float64[::1], T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, T, int64",
)
def _batch_norm_sums(
    normals: Any,
    sums: Any,
    dy: Any,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    R: int,
    C: int,
    eps: Any,
    has: int,
) -> None:
    """Of each part of the rows Σ dy x̂ and Σ dy of a column."""
    T = x.dtype.type
    shared = cuda.shared.array(BLOCK, float64)
    c, part, parts = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    column = min(c, C - 1)  # beyond the last one there are no rows
    middle, rstd = mean[column], _rstd(T, var[column], eps)
    scale = rstd * (weight[column] if has & _WEIGHT else T(1))
    shift = bias[column] if has & _BIAS else T(0)
    by_normal, total = np.float64(0), np.float64(0)
    end = first_row(R, part + 1, parts) if c < C else 0
    for r in range(first_row(R, part, parts) + cuda.threadIdx.y, end, cuda.blockDim.y):
        distance = x[r * C + c] - middle
        d = _passed(T, dy[r * C + c], distance, scale, shift, has)
        by_normal += np.float64(d * (distance * rstd))
        total += np.float64(d)
    by_normal = column_sum(by_normal, shared)
    total = column_sum(total, shared)
    if cuda.threadIdx.y == 0 and c < C:
        normals[part * C + c] = by_normal
        sums[part * C + c] = total


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], float64[::1], float64[::1], int64, int64, T, int64")
def _batch_norm_dx(
    dx: Any,
    dy: Any,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    dweight: Any,
    dbias: Any,
    R: int,
    C: int,
    eps: Any,
    has: int,
) -> None:
    T = x.dtype.type
    c = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if c >= C:
        return
    middle, rstd, count = mean[c], _rstd(T, var[c], eps), np.float64(R)
    of_normal = T(dweight[c] / count) if has & _TRAIN else T(0)
    of_one = T(dbias[c] / count) if has & _TRAIN else T(0)
    scale = rstd * (weight[c] if has & _WEIGHT else T(1))
    shift = bias[c] if has & _BIAS else T(0)
    for r in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, R, cuda.gridDim.y * cuda.blockDim.y):
        distance = x[r * C + c] - middle
        d = _passed(T, dy[r * C + c], distance, scale, shift, has)
        if has & _TRAIN:
            d = d - of_one - distance * rstd * of_normal
        dx[r * C + c] = d * scale


def batch_norm_backward(
    dx: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    *,
    relu: bool,
    train: bool,
    eps: float,
    dims: Sizes,
) -> None:
    """The gradients of `batch_norm`; with `train` dx goes through mean and var as well."""
    R, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
    if not C:
        return
    has = given({_WEIGHT: weight, _BIAS: bias, _RELU: bool(relu), _TRAIN: bool(train)})
    arrays = dy, x, or_else(weight, mean), or_else(bias, mean), mean, var
    options = R, C, x.dtype.type(eps), has
    blocks, threads = grid_for(R, C)
    parts = blocks[1] * C
    with scratch(np.float64, C, C, parts, parts) as (of_normals, of_ones, normals, ones):
        if train or dweight is not None or dbias is not None:
            _batch_norm_sums[blocks, threads](normals, ones, *arrays, *options)
            for target, sums in ((of_normals, normals), (dweight, normals), (of_ones, ones), (dbias, ones)):
                if target is not None:
                    added(target, sums, blocks[1])
        if dx is not None and R:
            blocks, threads = grid_for(R, C, MOST_BLOCKS)
            _batch_norm_dx[blocks, threads](dx, *arrays, of_normals, of_ones, *options)


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, T, int64, int64")
def _layer_norm(
    y: Any, mean: Any, rstd: Any, x: Any, weight: Any, bias: Any, N: int, D: int, eps: Any, has: int, lanes: int
) -> None:
    T = x.dtype.type
    shared = cuda.shared.array(BLOCK, x.dtype)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count, start = D if n < N else 0, n * D
        total, square = T(0), T(0)
        for d in range(lane, count, lanes):
            total += x[start + d]
        middle = row_sum(total, shared, lanes) / T(D)
        for d in range(lane, count, lanes):
            distance = x[start + d] - middle
            square += distance * distance
        scale = _rstd(T, row_sum(square, shared, lanes) / T(D), eps)
        for d in range(lane, count, lanes):
            value = (x[start + d] - middle) * scale * (weight[d] if has & _WEIGHT else T(1))
            y[start + d] = value + (bias[d] if has & _BIAS else T(0))
        if lane == 0 and n < N:
            mean[n] = middle
            rstd[n] = scale


def layer_norm(y: Any, mean: Any, rstd: Any, x: Any, weight: Any, bias: Any, *, eps: float, dims: Sizes) -> None:
    """y = (x - mean) / sqrt(var + eps) weight + bias, with mean and variance of each row."""
    N, D = dims["N"], dims["D"]
    has = given({_WEIGHT: weight, _BIAS: bias})
    arrays = y, mean, rstd, x, or_else(weight, x), or_else(bias, x)
    over_rows(_layer_norm, N, D, *arrays, N, D, x.dtype.type(eps), has)


@kernel("T[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, int64, int64")
def _layer_norm_dx(
    dx: Any, dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, N: int, D: int, has: int, lanes: int
) -> None:
    T = x.dtype.type
    shared = cuda.shared.array(BLOCK, x.dtype)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count, start = D if n < N else 0, n * D
        middle, scale = (mean[n], rstd[n]) if n < N else (T(0), T(0))
        total, by_normal = T(0), T(0)
        for d in range(lane, count, lanes):
            g = dy[start + d] * (weight[d] if has & _WEIGHT else T(1))
            total += g
            by_normal += g * ((x[start + d] - middle) * scale)
        total = row_sum(total, shared, lanes) / T(D)
        by_normal = row_sum(by_normal, shared, lanes) / T(D)
        for d in range(lane, count, lanes):
            g = dy[start + d] * (weight[d] if has & _WEIGHT else T(1))
            dx[start + d] = scale * (g - total - (x[start + d] - middle) * scale * by_normal)


@kernel("float64[::1], float64[::1], T[::1], T[::1], T[::1], T[::1], int64, int64")
def _layer_norm_sums(normals: Any, sums: Any, dy: Any, x: Any, mean: Any, rstd: Any, N: int, D: int) -> None:
    """Of each part of the rows Σ dy x̂ and Σ dy of a column."""
    shared = cuda.shared.array(BLOCK, float64)
    d, part, parts = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    end = first_row(N, part + 1, parts) if d < D else 0
    by_normal, total = np.float64(0), np.float64(0)
    for n in range(first_row(N, part, parts) + cuda.threadIdx.y, end, cuda.blockDim.y):
        slope = dy[n * D + d]
        by_normal += np.float64(slope * ((x[n * D + d] - mean[n]) * rstd[n]))
        total += np.float64(slope)
    by_normal = column_sum(by_normal, shared)
    total = column_sum(total, shared)
    if cuda.threadIdx.y == 0 and d < D:
        normals[part * D + d] = by_normal
        sums[part * D + d] = total


def layer_norm_backward(
    dx: Any, dweight: Any, dbias: Any, dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, *, dims: Sizes
) -> None:
    """The gradients of `layer_norm`."""
    N, D = dims["N"], dims["D"]
    if dx is not None:
        has = given({_WEIGHT: weight})
        over_rows(_layer_norm_dx, N, D, dx, dy, x, or_else(weight, x), mean, rstd, N, D, has)
    if D and (dweight is not None or dbias is not None):
        blocks, threads = grid_for(N, D)
        with scratch(np.float64, blocks[1] * D, blocks[1] * D) as (normals, ones):
            _layer_norm_sums[blocks, threads](normals, ones, dy, x, mean, rstd, N, D)
            for target, sums in ((dweight, normals), (dbias, ones)):
                if target is not None:
                    added(target, sums, blocks[1])
