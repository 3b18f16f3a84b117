"""CS231n's convolution and max pooling, as its students meet them: naive loops, NumPy with im2col, fastnn.

Each is a forward and a backward function, in float64, at the shapes of the course's own comparison. fastnn's are those
of `fastnn.courses.cs231n`: a call from Python, arrays in (N, C, H, W), their way into fastnn's layout included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastnn.courses.cs231n import fast_layers as fast

from .report import aligned, micros
from .rounds import in_turn
from .worker import THREADS

Array = np.ndarray[Any, Any]

CONV = {"stride": 2, "pad": 1}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
WAYS = {"loops": "naive loops", "im2col": "NumPy, im2col", "fastnn": "fastnn"}
SLICE = 0.2  #: seconds that a measurement lasts at least
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Timing:
    """One function. us: by way, the µs of each round."""

    task: str
    us: Mapping[str, Sequence[float]]

    def median(self, way: str) -> float:
        """µs over all rounds."""
        return median(self.us[way])

    def ratio(self, way: str) -> float:
        """How many times as long it takes as fastnn: the median over rounds."""
        return median(theirs / ours for theirs, ours in zip(self.us[way], self.us["fastnn"], strict=True))


def compare(names: Sequence[str], threads: int, rounds: int) -> list[Timing]:
    """Measure the tasks of these names in a process of its own, in which NumPy has as many threads as fastnn."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": path}
    command = [sys.executable, "-m", "bench.cs231n", str(rounds), *names]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return [Timing(**timing) for timing in json.loads(reply)]


def table(timings: Sequence[Timing]) -> str:
    """One line for each function; a ratio says how many times as long it takes as fastnn."""
    lines = [("layer", *(f"{WAYS[way]} µs" for way in WAYS), *(f"{WAYS[way]} ratio" for way in ("loops", "im2col")))]
    for timing in timings:
        times = [micros(timing.median(way)) for way in WAYS]
        lines.append((timing.task, *times, *(f"{timing.ratio(way):.1f}" for way in ("loops", "im2col"))))
    return aligned(lines, right={1, 2, 3, 4, 5})


# --- what is measured -------------------------------------------------------------------------------------------------


def tasks(images: int = 100) -> dict[str, dict[str, Callable[[], Any]]]:
    """The functions, by task and way, on random arrays."""
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((images, 3, 31, 31)), rng.standard_normal((25, 3, 3, 3)), rng.standard_normal(25)
    pooled = rng.standard_normal((images, 3, 32, 32))
    arguments = {"convolution": (x, w, b, CONV), "max pooling": (pooled, POOL)}
    found: dict[str, dict[str, Callable[[], Any]]] = {}
    for layer, ways_of_layer in LAYERS.items():
        found |= _pair(layer, ways_of_layer, rng, arguments[layer])
    return found


def check_same() -> None:
    """Raise unless all ways return the same for two images."""
    for name, ways in tasks(images=2).items():
        expected = _arrays(ways["loops"]())
        for way, call in ways.items():
            for ours, theirs in zip(_arrays(call()), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=f"{name}, {way}")


def _arrays(result: Any) -> list[Array]:
    """The arrays of a result, without a cache."""
    return [a for a in (result if isinstance(result, tuple) else (result,)) if isinstance(a, np.ndarray)]


def _pair(
    layer: str,
    ways: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]],
    rng: np.random.Generator,
    arguments: tuple[Any, ...],
) -> dict[str, dict[str, Callable[[], Any]]]:
    found: dict[str, dict[str, Callable[[], Any]]] = {f"{layer}, forward": {}, f"{layer}, backward": {}}
    dout = None
    for way, (forward, backward) in ways.items():
        out, cache = forward(*arguments)
        dout = rng.standard_normal(out.shape) if dout is None else dout
        found[f"{layer}, forward"][way] = partial(forward, *arguments)
        found[f"{layer}, backward"][way] = partial(backward, dout, cache)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Of one call, the mean over as many as last `SLICE`."""
    count, start = 0, perf_counter()
    while count == 0 or perf_counter() - start < SLICE:
        call()
        count += 1
    return (perf_counter() - start) / count


def measure(names: Sequence[str], rounds: int) -> list[Timing]:
    """The tasks of these names, all ways in turn."""
    check_same()
    functions = tasks()
    times = in_turn({(name, way): partial(seconds, functions[name][way]) for name in names for way in WAYS}, rounds)
    return [Timing(name, {way: [1e6 * s for s in times[name, way]] for way in WAYS}) for name in names]


# --- naive loops ------------------------------------------------------------------------------------------------------


def loops_conv(x: Array, w: Array, b: Array, how: Mapping[str, int]) -> tuple[Array, Any]:
    """Every output by itself."""
    stride, padded = how["stride"], _padded(x, how["pad"])
    (N, _, H, W), (F, _, HH, WW) = padded.shape, w.shape
    out = np.empty((N, F, 1 + (H - HH) // stride, 1 + (W - WW) // stride))
    for n, f, i, j in np.ndindex(out.shape):
        top, left = i * stride, j * stride
        out[n, f, i, j] = np.sum(padded[n, :, top : top + HH, left : left + WW] * w[f]) + b[f]
    return out, (x, w, how)


def loops_conv_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Every output's gradient by itself."""
    x, w, how = cache
    stride, pad = how["stride"], how["pad"]
    padded, (HH, WW) = _padded(x, pad), w.shape[2:]
    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), np.zeros(len(w))
    for n, f, i, j in np.ndindex(dout.shape):
        window = n, slice(None), slice(i * stride, i * stride + HH), slice(j * stride, j * stride + WW)
        dpadded[window] += dout[n, f, i, j] * w[f]
        dw[f] += dout[n, f, i, j] * padded[window]
        db[f] += dout[n, f, i, j]
    return _cropped(dpadded, pad), dw, db


