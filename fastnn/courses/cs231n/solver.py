"""CS231n's training loop, for any model with `params` and ``loss(X, y)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import _kernels as k
from ..._kernels import Array
from ...training.checks import check_whole
from . import optim
from .layers import reals


class Solver:
    """Trains a model by minibatches drawn, with replacement, from NumPy's global random numbers.

    model: has `params`, a dictionary of arrays, ``loss(X, y)``, which returns the loss and a dictionary of gradients,
        and ``loss(X)``, which returns scores (N, C).
    data: X_train, y_train, X_val, y_val.

    After `train`: loss_history, of each iteration; train_acc_history and val_acc_history, before the second iteration
    and after each epoch; best_val_acc and best_params, the parameters that had it, which the model has then, too.
    """

    def __init__(
        self,
        model: Any,
        data: Mapping[str, Any],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        print_every: int = 10,
        verbose: bool = True,
    ) -> None:
        """update_rule: sgd, sgd_momentum, rmsprop or adam. optim_config: its options. lr_decay: factor of the learning
        rate after each epoch. num_train_samples, num_val_samples: of how many, drawn anew each time, the accuracy is
        taken, None for all. print_every: iterations from one printed loss to the next, if `verbose`.
        """
        if update_rule not in optim.__all__:
            raise ValueError(f"Solver: expected an update_rule of {', '.join(optim.__all__)}, got {update_rule!r}")
        self.model, self.update_rule, self.lr_decay = model, getattr(optim, update_rule), lr_decay
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        check_whole("batch_size", batch_size, 1)
        self.batch_size, self.num_epochs = batch_size, num_epochs
        self.num_train_samples, self.num_val_samples = num_train_samples, num_val_samples
        self.print_every, self.verbose = print_every, verbose
        self.optim_config = dict(optim_config or {})
        self.optim_configs = {name: dict(self.optim_config) for name in model.params}
        self.epoch = self._last = 0
        self.best_val_acc, self.best_params = 0.0, {name: p.copy() for name, p in model.params.items()}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []

    def train(self) -> None:
        """Train for `num_epochs`; a second call goes on."""
        per_epoch = max(len(self.X_train) // self.batch_size, 1)
        iterations = self.num_epochs * per_epoch
        self._last = self.epoch + self.num_epochs
        for i in range(iterations):
            self._step()
            if self.verbose and i % self.print_every == 0:
                print(f"(Iteration {i + 1} / {iterations}) loss: {self.loss_history[-1]:f}")
            ends = (i + 1) % per_epoch == 0
            if ends:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if i == 0 or ends:
                self._measure()
        self.model.params = {name: p.copy() for name, p in self.best_params.items()}

    def _step(self) -> None:
        """One update of all parameters."""
        chosen = np.random.choice(len(self.X_train), self.batch_size)
        loss, grads = self.model.loss(self.X_train[chosen], self.y_train[chosen])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def _measure(self) -> None:
        """Record the accuracies, and the parameters if they are the best so far."""
        train = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        validation = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train)
        self.val_acc_history.append(validation)
        if self.verbose:
            print(f"(Epoch {self.epoch} / {self._last}) train acc: {train:f}; val_acc: {validation:f}")
        if validation > self.best_val_acc:
            self.best_val_acc, self.best_params = validation, {n: p.copy() for n, p in self.model.params.items()}

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """The part of the samples whose largest score is that of their label.

        X: (N, …), y: (N,) integers. num_samples: of how many, drawn with replacement, if there are more; None takes
        all. batch_size: how many are in memory at a time.
        """
        if num_samples is not None and num_samples < len(X):
            chosen = np.random.choice(len(X), num_samples)
            X, y = X[chosen], y[chosen]
        right = np.zeros(1, np.int64)
        for i in range(0, len(X), batch_size):
            (scores,) = reals(self.model.loss(X[i : i + batch_size]))
            labels = np.asarray(y[i : i + batch_size], np.int64)
            k.count_correct(scores, labels, None, positions=1, ignore_index=-100, out=((right, True), False))
        return int(right[0]) / max(len(X), 1)


__all__ = ["Solver"]
