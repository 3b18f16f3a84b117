"""Predicted numbers against true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import ShapeError
from .._files import StrPath
from .figure import figure_class, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def prediction_error(y_true: Any, y_pred: Any, path: StrPath | None = None, *, name: str = "") -> Figure:
    """Each sample's true number over its predicted one, on a diagonal if it is right; the title states R² and RMSE.

    y_true, y_pred: (N,) finite numbers, N of at least 2. name: what they are, for the axes. path: a file to write.
    Of more than 1000 samples, 1000 are drawn.

    Raises ImportError without matplotlib or scikit-learn, `ShapeError`, ValueError.
    """
    new_figure = figure_class()
    from matplotlib.ticker import MaxNLocator

    try:
        from sklearn.metrics import PredictionErrorDisplay, mean_squared_error, r2_score
    except ImportError as error:
        raise ImportError('a prediction error needs scikit-learn: pip install "fastnn[sklearn]"') from error
    true, predicted = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    if true.ndim != 1 or true.shape != predicted.shape or len(true) < 2:
        raise ShapeError(f"prediction_error: expected (N,) and (N,), N >= 2, got {true.shape} and {predicted.shape}")
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise ValueError("prediction_error: expected finite numbers, got NaN or infinity")
    figure: Figure = new_figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    PredictionErrorDisplay.from_predictions(
        true,
        predicted,
        kind="actual_vs_predicted",
        random_state=0,
        scatter_kwargs={"alpha": 0.5, "s": 18},
        line_kwargs={"color": "0.4"},
        ax=axes,
    )
    ends = np.array([min(true.min(), predicted.min()), max(true.max(), predicted.max())])
    limits = ends + 0.04 * max(np.ptp(ends), 1e-12) * np.array([-1, 1])
    axes.set(xlim=limits, ylim=limits)
    axes.set_aspect("equal", adjustable="box")  # scikit-learn's display would rather move the limits
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6))  # at round numbers, which scikit-learn's ticks are not
    rmse = float(np.sqrt(mean_squared_error(true, predicted)))
    axes.set_title(f"R² {r2_score(true, predicted):.3f}, RMSE {rmse:.4g} ({len(true)} samples)", parse_math=False)
    axes.set_xlabel(f"predicted {name}".rstrip(), parse_math=False)
    axes.set_ylabel(f"true {name}".rstrip(), parse_math=False)
    axes.grid(alpha=0.3)
    return written(figure, path)
