"""What a user's function computes, as a graph: its NumPy version, its derivative, and what code is written from.

Equal expressions are one object, so that what occurs twice is computed once, in the derivative, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..kernel import Array


class Unsupported(ValueError):
    """A function that cannot be taken apart, or has no derivative that is known."""


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """A number, a variable, or an operation on other expressions.

    op: ``"number"``, ``"variable"``, ``"call"``, or a name in `OPERATIONS`. value: the number, the variable's name, or
    the function that is called. names: of the variables in it.
    """

    op: str
    args: tuple[Expression, ...] = ()
    value: Any = None
    names: frozenset[str] = field(default=frozenset())

    def __add__(self, other: Any) -> Expression:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Expression:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Expression:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Expression:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return apply("div", other, self)

    def __pow__(self, other: Any) -> Expression:
        return apply("pow", self, other)

    def __rpow__(self, other: Any) -> Expression:
        return apply("pow", other, self)

    def __neg__(self) -> Expression:
        return apply("neg", self)

    def __bool__(self) -> bool:
        raise TypeError("an expression is neither true nor false before it has numbers")


_known: WeakValueDictionary[Any, Expression] = WeakValueDictionary()


def _made(op: str, args: tuple[Expression, ...] = (), value: Any = None) -> Expression:
    key = (op, args, value.hex() if op == "number" else value)  # 0.0 and -0.0 are two numbers
    found = _known.get(key)
    if found is None:
        names = frozenset([value]) if op == "variable" else frozenset().union(*(a.names for a in args))
        found = _known[key] = Expression(op, args, value, names)
    return found


def number(value: float) -> Expression:
    """A constant."""
    return _made("number", value=float(value))


def variable(name: str) -> Expression:
    """An array's number, or an option."""
    return _made("variable", value=name)


def call(function: Callable[..., Any], *args: Expression) -> Expression:
    """A function that nothing is known of."""
    return _made("call", args, function)


ZERO, ONE = number(0), number(1)


def apply(op: str, *args: Any) -> Expression:
    """An operation on expressions or numbers, made simpler where that is not less exact."""
    if not all(isinstance(a, Expression | int | float | np.number) for a in args):
        return NotImplemented  # type: ignore[no-any-return]
    wanted = (_as_condition if i < _LOGICAL.get(op, 0) else _as_number for i in range(len(args)))
    given = tuple(want(a if isinstance(a, Expression) else number(a)) for want, a in zip(wanted, args, strict=True))
    if all(a.op == "number" for a in given) and op not in CONDITIONS:
        with np.errstate(all="ignore"):
            return number(OPERATIONS[op].numpy(*(np.float64(a.value) for a in given)))
    simpler: Expression | None = _SIMPLER[op](*given) if op in _SIMPLER else None
    return _made(op, given) if simpler is None else simpler


def _as_number(a: Expression) -> Expression:
    return _made("where", (a, ONE, ZERO)) if a.op in CONDITIONS else a


def _as_condition(a: Expression) -> Expression:
    return a if a.op in CONDITIONS else _made("ne", (a, ZERO))


def where(condition: Expression, yes: Any, no: Any) -> Expression:
    """One of two, both of which are computed."""
    return apply("where", condition, yes, no)


