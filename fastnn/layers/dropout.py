"""Dropout."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .._kernels import Array
from .drawn import Drawn
from .layer import Backward, register


@register
class Dropout(Drawn):
    """In training, sets each number to 0 with probability p and multiplies the others by 1/(1-p); else does nothing.

    Which numbers fall is drawn anew each step; see `Drawn`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected p from 0 to 1, got {p!r}")
        self.p = float(p)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"p": self.p}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape. Raises `DTypeError`."""
        self.check(x)
        if not train or self.p == 0:
            return x, lambda dy, need_dx=True: dy if need_dx else None
        key = k.next_key(self.state)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return k.dropout(dy, key, p=self.p) if need_dx else None

        return k.dropout(x, key, p=self.p), backward
