"""Estimators for scikit-learn: networks that go into its pipelines, searches and cross-validation.

`MLPClassifier` and `MLPRegressor` are scikit-learn's own, trained by fastnn; `NetClassifier` and `NetRegressor` wrap
any model of fastnn. This package needs the extra ``sklearn``, and is imported when it is first asked for.
"""

try:
    import sklearn
except ImportError as error:
    raise ImportError('fastnn.estimators needs scikit-learn: pip install "fastnn[sklearn]"') from error

if tuple(int(part) for part in sklearn.__version__.split(".")[:2]) < (1, 6):
    raise ImportError(
        f'fastnn.estimators needs scikit-learn 1.6, found {sklearn.__version__}: pip install "fastnn[sklearn]"'
    )

from .mlp import MLPClassifier, MLPRegressor
from .net import NetClassifier, NetRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NetClassifier", "NetRegressor"]
