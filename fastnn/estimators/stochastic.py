"""The solvers "adam" and "sgd": scikit-learn's rules for the learning rate and for when to stop, over `fit`'s steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._kernels import Array
from ..layers import Layer
from ..layers.parameter import Parameter
from ..losses import Loss
from ..optim import SGD, Adam, Optimizer
from ..training.batches import open_data
from ..training.callbacks import Callback, as_callback
from ..training.history import History
from ..training.passes import Metric, Pass, evaluation
from ..training.progress import Silent
from ..training.resume import Checkpoint
from ..training.run import Run
from ..training.step import Step
from ..training.weights import batch_weights

_EVALUATED_AT_ONCE = 256  # samples


class Order:
    """The order of the samples as scikit-learn draws it: each epoch shuffles what the last one left."""

    def __init__(self, samples: int, random: np.random.RandomState) -> None:
        self.order: Array = np.arange(samples)
        self._random = random

    def permutation(self, samples: int) -> Array:
        """The order of the next epoch."""
        self.order = self.order[self._random.permutation(samples)]
        return self.order


def optimizer_of(how: Any, weights: Iterable[Parameter], others: Iterable[Parameter]) -> Optimizer:
    """The optimizer that an estimator's parameters ask for. weights: those that `alpha` is about."""
    groups = [{"params": list(weights)}, {"params": list(others)}]
    if how.solver == "adam":
        betas = (how.beta_1, how.beta_2)
        return Adam(groups, how.learning_rate_init, betas, how.epsilon, bias_correction=False)
    nesterov = bool(how.nesterovs_momentum and how.momentum > 0)
    return SGD(groups, how.learning_rate_init, how.momentum, nesterov=nesterov)


class Pace:
    """The options of each update of an epoch, planned before it, for kernels to read: see `Optimizer.ahead`.

    Adam's rate holds its bias correction, as scikit-learn has it: lr · √(1 - β₂ᵗ) / (1 - β₁ᵗ), epsilon being added to
    the uncorrected √v. The weight decay is alpha over the number of samples in the batch, or over their weights.
    """

    def __init__(self, how: Any, optimizer: Optimizer, batch_size: int, order: Order, weights: Array | None) -> None:
        self._how, self._optimizer, self._batch_size = how, optimizer, batch_size
        self._order, self._weights = order, weights
        self._decay = self._decays(None)  # as of samples that weigh 1
        self._planned_from: int | None = None

    def settle(self) -> None:
        """Count the updates that there were."""
        if self._planned_from is not None:
            self._how._updates = self._planned_from + self._optimizer.followed()

    def rates(self, steps: int) -> list[Array]:
        """For weights and for all others: the first options of so many updates, (steps, 5), or (steps, 4) of SGD."""
        how = self._how
        self._planned_from = how._updates
        if how.solver == "adam":
            t = np.arange(how._updates + 1, how._updates + 1 + steps)
            rate = how.learning_rate_init * np.sqrt(1 - how.beta_2**t) / (1 - how.beta_1**t)
            plan = np.array([[0.0, how.beta_1, how.beta_2, how.epsilon, 0.0]]).repeat(steps, axis=0)
        else:
            rate = how._rate
            plan = np.array([[0.0, how.momentum, 0.0, 0.0]]).repeat(steps, axis=0)
        plan[:, 0] = rate
        without = plan.copy()
        decay = self._decay if self._weights is None else self._decays(self._weights[self._order.order])
        plan[:, -1] = decay[:steps]
        return [plan, without]

    def _decays(self, each: Array | None) -> Array:
        """That of each batch, from what the samples weigh in their order."""
        weighs = batch_weights(len(self._order.order), self._batch_size, each)
        decays: Array = np.divide(self._how.alpha, weighs, out=np.zeros(len(weighs)), where=weighs > 0)
        return decays


