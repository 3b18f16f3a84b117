"""`TwoLayerNet` as UCLA's ECE C147 has it: weights (out, in), softmax loss, float64.

Weights and batches are drawn from NumPy's global generator, in such an order that ``np.random.seed`` gives the weights
and the batches that the course's figures come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import _kernels as k
from fastnn._arrays import check_range
from fastnn._kernels import Array
from fastnn.losses.targets import check_labels
from fastnn.training.checks import check_whole
from fastnn.training.progress import shown

Step = Callable[[Array, Array], float]


class Params(Mapping[str, Array]):
    """A net's parameters by name: the arrays themselves, to be changed in place, or ``params["W1"] = values``."""

    def __init__(self, named: Mapping[str, fn.Parameter]) -> None:
        self._named = named

    def __getitem__(self, name: str) -> Array:
        return self._named[name].data

    def __setitem__(self, name: str, values: Any) -> None:
        data = self[name]
        if np.shape(values) != data.shape:
            raise fn.ShapeError(f"params: expected {name} of shape {data.shape}, got {np.shape(values)}")
        data[...] = values

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __repr__(self) -> str:
        return repr(dict(self))


class TwoLayerNet:
    """Scores W2 max(0, W1 x + b1) + b2.

    input_size, hidden_size, output_size: D, H and C. std: the weights are std times standard normal numbers from
        `np.random`, W1's first; biases are 0.
    params: W1 (H, D), b1 (H,), W2 (C, H) and b2 (C,) by name, float64 (see `Params`).
    model: the same as a fastnn model.
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, std: float = 1e-4) -> None:
        first = fn.Linear(input_size, hidden_size, dtype="float64")
        second = fn.Linear(hidden_size, output_size, dtype="float64")
        self.model = fn.Sequential(first, fn.ReLU(), second)
        self._optimizer = fn.SGD(self.model.parameters())
        self._params = Params(dict(zip(("W1", "b1", "W2", "b2"), self.model.parameters(), strict=True)))
        for name, values in self.params.items():
            values[...] = std * np.random.randn(*values.shape) if name in ("W1", "W2") else 0.0

    @property
    def params(self) -> Params:
        """W1, b1, W2 and b2; a dictionary that is assigned is copied into them."""
        return self._params

    @params.setter
    def params(self, values: Mapping[str, Any]) -> None:
        for name in self._params:
            self._params[name] = values[name]

    def loss(self, X: Any, y: Any = None, reg: float = 0.0) -> Any:
        """The scores (N, C) of X (N, D); or, with labels y (N,), the loss and its gradients by the parameters' names.

        The loss is the mean softmax cross-entropy plus ½ · reg · (‖W1‖² + ‖W2‖²).
        Raises `ShapeError`, `DTypeError` and ValueError for what does not fit.
        """
        scores, backward = self.model.forward(_rows(X), train=True)
        if y is None:
            return scores
        loss, loss_backward = self._loss(reg).forward(scores, np.asarray(y))
        self.model.zero_grad()
        backward(loss_backward(), need_dx=False)
        gradients = {name: p.grad.copy() for name, p in zip(self.params, self.model.parameters(), strict=True)}
        self.model.zero_grad()
        return loss, gradients

    def train(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
        *,
        progress: bool | str = False,
    ) -> dict[str, list[float]]:
        """Train by gradient descent on batches drawn from X (N, D) with replacement.

        y, X_val, y_val: labels (N,), and what the training is validated on. An epoch is N // batch_size iterations, at
        least 1; after the update of iteration 0 and of the first of each epoch, accuracies are recorded, and then the
        learning rate is multiplied by `learning_rate_decay`.
        verbose: print the loss of every 100th iteration. progress: show a bar on stderr; a text names the training.

        Returns ``loss_history``, the loss of each iteration's batch before its update; ``train_acc_history``, the
        accuracies on the last batch, and ``val_acc_history``.
        Raises `ShapeError`, `DTypeError` and ValueError for what does not fit.
        """
        X, X_val = _rows(X), _rows(X_val)
        y, y_val = check_labels(y, len(X), "y"), check_labels(y_val, len(X_val), "y_val")
        check_range(y, len(self.params["b2"]), "y")
        check_range(y_val, len(self.params["b2"]), "y_val")
        check_whole("batch_size", batch_size, 1)
        size = min(batch_size, len(X))
        per_epoch = max(len(X) // batch_size, 1)
        history: dict[str, list[float]] = {"loss_history": [], "train_acc_history": [], "val_acc_history": []}
        step: Step | None = None
        self._optimizer.param_groups[0]["lr"] = learning_rate
        bar, latest, start = shown(progress), _Latest(history), time.perf_counter()
        bar.begin(1, num_iters, 0)
        try:
            for i in range(num_iters):
                batch = np.random.choice(len(X), size)
                X_batch, y_batch = k.gather_rows(X, batch), y[batch]
                step = step or self._step(reg, X_batch, y_batch)
                loss = step(X_batch, y_batch)
                history["loss_history"].append(loss)
                if verbose and i % 100 == 0:
                    print(f"iteration {i} / {num_iters}: loss {loss}")
                if i % per_epoch == 0:
                    history["train_acc_history"].append(self._accuracy(X_batch, y_batch))
                    history["val_acc_history"].append(self._accuracy(X_val, y_val))
                    self._optimizer.param_groups[0]["lr"] *= learning_rate_decay
                bar.batches(1, latest)
            bar.end(latest.values(), time.perf_counter() - start)
        finally:
            bar.close()
        return history

    def predict(self, X: Any) -> Array:
        """The class of the highest score, (N,) int64, of each row of X (N, D)."""
        classes: Array = self.model.predict(_rows(X))
        return classes

    def _accuracy(self, X: Array, y: Array) -> float:
        return float((self.predict(X) == y).mean())

    def _loss(self, reg: float) -> fn.Loss:
        return fn.L2Penalty(fn.CrossEntropyLoss(), self.model, reg)

    def _step(self, reg: float, X: Array, y: Array) -> Step:
        """An update on a batch (X, y) that returns the loss before it: replayed, or from Python on plain NumPy."""
        loss = self._loss(reg)
        if k.active().Record is not None:
            return fn.capture(self.model, loss, self._optimizer, X, y)

        def step(X: Array, y: Array) -> float:
            scores, backward = self.model.forward(X, train=True)
            value, loss_backward = loss.forward(scores, y)
            backward(loss_backward(), need_dx=False)
            self._optimizer.step()
            return value

        return step


class _Latest:
    """What the bar shows: the last entry of each history."""

    def __init__(self, histories: Mapping[str, list[float]]) -> None:
        self._histories = histories

    def values(self) -> dict[str, float]:
        return {name.removesuffix("_history"): values[-1] for name, values in self._histories.items() if values}


def _rows(X: Any) -> Array:
    """X (N, D) as kernels take it."""
    return np.ascontiguousarray(X, np.float64)


__all__ = ["TwoLayerNet"]
