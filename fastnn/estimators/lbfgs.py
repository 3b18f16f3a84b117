"""The solver "lbfgs": SciPy's L-BFGS-B on the loss of all samples and its gradient."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning

from .._kernels import Array
from .._kernels.replay import Replayer, another
from ..layers.parameter import Parameter
from ..layers.recorded import caller
from ..losses.loss import KernelLoss
from ..training.batches import Layout
from ..training.step import Step
from .rows import parts


class NoUpdate:
    """In the place of an optimizer: a step that leaves the gradients as they are."""

    param_groups: tuple[Any, ...] = ()

    def step(self) -> None:
        """Nothing."""

    def refresh(self) -> None:
        """Nothing."""

    def structure(self) -> list[Any]:
        """Nothing on which kernels depend."""
        return []

    memory = structure


class Objective:
    """(Σ loss + ½ · alpha · Σ W²) / N and its gradient by all numbers of the network, as functions of these.

    loss: a sum over the samples. N: the samples, or the sum of their weights.
    """

    def __init__(self, how: Any, x: Any, target: Array, weights: Array | None, loss: KernelLoss) -> None:
        network, dtype = how.network_, how.network_.dtype
        self._x = x if issparse(x) else np.ascontiguousarray(x, dtype)
        self._others = [target if target.dtype == np.int64 else target.astype(dtype)]
        self._others += [] if weights is None else [weights.astype(dtype)]
        self._total = float(x.shape[0] if weights is None else weights.sum())
        self._alpha, self._parameters = how.alpha, list(network.parameters())
        step = Step(network, loss, NoUpdate(), Layout(weighted=weights is not None), count=False)  # type: ignore[arg-type]
        self._step, self._replayer = step, Replayer(step, step, caller)

    def start(self) -> Array:
        """The numbers as they are, as one vector."""
        return self._joined([p.data for p in self._parameters])

    def set(self, numbers: Array) -> None:
        """Put these into the network."""
        start = 0
        for p in self._parameters:
            p.data[...] = numbers[start : start + p.size].reshape(p.shape)
            start += p.size

    def __call__(self, numbers: Array) -> tuple[float, Array]:
        self.set(numbers)
        decay = self._joined([self._alpha * p.data if _is_weight(p) else np.zeros(p.shape) for p in self._parameters])
        loss, gradient = self._of_data()
        return loss / self._total + self.penalty(), (gradient + decay) / self._total

    def _of_data(self) -> tuple[float, Array]:
        """Σ loss, and its gradient."""
        loss, gradient = 0.0, np.zeros(sum(p.size for p in self._parameters))
        for where, rows in parts(self._x):
            loss += self._computed(
                np.ascontiguousarray(rows, self._step.model.dtype), *(a[where] for a in self._others)
            )
            gradient += self._joined([p.grad for p in self._parameters])
        return loss, gradient

    def _computed(self, *slots: Array) -> float:
        """The loss of some samples; their gradients are in the parameters then."""
        record = self._replayer.record(slots)
        if record is None and self._replayer.comes_again(slots):
            self._replayer.prepare(slots, tuple(map(another, slots)))
            record = self._replayer.record(slots)
        return float(self._step(*slots)[0][0] if record is None else record.run(slots, (0,) * len(slots), 1, 0.0)[1])

    def _joined(self, arrays: list[Array]) -> Array:
        return np.concatenate([a.ravel() for a in arrays], dtype=np.float64)

    def penalty(self) -> float:
        """That of L2."""
        squares = sum(float(np.vdot(p.data, p.data)) for p in self._parameters if _is_weight(p))
        return float(0.5 * self._alpha * squares / self._total)

    def reported(self, factor: float) -> float:
        """As scikit-learn reports it: the loss of the data times a factor."""
        return factor * self._of_data()[0] / self._total + self.penalty()


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
