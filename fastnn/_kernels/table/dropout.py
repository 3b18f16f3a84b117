"""Dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kernel import Dims, Kernel, array, image
from .shared import ELEMENTWISE


def _probability(d: Dims, p: Mapping[str, Any]) -> None:
    if not 0 <= p["p"] <= 1:
        raise ValueError(f"expected p from 0 to 1, got {p['p']}")


def _dropout_scratch(d: Dims, real: int) -> tuple[int, int]:
    """The random words of 16 channels of an image: channel by channel, and pixel by pixel."""
    return 0, 4 * (2 * 16 * (d["*2"] * d["*3"] + 1) + 144) if d["*dims"] == 4 else 0


ROWS = (
    Kernel(
        "next_key",
        inputs=(array("state", "3", dtype="uint64", inout=True, host=True),),
        outputs=(array("key", "3", dtype="uint64"),),
        samples=({},),
    ),
    Kernel(
        "dropout",
        inputs=(array("x", "*"), array("key", "3", dtype="uint64", host=True)),
        outputs=(array("y", "*"),),
        sizes=("*",),
        floats=("p",),
        derive=_probability,
        scratch=_dropout_scratch,
        tolerance=(1e-6, 1e-15),
        samples=(*({**s, "p": 0.5} for s in ELEMENTWISE), {"shape": (9, 5), "p": 1.0}),
    ),
    Kernel(
        "dropout2d",
        inputs=(image("x", "N C H W"), array("key", "3", dtype="uint64", host=True)),
        outputs=(image("y", "N C H W"),),
        sizes=("N", "C", "H", "W"),
        floats=("p",),
        derive=_probability,
        scratch=lambda d, real: (0, 4 * (d["C"] + 144)),
        tolerance=(1e-6, 1e-15),
        samples=tuple(
            {"N": n, "C": c, "H": h, "W": w, "p": p}
            for n, c, h, w, p in ((1, 1, 1, 1, 0.5), (3, 5, 4, 3, 0.5), (2, 37, 3, 2, 0.25), (0, 2, 3, 4, 0.5))
        ),
    ),
)
