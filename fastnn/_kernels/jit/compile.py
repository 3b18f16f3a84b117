"""From a `Program` to the address of code that computes a stretch of numbers, compiled by Numba and kept on disk.

The code is Python, written to a file in the cache (`$FASTNN_CACHE`, else the user's), beside which Numba keeps what it
compiles; the file's name is a digest of all that it depends on. Without Numba the address is that of the same in NumPy.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import math
import threading
import warnings
from typing import Any

import numpy as np

from ..._files import cache_folder, write_bytes
from ..kernel import Array
from . import functions
from .expression import CONDITIONS, OPERATIONS, Expression, evaluate, in_order
from .program import Program

_STRETCH = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p), ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_double))
_made: dict[Any, Any] = {}  #: by what it is compiled from; calls and records have addresses, so that it lives on
_functions: dict[str, dict[str, Any]] = {}
_lock = threading.RLock()
_warned = False


def address(program: Program, real: str) -> int:
    """Where the code is for arrays of this dtype: a `stretch_fn` of native/custom.pxi."""
    with _lock:
        try:
            import numba
        except ImportError as error:
            _warn(error)
            return _in_numpy(program, real)
        text, beside = source(program, real)
        key = (text, *beside.values())
        if key not in _made:
            try:
                _made[key] = _compiled(text, beside, real)
            except numba.NumbaError as error:
                raise TypeError(f"{program.name}: Numba cannot compile it: {error}") from error
        found: int = _made[key].address
        return found


def _warn(error: ImportError) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"functions of your own run in NumPy, which is slower, without Numba ({error}): pip install 'fastnn[jit]'",
            stacklevel=2,
        )


# --- the code ---------------------------------------------------------------------------------------------------------


def source(program: Program, real: str) -> tuple[str, dict[str, Any]]:
    """Python for Numba, a function ``stretch(p, n, f)`` of arrays, their length, options; and what it calls."""
    writer = Writer(program)
    arrays = [f"a{i} = p[{i}]" for i in range(len(program.arrays))]
    body = [*arrays, *writer.before, "for i in range(n):", *(f"    {line}" for line in writer.inside)]
    head = ["import math", "import numpy as np", f"from numpy import {real} as T", "", *writer.numbers, ""]
    lines = [*head, "def stretch(p, n, f):", "    on_widest_vectors()", *(f"    {line}" for line in body)]
    return "\n".join(lines) + "\n", writer.called


class Writer:
    """Writes a line for each expression: numbers, what depends on options alone (in double), and what is in a loop.

    In these lines T is the arrays' dtype, a0, a1, … are the arrays, i is the place in them, and f holds the options.
    """

    def __init__(self, program: Program) -> None:
        self.numbers: list[str] = []
        self.before: list[str] = []
        self.inside: list[str] = []
        self.called: dict[str, Any] = {}
        self._program = program
        self._uniform: dict[Expression, str] = {}
        self._varying: dict[Expression, str] = {}
        for node in in_order([result for _, result in program.results]):
            self._write(node)
        self.inside += [f"a{i}[i] = {self._in_loop(result)}" for i, result in program.results]

    def _write(self, node: Expression) -> None:
        """An expression whose arguments are written already."""
        name = f"t{len(self._uniform) + len(self._varying)}"
        if node.op == "number":
            self._uniform[node] = repr(node.value) if math.isfinite(node.value) else _odd(node.value)
        elif node.names & {*self._program.arrays}:
            self._varying[node] = name
            self.inside.append(f"{name} = {self._code(node)}")
        else:
            self._uniform[node] = name
            self.before.append(f"{name} = {self._uniform_code(node)}")

    def _in_loop(self, node: Expression) -> str:
        """The name of an expression's value in the loop, of the arrays' dtype."""
        if node not in self._varying:
            found = self._uniform[node]
            if node.op not in CONDITIONS:
                name = f"c{len(self.numbers) + len(self.before)}"
                (self.numbers if node.op == "number" else self.before).append(f"{name} = T({found})")
                found = name
            self._varying[node] = found
        return self._varying[node]

    def _code(self, node: Expression) -> str:
        if node.op == "variable":
            return f"a{self._program.arrays.index(node.value)}[i]"
        args = [self._in_loop(arg) for arg in node.args]
        if node.op == "call":
            return f"T({self._call(node)}({', '.join(args)}))"
        return OPERATIONS[node.op].code.format(*args)

    def _uniform_code(self, node: Expression) -> str:
        if node.op == "variable":
            return f"f[{self._program.options.index(node.value)}]"
        args = [self._uniform[arg] for arg in node.args]
        if node.op == "call":
            return f"{self._call(node)}({', '.join(args)})"
        return OPERATIONS[node.op].uniform.format(*(f"({arg})" for arg in args))

    def _call(self, node: Expression) -> str:
        name = f"g{len(self.called)}"
        self.called[name] = node.value
        return name


def _odd(value: float) -> str:
    return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"


# --- compiled ---------------------------------------------------------------------------------------------------------


def _compiled(text: str, beside: dict[str, Any], real: str) -> Any:
    import numba
    from numba import types

    if real not in _functions:
        _functions[real] = functions.make(real)
    namespace = {"__name__": functions.__name__, **_functions[real]}  # what Numba keeps names a module
    namespace |= {name: numba.njit(**functions.OPTIONS)(function) for name, function in beside.items()}
    number = types.float64 if real == "float64" else types.float32
    signature = types.void(types.CPointer(types.CPointer(number)), types.intp, types.CPointer(types.float64))
    path = None if beside else _kept(text)  # what else a user's function calls may change, and nobody would know
    exec(compile(text, path or "<fastnn>", "exec"), namespace)
    if path is not None:
        try:
            return numba.cfunc(signature, cache=True, **functions.OPTIONS)(namespace["stretch"])
        except Exception as error:  # whatever became of the files
            warnings.warn(f"{path}: what was compiled cannot be kept or read, compiling anew: {error}", stacklevel=2)
    return numba.cfunc(signature, **functions.OPTIONS)(namespace["stretch"])


def _kept(text: str) -> str | None:
    """The file in the cache that has this code; None where it cannot be written."""
    parts = (text, inspect.getsource(functions), np.__version__)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    try:
        path = cache_folder().resolve() / "jit" / f"f{digest[:32]}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, text.encode())
    except (OSError, RuntimeError):
        return None
    return str(path)


# --- without Numba ----------------------------------------------------------------------------------------------------


def _in_numpy(program: Program, real: str) -> int:
    """The address of a function that computes the same in NumPy, called back from the kernel."""
    dtype = np.dtype(real)
    results = [result for _, result in program.results]

    def stretch(p: Any, n: int, f: Any) -> None:
        arrays = [_array(p[i], n, dtype) for i in range(len(program.arrays))]
        options = {name: f[i] for i, name in enumerate(program.options)}
        found = evaluate(results, dict(zip(program.arrays, arrays, strict=True)), options)
        for (i, _), value in zip(program.results, found, strict=True):
            arrays[i][...] = value

    callback = _STRETCH(stretch)
    _made[program, real] = callback
    found = ctypes.cast(callback, ctypes.c_void_p).value
    assert found is not None
    return found


def _array(address: int, n: int, dtype: np.dtype[Any]) -> Array:
    memory: Any = (ctypes.c_char * (n * dtype.itemsize)).from_address(address)
    found: Array = np.frombuffer(memory, dtype)
    return found
