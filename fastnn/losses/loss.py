"""What a loss is: ``forward(scores, target)`` returns it and a function that returns its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .. import _kernels as k
from .._arrays import as_array, check_finite
from .._errors import ShapeError
from .._kernels import Array, Target
from .targets import Shape, check_weight

#: Returns the gradient by the scores: of their shape, a tuple for a tuple of scores.
LossBackward = Callable[[], Any]
#: The loss, (1,) float64, and its gradient, None where it was left out; or a count and what it counted.
Result = tuple[Array, Array | None]


class Loss(Protocol):
    """What `fit` needs of a loss; everything else is optional.

    ``compute(scores, target, need_grad=True, sample_weight=None)``: as `forward`, of targets that were checked, and
        made of kernels alone, so that it can be part of a captured step: the loss is an array (1,) float64.
    ``as_targets(y, scores_of_one, count, what)``: all targets of a data set, checked and converted once: an array whose
        first dimension is the sample, or a tuple of such. scores_of_one: the model's output for one sample; count: how
        many there are; what: names the argument in errors. Without it, targets are labels, checked against scores
        (N, classes), where there is a `count_correct`, else numbers.
    ``count_correct(scores, target)``: how many samples are right, (1,) int64.
    ``mean_weights(target, sample_weight)``: what each sample weighs in the mean, (N,), None for all alike; without it,
        that is the sample_weight. Means of several batches are weighed by it.
    ``reduction``: ``"sum"`` for a loss that is no mean over the samples.
    """

    def forward(self, scores: Any, target: Any, /, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss of a batch, and the function that returns its gradient by the scores."""
        ...


def check_loss(loss: Any, what: str) -> Loss:
    """The loss that it is; a TypeError for anything else."""
    if isinstance(loss, type) or not hasattr(loss, "forward"):
        raise TypeError(f"{what}: expected a loss such as CrossEntropyLoss(), got {loss!r}")
    checked: Loss = loss
    return checked


