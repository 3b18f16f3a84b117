"""What a row of the kernel table is, and how a call finds its backend.

A call is checked against its row once per combination of shapes, dtypes and parameters; the result, a `Plan`, is kept,
so that a repeated call costs one dictionary look-up before it reaches the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .._errors import DTypeError, ShapeError

Array = np.ndarray[Any, Any]
#: An output of a call: None allocates it, False leaves it out, an array receives it, (array, True) has it added.
Target = None | bool | Array | tuple[Array, bool]

REAL = ("float32", "float64")
_PLANS_PER_KERNEL = 1024
_HOST = np.ndarray  #: the type that most arrays are of


@dataclass(frozen=True)
class Arg:
    """One array of a row: its name, its dimensions by symbol, its dtype and its order in memory.

    dims: symbols such as ``("N", "C", "H", "W")``, whole numbers, or ``"*"``, the last one, for any further dimensions.
    dtype: ``"real"`` (float32 or float64, the same for all real arrays of a call), ``"any"``, or a NumPy dtype's name.
    order: the axes from the outermost to the innermost in memory; None for the logical order.
    values: draws it for tests and benchmarks, from a generator, its shape and the call's sizes, where random reals will
        not do.
    """

    name: str
    dims: tuple[str | int, ...]
    dtype: str = "real"
    order: tuple[int, ...] | None = None
    optional: bool = False
    inout: bool = False
    adds: bool = False  #: an output that native kernels can add to by themselves
    host: bool = False  #: an array of NumPy's also where the others are on a device: a few numbers that Python sees
    values: Callable[[np.random.Generator, tuple[int, ...], Mapping[str, int]], Any] | None = None


def array(name: str, dims: str, dtype: str = "real", **options: Any) -> Arg:
    """An array stored in its logical (C) order, e.g. ``array("x", "N I")``."""
    return Arg(name, tuple(int(d) if d.isdigit() else d for d in dims.split()), dtype, **options)


def image(name: str, dims: str, **options: Any) -> Arg:
    """A batch of images, (N, C, H, W) to the user, channels last in memory."""
    return array(name, dims, order=(0, 2, 3, 1), **options)


def filters(name: str, dims: str, **options: Any) -> Arg:
    """Convolution weights, (O, I, KH, KW) to the user, output channels innermost in memory."""
    return array(name, dims, order=(2, 3, 1, 0), **options)


Dims = dict[str, int]


@dataclass
class Plan:
    """A kernel bound to shapes: sizes by symbol, and output shapes."""

    kernel: Kernel
    dims: Dims
    real: str
    ints: tuple[int, ...]
    floats: tuple[float, ...]
    out_shapes: tuple[tuple[int, ...], ...]
    out_dtypes: tuple[str, ...]
    bound: dict[str, Any] = field(default_factory=dict)  #: by instruction set, what the native backend made of it


class Backend(Protocol):
    """What computes a planned call."""

    name: str
    Record: Any  #: the class of its records of calls, which can be replayed; None where there is none

    def run(
        self, plan: Plan, inputs: Sequence[Array | None], params: Mapping[str, Any], out: Sequence[Target]
    ) -> tuple[Array | None, ...]:
        """Compute the outputs of one call, written or added to the targets in `out`."""
        ...


_active: ContextVar[Backend] = ContextVar("fastnn backend")


def set_default(backend: Backend) -> None:
    """Make `backend` the one in which kernels run where no `using` is in force."""
    global _default
    _default = backend


_default: Backend


def active() -> Backend:
    """The backend in which a kernel called now would run."""
    return _active.get(_default)


def device_backend(a: Any) -> Backend | None:
    """What computes kernels on an array that is on a device; None for one of the host's."""
    found: Backend | None = getattr(type(a), "device_backend", None)
    return found


