"""What the experiments of MITx 6.86x, "Machine Learning with Python", share: its split of MNIST and its training.

The course's accuracies are means over batches, the remainder dropped, in training and in evaluation; those of the
training are of the batches as they are trained on, dropout included. Every epoch has the same batches, in the same
order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import data_folder

SEED = 12321


class Part(NamedTuple):
    """Images (N, 1, 28, 28) float32 and labels (N,), or what another data set has in their places."""

    x: Array
    y: Array

    def whole_batches(self, size: int) -> Part:
        """Without a last batch of less than `size`: means over samples are then means over batches."""
        count = len(self.x) // size * size
        return Part(self.x[:count], self.y[:count])

    def flat(self) -> Part:
        """With the numbers of each image in a row: (N, pixels)."""
        return Part(self.x.reshape(len(self.x), -1), self.y)


class Split(NamedTuple):
    """A data set in the course's parts, the training part in the course's order."""

    training: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]

    def flat(self) -> Split:
        """With the numbers of each image in a row."""
        return Split(self.training.flat(), self.validation.flat(), self.test.flat(), self.class_names)


def mnist(seed: int, *, data: Path | None = None, download: bool = True) -> Split:
    """MNIST by the course: pixels are byte / 256, the last tenth is for validation, `seed` orders the rest."""
    images = fn.data.mnist(data_folder(data, "mnist"), divisor=256, download=download)
    held_out = len(images.x_train) // 10
    training = Part(images.x_train[:-held_out], images.y_train[:-held_out])
    validation = Part(images.x_train[-held_out:], images.y_train[-held_out:])
    test = Part(images.x_test, images.y_test)
    return Split(shuffled(training, seed), validation, test, images.class_names)


def shuffled(part: Part, seed: int) -> Part:
    """In the order that ``np.random.seed(seed); np.random.shuffle(order)`` gives to 0, 1, …"""
    order = np.random.RandomState(seed).permutation(len(part.x))
    return Part(part.x[order], part.y[order])


def train(
    model: fn.Sequential,
    split: Split,
    *,
    loss: fn.Loss,
    optimizer: fn.Optimizer,
    batch_size: int,
    epochs: int,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    progress: bool | str,
) -> fn.History:
    """Train as the course does; after Ctrl-C, KeyboardInterrupt. metrics: as in `fit`, of the validation part."""
    history = fn.fit(
        model,
        *split.training,
        loss=loss,
        optimizer=optimizer,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        drop_last=True,
        validation_data=split.validation.whole_batches(batch_size),
        metrics=metrics,
        progress=progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history
