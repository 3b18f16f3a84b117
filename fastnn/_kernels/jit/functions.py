"""Functions of one number for Numba to compile, without branches, so that a loop that calls them runs on vectors.

By the formulas of ../native/math_of.h, which says how exact they are. Numba's own call the C library number by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: The names of these functions, which generated code uses.
NAMES = (
    *("exp", "expm1", "log", "log1p", "one_plus_exp", "sigmoid", "sign", "softplus", "tanh", "maximum", "minimum"),
    "on_widest_vectors",
)
#: What Numba compiles with: a product and a sum may be fused, but NaN and infinity stay, and no error is raised.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

_EXP = {
    "float32": [1 / math.factorial(n) for n in range(2, 8)],
    "float64": [1 / math.factorial(n) for n in range(2, 14)],
}
_LOG = {
    "float32": [2, 0.666663216, 0.400245952, 0.279651577, 0.281577784],
    "float64": [
        *(2, 0.66666666666682574, 0.399999999952876, 0.2857142911165716, 0.22222190861346284, 0.18182859800473911),
        *(0.15363676248891634, 0.13591305485579894, 0.098807890487647862, 0.17780763826113303),
    ],
}


def make(real: str) -> dict[str, Callable[..., Any]]:
    """The functions, by name, for numbers of this dtype; needs Numba."""
    import numba
    from numba import extending, types

    intrinsic: Callable[[Any], Any] = extending.intrinsic
    compiled: Callable[[Any], Any] = numba.njit(**OPTIONS)
    wide = real == "float64"
    T = np.float64 if wide else np.float32
    bits, of_bits = (types.int64, types.float64) if wide else (types.int32, types.float32)
    mantissa, bias = (52, 1023) if wide else (23, 127)
    ZERO, HALF, ONE, TWO, INFINITY, NAN = T(0), T(0.5), T(1), T(2), T(np.inf), T(np.nan)
    ROUND = T(1.5 * 2**mantissa)  # added, leaves a whole number in the last bits
    LOG2E = T(1.44269504088896340736)
    LN2_HIGH, LN2_LOW = (
        (T(6.93145751953125e-1), T(1.42860682030941723212e-6)) if wide else (T(0.693359375), T(-2.12194440e-4))
    )
    LEAST, MOST = (T(-708.39), T(709.782712893383973)) if wide else (T(-87.33), T(88.7228317))
    NORMAL = T(np.finfo(T).tiny)
    ROOT_HALF = int(np.sqrt(T(0.5)).view(np.int64 if wide else np.int32))

    @intrinsic
    def with_exponent(typing: Any, y: Any, shifted: Any) -> Any:
        """y · 2^n, where n is in the last bits of `shifted`."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.get_value_type(bits)
            y, n = (builder.bitcast(a, kind) for a in args)
            moved = builder.add(y, builder.shl(n, kind(mantissa)))
            return builder.bitcast(moved, context.get_value_type(of_bits))

        return of_bits(of_bits, of_bits), generate

    @intrinsic
    def on_widest_vectors(typing: Any) -> Any:
        """Lets the function that calls this use AVX-512's whole registers where there are any: LLVM halves them."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            attributes = builder.function.attributes
            if isinstance(attributes, set):  # whose own `add` knows no attributes with values
                set.add(attributes, '"prefer-vector-width"="512"')
            return context.get_dummy_value()

        return types.void(), generate

    @intrinsic
    def exponent(typing: Any, x: Any) -> Any:
        """The n for which x / 2^n is from √½ to √2, for a normal number above 0."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.get_value_type(bits)
            n = builder.ashr(builder.sub(builder.bitcast(args[0], kind), kind(ROOT_HALF)), kind(mantissa))
            return builder.sitofp(n, context.get_value_type(of_bits))

        return of_bits(of_bits), generate

    @intrinsic
    def significand(typing: Any, x: Any) -> Any:
        """x / 2^n."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.get_value_type(bits)
            x = builder.bitcast(args[0], kind)
            n = builder.ashr(builder.sub(x, kind(ROOT_HALF)), kind(mantissa))
            return builder.bitcast(builder.sub(x, builder.shl(n, kind(mantissa))), context.get_value_type(of_bits))

        return of_bits(of_bits), generate

    series = compiled(_polynomial("r", [T(c) for c in _EXP[real]]))  # (exp(r) - 1 - r) / r²
    artanh = compiled(_polynomial("s", [T(c) for c in _LOG[real]]))  # 2 artanh(√s) / √s

    @compiled
    def exp(x: Any) -> Any:
        shifted = x * LOG2E + ROUND
        n = shifted - ROUND
        r = x - n * LN2_HIGH - n * LN2_LOW
        y = with_exponent(series(r) * (r * r) + r + ONE, shifted)
        y = y if x <= MOST else x * INFINITY
        return ZERO if x < LEAST else y

    @compiled
    def expm1(x: Any) -> Any:
        shifted = x * LOG2E + ROUND
        n = shifted - ROUND
        r = x - n * LN2_HIGH - n * LN2_LOW
        half = with_exponent(HALF, shifted)  # of 2^n, which may be infinite
        y = TWO * (half * (series(r) * (r * r) + r) + (half - HALF))
        y = y if x <= MOST else x * INFINITY
        return -ONE if x < LEAST else y

    @compiled
    def log(x: Any) -> Any:
        n, m = exponent(x), significand(x)
        s = (m - ONE) / (m + ONE)
        y = n * LN2_HIGH + (s * artanh(s * s) + n * LN2_LOW)
        y = y if x < INFINITY else x  # NaN, too
        y = y if x >= NORMAL else -INFINITY
        y = NAN if x < ZERO else y
        return x if x != x else y

    @compiled
    def log_of_one_to_two(x: Any) -> Any:
        """log(1 + x) for 0 <= x <= 1."""
        s = x / (x + TWO)
        return s * artanh(s * s)

    @compiled
    def log1p(x: Any) -> Any:
        u = ONE + x
        y = log(u) + (x - (u - ONE)) / u
        y = y if abs(x) < INFINITY else log(u)
        return y if u > ZERO else log(u)

    @compiled
    def one_plus_exp(x: Any) -> Any:
        return ONE + exp(x)

    @compiled
    def sigmoid(x: Any) -> Any:
        return ONE / (ONE + exp(-x))

    @compiled
    def sign(x: Any) -> Any:
        y = ONE if x > ZERO else x
        return -ONE if x < ZERO else y

    @compiled
    def softplus(x: Any) -> Any:
        return maximum(x, ZERO) + log_of_one_to_two(exp(-abs(x)))

    @compiled
    def tanh(x: Any) -> Any:
        a = -TWO * abs(x)
        shifted = a * LOG2E + ROUND
        n = shifted - ROUND
        r = a - n * LN2_HIGH - n * LN2_LOW
        scale = with_exponent(ONE, shifted)
        e = scale * (series(r) * (r * r) + r) + (scale - ONE)
        e = -ONE if a < LEAST else e
        return math.copysign(e / (e + TWO), x)

    @compiled
    def maximum(a: Any, b: Any) -> Any:
        y = a if a > b else b
        return a if a != a else y

    @compiled
    def minimum(a: Any, b: Any) -> Any:
        y = a if a < b else b
        return a if a != a else y

    found = locals()
    return {name: found[name] for name in NAMES}


def _polynomial(name: str, terms: list[Any]) -> Callable[..., Any]:
    """Σ terms[i] · x^i, the even and the odd ones apart, so that each waits for half as many products."""

    def horner(part: list[int]) -> str:
        text = f"t{part[-1]}"
        for i in reversed(part[:-1]):
            text = f"({text} * square + t{i})"
        return text

    even, odd = list(range(0, len(terms), 2)), list(range(1, len(terms), 2))
    code = (
        f"def polynomial({name}):\n    square = {name} * {name}\n    return {horner(odd)} * {name} + {horner(even)}\n"
    )
    namespace: dict[str, Any] = {f"t{i}": term for i, term in enumerate(terms)}
    exec(code, namespace)
    found: Callable[..., Any] = namespace["polynomial"]
    return found
