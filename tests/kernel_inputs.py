"""Inputs for any row of the kernel table: from a sample, a dtype and a seed, in any memory layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from fastnn._kernels.kernel import REAL, Arg, Array, Kernel
from fastnn._kernels.reference.conv_pool import NOWHERE
from fastnn._kernels.reference.pooling import max_pool2d
from fastnn._kernels.table import window_count

Sample = Mapping[str, Any]
Inputs = list[Array | None]

ANY = ("float32", "float64", "uint8", "int64", "bool")  #: what rows of any dtype are tried with


def dtypes(kernel: Kernel) -> tuple[str, ...]:
    """The dtypes in which a row can be called."""
    kinds = {arg.dtype for arg in kernel.inputs}
    return REAL if "real" in kinds else ANY if "any" in kinds else ("float32",)


def sample_id(sample: Sample) -> str:
    """A sample as a test's name."""

    def text(value: Any) -> str:
        return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return "-".join(f"{name}{'=' * (len(name) > 1)}{text(value)}" for name, value in sample.items()) or "only"


def tolerance(kernel: Kernel, dtype: str) -> float:
    """The row's tolerance in a dtype."""
    return kernel.tolerance[dtype == "float64"]


# --- values ---------------------------------------------------------------------------------------------------------


def sizes(sample: Sample) -> dict[str, int]:
    """Every size by its symbol, those that follow from others included."""
    d = {symbol: size for symbol, size in sample.items() if symbol.isupper() or len(symbol) == 1}
    if "groups" in sample:
        d["I"] = d["C"] // sample["groups"]
    if "kernel_size" in sample:
        d["KH"], d["KW"] = sample["kernel_size"]
    if "stride" in sample:
        for i, (out, size, kernel) in enumerate((("P", "H", "KH"), ("Q", "W", "KW"))):
            stride, padding, dilation = (sample[name][i] for name in ("stride", "padding", "dilation"))
            d[out] = window_count(d[size], d[kernel], stride, padding, dilation, sample.get("ceil_mode", False))
    if "pool_size" in sample:
        d["YH"], d["YW"] = d["P"] // sample["pool_size"][0], d["Q"] // sample["pool_size"][1]
    return d


def parameters(kernel: Kernel, sample: Sample) -> dict[str, Any]:
    """The call's keyword arguments."""
    d = sizes(sample)
    given = dict(sample)
    if "W" in d:
        given["input_size"] = d["H"], d["W"]
    if "KH" in d:
        given["kernel_size"] = d["KH"], d["KW"]
    return {name: given[name] for name in (*kernel.ints, *kernel.floats)}


def shape_of(arg: Arg, sample: Sample) -> tuple[int, ...]:
    """The shape of a row's array."""
    d = sizes(sample)
    shape: list[int] = []
    for symbol in arg.dims:
        shape += sample["shape"] if symbol == "*" else [symbol if isinstance(symbol, int) else d[symbol]]
    return tuple(shape)