def loops_pool(x: Array, how: Mapping[str, int]) -> tuple[Array, Any]:
    """Every window by itself."""
    height, width, stride = how["pool_height"], how["pool_width"], how["stride"]
    N, C, H, W = x.shape
    out = np.empty((N, C, 1 + (H - height) // stride, 1 + (W - width) // stride))
    for n, c, i, j in np.ndindex(out.shape):
        out[n, c, i, j] = np.max(x[n, c, i * stride : i * stride + height, j * stride : j * stride + width])
    return out, (x, how)


def loops_pool_backward(dout: Array, cache: Any) -> Array:
    """Every window's gradient by itself."""
    x, how = cache
    height, width, stride = how["pool_height"], how["pool_width"], how["stride"]
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * stride : i * stride + height, j * stride : j * stride + width]
        row, column = divmod(int(np.argmax(window)), width)
        dx[n, c, i * stride + row, j * stride + column] += dout[n, c, i, j]
    return dx


# --- NumPy with im2col ------------------------------------------------------------------------------------------------


def im2col_conv(x: Array, w: Array, b: Array, how: Mapping[str, int]) -> tuple[Array, Any]:
    """All windows as the columns of a matrix; one product."""
    columns = _columns(_padded(x, how["pad"]), w.shape[2:], how["stride"])
    (P, Q), N = columns.shape[-2:], len(x)
    matrix = columns.transpose(1, 2, 3, 0, 4, 5).reshape(-1, N * P * Q)
    out = w.reshape(len(w), -1) @ matrix + b[:, None]
    return out.reshape(-1, N, P, Q).transpose(1, 0, 2, 3), (x.shape, w, matrix, how)


def im2col_conv_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Two products; then every tap of the windows sends its part of the columns back."""
    (N, C, H, W), w, matrix, how = cache
    (F, _, HH, WW), (P, Q), pad, stride = w.shape, dout.shape[2:], how["pad"], how["stride"]
    rows = dout.transpose(1, 0, 2, 3).reshape(F, -1)
    dmatrix = (w.reshape(F, -1).T @ rows).reshape(C, HH, WW, N, P, Q)
    dpadded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    for i, j in np.ndindex(HH, WW):
        dpadded[:, :, i : i + stride * P : stride, j : j + stride * Q : stride] += dmatrix[:, i, j].swapaxes(0, 1)
    return _cropped(dpadded, pad), (rows @ matrix.T).reshape(w.shape), rows.sum(1)


def im2col_pool(x: Array, how: Mapping[str, int]) -> tuple[Array, Any]:
    """All windows as the columns of a matrix; one maximum."""
    columns = _columns(x, (how["pool_height"], how["pool_width"]), how["stride"])
    N, C, height, width, P, Q = columns.shape
    matrix = columns.transpose(2, 3, 0, 1, 4, 5).reshape(height * width, -1)
    index = matrix.argmax(0)
    out = np.take_along_axis(matrix, index[None], 0).reshape(N, C, P, Q)
    return out, (x.shape, matrix.shape, index, how)


def im2col_pool_backward(dout: Array, cache: Any) -> Array:
    """A matrix of columns with the gradients where the maxima were, and back."""
    shape, size, index, how = cache
    (height, width), stride, (P, Q) = (how["pool_height"], how["pool_width"]), how["stride"], dout.shape[2:]
    dmatrix, dx = np.zeros(size), np.zeros(shape)
    np.put_along_axis(dmatrix, index[None], dout.reshape(1, -1), 0)
    taps = dmatrix.reshape(height, width, *dout.shape)
    for i, j in np.ndindex(height, width):
        dx[:, :, i : i + stride * P : stride, j : j + stride * Q : stride] += taps[i, j]
    return dx


def _columns(x: Array, size: tuple[int, int], stride: int) -> Array:
    """(N, C, HH, WW, P, Q): every window, as a view."""
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    columns: Array = windows[:, :, ::stride, ::stride].transpose(0, 1, 4, 5, 2, 3)
    return columns


def _padded(x: Array, pad: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def _cropped(x: Array, pad: int) -> Array:
    inner: Array = x[:, :, pad : x.shape[2] - pad, pad : x.shape[3] - pad]
    return inner


LAYERS: dict[str, dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = {
    "convolution": {
        "loops": (loops_conv, loops_conv_backward),
        "im2col": (im2col_conv, im2col_conv_backward),
        "fastnn": (fast.conv_forward_fast, fast.conv_backward_fast),
    },
    "max pooling": {
        "loops": (loops_pool, loops_pool_backward),
        "im2col": (im2col_pool, im2col_pool_backward),
        "fastnn": (fast.max_pool_forward_fast, fast.max_pool_backward_fast),
    },
}
TASKS = tuple(f"{layer}, {direction}" for layer in LAYERS for direction in ("forward", "backward"))

if __name__ == "__main__":
    json.dump([vars(timing) for timing in measure(sys.argv[2:], int(sys.argv[1]))], sys.stdout)
