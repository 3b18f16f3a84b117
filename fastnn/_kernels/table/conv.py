"""Convolution, and convolution fused with ReLU and max pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, array, filters, image
from .shared import PARTS, rounded
from .windows import windows

PARTED = 1 << 18  #: numbers of a convolution's weights up to which their gradient is summed in such parts
FIRST_LEVEL = 32 * 1024  #: bytes of a convolution's outputs, or of their gradient, that are worked on at a time


def _conv(d: Dims, p: Mapping[str, Any]) -> None:
    groups = p["groups"]
    if d["I"] < 1 or d["O"] < 1:
        raise ShapeError(f"conv2d: expected at least one input and one output channel, got {d['I']} and {d['O']}")
    if groups < 1 or d["O"] % groups:
        raise ShapeError(f"conv2d: {d['O']} output channels cannot be split into {groups} groups")
    if d.setdefault("C", d["I"] * groups) != d["I"] * groups:
        raise ShapeError(
            f"conv2d: expected {d['I'] * groups} input channels ({groups} groups of {d['I']}), got {d['C']}"
        )
    windows(d, p, "conv2d")


def _conv_data(d: Dims, p: Mapping[str, Any]) -> None:
    d["H"], d["W"] = p["input_size"]
    _conv(d, p)


def _conv_weights(d: Dims, p: Mapping[str, Any]) -> None:
    d["KH"], d["KW"] = p["kernel_size"]
    if p["groups"] < 1 or d["C"] % p["groups"]:
        raise ShapeError(f"conv2d: {d['C']} input channels cannot be split into {p['groups']} groups")
    d["I"] = d["C"] // p["groups"]
    _conv(d, p)


def _pooled(derive: Callable[[Dims, Mapping[str, Any]], None]) -> Callable[[Dims, Mapping[str, Any]], None]:
    """Of a convolution fused with max pooling: P and Q are as many as the pooling's windows tile."""

    def derive_both(d: Dims, p: Mapping[str, Any]) -> None:
        derive(d, p)
        d["MH"], d["MW"] = p["pool_size"]
        if d["MH"] < 1 or d["MW"] < 1 or d["MH"] * d["MW"] > 65534:
            raise ShapeError(f"max_pool2d: a window holds from 1 to 65534 elements, got {d['MH']} x {d['MW']}")
        for symbol, out, size in (("YH", "P", d["MH"]), ("YW", "Q", d["MW"])):
            count = d[out] // size
            if count < 1:
                raise ShapeError(f"max_pool2d: a window of {size} does not fit into {out}={d[out]}")
            if d.setdefault(symbol, count) != count:
                raise ShapeError(f"max_pool2d: expected {symbol}={count} for {out}={d[out]}, got {symbol}={d[symbol]}")
            d[out] = count * size

    return derive_both


def _border(d: Dims, real: int) -> int:
    """Copies of the images with their padding around them, made where there are few channels."""
    few = d["C"] <= 4 and d["C"] == d["I"] and d["DW"] == 1
    size = d["N"] * (d["H"] + 2 * d["PH"]) * (d["W"] + 2 * d["PW"]) * d["C"]
    return rounded(real * size) if few and (d["PH"] or d["PW"]) else 0


