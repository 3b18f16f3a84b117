"""UCLA ECE C147, homework 3: a two-layer net on CIFAR-10, in float64.

The course trains 3072-50-10 for 1000 iterations, then for 5000 on each point of a grid of learning rates and weights of
the penalty, and the best point, by the last recorded validation accuracy, once more. Its draws from `np.random` go on
from those of the toy training (`two_layer_toy`), so that its losses come out to the last digits.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import Check, Found, data_folder, two_layer_toy
from .cs231n import seeded
from .cs231n.neural_net import TwoLayerNet

SEED = two_layer_toy.SEED
BATCH = 200
FIRST_RUN = {"learning_rate": 1e-4, "reg": 0.25}
ITERATIONS = 1000
LEARNING_RATES = (1e-3, 1e-4, 1e-5)
PENALTIES = (0.25, 0.3, 0.35, 0.4)
GRID_ITERATIONS = 5000
HELD_OUT = 1000  #: images for validation, the last ones of the training part; and how many of the test images are used

#: The course's figures of the first run: the loss of every 100th iteration, and accuracies on the batch of each epoch.
LOSSES = (
    2.302737768195894,
    2.3022105256991185,
    2.2964000486596787,
    2.268839768313435,
    2.2252579375820387,
    2.153736317283182,
    2.0755138768138344,
    2.021773289161574,
    1.9611502427393566,
    1.9224467427616607,
)
TRAINING_ACCURACIES = (0.1, 0.165, 0.175, 0.275, 0.26)


class Split(NamedTuple):
    """Rows of 3072 float64, the mean image of the training part subtracted, and labels."""

    x_train: Array
    y_train: Array
    x_val: Array
    y_val: Array
    x_test: Array
    y_test: Array


class Point(NamedTuple):
    """A point of the grid, and the validation accuracy that was recorded last."""

    learning_rate: float
    reg: float
    accuracy: float


def cifar(data: Path | None, download: bool) -> Split:
    """CIFAR-10 by the course: pixels are bytes, in the order (H, W, C)."""
    images = fn.data.cifar10(data_folder(data, "cifar-10"), divisor=1, download=download)
    x_train, x_test = rows(images.x_train), rows(images.x_test[:HELD_OUT])
    mean = x_train[:-HELD_OUT].mean(axis=0)
    x_train -= mean
    x_test -= mean
    y_train, y_test = images.y_train, images.y_test[:HELD_OUT]
    return Split(x_train[:-HELD_OUT], y_train[:-HELD_OUT], x_train[-HELD_OUT:], y_train[-HELD_OUT:], x_test, y_test)


def rows(images: Array) -> Array:
    """Images (N, C, H, W) as rows (N, H·W·C) float64."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float64).reshape(len(images), -1)


def trained(
    split: Split, iterations: int, learning_rate: float, reg: float, progress: bool | str
) -> tuple[TwoLayerNet, dict[str, list[float]]]:
    """A new network, and the histories of its training."""
    net = TwoLayerNet(split.x_train.shape[1], 50, 10)
    return net, net.train(
        *split[:4],
        learning_rate=learning_rate,
        learning_rate_decay=0.95,
        reg=reg,
        num_iters=iterations,
        batch_size=BATCH,
        progress=progress,
    )


def searched(split: Split, iterations: int, progress: bool) -> list[Point]:
    """The grid, in the course's order."""
    points: list[Point] = []
    grid = list(product(LEARNING_RATES, PENALTIES))
    for number, (learning_rate, reg) in enumerate(grid, 1):
        name = f"grid {number}/{len(grid)}, lr {learning_rate:g}, reg {reg:g}"
        _, history = trained(split, iterations, learning_rate, reg, progress and name)
        points.append(Point(learning_rate, reg, history["val_acc_history"][-1]))
    return points


def accuracy(net: TwoLayerNet, x: Array, y: Array) -> float:
    return float((net.predict(x) == y).mean())


