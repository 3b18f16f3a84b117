"""What all pictures need: the packages that draw them, and a file to go to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import StrPath, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require() -> None:
    """Raise an ImportError that says what to install unless matplotlib and scikit-learn are there."""
    figure_class()
    display_class()


def figure_class() -> Any:
    """Matplotlib's `Figure`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastnn[plot]"') from error
    return Figure


def display_class() -> Any:
    """Scikit-learn's `ConfusionMatrixDisplay`."""
    try:
        from sklearn.metrics import ConfusionMatrixDisplay
    except ImportError as error:
        raise ImportError('a confusion matrix needs scikit-learn: pip install "fastnn[sklearn]"') from error
    return ConfusionMatrixDisplay


def written(figure: Figure, path: StrPath | None) -> Figure:
    """The figure, after it went to `path`, if there is one."""
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format=Path(path).suffix[1:] or "png", dpi=150)
        write_bytes(path, picture.getvalue())
    return figure
