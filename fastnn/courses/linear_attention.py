"""Deep Learning, assignment 3: self-attention in O(T), in the two ways that its answer names.

The answer argues that the T x T matrix of weights can be avoided: by mixing keys and values into a fixed number of
them (Linformer, Wang et al. 2020), or by a feature map in place of the exponential, whose sums over keys all queries
share (Katharopoulos et al. 2020). Here both are layers with gradients; their time and memory are measured beside those
of full attention, for sequences of 256 to 16384 steps.

A training step of one layer is measured, forward and backward, on one sequence in float32. Time: the shortest of
several runs, in which all layers and lengths take turns. Memory: the bytes of all that kernels return in a step, and of
the largest working memory of one; no more than that is ever in use at once. fastnn's full attention keeps no T x T
matrix either (Dao et al. 2022, FlashAttention): its time is quadratic, its memory is not. That of the textbook's form,
by the reference kernels, is the most that NumPy had in use at once, for lengths at which its matrices fit.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array
from fastnn._kernels.kernel import Plan, observing

from . import Check, Found

SEED = 0
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
FITTED = 2048  #: from where on exponents are fitted: below, fixed costs count
TEXTBOOK = (512, 2048)  #: from where on the textbook's memory is fitted, and up to where it is run
WIDTH, HEADS, RANK = 128, 2, 64
ROUNDS = 5
LONG = 1.0  #: seconds of a run of which two have to do

FULL, LINEAR, LOW_RANK, MATRIX = "full", "feature map", "low rank", "full, by its matrix"
Curve = dict[int, float]


def layers(length: int) -> dict[str, fn.Layer]:
    """Of each kind one, for sequences (1, length, WIDTH)."""
    return {
        FULL: fn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
        LINEAR: fn.LinearAttention(WIDTH, HEADS),
        LOW_RANK: fn.LowRankAttention(WIDTH, HEADS, length, RANK),
    }


def run(*, seed: int, out: Path | None = None, lengths: Sequence[int] = LENGTHS, progress: bool = False) -> Found:
    """Measure each layer at each length; needs the compiled kernels.

    seed: of weights and sequences. out: the folder for the picture. Exponents are fitted, and checked, from 2048 on.
    """
    if k.active().name != "native":
        raise RuntimeError("linear-attention measures the compiled kernels, which are not in use here")
    fn.manual_seed(seed)
    rng = np.random.default_rng(seed)
    times, memory = measured(lengths, rng, progress)
    memory[MATRIX] = {T: textbook_memory(sequence(T, rng)) for T in lengths if TEXTBOOK[1] >= T}
    metrics: dict[str, Any] = {
        "seconds": times,
        "bytes": memory,
        "time_exponents": {name: exponent(curve) for name, curve in times.items()},
        "memory_exponents": {
            name: exponent(curve, TEXTBOOK[0] if name == MATRIX else FITTED) for name, curve in memory.items()
        },
        "quadratic_form_error": {str(causal): quadratic_form_error(causal, rng) for causal in (False, True)},
        "full_rank_error": full_rank_error(rng),
    }
    pictures = {} if out is None else draw(out, times, memory)
    return Found(metrics, checks(metrics), notes(metrics), pictures)


def sequence(T: int, rng: np.random.Generator) -> Array:
    """One of T steps: (1, T, WIDTH)."""
    drawn: Array = rng.standard_normal((1, T, WIDTH), np.float32)
    return drawn


def step(layer: fn.Layer, x: Array) -> None:
    """Forward and backward, once."""
    y, backward = layer.forward(x, train=True)
    backward(y)


# --- time and memory --------------------------------------------------------------------------------------------------


def measured(
    lengths: Sequence[int], rng: np.random.Generator, progress: bool
) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Seconds and bytes of a training step, by layer and length."""
    cases = [(name, T, layer, sequence(T, rng)) for T in lengths for name, layer in layers(T).items()]
    memory: dict[str, Curve] = {name: {} for name, *_ in cases}
    times: dict[str, Curve] = {name: {} for name, *_ in cases}
    for name, T, layer, x in cases:
        memory[name][T] = bytes_of_kernels(lambda layer=layer, x=x: step(layer, x))  # type: ignore[misc]
        times[name][T] = np.inf
    for turn in range(ROUNDS):
        for name, T, layer, x in cases:
            if turn < 2 or times[name][T] < LONG:
                times[name][T] = min(times[name][T], shortest(layer, x))
        if progress:
            print(f"linear-attention: round {turn + 1} of {ROUNDS}", file=sys.stderr)
    return times, memory


def shortest(layer: fn.Layer, x: Array, enough: float = 0.02) -> float:
    """Seconds of the shortest step among as many as fit into so many seconds, at least one."""
    found: list[float] = []
    begin = time.perf_counter()
    while not found or time.perf_counter() - begin < enough:
        start = time.perf_counter()
        step(layer, x)
        found.append(time.perf_counter() - start)
    return min(found)


