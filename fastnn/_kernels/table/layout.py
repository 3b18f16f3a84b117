"""Copies: rows of a data set, and an array from one order in memory to another."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import ELEMENTWISE, below

ROWS = (
    Kernel(
        "gather_rows",
        inputs=(array("x", "M *", dtype="any"), array("index", "B", dtype="int64", values=below("M"))),
        outputs=(array("y", "B *", dtype="any"),),
        sizes=("M", "B", "*"),
        samples=tuple(
            {"M": m, "B": b, "shape": s} for m, b, s in ((5, 3, (4,)), (9, 20, (3, 4, 5)), (4, 0, (2,)), (6, 2, ()))
        ),
    ),
    Kernel(
        "copy",
        inputs=(array("x", "*", dtype="any"),),
        outputs=(array("y", "*", dtype="any"),),
        sizes=("*",),
        ints=("channels_last",),
        samples=(
            *({**s, "channels_last": False} for s in ELEMENTWISE),
            {"shape": (3, 5, 7, 9), "channels_last": True},
        ),
    ),
)