def is_array(a: Any) -> bool:
    """Whether it is an array that kernels take: NumPy's, or one on a device."""
    return isinstance(a, np.ndarray) or device_backend(a) is not None


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Run kernels on `backend` within a ``with`` block, in this thread or task only."""
    token = _active.set(backend)
    try:
        yield
    finally:
        _active.reset(token)


#: Names the layer, loss or optimizer that calls a kernel now, for errors; the layers set it.
where: Callable[[], str] = str


class _Observed:
    """A backend that tells of each call; one cannot record on it."""

    Record = None

    def __init__(self, backend: Backend, tell: Callable[[Plan], Any]) -> None:
        self.name, self._backend, self._tell = backend.name, backend, tell

    def run(
        self, plan: Plan, inputs: Sequence[Array | None], params: Mapping[str, Any], out: Sequence[Target]
    ) -> tuple[Array | None, ...]:
        """Compute one call, as the backend does."""
        self._tell(plan)
        return self._backend.run(plan, inputs, params, out)


def _backend_for(a: Any) -> Backend:
    """What computes a call whose first array this is: on a device its backend, observed where the active one is."""
    device, backend = device_backend(a), active()
    if device is None:
        return backend
    return _Observed(device, backend._tell) if isinstance(backend, _Observed) else device


def observing(tell: Callable[[Plan], Any]) -> AbstractContextManager[None]:
    """Call ``tell(plan)`` for each kernel called within a ``with`` block, in this thread or task only."""
    return using(_Observed(active(), tell))


class Made(Protocol):
    """What computes a row that is in no table: one made from a user's function (see `jit`)."""

    native: str  #: the native kernel that goes through the arrays
    program: Any  #: what is computed: a `jit.program.Program`
    arrays: int  #: how many of the call's arrays it goes through, the first ones

    def reference(self, *inputs: Any, **params: Any) -> Any:
        """In NumPy, as a function of `reference`."""
        ...

    def address(self, real: str) -> int:
        """Where the compiled code for a stretch of numbers is, of this dtype."""
        ...


