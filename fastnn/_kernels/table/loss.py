"""Softmax, losses, and the count of right answers."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import SCORES, below, classes

ROWS = (
    Kernel(
        "softmax",
        inputs=(array("scores", "N K"),),
        outputs=(array("probabilities", "N K"),),
        sizes=("N", "K"),
        derive=classes,
        tolerance=(1e-6, 1e-14),
        samples=SCORES,
    ),
    Kernel(
        "cross_entropy",
        inputs=(array("scores", "N K"), array("labels", "N", dtype="int64", values=below("K"))),
        outputs=(array("loss", "1", dtype="float64", adds=True), array("dscores", "N K", optional=True)),
        sizes=("N", "K"),
        ints=("mean",),
        derive=classes,
        scratch=lambda d, real: (8 * d["N"], 0),
        tolerance=(1e-6, 1e-14),
        samples=tuple({**s, "mean": m} for s in SCORES for m in (True, False)),
    ),
    Kernel(
        "count_correct",
        inputs=(array("scores", "N K"), array("labels", "N", dtype="int64", values=below("K"))),
        outputs=(array("count", "1", dtype="int64", adds=True),),
        sizes=("N", "K"),
        derive=classes,
        samples=SCORES,
    ),
)
