"""Initial values of parameters, and the one random generator that they are drawn from.

Layers draw their weights by themselves; the functions ending in _ fill a `Parameter` again, in place:

    model.apply(lambda layer: fn.init.kaiming_normal_(layer.weight) if isinstance(layer, fn.Linear) else None)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import _kernels as k
from ._errors import DTypeError, ShapeError
from ._kernels import Array
from ._kernels.kernel import REAL

if TYPE_CHECKING:
    from ._torch_draws import TorchGenerator


class _Source:
    """The state behind `manual_seed`: the generators, and how many layers with random bits were made since."""

    def __init__(self, seed: int, as_torch: bool = False) -> None:
        """as_torch: whether weights are PyTorch's; shuffles and dropout are NumPy's and our own all the same."""
        self.seed = seed
        self.streams = 0
        self.torch: TorchGenerator | None = None
        if as_torch:
            from ._torch_draws import TorchGenerator  # numpy.random takes time to import

            self.torch = TorchGenerator(seed)

    @cached_property
    def generator(self) -> np.random.Generator:
        """Made at the first draw, for the same reason."""
        return np.random.default_rng(self.seed)

    def uniform(self, low: float, high: float, shape: tuple[int, ...], dtype: str) -> Array:
        if self.torch is not None:
            return self.torch.uniform(low, high, shape, dtype)
        values: Array = self.generator.uniform(low, high, shape).astype(dtype)
        return values

    def normal(self, mean: float, std: float, shape: tuple[int, ...], dtype: str) -> Array:
        if self.torch is not None:
            return self.torch.normal(mean, std, shape, dtype)
        values: Array = self.generator.normal(mean, std, shape).astype(dtype)
        return values


_source = _Source(int.from_bytes(os.urandom(8), "little"))


def manual_seed(seed: int) -> None:
    """Start the sequence from which initial weights, shuffles and dropout are drawn; the same seed gives the same bits.

    seed: a whole number of at least 0. The sequence is NumPy's PCG64; `torch_manual_seed` has PyTorch's.
    """
    global _source
    _check_seed("manual_seed", seed, 0)
    _source = _Source(int(seed))


def torch_manual_seed(seed: int) -> None:
    """Like `manual_seed`, but initial weights are those that PyTorch draws after `torch.manual_seed(seed)`, to the bit.

    seed: a whole number from -2**63 to 2**64 - 1.
    That is for layers made in the same order and in the same dtype, and for the functions here as for those in
    `torch.nn.init`, on a CPU with FMA instructions. Shuffles and dropout are not PyTorch's.
    """
    global _source
    _check_seed("torch_manual_seed", seed, -(2**63))
    if seed >= 2**64:
        raise ValueError(f"torch_manual_seed: expected a whole number below 2**64, got {seed!r}")
    _source = _Source(int(seed) % 2**64, as_torch=True)


def _check_seed(name: str, seed: Any, least: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {seed!r}")


def get_state() -> dict[str, Any]:
    """All that later draws depend on, as JSON values, for `set_state`.

    That is the generators of weights and shuffles and the number of layers with random bits. The steps that such layers
    have taken are in their own `state`.
    """
    drawn = "generator" in vars(_source)
    return {
        "seed": _source.seed,
        "streams": _source.streams,
        "generator": _source.generator.bit_generator.state if drawn else None,
        "torch": None if _source.torch is None else _source.torch.state(),
    }


def set_state(state: dict[str, Any]) -> None:
    """Go on from a state that `get_state` returned, with the same draws. Raises ValueError for anything else."""
    global _source
    try:
        source = _Source(int(state["seed"]))
        source.streams = int(state["streams"])
        if state["generator"] is not None:
            source.generator.bit_generator.state = state["generator"]
        if state["torch"] is not None:
            from ._torch_draws import TorchGenerator

            source.torch = TorchGenerator.from_state(state["torch"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"set_state: expected what get_state returned: {error!r}") from error
    _source = source


def generator() -> np.random.Generator:
    """The NumPy generator behind `manual_seed`: of weights, unless they are to be PyTorch's, and of shuffles."""
    return _source.generator


