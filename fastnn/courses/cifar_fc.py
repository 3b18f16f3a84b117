"""UCLA ECE C147, homework 3, on CS231n's frame: fully connected networks on CIFAR-10, trained by its `Solver`.

The course asks for a two-layer network of 200 hidden units with at least 40 % validation accuracy, by options of one's
own choice, and for a three-layer network that learns 50 images by heart. Images are bytes less the mean image, in
float64; the last 1000 of the training part are for validation.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import Check, Found, data_folder
from .cs231n import seeded
from .cs231n.data_utils import get_CIFAR10_data
from .cs231n.fc_net import FullyConnectedNet, TwoLayerNet
from .cs231n.solver import Solver

SEED = 0
HIDDEN = 200
EPOCHS, OVERFIT_EPOCHS = 10, 20
OVERFITTED = 50  #: images

Data = dict[str, Array]


def run(
    *,
    seed: int,
    out: Path | None = None,
    epochs: int = EPOCHS,
    data: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> Found:
    """Train both networks.

    seed: of the weights and batches, below 2**32
    out: the folder for the model and the pictures
    epochs: of the two-layer network, at least 1; the other one has the course's 20
    """
    split = get_CIFAR10_data(root=data_folder(data, "cifar-10"), download=download)
    with seeded(seed):
        two_layers = two_layer_solver(split, epochs)
        train(two_layers, progress)
        overfitted = overfitting_solver(split)
        train(overfitted, progress)
    model = as_model(two_layers.model)
    pictures = {} if out is None else write(out, two_layers, overfitted, model)
    metrics: dict[str, Any] = {
        "epochs": epochs,
        "training_accuracy": two_layers.train_acc_history,
        "validation_accuracy": two_layers.val_acc_history,
        "best_validation_accuracy": two_layers.best_val_acc,
        "test_accuracy": float((model.predict(split["X_test"]) == split["y_test"]).mean()),
        "overfitted_losses": overfitted.loss_history,
        "overfitted_training_accuracy": overfitted.train_acc_history,
    }
    return Found(metrics, checks(metrics), [NOTE], pictures)


NOTE = (
    "Training accuracies of the two-layer network are of 1000 images drawn anew after each epoch, as the Solver has it."
)


def two_layer_solver(split: Data, epochs: int) -> Solver:
    """3072-200-10, by gradient descent whose learning rate falls by a tenth after each epoch."""
    return Solver(
        TwoLayerNet(hidden_dims=HIDDEN, reg=0.25),
        split,
        update_rule="sgd",
        optim_config={"learning_rate": 1e-3},
        lr_decay=0.9,
        batch_size=100,
        num_epochs=epochs,
        print_every=100,
    )


def overfitting_solver(split: Data) -> Solver:
    """3072-100-100-10 on the first images, as in the course."""
    return Solver(
        FullyConnectedNet([100, 100], weight_scale=1e-2, dtype=np.float64),
        {**split, "X_train": split["X_train"][:OVERFITTED], "y_train": split["y_train"][:OVERFITTED]},
        update_rule="sgd",
        optim_config={"learning_rate": 1e-2},
        batch_size=25,
        num_epochs=OVERFIT_EPOCHS,
        print_every=10,
    )


def train(solver: Solver, progress: bool) -> None:
    """With `progress` the Solver prints, to standard error."""
    solver.verbose = progress
    with redirect_stdout(sys.stderr):
        solver.train()


def as_model(net: TwoLayerNet) -> fn.Sequential:
    """The same network as a model of fastnn, whose weights lie (out, in)."""
    W1, W2 = net.params["W1"], net.params["W2"]
    first, second = (fn.Linear(*W.shape, dtype="float64") for W in (W1, W2))
    model = fn.Sequential(fn.Flatten(), first, fn.ReLU(), second)
    for parameter, name in zip(model.parameters(), ("W1", "b1", "W2", "b2"), strict=True):
        parameter.data[...] = net.params[name].T
    return model


def write(out: Path, two_layers: Solver, overfitted: Solver, model: fn.Sequential) -> dict[str, str]:
    """The two-layer network, and pictures; returns what each picture shows."""
    fn.save(model, out / "model.safetensors")
    fn.plots.learning_curves(history(two_layers), out / "learning_curve.png")
    fn.plots.learning_curves(history(overfitted), out / "overfitting.png")
    fn.plots.filters(model, out / "filters.png", image_shape=(3, 32, 32))
    return {
        "learning_curve.png": "The two-layer network: loss and accuracy over the epochs",
        "overfitting.png": f"The three-layer network learns {OVERFITTED} images by heart",
        "filters.png": "What each hidden unit of the two-layer network looks for",
    }


def history(solver: Solver) -> fn.History:
    """The losses, as means over an epoch's iterations, and the accuracies after each epoch."""
    losses = np.reshape(solver.loss_history, (solver.num_epochs, -1)).mean(1)
    return fn.History(losses, solver.train_acc_history[1:], val_accuracy=solver.val_acc_history[1:])


def checks(metrics: dict[str, Any]) -> list[Check]:
    """One for each network; one epoch is enough for the bound of the first."""
    learnt = metrics["overfitted_training_accuracy"][-1]
    return [
        Check.at_least("validation accuracy, two layers", "at least .40", metrics["best_validation_accuracy"], 0.4),
        Check.at_least("accuracy on 50 images learnt by heart", "1.0", learnt, 1.0),
    ]
