"""Batch and layer normalisation."""

from __future__ import annotations

from ..kernel import Dims, Kernel, array, image
from .shared import PARTS, numbers, positive

PARTED_ROWS = 512  #: from how many on rows are cut into parts; these are constants of native/norm.pxi
LAYER_ROWS = 16


def _sums(d: Dims, count: int) -> int:
    """Bytes of so many sums over the rows of each column, for each part."""
    parts = PARTS if d["N"] * d["H"] * d["W"] >= PARTED_ROWS else 1
    return 8 * count * parts * d["C"]


def _layer_sums(d: Dims, real: int) -> tuple[int, int]:
    return 16 * max(1, min(PARTS, d["N"] // LAYER_ROWS)) * d["D"], 0


_BATCH = tuple(
    {"N": n, "C": c, "H": h, "W": w}
    for n, c, h, w in ((2, 1, 1, 1), (3, 5, 2, 3), (7, 67, 1, 1), (130, 16, 2, 2), (4, 9, 16, 17), (0, 3, 2, 2))
)
_LAYER = tuple({"N": n, "D": d} for n, d in ((1, 1), (3, 5), (7, 33), (40, 64), (5, 130), (0, 4)))

ROWS = (
    Kernel(
        "batch_norm_statistics",
        inputs=(image("x", "N C H W"),),
        outputs=(array("mean", "C"), array("var", "C")),
        sizes=("N", "C", "H", "W"),
        scratch=lambda d, real: (_sums(d, 3), 0),
        tolerance=(1e-6, 1e-14),
        samples=_BATCH,
    ),
    Kernel(
        "batch_norm_update",
        inputs=(
            array("running_mean", "C", inout=True),
            array("running_var", "C", inout=True, values=positive),
            array("batches", "1", dtype="int64", inout=True, values=numbers(3, dtype="int64")),
            array("mean", "C"),
            array("var", "C", values=positive),
        ),
        sizes=("C",),
        ints=("count", "biased", "cumulative"),
        floats=("momentum",),
        tolerance=(1e-6, 1e-15),
        samples=tuple(
            {"C": c, "count": n, "biased": b, "cumulative": u, "momentum": 0.1}
            for c, n, b, u in ((1, 2, False, False), (37, 5, True, False), (16, 640, False, True), (3, 0, False, True))
        ),
    ),
    Kernel(
        "batch_norm",
        inputs=(
            image("x", "N C H W"),
            array("weight", "C", optional=True),
            array("bias", "C", optional=True),
            array("mean", "C"),
            array("var", "C", values=positive),
        ),
        outputs=(image("y", "N C H W"),),
        sizes=("N", "C", "H", "W"),
        ints=("relu",),
        floats=("eps",),
        scratch=lambda d, real: (2 * real * d["C"], 0),
        tolerance=(1e-6, 1e-14),
        samples=tuple({**s, "relu": relu, "eps": 1e-5} for s in _BATCH for relu in (False, True)),
    ),
    Kernel(
        "batch_norm_backward",
        inputs=(
            image("dy", "N C H W"),
            image("x", "N C H W"),
            array("weight", "C", optional=True),
            array("bias", "C", optional=True),
            array("mean", "C"),
            array("var", "C", values=positive),
        ),
        outputs=(
            image("dx", "N C H W", optional=True),
            array("dweight", "C", optional=True, adds=True),
            array("dbias", "C", optional=True, adds=True),
        ),
        sizes=("N", "C", "H", "W"),
        ints=("relu", "train"),
        floats=("eps",),
        scratch=lambda d, real: (4 * real * d["C"] + _sums(d, 2), 0),
        tolerance=(1e-5, 1e-13),
        samples=tuple(
            {**s, "relu": relu, "train": train, "eps": 1e-5}
            for s in _BATCH
            for relu, train in ((False, True), (True, True), (True, False))
        ),
    ),
    Kernel(
        "layer_norm",
        inputs=(array("x", "N D"), array("weight", "D", optional=True), array("bias", "D", optional=True)),
        outputs=(array("y", "N D"), array("mean", "N"), array("rstd", "N")),
        sizes=("N", "D"),
        floats=("eps",),
        tolerance=(1e-5, 1e-13),
        samples=tuple({**s, "eps": 1e-5} for s in _LAYER),
    ),
    Kernel(
        "layer_norm_backward",
        inputs=(
            array("dy", "N D"),
            array("x", "N D"),
            array("weight", "D", optional=True),
            array("mean", "N"),
            array("rstd", "N", values=positive),
        ),
        outputs=(
            array("dx", "N D", optional=True),
            array("dweight", "D", optional=True, adds=True),
            array("dbias", "D", optional=True, adds=True),
        ),
        sizes=("N", "D"),
        scratch=_layer_sums,
        tolerance=(1e-5, 1e-13),
        samples=_LAYER,
    ),
)
