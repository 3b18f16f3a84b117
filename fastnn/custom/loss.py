"""A user's function of a prediction and its target as a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar

from .. import _kernels as k
from .._kernels import Array, Kernel, Target
from .._kernels.jit.program import elementwise_row
from ..losses.loss import Result
from ..losses.pointwise import PointwiseLoss
from .derived import with_derivative
from .elementwise import arguments, bound, made


class ElementwiseLoss(PointwiseLoss):
    """Base of the losses that `elementwise_loss` makes: scores (N, …) and targets of the same shape."""

    function: ClassVar[Callable[..., Any]]  #: as it was written
    defaults: ClassVar[Mapping[str, float]]  #: of its further parameters
    rows: ClassVar[tuple[Kernel, Kernel]]  #: each number's loss, and with it its slope

    def __init__(self, *values: float, reduction: str = "mean", **named: float) -> None:
        super().__init__(reduction)
        for name, value in bound(type(self).__name__, self.defaults, values, named).items():
            setattr(self, name, value)

    def _call(self, scores: Array, target: Array, sample_weight: Array | None, out: tuple[Target, Target]) -> Result:
        options = {name: getattr(self, name) for name in self.defaults}
        if out[1] is False:
            losses = slopes = self.rows[0](scores, target, **options)
        else:
            losses, slopes = self.rows[1](scores, target, **options)
        found: Result = k.reduced(losses, slopes, sample_weight, mean=self.reduction == "mean", out=out)
        return found


def elementwise_loss(function: Any = None, *, derivative: Any = None, check: bool = True) -> Any:
    """Make a loss of a function of a prediction and its target, two numbers: ``@fn.elementwise_loss``.

        @fn.elementwise_loss
        def log_cosh(prediction, target):
            error = abs(prediction - target)
            return error + math.log1p(math.exp(-2 * error)) - math.log(2)

        fn.fit(model, x, y, loss=log_cosh())

    What stands there is then a class of losses as `MSELoss` is one, with ``reduction="mean"`` over all numbers, or
    ``"sum"``, `sample_weight` and all; the function's further parameters are its first arguments. derivative: by the
    prediction. All else is as of `elementwise`.
    """

    def decorate(function: FunctionType) -> type[ElementwiseLoss]:
        names, defaults = arguments(function, 2, "elementwise_loss")
        loss, slope = with_derivative(function, names, defaults, derivative, check, "elementwise_loss")
        name = function.__name__
        rows = (
            elementwise_row(name, names, {"the loss": loss}, [*defaults]),
            elementwise_row(f"{name} and slope", names, {"the loss": loss, "the slope": slope}, [*defaults]),
        )
        found: type[ElementwiseLoss] = made(ElementwiseLoss, function, rows=rows, defaults=defaults)
        return found

    return decorate if function is None else decorate(function)
