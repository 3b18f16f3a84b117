"""Pictures of a training and of its result. They need matplotlib, and the confusion matrix scikit-learn.

Each function draws a `matplotlib.figure.Figure` of its own, without pyplot, so no window, backend or style of the
caller is touched; a notebook shows the returned figure, and `path` writes it to a file as well.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._errors import ShapeError
from ._files import StrPath, write_bytes
from .losses import check_labels, check_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Curves(Protocol):
    """What a `History` holds, one number per epoch in each list; those of the validation may be empty."""

    loss: list[float]
    accuracy: list[float]
    val_loss: list[float]
    val_accuracy: list[float]


def require() -> None:
    """Raise an ImportError that says what to install unless matplotlib and scikit-learn are there."""
    _figure_class()
    _display_class()


def learning_curves(history: Curves, path: StrPath | None = None) -> Figure:
    """Loss and accuracy over the epochs, training against validation.

    history: what `fit` returns, or anything with its four lists. Accuracies are fractions and drawn as percentages;
        without any, the loss stands alone. Epochs count from 1. A number that is not finite is left out.
    path: a file to write; its ending chooses the format (png, svg, pdf).

    Raises ImportError without matplotlib.
    """
    with_accuracy = bool(history.accuracy or history.val_accuracy)
    figure = _figure_class()(figsize=(9, 4) if with_accuracy else (5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if with_accuracy else 1, squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    lines = _draw_curves(axes[0], history.loss, history.val_loss, scale=1)
    axes[0].set(title="Loss", ylabel="mean loss per sample")
    if with_accuracy:
        _draw_curves(axes[1], history.accuracy, history.val_accuracy, scale=100)
        axes[1].set(title="Accuracy", ylabel="correct (%)")
    if lines:  # above the panels, where it can cover no curve
        figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), frameon=False)
    else:
        axes[0].text(0.5, 0.5, "no complete epoch", ha="center", va="center", transform=axes[0].transAxes)
    return _written(figure, path)


def confusion_matrix(y_true: Any, y_pred: Any, class_names: Sequence[str], path: StrPath | None = None) -> Figure:
    """How often each class (row) was taken for which (column); the title states accuracy and number of samples.

    y_true, y_pred: (N,) integers, indices into `class_names`, N of at least 1
    path: a file to write; its ending chooses the format (png, svg, pdf)

    Raises ImportError without matplotlib or scikit-learn, `ShapeError`, `DTypeError`, ValueError for a number that is
    no class.
    """
    figure_class, display_class = _figure_class(), _display_class()
    true, predicted = _labels(y_true, y_pred, len(class_names))
    names = [str(name) for name in class_names]
    longest = max(map(len, names))
    side = min(3 + 0.42 * len(names) + 0.07 * longest, 25)
    figure = figure_class(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    display_class.from_predictions(
        true,
        predicted,
        labels=range(len(names)),
        display_labels=names,
        include_values=len(names) <= 50,
        values_format="d",
        text_kw={"fontsize": 9},
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )
    if longest > 3:
        axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    correct = int(np.sum(true == predicted))
    title = f"Accuracy {100 * correct / len(true):.2f} % ({correct} of {len(true)})"
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    return _written(figure, path)


# --- parts ------------------------------------------------------------------------------------------------------------


def _draw_curves(axes: Axes, training: Sequence[float], validation: Sequence[float], scale: float) -> list[Any]:
    """The lines of one panel, dotted where epochs are so few that a line alone might be invisible."""
    from matplotlib.ticker import MaxNLocator

    lines = []
    epochs = max(len(training), len(validation), 1)
    for label, values, style in (("training", training, "-"), ("validation", validation, "--")):
        if values:
            finite = [scale * value if np.isfinite(value) else np.nan for value in values]
            marker = "o" if epochs <= 20 else None
            lines += axes.plot(range(1, len(values) + 1), finite, style, marker=marker, markersize=4, label=label)
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    return lines


def _labels(y_true: Any, y_pred: Any, classes: int) -> tuple[Any, Any]:
    true = check_labels(y_true, None, "confusion_matrix")
    predicted = check_labels(y_pred, len(true), "confusion_matrix")
    if not len(true):
        raise ShapeError("confusion_matrix: expected at least one sample, got none")
    for labels in (true, predicted):
        check_range(labels, classes, "confusion_matrix")
    return true, predicted


def _written(figure: Figure, path: StrPath | None) -> Figure:
    """The figure, after it went to `path`, if there is one."""
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format=Path(path).suffix[1:] or "png", dpi=150)
        write_bytes(path, picture.getvalue())
    return figure


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastnn[plot]"') from error
    return Figure


def _display_class() -> Any:
    try:
        from sklearn.metrics import ConfusionMatrixDisplay
    except ImportError as error:
        raise ImportError('a confusion matrix needs scikit-learn: pip install "fastnn[sklearn]"') from error
    return ConfusionMatrixDisplay
