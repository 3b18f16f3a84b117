"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import check_range
from .._errors import ShapeError
from .._files import StrPath
from ..losses.targets import check_labels
from .figure import display_class, figure_class, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: What the cells hold, by `normalize`.
_CELLS = {
    None: "",
    "true": "\nshares of each true class",
    "pred": "\nshares of each predicted class",
    "all": "\nshares of all samples",
}


def confusion_matrix(
    y_true: Any, y_pred: Any, class_names: Sequence[str], path: StrPath | None = None, *, normalize: str | None = None
) -> Figure:
    """How often each class (row) was taken for which (column); the title states accuracy and number of samples.

    y_true, y_pred: (N,) integers, indices into `class_names`, N of at least 1. path: a file to write.
    normalize: None for counts; ``"true"`` for shares of each true class, so that a row's sum is 1, ``"pred"`` for those
        of each predicted class, ``"all"`` for those of all samples, as in scikit-learn.

    Raises ImportError without matplotlib or scikit-learn, `ShapeError`, `DTypeError`, ValueError for a number that is
    no class.
    """
    if normalize not in _CELLS:
        raise ValueError(f"confusion_matrix: expected normalize None, 'true', 'pred' or 'all', got {normalize!r}")
    new_figure, display = figure_class(), display_class()
    true, predicted = _labels(y_true, y_pred, len(class_names))
    names = [str(name) for name in class_names]
    longest = max(map(len, names))
    side = min(3 + 0.42 * len(names) + 0.07 * longest, 25)
    figure = new_figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    display.from_predictions(
        true,
        predicted,
        labels=range(len(names)),
        display_labels=names,
        normalize=normalize,
        include_values=len(names) <= 50,
        values_format=".2f" if normalize else "d",
        text_kw={"fontsize": 9},
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 3 else {}
    axes.set_xticks(range(len(names)), names, parse_math=False, **slant)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    correct = int(np.sum(true == predicted))
    title = f"Accuracy {100 * correct / len(true):.2f} % ({correct} of {len(true)}){_CELLS[normalize]}"
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    return written(figure, path)


def _labels(y_true: Any, y_pred: Any, classes: int) -> tuple[Any, Any]:
    true = check_labels(y_true, None, "confusion_matrix")
    predicted = check_labels(y_pred, len(true), "confusion_matrix")
    if not len(true):
        raise ShapeError("confusion_matrix: expected at least one sample, got none")
    for labels in (true, predicted):
        check_range(labels, classes, "confusion_matrix")
    return true, predicted
