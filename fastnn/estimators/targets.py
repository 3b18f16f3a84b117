"""What a classifier's and a regressor's targets are to a network, and its scores to those who predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from .. import _kernels as k
from .._kernels import Array
from .estimator import Estimator


class Classifies(ClassifierMixin, Estimator):  # type: ignore[misc]
    """Labels of any kind, one for each sample, or a table (N, labels) of ones and zeros: several for each."""

    y_is_numeric = False
    classes_: Array
    class_weight: Any
    _binarizer: LabelBinarizer | None  # of tables

    def _learn_targets(self, y: Any) -> None:
        """Take y, or the classes that a first `partial_fit` is given, for all the classes there are."""
        check_classification_targets(y)
        tables = type_of_target(y).startswith("multilabel")
        self._binarizer = LabelBinarizer().fit(y) if tables else None
        self.classes_ = unique_labels(y)

    def _check_targets(self, y: Any, all_of_them: bool) -> None:
        """Raise ValueError for classes that are not those learned; all_of_them: none may be missing either."""
        found = np.unique(y) if self._binarizer is None and np.ndim(y) == 1 else unique_labels(y)
        unknown = np.setdiff1d(found, self.classes_)
        if len(unknown) or (all_of_them and len(found) < len(self.classes_)):
            name = type(self).__name__
            raise ValueError(f"{name}: expected y with the classes {self.classes_}, as before, got {found}")

    def _fitted_further(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> None:
        """`partial_fit`."""
        known = hasattr(self, "network_")
        if not known and classes is None:
            raise ValueError(f"{type(self).__name__}: expected classes, all of them, in the first call of partial_fit")
        if known and classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"{type(self).__name__}: expected classes {self.classes_}, as before, got {classes}")
        if known or type_of_target(y).startswith("multilabel"):
            classes = None
        self._fitted(X, y, sample_weight, incremental=True, classes=classes)

    def _encoded(self, y: Any) -> Array:
        """The index of each sample's class, (N,) int64; of tables, (N, labels) of ones and zeros."""
        if self._binarizer is not None:
            table: Array = self._binarizer.transform(y)
            return table
        labels: Array = np.searchsorted(self.classes_, column_or_1d(y, warn=True)).astype(np.int64)
        return labels

    def _weights(self, y: Any, weights: Array | None, incremental: bool) -> Array | None:
        """The samples' weights times those of their classes."""
        if self.class_weight is None:
            return weights
        if incremental and self.class_weight == "balanced":
            raise ValueError("class_weight: 'balanced' needs all labels, which partial_fit does not have")
        by_class: Array = compute_sample_weight(self.class_weight, y)
        return by_class if weights is None else by_class * weights

    def _probabilities(self, scores: Array) -> Array:
        if self._binarizer is not None:
            return np.asarray(expit(scores))
        if scores.shape[1] == 1:
            yes = expit(scores)
            return np.concatenate((1 - yes, yes), axis=1)[:, : len(self.classes_)]
        probabilities: Array = k.softmax(scores)
        return probabilities

    def _decided(self, scores: Array) -> Any:
        """The labels that scores stand for."""
        if self._binarizer is not None:
            return self._binarizer.inverse_transform(expit(scores))
        best = scores.argmax(axis=1) if scores.shape[1] > 1 else np.minimum(scores[:, 0] > 0, len(self.classes_) - 1)
        return self.classes_[best.astype(np.intp)]

    def predict(self, X: Any) -> Any:
        """The label of each sample, (N,); after training on tables, a table (N, labels)."""
        return self._decided(self._scores(X))

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, in the order of `classes_`, or of each label: (N, classes)."""
        return self._probabilities(self._scores(X))

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`; of a probability that is 0, minus infinity."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @staticmethod
    def _score_of(target: Array, predicted: Array, weights: Array | None) -> float:
        """The accuracy, from what `fit` gives a metric: labels and best classes, or tables and scores."""
        if target.ndim == 2:
            target, predicted = target > 0.5, predicted > 0
            if target.shape[1] == 1:
                target, predicted = target[:, 0], predicted[:, 0]
        return float(accuracy_score(target, predicted, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class Regresses(RegressorMixin, Estimator):  # type: ignore[misc]
    """Numbers, (N,), or several for each sample, (N, outputs)."""

    y_is_numeric = True

    def _learn_targets(self, y: Any) -> None:
        """There is nothing to learn about numbers."""

    def _check_targets(self, y: Any, all_of_them: bool) -> None:
        """Any number will do."""

    def _encoded(self, y: Any) -> Array:
        """(N, outputs)."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return np.asarray(y).reshape(len(y), -1)

    def _decided(self, scores: Array) -> Array:
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The numbers of each sample: (N,), or (N, outputs)."""
        return self._decided(self._scores(X))

    def _score_of(self, target: Array, predicted: Array, weights: Array | None) -> float:
        """R², NaN where a prediction is not finite."""
        predicted = self._decided(predicted).reshape(target.shape)
        return float(r2_score(target, predicted, sample_weight=weights)) if np.isfinite(predicted).all() else np.nan

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
