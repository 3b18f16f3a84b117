"""Losses made of others: of several heads, or with a penalty on the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .. import _kernels as k
from .._arrays import as_array
from .._errors import ShapeError
from .._kernels import Array
from ..layers import Layer
from ..layers.parameter import Parameter
from .loss import KernelLoss, Loss, LossBackward, check_loss, computed, is_mean
from .targets import targets_of


class JointLoss(KernelLoss):
    """The sum of a loss for each of a model's heads: Σ weightsᵢ · lossesᵢ(scoresᵢ, targetᵢ).

    losses: one for each head, all means or all sums over the samples. weights: as many numbers; ones by default.
    scores: a tuple of arrays, as a model of several heads returns; the gradient is a tuple, too.
    target: a tuple of arrays; or one array (N, heads) of integer labels, a column for each head.
    A sample is right if all its heads are, as scikit-learn's `accuracy_score` has it for several labels.
    """

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None) -> None:
        found = tuple(losses)
        if not found:
            raise ValueError("JointLoss: expected a loss for each head, got none")
        for loss in found:
            check_loss(loss, "JointLoss")
            if isinstance(loss, JointLoss | L2Penalty):
                raise TypeError(f"JointLoss: a {type(loss).__name__} goes around it, not inside")
        if len({is_mean(loss) for loss in found}) > 1:
            raise ValueError("JointLoss: expected losses that are all means or all sums over the samples")
        factors = (1.0,) * len(found) if weights is None else tuple(float(w) for w in weights)
        if len(factors) != len(found) or not all(map(math.isfinite, factors)):
            raise ValueError(f"JointLoss: expected {len(found)} finite weights, one for each loss, got {weights!r}")
        super().__init__("mean" if is_mean(found[0]) else "sum")
        self.losses, self.weights = found, factors

    def compute(
        self, scores: Any, target: Any, need_grad: bool = True, sample_weight: Array | None = None
    ) -> tuple[Array, LossBackward]:
        """As `forward`, of tuples of arrays that were checked: the loss is an array (1,) float64."""
        heads = zip(self.losses, scores, target, strict=True)
        found = [computed(loss, s, t, need_grad, sample_weight) for loss, s, t in heads]
        total: Array = k.scale(found[0][0], factor=self.weights[0])
        for (loss, _), weight in zip(found[1:], self.weights[1:], strict=True):
            k.scale(loss, factor=weight, out=(total, True))

        def backward() -> tuple[Array, ...]:
            gradients = (
                (loss_backward(), weight) for (_, loss_backward), weight in zip(found, self.weights, strict=True)
            )
            return tuple(d if weight == 1 else k.scale(d, factor=weight) for d, weight in gradients)

        return total, backward

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> tuple[Any, ...]:
        heads = len(self.losses)
        if not isinstance(scores, tuple) or len(scores) != heads:
            found = f"{len(scores)}" if isinstance(scores, tuple) else type(scores).__name__
            raise ShapeError(f"{what}: JointLoss expected a tuple of {heads} scores, one for each head, got {found}")
        if not isinstance(y, tuple):
            table = as_array(y, what)
            if table.ndim != 2 or table.shape[1] != heads:
                raise ShapeError(
                    f"{what}: expected a tuple of {heads} targets, or labels ({count}, {heads}), got {table.shape}"
                )
            y = tuple(table.T)
        if len(y) != heads:
            raise ShapeError(f"{what}: expected a tuple of {heads} targets, one for each head, got {len(y)}")
        names = (f"{what}[{i}]" for i in range(heads))
        every = zip(self.losses, y, scores, names, strict=True)
        return tuple(
            loss._fitting(part, s, count, name)
            if isinstance(loss, KernelLoss)
            else targets_of(loss, part, s, count, name)
            for loss, part, s, name in every
        )

    def _which_correct(self, scores: tuple[Array, ...], target: tuple[Array, ...]) -> Array:
        right: Array | None = None
        for loss, s, t in zip(self.losses, scores, target, strict=True):
            count, right = loss.which_correct(s, t, right)  # type: ignore[attr-defined]
        found: Array = count
        return found

    @property
    def count_correct(self) -> Any:
        """(scores, target) → how many samples are right in all heads, (1,) int64; only where all heads can tell."""
        if not all(hasattr(loss, "which_correct") for loss in self.losses):
            raise AttributeError("not all of the joint losses can count what is right")
        return self._which_correct


class L2Penalty(KernelLoss):
    """A loss plus ½ · factor · Σ W² over the weights W; the gradient factor · W is added to theirs.

    loss: any loss. params: a model, or parameters. factor: at least 0. SGD with ``weight_decay=factor`` takes the same
    steps, but reports the loss by itself. Whatever the reduction, the penalty is added once to the loss of a batch.
    biases: whether parameters of one dimension are penalized, too.
    """

    def __init__(self, loss: Loss, params: Layer | Iterable[Parameter], factor: float, *, biases: bool = False) -> None:
        check_loss(loss, "L2Penalty")
        if not 0 <= factor < math.inf:
            raise ValueError(f"L2Penalty: expected a finite factor of at least 0, got {factor!r}")
        super().__init__("mean" if is_mean(loss) else "sum")
        self.loss, self.factor, self.biases = loss, float(factor), bool(biases)
        self.params = params if isinstance(params, Layer) else tuple(params)
        for _, p in self.named_parameters():
            if not isinstance(p, Parameter):
                raise TypeError(f"L2Penalty: expected a model or parameters, got {type(p).__name__}")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of those that are penalized."""
        params = self.params
        named = params.named_parameters() if isinstance(params, Layer) else ((str(i), p) for i, p in enumerate(params))
        return ((name, p) for name, p in named if self.biases or len(p.shape) != 1)

    def zero_grad(self) -> None:
        """Set their gradients to zero."""
        for _, p in self.named_parameters():
            p.zero_grad()

    def compute(
        self, scores: Any, target: Any, need_grad: bool = True, sample_weight: Array | None = None
    ) -> tuple[Array, LossBackward]:
        """As `forward`, of arrays that were checked: the loss is an array (1,) float64."""
        total, loss_backward = computed(self.loss, scores, target, need_grad, sample_weight)
        for _, p in self.named_parameters():
            k.l2_penalty(flat(p.data, p), factor=self.factor, out=((total, True), False))

        def backward() -> Any:
            for _, p in self.named_parameters():
                place = p.target()
                if isinstance(place, tuple):
                    k.l2_penalty(flat(p.data, p), factor=self.factor, out=(False, (flat(place[0], p), place[1])))
            return loss_backward()

        return total, backward

    def as_targets(self, y: Any, scores_of_one: Any, count: int, what: str) -> Any:
        """As of the loss without the penalty."""
        return targets_of(self.loss, y, scores_of_one, count, what)

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Any:
        loss = self.loss
        return (loss._fitting if isinstance(loss, KernelLoss) else self.as_targets)(y, scores, count, what)

    @property
    def count_correct(self) -> Any:
        """That of the loss, if it has one."""
        return self.loss.count_correct  # type: ignore[attr-defined]


def flat(a: Array, p: Parameter) -> Array:
    """The parameter's data or gradient as the row of numbers that it is in memory."""
    row: Array = a.transpose(p.order).reshape(a.size)
    return row
