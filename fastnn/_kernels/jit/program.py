"""A user's function of arrays and options, number by number: as a row that the backends compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..kernel import Array, Kernel, array
from .expression import Expression, evaluate


@dataclass(frozen=True, eq=False)
class Program:
    """What is computed of the numbers that stand at one place of several arrays.

    arrays: their names, in the order in which a call has them. options: names, in the order in which a call has their
    values; they are alike at all places. results: the number of an array that is written, and what.
    """

    name: str
    arrays: tuple[str, ...]
    options: tuple[str, ...]
    results: tuple[tuple[int, Expression], ...]

    def evaluate(self, arrays: Mapping[str, Array], options: Mapping[str, float]) -> list[Array]:
        """The results in NumPy, from the arrays that are read."""
        return evaluate([result for _, result in self.results], arrays, options)


class _Made:
    """Base of what computes a row: see `kernel.Made`."""

    native: str

    def __init__(self, program: Program) -> None:
        self.program, self.arrays = program, len(program.arrays)
        self._addresses: dict[str, int] = {}

    def address(self, real: str) -> int:
        """Where the compiled code is, which is made at the first call."""
        if real not in self._addresses:
            from .compile import address  # which brings Numba

            self._addresses[real] = address(self.program, real)
        return self._addresses[real]


class _Elementwise(_Made):
    native = "elementwise"

    def reference(self, *inputs: Any, **options: Any) -> Any:
        program = self.program
        names = program.arrays[len(program.results) :]
        found = program.evaluate(dict(zip(names, inputs, strict=True)), options)
        return tuple(found) if len(found) > 1 else found[0]


class _Update(_Made):
    native = "update"

    def reference(self, *inputs: Any, **params: Any) -> tuple[()]:
        *arrays, hyper, steps = inputs
        options = dict(zip(self.program.options, [*hyper.tolist(), float(steps[0]) + 1], strict=True))
        found = self.program.evaluate(dict(zip(self.program.arrays, arrays, strict=True)), options)
        for (i, _), value in zip(self.program.results, found, strict=True):
            arrays[i][...] = value
        steps += 1
        return ()


def elementwise_row(
    name: str, inputs: Sequence[str], outputs: Mapping[str, Expression], options: Sequence[str]
) -> Kernel:
    """Arrays of any one shape; the options are the call's."""
    results = tuple(enumerate(outputs.values()))
    program = Program(name, (*outputs, *inputs), tuple(options), results)
    return Kernel(
        f"elementwise {name}",
        inputs=tuple(array(arg, "*") for arg in inputs),
        outputs=tuple(array(arg, "*") for arg in outputs),
        sizes=("*",),
        floats=tuple(options),
        made=_Elementwise(program),
    )


def update_row(
    name: str, arrays: Sequence[str], results: Sequence[Expression], options: Sequence[str], step: str
) -> Kernel:
    """An optimizer's update of a parameter, the first array, from its gradient, the second, and state, the others.

    results: the new parameter and state. step: as what the number of the update, from 1, is known. In a call, `hyper`
    has the options, as float64.
    """
    written = (0, *range(2, len(arrays)))
    program = Program(name, tuple(arrays), (*options, step), tuple(zip(written, results, strict=True)))
    return Kernel(
        f"update {name}",
        inputs=(
            *(array(arg, "n", inout=i in written) for i, arg in enumerate(arrays)),
            array("hyper", "H", dtype="float64", host=True),
            array("steps", "T", dtype="int64", inout=True, host=True),
        ),
        sizes=("n", "T", "H"),
        made=_Update(program),
    )
