"""The numbers that PyTorch draws on a CPU after `torch.manual_seed`, to the bit, without PyTorch.

Its generator is the Mersenne Twister MT19937 (Matsumoto, Nishimura 1998). Its kernels multiply and add in one rounding
(AVX2 and FMA, which x86-64 processors have had since 2013), so this does too; without them PyTorch draws slightly other
numbers. Checked against PyTorch 2.13; its sources, in `aten/src/ATen`, are `core/DistributionsHelper.h`,
`native/cpu/DistributionTemplates.h` and `native/cpu/avx_mathfun.h`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._kernels import Array

_BLOCK = 16  #: normal numbers that PyTorch draws together, 8 cosines and 8 sines; fewer are drawn one by one
_AT_ONCE = 1 << 12  #: blocks whose intermediate results stay in the cache


class TorchGenerator:
    """PyTorch's default generator on a CPU."""

    def __init__(self, seed: int) -> None:
        """seed: as of `torch.manual_seed`; the generator takes its lower 32 bits."""
        self._twister = np.random.MT19937()
        np.random.RandomState(self._twister).seed(seed % 2**32)
        self._second: float | None = None  # of two normal numbers drawn one by one, if only the first was used

    def uniform(self, low: float, high: float, shape: tuple[int, ...], dtype: str) -> Array:
        """`torch.empty(shape, dtype=dtype).uniform_(low, high)`."""
        kind = np.dtype(dtype).type
        start = kind(low)
        drawn = _multiply_add(self._unit(math.prod(shape), dtype), kind(high) - start, start)
        return drawn.reshape(shape)

    def normal(self, mean: float, std: float, shape: tuple[int, ...], dtype: str) -> Array:
        """`torch.empty(shape, dtype=dtype).normal_(mean, std)`."""
        size = math.prod(shape)
        if size < _BLOCK:
            singles = np.array([self._normal() for _ in range(size)])
            return _multiply_add(singles, np.float64(std), np.float64(mean)).astype(dtype).reshape(shape)
        box_muller = _box_muller_f32 if dtype == "float32" else _box_muller_f64
        values = self._unit(size, dtype)
        blocks = values[: size - size % _BLOCK].reshape(-1, _BLOCK)
        for i in range(0, len(blocks), _AT_ONCE):
            blocks[i : i + _AT_ONCE] = box_muller(blocks[i : i + _AT_ONCE], mean, std)
        if size % _BLOCK:  # the last 16 are drawn again
            values[-_BLOCK:] = box_muller(self._unit(_BLOCK, dtype).reshape(1, _BLOCK), mean, std)
        return values.reshape(shape)

    def state(self) -> dict[str, Any]:
        """JSON values from which `from_state` makes a generator that goes on as this one would."""
        twister = self._twister.state["state"]
        return {"key": twister["key"].tolist(), "pos": int(twister["pos"]), "second": self._second}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TorchGenerator:
        """A generator in a state that `state` returned."""
        made = cls(0)
        key = np.array(state["key"], np.uint32)
        made._twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": int(state["pos"])}}
        made._second = None if state["second"] is None else float(state["second"])
        return made

    def _unit(self, count: int, dtype: str) -> Array:
        """Numbers from 0 up to, not including, 1: 24 random bits each in float32, 53 in float64."""
        if dtype == "float32":
            bits = self._twister.random_raw(count) & np.uint64(2**24 - 1)
            single: Array = bits.astype(np.float32) * np.float32(2.0**-24)
            return single
        words = self._twister.random_raw(2 * count)
        bits = (words[::2] << np.uint64(32) | words[1::2]) & np.uint64(2**53 - 1)
        double: Array = bits.astype(np.float64) * 2.0**-53
        return double

    def _normal(self) -> float:
        """One normal number; they come in pairs, by Box and Muller (1958)."""
        if self._second is not None:
            first, self._second = self._second, None
            return first
        turn, u = self._unit(2, "float64").tolist()
        radius, angle = math.sqrt(-2 * math.log1p(-u)), 2 * math.pi * turn
        self._second = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller_f64(u: Array, mean: float, std: float) -> Array:
    """(n, 16) uniform numbers to normal ones, by the C library's functions, whose last bits NumPy's may not have."""
    radius: Array = np.sqrt(-2 * _each(math.log, 1 - u[:, :8]))
    angle = 2 * math.pi * u[:, 8:]
    normal = np.hstack([radius * _each(math.cos, angle), radius * _each(math.sin, angle)])
    return _multiply_add(normal, np.float64(std), np.float64(mean))


