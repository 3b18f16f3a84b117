"""scikit-learn's own checks of an estimator, on all four; none is expected to fail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import fastnn as fn
from fastnn.estimators import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor


@dataclass(frozen=True)
class Build:
    """A function that makes models, with a name that is the same in every process that runs tests."""

    hidden: int = 16

    def __call__(self, shape: tuple[int, ...], outputs: int) -> fn.Layer:
        first, last = fn.Linear(*shape, self.hidden, dtype="float64"), fn.Linear(self.hidden, outputs, dtype="float64")
        return fn.Sequential(first, fn.ReLU(), last)


ADAM = partial(fn.Adam, lr=0.03)


@parametrize_with_checks(
    [
        MLPClassifier(learning_rate_init=0.03, max_iter=30),
        MLPRegressor(learning_rate_init=0.03, max_iter=30),
        NetClassifier(Build(), optimizer=ADAM, epochs=15),
        NetRegressor(Build(), optimizer=ADAM, epochs=15),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimator(estimator: Any, check: Any) -> None:
    check(estimator)