# --- operations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """What an operation is.

    code: of numbers of the arrays' dtype, names in it being those of `functions`; uniform: of options, in double.
    partials: the derivatives by each argument, from the result and the arguments; None where they are 0.
    """

    numpy: Callable[..., Any]
    code: str
    uniform: str
    partials: Callable[..., tuple[Any, ...]] | None = None


def _infix(sign: str, numpy: Callable[..., Any], partials: Callable[..., tuple[Any, ...]] | None = None) -> Operation:
    return Operation(numpy, f"{{0}} {sign} {{1}}", f"{{0}} {sign} {{1}}", partials)


def _own(name: str, numpy: Callable[..., Any], partial: Callable[..., Any], uniform: str = "") -> Operation:
    """A function of one number of which `functions` has a version that runs on vectors."""
    return Operation(numpy, f"{name}({{0}})", uniform or f"math.{name}({{0}})", lambda y, x: (partial(y, x),))


def _of_math(name: str, numpy: Callable[..., Any], partial: Callable[..., Any]) -> Operation:
    """A function of one number for which compiled code calls the C library, but for sqrt."""
    return Operation(numpy, f"math.{name}({{0}})", f"math.{name}({{0}})", lambda y, x: (partial(y, x),))


def _one_of_two(order: str, name: str, numpy: Callable[..., Any]) -> Operation:
    """The larger or smaller of two; NaN if one is. At a tie, the derivative is that of a constant if one of them is."""

    def partials(y: Expression, a: Expression, b: Expression) -> tuple[Any, ...]:
        if a.names:
            return where(apply(order, a, b), 0, 1), where(apply(order, a, b), 1, 0)
        return where(apply(order, b, a), 1, 0), where(apply(order, b, a), 0, 1)

    return Operation(numpy, f"{name}imum({{0}}, {{1}})", f"{name}({{0}}, {{1}})", partials)


def _partials_of_gated(y: Expression, a: Expression, z: Expression) -> tuple[Any, ...]:
    open_ = apply("sigmoid", -z)
    return open_, -(a * (open_ * (1 - open_)))


_LOGICAL = {"and": 2, "or": 2, "not": 1, "where": 1}  #: how many arguments are conditions, the first ones
CONDITIONS = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")
OPERATIONS: dict[str, Operation] = {
    "add": _infix("+", np.add, lambda y, a, b: (1, 1)),
    "sub": _infix("-", np.subtract, lambda y, a, b: (1, -1)),
    "mul": _infix("*", np.multiply, lambda y, a, b: (b, a)),
    "div": _infix("/", np.true_divide, lambda y, a, b: (1 / b, -(y / b))),
    "pow": _infix("**", np.power, lambda y, a, b: (b * a ** (b - 1), y * apply("log", a))),
    "neg": Operation(np.negative, "-{0}", "-{0}", lambda y, a: (-1,)),
    "lt": _infix("<", np.less),
    "le": _infix("<=", np.less_equal),
    "gt": _infix(">", np.greater),
    "ge": _infix(">=", np.greater_equal),
    "eq": _infix("==", np.equal),
    "ne": _infix("!=", np.not_equal),
    "and": _infix("&", np.logical_and),
    "or": _infix("|", np.logical_or),
    "not": Operation(np.logical_not, "not {0}", "not {0}"),
    "where": Operation(np.where, "{1} if {0} else {2}", "{1} if {0} else {2}"),
    "max": _one_of_two("le", "max", np.maximum),
    "min": _one_of_two("ge", "min", np.minimum),
    "abs": Operation(np.abs, "abs({0})", "abs({0})", lambda y, x: (apply("sign", x),)),
    "sign": Operation(np.sign, "sign({0})", "sign({0})", lambda y, x: (0,)),
    "exp": _own("exp", np.exp, lambda y, x: y),
    "log": _own("log", np.log, lambda y, x: 1 / x),
    "log1p": _own("log1p", np.log1p, lambda y, x: 1 / (1 + x)),
    "expm1": _own("expm1", np.expm1, lambda y, x: y + 1),
    "tanh": _own("tanh", np.tanh, lambda y, x: 1 - y * y),
    "sigmoid": _own(
        "sigmoid", lambda x: 1 / (1 + np.exp(-x)), lambda y, x: y * (1 - y), "1.0 / (1.0 + math.exp(-{0}))"
    ),
    "gated": Operation(
        lambda a, z: a / (1 + np.exp(z)),
        "{0} / one_plus_exp({1})",
        "{0} / (1.0 + math.exp({1}))",
        _partials_of_gated,
    ),
    "softplus": _own(
        "softplus",
        lambda x: np.logaddexp(x, 0.0),
        lambda y, x: apply("sigmoid", x),
        "max({0}, 0.0) + math.log1p(math.exp(-abs({0})))",
    ),
    "sqrt": _of_math("sqrt", np.sqrt, lambda y, x: 0.5 / y),
    "sin": _of_math("sin", np.sin, lambda y, x: apply("cos", x)),
    "cos": _of_math("cos", np.cos, lambda y, x: -apply("sin", x)),
    "erf": _of_math(
        "erf", np.vectorize(math.erf, [float]), lambda y, x: 2 / math.sqrt(math.pi) * apply("exp", -(x * x))
    ),
}


# --- made simpler -----------------------------------------------------------------------------------------------------


def _simpler_add(a: Expression, b: Expression) -> Expression | None:
    return b if a is ZERO else a if b is ZERO else None


def _simpler_sub(a: Expression, b: Expression) -> Expression | None:
    return a if b is ZERO else -b if a is ZERO else None


def _simpler_mul(a: Expression, b: Expression) -> Expression | None:
    for one, other in ((a, b), (b, a)):
        if one is ONE:
            return other
        if one is number(-1):
            return -other
    return None


def _simpler_div(a: Expression, b: Expression) -> Expression | None:
    """Also a / (1 + exp(z)) as one operation, whose derivative is not ∞ / ∞ where exp(z) is infinite."""
    if b is ONE:
        return a
    z = _one_plus_exp(b)
    if z is None:
        return None
    if a is ONE:
        return apply("sigmoid", -z)
    return apply("sigmoid", z) if a is apply("exp", z) else apply("gated", a, z)


def _simpler_pow(a: Expression, b: Expression) -> Expression | None:
    if b.op != "number":
        return None
    if b.value == 0.5:
        return apply("sqrt", a)
    power = abs(b.value)
    if power not in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        return None
    found, square = ONE, a
    for bit in f"{int(power):b}"[::-1]:
        found = found * square if bit == "1" else found
        square = square * square
    return found if b.value >= 0 else 1 / found


def _simpler_neg(a: Expression) -> Expression | None:
    return a.args[0] if a.op == "neg" else None


def _simpler_log(a: Expression) -> Expression | None:
    """log(1 + exp(z)), for the reason for which quotients are."""
    z = _one_plus_exp(a)
    return None if z is None else apply("softplus", z)


def _simpler_log1p(a: Expression) -> Expression | None:
    return apply("softplus", a.args[0]) if a.op == "exp" else None


def _simpler_where(condition: Expression, yes: Expression, no: Expression) -> Expression | None:
    return yes if yes is no else None


def _one_plus_exp(b: Expression) -> Expression | None:
    """The z where b is 1 + exp(z)."""
    if b.op == "add":
        for one, other in (b.args, b.args[::-1]):
            if one is ONE and other.op == "exp":
                return other.args[0]
    return None


_SIMPLER: dict[str, Callable[..., Expression | None]] = {
    "add": _simpler_add,
    "sub": _simpler_sub,
    "mul": _simpler_mul,
    "div": _simpler_div,
    "pow": _simpler_pow,
    "neg": _simpler_neg,
    "log": _simpler_log,
    "log1p": _simpler_log1p,
    "where": _simpler_where,
}


# --- what is done with them -------------------------------------------------------------------------------------------


def derivative(of: Expression, by: Expression) -> Expression:
    """The derivative of an expression by a variable; raises `Unsupported` where a function in it has none known."""
    found: dict[Expression, Expression] = {by: ONE}
    for node in in_order([of]):
        if node not in found:
            found[node] = _derivative_of(node, by, found) if by.value in node.names else ZERO
    return found[of]


def _derivative_of(node: Expression, by: Expression, found: Mapping[Expression, Expression]) -> Expression:
    if node.op == "call":
        name = getattr(node.value, "__name__", "it")
        raise Unsupported(f"the derivative of {name} is not known: give derivative=")
    if node.op == "where":
        return where(node.args[0], found[node.args[1]], found[node.args[2]])
    partials = OPERATIONS[node.op].partials
    total = ZERO
    for i, arg in enumerate(node.args if partials is not None else ()):
        if found[arg] is not ZERO:
            assert partials is not None
            partial = partials(node, *node.args)[i]
            total = total + (partial if isinstance(partial, Expression) else number(partial)) * found[arg]
    return total


def with_known(of: Expression, result: Expression, known: Expression) -> Expression:
    """An expression in which a result that occurs in it is taken as known."""
    found: dict[Expression, Expression] = {result: known}
    for node in in_order([of]):
        if node not in found:
            found[node] = _made(node.op, tuple(found[arg] for arg in node.args), node.value)
    return found[of]


def in_order(results: Sequence[Expression]) -> Iterator[Expression]:
    """These expressions and all inside them, each once and after its arguments."""
    seen: set[Expression] = set()
    waiting = [(result, False) for result in reversed(results)]
    while waiting:
        node, ready = waiting.pop()
        if node in seen:
            continue
        if ready:
            seen.add(node)
            yield node
        else:
            waiting.append((node, True))
            waiting += [(arg, False) for arg in reversed(node.args)]


def evaluate(results: Sequence[Expression], arrays: Mapping[str, Array], options: Mapping[str, float]) -> list[Array]:
    """The results in NumPy: arrays of the shape and dtype of the arrays."""
    like = next(iter(arrays.values()))
    values: dict[Expression, Any] = {}
    with np.errstate(all="ignore"):
        for node in in_order(results):
            if node.op == "number":
                values[node] = node.value
            elif node.op == "variable":
                values[node] = arrays[node.value] if node.value in arrays else float(options[node.value])
            else:
                inside = (values[arg] for arg in node.args)
                function = _vectorized(node.value) if node.op == "call" else OPERATIONS[node.op].numpy
                values[node] = _typed(function(*inside), like)
    return [np.array(np.broadcast_to(values[result], like.shape), like.dtype) for result in results]


def _typed(value: Any, like: Array) -> Any:
    """Numbers of the arrays' dtype; of options alone, in double, as Python has them."""
    if np.ndim(value) == 0:
        return value.item()
    return value.astype(like.dtype, copy=False) if value.dtype.kind == "f" else value


def _vectorized(function: Callable[..., Any]) -> Callable[..., Any]:
    def one(*args: Any) -> Any:
        try:
            return function(*args)
        except (ArithmeticError, ValueError):  # math.log(0), where NumPy and compiled code go on
            return math.nan

    return np.vectorize(one, [float])
