"""Rows of a table by their index, which `gather_rows` looks up: their gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..kernel import Dims, Kernel, array
from .shared import below


def _rows(d: Dims, p: Mapping[str, Any]) -> None:
    d["M"] = p["num_embeddings"]


ROWS = (
    Kernel(
        "embedding_backward",
        inputs=(array("dy", "B D"), array("index", "B", dtype="int64", values=below("M"))),
        outputs=(array("dweight", "M D", adds=True),),
        sizes=("B", "D"),
        ints=("num_embeddings", "padding_idx"),
        derive=_rows,
        tolerance=(1e-6, 1e-15),
        samples=tuple(
            {"B": b, "D": d, "M": m, "num_embeddings": m, "padding_idx": padding}
            for b, d, m, padding in ((1, 1, 1, -1), (40, 5, 7, 0), (9, 130, 20, 3), (0, 3, 4, -1))
        ),
    ),
)
