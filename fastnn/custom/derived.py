"""A function and its derivative as expressions: the derivative given and checked, or derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from .._kernels import Array
from .._kernels.jit.expression import (
    CONDITIONS,
    Expression,
    Unsupported,
    call,
    derivative,
    evaluate,
    number,
    variable,
    where,
)
from ..gradcheck import GradientError
from .parsing import expressions, parameters

#: Where derivatives are compared: to both sides of 0, of many sizes, and at no number that people write.
_SIZES = 0.01371 * 1.4713 ** np.arange(21)
_STEP = 1e-6


def with_derivative(
    function: FunctionType, arrays: Sequence[str], options: Mapping[str, float], given: Any, check: bool, what: str
) -> tuple[Expression, Expression]:
    """The function of these arrays and options, and its derivative by the first array.

    given: a function of the same parameters, or None to derive it. Raises ValueError where that cannot be done, and
    `GradientError` for a derivative that is not the function's, unless `check` is False.
    """
    names = (*arrays, *options)
    if given is None:
        try:
            value = _number(expressions(function, [variable(name) for name in names]), function)
            return value, derivative(value, variable(arrays[0]))
        except Unsupported as error:
            raise ValueError(
                f"{what}: no derivative can be derived: {error}. Give one: "
                f"{what}(derivative=…), a function of {', '.join(names)}"
            ) from None
    if (*parameters(given, f"{what}: derivative"),) != names:
        got = ", ".join(parameters(given, what))
        raise TypeError(f"{what}: expected a derivative of {function.__name__} with parameters {names}, got ({got})")
    value, slope = (_taken_apart(f, names) for f in (function, given))
    if check:
        _check(function.__name__, value, slope, arrays, options)
    return value, slope


def _taken_apart(function: FunctionType, names: Sequence[str]) -> Expression:
    """As an expression; where it cannot be taken apart, one that calls it, which Numba may understand."""
    variables = [variable(name) for name in names]
    try:
        return _number(expressions(function, variables), function)
    except Unsupported:
        return call(function, *variables)


def _number(found: Any, function: Callable[..., Any]) -> Expression:
    if isinstance(found, int | float):
        return number(found)
    if not isinstance(found, Expression):
        raise Unsupported(f"{function.__name__} returns {type(found).__name__}, not a number")
    return where(found, 1, 0) if found.op in CONDITIONS else found


def _check(
    name: str, value: Expression, slope: Expression, arrays: Sequence[str], options: Mapping[str, float]
) -> None:
    """Raise a `GradientError` that names a point where the slope is not the numerical one."""
    line = np.concatenate([-_SIZES[::-1], _SIZES])
    grid = np.meshgrid(line, *[1.0371 * line[::4]] * (len(arrays) - 1), indexing="ij")  # where no two are alike
    points = {array: part.ravel() for array, part in zip(arrays, grid, strict=True)}
    x = points[arrays[0]]
    step = _STEP * np.maximum(1, np.abs(x))
    above, below = (evaluate([value], {**points, arrays[0]: at}, options)[0] for at in (x + step, x - step))
    found = evaluate([slope], points, options)[0]
    with np.errstate(all="ignore"):
        expected = (above - below) / ((x + step) - (x - step))
        tolerance = 1e-5 * (1 + np.abs(expected)) + 1e-14 * (np.abs(above) + np.abs(below)) / step
        wrong = np.isfinite(expected) & ~(np.abs(found - expected) <= tolerance)
    if wrong.any():
        excess: Array = np.where(wrong, np.abs(found - expected) / tolerance, -1.0)
        worst = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
        at = [f"{array} = {part[worst]:.6g}" for array, part in points.items()]
        at += [f"{option} = {value:g}" for option, value in options.items()]
        raise GradientError(
            f"{name}: the derivative given is {found[worst]:.6g} at {', '.join(at)}, numerically it is "
            f"{expected[worst]:.6g} (check=False if that is meant)"
        )
