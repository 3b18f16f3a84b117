"""Grids of pictures: what the first layer looks for, and what was recognised least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import check_range
from .._errors import DTypeError, ShapeError
from .._files import StrPath
from .._kernels import Array
from ..layers import Layer, Parameter
from ..losses.targets import check_labels
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CHARACTER = 0.073  #: inches of a character, about, of 9 points
_LINE = 0.16  #: inches from one line of text to the next


def filters(
    layer: Any, path: StrPath | None = None, *, image_shape: Sequence[int] | None = None, order: str = "CHW"
) -> Figure:
    """The filters of a first layer as a grid of pictures: what each of its outputs looks for.

    layer: a layer or model, of which the first weights are drawn, or weights: (O, C, H, W) of a convolution, C being 1
        or 3, or (O, features) of a linear layer.
    image_shape: of a linear layer, the shape of the image that its features are, in the `order` ``"CHW"`` or ``"HWC"``;
        (H, W) for one channel.
    path: a file to write.

    Each filter is scaled by itself, to its largest absolute weight: 0 is mid grey.
    Raises ImportError without matplotlib, `ShapeError`, `DTypeError`, ValueError for weights that are no pictures.
    """
    name, weights = _weights(layer)
    pictures = _pictures(weights, image_shape, order, "filters: weights")
    largest = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True, initial=1e-30)
    count, height, width, _ = pictures.shape
    title = f"{name}{count} filters, {height}x{width}\neach scaled by itself, grey is 0"
    columns = math.ceil(math.sqrt(count * height / width))
    size = max(0.25, min(0.8, 8 / max(columns, 1)))
    return written(_grid(0.5 + 0.5 * pictures / largest, title, columns, size=size), path)


def worst_mistakes(
    x: Any,
    y_true: Any,
    probabilities: Any,
    class_names: Sequence[str],
    count: int = 20,
    path: StrPath | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    order: str = "CHW",
) -> Figure:
    """The pictures taken for another class than theirs that were given the least probability of being of theirs.

    Above each stand the class that it was taken for and its own, with their probabilities.
    x: (N, C, H, W) images, C being 1 or 3, or (N, features) with their `image_shape` and `order` (see `filters`).
        Bytes, and numbers from 0 to 1, are shown as they are, others scaled, all pictures alike.
    y_true: (N,) integers, indices into `class_names`. probabilities: (N, classes), from `Layer.predict_proba`.
    count: how many to draw, at most. path: a file to write.

    Raises ImportError without matplotlib, `ShapeError`, `DTypeError`, and ValueError for a number that is no class, for
    scores that are no probabilities and for an x that is no pictures.
    """
    images, names = np.asarray(x), [str(name) for name in class_names]
    true, p = _judged(y_true, probabilities, len(images), len(names))
    rows, predicted = np.arange(len(p)), p.argmax(1)
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(p[rows, true][wrong], kind="stable")][: max(count, 0)]
    labels = [
        f"predicted: {names[predicted[i]]} ({p[i, predicted[i]]:.1%})\ntrue: {names[true[i]]} ({p[i, true[i]]:.1%})"
        for i in worst
    ]
    title = f"{len(worst)} of {len(wrong)} mistakes among {len(p)} samples"
    pictures = _shown(_pictures(images[worst], image_shape, order, "worst_mistakes: x"))
    return written(_grid(pictures, title, min(5, len(worst)), size=1.6, labels=labels), path)


# --- arrays -----------------------------------------------------------------------------------------------------------


def _weights(layer: Any) -> tuple[str, Array]:
    """What to call the weights, and they."""
    if not isinstance(layer, Layer):
        return "", np.asarray(layer)
    for part in layer.modules():
        weight = vars(part).get("weight")
        if isinstance(weight, Parameter) and weight.data.ndim > 1:
            return f"{part.label}: ", weight.data
    raise ValueError(f"filters: {layer.label} has no weights")


def _pictures(a: Array, image_shape: Sequence[int] | None, order: str, what: str) -> Array:
    """(N, H, W, C), C being 1 or 3, from (N, C, H, W), or from (N, features) of images so shaped."""
    if order not in ("CHW", "HWC"):
        raise ValueError(f"{what}: expected order 'CHW' or 'HWC', got {order!r}")
    if a.dtype.kind not in "fiub":
        raise DTypeError(f"{what}: expected real numbers, got {a.dtype}")
    if image_shape is not None:
        shape = tuple(image_shape)
        full = shape if len(shape) != 2 else (1, *shape) if order == "CHW" else (*shape, 1)
        if a.ndim < 2 or len(full) != 3 or math.prod(full) != math.prod(a.shape[1:]):
            raise ShapeError(f"{what}: expected images of shape {shape}, got {a.shape}")
        a = a.reshape(len(a), *full)
    if a.ndim != 4:
        raise ShapeError(f"{what}: expected (N, C, H, W), or an image_shape for it, got {a.shape}")
    pictures: Array = a.transpose(0, 2, 3, 1) if order == "CHW" else a
    if pictures.shape[3] not in (1, 3):
        raise ShapeError(f"{what}: expected pictures of 1 or 3 channels ({order}), got {a.shape}")
    if 0 in pictures.shape[1:3]:
        raise ShapeError(f"{what}: expected pictures of at least one pixel, got {a.shape}")
    return pictures if a.dtype == np.uint8 else pictures.astype(np.float64)


def _shown(pictures: Array) -> Array:
    """Numbers from 0 to 1 for the same pictures."""
    if pictures.dtype == np.uint8:
        return pictures / 255
    finite = pictures[np.isfinite(pictures)]
    if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
        return pictures
    scaled: Array = (pictures - finite.min()) / max(finite.max() - finite.min(), 1e-30)
    return scaled


def _judged(y_true: Any, probabilities: Any, count: int, classes: int) -> tuple[Array, Array]:
    """True classes (N,) and probabilities (N, classes), checked."""
    true, p = check_labels(y_true, count, "worst_mistakes"), np.asarray(probabilities)
    check_range(true, classes, "worst_mistakes")
    if p.shape != (count, classes):
        raise ShapeError(f"worst_mistakes: expected probabilities of shape {(count, classes)}, got {p.shape}")
    if p.dtype.kind != "f" or not ((p >= 0) & (p <= 1)).all() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError("worst_mistakes: expected probabilities from 0 to 1 whose sum is 1, as of model.predict_proba")
    return true, p


# --- drawing ----------------------------------------------------------------------------------------------------------


def _grid(pictures: Array, title: str, columns: int, *, size: float, labels: Sequence[str] = ()) -> Figure:
    """Pictures (N, H, W, C) of numbers from 0 to 1, the longer side of each `size` inches; labels stand above them."""
    from matplotlib.patches import Rectangle

    count, H, W, C = pictures.shape
    width, height = size * W / max(H, W), size * H / max(H, W)
    lines = max((label.count("\n") + 1 for label in labels), default=0)
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    step_x = max(width, _CHARACTER * longest) + 0.08
    step_y = height + _LINE * lines + (0.12 if labels else 0.08)
    top = _LINE * (title.count("\n") + 1) + 0.15
    page_x = max(columns * step_x, _CHARACTER * max(map(len, title.split("\n")))) + 0.3
    page_y = top + math.ceil(count / max(columns, 1)) * step_y + 0.1

    figure: Figure = figure_class()(figsize=(page_x, page_y))
    axes = figure.add_axes((0, 0, 1, 1))  # the whole page, measured in inches from its upper left corner
    plain: dict[str, Any] = {"ha": "center", "fontsize": 9, "parse_math": False}  # names may have dollars in them
    axes.text(page_x / 2, 0.1, title, va="top", **plain)
    for i, picture in enumerate(pictures):
        x = (page_x - columns * step_x) / 2 + i % columns * step_x + (step_x - width) / 2
        y = top + i // columns * step_y + _LINE * lines
        shown = picture[:, :, 0] if C == 1 else picture
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="0.6", linewidth=1))  # white ends here
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(x, x + width, y + height, y))
        if labels:
            axes.text(x + width / 2, y - 0.03, labels[i], va="bottom", linespacing=1.1, **plain)
    axes.set(xlim=(0, page_x), ylim=(page_y, 0), aspect="auto")
    axes.set_axis_off()
    return figure