def bytes_of_kernels(body: Callable[[], Any]) -> float:
    """Of all that kernels return while it runs, and of the largest working memory of one."""
    results, scratch = 0, 0

    def tell(plan: Plan) -> None:
        nonlocal results, scratch
        shapes = zip(plan.out_shapes, plan.out_dtypes, strict=True)
        results += sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes)
        if plan.kernel.scratch is not None:
            shared, own = plan.kernel.scratch(plan.dims, np.dtype(plan.real).itemsize)
            scratch = max(scratch, shared + own * k.get_num_threads())

    with observing(tell):
        body()
    return float(results + scratch)


def textbook_memory(x: Array) -> float:
    """The most bytes that a training step of full attention has in use at once where its T x T matrices are formed."""
    layer = layers(1)[FULL]
    with fn.use_backend("reference"):
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            step(layer, x)
            return float(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()


def exponent(curve: Mapping[int, float], first: int = FITTED) -> float:
    """The p of the power law c T^p that fits best, by least squares of logarithms, from T = first on."""
    points = {T: value for T, value in curve.items() if first <= T}
    if len(points) < 2:
        return float("nan")
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


# --- what they compute ------------------------------------------------------------------------------------------------


def quadratic_form_error(causal: bool, rng: np.random.Generator, T: int = 512) -> float:
    """The largest difference between the feature map's layer and its O(T²) form, of outputs and gradients, in float64.

    The reference kernels are that form: they make the matrix φ(q) φ(k)ᵀ and divide its rows by their sums.
    """
    layer = fn.LinearAttention(WIDTH, HEADS, causal=causal, dtype="float64")
    x, dy = rng.standard_normal((2, 2, T, WIDTH))
    found = everything(layer, x, dy)
    with fn.use_backend("reference"):
        expected = everything(layer, x, dy)
    return largest_difference(found, expected)


def full_rank_error(rng: np.random.Generator, T: int = 128) -> float:
    """The largest difference between low-rank attention of rank T whose mixtures are the keys and full attention."""
    full = fn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype="float64")
    low = fn.LowRankAttention(WIDTH, HEADS, T, T, dtype="float64")
    low.load_state_dict(full.state_dict(), strict=False)
    low.key_steps.data[...] = low.value_steps.data[...] = np.eye(T)
    x, dy = rng.standard_normal((2, 2, T, WIDTH))
    found = everything(low, x, dy)
    return largest_difference({name: found[name] for name in ("y", "dx")}, everything(full, x, dy))


def everything(layer: fn.Layer, x: Array, dy: Array) -> dict[str, Array]:
    """Output and all gradients."""
    layer.zero_grad()
    y, backward = layer.forward(x, train=True)
    return {"y": y, "dx": backward(dy)} | {name: p.grad.copy() for name, p in layer.named_parameters()}


def largest_difference(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Beside 1 + the size of what is expected."""
    return max(float((np.abs(a - expected[name]) / (1 + np.abs(expected[name]))).max()) for name, a in found.items())


# --- the report -------------------------------------------------------------------------------------------------------


def checks(metrics: Mapping[str, Any]) -> list[Check]:
    """Exponents where they were fitted, and what the layers compute."""
    found = [
        Check.below(f"feature map beside its O(T²) form, {what}", "equal", metrics["quadratic_form_error"][key], 1e-10)
        for key, what in (("False", "all keys"), ("True", "causal"))
    ]
    found.append(Check.below("low rank T beside full attention", "equal", metrics["full_rank_error"], 1e-10))
    for quantity in ("time", "memory"):
        exponents = metrics[f"{quantity}_exponents"]
        quadratic = FULL if quantity == "time" else MATRIX
        for name, ours in exponents.items():
            if np.isnan(ours):
                continue
            if name == quadratic:
                check = Check.within(f"{quantity} exponent, {name}", 2, ours, 0.2)
            else:
                check = Check(f"{quantity} exponent, {name}", "O(T)", ours, "<= 1.15", ours <= 1.15)
            found.append(check)
    return found


def notes(metrics: Mapping[str, Any]) -> list[str]:
    """What the longest sequence takes."""
    times, memory = metrics["seconds"], metrics["bytes"]
    T, matrix = max(times[FULL]), max(memory[MATRIX], default=0)
    spent = ", ".join(f"{name} {curve[T]:.3g} s and {memory[name][T] / 1e6:.0f} MB" for name, curve in times.items())
    found = [f"A training step on {T} steps of {WIDTH} numbers, {HEADS} heads: {spent}."]
    if matrix:
        ours, theirs = (memory[name][matrix] / 1e6 for name in (FULL, MATRIX))
        found.append(f"At {matrix} steps full attention takes {ours:.0f} MB here, and {theirs:.0f} MB by its matrix.")
    return found


def draw(out: Path, times: dict[str, Curve], memory: dict[str, Curve]) -> dict[str, str]:
    """The curves; returns what the picture shows."""
    megabytes = {name: {T: value / 1e6 for T, value in curve.items()} for name, curve in memory.items()}
    panels: dict[str, Any] = {"seconds of a training step": times, "memory of a training step (MB)": megabytes}
    fn.plots.log_log(panels, out / "scaling.png", xlabel="steps T")
    return {"scaling.png": "Time and memory of a training step of one attention layer, over the length of the sequence"}
