"""A user's own functions, number by number, as CUDA kernels: from the same graph as their NumPy and CPU versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda
from numba.core.errors import NumbaError

from ..jit.compile import Writer
from ..jit.program import Program
from ..kernel import Made
from .launch import SIMULATED, device, over

_compiled: dict[Any, Any] = {}  #: by code, and what it calls


def compute(made: Made, *arrays: Any, dims: Mapping[str, int], **params: float) -> None:
    """Run the kernel of a row that a user's function made; of an optimizer's update, hyper and steps come last."""
    program: Program = made.program
    if made.native == "update":
        *arrays, hyper, steps = arrays  # type: ignore[assignment]
        options = (*hyper.tolist(), float(steps[0]) + 1)
        steps += 1
    else:
        options = tuple(float(params[name]) for name in program.options)
    n = arrays[0].size
    try:
        over(_kernel(program, arrays[0].dtype.name), n, *arrays, options or (0.0,), n)
    except NumbaError as error:
        raise TypeError(f"{program.name}: Numba cannot compile it for CUDA: {error}") from error


def _kernel(program: Program, real: str) -> Any:
    text, beside = source(program)
    key = (real, text, *beside.values())
    if key not in _compiled:
        _compiled[key] = cuda.jit(function(text, beside, real))
    return _compiled[key]


def source(program: Program) -> tuple[str, dict[str, Any]]:
    """Python for numba.cuda, a kernel of the arrays, the options and their length; and what it calls."""
    writer = Writer(program)
    names = ", ".join(f"a{i}" for i in range(len(program.arrays)))
    loop = ["for i in range(cuda.grid(1), n, cuda.gridsize(1)):", *(f"    {line}" for line in writer.inside)]
    body = [f"    {line}" for line in (*writer.before, *loop)]
    return "\n".join([*writer.numbers, f"def kernel({names}, f, n):", *body]) + "\n", writer.called


def function(text: str, beside: Mapping[str, Any], real: str) -> Callable[..., None]:
    """The function that the code defines."""
    namespace = {"__name__": __name__, "cuda": cuda, "math": _MATH, "T": np.dtype(real).type, **_functions(real)}
    namespace |= {name: device(called) for name, called in beside.items()}
    exec(compile(text, "<fastnn>", "exec"), namespace)
    found: Callable[..., None] = namespace["kernel"]
    return found


# --- what such code calls: CUDA's own functions; on the simulator NumPy's, as Python's raise errors -------------------

_NAMES = ("exp", "expm1", "log", "log1p", "tanh", "sqrt", "sin", "cos")
_MATH: Any = math
if SIMULATED:
    _MATH = SimpleNamespace(**{name: getattr(np, name) for name in _NAMES}, erf=math.erf, nan=math.nan, inf=math.inf)


def _functions(real: str) -> dict[str, Any]:
    """Those of `jit.functions`, by name, for numbers of this dtype."""
    T = np.dtype(real).type
    ZERO, ONE = T(0), T(1)
    exp, log1p = _MATH.exp, _MATH.log1p

    @device
    def one_plus_exp(x: Any) -> Any:
        return ONE + exp(x)

    @device
    def sigmoid(x: Any) -> Any:
        return ONE / (ONE + exp(-x))

    @device
    def sign(x: Any) -> Any:
        y = ONE if x > ZERO else x
        return -ONE if x < ZERO else y

    @device
    def softplus(x: Any) -> Any:
        y = log1p(exp(-abs(x)))
        return y if x <= ZERO else x + y  # NaN, too

    @device
    def maximum(a: Any, b: Any) -> Any:
        y = a if a > b else b
        return a if a != a else y

    @device
    def minimum(a: Any, b: Any) -> Any:
        y = a if a < b else b
        return a if a != a else y

    own = {f.__name__: f for f in (one_plus_exp, sigmoid, sign, softplus, maximum, minimum)}
    return {**{name: getattr(_MATH, name) for name in _NAMES}, **own}
