"""Networks from a short text or a JSON file, which fit the data's shape by themselves.

A text names what comes one after the other, parted by hyphens, such as ``conv32-pool-conv64-pool-fc128``:

    convN     a convolution, 3x3, to N channels, padded so that the size stays, and ReLU
    convNxK   the same, KxK, K being odd
    pool      the maximum of each 2x2 pixels
    mean      the mean of all pixels of each channel
    fcN       a linear layer to N numbers, and ReLU; pixels are flattened before the first
    dropP     dropout of a share P, such as drop0.5

A JSON file is a list of such words and of layers with arguments, ``{"Conv2d": {"out_channels": 8, "kernel_size": 5}}``;
`in_channels`, `in_features` and `num_features` may be left out, for they follow from what comes before. What a network
has in the end, a linear layer to as many numbers as the target needs, is never written.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn

from ..checkpoint import short
from ..layers.layer import REGISTRY

CNN = "conv32-pool-conv64-pool-fc128"
MOST = 65536  #: of channels or numbers in a word
_WORD = re.compile(r"conv(?P<channels>\d+)(x(?P<kernel>\d+))?|fc(?P<numbers>\d+)|drop(?P<share>[\d.]+)|pool|mean")


def network(
    spec: str,
    shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: Sequence[int] = (128, 64),
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> fn.Sequential:
    """The network that a text names, for samples of this shape.

    spec: ``"mlp"`` for linear layers of `hidden` sizes; ``"cnn"`` for CNN; a text or the name of a .json file
    batch_norm: whether a BatchNorm stands between each linear layer or convolution and its ReLU; not the last layer
    dropout: the share, after each ReLU of a linear layer
    Raises ValueError for a text that is no network or does not fit, OSError without the file.
    """
    builder = _Builder(shape, batch_norm, dropout)
    try:
        for item in items(spec, hidden):
            builder.add(item)
        builder.add_output(outputs)
    except _Unfit as error:
        raise ValueError(f"--model {spec}: {error}") from error
    return fn.Sequential(*builder.layers)


def items(spec: str, hidden: Sequence[int]) -> list[Any]:
    """What stands in a text or a file, one after the other."""
    if spec.endswith(".json"):
        return _read(Path(spec))
    if spec == "mlp":
        return [f"fc{size}" for size in hidden]
    return (CNN if spec == "cnn" else spec).split("-")


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON file: {error}") from error
    if not isinstance(found, list):
        raise ValueError(f"{path}: expected a list of layers, got {short(found)}")
    return found


class _Unfit(ValueError):
    """Something is no layer, or does not fit what comes before it."""


class _Builder:
    """Layers so far, and what comes out of them for two samples."""

    def __init__(self, shape: tuple[int, ...], batch_norm: bool, dropout: float) -> None:
        self.layers: list[fn.Layer] = []
        self.x = np.zeros((2, *shape), np.float32)
        self.batch_norm, self.dropout = batch_norm, dropout

    def add(self, item: Any) -> None:
        """A word, or a layer with arguments."""
        if isinstance(item, str):
            self._add_word(item)
        elif isinstance(item, dict) and len(item) == 1 and isinstance(next(iter(item.values())), dict):
            ((name, arguments),) = item.items()
            self._append(name, **arguments)
        else:
            raise _Unfit(f'expected a word, or a layer such as {{"ReLU": {{}}}}, got {short(item)}')

    def add_output(self, outputs: int) -> None:
        """The last layer."""
        self._flatten()
        self._append("Linear", out_features=outputs)

    def _add_word(self, word: str) -> None:
        found = _WORD.fullmatch(word)
        if found is None:
            raise _Unfit(f"{short(word)} is no mlp, cnn, convN, convNxK, pool, mean, fcN or dropP")
        if found["channels"]:
            self._add_convolution(_size(word, found["channels"]), int((found["kernel"] or "3")[:4]), word)
        elif found["numbers"]:
            self._flatten()
            self._append("Linear", out_features=_size(word, found["numbers"]), bias=not self.batch_norm)
            self._add_activation("BatchNorm1d")
            if self.dropout:
                self._append("Dropout", p=self.dropout)
        elif found["share"]:
            self._append("Dropout", p=_share(word, found["share"]))
        elif self.x.ndim != 4:
            raise _Unfit(f"{word} needs images, got samples of shape {self.x.shape[1:]}")
        elif word == "pool":
            self._append("MaxPool2d", kernel_size=2)
        else:
            self._append("AdaptiveAvgPool2d", output_size=1)

    def _add_convolution(self, channels: int, kernel: int, word: str) -> None:
        if self.x.ndim != 4:
            raise _Unfit(f"{word} needs images, got samples of shape {self.x.shape[1:]}")
        if kernel % 2 == 0:
            raise _Unfit(f"{word}: expected an odd size of the kernel, got {kernel}")
        bias = not self.batch_norm
        self._append("Conv2d", out_channels=channels, kernel_size=kernel, padding=kernel // 2, bias=bias)
        self._add_activation("BatchNorm2d")

    def _add_activation(self, norm: str) -> None:
        if self.batch_norm:
            self._append(norm)
        self._append("ReLU")

    def _flatten(self) -> None:
        if self.x.ndim > 2:
            self._append("Flatten")

    def _append(self, name: str, **arguments: Any) -> None:
        """A layer, given what follows from the layers before."""
        if name not in REGISTRY:
            raise _Unfit(f"there is no layer {short(name)}; there are {', '.join(sorted(REGISTRY))}")
        sizes = {"in_features": self.x.shape[-1], "in_channels": self.x.shape[1], "num_features": self.x.shape[1]}
        taken = inspect.signature(REGISTRY[name]).parameters
        try:
            layer = REGISTRY[name](**{**{key: size for key, size in sizes.items() if key in taken}, **arguments})
            x = layer(self.x)
        except (
            MemoryError,
            TypeError,
            ValueError,
        ) as error:  # whatever a layer says to arguments that somebody has typed
            before = f"after {self.layers[-1].label} of" if self.layers else "for samples of"
            raise _Unfit(f"{name} does not fit {before} shape {self.x.shape[1:]}: {error}") from error
        if not isinstance(x, np.ndarray) or x.ndim < 2 or len(x) != 2:
            raise _Unfit(f"{name} gives no array (N, …) that another layer could take")
        self.layers.append(layer)
        self.x = x


def _size(word: str, digits: str) -> int:
    size = int(digits[:9])
    if not 0 < size <= MOST:
        raise _Unfit(f"{word}: expected a number from 1 to {MOST}")
    return size


def _share(word: str, digits: str) -> float:
    try:
        share = float(digits)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise _Unfit(f"{word}: expected a share from 0 to below 1, such as drop0.5")
    return share
