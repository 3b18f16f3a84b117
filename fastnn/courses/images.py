"""Labelled images in three parts, and what is left of a network that was trained on them: its file and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import fastnn as fn
from fastnn._kernels import Array
from fastnn.data import Dataset


class Part(NamedTuple):
    """Images x (N, C, H, W) float32 and labels y: (N,), or (N, 2) of images that have two."""

    x: Array
    y: Array

    def whole_batches(self, size: int) -> Part:
        """Without a last batch of less than `size`: means over samples are then means over batches."""
        count = len(self.x) // size * size
        return Part(self.x[:count], self.y[:count])

    def flat(self) -> Part:
        """With the numbers of each image in a row: (N, pixels)."""
        return Part(self.x.reshape(len(self.x), -1), self.y)

    def ordered(self, order: Array) -> Part:
        """The samples that `order` names, in its order."""
        return Part(self.x[order], self.y[order])


class Split(NamedTuple):
    """A data set in three parts."""

    training: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]

    def flat(self) -> Split:
        """With the numbers of each image in a row."""
        return Split(self.training.flat(), self.validation.flat(), self.test.flat(), self.class_names)


def split(data: Dataset, held_out: float, order: Array | None = None) -> Split:
    """A data set whose last training images are for validation.

    held_out: the share of the training images that they are
    order: (N,) that all training images are brought into first; None leaves them in theirs
    """
    training = Part(data.x_train, data.y_train)
    if order is not None:
        training = training.ordered(order)
    kept = len(training.x) - round(held_out * len(training.x))
    validation = Part(training.x[kept:], training.y[kept:])
    training = Part(training.x[:kept], training.y[:kept])
    return Split(training, validation, Part(data.x_test, data.y_test), data.class_names)


def write(out: Path, model: fn.Sequential, history: fn.History, data: Split) -> dict[str, str]:
    """The model, and pictures of its training and of its mistakes; returns what each picture shows."""
    fn.save(model, out / "model.safetensors")
    fn.plots.learning_curves(history, out / "learning_curve.png")
    p = model.predict_proba(data.test.x)
    return {"learning_curve.png": "Loss and accuracy over the epochs", **write_mistakes(out, p, data)}


def write_mistakes(
    out: Path, p: Array, data: Split, model: str = "the network", shape: tuple[int, ...] | None = None
) -> dict[str, str]:
    """Pictures of which test images were taken for what, given their probabilities p (N, classes).

    model: what the captions call it. shape: (H, W) of flat images.
    """
    names = data.class_names
    fn.plots.confusion_matrix(data.test.y, p.argmax(1), names, out / "confusion_matrix.png")
    fn.plots.worst_mistakes(*data.test, p, names, path=out / "worst_mistakes.png", image_shape=shape)
    return {
        "confusion_matrix.png": f"Test images by their class and by what {model} took them for",
        "worst_mistakes.png": f"The test images that {model} got wrong with the least doubt",
    }
