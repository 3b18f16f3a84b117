"""``fastnn train`` without a file: example networks on images that come with packages or are downloaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fastnn as fn

from .. import _kernels as k
from .arguments import INTERRUPTED


class Recipe(NamedTuple):
    """An example of `train`. load: takes whether it may download; epochs, lr: unless the caller chooses."""

    load: Callable[[bool], Any]
    network: Callable[[], fn.Sequential]
    epochs: int
    lr: float


def train(arguments: argparse.Namespace) -> int:
    """Train an example network; after Ctrl-C, everything is written as well."""
    from .. import plots
    from .._output import to_json

    plots.figure.require()  # before the training, not after
    recipe = RECIPES[arguments.data]
    data = recipe.load(arguments.download)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lr = recipe.lr if arguments.lr is None else arguments.lr

    fn.manual_seed(arguments.seed)
    model = recipe.network()
    history = fn.fit(
        model,
        data.x_train,
        data.y_train,
        optimizer=fn.SGD(lr=lr, momentum=0.9, nesterov=True),
        batch_size=arguments.batch_size,
        epochs=arguments.epochs or recipe.epochs,
        validation_data=(data.x_test, data.y_test),
        progress=True,
    )
    validation = fn.evaluate(model, data.x_test, data.y_test)  # Ctrl-C may have come after the last epoch's

    summary = {
        "data": arguments.data,
        "samples": len(data.x_train),
        "epochs": history.epochs,
        "interrupted": history.interrupted,
        "batch_size": arguments.batch_size,
        "lr": lr,
        "seed": arguments.seed,
        "threads": fn.get_num_threads(),
        "isa": k.isa(),
        "seconds": sum(history.seconds),
        "training": {name: getattr(history, name)[-1] for name in validation if history.epochs},
        "validation": validation,
        "files": _write(arguments.out, model, history, data),
    }
    print(to_json(summary) if arguments.json else _summary(summary))
    return INTERRUPTED if history.interrupted else 0


def _write(out: Path, model: fn.Sequential, history: fn.History, data: Any) -> list[str]:
    """Write all that a training leaves behind; returns the paths."""
    from .. import plots
    from .._output import write_json

    names = ("model.safetensors", "learning_curve.png", "confusion_matrix.png", "history.json")
    files = [out / name for name in names]
    fn.save(model, files[0])
    plots.learning_curves(history, files[1])
    plots.confusion_matrix(data.y_test, model.predict(data.x_test), data.class_names, files[2])
    write_json(files[3], history.as_dict())
    return [str(file) for file in files]


def _summary(summary: dict[str, Any]) -> str:
    """What `train` tells a reader."""
    from .._output import table

    parts = summary["training"], summary["validation"]
    losses = [f"{part['loss']:.4f}" if part else "-" for part in parts]
    accuracies = [f"{part['accuracy']:.2%}" if part else "-" for part in parts]
    what = f"{summary['samples']} images, epochs {summary['epochs']}, {summary['seconds']:.1f} s"
    how = f"threads {summary['threads']}, {summary['isa']}, seed {summary['seed']}"
    lines = [
        table([["", "training", "validation"], ["loss", *losses], ["accuracy", *accuracies]]),
        f"{summary['data']}: {what} ({how})" + (", interrupted" if summary["interrupted"] else ""),
        "written: " + ", ".join(summary["files"]),
    ]
    return "\n".join(lines)


def _load_digits(download: bool) -> Any:
    from ..data import digits

    return digits()


def _load_mnist(download: bool) -> Any:
    from ..data import mnist

    return mnist(download=download)


def _load_fashion_mnist(download: bool) -> Any:
    from ..data import fashion_mnist

    return fashion_mnist(download=download)


def _digits_network() -> fn.Sequential:
    """Images (N, 1, 8, 8) to scores (N, 10); about 99 % of the validation images are right after 30 epochs."""
    return fn.Sequential(
        fn.Conv2d(1, 16, 3, padding=1),
        fn.ReLU(),
        fn.Conv2d(16, 32, 3, padding=1),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Flatten(),
        fn.Dropout(0.5),
        fn.Linear(512, 10),
    )


def _mnist_network() -> fn.Sequential:
    from ..courses.mnist_cnn import network

    return network()


RECIPES = {
    "digits": Recipe(_load_digits, _digits_network, epochs=30, lr=0.03),
    "mnist": Recipe(_load_mnist, _mnist_network, epochs=3, lr=0.01),
    "fashion-mnist": Recipe(_load_fashion_mnist, _mnist_network, epochs=5, lr=0.01),
}
