"""Pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, image
from .shared import rounded
from .windows import windows


def _pool(d: Dims, p: Mapping[str, Any]) -> None:
    d["KH"], d["KW"] = p["kernel_size"]
    if d["KH"] * d["KW"] > 65535:
        raise ShapeError(f"max_pool2d: a window holds at most 65535 elements, got {d['KH']} x {d['KW']}")
    if 2 * p["padding"][0] > d["KH"] or 2 * p["padding"][1] > d["KW"]:
        raise ShapeError(f"max_pool2d: padding {p['padding']} is more than half of kernel size {p['kernel_size']}")
    windows(d, p, "max_pool2d")
    for axis, padding, dilation in zip("HW", p["padding"], p["dilation"], strict=True):
        if padding and dilation > d[axis]:  # a window that begins in the padding may then step over the whole image
            raise ShapeError(
                f"max_pool2d: with dilation {dilation} a window of {axis}={d[axis]} is nothing but padding"
            )


def _pool_scratch(d: Dims, real: int) -> tuple[int, int]:
    return 0, 16 * d["KH"] * d["KW"]


def _unpool_scratch(d: Dims, real: int) -> tuple[int, int]:
    """The windows that have each pixel of a row, and those that have one pixel."""
    return 8 * (2 * d["KW"] + 3) * (d["W"] + 1), 16 * d["KH"] * (d["KW"] + 1)


def _pool_backward(d: Dims, p: Mapping[str, Any]) -> None:
    d["H"], d["W"] = p["input_size"]
    _pool(d, p)


_POOL = tuple(
    {"N": n, "C": c, "H": h, "W": w, "kernel_size": k, "stride": s, "padding": p, "dilation": d, "ceil_mode": m}
    for n, c, h, w, k, s, p, d, m in (
        (1, 1, 2, 2, (2, 2), (2, 2), (0, 0), (1, 1), False),
        (2, 5, 7, 9, (2, 2), (2, 2), (0, 0), (1, 1), False),
        (3, 32, 8, 8, (2, 2), (2, 2), (0, 0), (1, 1), False),
        (2, 17, 7, 9, (3, 3), (2, 2), (1, 1), (1, 1), False),
        (2, 3, 8, 9, (3, 2), (1, 2), (0, 1), (2, 1), False),
        (2, 4, 8, 7, (3, 3), (2, 2), (0, 1), (1, 1), True),
        (2, 3, 5, 5, (2, 2), (3, 3), (0, 0), (1, 1), False),
        (0, 3, 4, 4, (2, 2), (2, 2), (0, 0), (1, 1), False),
    )
)


def _avg(d: Dims, p: Mapping[str, Any]) -> None:
    d["KH"], d["KW"] = p["kernel_size"]
    if 2 * p["padding"][0] > d["KH"] or 2 * p["padding"][1] > d["KW"]:
        raise ShapeError(f"avg_pool2d: padding {p['padding']} is more than half of kernel size {p['kernel_size']}")
    windows(d, {**p, "dilation": (1, 1)}, "avg_pool2d")


def _avg_backward(d: Dims, p: Mapping[str, Any]) -> None:
    d["H"], d["W"] = p["input_size"]
    _avg(d, p)


def _adaptive(d: Dims, p: Mapping[str, Any]) -> None:
    d.update(p)
    if min(d[symbol] for symbol in "HWPQ") < 1:
        raise ShapeError(
            f"adaptive_avg_pool2d: expected images and output of at least one pixel, got {(d['H'], d['W'])} and "
            f"{(d['P'], d['Q'])}"
        )


def _avg_scratch(d: Dims, real: int) -> tuple[int, int]:
    """What lies in what along each axis."""
    return rounded(48 * (max(d["W"], d["Q"]) + 1) + 16 * max(d["H"], d["P"])), 0


_AVG = tuple(
    {"N": n, "C": c, "H": h, "W": w, "kernel_size": k, "stride": s, "padding": p, "dilation": (1, 1)}
    | {"ceil_mode": m, "count_include_pad": i, "divisor": d}
    for n, c, h, w, k, s, p, m, i, d in (
        (1, 1, 2, 2, (2, 2), (2, 2), (0, 0), False, True, 0),
        (3, 32, 8, 9, (2, 2), (2, 2), (0, 0), False, True, 0),
        (2, 17, 7, 9, (3, 3), (2, 2), (1, 1), False, True, 0),
        (1, 70, 5, 6, (3, 3), (1, 1), (1, 1), False, True, 0),
        (2, 5, 7, 8, (3, 2), (2, 3), (1, 1), True, False, 0),
        (2, 4, 8, 7, (3, 3), (2, 2), (0, 1), True, True, 0),
        (2, 3, 5, 6, (2, 2), (3, 1), (0, 0), False, True, 7),
        (0, 3, 4, 4, (2, 2), (2, 2), (0, 0), False, True, 0),
    )
)
_ADAPTIVE = tuple(
    dict(zip("NCHWPQ", sizes, strict=True))
    for sizes in ((1, 1, 2, 2, 1, 1), (3, 33, 8, 8, 1, 1), (2, 17, 7, 10, 3, 5), (2, 3, 3, 4, 5, 9), (0, 3, 4, 4, 2, 2))
)
_AVG_INTS = ("stride", "padding", "ceil_mode", "count_include_pad", "divisor")

_POOL_SIZES = tuple(["N", "C", "H", "W", "P", "Q", "KH", "KW"])
_POOL_INTS = ("stride", "padding", "dilation")

ROWS = (
    Kernel(
        "max_pool2d",
        inputs=(image("x", "N C H W"),),
        outputs=(image("y", "N C P Q"), image("index", "N C P Q", dtype="uint16", optional=True)),
        sizes=_POOL_SIZES,
        ints=(*_POOL_INTS, "kernel_size", "ceil_mode"),
        derive=_pool,
        scratch=_pool_scratch,
        samples=_POOL,
    ),
    Kernel(
        "max_pool2d_backward",
        inputs=(image("dy", "N C P Q"), image("index", "N C P Q", dtype="uint16")),
        outputs=(image("dx", "N C H W", adds=True),),
        sizes=_POOL_SIZES,
        ints=(*_POOL_INTS, "kernel_size", "ceil_mode", "input_size"),
        derive=_pool_backward,
        scratch=_unpool_scratch,
        tolerance=(1e-6, 1e-15),
        samples=_POOL,
    ),
    Kernel(
        "avg_pool2d",
        inputs=(image("x", "N C H W"),),
        outputs=(image("y", "N C P Q"),),
        sizes=_POOL_SIZES,
        ints=(*_AVG_INTS, "kernel_size"),
        derive=_avg,
        scratch=_avg_scratch,
        tolerance=(1e-6, 1e-14),
        samples=_AVG,
    ),
    Kernel(
        "avg_pool2d_backward",
        inputs=(image("dy", "N C P Q"),),
        outputs=(image("dx", "N C H W", adds=True),),
        sizes=_POOL_SIZES,
        ints=(*_AVG_INTS, "kernel_size", "input_size"),
        derive=_avg_backward,
        scratch=_avg_scratch,
        tolerance=(1e-6, 1e-14),
        samples=_AVG,
    ),
    Kernel(
        "adaptive_avg_pool2d",
        inputs=(image("x", "N C H W"),),
        outputs=(image("y", "N C P Q"),),
        sizes=_POOL_SIZES[:6],
        ints=("P", "Q"),
        derive=_adaptive,
        scratch=_avg_scratch,
        tolerance=(1e-6, 1e-14),
        samples=_ADAPTIVE,
    ),
    Kernel(
        "adaptive_avg_pool2d_backward",
        inputs=(image("dy", "N C P Q"),),
        outputs=(image("dx", "N C H W", adds=True),),
        sizes=_POOL_SIZES[:6],
        ints=("H", "W"),
        derive=_adaptive,
        scratch=_avg_scratch,
        tolerance=(1e-6, 1e-14),
        samples=_ADAPTIVE,
    ),
)
