"""A user's function of one number as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, ClassVar

from .._kernels.jit.expression import variable, with_known
from .._kernels.jit.program import elementwise_row
from ..layers.activation import Activation, finite_number
from ..layers.layer import REGISTRY
from .derived import with_derivative
from .parsing import parameters

MOST_OPTIONS = 4  #: that a kernel's call holds


class Elementwise(Activation):
    """Base of the layers that `elementwise` makes of functions: x of any shape; y has the same."""

    function: ClassVar[Callable[..., Any]]  #: as it was written
    defaults: ClassVar[Mapping[str, float]]  #: of its further parameters

    def __init__(self, *values: float, **named: float) -> None:
        for name, value in bound(type(self).__name__, self.defaults, values, named).items():
            setattr(self, name, value)


def elementwise(function: Any = None, *, derivative: Any = None, check: bool = True) -> Any:
    """Make a layer of a function of one number, to be written above it: ``@fn.elementwise``.

        @fn.elementwise
        def swish(x, beta=1.0):
            return x / (1 + math.exp(-beta * x))

        model = fn.Sequential(fn.Linear(4, 8), swish(beta=1.5), fn.Linear(8, 3))

    What stands there is then a class, a layer without parameters, elementwise on any shape; ``swish.function`` is the
    function. Further parameters of the function, at most 4, have defaults and become arguments of the class. Numbers
    that the function takes from around it are taken once, when it is defined.

    It runs in NumPy under ``use_backend("reference")``, else compiled by Numba (the extra `jit`), which happens at the
    first call, takes about a second and is kept in `$FASTNN_CACHE/jit` (`~/.cache/fastnn/jit`), on fastnn's threads and
    in captured steps. Without Numba it runs in NumPy as well.

    derivative: a function of the same parameters. Without it, it is derived, of + - * / **, conditional expressions and
    ``if``, comparisons, abs, max, min, and exp, log, log1p, expm1, sqrt, tanh, sin, cos, erf, fabs of `math` or NumPy;
    other functions made of these may be called. max and min of NaN are NaN; at a tie their derivative is that of a
    constant if one of the two is. With it, the function may be any that Numba compiles, such as one with loops.
    check: compare the derivative given with the numerical one, at many points.
    A model with such a layer is saved with the function's name, and loaded once a function of that name is defined.
    Raises `GradientError`, which names a point, for a derivative that is wrong, and ValueError for one that cannot be
    derived.
    """

    def decorate(function: FunctionType) -> type[Elementwise]:
        (x,), defaults = arguments(function, 1, "elementwise")
        name = function.__name__
        if not issubclass(REGISTRY.get(name, Elementwise), Elementwise):
            raise ValueError(f"elementwise: there is a layer {name} already, call the function something else")
        y, slope = with_derivative(function, [x], defaults, derivative, check, "elementwise")
        output, dy = "the output", "the gradient"
        of_output = with_known(slope, y, variable(output))
        keeps_output = x not in of_output.names  # as the derivative of tanh is, 1 - y²
        kept, slope = (output, of_output) if keeps_output else (x, slope)
        rows = (
            elementwise_row(name, [x], {output: y}, [*defaults]),
            elementwise_row(f"{name}, backward", [dy, kept], {"the result": variable(dy) * slope}, [*defaults]),
        )
        cls: type[Elementwise] = made(Elementwise, function, rows=rows, defaults=defaults, keeps_output=keeps_output)
        if name.isidentifier():  # a lambda's name would be taken for another's
            REGISTRY[name] = cls
        return cls

    return decorate if function is None else decorate(function)


# --- what layers, losses and optimizers have in common ----------------------------------------------------------------


def made(base: type[Any], function: FunctionType, **attributes: Any) -> Any:
    """A class that stands where the function stood."""
    module = function.__module__ or "__main__"  # none where it was made by exec
    place = {"__module__": module, "__qualname__": function.__qualname__, "__doc__": function.__doc__}
    for option in attributes["defaults"]:
        if hasattr(base, option) or option in inspect.signature(base).parameters:
            raise ValueError(f"{function.__name__}: a parameter cannot be called {option!r}, {base.__name__} has one")
    return type(function.__name__, (base,), {**place, "function": staticmethod(function), **attributes})


def arguments(function: Any, count: int, what: str) -> tuple[tuple[str, ...], dict[str, float]]:
    """The names of the first parameters, numbers of arrays, and of all others with their defaults."""
    found = parameters(function, what)
    names = (*found,)
    if len(names) < count:
        raise TypeError(f"{what}: expected {function.__name__} to have {count} parameters or more, got {names}")
    for name in names[count:]:
        if found[name] is inspect.Parameter.empty:
            raise TypeError(f"{what}: {function.__name__} needs a default for {name!r}, such as {name}=1.0")
    defaults = {name: finite_number(function.__name__, name, found[name]) for name in names[count:]}
    if len(defaults) > MOST_OPTIONS:
        raise ValueError(
            f"{what}: {function.__name__} has {len(defaults)} further parameters, there can be {MOST_OPTIONS}; "
            "numbers that do not change can be taken from around the function"
        )
    return names[:count], defaults


def bound(
    what: str, defaults: Mapping[str, float], values: Sequence[float], named: Mapping[str, float]
) -> dict[str, float]:
    """The options of a class's constructor, by name."""
    positional = dict(zip(defaults, values, strict=False))
    if len(values) > len(defaults) or not {*named} <= {*defaults} - {*positional}:
        raise TypeError(f"{what} takes ({', '.join(defaults)}), got {(*values, *(f'{name}=' for name in named))}")
    return {name: finite_number(what, name, value) for name, value in {**defaults, **positional, **named}.items()}
