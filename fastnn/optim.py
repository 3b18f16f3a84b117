"""Optimizers: each update is one pass over the flat buffers in which parameters and gradients lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from . import _kernels as k
from ._kernels import Array
from .layers.parameter import Parameter, Segment

Params = Iterable[Parameter] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base of optimizers: parameter groups and the segments in which they lie.

    params: parameters, or PyTorch's dictionaries ``{"params": …, "lr": …}`` with options of their own; may be left out
    where `fit` fills it in. `param_groups` holds the groups; options may be changed there between steps.
    """

    def __init__(self, params: Params | None, **defaults: Any) -> None:
        self.defaults = defaults
        self._check(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self._segments: list[tuple[dict[str, Any], Segment]] = []
        self._state: dict[int, dict[str, Array]] = {}
        self._steps: dict[int, list[int]] = {}  # taken by each parameter of a segment
        if params is not None:
            self.bind(params)

    def bind(self, params: Params) -> None:
        """Take the parameters to be updated. Their values move into this optimizer's flat buffers."""
        if self.param_groups:
            raise ValueError(f"{type(self).__name__} has its parameters already")
        entries: list[Any] = list(params)
        if not entries:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        self.param_groups = [self._group(group) for group in groups]
        everything = [p for group in self.param_groups for p in group["params"]]
        if len({id(p) for p in everything}) != len(everything):
            raise ValueError(f"{type(self).__name__}: a parameter appears twice")
        for group in self.param_groups:
            by_dtype: dict[str, list[Parameter]] = {}
            for p in group["params"]:
                by_dtype.setdefault(p.dtype.name, []).append(p)
            self._segments += [(group, Segment(same)) for same in by_dtype.values()]

    def _group(self, group: Mapping[str, Any]) -> dict[str, Any]:
        unknown = set(group) - {"params", *self.defaults}
        if unknown or "params" not in group:
            raise ValueError(
                f"{type(self).__name__}: a group has 'params' and any of {sorted(self.defaults)}, got {sorted(group)}"
            )
        full = {**self.defaults, **group, "params": list(group["params"])}
        for p in full["params"]:
            if not isinstance(p, Parameter):
                raise TypeError(f"{type(self).__name__}: expected parameters, got {type(p).__name__}")
        self._check(full)
        return full

    def zero_grad(self) -> None:
        """Set all gradients to zero and begin a new step (a `step` begins one by itself)."""
        for group in self.param_groups:
            for p in group["params"]:
                p.zero_grad()

    def step(self) -> None:
        """Update all parameters that got a gradient since the last step and are not frozen; this ends the step."""
        if not self.param_groups:
            raise ValueError(f"{type(self).__name__} has no parameters: pass model.parameters()")
        for i, (group, segment) in enumerate(self._segments):
            if any(p.segment is not segment for p in segment.parameters):  # another optimizer took them over
                segment = Segment(segment.parameters)
                self._segments[i] = (group, segment)
            taken = self._steps.setdefault(i, [0] * len(segment.parameters))
            for start, stop, steps in self._runs(segment, taken):
                self._update(group, segment, i, slice(start, stop), steps)
            for j, p in enumerate(segment.parameters):
                if p.used and p.requires_grad and self._has_state(group):
                    taken[j] += 1
                p.used = False

    def _runs(self, segment: Segment, taken: list[int]) -> Iterator[tuple[int, int, int]]:
        """(start, stop, steps taken so far) of neighbours in the segment that are updated alike: mostly one run."""

        def key(j: int) -> int | None:
            p = segment.parameters[j]
            return taken[j] if p.used and p.requires_grad else None

        for steps, run in groupby(range(len(segment.parameters)), key):
            if steps is not None:
                where = list(run)
                yield segment.starts[where[0]], segment.starts[where[-1] + 1], steps

    def _buffer(self, name: str, i: int, segment: Segment) -> Array:
        """State beside segment i, one number for each of its numbers, zero at first."""
        state = self._state.setdefault(i, {})
        if name not in state:
            state[name] = k.aligned_zeros(len(segment.data), segment.data.dtype.name)
        return state[name]

    def _has_state(self, group: Mapping[str, Any]) -> bool:
        """Whether a step with these options writes state, so that it counts as one of the steps that `_update` gets."""
        return True

    def _check(self, options: Mapping[str, Any]) -> None:
        raise TypeError(f"{type(self).__name__} does not define which options are valid")

    def _update(self, group: Mapping[str, Any], segment: Segment, i: int, where: slice, steps: int) -> None:
        raise TypeError(f"{type(self).__name__} defines no update")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's SGD computes it:

    g = grad + weight_decay · p; buffer = momentum · buffer + (1 - dampening) · g (in the first step: g);
    p -= lr · (g + momentum · buffer with Nesterov, else buffer). maximize climbs instead.
    """

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        self._hyper: dict[tuple[int, int], Array] = {}
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"SGD: expected {name} of at least 0, got {options[name]!r}")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")

    def _has_state(self, group: Mapping[str, Any]) -> bool:
        return bool(group["momentum"])

    def _update(self, group: Mapping[str, Any], segment: Segment, i: int, where: slice, steps: int) -> None:
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
        hyper = self._hyper.setdefault((i, where.start), np.empty(7))  # one address, which a captured step can hold
        hyper[:] = [*(group[name] for name in names), steps > 0, group["maximize"]]
        buffer = self._buffer("momentum", i, segment)[where] if group["momentum"] else None
        k.sgd(segment.data[where], segment.grad[where], buffer, hyper)