class KernelLoss:
    """Base of the losses here: options, their arrays, and the way from `forward` to one kernel.

    reduction: ``"mean"`` over the batch (NaN for an empty one), or ``"sum"``.
    """

    names_calls = True  #: in messages, kernels that it calls are named after it
    _made: dict[Any, Array]  # see _constant

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"{type(self).__name__}: expected reduction 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        super().__setattr__("_made", {})
        k.changed()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, by copy.deepcopy or pickle, makes its own constants."""
        return {**vars(self), "_made": {}}

    def forward(
        self, scores: Any, target: Any, need_grad: bool = True, sample_weight: Any = None
    ) -> tuple[float, LossBackward]:
        """The loss, and the function that returns its gradient by the scores, of their shape.

        sample_weight: (N,), at least 0, by which each sample's loss is multiplied; a mean is then
        Σ weight · loss / Σ weight, as PyTorch has it for the weights of classes, and scikit-learn for those of samples.
        Raises `ShapeError`, `DTypeError` and ValueError for what does not fit.
        """
        name = type(self).__name__
        first = scores[0] if isinstance(scores, tuple) and scores else scores
        count = len(first) if k.is_array(first) and first.ndim else 0
        target = self._fitting(target, scores, count, name)
        if sample_weight is not None:
            sample_weight = check_weight(sample_weight, count, first.dtype.name, f"{name}: sample_weight")
        if k.device_of(first) != "cpu":
            target, sample_weight = _beside(target, first), _beside(sample_weight, first)
        loss, backward = self.compute(scores, target, need_grad, sample_weight)
        return float(loss[0]), backward

    def compute(
        self, scores: Any, target: Any, need_grad: bool = True, sample_weight: Array | None = None
    ) -> tuple[Array, LossBackward]:
        """As `forward`, of arrays that were checked: the loss is an array (1,) float64."""
        loss, dscores = self._call(scores, target, sample_weight, (None, None if need_grad else False))

        def backward() -> Array:
            found = dscores if need_grad else self._call(scores, target, sample_weight, (None, None))[1]
            assert found is not None
            return found

        return loss, backward

    def as_targets(self, y: Any, scores_of_one: Any, count: int, what: str) -> Any:
        """All targets of a data set as `compute` takes them; see `Loss`. Raises errors that name `what`."""
        found = self._fitting(y, scores_of_one, count, what)
        for part in found if isinstance(found, tuple) else (found,):
            if part.dtype.kind == "f":
                check_finite(part, what)
        return found

    def _fitting(self, y: Any, scores: Any, count: int, what: str) -> Any:
        """`y` as targets of `count` samples, each with scores like these."""
        raise TypeError(f"{type(self).__name__} does not define which targets it takes")

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        """The loss, (1,) float64, and its gradient."""
        raise TypeError(f"{type(self).__name__} defines no kernel")

    def _constant(self, name: str, shape: Shape, scores: Array) -> Array | None:
        """An option that is an array, broadcast to a shape: read-only, and in the same place until an option is set.

        It has the dtype of the scores, and is where they are.
        """
        values = getattr(self, name)
        if values is None:
            return None
        dtype, device = scores.dtype, k.device_of(scores)
        found = self._made.get((name, shape, dtype, device))
        if found is None:
            try:
                found = np.array(np.broadcast_to(np.asarray(values, dtype), shape))
            except ValueError:
                what = f"{type(self).__name__}: expected {name} of shape {shape}"
                raise ShapeError(f"{what}, got {np.shape(values)}") from None
            found.flags.writeable = False
            found = self._made[name, shape, dtype, device] = k.to_device(found, device)
        return found


def _beside(a: Any, scores: Array) -> Any:
    """An array, each of a tuple of them, or None, where the scores are."""
    if isinstance(a, tuple):
        return tuple(_beside(part, scores) for part in a)
    return None if a is None else k.to_device(a, k.device_of(scores))


def constant(values: Any, what: str) -> Array | None:
    """Numbers given as an option: a read-only float64 array, None for None."""
    if values is None:
        return None
    found = np.array(as_array(values, what), dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{what}: expected finite numbers, got {values!r}")
    found.flags.writeable = False
    return found


def computed(
    loss: Loss, scores: Any, target: Any, need_grad: bool = True, sample_weight: Array | None = None
) -> tuple[Array, LossBackward]:
    """The loss of a batch that was checked, as an array (1,) float64, and the function that returns its gradient."""
    options: dict[str, Any] = {} if sample_weight is None else {"sample_weight": sample_weight}
    if hasattr(loss, "compute"):
        found: tuple[Array, LossBackward] = loss.compute(scores, target, need_grad, **options)
        return found
    value, backward = loss.forward(scores, target, *(() if need_grad else (False,)), **options)
    return np.array([value], np.float64), backward


def counted(loss: Loss, scores: Any, target: Any) -> tuple[Array, ...]:
    """How many of a batch are right, as one array (1,) int64; none for a loss that does not count."""
    if not hasattr(loss, "count_correct"):
        return ()
    count = loss.count_correct(scores, target)
    return (count if k.is_array(count) else np.array([count], np.int64),)


def is_mean(loss: Loss) -> bool:
    """Whether the loss of a batch is a mean over its samples, not their sum."""
    return getattr(loss, "reduction", "mean") != "sum"


def mean_weights(loss: Any, target: Any, sample_weight: Array | None) -> Array | None:
    """What each sample of a batch, or of a data set, weighs in the mean; None for all alike."""
    found: Array | None = sample_weight
    if hasattr(loss, "mean_weights"):
        found = loss.mean_weights(target, sample_weight)
    return found


def options_of(loss: Any) -> list[Any]:
    """The loss and its options, with those of losses inside it: what decides which kernels it calls, and how."""
    found = [loss]
    for value in getattr(loss, "__dict__", {}).values():
        found.append(value)
        for part in value if isinstance(value, tuple) else (value,):
            if hasattr(part, "forward") and not hasattr(part, "parameters"):
                found += options_of(part)
    return found