@dataclass(frozen=True, eq=False)
class Kernel:
    """One row of the table, or one `made` while the program runs. Calling it runs it on the active backend.

    sizes: the symbols a native kernel receives, in this order, before the whole-number parameters.
    ints, floats: the parameters, by name; an int parameter is one number or a tuple of them.
    derive: given the sizes bound so far and the parameters, adds the missing ones; raises `ShapeError`.
    scratch: bytes of working memory, (shared by all threads, and for each thread), from sizes and bytes of a real.
    tolerance: for float32 and float64, the largest error beside ``1 + |expected|`` that a backend may show.
    samples: sizes and parameters with which tests and benchmarks call the kernel.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...] = ()
    sizes: tuple[str, ...] = ()
    ints: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    derive: Callable[[Dims, Mapping[str, Any]], None] | None = None
    scratch: Callable[[Dims, int], tuple[int, int]] | None = None
    tolerance: tuple[float, float] = (0.0, 0.0)
    samples: tuple[Mapping[str, Any], ...] = ()
    made: Made | None = None
    _plans: dict[Any, Plan] = field(default_factory=dict, repr=False)

    def __call__(self, *inputs: Array | None, out: Target | tuple[Target, ...] = None, **params: Any) -> Any:
        """Run the kernel; an output left out (False) is returned as None.

        out: one target for each output (for one output, the target itself); see `Target`.
        Returns the output, a tuple where the row has several, None where it has none.
        """
        key = (*[None if a is None else (a.shape, a.dtype) for a in inputs], *params.items())
        plan = self._plans.get(key)
        if plan is None:
            plan = self._remember(key, self.plan(inputs, params))
        targets = out if len(self.outputs) > 1 and out is not None else (out,) * len(self.outputs)
        if not isinstance(targets, tuple | list) or len(targets) != len(self.outputs):
            raise TypeError(f"{self.name}: out has one target for each of {len(self.outputs)} outputs, got {out!r}")
        backend = active() if type(inputs[0]) is _HOST else _backend_for(inputs[0])
        try:
            results = backend.run(plan, inputs, params, targets)  # type: ignore[arg-type]
        except TypeError:
            self._check_places(inputs)
            raise
        return results if len(results) > 1 else results[0] if results else None

    def _remember(self, key: Any, plan: Plan) -> Plan:
        if len(self._plans) >= _PLANS_PER_KERNEL:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def plan(self, inputs: Sequence[Array | None], params: Mapping[str, Any]) -> Plan:
        """Check shapes, dtypes and parameters against the row and bind every size."""
        self._check_call(inputs, params)
        dims: Dims = {}
        real = ""
        for arg, value in zip(self.inputs, inputs, strict=True):
            if value is None:
                continue
            real = self._check_dtype(arg, value, real)
            self._bind(arg, value.shape, dims)
        ints = _flatten(params[name] for name in self.ints)
        if self.derive is not None:
            self.derive(dims, params)
        shapes = tuple(self._shape(arg, inputs, dims) for arg in self.outputs)
        dtypes = tuple(self._dtype(arg, inputs, real) for arg in self.outputs)
        floats = tuple(float(params[name]) for name in self.floats)
        return Plan(self, dims, real or "float32", ints, floats, shapes, dtypes)

    def _check_places(self, inputs: Sequence[Any]) -> None:
        """Raise a TypeError that names the argument unless all arrays are where the first one is."""
        first = device_backend(inputs[0])
        for arg, value in zip(self.inputs, inputs, strict=True):
            if value is not None and not arg.host and device_backend(value) is not first:
                found = [("cpu" if a is None else a.name) for a in (first, device_backend(value))]
                raise TypeError(
                    f"{self.name}: {self.inputs[0].name} is on {found[0]}, {arg.name} on {found[1]}; "
                    "model.to(device) and to_device(array, device) move them"
                )

    def _check_call(self, inputs: Sequence[Array | None], params: Mapping[str, Any]) -> None:
        if len(inputs) != len(self.inputs) or set(params) != {*self.ints, *self.floats}:
            names = [arg.name for arg in self.inputs] + [f"{name}=" for name in (*self.ints, *self.floats)]
            raise TypeError(f"{self.name} takes ({', '.join(names)}), got {len(inputs)} arrays and {sorted(params)}")
        for arg, value in zip(self.inputs, inputs, strict=True):
            if value is None and not arg.optional:
                raise TypeError(f"{self.name}: {arg.name} is missing")

    def _check_dtype(self, arg: Arg, value: Array, real: str) -> str:
        found: str = value.dtype.name
        if not value.dtype.isnative:
            raise DTypeError(f"{self.name}: {arg.name} has foreign byte order ({value.dtype.str})")
        if arg.dtype == "any":
            if value.dtype.kind not in "biufc":
                raise DTypeError(f"{self.name}: expected {arg.name} to hold numbers, got {found}")
            return real
        if arg.dtype != "real":
            if found != arg.dtype:
                raise DTypeError(f"{self.name}: expected {arg.name} as {arg.dtype}, got {found}")
            return real
        if found not in REAL:
            raise DTypeError(f"{self.name}: expected {arg.name} as float32 or float64, got {found}")
        if real and found != real:
            raise DTypeError(f"{self.name}: {arg.name} is {found}, but the arrays before it are {real}")
        return found

    def _bind(self, arg: Arg, shape: tuple[int, ...], dims: Dims) -> None:
        fixed = arg.dims[:-1] if arg.dims[-1:] == ("*",) else arg.dims
        fits = len(shape) == len(arg.dims) or (fixed is not arg.dims and len(shape) >= len(fixed))
        if fits:
            for symbol, size in zip(fixed, shape, strict=False):
                if (symbol if isinstance(symbol, int) else dims.setdefault(symbol, size)) != size:
                    fits = False
            if fixed is not arg.dims:
                rest = shape[len(fixed) :]  # the same in all arrays that have further dimensions
                sizes = {"*": int(np.prod(rest, dtype=np.int64)), "*dims": len(rest)}
                for symbol, size in (*sizes.items(), *((f"*{i}", n) for i, n in enumerate(rest))):
                    fits = fits and dims.setdefault(symbol, size) == size
        if not fits:
            wanted = ", ".join(f"{d}={dims[d]}" if isinstance(d, str) and d in dims else str(d) for d in arg.dims)
            raise ShapeError(f"{self.name}: expected {arg.name} of shape ({wanted}), got {shape}")

    def _shape(self, arg: Arg, inputs: Sequence[Array | None], dims: Dims) -> tuple[int, ...]:
        shape = [d if isinstance(d, int) else dims[d] for d in arg.dims if d != "*"]
        if arg.dims[-1:] == ("*",):  # the further dimensions are those of the first input
            source = self.inputs[0]
            assert inputs[0] is not None
            shape += inputs[0].shape[len(source.dims) - 1 :]
        return tuple(shape)

    def _dtype(self, arg: Arg, inputs: Sequence[Array | None], real: str) -> str:
        if arg.dtype == "any":
            assert inputs[0] is not None
            return str(inputs[0].dtype.name)
        return real if arg.dtype == "real" else arg.dtype


def _flatten(values: Iterator[Any]) -> tuple[int, ...]:
    flat: list[int] = []
    for value in values:
        flat.extend(value if isinstance(value, tuple) else (value,))
    return tuple(int(v) for v in flat)
