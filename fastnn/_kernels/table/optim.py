"""Updates."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import numbers

ROWS = (
    Kernel(
        "sgd",
        inputs=(
            array("param", "n", inout=True),
            array("grad", "n"),
            array("buffer", "n", inout=True, optional=True),
            array("hyper", "6", dtype="float64", values=numbers(0.1, 0.9, 0.25, 0.01, 0, 0)),
            array("steps", "T", dtype="int64", inout=True, values=numbers(3, dtype="int64")),
        ),
        sizes=("n", "T"),
        tolerance=(1e-6, 1e-15),
        samples=tuple({"n": n, "T": t} for n, t in ((1, 1), (37, 2), (40000, 3), (0, 1))),
    ),
)