def next_stream() -> tuple[int, int]:
    """(seed, number) for a layer with random bits of its own: the n-th made since `manual_seed` gets number n."""
    _source.streams += 1
    return _source.seed, _source.streams - 1


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise a `ShapeError` that names the layer and the argument unless all are whole numbers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ShapeError(f"{layer}: expected {name} as a whole number of at least 1, got {size!r}")
        limit = _limit.get()
        if limit is not None and size > max(limit, 1 << 16):  # for layers that have arrays but no weights
            raise ShapeError(f"{layer}: {name}={size} is more than the {limit} numbers there are")


def check_probability(layer: str, **probabilities: float) -> None:
    """Raise a ValueError that names the layer and the argument unless all are numbers from 0 to 1."""
    for name, p in probabilities.items():
        number = isinstance(p, int | float | np.integer | np.floating) and not isinstance(p, bool)
        if not number or not 0 <= p <= 1:
            raise ValueError(f"{layer}: expected {name} from 0 to 1, got {p!r}")


#: How many weights `blank` allows, None outside of it.
_limit: ContextVar[int | None] = ContextVar("fastnn limit of weights", default=None)


@contextmanager
def blank(limit: int) -> Iterator[None]:
    """Layers made in this block, in this thread, draw nothing: their weights are zeros, for a file to fill.

    limit: all layers together may have so many weights; one more is a `ShapeError`, before it takes memory.
    """
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def uniform(shape: tuple[int, ...], bound: float, dtype: str) -> Array:
    """Numbers drawn evenly from -bound to bound."""
    check_dtype(dtype)
    return uniform_(filled(shape, 0, dtype), -bound, bound)


