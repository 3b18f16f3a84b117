"""The kernel table: every kernel there is, one row each.

Dispatch, contract tests, gradient checks and benchmarks are driven from these rows. To add a kernel, add a row, a
function of its name in `reference`, and one in `native`. A row's `sizes`, followed by its `ints`, are what the compiled
function finds in ``c.n``; outputs, then inputs, are what it finds in ``c.p``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._errors import ShapeError
from .kernel import Dims, Kernel, array, filters, image

PARTS = 8  #: partial sums of a reduction over the batch, at most; fixed, so that bits do not depend on threads
PARTED = 1 << 18  #: numbers of a convolution's weights up to which their gradient is summed in such parts
FIRST_LEVEL = 32 * 1024  #: bytes of a convolution's outputs, or of their gradient, that are worked on at a time


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False) -> int:
    """How many windows fit along one axis (PyTorch's output size of Conv2d and MaxPool2d)."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count  # a window starts inside the image


def _windows(d: Dims, p: Mapping[str, Any], what: str) -> None:
    """Bind P and Q, the output's height and width, or check them where the output's gradient gave them."""
    for name, symbol in (("stride", "S"), ("padding", "P"), ("dilation", "D")):
        d[symbol + "H"], d[symbol + "W"] = p[name]
    for axis, out, kernel, i in (("H", "P", d["KH"], 0), ("W", "Q", d["KW"], 1)):
        stride, padding, dilation = (p[name][i] for name in ("stride", "padding", "dilation"))
        if kernel < 1 or stride < 1 or dilation < 1 or padding < 0:
            raise ShapeError(
                f"{what}: kernel size, stride and dilation must be at least 1 and padding at least 0, got "
                f"kernel size {(d['KH'], d['KW'])}, {', '.join(f'{k} {v}' for k, v in p.items() if k != 'ceil_mode')}"
            )
        count = window_count(d[axis], kernel, stride, padding, dilation, p.get("ceil_mode", False))
        if count < 1:
            raise ShapeError(
                f"{what}: a window of {dilation * (kernel - 1) + 1} does not fit into {axis}={d[axis]} "
                f"with padding {padding}"
            )
        if d.setdefault(out, count) != count:
            raise ShapeError(f"{what}: expected {out}={count} for {axis}={d[axis]}, got {out}={d[out]}")


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
    _windows(d, p, "conv2d")


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


def _pool(d: Dims, p: Mapping[str, Any]) -> None:
    d["KH"], d["KW"] = p["kernel_size"]
    if d["KH"] * d["KW"] > 65535:
        raise ShapeError(f"max_pool2d: a window holds at most 65535 elements, got {d['KH']} x {d['KW']}")
    if 2 * p["padding"][0] > d["KH"] or 2 * p["padding"][1] > d["KW"]:
        raise ShapeError(f"max_pool2d: padding {p['padding']} is more than half of kernel size {p['kernel_size']}")
    _windows(d, p, "max_pool2d")
    for axis, padding, dilation in zip("HW", p["padding"], p["dilation"], strict=True):
        if padding and dilation > d[axis]:  # a window that begins in the padding may then step over the whole image
            raise ShapeError(
                f"max_pool2d: with dilation {dilation} a window of {axis}={d[axis]} is nothing but padding"
            )


def _pool_scratch(d: Dims, real: int) -> tuple[int, int]:
    return 0, 16 * d["KH"] * d["KW"]


def _pool_backward(d: Dims, p: Mapping[str, Any]) -> None:
    d["H"], d["W"] = p["input_size"]
    _pool(d, p)


def _classes(d: Dims, p: Mapping[str, Any]) -> None:
    if d["K"] < 1:
        raise ShapeError("expected scores of shape (N, K) with K at least 1, got K=0")


def _probability(d: Dims, p: Mapping[str, Any]) -> None:
    if not 0 <= p["p"] <= 1:
        raise ValueError(f"dropout: expected p from 0 to 1, got {p['p']}")


# --- scratch, in bytes: (shared, for each thread) ----------------


def _rounded(size: int) -> int:
    return -(-size // 64) * 64


def _linear_scratch(d: Dims, real: int) -> tuple[int, int]:
    """Panels of 256 bytes: one of y transposed, 32 outputs; one of x transposed."""
    return 0, 256 * (32 + min(d["I"], 1024))


def _linear_backward_scratch(d: Dims, real: int) -> tuple[int, int]:
    """128 rows of four panels, each as wide as the widest tile, of weights or inputs."""
    return 0, 128 * 4 * 256


def _dropout_scratch(d: Dims, real: int) -> tuple[int, int]:
    """The random words of 16 channels of an image: channel by channel, and pixel by pixel."""
    return 0, 4 * (2 * 16 * (d["*2"] * d["*3"] + 1) + 144) if d["*dims"] == 4 else 0


def _border(d: Dims, real: int) -> int:
    """Copies of the images with their padding around them, made where there are few channels."""
    few = d["C"] <= 4 and d["C"] == d["I"] and d["DW"] == 1
    size = d["N"] * (d["H"] + 2 * d["PH"]) * (d["W"] + 2 * d["PW"]) * d["C"]
    return _rounded(real * size) if few and (d["PH"] or d["PW"]) else 0


def _conv_scratch(d: Dims, real: int) -> tuple[int, int]:
    pooled_rows = max(1, FIRST_LEVEL // max(1, d["MH"] * d["Q"] * d["O"] * real)) if "MH" in d else 0
    rows = pooled_rows * d.get("MH", 0)
    packed = real * d["KH"] * d["KW"] * d["I"] * d["O"]
    return _border(d, real) + packed, _rounded(32 * d["KH"] * d["KW"]) + real * rows * d["Q"] * d["O"]


def _conv_data_scratch(d: Dims, real: int) -> tuple[int, int]:
    unpooled = d["P"] * d["Q"] * d["O"] if "MH" in d else 0
    return real * d["KH"] * d["KW"] * d["I"] * d["O"], _rounded(32 * d["KH"] * d["KW"]) + real * unpooled


def _conv_weights_scratch(d: Dims, real: int) -> tuple[int, int]:
    weights, unit = d["KH"] * d["KW"] * d["I"] * d["O"], d.get("MH", 1)
    parts = min(PARTS, d["N"] * d["P"] // unit) if weights <= PARTED else 1
    sums = real * parts * (weights + d["O"]) if parts > 1 else 0
    rows = max(1, FIRST_LEVEL // max(1, unit * d["Q"] * min(d["O"] * real, 256))) * unit
    unpooled = rows * d["Q"] * d["O"] if "MH" in d else 0
    packed = rows * d["Q"] * 256  # bytes of the widest column block, for rows too long to share the cache's sets
    return _border(d, real) + sums, _rounded(16 * rows) + packed + real * unpooled


# --- samples: sizes that tests run; the shapes of real networks are in bench ----------------

_LINEAR = tuple(
    {"N": n, "I": i, "O": o}
    for n, i, o in ((1, 1, 1), (2, 3, 5), (7, 17, 10), (32, 65, 33), (5, 130, 70), (0, 4, 3), (33, 16, 64), (3, 0, 2))
)
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
_ELEMENTWISE = tuple({"shape": s} for s in ((1,), (3, 5), (17, 33), (2, 3, 5, 7), (0, 4), (70000,)))
_ROWS = tuple({"N": n, "K": k} for n, k in ((1, 1), (3, 2), (32, 10), (7, 17), (0, 5), (300, 33)))

_CONV_SIZES = tuple(["N", "C", "H", "W", "O", "I", "KH", "KW", "P", "Q"])
_CONV_INTS = ("stride", "padding", "dilation", "groups")
_POOL_SIZES = tuple(["N", "C", "H", "W", "P", "Q", "KH", "KW"])
_POOL_INTS = ("stride", "padding", "dilation")

TABLE: dict[str, Kernel] = {
    row.name: row
    for row in (
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
            scratch=_pool_scratch,
            tolerance=(1e-6, 1e-15),
            samples=_POOL,
        ),
        Kernel("relu", inputs=(array("x", "*"),), outputs=(array("y", "*"),), sizes=("*",), samples=_ELEMENTWISE),
        Kernel(
            "relu_backward",
            inputs=(array("dy", "*"), array("y", "*")),
            outputs=(array("dx", "*"),),
            sizes=("*",),
            samples=_ELEMENTWISE,
        ),
        Kernel(
            "next_key",
            inputs=(array("state", "3", dtype="uint64", inout=True),),
            outputs=(array("key", "3", dtype="uint64"),),
            samples=({},),
        ),
        Kernel(
            "dropout",
            inputs=(array("x", "*"), array("key", "3", dtype="uint64")),
            outputs=(array("y", "*"),),
            sizes=("*",),
            floats=("p",),
            derive=_probability,
            scratch=_dropout_scratch,
            tolerance=(1e-6, 1e-15),
            samples=(*({**s, "p": 0.5} for s in _ELEMENTWISE), {"shape": (9, 5), "p": 1.0}),
        ),
        Kernel(
            "softmax",
            inputs=(array("scores", "N K"),),
            outputs=(array("probabilities", "N K"),),
            sizes=("N", "K"),
            derive=_classes,
            tolerance=(1e-6, 1e-14),
            samples=_ROWS,
        ),
        Kernel(
            "cross_entropy",
            inputs=(array("scores", "N K"), array("labels", "N", dtype="int64")),
            outputs=(array("loss", "1", dtype="float64", adds=True), array("dscores", "N K", optional=True)),
            sizes=("N", "K"),
            ints=("mean",),
            derive=_classes,
            scratch=lambda d, real: (8 * d["N"], 0),
            tolerance=(1e-6, 1e-14),
            samples=tuple({**s, "mean": m} for s in _ROWS for m in (True, False)),
        ),
        Kernel(
            "count_correct",
            inputs=(array("scores", "N K"), array("labels", "N", dtype="int64")),
            outputs=(array("count", "1", dtype="int64", adds=True),),
            sizes=("N", "K"),
            derive=_classes,
            samples=_ROWS,
        ),
        Kernel(
            "sgd",
            inputs=(
                array("param", "n", inout=True),
                array("grad", "n"),
                array("buffer", "n", inout=True, optional=True),
                array("hyper", "6", dtype="float64"),
                array("steps", "T", dtype="int64", inout=True),
            ),
            sizes=("n", "T"),
            tolerance=(1e-6, 1e-15),
            samples=tuple({"n": n, "T": t} for n, t in ((1, 1), (37, 2), (40000, 3), (0, 1))),
        ),
        Kernel(
            "gather_rows",
            inputs=(array("x", "M *", dtype="any"), array("index", "B", dtype="int64")),
            outputs=(array("y", "B *", dtype="any"),),
            sizes=("M", "B", "*"),
            samples=tuple(
                {"M": m, "B": b, "shape": s} for m, b, s in ((5, 3, (4,)), (9, 20, (3, 4, 5)), (4, 0, (2,)), (6, 2, ()))
            ),
        ),
        Kernel(
            "copy",
            inputs=(array("x", "*", dtype="any"),),
            outputs=(array("y", "*", dtype="any"),),
            sizes=("*",),
            ints=("channels_last",),
            samples=(
                *({**s, "channels_last": False} for s in _ELEMENTWISE),
                {"shape": (3, 5, 7, 9), "channels_last": True},
            ),
        ),
    )
}
