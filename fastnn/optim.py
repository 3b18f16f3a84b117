"""Optimizers: each update is one pass over the flat buffers in which parameters and gradients lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from . import _kernels as k
from ._kernels import Array
from .layers import Layer
from .layers.parameter import Parameter, Segment, view

Params = Iterable[Parameter] | Iterable[Mapping[str, Any]]


class Group(dict[str, Any]):
    """A parameter group; a captured step learns of an option that is set."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        k.changed()

    def update(self, *args: Any, **options: Any) -> None:
        """Set several options."""
        super().update(*args, **options)
        k.changed()

    def setdefault(self, name: str, value: Any = None) -> Any:
        """Set an option that is not there."""
        k.changed()
        return super().setdefault(name, value)

    def pop(self, *args: Any) -> Any:
        """Take an option away."""
        k.changed()
        return super().pop(*args)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        k.changed()

    def __ior__(self, other: Any) -> Group:  # type: ignore[override,misc]
        self.update(other)
        return self


class Optimizer:
    """Base of optimizers: parameter groups and the segments in which they lie.

    params: parameters, or PyTorch's dictionaries ``{"params": …, "lr": …}`` with options of their own; may be left out
    where `fit` fills it in. `param_groups` holds the groups; options may be changed there between steps.
    """

    names_calls = True  #: in messages, kernels that it calls are named after it

    def __init__(self, params: Params | None, **defaults: Any) -> None:
        self.defaults = defaults
        self._check(defaults)
        self.param_groups: list[Group] = []
        self._segments: list[tuple[Group, Segment]] = []
        self._state: dict[int, dict[str, Array]] = {}
        self._steps: dict[int, Array] = {}  # taken by each parameter of a segment; kernels count them
        self._hyper: dict[tuple[int, int], Array] = {}  # options as kernels read them, for the run that begins there
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

    def _group(self, group: Mapping[str, Any]) -> Group:
        unknown = set(group) - {"params", *self.defaults}
        if unknown or "params" not in group:
            raise ValueError(
                f"{type(self).__name__}: a group has 'params' and any of {sorted(self.defaults)}, got {sorted(group)}"
            )
        full = Group({**self.defaults, **group, "params": list(group["params"])})
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
            if i not in self._steps:
                self._steps[i] = np.zeros(len(segment.parameters), np.int64)
            taken, options = self._steps[i], self._options(group)
            for start, stop in self._runs(segment, taken.tolist()):
                hyper = self._hyper.get((i, start))
                if hyper is None:
                    hyper = self._hyper[i, start] = np.empty(len(options))
                hyper[:] = options
                where = slice(segment.starts[start], segment.starts[stop])
                self._update(group, segment, i, where, hyper, taken[start:stop])
            for p in segment.parameters:
                p.used = False

    def refresh(self) -> None:
        """Write options that changed to where the kernels of a captured step read them."""
        for (i, _), hyper in self._hyper.items():
            hyper[:] = self._options(self._segments[i][0])

    def structure(self) -> list[Any]:
        """What, beside the parameters that have gradients, decides which kernels `step` calls on which arrays."""
        found: list[Any] = []
        for i, (group, segment) in enumerate(self._segments):
            taken = self._steps.get(i)
            alike = tuple([True] * len(segment.parameters) if taken is None else (taken == taken[0]).tolist())
            found += (segment, *self._choices(group), alike)  # those that took other steps are updated apart
        return found

    def memory(self) -> list[Array]:
        """The arrays that the kernels of `step` read."""
        state = [a for arrays in self._state.values() for a in arrays.values()]
        flat = [a for _, segment in self._segments for a in (segment.data, segment.grad)]
        return [*flat, *state, *self._steps.values(), *self._hyper.values()]

    def ahead(self, steps: int) -> None:
        """So many updates follow, and Python may not see where each begins; 0 when there are no more."""

    def state_dict(self) -> dict[str, Any]:
        """Everything with which training goes on, laid out as PyTorch's: arrays, numbers, lists.

        ``{"state": {index: {"step": steps taken, name: array, …}}, "param_groups": [{"params": [index, …], …}]}``
        """
        index = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        state = {}
        for i, taken in self._steps.items():
            segment = self._segments[i][1]
            for p, start, steps in zip(segment.parameters, segment.starts, taken.tolist(), strict=False):
                arrays = {name: view(flat, p, start).copy() for name, flat in self._state.get(i, {}).items()}
                state[index[id(p)]] = {"step": steps, **arrays}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a `state_dict` was made, in place."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        index = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        for i, (_, segment) in enumerate(self._segments):
            taken = self._steps.setdefault(i, np.zeros(len(segment.parameters), np.int64))
            for j, (p, start) in enumerate(zip(segment.parameters, segment.starts, strict=False)):
                entry = dict(state_dict["state"].get(index[id(p)], {}))
                taken[j] = entry.pop("step", 0)
                for name, value in entry.items():
                    view(self._buffer(name, i, segment), p, start)[...] = value

    def _runs(self, segment: Segment, taken: list[int]) -> Iterator[tuple[int, int]]:
        """(start, stop) of neighbours among the segment's parameters that are updated alike: mostly one run."""

        def key(j: int) -> int | None:
            p = segment.parameters[j]
            return taken[j] if p.used and p.requires_grad else None

        for steps, run in groupby(range(len(segment.parameters)), key):
            if steps is not None:
                where = list(run)
                yield where[0], where[-1] + 1

    def _buffer(self, name: str, i: int, segment: Segment) -> Array:
        """State beside segment i, one number for each of its numbers, zero at first."""
        state = self._state.setdefault(i, {})
        if name not in state:
            state[name] = k.aligned_zeros(len(segment.data), segment.data.dtype.name)
        return state[name]

    def _check(self, options: Mapping[str, Any]) -> None:
        raise TypeError(f"{type(self).__name__} does not define which options are valid")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        """The options that the kernel reads, as numbers, which may change from step to step."""
        raise TypeError(f"{type(self).__name__} does not define what its kernel reads")

    def _choices(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """What the options decide about the kernels and arrays of a step."""
        return ()

    def _update(
        self, group: Mapping[str, Any], segment: Segment, i: int, where: slice, hyper: Array, steps: Array
    ) -> None:
        """Call the kernel for the numbers `where` of segment i; `steps`, of these parameters, is counted up by it."""
        raise TypeError(f"{type(self).__name__} defines no update")


def bound(optimizer: Optimizer | None, model: Layer) -> Optimizer:
    """The optimizer, by default SGD, which has the model's parameters now if it had none; for `fit` and `capture`."""
    if optimizer is None:
        optimizer = SGD(lr=0.01, momentum=0.9)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an optimizer such as SGD(lr=0.01), got {optimizer!r}")
    if not optimizer.param_groups:
        optimizer.bind(model.parameters())
    updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in updated for p in model.parameters()):
        raise ValueError("optimizer: it has parameters, but none of this model; make a new one for each model")
    return optimizer


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

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        return [group[name] for name in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")]

    def _choices(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        return (bool(group["momentum"]),)

    def _update(
        self, group: Mapping[str, Any], segment: Segment, i: int, where: slice, hyper: Array, steps: Array
    ) -> None:
        buffer = self._buffer("momentum", i, segment)[where] if group["momentum"] else None
        k.sgd(segment.data[where], segment.grad[where], buffer, hyper, steps)
