"""What the experiments of MITx 6.86x on two overlapping digits share: data, loss, training, figures and pictures.

Pictures are (N, 1, 42, 28), labels (N, 2): of the upper digit and of the lower one. A network has two heads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import Check, mitx
from .images import Part, Split

BATCH = 64
EPOCHS = 30
DIGITS = ("upper", "lower")


class Read(NamedTuple):
    """The data set in the course's parts, and where its images come from."""

    split: Split
    origin: str


def read(seed: int, *, data: Path | None = None, download: bool = True) -> Read:
    """The data set by the course: the last tenth is for validation, `seed` orders the rest."""
    own, mnist = folders(data)
    images = fn.data.two_digit_mnist(own, mnist_root=mnist, download=download)
    return Read(mitx.ordered(images, seed), images.origin)


def folders(data: Path | None) -> tuple[Path | None, Path | None]:
    """The folders of the two-digit images and of MNIST, from that of all data sets, or from that of the former.

    None stands for the usual places.
    """
    if data is None:
        return None, None
    data = Path(os.path.expanduser(data))
    own, mnist = (folder if folder.is_dir() else None for folder in (data / "two-digit-mnist", data / "mnist"))
    return (data, None) if own is None and mnist is None else (own, mnist)


def heads(features: int) -> fn.Parallel:
    """Scores of the upper and of the lower digit: the course's one layer of 20, in two halves.

    The initial weights are those that PyTorch draws for the one layer.
    """
    whole = fn.Linear(features, 20).state_dict()
    both = fn.Parallel({name: fn.Linear(features, 10) for name in DIGITS}, mode="tuple")
    for i, head in enumerate(both):
        head.load_state_dict({name: values[10 * i : 10 * i + 10] for name, values in whole.items()})
    return both


def loss() -> fn.JointLoss:
    """Half the sum of both digits' cross-entropies."""
    return fn.JointLoss([fn.CrossEntropyLoss(), fn.CrossEntropyLoss()], weights=[0.5, 0.5])


#: Each digit's accuracy, for a history to have beside that of both together.
METRICS = {
    "upper_accuracy": lambda true, found: np.mean(true[0] == found[0]),
    "lower_accuracy": lambda true, found: np.mean(true[1] == found[1]),
}


def train(model: fn.Sequential, split: Split, *, epochs: int, progress: bool) -> fn.History:
    """Train as the course does; after Ctrl-C, KeyboardInterrupt."""
    return mitx.train(
        model,
        split,
        loss=loss(),
        optimizer=fn.SGD(lr=0.01, momentum=0.9),
        batch_size=BATCH,
        epochs=epochs,
        metrics=METRICS,
        progress=progress,
    )


class Trained(NamedTuple):
    """A network trained as the course does, on what it is tested, what was found, and where the images come from."""

    model: fn.Sequential
    test: Part
    metrics: dict[str, Any]
    pictures: dict[str, str]
    origin: str


def trained(
    network: Callable[[], fn.Sequential],
    *,
    seed: int,
    out: Path | None,
    epochs: int,
    data: Path | None,
    download: bool,
    progress: bool,
) -> Trained:
    """Train and test what `network` makes, from PyTorch's weights; see an experiment's `run`."""
    split, origin = read(seed, data=data, download=download)
    fn.init.torch_manual_seed(seed)
    model = network()
    history = train(model, split, epochs=epochs, progress=progress)
    test = split.test.whole_batches(BATCH)
    pictures = {} if out is None else write(out, model, history, test, split.class_names)
    return Trained(model, test, measured(model, history, test), pictures, origin)


def measured(model: fn.Sequential, history: fn.History, test: Part) -> dict[str, Any]:
    """Figures of a training, and of the test afterwards."""
    found = {
        "epochs": history.epochs,
        "training_loss": history.loss[-1],
        "training_accuracy_of_both": history.accuracy[-1],
        "validation_loss": history.val_loss[-1],
        "validation_accuracy_of_both": history.val_accuracy[-1],
        **{f"validation_{name}": history[f"val_{name}"][-1] for name in METRICS},
        "seconds_per_epoch": float(np.median(history.seconds)),
    }
    tested = fn.evaluate(model, *test, loss=loss(), metrics=METRICS)
    both = {"test_loss": tested["loss"], "test_accuracy_of_both": tested["accuracy"]}
    return {**found, **both, **{f"test_{name}": tested[name] for name in METRICS}}


def write(out: Path, model: fn.Sequential, history: fn.History, test: Part, digits: Any) -> dict[str, str]:
    """The model, and pictures of its training and of its mistakes; returns what each picture shows.

    digits: the names of the ten digits
    """
    fn.save(model, out / "model.safetensors")
    names = list(digits)
    fn.plots.learning_curves(
        history, out / "learning_curve.png", metrics=("loss", "accuracy", "upper_accuracy", "lower_accuracy")
    )
    captions = {"learning_curve.png": "Loss and accuracy over the epochs: of both digits together, of each alone"}
    p = model.predict_proba(test.x)
    for i, digit in enumerate(DIGITS):
        file = f"confusion_matrix_{digit}.png"
        fn.plots.confusion_matrix(test.y[:, i], p[i].argmax(1), names, out / file)
        captions[file] = f"Test images by their {digit} digit and by what the network took it for"
    pairs = [f"{upper} {lower}" for upper in names for lower in names]
    fn.plots.worst_mistakes(test.x, test.y @ [10, 1], _of_pairs(*p), pairs, path=out / "worst_mistakes.png")
    captions["worst_mistakes.png"] = (
        "The test images that the network got wrong with the least doubt, upper digit first"
    )
    return captions


def _of_pairs(upper: Array, lower: Array) -> Array:
    """The probability of each pair of digits (N, 100), from that of each digit (N, 10)."""
    pairs: Array = (upper[:, :, None] * lower[:, None, :]).reshape(len(upper), -1)
    return pairs


def at_least(metrics: dict[str, Any], upper: float, lower: float) -> list[Check]:
    """That the test reaches these accuracies; the course states none."""
    return [
        Check.at_least(f"test accuracy, {digit} digit", "none", metrics[f"test_{digit}_accuracy"], bound)
        for digit, bound in zip(DIGITS, (upper, lower), strict=True)
    ]
