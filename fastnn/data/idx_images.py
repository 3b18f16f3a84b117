"""Data sets in the four files of MNIST, of which there are several."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .dataset import Dataset
from .files import DataError, FileSet, locate
from .idx import read_idx


def check_divisor(name: str, divisor: float) -> np.float32:
    """What bytes are divided by. Raises ValueError, which names the data set, unless it is positive and finite."""
    scale: np.float32 = np.float32(divisor)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"{name}: divisor must be positive and finite, got {divisor!r}")
    return scale


def read_images(
    files: FileSet,
    class_names: tuple[str, ...],
    root: str | os.PathLike[str] | None,
    *,
    divisor: float,
    download: bool,
    verify: bool,
) -> Dataset:
    """The data set in such files: training images and labels, test images and labels."""
    scale = check_divisor(files.name, divisor)
    train_images, train_labels, test_images, test_labels = locate(files, root, download=download, verify=verify)
    x_train, y_train = _read(train_images, train_labels, scale, len(class_names))
    x_test, y_test = _read(test_images, test_labels, scale, len(class_names))
    if x_test.shape[1:] != x_train.shape[1:]:
        sizes = f"expected {x_train.shape[2:]} as in {train_images.name}, got {x_test.shape[2:]}"
        raise DataError(f"{test_images}: images of another size: {sizes}")
    return Dataset(x_train, y_train, x_test, y_test, class_names)


def check_labels(path: Path, labels: npt.NDArray[np.uint8], images: int, classes: int) -> None:
    """Raise DataError, naming the labels' file, unless there is one for each image and each is a class."""
    if len(labels) != images:
        raise DataError(f"{path}: expected {images} labels, one per image, got {len(labels)}")
    if labels.max(initial=0) >= classes:
        index = int(labels.argmax())
        raise DataError(f"{path}: expected labels 0..{classes - 1}, got {labels[index]} at index {index}")


def _read(
    images_path: Path, labels_path: Path, divisor: np.float32, classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(N, 1, H, W) float32 and (N,) int64."""
    labels = read_idx(labels_path, ndim=1)
    images = read_idx(images_path, ndim=3)
    check_labels(labels_path, labels, len(images), classes)
    # One pass straight into float32: the bytes are cast block by block, never as a whole.
    x = np.divide(images[:, None], divisor, dtype=np.float32)
    return x, labels.astype(np.int64)
