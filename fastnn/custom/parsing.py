"""From a Python function to the expressions that it returns, by its syntax tree; nothing of it is run."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from .._kernels.jit.expression import Expression, Unsupported, apply, where

_BINARY: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv),
    ast.Pow: ("pow", operator.pow),
    ast.Lt: ("lt", operator.lt),
    ast.LtE: ("le", operator.le),
    ast.Gt: ("gt", operator.gt),
    ast.GtE: ("ge", operator.ge),
    ast.Eq: ("eq", operator.eq),
    ast.NotEq: ("ne", operator.ne),
}
_MOST_INSIDE = 50  #: functions that call each other


def _many(op: str) -> Callable[..., Any]:
    """max or min of several."""

    def function(first: Any, *others: Any) -> Any:
        for other in others:
            first = _apply(op, first, other)
        return first

    return function


def _one(op: str) -> Callable[..., Any]:
    return lambda x: _apply(op, x)


def _apply(op: str, *args: Any) -> Any:
    found = apply(op, *args)
    if found is NotImplemented:
        raise Unsupported(f"{op} of something that is no number")
    return found


def _copysign(x: Any, y: Any) -> Any:
    return where(_apply("lt", y, 0), -_apply("abs", x), _apply("abs", x))


#: What may be called, by Python's own functions.
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(math, op): _one(op) for op in ("exp", "log", "log1p", "expm1", "tanh", "sin", "cos", "sqrt", "erf")},
    **{getattr(np, op): _one(op) for op in ("exp", "log", "log1p", "expm1", "tanh", "sin", "cos", "sqrt", "sign")},
    **dict.fromkeys((abs, math.fabs, np.abs, np.fabs), _one("abs")),
    **dict.fromkeys((max, np.maximum), _many("max")),
    **dict.fromkeys((min, np.minimum), _many("min")),
    **dict.fromkeys((pow, math.pow, np.power), lambda x, y: _apply("pow", x, y)),
    **dict.fromkeys((math.copysign, np.copysign), _copysign),
    np.clip: lambda x, low, high: _apply("min", _apply("max", x, low), high),
    np.where: lambda condition, yes, no: _apply("where", condition, yes, no),
    float: lambda x: x,
}


def expressions(function: FunctionType, arguments: Sequence[Any]) -> Any:
    """What the function returns of these arguments: an expression, or a tuple of them.

    Understood are assignments, ``if``, conditional expressions, numbers, + - * / **, comparisons, the functions of
    `math` and NumPy above, and other functions made of these. Raises `Unsupported`, which says what else there is.
    """
    known = inspect.signature(function).parameters.values()
    by_name = [parameter.name for parameter in known if parameter.kind == parameter.KEYWORD_ONLY]
    positional = len(arguments) - len(by_name)
    return _Reader(function).result(arguments[:positional], dict(zip(by_name, arguments[positional:], strict=True)))


def parameters(function: Callable[..., Any], what: str) -> dict[str, Any]:
    """The names of a function's parameters, each with its default, or `inspect.Parameter.empty`."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"{what}: expected a Python function, got {function!r}")
    found = inspect.signature(function).parameters
    for name, parameter in found.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{what}: {function.__name__} may not take *{name}: each parameter needs a name")
    return {name: parameter.default for name, parameter in found.items()}


