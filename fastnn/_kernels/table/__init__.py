"""The kernel table: every kernel there is, one row each, by family.

Dispatch, contract tests, gradient checks and benchmarks are driven from these rows. To add a kernel, add a row here, a
function of its name in `reference`, and one in `native`, each in the module of its family. A row's `sizes`, followed by
its `ints`, are what the compiled function finds in ``c.n``; outputs, then inputs, are what it finds in ``c.p``.
"""

from __future__ import annotations

from ..kernel import Kernel
from . import (
    activation,
    attention,
    augment,
    branches,
    clip,
    conv,
    dropout,
    embedding,
    layout,
    linear,
    linear_attention,
    loss,
    norm,
    optim,
    pointwise,
    pooling,
    recurrence,
)
from .windows import window_count

FAMILIES = (
    linear,
    conv,
    pooling,
    activation,
    branches,
    dropout,
    attention,
    linear_attention,
    loss,
    optim,
    layout,
    augment,
    norm,
    pointwise,
    clip,
    embedding,
    recurrence,
)

TABLE: dict[str, Kernel] = {row.name: row for family in FAMILIES for row in family.ROWS}

__all__ = ["TABLE", "window_count"]
