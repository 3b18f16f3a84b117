"""Losses of rows of scores, softmax, and the counts of right answers (see `reference` for the formulas).

A loss is one launch where one block can do it: each block finds for itself by what all losses are divided, writes the
gradients of its rows and leaves the sum of its losses.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, int64

from .activation import exps_of, softmax, top_of
from .launch import BLOCK, PARTS, block_sum, device, kernel
from .rows import blocks_for, lanes_for, row_sum
from .sums import GRADIENT, MEAN, SAMPLE_WEIGHT, WEIGHT, given, in_parts, leave, nothing, of_thread_0, or_else

Sizes = dict[str, int]


@device
def _weight_of(sample_weight: Any, sample: int, has: int) -> Any:
    """The weight of a sample in float64."""
    return np.float64(sample_weight[sample]) if has & SAMPLE_WEIGHT else np.float64(1)


@device
def _weight_of_label(weight: Any, label: int, K: int, has: int) -> Any:
    """The weight of a class; labels that are no class weigh 1."""
    return weight[label] if has & WEIGHT and 0 <= label < K else weight.dtype.type(1)


@device
def _weights(sample_weight: Any, N: int, positions: int, has: int) -> Any:
    """A thread's part of what the losses of all rows are divided by."""
    total = np.float64(0)
    if not has & MEAN:
        return np.float64(1 if cuda.threadIdx.x == 0 else 0)
    for n in range(cuda.threadIdx.x, N, BLOCK):
        total += _weight_of(sample_weight, n // positions, has)
    return total


@device
def _weights_of_labels(
    labels: Any, sample_weight: Any, weight: Any, N: int, K: int, positions: int, ignore_index: int, has: int
) -> Any:
    """A thread's part of what the losses of all rows are divided by, the weights of their labels counting."""
    total = np.float64(0)
    if not has & MEAN:
        return np.float64(1 if cuda.threadIdx.x == 0 else 0)
    for n in range(cuda.threadIdx.x, N, BLOCK):
        if labels[n] != ignore_index:
            of_label = _weight_of_label(weight, labels[n], K, has)
            total += _weight_of(sample_weight, n // positions, has) * of_label
    return total


@device
def _share(weight: Any, divisor: Any) -> Any:
    """A row's part in the loss; nothing where all rows together weigh nothing."""
    return weight / divisor if divisor != 0 else np.float64(0)


_LABELLED = "float64[::1], T[::1], T[::1], int64[::1], T[::1], T[::1], int64, int64, int64, int64"


@kernel(f"{_LABELLED}, T, int64, int64")
def _cross_entropy(
    loss: Any,
    dscores: Any,
    scores: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    N: int,
    K: int,
    positions: int,
    ignore_index: int,
    smoothing: Any,
    has: int,
    lanes: int,
) -> None:
    T = scores.dtype.type
    shared = cuda.shared.array(BLOCK, scores.dtype)
    own = _weights_of_labels(labels, sample_weight, weight, N, K, positions, ignore_index, has)
    divisor = of_thread_0(block_sum(own))
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    spread = smoothing / T(K)
    total = np.float64(0)
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count, start = K if n < N else 0, n * K
        top = top_of(scores, start, count, lane, lanes, shared)
        exps = exps_of(scores, start, count, top, lane, lanes, shared)
        log_exps, of_all, smooth_loss = T(math.log(exps)) if n < N else T(0), T(0), T(0)
        if smoothing != T(0):
            for k in range(lane, count, lanes):
                share = spread * (weight[k] if has & WEIGHT else T(1))
                of_all += share
                smooth_loss += share * (scores[start + k] - top - log_exps)
            of_all = row_sum(of_all, shared, lanes)
            smooth_loss = row_sum(smooth_loss, shared, lanes)
        if n < N:
            label, v = labels[n], _weight_of(sample_weight, n // positions, has)
            of_label = (T(1) - smoothing) * _weight_of_label(weight, label, K, has)
            known = 0 <= label < K
            if lane == 0 and label != ignore_index:
                at_label = scores[start + (label if known else 0)] - top - log_exps
                total += v * (-of_label * at_label - smooth_loss) if known else np.float64(math.nan)
            if has & GRADIENT:
                part, counts = T(_share(v, divisor)), known and label != ignore_index
                for k in range(lane, K, lanes):
                    d = T(math.exp(scores[start + k] - top)) / exps * (of_all + of_label)
                    d -= spread * (weight[k] if has & WEIGHT else T(1)) + (of_label if k == label else T(0))
                    dscores[start + k] = d * part if counts else T(0)
    leave(loss, block_sum(total) / divisor)


@kernel("float64[::1], T[::1], T[::1], T[::1], T[::1], T[::1], int64, int64, int64, T, int64, int64")
def _soft_cross_entropy(
    loss: Any,
    dscores: Any,
    scores: Any,
    target: Any,
    sample_weight: Any,
    weight: Any,
    N: int,
    K: int,
    positions: int,
    smoothing: Any,
    has: int,
    lanes: int,
) -> None:
    T = scores.dtype.type
    shared = cuda.shared.array(BLOCK, scores.dtype)
    divisor = of_thread_0(block_sum(_weights(sample_weight, N, positions, has)))
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    spread = smoothing / T(K)
    total = np.float64(0)
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count, start = K if n < N else 0, n * K
        top = top_of(scores, start, count, lane, lanes, shared)
        exps = exps_of(scores, start, count, top, lane, lanes, shared)
        log_exps, of_all, of_row = T(math.log(exps)) if n < N else T(0), T(0), T(0)
        for k in range(lane, count, lanes):
            share = ((T(1) - smoothing) * target[start + k] + spread) * (weight[k] if has & WEIGHT else T(1))
            of_all += share
            of_row -= share * (scores[start + k] - top - log_exps)
        of_all = row_sum(of_all, shared, lanes)
        of_row = row_sum(of_row, shared, lanes)
        if n < N:
            v = _weight_of(sample_weight, n // positions, has)
            if lane == 0:
                total += v * of_row
            if has & GRADIENT:
                part = T(_share(v, divisor))
                for k in range(lane, K, lanes):
                    share = ((T(1) - smoothing) * target[start + k] + spread) * (weight[k] if has & WEIGHT else T(1))
                    dscores[start + k] = (T(math.exp(scores[start + k] - top)) / exps * of_all - share) * part
    leave(loss, block_sum(total) / divisor)


@kernel(f"{_LABELLED}, int64, int64")
def _nll(
    loss: Any,
    dscores: Any,
    logs: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    N: int,
    K: int,
    positions: int,
    ignore_index: int,
    has: int,
    lanes: int,
) -> None:
    T = logs.dtype.type
    own = _weights_of_labels(labels, sample_weight, weight, N, K, positions, ignore_index, has)
    divisor = of_thread_0(block_sum(own))
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    total = np.float64(0)
    for n in range(cuda.blockIdx.x * rows + cuda.threadIdx.x // lanes, N, cuda.gridDim.x * rows):
        label = labels[n]
        known, counts = 0 <= label < K, label != ignore_index
        v = _weight_of(sample_weight, n // positions, has) * _weight_of_label(weight, label, K, has)
        if lane == 0 and counts:
            total += -v * logs[n * K + label] if known else np.float64(math.nan)
        if has & GRADIENT:
            at_label = T(-_share(v, divisor)) if known and counts else T(0)
            for k in range(lane, K, lanes):
                dscores[n * K + k] = at_label if k == label else T(0)
    leave(loss, block_sum(total) / divisor)


@kernel(
    "float64[::1], T[::1], T[::1], int64[::1], T[::1], T[::1], int64, int64, int64, boolean, int64, T, int64, int64"
)
def _multi_margin(
    loss: Any,
    dscores: Any,
    scores: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    N: int,
    K: int,
    positions: int,
    class_mean: bool,
    p: Any,
    margin: Any,
    has: int,
    lanes: int,
) -> None:
    T = scores.dtype.type
    shared = cuda.shared.array(BLOCK, scores.dtype)
    divisor = of_thread_0(block_sum(_weights(sample_weight, N, positions, has)))
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    total = np.float64(0)
    for first in range(cuda.blockIdx.x * rows, N, cuda.gridDim.x * rows):
        n = first + cuda.threadIdx.x // lanes
        count, start = K if n < N else 0, n * K
        given_label = labels[n] if n < N else 0
        known = 0 <= given_label < K
        label = given_label if known else 0
        own = scores[start + label] if n < N else T(0)
        of_row, slopes = T(0), T(0)
        for k in range(lane, count, lanes):
            z = margin - own + scores[start + k]
            if z > T(0) and k != label:
                of_row += z if p == 1 else z * z
                slopes += T(1) if p == 1 else T(2) * z
        of_row = row_sum(of_row, shared, lanes)
        slopes = row_sum(slopes, shared, lanes)
        if n < N:
            v = _weight_of(sample_weight, n // positions, has)
            factor = _weight_of_label(weight, label, K, has) / (T(K) if class_mean else T(1))
            if lane == 0:
                total += v * (factor * of_row) if known else np.float64(math.nan)
            if has & GRADIENT:
                part = factor * T(_share(v, divisor)) if known else T(0)
                for k in range(lane, K, lanes):
                    z = margin - own + scores[start + k]
                    slope = (T(1) if p == 1 else T(2) * z) if z > T(0) else T(0)
                    slope = -slopes if k == label else slope
                    dscores[start + k] = slope * part if known else T(0)
    leave(loss, block_sum(total) / divisor)


def _launch(kernel: Any, total: Any, N: int, K: int, *args: Any) -> None:
    """Launch a kernel over N rows of K scores; `args` follow the total, and the number of lanes follows them."""
    lanes = lanes_for(K)
    blocks = max(1, blocks_for(N, lanes, PARTS))
    in_parts(total, blocks, lambda parts: kernel[blocks, BLOCK](parts, *args, lanes))


def _has(dscores: Any, sample_weight: Any, weight: Any, mean: bool) -> int:
    return given({GRADIENT: dscores, SAMPLE_WEIGHT: sample_weight, WEIGHT: weight, MEAN: bool(mean)})


def cross_entropy(
    loss: Any,
    dscores: Any,
    scores: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    *,
    mean: bool,
    positions: int,
    ignore_index: int,
    label_smoothing: float,
    dims: Sizes,
) -> None:
    """loss = -Σₖ aₖ log softmax(s)ₖ of a row, aₖ from its label."""
    arrays = or_else(dscores, scores), scores, labels, or_else(sample_weight, scores), or_else(weight, scores)
    sizes = dims["N"], dims["K"], positions, ignore_index, scores.dtype.type(label_smoothing)
    _launch(_cross_entropy, loss, *sizes[:2], *arrays, *sizes, _has(dscores, sample_weight, weight, mean))


def soft_cross_entropy(
    loss: Any,
    dscores: Any,
    scores: Any,
    target: Any,
    sample_weight: Any,
    weight: Any,
    *,
    mean: bool,
    positions: int,
    label_smoothing: float,
    dims: Sizes,
) -> None:
    """loss = -Σₖ aₖ log softmax(s)ₖ of a row, aₖ from its target."""
    arrays = or_else(dscores, scores), scores, target, or_else(sample_weight, scores), or_else(weight, scores)
    sizes = dims["N"], dims["K"], positions, scores.dtype.type(label_smoothing)
    _launch(_soft_cross_entropy, loss, *sizes[:2], *arrays, *sizes, _has(dscores, sample_weight, weight, mean))


def nll(
    loss: Any,
    dscores: Any,
    log_probabilities: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    *,
    mean: bool,
    positions: int,
    ignore_index: int,
    dims: Sizes,
) -> None:
    """loss = -w[label] log_probabilities[label] of a row."""
    logs = log_probabilities
    arrays = or_else(dscores, logs), logs, labels, or_else(sample_weight, logs), or_else(weight, logs)
    sizes = dims["N"], dims["K"], positions, ignore_index
    _launch(_nll, loss, *sizes[:2], *arrays, *sizes, _has(dscores, sample_weight, weight, mean))


def multi_margin(
    loss: Any,
    dscores: Any,
    scores: Any,
    labels: Any,
    sample_weight: Any,
    weight: Any,
    *,
    mean: bool,
    positions: int,
    class_mean: bool,
    p: int,
    margin: float,
    dims: Sizes,
) -> None:
    """loss = w[label] Σ max(0, margin - s[label] + sₖ)ᵖ of a row, over all k but the label."""
    arrays = or_else(dscores, scores), scores, labels, or_else(sample_weight, scores), or_else(weight, scores)
    sizes = dims["N"], dims["K"], positions, bool(class_mean), p, scores.dtype.type(margin)
    _launch(_multi_margin, loss, *sizes[:2], *arrays, *sizes, _has(dscores, sample_weight, weight, mean))


# --- counts -----------------------------------------------------------------------------------------------------------


@device
def _beats(a: Any, i: int, b: Any, j: int) -> Any:
    """Whether a at place i is the larger of the two: NaN is larger than any number, the first of equals wins."""
    if a != a:
        return b == b or i < j
    return b == b and (a > b or (a == b and i < j))


@device
def _place_of_largest(scores: Any, start: int, count: int, lane: int, lanes: int, values: Any, places: Any) -> Any:
    """Where a row's largest score is; all lanes take part, count is 0 for those that have no row."""
    best, place = scores.dtype.type(-math.inf), count
    for k in range(lane, count, lanes):
        if _beats(scores[start + k], k, best, place):
            best, place = scores[start + k], k
    t = cuda.threadIdx.x
    values[t] = best
    places[t] = place
    cuda.syncthreads()
    step = lanes // 2
    while step > 0:
        if t % lanes < step and _beats(values[t + step], places[t + step], values[t], places[t]):
            values[t] = values[t + step]
            places[t] = places[t + step]
        cuda.syncthreads()
        step //= 2
    place = places[t - t % lanes]
    cuda.syncthreads()
    return place


_AMONG, _RIGHT = 1, 2


@kernel("int64[::1], boolean[::1], T[::1], int64[::1], boolean[::1], int64, int64, int64, int64, int64, int64")
def _count_correct(
    count: Any,
    right: Any,
    scores: Any,
    labels: Any,
    among: Any,
    S: int,
    K: int,
    positions: int,
    ignore_index: int,
    has: int,
    lanes: int,
) -> None:
    values = cuda.shared.array(BLOCK, scores.dtype)
    places = cuda.shared.array(BLOCK, int64)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    found = 0
    for first in range(cuda.blockIdx.x * rows, S, cuda.gridDim.x * rows):
        s = first + cuda.threadIdx.x // lanes
        here, looked, hits = K if s < S else 0, 0, 0
        for n in range(s * positions, (s + 1) * positions):
            place = _place_of_largest(scores, n * K, here, lane, lanes, values, places)
            if s < S and labels[n] != ignore_index:
                looked += 1
                hits += 1 if place == labels[n] else 0
        if s < S and lane == 0:
            is_right = looked > 0 and hits == looked and (among[s] if has & _AMONG else True)
            found += 1 if is_right else 0
            if has & _RIGHT:
                right[s] = is_right
    leave(count, block_sum(found))


@kernel("int64[::1], boolean[::1], T[::1], T[::1], boolean[::1], int64, int64, int64, int64, int64")
def _count_agreeing(
    count: Any, right: Any, scores: Any, target: Any, among: Any, S: int, K: int, positions: int, has: int, lanes: int
) -> None:
    values = cuda.shared.array(BLOCK, scores.dtype)
    places = cuda.shared.array(BLOCK, int64)
    lane, rows = cuda.threadIdx.x % lanes, BLOCK // lanes
    found = 0
    for first in range(cuda.blockIdx.x * rows, S, cuda.gridDim.x * rows):
        s = first + cuda.threadIdx.x // lanes
        here, hits = K if s < S else 0, 0
        for n in range(s * positions, (s + 1) * positions):
            place = _place_of_largest(scores, n * K, here, lane, lanes, values, places)
            hits += 1 if place == _place_of_largest(target, n * K, here, lane, lanes, values, places) else 0
        if s < S and lane == 0:
            is_right = hits == positions and (among[s] if has & _AMONG else True)
            found += 1 if is_right else 0
            if has & _RIGHT:
                right[s] = is_right
    leave(count, block_sum(found))


def count_correct(
    count: Any, right: Any, scores: Any, labels: Any, among: Any, *, positions: int, ignore_index: int, dims: Sizes
) -> None:
    """How many samples have, at each of their rows, the largest score at the label, and which."""
    S, K, none = dims["S"], dims["K"], nothing("bool")
    has = given({_AMONG: among, _RIGHT: right})
    arrays = or_else(right, none), scores, labels, or_else(among, none)
    _launch(_count_correct, count, S, K, *arrays, S, K, positions, ignore_index, has)


def count_agreeing(
    count: Any, right: Any, scores: Any, target: Any, among: Any, *, positions: int, dims: Sizes
) -> None:
    """As `count_correct`, the label of a row being where its target is largest."""
    S, K, none = dims["S"], dims["K"], nothing("bool")
    has = given({_AMONG: among, _RIGHT: right})
    _launch(
        _count_agreeing, count, S, K, or_else(right, none), scores, target, or_else(among, none), S, K, positions, has
    )


__all__ = [
    "count_agreeing",
    "count_correct",
    "cross_entropy",
    "multi_margin",
    "nll",
    "soft_cross_entropy",
    "softmax",
]
