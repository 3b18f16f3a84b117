"""CIFAR-10 in the shapes of the notebooks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ... import data
from ..._kernels import Array


def load_CIFAR10(ROOT: str | os.PathLike[str]) -> tuple[Array, Array, Array, Array]:
    """Training images (50000, 32, 32, 3) and labels (50000,), then those for the test, 10000 or as many as there are.

    ROOT: a folder in which `fastnn.data.cifar10` finds them; where there is none, which is so on another computer than
        the notebook's author's, it searches `$FASTNN_DATA` and its cache, or downloads.

    Images are float64, 0 to 255, red, green and blue last; labels int64. Raises what `fastnn.data.cifar10` raises.
    """
    found = data.cifar10(ROOT if Path(ROOT).is_dir() else None, divisor=1)
    return _channels_last(found.x_train), found.y_train, _channels_last(found.x_test), found.y_test


def _channels_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float64)


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> dict[str, Array]:
    """X_train, y_train, X_val, y_val, X_test, y_test: the first training images, those after them, the first test ones.

    subtract_mean: from all images the mean one of the training. root, download: as of `fastnn.data.cifar10`.
    Images are (N, 3, 32, 32) float64, 0 to 255 before the mean is subtracted; labels (N,) int64.
    Raises ValueError for more than there are, and what `fastnn.data.cifar10` raises.
    """
    found = data.cifar10(root, divisor=1, download=download)
    for asked, there in ((num_training + num_validation, found.x_train), (num_test, found.x_test)):
        if asked > len(there):
            raise ValueError(f"get_CIFAR10_data: asked for {asked} images, there are {len(there)}")
    held_out = slice(num_training, num_training + num_validation)
    parts = {
        "train": (found.x_train[:num_training], found.y_train[:num_training]),
        "val": (found.x_train[held_out], found.y_train[held_out]),
        "test": (found.x_test[:num_test], found.y_test[:num_test]),
    }
    images = {part: x.astype(np.float64) for part, (x, _) in parts.items()}
    mean = images["train"].mean(axis=0) if subtract_mean else 0.0
    split: dict[str, Array] = {}
    for part, (_, y) in parts.items():
        images[part] -= mean
        split[f"X_{part}"], split[f"y_{part}"] = images[part], y
    return split


__all__ = ["get_CIFAR10_data", "load_CIFAR10"]
