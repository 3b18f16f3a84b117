"""What all estimators have in common: a network, its optimizer, and the way of data to them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from .._kernels import Array
from ..layers import Layer
from ..optim import Optimizer
from .rows import scores_of, weights_of


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Base: `fit` and `partial_fit`, what is saved when it is pickled, and predictions.

    A subclass has a constructor that only stores its arguments, `_new_optimizer`, and `_train`.
    """

    y_is_numeric: bool
    warm_start: bool
    network_: Layer
    n_features_in_: int
    _how_to_read: dict[str, Any]  # arguments of scikit-learn's check of X
    _optimizer: Optimizer
    _saved_optimizer: dict[str, Any]  # its state, where it was not made again since it was pickled
    _made_for: Any  # the parameter that the optimizer was made for

    def _fitted(self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None) -> None:
        self._check_parameters()
        known = hasattr(self, "network_")
        first = not known or not (incremental or self.warm_start)
        X, y = validate_data(
            self, X, y, reset=first, multi_output=True, y_numeric=self.y_is_numeric, **self._how_to_read
        )
        if first:
            self._learn_targets(y if classes is None else classes)
        if not first or classes is not None:
            self._check_targets(y, all_of_them=not incremental)
        weights = self._weights(y, weights_of(sample_weight, X.shape[0]), incremental)
        if first:
            for name in ("_optimizer", "_saved_optimizer"):
                self.__dict__.pop(name, None)
        if weights is not None and not weights.any():
            raise ValueError(f"{type(self).__name__}: sample_weight and class_weight leave no sample any weight")
        self._train(X, self._encoded(y), weights, first, incremental)

    def _scores(self, X: Any) -> Array:
        check_is_fitted(self)
        return scores_of(self.network_, self._checked(X))

    def _checked(self, X: Any) -> Any:
        """X to predict from."""
        return validate_data(self, X, reset=False, **self._how_to_read)

    def _kept_optimizer(self, keep: bool) -> Optimizer:
        """The optimizer; where `keep`, the one before, even after it was pickled, unless another was chosen since."""
        keep = keep and getattr(self, "_made_for", None) == self._choice()
        if keep and hasattr(self, "_optimizer"):
            return self._optimizer
        self._optimizer, self._made_for = self._new_optimizer(), self._choice()
        saved = self.__dict__.pop("_saved_optimizer", None)
        if keep and saved is not None:
            self._optimizer.load_state_dict(saved)
        return self._optimizer

    @abstractmethod
    def _learn_targets(self, y: Any) -> None:
        """Note what y, all of it, says of the targets."""

    @abstractmethod
    def _check_targets(self, y: Any, all_of_them: bool) -> None:
        """Raise ValueError for targets that are not of those learned; all_of_them: none may be missing either."""

    @abstractmethod
    def _encoded(self, y: Any) -> Array:
        """Targets as a network takes them: labels (N,) int64, or numbers (N, outputs)."""

    def _weights(self, y: Any, weights: Array | None, incremental: bool) -> Array | None:
        """What each sample weighs, (N,), None for all alike. weights: what they were given."""
        return weights

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise ValueError or TypeError, naming it, for a parameter that makes no sense."""

    @abstractmethod
    def _choice(self) -> Any:
        """The parameter that says which optimizer it is to be."""

    @abstractmethod
    def _new_optimizer(self) -> Optimizer:
        """One with the parameters of `network_`."""

    @abstractmethod
    def _train(self, X: Any, target: Array, weights: Array | None, first: bool, incremental: bool) -> None:
        """Train on checked data. target: y as the network takes it; first: whether to begin with a new network."""

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name != "_optimizer"}
        if hasattr(self, "_optimizer"):
            state["_saved_optimizer"] = self._optimizer.state_dict()
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
