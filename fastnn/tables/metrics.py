"""How well predictions fit the truth, by scikit-learn, and what somebody would come to who looks at no input."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._kernels import Array
from .predictor import Predictions
from .target import Classes, Target


def measured(target: Target, truth: Array, predictions: Predictions) -> dict[str, float]:
    """Metrics by name.

    truth: (n,) int64 classes, or numbers. Of classes: accuracy, the mean of the classes' F1, and the mean negative
    logarithm of the true class's probability; of numbers, in their unit: the root of the mean squared error, the mean
    absolute error, and R², the share of the variance that is explained.
    """
    from sklearn import metrics

    if isinstance(target, Classes):
        predicted = _places(target, predictions)
        found = {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "macro F1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
            "log loss": metrics.log_loss(truth, predictions.probabilities, labels=range(target.outputs)),
        }
    else:
        found = {
            "RMSE": np.sqrt(metrics.mean_squared_error(truth, predictions.values)),
            "MAE": metrics.mean_absolute_error(truth, predictions.values),
            "R²": metrics.r2_score(truth, predictions.values),
        }
    return {name: float(value) for name, value in found.items()}


def baseline_of(target: Target, truth: Array, count: int) -> tuple[Predictions, str]:
    """What `count` rows are said to be without a look at them, and in words: the majority class, or the mean.

    truth: of the training rows, (n,) int64 classes, or numbers
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor

    x, rows = np.zeros((len(truth), 1)), np.zeros((count, 1))
    if isinstance(target, Classes):
        dummy = DummyClassifier(strategy="prior").fit(x, truth)
        values = [target.names[i] for i in dummy.predict(rows)]
        return Predictions(values, dummy.predict_proba(rows), target.names, None), f"majority class {values[0]!r}"
    mean = DummyRegressor(strategy="mean").fit(x, truth).predict(rows)
    return Predictions(mean, None, [], None), f"mean {mean[0]:.6g}"


def class_report(target: Target, truth: Array, predictions: Predictions) -> dict[str, Any] | None:
    """Precision, recall, F1 and number of samples of each class, by its name; None for numbers."""
    from sklearn.metrics import classification_report

    if not isinstance(target, Classes):
        return None
    numbers = range(target.outputs)
    predicted = _places(target, predictions)
    found = classification_report(truth, predicted, labels=numbers, output_dict=True, zero_division=0)
    return {name: found[str(i)] for i, name in enumerate(target.names)}


def _places(target: Classes, predictions: Predictions) -> list[int]:
    """Which class each prediction is."""
    places = {name: i for i, name in enumerate(target.names)}
    return [places[name] for name in predictions.values]
