"""A reader of pickles that hold data and nothing else.

Unpickling runs whatever functions a file names. This does not unpickle: it goes through the file's operations, does
those that build numbers, strings, bytes, lists, tuples, dicts and NumPy arrays of numbers by itself, and refuses the
file at the first other one. No function that a file names is ever looked up, let alone called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class PlainPickleError(ValueError):
    """A pickle is damaged, or wants more than data; the message says what."""


def loads(content: bytes) -> Any:
    """The data in a pickle of any protocol; what Python 2 had as `str` becomes a string of Latin-1 characters.

    Arrays are read-only views of `content`'s copies, of whole numbers, real numbers or bool.
    Raises PlainPickleError.
    """
    try:
        return _Machine().run(content)
    except PlainPickleError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RecursionError) as error:
        raise PlainPickleError(f"damaged or truncated: {type(error).__name__}: {str(error)[:200]}") from error


@dataclass(frozen=True)
class _Global:
    """A name for something in a module; never the thing itself."""

    name: str


@dataclass
class _Dtype:
    """An array's dtype, without its byte order until BUILD tells it."""

    code: str
    order: str = "="


class _Unbuilt:
    """An array of which only BUILD will tell the content."""

    def __init__(self) -> None:
        self.keys: set[int] = set()  # where it is in the memo, or was


def _about(value: Any) -> str:
    """A value in an error: whole ones may be of any length and depth."""
    if type(value) is _Global:
        return value.name.replace(" ", ".")
    return repr(value[:40]) if type(value) is str else type(value).__name__


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Unbuilt:
    if kind != _Global("numpy ndarray"):
        raise PlainPickleError(f"expected an array, got {_about(kind)}")
    return _Unbuilt()


def _dtype(code: Any, *flags: Any) -> _Dtype:
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
        raise PlainPickleError(f"expected arrays of numbers, got dtype {_about(code)}")
    return _Dtype(code)


def _encode(text: Any, codec: Any) -> bytes:
    """So protocol 2 writes the bytes of Python 3."""
    if codec not in ("latin1", "latin-1") or not isinstance(text, str):
        raise PlainPickleError(f"expected bytes as Latin-1 characters, got {_about(text)} as {_about(codec)}")
    return text.encode("latin-1")


