"""The losses of scikit-learn's multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from .. import _kernels as k
from .._kernels import Array, Target
from ..custom import elementwise_loss
from ..layers.parameter import Parameter
from ..losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from ..losses.combined import flat
from ..losses.loss import KernelLoss, LossBackward, Result


class HalfSquaredError(MSELoss):
    """½ (score - target)², summed over a sample's outputs, which is the one whose gradient scikit-learn takes."""

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        mean = self.reduction == "mean"
        factor = 0.5 * scores.shape[1] if mean else 0.5
        found: Result = k.mse(scores, target, sample_weight, mean=mean, factor=factor, out=out)
        return found


@cache
def half_poisson() -> Any:
    """Half the deviance of Poisson's distribution, whose mean is the exponential of the score, times a factor."""

    @elementwise_loss(  # type: ignore[untyped-decorator]
        derivative=lambda prediction, target, factor: factor * (math.exp(prediction) - target)
    )
    def HalfPoissonDeviance(prediction: float, target: float, factor: float = 1.0) -> float:
        return factor * (target * (math.log(max(target, 1e-300)) - prediction) - target + math.exp(prediction))

    return HalfPoissonDeviance


def loss_of(name: str, outputs: int, reduction: str) -> Any:
    """The loss by scikit-learn's name of it, summed over outputs; of `outputs` scores for each sample.

    ``log_loss``: by labels. ``binary_log_loss``: by ones and zeros, one output or several. ``squared_error``,
    ``poisson``: by numbers.
    """
    factor = float(outputs) if reduction == "mean" else 1.0  # a mean is one over all numbers, outputs included
    if name == "log_loss":
        return CrossEntropyLoss(reduction=reduction)
    if name == "binary_log_loss":
        return BCEWithLogitsLoss(None if factor == 1 else factor, reduction=reduction)
    return (
        HalfSquaredError(reduction=reduction)
        if name == "squared_error"
        else half_poisson()(factor, reduction=reduction)
    )


class Reported(KernelLoss):
    """A loss as scikit-learn reports it of a batch: times a factor, with the L2 term ½ · alpha / N · Σ W² added.

    The gradient is that of the loss alone: the factor is not in it, and L2's is the optimizer's weight decay.
    loss: a mean over the batch. weights: those that L2 is about. alpha: as for samples that each weigh 1.
    """

    def __init__(self, loss: Any, factor: float, weights: Sequence[Parameter], alpha: float) -> None:
        super().__init__()
        self.loss, self.factor, self.weights, self.alpha = loss, factor, tuple(weights), alpha

    def compute(
        self, scores: Any, target: Any, need_grad: bool = True, sample_weight: Array | None = None
    ) -> tuple[Array, LossBackward]:
        """As `forward`, of arrays that were checked: the loss is an array (1,) float64."""
        total, backward = self.loss.compute(scores, target, need_grad, sample_weight)
        if self.factor != 1:
            total = k.scale(total, factor=self.factor)
        for p in self.weights if self.alpha else ():
            k.l2_penalty(flat(p.data, p), factor=self.alpha / len(scores), out=((total, True), False))
        return total, backward

    def mean_weights(self, target: Any, sample_weight: Array | None) -> None:
        """A batch counts by its samples, whatever they weigh."""

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Any:
        return self.loss._fitting(y, scores, count, what)


class Measured(Reported):
    """The same without L2's term, to measure by: with how many samples are right, where the loss can tell."""

    def __init__(self, loss: Any, factor: float) -> None:
        super().__init__(loss, factor, (), 0.0)

    @property
    def count_correct(self) -> Any:
        """That of the loss, if it has one."""
        return self.loss.count_correct
