"""What the experiments of MITx 6.86x, "Machine Learning with Python", share: its split of MNIST and its training.

The course's accuracies are means over batches, the remainder dropped, in training and in evaluation; those of the
training are of the batches as they are trained on, dropout included. Every epoch has the same batches, in the same
order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn
from fastnn.data import Dataset

from . import completed, data_folder
from .images import Split, split

SEED = 12321


def mnist(seed: int, *, data: Path | None = None, download: bool = True) -> Split:
    """MNIST by the course: pixels are byte / 256, the last tenth is for validation, `seed` orders the rest."""
    return ordered(fn.data.mnist(data_folder(data, "mnist"), divisor=256, download=download), seed)


def ordered(data: Dataset, seed: int) -> Split:
    """A data set in the course's parts, the last tenth being for validation, the training part in the course's order.

    The order is what ``np.random.seed(seed); np.random.shuffle(order)`` makes of 0, 1, …
    """
    parts = split(data, 0.1)
    order = np.random.RandomState(seed).permutation(len(parts.training.x))
    return parts._replace(training=parts.training.ordered(order))


def train(
    model: fn.Sequential,
    data: Split,
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
        *data.training,
        loss=loss,
        optimizer=optimizer,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        drop_last=True,
        validation_data=data.validation.whole_batches(batch_size),
        metrics=metrics,
        progress=progress,
    )
    return completed(history)
