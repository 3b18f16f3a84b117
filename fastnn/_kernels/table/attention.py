"""Scaled dot-product attention, and the masks of sequences of several lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..kernel import Array, Dims, Kernel, array

KEYS = 64  #: of a block; as in native/attention.pxi


def _heads(d: Dims, p: Mapping[str, Any]) -> None:
    d["A"] = p["heads"]
    if d["A"] < 1 or d["E"] < 1 or d["E"] % d["A"]:
        raise ShapeError(f"attention: expected heads that divide E={d['E']}, got {d['A']}")


def _forward_scratch(d: Dims, real: int) -> tuple[int, int]:
    """Of a panel of queries, 256 bytes at most: queries and results, transposed; a block of scores; four rows."""
    return 0, 256 * (2 * (d["E"] // d["A"]) + KEYS + 4)


def _length(d: Dims, p: Mapping[str, Any]) -> None:
    d.setdefault("S", p["length"])
    if d["S"] != p["length"]:
        raise ShapeError(f"key_mask: expected padding of {p['length']} keys, got {d['S']}")


def _some_masked(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """Sequences of several lengths, the last one empty, with gaps."""
    lengths = rng.integers(0, shape[1] + 1, (shape[0], 1))
    lengths[-1:] = 0
    mask: Array = (np.arange(shape[1]) < lengths) & (rng.random(shape) < 0.8)
    return mask


def _any_length(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """Also such as are too short or too long."""
    return rng.integers(-1, d["S"] + 2, shape)


_Q = (array("q", "N T E"), array("key", "N S E"), array("value", "N S E"))
_MASK = array("mask", "N S", dtype="bool", optional=True, values=_some_masked)
_SAMPLES = tuple(
    {"N": n, "T": t, "S": s, "E": a * e, "A": a, "heads": a, "causal": causal}
    for n, t, s, a, e, causal in (
        (1, 1, 1, 1, 1, False),
        (2, 5, 7, 3, 5, False),
        (2, 70, 130, 2, 8, True),
        (3, 9, 66, 1, 33, False),
        (0, 4, 3, 2, 2, False),
        (2, 3, 0, 1, 2, True),
    )
)

ROWS = (
    Kernel(
        "attention",
        inputs=(*_Q, _MASK),
        outputs=(array("y", "N T E"), array("logsumexp", "N A T", optional=True)),
        sizes=("N", "T", "S", "E"),
        ints=("heads", "causal"),
        derive=_heads,
        scratch=_forward_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_SAMPLES,
    ),
    Kernel(
        "key_mask",
        inputs=(
            array("lengths", "N", dtype="int64", values=_any_length),
            array("padding", "N S", dtype="bool", optional=True),
        ),
        outputs=(array("mask", "N S", dtype="bool"),),
        sizes=("N", "S"),
        ints=("length",),
        derive=_length,
        samples=tuple({"N": n, "S": s, "length": s} for n, s in ((1, 1), (5, 37), (0, 4))),
    ),
)
