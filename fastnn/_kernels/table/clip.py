"""Clipping of gradients, by their norm and by value."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import PARTS, between, numbers

_SIZES = (1, 37, 40000, 200_001, 0)

ROWS = (
    Kernel(
        "power_sum",
        inputs=(
            array("x", "n"),
            array("before", "1", dtype="float64", optional=True, values=between(1, 2)),
        ),
        outputs=(array("total", "1", dtype="float64"),),
        sizes=("n",),
        floats=("norm_type",),
        scratch=lambda d, real: (8 * PARTS, 0),
        tolerance=(1e-13, 1e-13),
        samples=(
            *({"n": n, "norm_type": 2.0} for n in _SIZES),
            *({"n": 37, "norm_type": p} for p in (1.0, 3.0, float("inf"))),
        ),
    ),
    Kernel(
        "clip_scale",
        inputs=(array("total", "1", dtype="float64", values=between(1, 2)),),
        outputs=(array("norm", "1", dtype="float64"), array("scale", "1", dtype="float64")),
        floats=("norm_type", "max_norm"),
        tolerance=(1e-15, 1e-15),
        samples=tuple(
            {"norm_type": p, "max_norm": m} for p, m in ((2.0, 0.5), (2.0, 3.0), (3.0, 0.1), (float("inf"), 0.5))
        ),
    ),
    Kernel(
        "clip_by_scale",
        inputs=(array("grad", "n", inout=True), array("scale", "1", dtype="float64", values=numbers(0.3))),
        sizes=("n",),
        tolerance=(1e-6, 1e-15),
        samples=tuple({"n": n} for n in _SIZES),
    ),
    Kernel(
        "clip_by_value",
        inputs=(array("grad", "n", inout=True),),
        sizes=("n",),
        floats=("limit",),
        samples=tuple({"n": n, "limit": 0.5} for n in _SIZES),
    ),
)
