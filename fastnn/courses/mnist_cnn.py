"""MITx 6.86x, "Machine Learning with Python", project 3: a convolutional network on MNIST.

The course's figures: about 93 % training and 98 % validation accuracy after one epoch, over 99 % test accuracy after
ten. The initial weights are those that PyTorch draws; dropout's choices are fastnn's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn as fn

from . import Check, Found, images, mitx

SEED = mitx.SEED
BATCH = 32


def network() -> fn.Sequential:
    """Images (N, 1, 28, 28) to scores (N, 10)."""
    return fn.Sequential(
        fn.Conv2d(1, 32, 3),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Conv2d(32, 64, 3),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Flatten(),
        fn.Linear(1600, 128),
        fn.Dropout(0.5),
        fn.Linear(128, 10),
    )


def run(
    *,
    seed: int,
    out: Path | None = None,
    epochs: int = 10,
    data: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Found:
    """Train for `epochs`, at least 1, then test.

    seed: of the order of the images, below 2**32, the initial weights and dropout
    out: the folder for the model and the pictures
    """
    split = mitx.mnist(seed, data=data, download=download)
    fn.init.torch_manual_seed(seed)
    model = network()
    history = mitx.train(
        model,
        split,
        loss=fn.CrossEntropyLoss(),
        optimizer=fn.SGD(lr=0.01, momentum=0.9, nesterov=True),
        batch_size=BATCH,
        epochs=epochs,
        progress=progress,
    )
    test = fn.evaluate(model, *split.test, batch_size=BATCH, drop_last=True)
    pictures = {} if out is None else images.write(out, model, history, split)
    metrics = {
        "epochs": epochs,
        "epoch_1_training_accuracy": history.accuracy[0],
        "epoch_1_validation_accuracy": history.val_accuracy[0],
        "training_loss": history.loss[-1],
        "training_accuracy": history.accuracy[-1],
        "validation_loss": history.val_loss[-1],
        "validation_accuracy": history.val_accuracy[-1],
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "seconds_per_epoch": float(np.median(history.seconds)),
    }
    return Found(metrics, checks(epochs, metrics), pictures=pictures)


def checks(epochs: int, metrics: dict[str, float]) -> list[Check]:
    """Those of epoch 1 always; that of the test from ten epochs on, for which the course states it."""
    found = [
        Check.at_least("training accuracy, epoch 1", "about .93", metrics["epoch_1_training_accuracy"], 0.915),
        Check.at_least("validation accuracy, epoch 1", "about .98", metrics["epoch_1_validation_accuracy"], 0.975),
    ]
    if epochs >= 10:
        found.append(Check.above(f"test accuracy, epoch {epochs}", "over .99", metrics["test_accuracy"], 0.99))
    return found
