"""Attention in time that grows with the length of the sequence only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..kernel import Array, Dims, Kernel, array
from .attention import KEY, MASK, VALUE, Q, heads_divide

_CHUNK = 64  # as in native/linear_attention_of.h


def _alike(d: Dims, p: Mapping[str, Any]) -> None:
    heads_divide(d, p)
    if p["causal"] and d["T"] != d["S"]:
        raise ShapeError(f"linear_attention: causal, so expected as many keys as queries, {d['T']}, got {d['S']}")


def _scratch(d: Dims, real: int) -> tuple[int, int]:
    """Three matrices of a head's numbers by themselves, five chunks of them or of scores, and a few rows."""
    D = d["E"] // d["A"]
    return 0, real * (2 * D * (D + 1) + D * max(D, _CHUNK) + _CHUNK * (4 * D + _CHUNK + 1))


def _length(d: Dims, p: Mapping[str, Any]) -> None:
    if d.setdefault("S", p["length"]) != p["length"]:
        raise ShapeError(f"mix_steps: expected a mask of {p['length']} steps, got {d['S']}")
    _fits(d, p)


def _fits(d: Dims, p: Mapping[str, Any]) -> None:
    d.setdefault("M", p.get("max_length", 0))
    if d["S"] > d["M"]:
        raise ShapeError(f"mix_steps: expected at most {d['M']} steps, got {d['S']}")


def _sums(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """As large as for so many keys; of some queries, which have none, 0."""
    drawn: Array = np.where(rng.random(shape) < 0.1, 0, (d["S"] + 1) * rng.uniform(1, 3, shape))
    return drawn


_SAMPLES = tuple(
    {"N": n, "T": t, "S": s, "E": a * e, "A": a, "heads": a, "causal": causal}
    for n, t, s, a, e, causal in (
        (1, 1, 1, 1, 1, True),
        (2, 130, 130, 2, 9, True),
        (3, 9, 70, 2, 17, False),
        (0, 4, 3, 2, 2, False),
        (2, 3, 0, 1, 2, False),
    )
)
_HOW: dict[str, Any] = {
    "sizes": ("N", "T", "S", "E"),
    "ints": ("heads", "causal"),
    "derive": _alike,
    "scratch": _scratch,
    "samples": _SAMPLES,
}
_MIXED = tuple(
    {"N": n, "S": s, "E": e, "R": r, "M": m, "max_length": m}
    for n, s, e, r, m in ((1, 1, 1, 1, 1), (3, 70, 33, 5, 130), (2, 40, 66, 17, 40), (0, 4, 3, 2, 5), (2, 0, 3, 2, 5))
)
_WEIGHT = array("weight", "R M")

ROWS = (
    Kernel(
        "linear_attention",
        inputs=(Q, KEY, VALUE, MASK),
        outputs=(array("y", "N T E"), array("norm", "N A T", optional=True)),
        tolerance=(1e-5, 1e-13),
        **_HOW,
    ),
    Kernel(
        "linear_attention_backward",
        inputs=(array("dy", "N T E"), Q, KEY, VALUE, MASK, array("y", "N T E"), array("norm", "N A T", values=_sums)),
        outputs=(array("dq", "N T E"), array("dkey", "N S E"), array("dvalue", "N S E")),
        tolerance=(2e-5, 1e-13),
        **_HOW,
    ),
    Kernel(
        "mix_steps",
        inputs=(array("x", "N S E"), _WEIGHT, MASK),
        outputs=(array("y", "N R E"),),
        sizes=("N", "S", "E", "R", "M"),
        derive=_fits,
        tolerance=(1e-5, 1e-13),
        samples=_MIXED,
    ),
    Kernel(
        "mix_steps_backward_data",
        inputs=(array("dy", "N R E"), _WEIGHT, MASK),
        outputs=(array("dx", "N S E"),),
        sizes=("N", "S", "E", "R", "M"),
        ints=("length",),
        derive=_length,
        tolerance=(1e-5, 1e-13),
        samples=tuple({**s, "length": s["S"]} for s in _MIXED),
    ),
    Kernel(
        "mix_steps_backward_weights",
        inputs=(array("dy", "N R E"), array("x", "N S E"), MASK),
        outputs=(array("dweight", "R M", adds=True),),
        sizes=("N", "S", "E", "R", "M"),
        ints=("max_length",),
        derive=_fits,
        scratch=lambda d, real: (0, real * _CHUNK * d["E"]),
        tolerance=(1e-5, 1e-13),
        samples=_MIXED,
    ),
)