class _Reader:
    """Goes through one function's tree."""

    def __init__(self, function: FunctionType, inside: int = 0) -> None:
        if inside > _MOST_INSIDE:
            raise Unsupported(f"{function.__name__} calls itself, or functions that call each other too deeply")
        self._function, self._inside = function, inside
        self._around = _names_around(function)

    def result(self, arguments: Sequence[Any], named: Mapping[str, Any] | None = None) -> Any:
        try:
            bound = inspect.signature(self._function).bind(*arguments, **(named or {}))
        except TypeError as error:
            raise Unsupported(f"{self._function.__name__}: {error}") from None
        bound.apply_defaults()
        names = dict(bound.arguments)
        tree = _tree(self._function)
        if isinstance(tree, ast.Lambda):
            return self._value(tree.body, names)
        return self._block(tree.body, names)

    def _fail(self, node: ast.AST, what: str) -> Unsupported:
        return Unsupported(f"{self._function.__name__}, line {getattr(node, 'lineno', '?')}: {what}")

    def _block(self, statements: Sequence[ast.stmt], names: dict[str, Any]) -> Any:
        """What the statements return."""
        for at, statement in enumerate(statements):
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self._value(statement.value, names)
            if isinstance(statement, ast.If):
                rest = statements[at + 1 :]
                test = self._value(statement.test, names)
                if not isinstance(test, Expression):  # known beforehand
                    return self._block([*(statement.body if test else statement.orelse), *rest], names)
                branches = (self._block([*part, *rest], dict(names)) for part in (statement.body, statement.orelse))
                return self._choice(test, *branches)
            self._assign(statement, names)
        raise Unsupported(f"{self._function.__name__} has a way through it that returns nothing")

    def _assign(self, statement: ast.stmt, names: dict[str, Any]) -> None:
        if isinstance(statement, ast.Assign):
            value = self._value(statement.value, names)
            for target in statement.targets:
                self._bind(target, value, names)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._bind(statement.target, self._value(statement.value, names), names)
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            before = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement)
            whole = ast.copy_location(ast.BinOp(before, statement.op, statement.value), statement)
            names[statement.target.id] = self._value(whole, names)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
            kind = type(statement).__name__.lower()
            raise self._fail(statement, f"a statement of kind {kind!r} is not understood, only assignments, if, return")

    def _bind(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, tuple) and len(value) == len(target.elts):
            for part, inner in zip(target.elts, value, strict=True):
                self._bind(part, inner, names)
        else:
            raise self._fail(target, "only names can be assigned to")

    def _value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """An expression, a number, a tuple; or a module or function of which something is taken or called."""
        method = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        if method is None:
            raise self._fail(node, f"{ast.unparse(node)!r} is not understood")
        return method(node, names)

    def _of_constant(self, node: ast.Constant, names: dict[str, Any]) -> Any:
        if not isinstance(node.value, int | float):
            raise self._fail(node, f"expected a number, got {node.value!r}")
        return node.value

    def _of_name(self, node: ast.Name, names: dict[str, Any]) -> Any:
        for known in (names, *self._around):
            if node.id in known:
                return self._constant(known[node.id])
        raise self._fail(node, f"there is nothing called {node.id!r}")

    def _of_attribute(self, node: ast.Attribute, names: dict[str, Any]) -> Any:
        owner = self._value(node.value, names)
        if not isinstance(owner, ModuleType) or not hasattr(owner, node.attr):
            raise self._fail(node, f"{ast.unparse(node)!r} is not understood")
        return self._constant(getattr(owner, node.attr))

    def _constant(self, value: Any) -> Any:
        """As it is now: a number that changes later is not seen to."""
        return value.item() if isinstance(value, np.generic) else value

    def _of_tuple(self, node: ast.Tuple, names: dict[str, Any]) -> Any:
        return tuple(self._value(part, names) for part in node.elts)

    def _of_unaryop(self, node: ast.UnaryOp, names: dict[str, Any]) -> Any:
        value = self._number(node.operand, names)
        if isinstance(node.op, ast.UAdd):
            return value
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.Not):
            return _apply("not", value) if isinstance(value, Expression) else not value
        raise self._fail(node, f"{ast.unparse(node)!r} is not understood")

    def _of_binop(self, node: ast.BinOp, names: dict[str, Any]) -> Any:
        return self._binary(node, node.op, self._number(node.left, names), self._number(node.right, names))

    def _of_compare(self, node: ast.Compare, names: dict[str, Any]) -> Any:
        values = [self._number(part, names) for part in (node.left, *node.comparators)]
        found: Any = None
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            one = self._binary(node, op, a, b)
            found = one if found is None else _both("and", found, one)
        return found

    def _of_boolop(self, node: ast.BoolOp, names: dict[str, Any]) -> Any:
        op = "and" if isinstance(node.op, ast.And) else "or"
        first, *others = (self._number(part, names) for part in node.values)
        for other in others:
            first = _both(op, first, other)
        return first

    def _binary(self, node: ast.expr, op: ast.AST, a: Any, b: Any) -> Any:
        if type(op) not in _BINARY:
            raise self._fail(node, f"{ast.unparse(node)!r} is not understood")
        name, of_numbers = _BINARY[type(op)]
        if isinstance(a, Expression) or isinstance(b, Expression):
            return _apply(name, a, b)
        try:
            return of_numbers(a, b)
        except ArithmeticError as error:
            raise self._fail(node, f"{ast.unparse(node)!r}: {error}") from None

    def _of_ifexp(self, node: ast.IfExp, names: dict[str, Any]) -> Any:
        test = self._value(node.test, names)
        if not isinstance(test, Expression):
            return self._value(node.body if test else node.orelse, names)
        return self._choice(test, self._value(node.body, names), self._value(node.orelse, names))

    def _choice(self, test: Expression, yes: Any, no: Any) -> Any:
        if isinstance(yes, tuple) and isinstance(no, tuple) and len(yes) == len(no):
            return tuple(self._choice(test, a, b) for a, b in zip(yes, no, strict=True))
        return _apply("where", test, yes, no)

    def _of_call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        function = self._value(node.func, names)
        if any(isinstance(arg, ast.Starred) for arg in node.args) or any(word.arg is None for word in node.keywords):
            raise self._fail(node, f"{ast.unparse(node)!r} is not understood")
        args = [self._number(arg, names) for arg in node.args]
        named = {word.arg: self._number(word.value, names) for word in node.keywords if word.arg is not None}
        known = _FUNCTIONS.get(function) if getattr(function, "__hash__", None) else None
        try:
            if known is not None:
                return known(*args, **named)
        except TypeError:
            raise self._fail(node, f"{ast.unparse(node)!r}: wrong arguments") from None
        if isinstance(function, FunctionType):
            return _Reader(function, self._inside + 1).result(args, named)
        raise self._fail(node, f"the function {ast.unparse(node.func)!r} is not understood")

    def _number(self, node: ast.expr, names: dict[str, Any]) -> Any:
        value = self._value(node, names)
        if not isinstance(value, Expression | int | float):
            raise self._fail(node, f"expected a number as {ast.unparse(node)!r}, got {type(value).__name__}")
        return value


