"""MITx 6.86x, "Machine Learning with Python", project 3: a convolutional network on MNIST.

The course's figures: about 93 % training and 98 % validation accuracy after one epoch, over 99 % test accuracy after
ten. Its accuracies are means over batches of 32, the remainder dropped, in training and in evaluation. The training
accuracy is that of the batches as they are trained on, dropout included. The course draws the initial weights in
PyTorch; here `fastnn.manual_seed` draws them, from the same distributions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn as fn

from . import Check, data_folder

SEED = 12321
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
) -> tuple[dict[str, float], list[Check]]:
    """Train for `epochs`, at least 1, then test.

    seed: of the order of the images, below 2**32, the initial weights and dropout
    out: the folder for the model, the learning curves and the confusion matrix of the test images
    """
    if out is not None:
        fn.plots.figure.require()  # before the training, not after
    images = fn.data.mnist(data_folder(data, "mnist"), divisor=256, download=download)
    held_out = len(images.x_train) // 10
    x, y = images.x_train[:-held_out], images.y_train[:-held_out]
    whole = held_out // BATCH * BATCH  # without the remainder, a mean over images is the course's mean over batches
    validation = images.x_train[-held_out:][:whole], images.y_train[-held_out:][:whole]
    order = np.random.RandomState(seed).permutation(len(x))  # the draws of np.random.seed and np.random.shuffle

    fn.manual_seed(seed)
    model = network()
    history = fn.fit(
        model,
        x[order],
        y[order],
        loss=fn.CrossEntropyLoss(),
        optimizer=fn.SGD(lr=0.01, momentum=0.9, nesterov=True),
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,  # the same batches in the same order every epoch, as in the course
        drop_last=True,
        validation_data=validation,
        progress=progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    test = fn.evaluate(model, images.x_test, images.y_test, batch_size=BATCH, drop_last=True)
    if out is not None:
        fn.save(model, out / "model.safetensors")
        fn.plots.learning_curves(history, out / "learning_curve.png")
        classes = model.predict(images.x_test)
        fn.plots.confusion_matrix(images.y_test, classes, images.class_names, out / "confusion_matrix.png")
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
    return metrics, checks(epochs, metrics)


def checks(epochs: int, metrics: dict[str, float]) -> list[Check]:
    """Those of epoch 1 always; that of the test from ten epochs on, for which the course states it."""
    found = [
        Check.at_least("training accuracy, epoch 1", "about .93", metrics["epoch_1_training_accuracy"], 0.915),
        Check.at_least("validation accuracy, epoch 1", "about .98", metrics["epoch_1_validation_accuracy"], 0.975),
    ]
    if epochs >= 10:
        found.append(Check.above(f"test accuracy, epoch {epochs}", "over .99", metrics["test_accuracy"], 0.99))
    return found