def _array(buffer: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """An array from its bytes; as of `numpy._core.numeric._frombuffer`, which protocol 5 names."""
    if isinstance(buffer, str):  # of Python 2
        buffer = buffer.encode("latin-1")
    if not isinstance(buffer, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise PlainPickleError("expected an array's bytes, dtype and order")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise PlainPickleError("expected an array's shape")
    kind = np.dtype(dtype.order + dtype.code)
    if math.prod(shape) * kind.itemsize != len(buffer):
        raise PlainPickleError(f"expected numbers {shape} of {kind}, got {len(buffer)} bytes")
    return np.frombuffer(bytes(buffer), kind).reshape(shape, order=order)


#: What REDUCE may call, by the name that a file has for it; None for what may only be named.
_FUNCTIONS: dict[str, Callable[..., Any] | None] = {
    "numpy ndarray": None,
    "numpy dtype": _dtype,
    "_codecs encode": _encode,
    **{f"numpy.{core}.multiarray _reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _array for core in ("core", "_core")},
}

#: Operations that push what follows them in the file.
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_KEYS = (str, bytes, float, bool)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _is_key(value: Any) -> bool:
    """Whether it may be a key: others may take for ever to hash, or, like multiples of 2**61 - 1, all hash alike."""
    return type(value) in _KEYS or (type(value) is int and value.bit_length() < 61)


class _Machine:
    """The pickle machine: a stack, the stacks below its marks, and a memo. Operations are methods of their names."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.room = 0  # how many bytes may still be made: what is in the memo can be copied again and again

    def run(self, content: bytes) -> Any:
        import pickletools  # only describes pickles; it takes time to import

        self.room = 4 * len(content) + 1_000_000
        for opcode, argument, _ in pickletools.genops(content):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            else:
                operation = _OPERATIONS.get(name)
                if operation is None:
                    raise PlainPickleError(f"it holds more than data: operation {name}")
                operation(self, argument)
        raise PlainPickleError("truncated")

    def put(self, key: int) -> None:
        if key.bit_length() > 32:
            raise PlainPickleError("damaged: expected a place in the memo")
        value = self.memo[key] = self.stack[-1]
        if type(value) is _Unbuilt:
            value.keys.add(key)

    def memoize(self, argument: None) -> None:
        self.put(len(self.memo))

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def mark(self, argument: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, argument: None = None) -> Any:
        return self.stack.pop()

    def last(self, count: int) -> tuple[Any, ...]:
        """The topmost values, taken from the stack."""
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise PlainPickleError("damaged: expected a list to append to")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise PlainPickleError("damaged: expected a dict and its items")
        if not all(_is_key(key) for key in items[::2]):
            raise PlainPickleError("expected strings or numbers as keys of a dict")
        target.update(zip(items[::2], items[1::2], strict=True))

    def dictionary(self, items: list[Any]) -> None:
        self.stack.append({})
        self.update(items)

    def named(self, name: str) -> None:
        if name not in _FUNCTIONS:
            raise PlainPickleError(f"it holds more than data: it asks for {name[:80].replace(' ', '.')}")
        self.stack.append(_Global(name))

    def stack_global(self, argument: None) -> None:
        module, name = self.last(2)
        if type(module) is not str or type(name) is not str:  # others may take for ever to write
            raise PlainPickleError("damaged: expected names")
        self.named(f"{module} {name}")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function makes of arguments, all of which it may copy."""
        self.room -= sum(len(value) for value in arguments if isinstance(value, str | bytes | bytearray))
        if self.room < 0:
            raise PlainPickleError("it makes far more data than it holds")
        return function(*arguments)

    def reduce(self, argument: None) -> None:
        called, arguments = self.last(2)
        function = _FUNCTIONS[called.name] if type(called) is _Global else None
        if function is None or type(arguments) is not tuple:
            raise PlainPickleError(f"it holds more than data: it calls {_about(called)}")
        self.stack.append(self.call(function, *arguments))

    def build(self, argument: None) -> None:
        target, state = self.last(2)
        if type(target) is _Dtype:
            _, order, *rest = state
            if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
                raise PlainPickleError("expected the dtype of numbers")
            target.order = order
            self.stack.append(target)
        elif type(target) is _Unbuilt:
            _, shape, dtype, by_columns, buffer = state
            array = self.call(_array, buffer, dtype, shape, "F" if by_columns else "C")
            self.memo.update({key: array for key in target.keys if self.memo[key] is target})
            target.keys.clear()
            self.stack.append(array)
        else:
            raise PlainPickleError(f"it holds more than data: it sets the state of {_about(target)}")


_OPERATIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    **{name: lambda machine, argument: None for name in ("PROTO", "FRAME")},
    **{name: _Machine.put for name in ("PUT", "BINPUT", "LONG_BINPUT")},
    **{name: _Machine.get for name in ("GET", "BINGET", "LONG_BINGET")},
    "MEMOIZE": _Machine.memoize,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, argument: machine.marked(),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "LIST": lambda machine, argument: machine.push(machine.marked()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, argument: machine.push(machine.last(1)),
    "TUPLE2": lambda machine, argument: machine.push(machine.last(2)),
    "TUPLE3": lambda machine, argument: machine.push(machine.last(3)),
    "DICT": lambda machine, argument: machine.dictionary(machine.marked()),
    "APPEND": lambda machine, argument: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, argument: machine.extend(machine.marked()),
    "SETITEM": lambda machine, argument: machine.update(list(machine.last(2))),
    "SETITEMS": lambda machine, argument: machine.update(machine.marked()),
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