def _both(op: str, a: Any, b: Any) -> Any:
    if isinstance(a, Expression) or isinstance(b, Expression):
        return _apply(op, a, b)
    return (a and b) if op == "and" else (a or b)


def _names_around(function: FunctionType) -> tuple[Mapping[str, Any], ...]:
    """What names mean that are not the function's own: in functions around it, its module, Python."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    enclosed = {}
    for name, cell in cells:
        try:
            enclosed[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return enclosed, function.__globals__, vars(builtins)


def _tree(function: FunctionType) -> ast.FunctionDef | ast.Lambda:
    """The function in its file's syntax tree; raises `Unsupported` where there is no file, as at Python's prompt."""
    code = function.__code__
    try:
        lines, _ = inspect.findsource(function)
        tree = ast.parse("".join(lines))
    except (OSError, SyntaxError, TypeError, IndexError):
        raise Unsupported(f"the source of {function.__name__} cannot be read") from None
    found: list[ast.FunctionDef | ast.Lambda] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                found.append(node)
        elif isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            found.append(node)
    alike = [node for node in found if _used(_compiled(node)) == _used(code)]
    if len(alike) > 1:
        alike = _at_place(code, alike)
    if not alike or ast.dump(alike[0]) != ast.dump(alike[-1]):
        why = "cannot be told from what stands beside it" if alike else "is not what its file has now"
        raise Unsupported(f"the source of {function.__name__} {why}")
    return alike[0]


def _at_place(code: CodeType, nodes: list[Any]) -> list[Any]:
    """Those of several lambdas of one line that have this code."""
    if not hasattr(code, "co_positions"):  # before Python 3.11
        return [node for node in nodes if _compiled(node).co_code == code.co_code]
    places = [(start, end) for _, _, start, end in code.co_positions() if start is not None and end]
    around = [node for node in nodes if all(_covers(node.body, *place) for place in places)]
    return sorted(around, key=lambda node: len(ast.unparse(node)))[: 1 if places else None]  # others are around it


def _compiled(node: ast.FunctionDef | ast.Lambda) -> CodeType:
    """The code of a function, made again."""
    if isinstance(node, ast.Lambda):
        around = compile(ast.Expression(node), "<lambda>", "eval")
    else:
        bare = copy.copy(node)
        bare.decorator_list = []
        around = compile(ast.Module([bare], []), "<def>", "exec")
    name = getattr(node, "name", "<lambda>")
    codes = [constant for constant in around.co_consts if isinstance(constant, CodeType)]
    return next(code for code in codes if code.co_name == name)


def _used(code: CodeType) -> tuple[Any, ...]:
    """Names and constants, which do not depend on what is around a function."""
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    return sorted(code.co_names + code.co_freevars), code.co_varnames, constants


def _covers(node: ast.expr, start: int, end: int | None) -> bool:
    last = node.end_col_offset
    return node.lineno != node.end_lineno or (node.col_offset <= start and end is not None and end <= (last or 0))