def random(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> Array:
    """Normally distributed reals, or whole numbers over the whole range of their dtype."""
    if dtype in REAL:
        return rng.standard_normal(shape).astype(dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def make(kernel: Kernel, sample: Sample, dtype: str = "float64", seed: int = 0) -> tuple[Inputs, dict[str, Any]]:
    """A call's arrays, in logical order, and its parameters."""
    rng = np.random.default_rng(seed)
    params = parameters(kernel, sample)
    d = sizes(sample)

    def value(arg: Arg) -> Array:
        shape = shape_of(arg, sample)
        if arg.values is not None:
            drawn: Array = arg.values(rng, shape, d)
            return drawn.astype(dtype) if arg.dtype == "real" else drawn
        if kernel.name == "max_pool2d_backward" and arg.name == "index":
            x = rng.standard_normal((d["N"], d["C"], d["H"], d["W"]))
            return max_pool2d(x, **{name: v for name, v in params.items() if name != "input_size"})[1]
        if arg.name == "index":  # of conv2d_max_pool2d: some tap, or none
            taps = params["pool_size"][0] * params["pool_size"][1]
            return rng.choice(np.array([*range(taps), NOWHERE], np.uint16), shape)
        a: Array = random(shape, dtype if arg.dtype in ("real", "any") else arg.dtype, rng)
        # A tolerance stands beside 1 + |expected|, so sums of many products should be of size 1, as in a network.
        if arg.name == "weight":
            a /= np.sqrt(max(1, a[0].size))
        if arg.name == "dy" and kernel.name.endswith("_backward_weights"):
            a /= np.sqrt(max(1, a[:, 0].size))
        return a

    return [value(arg) for arg in kernel.inputs], params


#: Values in which kernels go wrong, by kernel and argument.
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "softplus")
_AWKWARD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-39, -1e-39, 5e-324, 1.0, 1.0)
SPECIAL: dict[str, dict[str, tuple[float, ...]]] = {
    "linear": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "linear_backward_data": {"dy": (np.nan, np.inf, 0.0, 1e-39)},
    "linear_backward_weights": {"dy": (np.nan, -np.inf, 0.0, 1e-39)},
    "conv2d": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "conv2d_backward_data": {"dy": (np.nan, np.inf, 0.0, 1e-39)},
    "conv2d_backward_weights": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "conv2d_max_pool2d": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "conv2d_max_pool2d_backward_data": {"dy": (np.nan, np.inf, 0.0, 1e-39)},
    "conv2d_max_pool2d_backward_weights": {"dy": (0.0, 1e-39)},  # 0 * NaN, of what is left out, the reference alone has
    "max_pool2d": {"x": (np.nan, np.inf, -np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, 2.0, 2.0)},
    "max_pool2d_backward": {"dy": (np.nan, np.inf, -0.0, 1e-39)},
    "avg_pool2d": {"x": (np.nan, np.inf, -np.inf, 0.0, 1e-39)},
    "avg_pool2d_backward": {"dy": (np.nan, np.inf, -0.0, 1e-39)},
    "adaptive_avg_pool2d": {"x": (np.nan, np.inf, -np.inf, 0.0, 1e-39)},
    "adaptive_avg_pool2d_backward": {"dy": (np.nan, np.inf, -0.0, 1e-39)},
    "channel_bias": {"bias": _AWKWARD},
    "channel_bias_backward": {"dy": (np.nan, np.inf, 0.0, 1e-39)},
    "add": {"a": _AWKWARD, "b": _AWKWARD},
    "concatenate": {"x0": _AWKWARD},
    "columns": {"x": _AWKWARD},
    "relu": {"x": _AWKWARD},
    "relu_backward": {"dy": _AWKWARD, "y": (np.nan, np.inf, 0.0, -0.0, 1.0)},
    "dropout": {"x": _AWKWARD},
    "attention": {"q": (np.nan, np.inf, 0.0, 1e-39), "key": (np.nan, -np.inf, 0.0, 1e-39)},
    "attention_backward": {"dy": (0.0, 1e-39), "key": (0.0, 1e-39)},  # 0 * NaN, of what is left out, as above
    "zero_padding": {"x": _AWKWARD},
    "linear_attention": {"q": (0.0, -0.0, 1e-39, -100.0), "key": (0.0, -0.0, -1e-39, -100.0)},
    "mix_steps": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "batch_norm_statistics": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "batch_norm_update": {"mean": (np.nan, np.inf, 0.0, 1e-39), "var": (np.nan, np.inf, 0.0)},
    "batch_norm": {"x": (np.nan, np.inf, -np.inf, 0.0, 1e-39), "var": (np.nan, np.inf, 0.0, 1.0)},
    "batch_norm_backward": {"dy": (np.nan, np.inf, 0.0), "x": (np.nan, np.inf, 0.0, 1e-39)},
    "layer_norm": {"x": (np.nan, np.inf, 0.0, 1e-39)},
    "layer_norm_backward": {"dy": (np.nan, np.inf, 0.0), "x": (np.nan, np.inf, 0.0, 1e-39)},
    **{name: {"x": _AWKWARD} for name in ACTIVATIONS},
    **{
        f"{name}_backward": {"dy": _AWKWARD, "x": (np.nan, np.inf, -np.inf, 0.0), "y": (np.nan, 0.0, -0.0, 1.0)}
        for name in ACTIVATIONS
    },
    "dropout2d": {"x": _AWKWARD},
    "embedding_backward": {"dy": (np.nan, np.inf, -np.inf, 0.0, 1e-39)},
    "recurrence": {"gates": (np.nan, np.inf, -np.inf, 0.0, 1e-39)},
    "recurrence_backward": {"dy": (np.nan, np.inf, 0.0, 1e-39), "kept": (np.nan, 0.0, 1.0)},
    "softmax_backward": {"dy": (np.nan, np.inf, -np.inf, 0.0, 1e-39), "y": (0.0, 1.0)},
    "log_softmax": {"scores": (-np.inf, 1e4, -1e4, 0.0, 88.0, -104.0, 1e-39)},
    "log_softmax_backward": {"dy": (np.nan, np.inf, -np.inf, 0.0, 1e-39), "y": (0.0, -np.inf, -1e4, -104.0)},
    "softmax": {"scores": (-np.inf, 1e4, -1e4, 0.0, 88.0, -104.0, 1e-39)},
    "cross_entropy": {"scores": (-np.inf, 1e4, -1e4, 0.0, 88.0, -104.0, 1e-39)},
    "soft_cross_entropy": {"scores": (1e4, -1e4, 0.0, 88.0, -104.0, 1e-39)},
    "nll": {"log_probabilities": (np.nan, -np.inf, 0.0, 1e-39)},
    "multi_margin": {"scores": (np.nan, -np.inf, 0.0, -0.0, 1.0, 1.0, 2.0)},
    "count_correct": {"scores": (np.nan, np.inf, -np.inf, 0.0, -0.0, 2.0, 2.0)},
    "count_agreeing": {"scores": (np.nan, np.inf, -np.inf, 0.0, 2.0, 2.0), "target": (np.nan, 0.0, 0.5, 0.5, 1.0)},
    "mse": {"scores": (np.nan, np.inf, -np.inf, 0.0, 1e-39), "target": (np.inf, 0.0, -0.0)},
    "l1": {"scores": (np.nan, np.inf, -np.inf, 0.0, -0.0), "target": (np.inf, 0.0, -0.0)},
    "huber": {"scores": (np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 0.5), "target": (np.inf, 0.0, 0.0)},
    "bce_with_logits": {"scores": (np.nan, np.inf, -np.inf, 0.0, -0.0, 100.0, -100.0, 1e4, 1e-39, 1e-7, -1e-7)},
    "count_signs": {"scores": (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-7), "target": (np.nan, 0.5, 0.0, 1.0)},
    "l2_penalty": {"param": (np.nan, np.inf, 0.0, 1e-39)},
    "scale": {"x": _AWKWARD},
    "power_sum": {"x": (np.nan, np.inf, -np.inf, 0.0, -0.0)},
    "clip_by_scale": {"grad": _AWKWARD},
    "clip_by_value": {"grad": _AWKWARD},
    "sgd": {"grad": (np.nan, np.inf, 0.0, 1e-39)},
    "rmsprop": {"grad": (np.nan, np.inf, 0.0, 1e-39)},
    "adagrad": {"grad": (np.nan, np.inf, 0.0, 1e-39)},
    "adam": {"grad": (np.nan, np.inf, 0.0, 1e-39)},
    "gather_rows": {"x": _AWKWARD},
    "copy": {"x": _AWKWARD},
    "random_crop": {"x": _AWKWARD},
    "random_crop_backward": {"dy": _AWKWARD},
    "random_flip": {"x": _AWKWARD},
    "cutout": {"x": _AWKWARD},
}


