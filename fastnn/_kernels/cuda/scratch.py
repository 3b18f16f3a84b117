"""Memory for what lies between two kernels of one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .array import DeviceArray


@contextmanager
def scratch(dtype: Any, *sizes: int) -> Iterator[tuple[Any, ...]]:
    """Flat arrays of so many numbers, each of any value; for launches within the ``with`` block."""
    held = [DeviceArray.empty((size,), dtype) for size in sizes]
    yield tuple(a.memory for a in held)
