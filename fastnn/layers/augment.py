"""Random changes of images, for a network to see more of them: they stand at the beginning of a `Sequential`.

They act in training only. What happens to an image is drawn anew each step; see `Drawn`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array
from .conv import pair
from .drawn import Drawn
from .layer import Backward, check_gradient, register

Size = int | tuple[int, int]
_NUMBERS = (int, float, np.integer, np.floating)


class _Augmentation(Drawn):
    """What the layers here share."""

    def _unchanged(self, x: Array) -> tuple[Array, Backward]:
        return x, lambda dy, need_dx=True: dy if need_dx else None

    def _cropped(
        self, x: Array, train: bool, size: tuple[int, int], padding: tuple[int, int], fill: float
    ) -> tuple[Array, Backward]:
        """A random window of this size, or with train=False the one in the middle."""
        key = k.next_key(self.state) if train else None
        y = k.random_crop(x, key, size=size, padding=padding, fill=fill)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            if not need_dx:
                return None
            dx: Array = k.random_crop_backward(dy, key, size=size, padding=padding, input_size=x.shape[2:])
            return dx

        return y, backward


@register
class RandomCrop(_Augmentation):
    """A window of each image x (N, C, H, W), anywhere in the image with `padding` pixels around it; y (N, C, P, Q).

    size: (P, Q); padding: above and below, left and right. Each is one number or two. fill: the value of the padding.
    Outside of training the window in the middle, which is the image itself where that has this size. Names and order
    are torchvision's.
    """

    def __init__(self, size: Size, padding: Size = 0, fill: float = 0.0) -> None:
        super().__init__()
        self.size = pair(size, 1, "RandomCrop", "size")
        self.padding = pair(padding, 0, "RandomCrop", "padding")
        self.fill = _number(fill, "RandomCrop")

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"size": self.size, "padding": self.padding, "fill": self.fill}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if any(n + 2 * p < s for n, p, s in zip(x.shape[2:], self.padding, self.size, strict=True)):
            raise ShapeError(
                f"{self.label}: expected images that have room for {self.size[0]}x{self.size[1]} with padding "
                f"{self.padding}, got {x.shape}"
            )
        if not train and x.shape[2:] == self.size:
            return self._unchanged(x)
        return self._cropped(x, train, self.size, self.padding, self.fill)


@register
class RandomShift(_Augmentation):
    """Each image x (N, C, H, W) moved up to so many pixels up or down and left or right; y (N, C, H, W).

    pixels: one number, or two for rows and columns. fill: the value of what comes in.
    """

    def __init__(self, pixels: Size, fill: float = 0.0) -> None:
        super().__init__()
        self.pixels = pair(pixels, 0, "RandomShift", "pixels")
        self.fill = _number(fill, "RandomShift")

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"pixels": self.pixels, "fill": self.fill}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if not train or self.pixels == (0, 0):
            return self._unchanged(x)
        return self._cropped(x, train, x.shape[2:], self.pixels, self.fill)


@register
class RandomHorizontalFlip(_Augmentation):
    """Each image x (N, C, H, W) mirrored left to right with probability p; y (N, C, H, W). torchvision's name."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: expected p from 0 to 1, got {p!r}")
        self.p = float(p)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"p": self.p}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if not train or self.p == 0:
            return self._unchanged(x)
        key = k.next_key(self.state)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            return k.random_flip(dy, key, p=self.p) if need_dx else None

        return k.random_flip(x, key, p=self.p), backward


@register
class Cutout(_Augmentation):
    """A rectangle of each image x (N, C, H, W) set to `fill`, around any of its pixels; y (N, C, H, W).

    size: its height and width, one number or two; what lies outside of the image is cut off.
    DeVries, Taylor: "Improved regularization of convolutional neural networks with cutout", 2017.
    """

    def __init__(self, size: Size, fill: float = 0.0) -> None:
        super().__init__()
        self.size = pair(size, 0, "Cutout", "size")
        self.fill = _number(fill, "Cutout")

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"size": self.size, "fill": self.fill}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, C, H, W). Raises `ShapeError`, `DTypeError`."""
        self.check(x, "N", "C", "H", "W")
        if not train or 0 in self.size:
            return self._unchanged(x)
        key = k.next_key(self.state)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, x.shape)
            return k.cutout(dy, key, size=self.size, fill=0.0) if need_dx else None

        return k.cutout(x, key, size=self.size, fill=self.fill), backward


def _number(fill: Any, layer: str) -> float:
    if isinstance(fill, bool) or not isinstance(fill, _NUMBERS) or not math.isfinite(fill):
        raise ValueError(f"{layer}: expected fill as a finite number, got {fill!r}")
    return float(fill)
