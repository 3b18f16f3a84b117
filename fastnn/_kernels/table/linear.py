"""Fully connected layers."""

from __future__ import annotations

from ..kernel import Dims, Kernel, array

TURN_ROWS = 128  #: from which on, and from so many outputs, weights are transposed; constants of native/linear.pxi
TURN_OUTS = 64
MANY = 1024  #: samples, from which on a backward pass turns an operand that lies across memory; also there


def _linear_scratch(d: Dims, real: int) -> tuple[int, int]:
    """The weights, transposed; or panels of 256 bytes: one of y transposed, 32 outputs; one of x transposed."""
    weights = d["I"] * d["O"]
    if d["N"] >= TURN_ROWS and d["O"] >= TURN_OUTS and d["N"] * (d["I"] + d["O"]) >= 2 * weights:
        return real * weights, 0
    return 0, 256 * (32 + min(d["I"], 1024))


def _linear_backward_scratch(d: Dims, real: int) -> tuple[int, int]:
    """128 rows of eight panels, each as wide as the widest tile, of one operand; 256 of the other, turned, for many."""
    return 0, 128 * (8 * 256 + (256 * real if d["N"] >= MANY else 0))


_LINEAR = tuple(
    {"N": n, "I": i, "O": o}
    for n, i, o in ((1, 1, 1), (2, 3, 5), (7, 17, 10), (32, 65, 33), (5, 130, 70), (0, 4, 3), (33, 16, 64), (3, 0, 2))
)

ROWS = (
    Kernel(
        "linear",
        inputs=(array("x", "N I"), array("weight", "O I"), array("bias", "O", optional=True)),
        outputs=(array("y", "N O"),),
        sizes=("N", "I", "O"),
        ints=("relu",),
        scratch=_linear_scratch,
        tolerance=(1e-5, 1e-13),
        samples=tuple({**s, "relu": relu} for s in _LINEAR for relu in (False, True)),
    ),
    Kernel(
        "linear_backward_data",
        inputs=(array("dy", "N O"), array("weight", "O I")),
        outputs=(array("dx", "N I", adds=True),),
        sizes=("N", "I", "O"),
        scratch=_linear_backward_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_LINEAR,
    ),
    Kernel(
        "linear_backward_weights",
        inputs=(array("dy", "N O"), array("x", "N I")),
        outputs=(array("dweight", "O I", optional=True, adds=True), array("dbias", "O", optional=True, adds=True)),
        sizes=("N", "I", "O"),
        scratch=_linear_backward_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_LINEAR,
    ),
)