def _each(function: Callable[[float], float], x: Array) -> Array:
    values: Array = np.array([function(v) for v in x.ravel().tolist()]).reshape(x.shape)
    return values


def _box_muller_f32(u: Array, mean: float, std: float) -> Array:
    """(n, 16) uniform numbers to normal ones, by the polynomials of Cephes (S. L. Moshier), as in PyTorch."""
    radius = np.sqrt(np.float32(-2) * _log(1 - u[:, :8]))
    sin, cos = _sin_cos(np.float32(2 * math.pi) * u[:, 8:])
    return _multiply_add(np.hstack([radius * cos, radius * sin]), np.float32(std), np.float32(mean))


_LOG = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_LN2 = 0.693359375, -2.12194440e-4  #: in two parts
_SIN = -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1
_COS = 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2
_QUARTER_PI = -0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8  #: negative, in three parts


def _log(x: Array) -> Array:
    """The logarithm of float32 numbers above 0: logf of Cephes."""
    fraction, exponent = np.frexp(x)
    low = fraction < np.float32(math.sqrt(0.5))
    x = np.where(low, (fraction - 1) + fraction, fraction - 1)
    exponent = np.where(low, exponent - 1, exponent).astype(np.float32)
    z = x * x
    y = _multiply_add(_polynomial(_LOG, x) * x, z, exponent * np.float32(_LN2[1]))
    return _multiply_add(exponent, np.float32(_LN2[0]), x + _multiply_add(z, np.float32(-0.5), y))


def _sin_cos(x: Array) -> tuple[Array, Array]:
    """Sine and cosine of float32 numbers of at least 0: sinf and cosf of Cephes."""
    octant = ((x * np.float32(4 / math.pi)).astype(np.int32) + 1) & ~1
    for part in _QUARTER_PI:
        x = _multiply_add(octant.astype(np.float32), np.float32(part), x)
    z = x * x
    cos = _multiply_add(_polynomial(_COS, z) * z, z, z * np.float32(-0.5)) + 1
    sin = _multiply_add(_polynomial(_SIN, z) * z, x, x)
    swapped, negative = octant & 2 != 0, octant & 4 != 0
    sin, cos = np.where(swapped, cos, sin), np.where(swapped, sin, cos)
    return np.where(negative, -sin, sin), np.where(negative ^ swapped, -cos, cos)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """By Horner's rule, the coefficient of the highest power first."""
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = _multiply_add(y, x, np.float32(c))
    return y


def _multiply_add(a: Array, b: Any, c: Any) -> Array:
    """a · b + c in one rounding, as by an FMA instruction, in the dtype of a: float32 or float64.

    The exact result is first rounded to odd, from which it can be rounded again as if it were exact (Boldo, Melquiond:
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    """
    if a.dtype == np.float32:
        return _sum_to_odd(np.multiply(a, b, dtype=np.float64), np.float64(c)).astype(np.float32)
    product, product_error = _product(a, b)
    low, low_error = _sum(product_error, np.float64(c))
    high, high_error = _sum(product, low)
    return high + _sum_to_odd(low_error, high_error)


def _sum_to_odd(a: Array, b: Any) -> Array:
    """a + b in float64; of the two numbers next to an exact sum that is between them, the one with an odd mantissa."""
    total, error = _sum(a, b)
    bits = total.view(np.int64)
    away = np.where((error > 0) == (total > 0), 1, -1)  # from 0, or towards it
    bits += np.where((error != 0) & (bits & 1 == 0), away, 0)
    return total


def _sum(a: Array, b: Any) -> tuple[Array, Array]:
    """a + b, and what rounding took from it (Knuth, "The Art of Computer Programming" 2, 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Array, b: Any) -> tuple[Array, Array]:
    """a · b, and what rounding took from it (Dekker 1971), in float64."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: Any) -> tuple[Any, Any]:
    """The upper 26 bits of a mantissa, and the others."""
    scaled = a * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - a)
    return high, a - high