def sprinkle(kernel: Kernel, inputs: Inputs, share: float, seed: int = 0) -> Inputs:
    """The inputs with a share of their elements, one at least, replaced by the row's special values."""
    rng = np.random.default_rng(seed)
    result = list(inputs)
    for i, arg in enumerate(kernel.inputs):
        values, a = SPECIAL.get(kernel.name, {}).get(arg.name), inputs[i]
        if values is None or a is None or a.dtype.name not in REAL:
            continue
        here = np.asarray(rng.random(a.shape) < share)
        here.flat[:1] = True
        with np.errstate(under="ignore"):
            result[i] = np.where(here, rng.choice(np.array(values, a.dtype), a.shape), a)
    return result


# --- layouts --------------------------------------------------------------------------------------------------------


@dataclass
class Guarded:
    """An array inside a larger one, whose surroundings nobody may touch."""

    whole: Array
    view: Array
    layout: str
    order: tuple[int, ...] | None

    def assert_surroundings(self, what: str) -> None:
        """Nothing outside the view has changed."""
        other = guarded(self.view.shape, self.view.dtype.name, self.layout, self.order)
        other.view[...] = self.view
        assert other.whole.tobytes() == self.whole.tobytes(), f"{what}: written outside the array"


#: How an array may lie in memory.
LAYOUTS = ("stored", "logical", "fortran", "channels_last", "strided", "reversed", "unaligned", "broadcast")


