"""Elementwise functions, and softmax along rows."""

from __future__ import annotations

from ..kernel import Kernel, array
from .shared import ELEMENTWISE, SCORES, classes


def _pair(name: str, kept: str = "x", tolerance: tuple[float, float] = (2e-6, 1e-14), **floats: float) -> list[Kernel]:
    """A function and its derivative, which is computed from what is kept, the function's x or its y."""
    samples = ELEMENTWISE if name == "relu" else tuple({**ELEMENTWISE[i], **floats} for i in (2, 3, 4))
    return [
        Kernel(
            row,
            inputs=tuple(array(arg, "*") for arg in arrays[:-1]),
            outputs=(array(arrays[-1], "*"),),
            sizes=("*",),
            floats=tuple(floats),
            tolerance=tolerance,
            samples=samples,
        )
        for row, arrays in ((name, ("x", "y")), (f"{name}_backward", ("dy", kept, "dx")))
    ]


_FEW_SCORES = tuple(SCORES[i] for i in (0, 3, 4, 5))

ROWS = (
    *_pair("relu", "y", (0.0, 0.0)),
    *_pair("leaky_relu", negative_slope=0.01),
    *_pair("elu", alpha=1.25),
    *_pair("gelu"),
    *_pair("gelu_tanh"),
    *_pair("silu"),
    *_pair("sigmoid", "y"),
    *_pair("tanh", "y"),
    *_pair("softplus", beta=2.0, threshold=3.0),
    Kernel(
        "log_softmax",
        inputs=(array("scores", "N K"),),
        outputs=(array("logs", "N K"),),
        sizes=("N", "K"),
        derive=classes,
        tolerance=(1e-6, 1e-14),
        samples=_FEW_SCORES,
    ),
    *(
        Kernel(
            f"{name}_backward",
            inputs=(array("dy", "N K"), array("y", "N K")),
            outputs=(array("dscores", "N K"),),
            sizes=("N", "K"),
            derive=classes,
            tolerance=(2e-5, 2e-13),
            samples=_FEW_SCORES,
        )
        for name in ("softmax", "log_softmax")
    ),
)
