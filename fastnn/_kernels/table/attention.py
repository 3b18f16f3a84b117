"""Scaled dot-product attention, and what sequences of several lengths need beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..kernel import Arg, Array, Dims, Kernel, array

_KEYS, _QUERIES = 64, 64  # of a block and of a panel, at most; as in native/attention.pxi


def heads_divide(d: Dims, p: Mapping[str, Any]) -> None:
    d["A"] = p["heads"]
    if d["A"] < 1 or d["E"] < 1 or d["E"] % d["A"]:
        raise ShapeError(f"attention: expected heads that divide E={d['E']}, got {d['A']}")


def _dropping(d: Dims, p: Mapping[str, Any]) -> None:
    heads_divide(d, p)
    if not 0 <= p["p"] <= 1:
        raise ValueError(f"expected p from 0 to 1, got {p['p']}")


def _rows(own: int, blocks: int, dropout: bool) -> Any:
    """Scratch: rows of 256 bytes, per number of a head, per key of a block, and four; words of a block, twice."""
    words = 4 * (2 * _KEYS * _QUERIES + _KEYS + 160) * dropout
    return lambda d, real: (0, 256 * (own * (d["E"] // d["A"]) + blocks * _KEYS + 4) + words)


def _length(d: Dims, p: Mapping[str, Any]) -> None:
    if d.setdefault("S", p["length"]) != p["length"]:
        raise ShapeError(f"key_mask: expected padding of {p['length']} keys, got {d['S']}")


def _some_masked(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """Sequences of several lengths, the last one empty, with gaps."""
    lengths = rng.integers(0, shape[1] + 1, (shape[0], 1))
    lengths[-1:] = 0
    mask: Array = (np.arange(shape[1]) < lengths) & (rng.random(shape) < 0.8)
    return mask


def _any_length(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """Also such as are too short or too long."""
    return rng.integers(-1, d.get("S", d.get("T", 0)) + 2, shape)


def _logarithms(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """As they are for so many keys; of some queries, which have none, -inf."""
    drawn: Array = np.where(rng.random(shape) < 0.1, -np.inf, np.log(d["S"] + 1) + rng.uniform(0.5, 2, shape))
    return drawn


Q, KEY, VALUE = array("q", "N T E"), array("key", "N S E"), array("value", "N S E")
MASK = array("mask", "N S", dtype="bool", optional=True, values=_some_masked)
_LENGTHS = array("lengths", "N", dtype="int64", values=_any_length)
_SAMPLES = tuple(
    {"N": n, "T": t, "S": s, "E": a * e, "A": a, "heads": a, "causal": causal, "p": 0.3}
    for n, t, s, a, e, causal in (
        (1, 1, 1, 1, 1, False),
        (2, 70, 130, 2, 9, True),
        (3, 9, 66, 1, 33, False),
        (0, 4, 3, 2, 2, False),
        (2, 3, 0, 1, 2, True),
    )
)


def _pair(name: str, dropout: tuple[Arg, ...] = ()) -> list[Kernel]:
    """Attention and its gradients."""
    options: dict[str, Any] = {
        "sizes": ("N", "T", "S", "E"),
        "ints": ("heads", "causal"),
        "floats": ("p",) if dropout else (),
        "derive": _dropping if dropout else heads_divide,
        "samples": _SAMPLES[1:3] if dropout else _SAMPLES,
    }
    logsumexp = array("logsumexp", "N A T", optional=True, values=_logarithms)
    return [
        Kernel(
            name,
            inputs=(Q, KEY, VALUE, MASK, *dropout),
            outputs=(array("y", "N T E"), logsumexp),
            scratch=_rows(2, 1, bool(dropout)),
            tolerance=(1e-5, 1e-13),
            **options,
        ),
        Kernel(
            f"{name}_backward",
            inputs=(
                array("dy", "N T E"),
                Q,
                KEY,
                VALUE,
                MASK,
                array("y", "N T E"),
                replace(logsumexp, optional=False),
                *dropout,
            ),
            outputs=(array("dq", "N T E"), array("dkey", "N S E"), array("dvalue", "N S E")),
            scratch=_rows(3, 3, bool(dropout)),
            tolerance=(2e-5, 1e-13),
            **options,
        ),
    ]


ROWS = (
    *_pair("attention"),
    *_pair("attention_dropout", (array("dropout_key", "3", dtype="uint64", host=True),)),
    Kernel(
        "key_mask",
        inputs=(_LENGTHS, array("padding", "N S", dtype="bool", optional=True)),
        outputs=(array("mask", "N S", dtype="bool"),),
        sizes=("N", "S"),
        ints=("length",),
        derive=_length,
        samples=tuple({"N": n, "S": s, "length": s} for n, s in ((1, 1), (5, 37), (0, 4))),
    ),
    Kernel(
        "zero_padding",
        inputs=(array("x", "N T E"), _LENGTHS),
        outputs=(array("y", "N T E"),),
        sizes=("N", "T", "E"),
        samples=tuple({"N": n, "T": t, "E": e} for n, t, e in ((1, 1, 1), (5, 7, 33), (0, 4, 2))),
    ),
)
