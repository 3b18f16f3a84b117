"""The native backend: Cython kernels, compiled once for each instruction set, on one thread pool."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..kernel import Array, Plan, Target
from . import _runtime

ISAS = ("base", "avx2", "avx512")


def choose_isa(wanted: str | None = None) -> str:
    """The instruction set to use: the widest that this processor runs, or the one that FASTNN_ISA names."""
    runnable: list[str] = _runtime.runnable()
    wanted = wanted or os.environ.get("FASTNN_ISA")
    if not wanted:
        return runnable[-1]
    if wanted not in ISAS:
        raise ValueError(f"FASTNN_ISA: expected one of {', '.join(ISAS)}, got {wanted!r}")
    if wanted not in runnable:
        raise RuntimeError(f"FASTNN_ISA={wanted}: this processor runs only {', '.join(runnable)}")
    return wanted


class NativeBackend:
    """Runs planned calls on the compiled kernels of one instruction set."""

    name = "native"
    Record = _runtime.Record

    def __init__(self, isa: str) -> None:
        self.isa = isa
        table = importlib.import_module(f"{__name__}._{isa}")
        table.connect(_runtime.pool_address())
        self.macros: list[str] = table.macros()
        self._kernels: dict[str, tuple[int, int]] = table.kernels()

    def run(
        self, plan: Plan, inputs: Sequence[Array | None], params: Mapping[str, Any], out: Sequence[Target]
    ) -> tuple[Array | None, ...]:
        """Compute one call; arrays that are not laid out as the row says are copied first, by a kernel."""
        bound = plan.bound.get(self.isa)
        if bound is None:
            bound = plan.bound[self.isa] = self._bind(plan)
        results: tuple[Array | None, ...] = bound.run(inputs, out)
        return results

    def _bind(self, plan: Plan) -> Any:
        wide, name, made = plan.real == "float64", plan.kernel.name, plan.kernel.made
        if made is not None:  # see custom.pxi
            name, plan = made.native, replace(plan, ints=(*plan.ints, made.address(plan.real), made.arrays))
        scratch = (0, 0) if plan.kernel.scratch is None else plan.kernel.scratch(plan.dims, 8 if wide else 4)
        return _runtime.Bound(self._kernels[name][wide], self._kernels["copy"][0], plan, scratch)


__all__ = ["ISAS", "NativeBackend", "_runtime", "choose_isa"]
