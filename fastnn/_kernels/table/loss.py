"""Losses of rows of scores, softmax, and the counts of right answers.

Rows of losses take `mean`, 0 for a sum, and `positions`: how many neighbouring rows belong to one sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, array
from .shared import SCORES, below, classes, positive, probabilities


def samples_of(d: Dims, p: Mapping[str, Any]) -> None:
    classes(d, p)
    count = d["N"] // p["positions"]
    if d["N"] % p["positions"] or d.setdefault("S", count) != count:
        got = f"N={d['N']} and S={d.get('S', count)}"
        raise ShapeError(f"expected N scores and S samples with N = {p['positions']} · S, got {got}")


def loss_of_each_row(d: Dims, real: int) -> tuple[int, int]:
    """Bytes for these, and for what they are scaled by."""
    return 8 * (d["N"] + 1), 0


LABELS = array("labels", "N", dtype="int64", values=below("K"))
LOSS = (array("loss", "1", dtype="float64", adds=True), array("dscores", "N K", optional=True))
WEIGHTS = (
    array("sample_weight", "S", optional=True, values=positive),
    array("weight", "K", optional=True, values=positive),
)
AMONG = array("among", "S", dtype="bool", optional=True)
COUNT = (array("count", "1", dtype="int64", adds=True), array("right", "S", dtype="bool", optional=True))


def scored(
    N: int, K: int, positions: int = 1, ignore_index: int = -100, mean: bool = True, **more: Any
) -> dict[str, Any]:
    """A sample of a row of losses."""
    sizes = {"N": N, "K": K, "S": N // positions}
    return {**sizes, "positions": positions, "ignore_index": ignore_index, "mean": mean, **more}


LABELLED = (
    scored(1, 1),
    scored(3, 2, mean=False),
    scored(32, 10, ignore_index=3),
    scored(7, 17),
    scored(0, 5),
    scored(300, 33, mean=False),
    scored(12, 4, positions=3, ignore_index=2),
)

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
        inputs=(array("scores", "N K"), LABELS, *WEIGHTS),
        outputs=LOSS,
        sizes=("N", "K"),
        ints=("mean", "positions", "ignore_index"),
        floats=("label_smoothing",),
        derive=samples_of,
        scratch=loss_of_each_row,
        tolerance=(1e-6, 1e-14),
        samples=(
            *({**s, "label_smoothing": 0.0} for s in LABELLED),
            *({**s, "label_smoothing": 0.2} for s in (LABELLED[2], LABELLED[3], LABELLED[6])),
        ),
    ),
    Kernel(
        "soft_cross_entropy",
        inputs=(array("scores", "N K"), array("target", "N K", values=probabilities), *WEIGHTS),
        outputs=LOSS,
        sizes=("N", "K"),
        ints=("mean", "positions"),
        floats=("label_smoothing",),
        derive=samples_of,
        scratch=loss_of_each_row,
        tolerance=(2e-6, 1e-14),
        samples=tuple({**s, "label_smoothing": 0.1 * (s["N"] % 2)} for s in LABELLED),
    ),
    Kernel(
        "nll",
        inputs=(array("log_probabilities", "N K"), LABELS, *WEIGHTS),
        outputs=LOSS,
        sizes=("N", "K"),
        ints=("mean", "positions", "ignore_index"),
        derive=samples_of,
        scratch=loss_of_each_row,
        tolerance=(1e-6, 1e-14),
        samples=LABELLED,
    ),
    Kernel(
        "multi_margin",
        inputs=(array("scores", "N K"), LABELS, *WEIGHTS),
        outputs=LOSS,
        sizes=("N", "K"),
        ints=("mean", "positions", "class_mean", "p"),
        floats=("margin",),
        derive=samples_of,
        scratch=loss_of_each_row,
        tolerance=(2e-6, 1e-14),
        samples=tuple({**s, "class_mean": s["N"] > 3, "p": 1 + s["N"] % 2, "margin": 1.0} for s in LABELLED),
    ),
    Kernel(
        "count_correct",
        inputs=(array("scores", "N K"), LABELS, AMONG),
        outputs=COUNT,
        sizes=("N", "K"),
        ints=("positions", "ignore_index"),
        derive=samples_of,
        samples=LABELLED,
    ),
    Kernel(
        "count_agreeing",
        inputs=(array("scores", "N K"), array("target", "N K", values=probabilities), AMONG),
        outputs=COUNT,
        sizes=("N", "K"),
        ints=("positions",),
        derive=samples_of,
        samples=LABELLED,
    ),
)
