"""What the experiments on Fashion-MNIST share: its training images in two parts, one of them for validation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import data_folder


class Part(NamedTuple):
    """Images (N, 1, 28, 28) float32, byte / 255, and labels (N,) int64."""

    x: Array
    y: Array


class Split(NamedTuple):
    """Fashion-MNIST in three parts."""

    training: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]


def split(held_out: float, *, seed: int | None = None, data: Path | None = None, download: bool = True) -> Split:
    """Fashion-MNIST, the last of its training images being for validation.

    held_out: the share of the training images that they are
    seed: of the order that the training images are brought into first, below 2**32; None leaves them in theirs
    """
    images = fn.data.fashion_mnist(data_folder(data, "fashion-mnist"), download=download)
    count = len(images.x_train)
    order = np.arange(count) if seed is None else np.random.RandomState(seed).permutation(count)
    training, validation = np.split(order, [round((1 - held_out) * count)])
    return Split(
        Part(images.x_train[training], images.y_train[training]),
        Part(images.x_train[validation], images.y_train[validation]),
        Part(images.x_test, images.y_test),
        images.class_names,
    )
