"""Pictures of a training and of its result. They need matplotlib, and the confusion matrix scikit-learn.

Each function draws a `matplotlib.figure.Figure` of its own, without pyplot, so no window, backend or style of the
caller is touched; a notebook shows the returned figure, and `path` writes it to a file as well, whose ending chooses
the format (png, svg, pdf).
"""

from .bars import bars
from .confusion import confusion_matrix
from .curves import learning_curves
from .heat_map import heat_map
from .log_log import log_log
from .pictures import filters, worst_mistakes
from .prediction_error import prediction_error

__all__ = [
    "bars",
    "confusion_matrix",
    "filters",
    "heat_map",
    "learning_curves",
    "log_log",
    "prediction_error",
    "worst_mistakes",
]
