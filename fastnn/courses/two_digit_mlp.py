"""MITx 6.86x, "Machine Learning with Python", project 3: one hidden layer for two overlapping digits.

The course asks for this network and states no figure of it. Its one output layer of 20, whose halves go through a
softmax each, is here two layers of 10, which begin with the weights that PyTorch draws for the one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastnn as fn

from . import Check, Found, mitx, two_digits

SEED = mitx.SEED


def network() -> fn.Sequential:
    """Images (N, 1, 42, 28) to scores (N, 10) of the upper digit and as many of the lower one."""
    return fn.Sequential(fn.Flatten(), fn.Linear(42 * 28, 64), fn.ReLU(), two_digits.heads(64))


def run(
    *,
    seed: int,
    out: Path | None = None,
    epochs: int = two_digits.EPOCHS,
    data: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Found:
    """Train for `epochs`, at least 1, then test.

    seed: of the order of the images, below 2**32, and the initial weights
    out: the folder for the model and the pictures
    """
    found = two_digits.trained(
        network, seed=seed, out=out, epochs=epochs, data=data, download=download, progress=progress
    )
    return Found(found.metrics, checks(found.metrics), [f"Data: {found.origin}."], found.pictures)


def checks(metrics: dict[str, Any]) -> list[Check]:
    """Those of the test, from the course's thirty epochs on."""
    return two_digits.at_least(metrics, 0.915, 0.90) if metrics["epochs"] >= two_digits.EPOCHS else []