def _conv_scratch(d: Dims, real: int) -> tuple[int, int]:
    pooled_rows = max(1, FIRST_LEVEL // max(1, d["MH"] * d["Q"] * d["O"] * real)) if "MH" in d else 0
    rows = pooled_rows * d.get("MH", 0)
    packed = real * d["KH"] * d["KW"] * d["I"] * d["O"]
    return _border(d, real) + packed, rounded(32 * d["KH"] * d["KW"]) + real * rows * d["Q"] * d["O"]


def _conv_data_scratch(d: Dims, real: int) -> tuple[int, int]:
    unpooled = d["P"] * d["Q"] * d["O"] if "MH" in d else 0
    return real * d["KH"] * d["KW"] * d["I"] * d["O"], rounded(32 * d["KH"] * d["KW"]) + real * unpooled


def _conv_weights_scratch(d: Dims, real: int) -> tuple[int, int]:
    weights, unit = d["KH"] * d["KW"] * d["I"] * d["O"], d.get("MH", 1)
    parts = min(PARTS, d["N"] * d["P"] // unit) if weights <= PARTED else 1
    sums = real * parts * (weights + d["O"]) if parts > 1 else 0
    rows = max(1, FIRST_LEVEL // max(1, unit * d["Q"] * min(d["O"] * real, 256))) * unit
    unpooled = rows * d["Q"] * d["O"] if "MH" in d else 0
    packed = rows * d["Q"] * 256  # bytes of the widest column block, for rows too long to share the cache's sets
    return _border(d, real) + sums, rounded(16 * rows) + packed + real * unpooled


_CONV = tuple(
    {"N": n, "C": c, "H": h, "W": w, "O": o, "KH": kh, "KW": kw, "stride": s, "padding": p, "dilation": d, "groups": g}
    | {"relu": n % 2 == 0}
    for n, c, h, w, o, kh, kw, s, p, d, g in (
        (1, 1, 3, 3, 1, 3, 3, (1, 1), (0, 0), (1, 1), 1),
        (2, 1, 9, 8, 32, 3, 3, (1, 1), (0, 0), (1, 1), 1),
        (3, 3, 10, 11, 17, 3, 3, (1, 1), (1, 1), (1, 1), 1),
        (9, 8, 7, 7, 20, 2, 3, (1, 1), (0, 2), (1, 1), 1),
        (2, 5, 9, 12, 67, 3, 3, (2, 2), (1, 1), (1, 1), 1),
        (2, 4, 11, 9, 6, 3, 2, (3, 2), (2, 1), (2, 3), 1),
        (3, 6, 8, 8, 9, 3, 3, (1, 1), (1, 1), (1, 1), 3),
        (2, 4, 6, 6, 4, 3, 3, (2, 1), (1, 1), (1, 1), 4),
        (2, 4, 5, 5, 8, 1, 1, (2, 2), (0, 0), (1, 1), 2),
        (1, 16, 6, 20, 33, 5, 5, (1, 1), (2, 2), (1, 1), 1),
        (0, 3, 6, 6, 4, 3, 3, (1, 1), (0, 0), (1, 1), 1),
        (17, 2, 4, 4, 3, 4, 4, (1, 1), (0, 0), (1, 1), 1),
        (2, 3, 7, 7, 5, 2, 2, (3, 3), (0, 0), (1, 1), 1),
        (4, 24, 6, 6, 130, 3, 3, (1, 1), (1, 1), (1, 1), 1),
    )
)
_CONV_POOL = tuple(
    {"N": n, "C": c, "H": h, "W": w, "O": o, "KH": k, "KW": k, "stride": s, "padding": p, "dilation": d, "groups": g}
    | {"pool_size": m}
    for n, c, h, w, o, k, s, p, d, g, m in (
        (1, 1, 4, 4, 1, 3, (1, 1), (0, 0), (1, 1), 1, (2, 2)),
        (9, 1, 12, 11, 32, 3, (1, 1), (0, 0), (1, 1), 1, (2, 2)),
        (2, 3, 9, 10, 19, 3, (1, 1), (1, 1), (1, 1), 1, (2, 3)),
        (3, 8, 7, 9, 70, 3, (1, 1), (0, 0), (1, 1), 1, (2, 2)),
        (2, 4, 9, 12, 6, 2, (2, 1), (1, 0), (1, 2), 2, (2, 2)),
        (2, 5, 5, 6, 3, 1, (1, 1), (0, 0), (1, 1), 1, (1, 1)),
        (1, 20, 30, 31, 40, 3, (1, 1), (1, 0), (1, 1), 1, (3, 2)),
        (0, 3, 6, 6, 4, 3, (1, 1), (0, 0), (1, 1), 1, (2, 2)),
    )
)
_IMAGES = tuple(
    dict(zip("NCHW", size, strict=True))
    for size in ((1, 1, 1, 1), (2, 3, 5, 7), (9, 17, 4, 4), (3, 64, 20, 20), (0, 3, 4, 4))
)
_CONV_SIZES = tuple(["N", "C", "H", "W", "O", "I", "KH", "KW", "P", "Q"])
_CONV_INTS = ("stride", "padding", "dilation", "groups")

ROWS = (
    Kernel(
        "conv2d",
        inputs=(image("x", "N C H W"), filters("weight", "O I KH KW"), array("bias", "O", optional=True)),
        outputs=(image("y", "N O P Q"),),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "relu"),
        derive=_conv,
        scratch=_conv_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_CONV,
    ),
    Kernel(
        "conv2d_backward_data",
        inputs=(image("dy", "N O P Q"), filters("weight", "O I KH KW")),
        outputs=(image("dx", "N C H W", adds=True),),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "input_size"),
        derive=_conv_data,
        scratch=_conv_data_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_CONV,
    ),
    Kernel(
        "conv2d_backward_weights",
        inputs=(image("dy", "N O P Q"), image("x", "N C H W")),
        outputs=(
            filters("dweight", "O I KH KW", optional=True, adds=True),
            array("dbias", "O", optional=True, adds=True),
        ),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "kernel_size"),
        derive=_conv_weights,
        scratch=_conv_weights_scratch,
        tolerance=(2e-5, 1e-12),
        samples=_CONV,
    ),
    Kernel(
        "conv2d_max_pool2d",
        inputs=(image("x", "N C H W"), filters("weight", "O I KH KW"), array("bias", "O", optional=True)),
        outputs=(image("y", "N O YH YW"), image("index", "N O YH YW", dtype="uint16", optional=True)),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "pool_size"),
        derive=_pooled(_conv),
        scratch=_conv_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_CONV_POOL,
    ),
    Kernel(
        "conv2d_max_pool2d_backward_data",
        inputs=(
            image("dy", "N O YH YW"),
            filters("weight", "O I KH KW"),
            image("index", "N O YH YW", dtype="uint16"),
        ),
        outputs=(image("dx", "N C H W", adds=True),),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "pool_size", "input_size"),
        derive=_pooled(_conv_data),
        scratch=_conv_data_scratch,
        tolerance=(1e-5, 1e-13),
        samples=_CONV_POOL,
    ),
    Kernel(
        "conv2d_max_pool2d_backward_weights",
        inputs=(image("dy", "N O YH YW"), image("x", "N C H W"), image("index", "N O YH YW", dtype="uint16")),
        outputs=(
            filters("dweight", "O I KH KW", optional=True, adds=True),
            array("dbias", "O", optional=True, adds=True),
        ),
        sizes=_CONV_SIZES,
        ints=(*_CONV_INTS, "pool_size", "kernel_size"),
        derive=_pooled(_conv_weights),
        scratch=_conv_weights_scratch,
        tolerance=(2e-5, 1e-12),
        samples=_CONV_POOL,
    ),
    Kernel(
        "channel_bias",
        inputs=(array("bias", "C"),),
        outputs=(image("y", "N C H W"),),
        sizes=("C",),
        ints=("N", "H", "W"),
        derive=lambda d, p: d.update(p),
        samples=_IMAGES,
    ),
    Kernel(
        "channel_bias_backward",
        inputs=(image("dy", "N C H W"),),
        outputs=(array("dbias", "C", adds=True),),
        sizes=("N", "C", "H", "W"),
        scratch=lambda d, real: (real * PARTS * d["C"], 0),
        tolerance=(2e-5, 1e-12),
        samples=_IMAGES,
    ),
)