def guarded(
    shape: tuple[int, ...], dtype: str, layout: str = "stored", order: tuple[int, ...] | None = None
) -> Guarded:
    """A new array in one of LAYOUTS, in larger memory; `order` is what "stored" means, by default the logical order."""
    axes = tuple(range(len(shape)))
    if layout == "strided":
        whole = _filled([2 * size + 3 for size in shape], dtype)
        view = whole[tuple(slice(1, 1 + 2 * size, 2) for size in shape)]
    else:
        if layout == "fortran":
            axes = axes[::-1]
        elif layout == "channels_last" and len(shape) > 2:
            axes = (0, *axes[2:], 1)
        elif layout == "stored" and order is not None:
            axes = order
        size = int(np.prod(shape, dtype=np.int64))
        whole = _filled([size + 32], dtype)
        inner = whole[16 : 16 + size]
        if layout == "unaligned":
            whole = np.concatenate([whole.view(np.uint8), np.zeros(1, np.uint8)])
            inner = whole[16 * inner.itemsize + 1 :][: size * inner.itemsize].view(dtype)
        view = inner.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
        if layout == "reversed":
            view = view[(slice(None, None, -1),) * len(shape)]
    return Guarded(whole, view, layout, order)


def _filled(shape: Sequence[int], dtype: str) -> Array:
    """Values that a kernel must neither use nor leave: NaN, or as whole numbers 90."""
    if dtype in REAL:
        return np.full(shape, np.nan, dtype)
    return np.ones(shape, bool) if dtype == "bool" else np.full(shape, 0x5A, dtype)


def order_of(arg: Arg, params: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The memory order in which a row keeps an array."""
    return (0, 2, 3, 1) if params.get("channels_last") else arg.order


def laid_out(kernel: Kernel, inputs: Inputs, params: Mapping[str, Any], layout: str) -> list[Guarded | None]:
    """The inputs copied into a layout, or "mixed", each into another; those changed in place keep the row's own."""
    mixed = cycle(("channels_last", "logical", "strided", "fortran"))
    result: list[Guarded | None] = []
    for arg, a in zip(kernel.inputs, inputs, strict=True):
        if a is None:
            result.append(None)
        elif layout == "broadcast" and not arg.inout:
            one = np.ascontiguousarray(a[:1])  # every row the first one; read-only, as NumPy's broadcasts are
            result.append(Guarded(one, np.broadcast_to(one, a.shape), "broadcast", None))
        else:
            own = next(mixed) if layout == "mixed" else layout
            result.append(guarded(a.shape, a.dtype.name, "stored" if arg.inout else own, arg.order))
            result[-1].view[...] = a  # type: ignore[union-attr]
    return result
