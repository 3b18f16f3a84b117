"""Losses that compare number by number, those that are given number by number, the count of right signs, an L2 penalty,
and a loss by a factor."""

from __future__ import annotations

from typing import Any

from ..kernel import Dims, Kernel, array
from .shared import ELEMENTWISE, PARTS, positive, zeros_and_ones


def partial_sums(d: Dims, real: int) -> tuple[int, int]:
    """Bytes for these, what they are scaled by, and which function it is."""
    return 8 * (PARTS + 2), 0


LOSS = (array("loss", "1", dtype="float64", adds=True), array("dscores", "N *", optional=True))
COMPARED = (
    array("scores", "N *"),
    array("target", "N *"),
    array("sample_weight", "N", optional=True, values=positive),
)


def compared(**more: Any) -> tuple[dict[str, Any], ...]:
    """Samples of a row of losses: means and sums."""
    shapes = ((1, ()), (17, (1,)), (5, (3, 7)), (3, (2, 3, 5)), (0, (4,)), (300, (131,)))
    return tuple({"N": N, "shape": shape, "mean": len(shape) != 3, **more} for N, shape in shapes)


ROWS = (
    Kernel(
        "mse",
        inputs=COMPARED,
        outputs=LOSS,
        sizes=("N", "*"),
        ints=("mean",),
        floats=("factor",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=compared(factor=0.5),
    ),
    Kernel(
        "l1",
        inputs=COMPARED,
        outputs=LOSS,
        sizes=("N", "*"),
        ints=("mean",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=compared(),
    ),
    Kernel(
        "huber",
        inputs=COMPARED,
        outputs=LOSS,
        sizes=("N", "*"),
        ints=("mean",),
        floats=("delta",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=compared(delta=0.7),
    ),
    Kernel(
        "bce_with_logits",
        inputs=(
            array("scores", "N D"),
            array("target", "N D", values=zeros_and_ones),
            array("sample_weight", "N", optional=True, values=positive),
            array("weight", "D", optional=True, values=positive),
            array("pos_weight", "D", optional=True, values=positive),
        ),
        outputs=(array("loss", "1", dtype="float64", adds=True), array("dscores", "N D", optional=True)),
        sizes=("N", "D"),
        ints=("mean",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=tuple(
            {"N": N, "D": D, "mean": D != 21} for N, D in ((1, 1), (17, 1), (5, 21), (3, 30), (0, 4), (300, 131))
        ),
    ),
    Kernel(
        "reduced",
        inputs=(array("losses", "N *"), array("dlosses", "N *"), COMPARED[2]),
        outputs=LOSS,
        sizes=("N", "*"),
        ints=("mean",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=compared(),
    ),
    Kernel(
        "count_signs",
        inputs=(
            array("scores", "N *"),
            array("target", "N *", values=zeros_and_ones),
            array("among", "N", dtype="bool", optional=True),
        ),
        outputs=(array("count", "1", dtype="int64", adds=True), array("right", "N", dtype="bool", optional=True)),
        sizes=("N", "*"),
        samples=compared(),
    ),
    Kernel(
        "l2_penalty",
        inputs=(array("param", "n"),),
        outputs=(
            array("loss", "1", dtype="float64", adds=True, optional=True),
            array("dparam", "n", adds=True, optional=True),
        ),
        sizes=("n",),
        floats=("factor",),
        scratch=partial_sums,
        tolerance=(1e-6, 1e-14),
        samples=tuple({"n": n, "factor": f} for n, f in ((1, 1.0), (37, 0.25), (40000, 1e-4), (0, 1.0))),
    ),
    Kernel(
        "scale",
        inputs=(array("x", "*"),),
        outputs=(array("y", "*", adds=True),),
        sizes=("*",),
        floats=("factor",),
        tolerance=(1e-6, 1e-15),
        samples=tuple({**s, "factor": 0.3} for s in ELEMENTWISE),
    ),
)
