"""The solver "lbfgs": SciPy's L-BFGS-B on the loss of all samples and its gradient."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from .._kernels import Array
from ..layers.parameter import Parameter
from ..losses.loss import KernelLoss
from .rows import parts


class Objective:
    """(Σ loss + ½ · alpha · Σ W²) / N and its gradient by all numbers of the network, as functions of these.

    loss: a sum over the samples. N: the samples, or the sum of their weights.
    """

    def __init__(self, how: Any, x: Any, target: Array, weights: Array | None, loss: KernelLoss) -> None:
        self._network, self._alpha, self._loss = how.network_, how.alpha, loss
        dtype = self._network.dtype
        self._x, self._target = x, target if target.dtype == np.int64 else target.astype(dtype)
        self._weights = None if weights is None else weights.astype(dtype)
        self._total = float(x.shape[0] if weights is None else weights.sum())
        self._parameters = list(self._network.parameters())

    def start(self) -> Array:
        """The numbers as they are, as one vector."""
        return np.concatenate([p.data.ravel() for p in self._parameters]).astype(np.float64)

    def set(self, numbers: Array) -> None:
        """Put these into the network."""
        start = 0
        for p in self._parameters:
            p.data[...] = numbers[start : start + p.size].reshape(p.shape)
            start += p.size

    def __call__(self, numbers: Array) -> tuple[float, Array]:
        self.set(numbers)
        loss, gradient = self.data_loss(need_grad=True), []
        for p in self._parameters:
            gradient.append((p.grad + self._alpha * p.data if _is_weight(p) else p.grad).ravel())
            p.used = False
        return loss / self._total + self.penalty(), np.concatenate(gradient, dtype=np.float64) / self._total

    def data_loss(self, need_grad: bool = False) -> float:
        """Σ loss; where the gradient is needed, it is added to that of the parameters."""
        total = 0.0
        for where, rows in parts(self._x):
            scores, backward = self._network.forward(rows.astype(self._network.dtype, copy=False), True)
            weights = None if self._weights is None else self._weights[where]
            loss, loss_backward = self._loss.compute(scores, self._target[where], need_grad, weights)
            total += float(loss[0])
            if need_grad:
                backward(loss_backward(), need_dx=False)
        return total

    def penalty(self) -> float:
        """That of L2."""
        squares = sum(float(np.vdot(p.data, p.data)) for p in self._parameters if _is_weight(p))
        return float(0.5 * self._alpha * squares / self._total)

    def reported(self, factor: float) -> float:
        """As scikit-learn reports it: the loss of the data times a factor."""
        return factor * self.data_loss() / self._total + self.penalty()


def train(how: Any, x: Any, target: Array, weights: Array | None, loss: KernelLoss, factor: float) -> None:
    """Train an estimator's `network_` to a minimum. factor: of the loss that is reported."""
    objective = Objective(how, x, target, weights, loss)
    how.network_.zero_grad()
    iterations = 0

    def tell(numbers: Array) -> None:
        nonlocal iterations
        iterations += 1
        how._tell(f"Iteration {iterations}")

    options = {"maxfun": how.max_fun, "maxiter": how.max_iter, "gtol": how.tol}
    found = minimize(objective, objective.start(), method="L-BFGS-B", jac=True, options=options, callback=tell)
    objective.set(found.x)
    how.n_iter_, how.loss_ = min(int(found.nit), how.max_iter), objective.reported(factor)
    if found.status != 0:
        message = f"{type(how).__name__}: lbfgs did not converge after {found.nit} iterations: {found.message}"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)


def _is_weight(p: Parameter) -> bool:
    return len(p.shape) > 1
