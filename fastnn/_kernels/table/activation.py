"""Elementwise functions."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import ELEMENTWISE

ROWS = (
    Kernel("relu", inputs=(array("x", "*"),), outputs=(array("y", "*"),), sizes=("*",), samples=ELEMENTWISE),
    Kernel(
        "relu_backward",
        inputs=(array("dy", "*"), array("y", "*")),
        outputs=(array("dx", "*"),),
        sizes=("*",),
        samples=ELEMENTWISE,
    ),
)
