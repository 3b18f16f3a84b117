"""What the experiments on Fashion-MNIST share: its training images in two parts, one of them for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn as fn

from . import data_folder, images
from .images import Split


def split(held_out: float, *, seed: int | None = None, data: Path | None = None, download: bool = True) -> Split:
    """Fashion-MNIST, the last of its training images being for validation.

    held_out: the share of the training images that they are
    seed: of the order that the training images are brought into first, below 2**32; None leaves them in theirs
    """
    found = fn.data.fashion_mnist(data_folder(data, "fashion-mnist"), download=download)
    order = None if seed is None else np.random.RandomState(seed).permutation(len(found.x_train))
    return images.split(found, held_out, order)
