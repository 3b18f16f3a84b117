"""Multi-layer perceptrons with scikit-learn's parameters, attributes and rules, trained by fastnn."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from .._errors import ShapeError
from .._kernels import Array
from ..layers import BatchNorm1d, Dropout, Identity, Layer, Linear, ReLU, Sequential, Sigmoid, Tanh
from ..optim import Optimizer
from . import lbfgs, stochastic
from .estimator import Estimator
from .losses import Measured, Reported, loss_of
from .rows import as_data
from .targets import Classifies, Regresses

_OUT_ACTIVATIONS = {"log_loss": "softmax", "binary_log_loss": "logistic", "squared_error": "identity", "poisson": "exp"}
_ACTIVATIONS: dict[str, type[Layer]] = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}


def _number(least: float, most: float = math.inf, *, open_least: bool = False, open_most: bool = False) -> Any:
    """What is a number between these, and how to say so."""
    low = f"{'above' if open_least else 'of at least'} {least:g}"
    high = "" if most == math.inf else f" and {'below' if open_most else 'at most'} {most:g}"

    def is_right(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number = float(value)
        above = number > least if open_least else number >= least
        return above and (number < most if open_most else number <= most)

    return is_right, f"a number {low}{high}"


def _whole(least: int, besides: Any = None) -> Any:
    def is_right(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral):
            return besides is not None and value == besides
        return int(value) >= least

    return is_right, f"a whole number of at least {least}" + ("" if besides is None else f", or {besides!r}")


def _one_of(*names: str) -> Any:
    return lambda value: isinstance(value, str) and value in names, f"one of {', '.join(map(repr, names))}"


_TRUTH = (lambda value: isinstance(value, bool | np.bool_), "True or False")

#: Of each parameter, what it has to be, and how to say so.
_PARAMETERS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "activation": _one_of(*_ACTIVATIONS),
    "solver": _one_of("lbfgs", "sgd", "adam"),
    "alpha": _number(0),
    "batch_size": _whole(1, "auto"),
    "learning_rate": _one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _number(0, open_least=True),
    "power_t": _number(0),
    "max_iter": _whole(1),
    "shuffle": _TRUTH,
    "tol": _number(0),
    "warm_start": _TRUTH,
    "momentum": _number(0, 1),
    "nesterovs_momentum": _TRUTH,
    "early_stopping": _TRUTH,
    "validation_fraction": _number(0, 1, open_most=True),
    "beta_1": _number(0, 1, open_most=True),
    "beta_2": _number(0, 1, open_most=True),
    "epsilon": _number(0, open_least=True),
    "n_iter_no_change": _whole(1, math.inf),
    "max_fun": _whole(1),
    "dropout": _number(0, 1, open_most=True),
    "batch_norm": _TRUTH,
    "loss": _one_of("squared_error", "poisson"),
}


def _stored(estimator: Any, arguments: Mapping[str, Any]) -> None:
    """The arguments of a constructor, as its attributes."""
    vars(estimator).update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError(f"{type(estimator).__name__}: partial_fit needs solver 'adam' or 'sgd', not 'lbfgs'")
    return True


class _Views(list[Array]):
    """Arrays that stand for parts of a network: what is put in their place is copied into them."""

    def __setitem__(self, which: Any, values: Any) -> None:
        places = [self[which]] if isinstance(which, Integral) else self[which]
        for place, value in zip(places, [values] if isinstance(which, Integral) else values, strict=True):
            if np.shape(value) != place.shape:
                raise ShapeError(
                    f"coefs_, intercepts_: expected an array of shape {place.shape}, got {np.shape(value)}"
                )
            place[...] = value


class _Perceptron(Estimator):
    """What a classifier and a regressor share."""

    _how_to_read = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}  # noqa: RUF012
    network_: Sequential
    classes_: Array  # of a classifier

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        for name, value in self.get_params(deep=False).items():
            is_right, wanted = _PARAMETERS.get(name, (None, ""))
            if is_right is not None and not is_right(value):
                raise ValueError(f"{type(self).__name__}: expected {name} as {wanted}, got {value!r}")
        for size in self._hidden():
            if not isinstance(size, Integral) or size < 1:
                raise ValueError(
                    f"{type(self).__name__}: hidden_layer_sizes must be > 0 and whole, got {self.hidden_layer_sizes!r}"
                )
        if self.solver == "lbfgs" and (self.dropout or self.batch_norm or self.callbacks):
            raise ValueError(f"{type(self).__name__}: dropout, batch_norm and callbacks need solver 'adam' or 'sgd'")

    def _hidden(self) -> list[Any]:
        sizes = self.hidden_layer_sizes
        return list(sizes) if hasattr(sizes, "__iter__") else [sizes]

    def _tell(self, message: str) -> None:
        if self.verbose:
            print(message)

    # --- the network --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _loss_name(self) -> str:
        """The loss, as `loss_of` knows it."""

    def _begin(self, features: int, outputs: int, dtype: str, random: np.random.RandomState) -> None:
        """A new network, and nothing learned."""
        sizes = [features, *map(int, self._hidden()), outputs]
        layers: list[Layer] = []
        for fan_in, fan_out in pairwise(sizes):
            if layers:
                layers += [BatchNorm1d(fan_in, dtype=dtype)] if self.batch_norm else []
                layers.append(_ACTIVATIONS[self.activation]())
                layers += [Dropout(self.dropout)] if self.dropout else []
            layers.append(self._linear(fan_in, fan_out, dtype, random))
        for number, layer in enumerate(layer for layer in layers if isinstance(layer, Dropout)):
            layer.reseed(int(random.randint(2**31)), number)
        self.network_ = Sequential(*layers)
        self.n_layers_, self.n_outputs_ = len(sizes), outputs
        self.out_activation_ = _OUT_ACTIVATIONS[self._loss_name()]
        self.n_iter_ = self.t_ = 0
        self.loss_curve_: list[float] = []
        self.best_loss_: float | None = None
        self.best_validation_score_: float | None = None
        self.validation_scores_: list[float] | None = None
        self.validation_loss_curve_: list[float] | None = None
        self._no_improvement_count = 0
        self._best_weights: dict[str, Array] | None = None

    def _watch(self) -> None:
        """Begin to watch the loss or the score, unless an earlier fit, or `partial_fit`, did."""
        if self.early_stopping and self.validation_scores_ is None:
            self.best_loss_, self.best_validation_score_ = None, -math.inf
            self.validation_scores_, self.validation_loss_curve_ = [], []
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_, self.best_validation_score_ = math.inf, None
            self.validation_scores_ = self.validation_loss_curve_ = None

    def _linear(self, fan_in: int, fan_out: int, dtype: str, random: np.random.RandomState) -> Linear:
        """Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", equation 16;
        for the logistic function a third of the variance. Biases are drawn alike, as scikit-learn draws them."""
        bound = math.sqrt((2 if self.activation == "logistic" else 6) / (fan_in + fan_out))
        layer = Linear(fan_in, fan_out, dtype=dtype)
        assert layer.bias is not None
        layer.weight.data[...] = random.uniform(-bound, bound, (fan_in, fan_out)).T
        layer.bias.data[...] = random.uniform(-bound, bound, fan_out)
        return layer

    def _linears(self) -> list[Linear]:
        if "network_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} is not fitted yet")
        return [layer for layer in self.network_ if isinstance(layer, Linear)]

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, (inputs, outputs): views of those in `network_`; set, values are copied."""
        return _Views(layer.weight.data.T for layer in self._linears())

    @coefs_.setter
    def coefs_(self, values: Sequence[Any]) -> None:
        self.coefs_[:] = values

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each layer, (outputs,): views, too."""
        return _Views(layer.bias.data for layer in self._linears() if layer.bias is not None)

    @intercepts_.setter
    def intercepts_(self, values: Sequence[Any]) -> None:
        self.intercepts_[:] = values

    # --- training -----------------------------------------------------------------------------------------------------

    def _kept_optimizer(self, keep: bool) -> Optimizer:
        keep = keep and getattr(self, "_made_for", None) == self.solver
        if not keep:
            self._updates, self._rate = 0, self.learning_rate_init  # how many there were, and the learning rate now
        return super()._kept_optimizer(keep)

    def _choice(self) -> Any:
        return self.solver

    def _new_optimizer(self) -> Optimizer:
        weights = [layer.weight for layer in self._linears()]
        known = {id(p) for p in weights}
        return stochastic.optimizer_of(self, weights, (p for p in self.network_.parameters() if id(p) not in known))

    def _train(self, X: Any, target: Array, weights: Array | None, first: bool, incremental: bool) -> None:
        if self.early_stopping and incremental:
            raise ValueError(f"{type(self).__name__}: partial_fit does not support early_stopping=True")
        random, name = check_random_state(self.random_state), self._loss_name()
        if name != "log_loss":
            target = target.reshape(len(target), -1).astype(X.dtype)
        outputs = target.shape[1] if target.ndim > 1 else len(self.classes_)
        if first:
            self._begin(X.shape[1], outputs, X.dtype.name, random)
        reported = (
            1 / outputs if name == "squared_error" else 1.0
        )  # a mean over outputs, where the gradient is of a sum
        if self.solver == "lbfgs":
            lbfgs.train(self, X, target, weights, loss_of(name, outputs, "sum"), reported)
        else:
            self._train_in_steps(X, target, weights, name, reported, random, incremental)
        if not all(np.isfinite(p.data).all() for p in self.network_.parameters()):
            raise ValueError(
                f"{type(self).__name__}: weights are not finite after training; scale X, or lower learning_rate_init"
            )

    def _train_in_steps(
        self, X: Any, target: Array, weights: Array | None, name: str, reported: float, random: Any, incremental: bool
    ) -> None:
        self._watch()
        validation = None
        if self.early_stopping:
            stratify = target if self.n_outputs_ == 1 and name == "binary_log_loss" else None
            train, held = train_test_split(
                np.arange(len(target)), random_state=random, test_size=self.validation_fraction, stratify=stratify
            )
            if len(held) < 2:
                raise ValueError(
                    f"{type(self).__name__}: fewer than 2 samples to validate by: raise validation_fraction"
                )
            data = [(as_data(X[i]), target[i], None if weights is None else weights[i]) for i in (train, held)]
            validation, X, target, weights = data[1], *data[0]
        optimizer = self._kept_optimizer(incremental)
        loss = loss_of(name, self.n_outputs_, "mean")
        alpha = self.alpha if weights is None else self.alpha * len(weights) / weights.sum()
        weighed = [layer.weight for layer in self._linears()]
        losses = Reported(loss, reported, weighed, alpha), Measured(loss, reported)
        stochastic.train(self, (as_data(X), target, weights), validation, losses, optimizer, random, incremental)


class MLPClassifier(Classifies, _Perceptron):
    """scikit-learn's `MLPClassifier`, trained by fastnn: the import line is all that has to change.

    Parameters, defaults, attributes, random draws and rules are scikit-learn's (see its documentation), so that the
    same `random_state` gives the same network but for rounding. Float32 data are computed in float32, all else in
    float64. A sparse X is made dense batch by batch. Beside them:

    dropout: with which probability a hidden activation is left out, after each hidden layer, in training.
    batch_norm: whether each hidden layer is normalised over the batch before its activation; a last batch of a single
        sample is left out then.
    class_weight: a dictionary of weights by label, or ``"balanced"``; multiplied into `sample_weight`.
    callbacks: fastnn's, called after each epoch with ``loss`` in the history, and with `early_stopping` ``val_loss``
        and ``val_accuracy``, or ``val_score`` of weighted samples; not for "lbfgs".
    validation_loss_curve_: with `early_stopping`, the loss, without L2's term, of the part held out after each epoch.
    network_: the model, a `fastnn.Sequential`, of which `coefs_` and `intercepts_` are views.

    Where it differs: `loss_` has the whole logarithm of a probability that rounds to 0 or 1, scikit-learn's is cut off;
    of weighted samples its L2 term goes by their mean weight; a batch whose samples all weigh nothing has no gradient;
    with `early_stopping` and `warm_start` the best weights of all fits come back; and where training goes on, another
    `solver` begins with a new optimizer, options such as `learning_rate_init` hold at once, `activation` stays.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        batch_norm: bool = False,
        class_weight: Any = None,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        _stored(self, locals())

    def _loss_name(self) -> str:
        return "binary_log_loss" if self._binarizer is not None or len(self.classes_) < 3 else "log_loss"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Train on X (N, features) and labels y (N,), or a table (N, labels) of ones and zeros; returns itself."""
        self._fitted(X, y, sample_weight, incremental=False)
        return self

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Go through these samples once more. classes: all labels that may ever come, needed in the first call."""
        self._fitted_further(X, y, sample_weight, classes)
        return self


class MLPRegressor(Regresses, _Perceptron):
    """scikit-learn's `MLPRegressor`, trained by fastnn: the import line is all that has to change.

    What is said of `MLPClassifier` goes for it, but for the classes. loss: ``"squared_error"``, or ``"poisson"``, whose
    steps are compiled with the extra ``jit`` and run from Python without it. Of several outputs, "lbfgs" minimizes the
    sum of their errors, where scikit-learn gives the solver a gradient of their sum beside their mean.
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        batch_norm: bool = False,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        _stored(self, locals())

    def _loss_name(self) -> str:
        return str(self.loss)

    def _encoded(self, y: Any) -> Array:
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"MLPRegressor: expected y of at least 0 for loss='poisson', got {y.min()}")
        return super()._encoded(y)

    def _decided(self, scores: Array) -> Array:
        return super()._decided(np.exp(scores) if self.out_activation_ == "exp" else scores)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train on X (N, features) and numbers y, (N,) or (N, outputs); returns itself."""
        self._fitted(X, y, sample_weight, incremental=False)
        return self

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Go through these samples once more."""
        self._fitted(X, y, sample_weight, incremental=True)
        return self