def normal(shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers drawn from the standard normal distribution."""
    check_dtype(dtype)
    return normal_(filled(shape, 0, dtype))


def check_dtype(dtype: str) -> None:
    """Raise a `DTypeError` unless it is that of weights."""
    if dtype not in (*REAL, np.float32, np.float64):
        raise DTypeError(f"expected dtype float32 or float64, got {dtype!r}")


def filled(shape: tuple[int, ...], value: float, dtype: str) -> Array:
    """The same number everywhere, for weights and for buffers; in `blank` zeros, counted against its limit."""
    limit = _limit.get()
    if limit is not None:
        if math.prod(shape) > limit:
            raise ShapeError(f"weights {shape} are more than the {limit} numbers that are left")
        _limit.set(limit - math.prod(shape))
        value = 0
    return np.full(shape, value, dtype)


def default(shape: tuple[int, ...], fan_in: int, bias: bool, dtype: str) -> tuple[Array, Array | None]:
    """Weight and bias (shape[0],) as PyTorch's Linear and Conv2d draw them: uniform in ±1/sqrt(fan_in).

    That is He et al. 2015 ("Delving Deep into Rectifiers") with a = sqrt(5), as PyTorch has it since version 1.0.
    """
    bound = math.sqrt(3) * (calculate_gain("leaky_relu", math.sqrt(5)) / math.sqrt(fan_in))  # to the last bit
    return uniform(shape, bound, dtype), uniform(shape[:1], 1 / math.sqrt(fan_in), dtype) if bias else None


# --- PyTorch's torch.nn.init ------------------------------------------------------------------------------------------

#: What the functions fill in place, and return: a `Parameter`, or an array of float32 or float64.
Filled = TypeVar("Filled")


def uniform_(tensor: Filled, a: float = 0.0, b: float = 1.0) -> Filled:
    """Fill with numbers drawn evenly from a to b. tensor: any shape."""
    _check_finite("uniform_", a=a, b=b)
    if b < a:
        raise ValueError(f"uniform_: expected a of at most b, got a={a}, b={b}")
    return _fill(tensor, lambda shape, dtype: _source.uniform(a, b, shape, dtype))


def normal_(tensor: Filled, mean: float = 0.0, std: float = 1.0) -> Filled:
    """Fill with normally distributed numbers. tensor: any shape; std: the standard deviation, at least 0."""
    _check_finite("normal_", mean=mean, std=std)
    if std < 0:
        raise ValueError(f"normal_: expected std of at least 0, got {std}")
    return _fill(tensor, lambda shape, dtype: _source.normal(mean, std, shape, dtype))


def constant_(tensor: Filled, val: float) -> Filled:
    """Fill with one number. tensor: any shape."""
    _array(tensor)[...] = val
    return tensor


def zeros_(tensor: Filled) -> Filled:
    """Fill with 0. tensor: any shape."""
    return constant_(tensor, 0)


def ones_(tensor: Filled) -> Filled:
    """Fill with 1. tensor: any shape."""
    return constant_(tensor, 1)


def xavier_uniform_(tensor: Filled, gain: float = 1.0) -> Filled:
    """Fill with numbers drawn evenly from ±gain · sqrt(6 / (fan_in + fan_out)).

    tensor: (fan_out, fan_in), or (out, in, …) of a convolution, whose fans are so many times larger as its windows.
    Glorot, Bengio: "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 16.
    """
    bound = math.sqrt(3) * (gain * math.sqrt(2 / sum(_fans(tensor))))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Filled, gain: float = 1.0) -> Filled:
    """Fill with normally distributed numbers of standard deviation gain · sqrt(2 / (fan_in + fan_out)).

    tensor: as of `xavier_uniform_`. Glorot, Bengio 2010, equation 12.
    """
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(_fans(tensor))))


def kaiming_uniform_(tensor: Filled, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Filled:
    """Fill with numbers drawn evenly from ±gain · sqrt(3 / fan).

    tensor: as of `xavier_uniform_`. a: the slope of a leaky ReLU on its negative side. mode: ``"fan_in"`` keeps the
    variance of a layer's outputs, ``"fan_out"`` that of gradients. nonlinearity: what follows, as of `calculate_gain`.
    He et al.: "Delving deep into rectifiers", 2015, equations 10 and 14.
    """
    bound = math.sqrt(3) * _he(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Filled, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Filled:
    """Fill with normally distributed numbers of standard deviation gain / sqrt(fan), as of `kaiming_uniform_`."""
    return normal_(tensor, 0, _he(tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Filled, gain: float = 1.0) -> Filled:
    """Fill with a matrix whose rows, or columns if these are fewer, are orthogonal and of length `gain`.

    tensor: (rows, …), taken as a matrix of so many rows. Saxe et al.: "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", 2013.
    """
    rows = _array(tensor).shape[0] if _array(tensor).ndim > 1 else 0
    if not rows:
        raise ShapeError(f"orthogonal_: expected two dimensions or more, got shape {_array(tensor).shape}")

    def draw(shape: tuple[int, ...], dtype: str) -> Array:
        matrix = _source.normal(0, 1, (rows, math.prod(shape[1:])), dtype)
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diagonal(r)) * gain  # evenly distributed only with these signs
        values: Array = (q if tall is matrix else q.T).reshape(shape)
        return values

    return _fill(tensor, draw)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights in front of a function grow, so that variances stay as they are; PyTorch's values.

    nonlinearity: linear, conv1d to conv3d, conv_transpose1d to conv_transpose3d, sigmoid, tanh, relu, leaky_relu or
    selu. param: the slope of a leaky ReLU on its negative side, 0.01 by default.
    """
    slope = 0.01 if param is None else param
    if nonlinearity == "leaky_relu" and (isinstance(slope, bool) or not isinstance(slope, int | float)):
        raise ValueError(f"calculate_gain: expected the slope of leaky_relu as a number, got {param!r}")
    if nonlinearity in ("linear", "sigmoid", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))):
        return 1.0
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}")
    return gains[nonlinearity]


def _he(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    """The standard deviation of He et al."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'kaiming: expected mode "fan_in" or "fan_out", got {mode!r}')
    return calculate_gain(nonlinearity, a) / math.sqrt(_fans(tensor)[mode == "fan_out"])


def _fans(tensor: Any) -> tuple[int, int]:
    """How many inputs an output has, and how many outputs an input."""
    shape = _array(tensor).shape
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(f"expected weights (out, in, …) to have a fan in and a fan out, got shape {shape}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _fill(tensor: Filled, draw: Callable[[tuple[int, ...], str], Array]) -> Filled:
    array = _array(tensor)
    if _limit.get() is None:  # in `blank` nothing is drawn
        array[...] = draw(array.shape, array.dtype.name)
    return tensor


def _array(tensor: Any) -> Array:
    """What a function here fills."""
    array: Any = tensor if k.is_array(tensor) else getattr(tensor, "data", None)
    if not k.is_array(array) or array.dtype.name not in REAL:
        raise DTypeError(f"expected a Parameter or an array of float32 or float64, got {type(tensor).__name__}")
    found: Array = array
    return found


def _check_finite(name: str, **values: float) -> None:
    for key, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite {key}, got {value}")
