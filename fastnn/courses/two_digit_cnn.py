"""MITx 6.86x, "Machine Learning with Python", project 3: a convolutional network for two overlapping digits.

The course's network calls dropout as a function and does not tell it whether the network is being trained, so that it
goes on in evaluation: a mistake, under which the course measured validation and test. It also makes a second
convolution, with a pooling, and a Dropout(0.6), none of which it uses. It states no figure.

Here dropout is off in evaluation, and the test is measured the course's way besides. The initial weights are PyTorch's,
for which the unused convolution has to be drawn; dropout's choices are fastnn's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn

from . import Check, Found, mitx, two_digits
from .images import Part

SEED = mitx.SEED


def network() -> fn.Sequential:
    """Images (N, 1, 42, 28) to scores (N, 10) of the upper digit and as many of the lower one."""
    convolution = fn.Conv2d(1, 32, 5)
    fn.Conv2d(32, 64, 3)  # the course's unused one, so that the next layer's weights are PyTorch's
    return fn.Sequential(
        convolution,
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Dropout(0.5),
        fn.Flatten(),
        two_digits.heads(19 * 12 * 32),
    )


def run(
    *,
    seed: int,
    out: Path | None = None,
    epochs: int = two_digits.EPOCHS,
    data: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Found:
    """Train for `epochs`, at least 1, then test, dropout off and dropout on.

    seed: of the order of the images, below 2**32, the initial weights and dropout
    out: the folder for the model and the pictures
    """
    found = two_digits.trained(
        network, seed=seed, out=out, epochs=epochs, data=data, download=download, progress=progress
    )
    metrics = found.metrics | with_dropout(found.model, found.test)
    note = (
        "The course leaves dropout on when it evaluates, by mistake; so measured, the test accuracies are "
        f"{metrics['test_upper_accuracy_dropout_on']:.4f} (upper digit) and "
        f"{metrics['test_lower_accuracy_dropout_on']:.4f} (lower). The checks are of dropout off."
    )
    return Found(metrics, checks(metrics), [f"Data: {found.origin}.", note], found.pictures)


def with_dropout(model: fn.Sequential, test: Part) -> dict[str, float]:
    """Both digits' accuracies the course's way, with dropout still on."""
    right = [
        [scores.argmax(1) == labels for scores, labels in zip(model.forward(x, train=True)[0], y.T, strict=True)]
        for x, y in _batches(test)
    ]
    means = np.concatenate(right, axis=1).mean(1)
    return {
        f"test_{digit}_accuracy_dropout_on": float(mean) for digit, mean in zip(two_digits.DIGITS, means, strict=True)
    }


def _batches(part: Part) -> list[Part]:
    """The samples, some at a time."""
    size = two_digits.BATCH
    return [Part(part.x[i : i + size], part.y[i : i + size]) for i in range(0, len(part.x), size)]


def checks(metrics: dict[str, Any]) -> list[Check]:
    """Those of the test, from the course's thirty epochs on."""
    return two_digits.at_least(metrics, 0.96, 0.95) if metrics["epochs"] >= two_digits.EPOCHS else []
