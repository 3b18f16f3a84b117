"""A user's update of one number as an optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar

from .._kernels.jit.expression import Expression, Unsupported, variable
from .._kernels.jit.program import update_row
from ..layers.activation import finite_number
from ..optim.optimizer import Optimizer, Params
from .elementwise import made
from .parsing import expressions, parameters

MOST_STATE = 8  #: arrays that a kernel's call holds beside parameter, gradient, options and steps
MOST_OPTIONS = 32
_STEP = "step"
_AHEAD = ("lr", "momentum")  #: options that a schedule moves, which come first


class ElementwiseOptimizer(Optimizer):
    """Base of the optimizers that `elementwise_optimizer` makes; all options are given by name."""

    function: ClassVar[Callable[..., Any]]  #: as it was written
    defaults: Mapping[str, float]  # type: ignore[assignment]
    state: ClassVar[tuple[str, ...]]  #: names of what it keeps beside each number

    def __init__(
        self,
        params: Params | None = None,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        **options: float,
    ) -> None:
        name, known = type(self).__name__, type(self).defaults
        if not {*options} <= {*known}:
            raise TypeError(f"{name}: expected options of {', '.join(known)}, got {', '.join(options)}")
        super().__init__(params, clip_norm=clip_norm, clip_value=clip_value, **{**known, **options})

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in type(self).defaults:
            finite_number(type(self).__name__, name, options[name])
        self._check_least(options, "lr")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        return [float(group[name]) for name in type(self).defaults]

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        return dict.fromkeys(self.state, 0.0)


def elementwise_optimizer(function: Any) -> Any:
    """Make an optimizer of the update of one number: ``@fn.elementwise_optimizer``.

        @fn.elementwise_optimizer
        def Lion(p, grad, m, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
            update = np.sign(beta1 * m + (1 - beta1) * grad)
            return p - lr * (update + weight_decay * p), beta2 * m + (1 - beta2) * grad

        fn.fit(model, x, y, optimizer=Lion(lr=1e-3))

    The parameters of the function are the number and its gradient; then the state beside it, whose names have no
    defaults and which begins with 0; then options, among them `lr`, whose defaults are the optimizer's. One without a
    default that is called `step` is the number of the update, from 1. It returns the new number and, in the same order,
    the new state. `fit`, `capture`, schedules, groups, `clip_norm` and checkpoints are as with the other optimizers.
    What may be in it, and how it runs, `elementwise` says; loops cannot be. Raises ValueError and TypeError.
    """
    found = parameters(function, "elementwise_optimizer")
    name = function.__name__
    options = {option: value for option, value in found.items() if value is not inspect.Parameter.empty}
    arrays = [array for array in found if array not in options and array != _STEP]
    if len(arrays) < 2 or "lr" not in options:
        raise TypeError(f"elementwise_optimizer: expected {name} to take p, grad, state …, lr=…, got {(*found,)}")
    if len(arrays) > 2 + MOST_STATE or len(options) > MOST_OPTIONS:
        raise ValueError(f"elementwise_optimizer: {name} has more than {MOST_STATE} states or {MOST_OPTIONS} options")
    ahead = [option for option in _AHEAD if option in options]
    defaults = {option: finite_number(name, option, options[option]) for option in dict.fromkeys([*ahead, *options])}
    row = update_row(name, arrays, _results(function, [*found], len(arrays) - 1), [*defaults], _STEP)
    return made(ElementwiseOptimizer, function, kernel=row, defaults=defaults, state=(*arrays[2:],))


def _results(function: FunctionType, names: list[str], count: int) -> tuple[Expression, ...]:
    try:
        results = expressions(function, [variable(name) for name in names])
    except Unsupported as error:
        raise ValueError(f"elementwise_optimizer: {error}") from None
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != count or not all(isinstance(result, Expression) for result in results):
        raise ValueError(
            f"elementwise_optimizer: expected {function.__name__} to return the new number and {count - 1} new states, "
            f"computed from the old, got {len(results)} results"
        )
    return results
