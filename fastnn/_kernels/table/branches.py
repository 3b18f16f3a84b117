"""What graphs that are not chains need: sums of branches, and branches side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, array
from .shared import ELEMENTWISE

_WIDTHS = ("K0", "K1", "K2", "K3")


def _concatenated(d: Dims, p: Mapping[str, Any]) -> None:
    d["K"] = sum(d.setdefault(width, 0) for width in _WIDTHS)


def _part(d: Dims, p: Mapping[str, Any]) -> None:
    d["B"] = p["count"]
    if min(p["start"], d["B"]) < 0 or p["start"] + d["B"] > d["K"]:
        raise ShapeError(f"columns: {d['B']} columns from {p['start']} on are not in x of {d['K']} columns")


ROWS = (
    Kernel(
        "add",
        inputs=(array("a", "*"), array("b", "*")),
        outputs=(array("y", "*"),),
        sizes=("*",),
        ints=("relu",),
        samples=tuple({**s, "relu": len(s["shape"]) % 2 == 0} for s in ELEMENTWISE),
    ),
    Kernel(
        "concatenate",
        inputs=tuple(array(f"x{i}", f"R {width}", optional=i > 0) for i, width in enumerate(_WIDTHS)),
        outputs=(array("y", "R K"),),
        sizes=("R", *_WIDTHS),
        derive=_concatenated,
        samples=tuple(
            {"R": r, **dict(zip(_WIDTHS, widths, strict=True)), "K": sum(widths)}
            for r, widths in (
                (1, (1, 2, 3, 1)),
                (9, (16, 5, 33, 2)),
                (300, (64, 32, 17, 48)),
                (4, (3, 0, 0, 7)),
                (0, (1, 2, 3, 4)),
            )
        ),
    ),
    Kernel(
        "columns",
        inputs=(array("x", "R K"),),
        outputs=(array("y", "R B"),),
        sizes=("R", "K"),
        ints=("start", "count"),
        derive=_part,
        samples=tuple(
            {"R": r, "K": k, "B": b, "start": start, "count": b}
            for r, k, start, b in ((1, 3, 1, 2), (9, 56, 16, 33), (300, 161, 64, 32), (4, 5, 5, 0), (0, 5, 1, 2))
        ),
    ),
)
