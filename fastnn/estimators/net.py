"""Any model of fastnn as an estimator."""

from __future__ import annotations

import copy
import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from .. import init
from .._errors import ShapeError
from .._kernels import Array
from ..layers import Layer
from ..losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from ..optim import SGD, Optimizer
from ..training import fit
from ..training.checks import check_model, check_whole
from .estimator import Estimator
from .rows import as_data, scores_of
from .targets import Classifies, Regresses

_BUILDING = threading.Lock()


class _Net(Estimator):
    """What a classifier and a regressor share; see `NetClassifier`."""

    _how_to_read = {"accept_sparse": ["csr", "csc"], "allow_nd": True}  # noqa: RUF012
    model: Layer | Callable[[tuple[int, ...], int], Layer]
    n_features_in_: int

    def _check_parameters(self) -> None:
        name = type(self).__name__
        if not isinstance(self.model, Layer) and (isinstance(self.model, type) or not callable(self.model)):
            raise TypeError(
                f"{name}: expected a model, or a function (shape, outputs) that returns one, got {self.model!r}"
            )
        check_whole(f"{name}: batch_size", self.batch_size, 1)
        check_whole(f"{name}: epochs", self.epochs, 1)
        fraction = self.validation_fraction
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(
                f"{name}: expected validation_fraction as None or a number between 0 and 1, got {fraction!r}"
            )

    def _checked(self, X: Any) -> Any:
        X = super()._checked(X)
        if X.shape[1:] != self.sample_shape_:
            wanted = ", ".join(map(str, ("N", *self.sample_shape_)))
            raise ShapeError(f"{type(self).__name__}: expected X ({wanted}), as in fit, got {X.shape}")
        return X

    def _train(self, X: Any, target: Array, weights: Array | None, first: bool, incremental: bool) -> None:
        random = check_random_state(self.random_state)
        if first:
            self.sample_shape_, self.n_outputs_ = tuple(X.shape[1:]), self._outputs(target)
            self.network_ = self._built(random)
            self._check_outputs(X[:1])
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
        validation = None
        if self.validation_fraction is not None and not incremental:
            rows = np.arange(X.shape[0])
            split = {"test_size": self.validation_fraction, "random_state": random, "stratify": self._strata(target)}
            train, held = train_test_split(rows, **split)
            parts = [(as_data(X[i]), target[i], *(() if weights is None else (weights[i],))) for i in (train, held)]
            (X, target, *_), validation = parts
            weights = None if weights is None else weights[train]
        optimizer = self._kept_optimizer(not first)
        callbacks = self.callbacks(optimizer) if callable(self.callbacks) else self.callbacks
        self.history_ = fit(
            self.network_,
            as_data(X),
            target,
            loss=self._default_loss() if self.loss is None else self.loss,
            optimizer=optimizer,
            batch_size=self.batch_size,
            epochs=1 if incremental else self.epochs,
            shuffle=self.shuffle,
            validation_data=validation,
            sample_weight=weights,
            callbacks=callbacks or (),
            seed=int(random.randint(2**31)),
            progress=bool(self.verbose),
        )
        self.n_iter_ = self.history_.epochs
        self.loss_curve_ += self.history_.loss
        self.validation_loss_curve_ += self.history_.val_loss

    def _built(self, random: np.random.RandomState) -> Layer:
        """A new network, whose first weights depend on `random` alone; what others draw goes on as if it was not."""
        if isinstance(self.model, Layer):
            return copy.deepcopy(self.model)
        with _BUILDING:
            state = init.get_state()
            try:
                init.manual_seed(int(random.randint(2**31)))
                network = self.model(self.sample_shape_, self.n_outputs_)
            finally:
                init.set_state(state)
        check_model(network)
        return network

    def _check_outputs(self, sample: Any) -> None:
        """Raise a `ShapeError` for a model of too many scores, whose predictions would be of no class."""
        found = np.shape(scores_of(self.network_, sample))
        if len(found) == 2 and found[1] > self.n_outputs_:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.n_outputs_} scores for a sample, the model returns {found[1]}"
            )

    def _choice(self) -> Any:
        return self.optimizer

    def _new_optimizer(self) -> Optimizer:
        given = self.optimizer
        made = SGD(lr=0.01, momentum=0.9) if given is None else given() if callable(given) else copy.deepcopy(given)
        if not isinstance(made, Optimizer) or made.param_groups:
            raise TypeError(
                f"{type(self).__name__}: expected an optimizer without parameters, such as Adam(lr=0.01), got {given!r}"
            )
        made.bind(self.network_.parameters())
        return made

    def _outputs(self, target: Array) -> int:
        return math.prod(target.shape[1:])

    def _strata(self, target: Array) -> Array | None:
        return None

    @abstractmethod
    def _default_loss(self) -> Any:
        """What None stands for."""