class Rules(Callback):
    """After each epoch: what scikit-learn notes in the estimator, and whether to go on."""

    def __init__(self, how: Any, optimizer: Optimizer, samples: int, incremental: bool) -> None:
        self._how, self._optimizer, self._samples, self._incremental = how, optimizer, samples, incremental

    def on_epoch_end(self, model: Layer, history: History) -> bool:
        """True to stop."""
        how = self._how
        how.n_iter_, how.loss_ = history.epochs, history.loss[-1]
        how.t_ += self._samples
        how.loss_curve_.append(how.loss_)
        how._tell(f"Iteration {how.n_iter_}, loss = {how.loss_:.8f}")
        if how.early_stopping:
            self._note_score(model, history)
        else:
            self._note_loss()
        if how.solver == "sgd" and how.learning_rate == "invscaling":
            self._set_rate(how.learning_rate_init / (how.t_ + 1) ** how.power_t)
        stop = how._no_improvement_count > how.n_iter_no_change and self._stops()
        if not stop and not self._incremental and how.n_iter_ == how.max_iter:
            message = f"{type(how).__name__}: max_iter={how.max_iter} reached before the optimization converged"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return stop

    def _note_loss(self) -> None:
        how = self._how
        how._no_improvement_count = how._no_improvement_count + 1 if how.loss_ > how.best_loss_ - how.tol else 0
        how.best_loss_ = min(how.best_loss_, how.loss_)

    def _note_score(self, model: Layer, history: History) -> None:
        how = self._how
        score = history["val_score" if "val_score" in history.names() else "val_accuracy"][-1]
        how.validation_scores_.append(score)
        how.validation_loss_curve_.append(history.val_loss[-1])
        how._tell(f"Validation score: {score:f}")
        how._no_improvement_count = how._no_improvement_count + 1 if score < how.best_validation_score_ + how.tol else 0
        if score > how.best_validation_score_:
            how.best_validation_score_ = score
            how._best_weights = model.state_dict()

    def _stops(self) -> bool:
        """There is no improvement any more; an adaptive rate is lowered first."""
        how = self._how
        what = "Validation score" if how.early_stopping else "Training loss"
        told = f"{what} did not improve more than tol={how.tol:f} for {how.n_iter_no_change} consecutive epochs."
        if how.solver != "sgd" or how.learning_rate != "adaptive":
            how._tell(f"{told} Stopping.")
            return True
        if how._rate <= 1e-6:
            how._tell(f"{told} Learning rate too small. Stopping.")
            return True
        self._set_rate(how._rate / 5)
        how._no_improvement_count = 0
        how._tell(f"{told} Setting learning rate to {how._rate:f}")
        return False

    def _set_rate(self, rate: float) -> None:
        """What was gathered as momentum keeps the rate that it was gathered with."""
        assert isinstance(self._optimizer, SGD)
        self._optimizer.scale_momentum(self._how._rate / rate)
        self._how._rate = rate

    def on_train_end(self, model: Layer, history: History) -> None:
        """The weights of the best score come back."""
        if self._how.early_stopping and self._how._best_weights is not None:
            model.load_state_dict(self._how._best_weights)


def train(
    how: Any,
    data: tuple[Any, Array, Array | None],
    validation: tuple[Any, Array, Array | None] | None,
    losses: tuple[Loss, Loss],
    optimizer: Optimizer,
    random: np.random.RandomState,
    incremental: bool,
) -> None:
    """Train an estimator's `network_` for `max_iter` epochs at most, or for one.

    data, validation: x, targets, and weights of the samples. losses: to train by, and to measure the validation by.
    """
    x, target, weights = data
    network, samples = how.network_, len(target)
    batch_size = _batch_size(how, samples)
    order = Order(samples, random)
    opened = open_data(network, x, target, losses[0], sample_weight=weights, repeated=True)
    step = Step(network, losses[0], optimizer, opened.layout, count=False)
    # BatchNorm has no statistics of a single sample
    drop_last = bool(how.batch_norm and samples % batch_size == 1 and batch_size > 1)
    validating, metrics = (None, {}) if validation is None else _validating(how, validation, losses[1])
    hooks = [Rules(how, optimizer, samples, incremental), *_callbacks(how.callbacks)]
    training = Pass(step, opened, losses[0], step, batch_size, drop_last)
    run = Run(step, training, validating, metrics, hooks, order, how.shuffle, Silent())
    optimizer.pacer = Pace(how, optimizer, batch_size, order, weights)
    run.train(1 if incremental else how.max_iter)


def _validating(how: Any, held: tuple[Any, Array, Array | None], loss: Loss) -> tuple[Pass, dict[str, Metric]]:
    """How to measure the part held out, and its score, unless that is the accuracy which is measured anyway."""
    x, target, weights = held
    data = open_data(how.network_, x, target, loss, sample_weight=weights, prefix="validation ", repeated=True)
    measuring = evaluation(how.network_, data, loss, _EVALUATED_AT_ONCE)
    if weights is None and hasattr(loss, "count_correct"):
        return measuring, {}
    return measuring, {"score": lambda truth, predicted: how._score_of(truth, predicted, weights)}


def _callbacks(given: Sequence[Any] | None) -> list[Callback]:
    found = [as_callback(callback) for callback in given or ()]
    if any(isinstance(callback, Checkpoint) for callback in found):
        raise ValueError("callbacks: a Checkpoint is for fastnn.fit, estimators are pickled")
    return found


def _batch_size(how: Any, samples: int) -> int:
    if how.batch_size == "auto":
        return min(200, samples)
    if how.batch_size > samples:
        warnings.warn(
            f"batch_size: {how.batch_size} is more than the {samples} samples, which are one batch", stacklevel=2
        )
    return min(int(how.batch_size), samples)
