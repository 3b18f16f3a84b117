"""Windows that move over images, of convolution and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False) -> int:
    """How many windows fit along one axis (PyTorch's output size of Conv2d and MaxPool2d)."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count  # a window starts inside the image


def windows(d: Dims, p: Mapping[str, Any], what: str) -> None:
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
