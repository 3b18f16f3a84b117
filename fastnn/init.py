"""Initial values of parameters, and the one random generator that they are drawn from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

import numpy as np

from ._errors import DTypeError, ShapeError
from ._kernels import Array
from ._kernels.kernel import REAL


class _Source:
    """The state behind `manual_seed`: the generator, and how many dropout layers were made since."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.streams = 0

    @cached_property
    def generator(self) -> np.random.Generator:
        """Made at the first draw: numpy.random takes time to import."""
        return np.random.default_rng(self.seed)


_source = _Source(int.from_bytes(os.urandom(8), "little"))


def manual_seed(seed: int) -> None:
    """Start the sequence from which initial weights, shuffles and dropout are drawn; the same seed gives the same bits.

    seed: a whole number of at least 0. The sequence is NumPy's PCG64, not PyTorch's.
    """
    global _source
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"manual_seed: expected a whole number of at least 0, got {seed!r}")
    _source = _Source(int(seed))


def generator() -> np.random.Generator:
    """The generator that `manual_seed` seeds."""
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
    return _drawn(shape, dtype, lambda rng: rng.uniform(-bound, bound, shape))


def normal(shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers drawn from the standard normal distribution."""
    return _drawn(shape, dtype, lambda rng: rng.standard_normal(shape))


def _drawn(shape: tuple[int, ...], dtype: str, draw: Callable[[np.random.Generator], Array]) -> Array:
    if dtype not in (*REAL, np.float32, np.float64):
        raise DTypeError(f"expected dtype float32 or float64, got {dtype!r}")
    limit = _limit.get()
    if limit is not None:
        if math.prod(shape) > limit:
            raise ShapeError(f"weights {shape} are more than the {limit} numbers that are left")
        _limit.set(limit - math.prod(shape))
        return np.zeros(shape, dtype)
    values: Array = draw(generator()).astype(dtype)
    return values


def default(shape: tuple[int, ...], fan_in: int, bias: bool, dtype: str) -> tuple[Array, Array | None]:
    """Weight and bias (shape[0],) as PyTorch's Linear and Conv2d draw them: uniform in ±1/sqrt(fan_in).

    That is He et al. 2015 ("Delving Deep into Rectifiers") with a = sqrt(5), as PyTorch has it since version 1.0.
    """
    bound = 1 / math.sqrt(fan_in)
    return uniform(shape, bound, dtype), uniform(shape[:1], bound, dtype) if bias else None
