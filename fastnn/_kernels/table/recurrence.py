"""Recurrent layers, one direction of one layer: all steps of it, between the products with inputs and with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..kernel import Array, Dims, Kernel, array
from .shared import between, rounded

#: What `cell` numbers, and how many numbers a hidden unit of each has: in its gates, in its state, and for the backward
#: pass, where an Elman cell has its y, a GRU r, z, n and W_hn h + b_hn, an LSTM i, f, g, o, the old c and tanh(c).
CELLS = {"tanh": (1, 1, 1), "relu": (1, 1, 1), "identity": (1, 1, 1), "gru": (3, 1, 4), "lstm": (4, 2, 6)}
_NAMES = tuple(CELLS)


def _sizes(d: Dims, p: Mapping[str, Any]) -> None:
    """N, T, and the widths G of gates, S of states and K of what is kept."""
    if not 0 <= p["cell"] < len(CELLS):
        raise ShapeError(f"recurrence: expected a cell from 0 to {len(CELLS) - 1}, got {p['cell']}")
    d["T"], N = (d["B"], d["A"]) if p["batch_first"] else (d["A"], d["B"])
    found = {"N": N, **{symbol: n * d["H"] for symbol, n in zip("GSK", CELLS[_NAMES[p["cell"]]], strict=True)}}
    for symbol, size in found.items():
        if d.setdefault(symbol, size) != size:
            raise ShapeError(f"recurrence: expected {symbol}={size} for {_NAMES[p['cell']]}, got {symbol}={d[symbol]}")


def _scratch(d: Dims, real: int) -> tuple[int, int]:
    """The packed weights, the sequences by length, and where each length begins; of each thread, a block of rows."""
    shared = rounded(d["G"] * d["H"] * real) + 8 * (2 * d["N"] + d["T"] + 2)
    return shared, rounded(block_rows(d["N"]) * d["S"] * real) + block_rows(d["N"]) * d["G"] * real


def block_rows(N: int) -> int:
    """How many sequences a task has, at most; as in native/recurrence_of.h."""
    return N if N < 16 else -(-N // (2 * -(-N // 64)))


def _lengths(rng: np.random.Generator, shape: tuple[int, ...], d: Mapping[str, int]) -> Array:
    """Any, some of them beyond what there is."""
    drawn: Array = rng.integers(-1, d["A"] * d["B"] // max(1, d["N"]) + 2, shape)
    return drawn


def _sample(T: int, N: int, H: int, cell: str, batch_first: bool, reverse: bool) -> dict[str, Any]:
    gates, states, kept = CELLS[cell]
    A, B = (N, T) if batch_first else (T, N)
    widths = {"H": H, "G": gates * H, "S": states * H, "K": kept * H}
    return {
        "A": A,
        "B": B,
        "N": N,
        **widths,
        "cell": _NAMES.index(cell),
        "batch_first": batch_first,
        "reverse": reverse,
    }


_SAMPLES = (
    _sample(1, 1, 1, "tanh", False, False),
    _sample(3, 2, 5, "relu", True, True),
    _sample(4, 3, 2, "identity", False, True),
    _sample(5, 18, 17, "gru", False, False),
    _sample(3, 5, 33, "gru", True, True),
    _sample(4, 17, 9, "lstm", True, False),
    _sample(2, 0, 3, "lstm", False, True),
)
_INTS = ("cell", "batch_first", "reverse")
_LENGTHS = array("lengths", "N", dtype="int64", optional=True, values=_lengths)

ROWS = (
    Kernel(
        "recurrence",
        inputs=(
            array("gates", "A B G"),
            array("h0", "N H", optional=True),
            array("c0", "N H", optional=True),
            array("weight", "G H"),
            array("bias", "G", optional=True),
            _LENGTHS,
        ),
        outputs=(
            array("y", "A B H"),
            array("last", "N S"),
            array("kept", "A B K", optional=True),
            array("before", "A B H", optional=True),
        ),
        sizes=("A", "B", "H"),
        ints=_INTS,
        derive=_sizes,
        scratch=_scratch,
        tolerance=(2e-5, 1e-13),
        samples=_SAMPLES,
    ),
    Kernel(
        "recurrence_backward",
        inputs=(
            array("dy", "A B H", optional=True),
            array("dh", "N H", optional=True),
            array("dc", "N H", optional=True),
            array("kept", "A B K", values=between(0, 1)),
            array("before", "A B H"),
            array("weight", "G H"),
            _LENGTHS,
        ),
        outputs=(
            array("dgates", "A B G"),
            array("dhidden", "A B G", optional=True),
            array("dfirst", "N S", optional=True),
        ),
        sizes=("A", "B", "H"),
        ints=_INTS,
        derive=_sizes,
        scratch=_scratch,
        tolerance=(2e-5, 1e-13),
        samples=_SAMPLES,
    ),
)
