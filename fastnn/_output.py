"""What commands print and write: tables in text, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._files import StrPath, write_bytes


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells as the first one, which is the heading, in columns parted by " | "."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def to_json(value: Any) -> str:
    """JSON text, indented by two. NumPy's numbers become plain ones; NaN and infinities, which JSON lacks, null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def write_json(path: StrPath, value: Any) -> None:
    """Write `to_json(value)` to a file that replaces an older one only when it is complete."""
    write_bytes(path, (to_json(value) + "\n").encode())


def _plain(value: Any) -> Any:
    """The same value in what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