class NetClassifier(Classifies, _Net):
    """Any model as a classifier: ``NetClassifier(build, optimizer=fn.Adam(lr=0.01), epochs=30)``.

    model: a function that is called as ``build(shape, outputs)`` by each `fit`, and returns the model. shape: that of a
        sample as X has it, such as (64,), or (1, 8, 8) for images X (N, 1, 8, 8); outputs: how many scores it has to
        return for each: the number of classes, or of labels that a sample may have several of.
        Or a model, which is copied with its weights: then every fit begins with these.
    loss: None for `CrossEntropyLoss()`, or `BCEWithLogitsLoss()` where a sample may have several labels.
    optimizer: one without parameters, which is copied, or a function or class that returns one; None for
        ``SGD(lr=0.01, momentum=0.9)``.
    batch_size, epochs, shuffle, callbacks: as of `fastnn.fit`. callbacks may be a function of the optimizer that
        returns them: ``lambda optimizer: [fn.CosineAnnealingLR(optimizer, 30)]``.
    class_weight: a dictionary of weights by label, or ``"balanced"``; multiplied into `sample_weight`.
    validation_fraction: the part that is held out, of each class alike, and measured after each epoch; for callbacks
        such as ``fn.EarlyStopping()``.
    random_state: of first weights, shuffles, dropout and the part held out. warm_start: `fit` goes on with the network
        and the optimizer that are there. verbose: show progress, on stderr.

    It computes in the model's dtype. A sparse X is made dense batch by batch. After `fit`: network_, the model;
    history_, what `fastnn.fit` returned; loss_curve_ and validation_loss_curve_ of all fits that went on from each
    other; classes_, sample_shape_, n_outputs_, n_iter_ (epochs), n_features_in_, feature_names_in_.
    """

    def __init__(
        self,
        model: Any,
        *,
        loss: Any = None,
        optimizer: Any = None,
        batch_size: int = 32,
        epochs: int = 10,
        shuffle: bool = True,
        class_weight: Any = None,
        callbacks: Sequence[Any] | Callable[[Optimizer], Sequence[Any]] | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.batch_size, self.epochs, self.shuffle = batch_size, epochs, shuffle
        self.class_weight, self.callbacks, self.validation_fraction = class_weight, callbacks, validation_fraction
        self.random_state, self.warm_start, self.verbose = random_state, warm_start, verbose

    def _outputs(self, target: Array) -> int:
        return len(self.classes_)

    def _strata(self, target: Array) -> Array | None:
        return target if target.ndim == 1 else None

    def _default_loss(self) -> Any:
        return CrossEntropyLoss() if self._binarizer is None else BCEWithLogitsLoss()

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetClassifier:
        """Train on X (N, …) and labels y (N,), or a table (N, labels) of ones and zeros; returns itself."""
        self._fitted(X, y, sample_weight, incremental=False)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> NetClassifier:
        """Go through these samples once more. classes: all labels that may ever come, needed in the first call."""
        self._fitted_further(X, y, sample_weight, classes)
        return self


class NetRegressor(Regresses, _Net):
    """Any model as a regressor: what is said of `NetClassifier` goes for it, but for the classes.

    model: a function ``build(shape, outputs)``, outputs being how many numbers are to be predicted for each sample; or
    a model. loss: None for `MSELoss()`.
    """

    def __init__(
        self,
        model: Any,
        *,
        loss: Any = None,
        optimizer: Any = None,
        batch_size: int = 32,
        epochs: int = 10,
        shuffle: bool = True,
        callbacks: Sequence[Any] | Callable[[Optimizer], Sequence[Any]] | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.batch_size, self.epochs, self.shuffle = batch_size, epochs, shuffle
        self.callbacks, self.validation_fraction = callbacks, validation_fraction
        self.random_state, self.warm_start, self.verbose = random_state, warm_start, verbose

    def _default_loss(self) -> Any:
        return MSELoss()

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:
        """Train on X (N, …) and numbers y, (N,) or (N, outputs); returns itself."""
        self._fitted(X, y, sample_weight, incremental=False)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetRegressor:
        """Go through these samples once more."""
        self._fitted(X, y, sample_weight, incremental=True)
        return self