def run(
    *,
    seed: int,
    out: Path | None = None,
    iterations: int = ITERATIONS,
    grid_iterations: int = GRID_ITERATIONS,
    data: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Found:
    """The first run, the grid, and the best of its points once more, tested.

    seed: of all weights and batches, below 2**32
    out: the folder for the models and the pictures
    iterations, grid_iterations: of the first run, and of each of the thirteen trainings after it
    """
    split = cifar(data, download)
    with seeded(seed):
        two_layer_toy.trained(seed)  # whose draws come before
        first, history = trained(split, iterations, **FIRST_RUN, progress=progress and "first run")
        points = searched(split, grid_iterations, progress)
        best = max(points, key=lambda point: point.accuracy)  # of equal ones the first
        name = f"best point again, lr {best.learning_rate:g}, reg {best.reg:g}"
        net, last = trained(split, grid_iterations, *best[:2], progress=progress and name)
    metrics = {
        "iterations": iterations,
        "iterations_per_epoch": max(len(split.x_train) // BATCH, 1),
        "losses": history["loss_history"][::100],
        "training_accuracies": history["train_acc_history"],
        "validation_accuracies": history["val_acc_history"],
        "validation_accuracy": accuracy(first, split.x_val, split.y_val),
        "grid_iterations": grid_iterations,
        "grid": [point._asdict() for point in points],
        "best": best._asdict(),
        "best_again_validation_accuracy": last["val_acc_history"][-1],
        "test_accuracy": accuracy(net, split.x_test, split.y_test),
    }
    pictures = {} if out is None else write(out, metrics, history["loss_history"], first, net)
    notes = [f"The best point: learning rate {best.learning_rate:g}, penalty {best.reg:g} (the course: 0.001, 0.35)."]
    if seed != SEED:
        notes.append(f"The course's figures belong to seed {SEED}: nothing is compared.")
    return Found(metrics, checks(seed, metrics), notes, pictures)


def write(
    out: Path, metrics: dict[str, Any], losses: list[float], first: TwoLayerNet, best: TwoLayerNet
) -> dict[str, str]:
    """The models, and pictures; returns what each picture shows."""
    fn.save(first.model, out / "first.safetensors")
    fn.save(best.model, out / "best.safetensors")
    loss = SimpleNamespace(loss=losses)
    fn.plots.learning_curves(loss, out / "loss.png", metrics="loss", first=0, unit="iteration")
    recorded = SimpleNamespace(accuracy=metrics["training_accuracies"], val_accuracy=metrics["validation_accuracies"])
    every = metrics["iterations_per_epoch"]
    fn.plots.learning_curves(recorded, out / "accuracy.png", metrics="accuracy", every=every, first=0, unit="iteration")
    fn.plots.heat_map(
        np.reshape([point["accuracy"] for point in metrics["grid"]], (len(LEARNING_RATES), len(PENALTIES))),
        [f"{rate:.0e}" for rate in LEARNING_RATES],
        [f"{reg:g}" for reg in PENALTIES],
        out / "grid.png",
        title="Validation accuracy",
        xlabel="weight of the penalty",
        ylabel="learning rate",
    )
    for name, net in (("before", first), ("after", best)):
        fn.plots.filters(net.model, out / f"weights_{name}.png", image_shape=(32, 32, 3), order="HWC")
    return {
        "loss.png": "The first run: loss of each iteration's batch",
        "accuracy.png": "The first run: accuracy on the batch, and on the validation images, once an epoch",
        "grid.png": "The grid: the validation accuracy recorded last at each point, the best framed",
        "weights_before.png": "First-layer weights after the first run",
        "weights_after.png": "First-layer weights of the best point of the grid, trained once more",
    }


def checks(seed: int, metrics: dict[str, Any]) -> list[Check]:
    """Of the course's seed: of the first run, if it is as long as the course's, and of the grid, if that is, too."""
    found: list[Check] = []
    if seed != SEED or metrics["iterations"] != ITERATIONS:
        return found
    for i, (course, ours) in enumerate(zip(LOSSES, metrics["losses"], strict=True)):
        found.append(Check.within(f"loss, iteration {100 * i}", course, ours, 1e-9))
    for i, (course, ours) in enumerate(zip(TRAINING_ACCURACIES, metrics["training_accuracies"], strict=True)):
        found.append(Check.within(f"training accuracy, iteration {245 * i}", course, ours, 0))
    found.append(Check.within("validation accuracy", 0.282, metrics["validation_accuracy"], 0))
    if metrics["grid_iterations"] == GRID_ITERATIONS:
        best = metrics["best"]
        found += [
            Check.within("best validation accuracy of the grid", 0.517, best["accuracy"], 0.002),
            Check.within("test accuracy", 0.507, metrics["test_accuracy"], 0.002),
        ]
    return found
