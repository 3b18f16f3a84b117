"""Updates, and the options that a schedule moves from update to update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, array
from .shared import between, numbers

_SIZES = tuple({"n": n, "T": t} for n, t in ((1, 1), (37, 2), (40000, 3), (0, 1)))
_STEPS = array("steps", "T", dtype="int64", inout=True, host=True, values=numbers(3, dtype="int64"))
_SQUARES = between(1, 2)  # and means within ±½: a variance, their difference, is far from 0


def _fits(d: Dims, p: Mapping[str, Any]) -> None:
    if d["S"] < 1 or d["R"] > d["M"]:
        raise ShapeError(f"next_rates: expected steps of at most {d['M']} options, got {d['S']} of {d['R']}")


ROWS = (
    Kernel(
        "sgd",
        inputs=(
            array("param", "n", inout=True),
            array("grad", "n"),
            array("buffer", "n", inout=True, optional=True),
            array("hyper", "6", dtype="float64", host=True, values=numbers(0.1, 0.9, 0.25, 0.01, 0, 0)),
            _STEPS,
        ),
        sizes=("n", "T"),
        tolerance=(1e-6, 1e-15),
        samples=_SIZES,
    ),
    Kernel(
        "rmsprop",
        inputs=(
            array("param", "n", inout=True),
            array("grad", "n"),
            array("square_avg", "n", inout=True, values=_SQUARES),
            array("grad_avg", "n", inout=True, optional=True, values=between(-0.5, 0.5)),
            array("buffer", "n", inout=True, optional=True),
            array("hyper", "6", dtype="float64", host=True, values=numbers(0.01, 0.9, 0.99, 1e-8, 0.01, 0)),
            _STEPS,
        ),
        sizes=("n", "T"),
        tolerance=(1e-6, 1e-14),
        samples=_SIZES,
    ),
    Kernel(
        "adagrad",
        inputs=(
            array("param", "n", inout=True),
            array("grad", "n"),
            array("sum", "n", inout=True, values=_SQUARES),
            array("hyper", "5", dtype="float64", host=True, values=numbers(0.01, 0.1, 0.01, 1e-10, 0)),
            _STEPS,
        ),
        sizes=("n", "T"),
        tolerance=(1e-6, 1e-14),
        samples=_SIZES,
    ),
    Kernel(
        "adam",
        inputs=(
            array("param", "n", inout=True),
            array("grad", "n"),
            array("exp_avg", "n", inout=True),
            array("exp_avg_sq", "n", inout=True, values=_SQUARES),
            array("max_exp_avg_sq", "n", inout=True, optional=True, values=_SQUARES),
            array("hyper", "8", dtype="float64", host=True, values=numbers(0.001, 0.9, 0.999, 1e-8, 0.01, 0, 0, 1)),
            _STEPS,
        ),
        sizes=("n", "T"),
        tolerance=(1e-6, 1e-14),
        samples=_SIZES,
    ),
    Kernel(
        "next_rates",
        inputs=(
            array("plan", "S R", dtype="float64", host=True, values=between(0, 1)),
            array("position", "1", dtype="int64", inout=True, host=True, values=numbers(2, dtype="int64")),
            array("hyper", "M", dtype="float64", inout=True, host=True, values=between(0, 1)),
        ),
        sizes=("S", "R", "M"),
        derive=_fits,
        samples=tuple({"S": s, "R": r, "M": m} for s, r, m in ((1, 1, 1), (3, 1, 6), (7, 2, 8))),
    ),
)
