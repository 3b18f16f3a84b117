"""Optimizers: each update is one pass over the flat buffers in which parameters and gradients lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array, Kernel
from ..layers.parameter import Parameter, Segment, view
from .clipping import check_limit, limit_norm, limit_values

Params = Iterable[Parameter] | Iterable[Mapping[str, Any]]

_BESIDE = ("initial_lr",)  #: what a group may have beside its options: what a schedule begins with, as in PyTorch


class Group(dict[str, Any]):
    """A parameter group; what is set in it reaches the kernels of a captured step."""

    changed: Callable[[], None] = staticmethod(k.changed)  #: called after each change

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.changed()

    def update(self, *args: Any, **options: Any) -> None:
        """Set several options."""
        super().update(*args, **options)
        self.changed()

    def setdefault(self, name: str, value: Any = None) -> Any:
        """Set an option that is not there."""
        found = super().setdefault(name, value)
        self.changed()
        return found

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

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy belongs to no optimizer that it could tell."""
        return Group, (dict(self),)


class Pacer(Protocol):
    """A schedule that moves options with every update: see `Optimizer.ahead`."""

    def settle(self) -> None:
        """Note how many updates there were, and write the options of the next one into the groups."""
        ...

    def rates(self, steps: int) -> list[Array]:
        """For each group, lr, or lr and momentum or beta1, of the updates that follow: (steps, 1 or 2) float64."""
        ...


class Optimizer:
    """Base of optimizers: parameter groups and the segments in which they lie.

    params: parameters, or PyTorch's dictionaries ``{"params": …, "lr": …}`` with options of their own; may be left out
    where `fit` fills it in. `param_groups` holds the groups; options may be changed there between steps.
    clip_norm, clip_value: limit this optimizer's gradients before each update, as `clip_grad_norm_` (Euclidean norm)
    and `clip_grad_value_` do; one of them at most.

    An optimizer of one's own names its kernel, and says which options and which state it takes.
    """

    names_calls = True  #: in messages, kernels that it calls are named after it
    kernel: Kernel  #: called with the numbers, their gradient, the state (see `_buffers`), options and step counts
    _needs_state: ClassVar[bool] = False  #: whether PyTorch's has state before the first step

    def __init__(
        self, params: Params | None, *, clip_norm: float | None = None, clip_value: float | None = None, **defaults: Any
    ) -> None:
        name = type(self).__name__
        if clip_norm is not None and clip_value is not None:
            raise ValueError(f"{name}: expected clip_norm or clip_value, got both")
        for what, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None:
                check_limit(name, what, value)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.defaults = defaults
        self._check(defaults)
        self.param_groups: list[Group] = []
        self.pacer: Pacer | None = None
        self._segments: list[tuple[int, Segment]] = []  # each with the number of its group
        self._state: list[dict[str, Array]] = []  # of each segment, by name
        self._steps: list[Array] = []  # taken by each parameter of a segment; kernels count them
        self._hyper: list[Array] = []  # each group's options as kernels read them
        self._choices: list[tuple[bool, ...]] = []  # of each group, which state it leaves out
        self._plans: list[tuple[Array, Array]] = []  # of each group: see `follow`
        self._waiting: list[Callable[[], None]] = []
        if params is not None:
            self.bind(params)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        k.changed()

    def bind(self, params: Params) -> None:
        """Take the parameters to be updated. Their values move into this optimizer's flat buffers."""
        if self.param_groups:
            raise ValueError(f"{type(self).__name__} has its parameters already")
        entries: list[Any] = list(params)
        if not entries:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        made = [self._group(group) for group in groups]
        everything = [p for group in made for p in group["params"]]
        if len({id(p) for p in everything}) != len(everything):
            raise ValueError(f"{type(self).__name__}: a parameter appears twice")
        self.param_groups = made
        for number, group in enumerate(made):
            alike: dict[Any, list[Parameter]] = {}
            for p in group["params"]:
                alike.setdefault((p.dtype.name, k.device_of(p.data)), []).append(p)
            self._segments += [(number, Segment(same)) for same in alike.values()]
        self._state = [{} for _ in self._segments]
        self._steps = [np.zeros(len(segment.parameters), np.int64) for _, segment in self._segments]
        self._hyper = [np.array(self._options(group), np.float64) for group in made]
        self._choices = [self._choice(group) for group in made]
        for number, group in enumerate(made):
            group.changed = partial(self._option_changed, number)
        for action in self._waiting:
            action()

    def when_bound(self, action: Callable[[], None]) -> None:
        """Call `action` once there are parameters: now, or at the end of `bind`."""
        if self.param_groups:
            action()
        else:
            self._waiting.append(action)

    def _group(self, group: Mapping[str, Any]) -> Group:
        unknown = set(group) - {"params", *self.defaults, *_BESIDE}
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

    # --- steps --------------------------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Set all gradients to zero and begin a new step (a `step` begins one by itself)."""
        for p in self._parameters():
            p.zero_grad()

    def step(self) -> None:
        """Update all parameters that got a gradient since the last step and are not frozen; this ends the step."""
        self._check_bound()
        self._clip()
        self.refresh()
        for (plan, position), hyper in zip(self._plans, self._hyper, strict=False):
            k.next_rates(plan, position, hyper)
        for i, (number, segment) in enumerate(self._segments):
            if any(p.segment is not segment for p in segment.parameters):  # another optimizer took them over
                segment = Segment(segment.parameters)
                self._segments[i] = (number, segment)
            self._update(i, segment)
            for p in segment.parameters:
                p.used = False

    def refresh(self) -> None:
        """Write options to where kernels read them, those of a captured step, too."""
        for group, hyper in zip(self.param_groups, self._hyper, strict=True):
            hyper[:] = self._options(group)

    def _option_changed(self, number: int) -> None:
        """Mostly it is enough to write the options; a captured step need not ask what else is different."""
        group = self.param_groups[number]
        self._hyper[number][:] = self._options(group)
        if self._choice(group) != self._choices[number]:
            self._choices[number] = self._choice(group)
            k.changed()

    def _choice(self, group: Mapping[str, Any]) -> tuple[bool, ...]:
        return tuple(fill is None for fill in self._buffers(group).values())

    def _clip(self) -> None:
        if self.clip_norm is not None:
            limit_norm(self._parameters(), self.clip_norm)
        elif self.clip_value is not None:
            limit_values(self._parameters(), self.clip_value)

    def _update(self, i: int, segment: Segment) -> None:
        """Call the kernel for neighbours that took as many steps, among segment i's parameters: mostly for all."""
        number = self._segments[i][0]
        wanted, taken = self._buffers(self.param_groups[number]), self._steps[i]
        state = [None if fill is None else self._buffer(i, name, fill) for name, fill in wanted.items()]
        alike = zip(segment.parameters, taken.tolist(), strict=True)
        for where, which in segment.runs([steps if p.used and p.requires_grad else None for p, steps in alike]):
            parts = [None if a is None else a[where] for a in state]
            self.kernel(segment.data[where], segment.grad[where], *parts, self._hyper[number], taken[which])

    def _buffer(self, i: int, name: str, fill: float) -> Array:
        """State beside segment i, one number for each of its numbers."""
        state, segment = self._state[i], self._segments[i][1]
        device = k.device_of(segment.data)
        if name not in state:
            state[name] = k.aligned_zeros(len(segment.data), segment.data.dtype.name, device)
            state[name][:] = fill
        elif k.device_of(state[name]) != device:  # the parameters have been moved
            state[name] = k.to_device(state[name], device)
        return state[name]

    def _parameters(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    # --- what a captured step has to know -----------------------------------------------------------------------------

    def structure(self) -> list[Any]:
        """What, beside the parameters that have gradients, decides which kernels `step` calls on which arrays."""
        found: list[Any] = [self.clip_norm, self.clip_value, *self._plans]
        for (number, segment), taken in zip(self._segments, self._steps, strict=True):
            alike = tuple((taken == taken[0]).tolist())  # who took other steps is updated apart
            found += (segment, self._choice(self.param_groups[number]), alike)
        return found

    def memory(self) -> list[Array]:
        """The arrays that the kernels of `step` read."""
        state = [a for arrays in self._state for a in arrays.values()]
        flat = [a for _, segment in self._segments for a in (segment.data, segment.grad)]
        plans = [a for arrays in self._plans for a in arrays]
        return [*flat, *state, *plans, *self._steps, *self._hyper]

    # --- options that move with every update --------------------------------------------------------------------------

    def ahead(self, steps: int) -> None:
        """So many updates follow, and Python may not see where each begins: a schedule by batch plans their options.

        0 when there are no more: from then on options are those in the groups.
        """
        if self.pacer is None:
            return
        try:
            self.pacer.settle()
            self.follow(self.pacer.rates(steps) if steps else [])
        finally:
            if not steps:
                self.pacer = None
                self.follow([])

    def follow(self, rates: Sequence[Array]) -> None:
        """Each update takes the next row of these, by a kernel: for each group, its first options, (steps, 1 or 2).

        None of them, ``[]``, to go on with the options in the groups.
        """
        if [rows.shape for rows in rates] != [plan.shape for plan, _ in self._plans]:
            self._plans = [(np.empty(rows.shape), np.empty(1, np.int64)) for rows in rates]
        for (plan, position), rows in zip(self._plans, rates, strict=True):
            plan[...], position[0] = rows, 0

    def followed(self) -> int:
        """How many updates there were since `follow`."""
        return int(self._plans[0][1][0]) if self._plans else 0

    # --- state as a dictionary ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything with which training goes on, laid out as PyTorch's: arrays, numbers, strings, lists and tuples.

        ``{"state": {index: {"step": steps taken, name: array, …}}, "param_groups": [{"params": [index, …], …}]}``
        where index counts the parameters through all groups; arrays have their parameter's shape and dtype, lie in C
        order, and are copies. A parameter that took no step has no entry (in Adagrad it has). PyTorch's optimizer
        loads it, too, once the arrays are tensors.
        """
        self._check_bound()
        index = {id(p): i for i, p in enumerate(self._parameters())}
        state = {}
        for i, (number, segment) in enumerate(self._segments):
            if self._needs_state:
                for name, fill in self._buffers(self.param_groups[number]).items():
                    self._buffer(i, name, fill or 0.0)
            for p, start, steps in zip(segment.parameters, segment.starts, self._steps[i].tolist(), strict=False):
                if steps or self._needs_state:
                    arrays = {name: np.array(view(flat, p, start), order="C") for name, flat in self._state[i].items()}
                    state[index[id(p)]] = {"step": steps, **arrays}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a `state_dict` was made, this optimizer's or PyTorch's, with as many parameters in each group.

        Values are copied, in the parameters' dtype. Options that only PyTorch has are passed over, those that only
        fastnn has stay as they are. Raises ValueError, KeyError or `ShapeError`, and nothing has changed then.
        """
        self._check_bound()
        saved = state_dict["param_groups"]
        ours, theirs = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        if ours != theirs:
            raise ValueError(f"{type(self).__name__}: expected groups of {ours} parameters, got {theirs}")
        options = [self._loaded_options(group, from_) for group, from_ in zip(self.param_groups, saved, strict=True)]
        keys = [key for group in saved for key in group["params"]]
        entries = {id(p): state_dict["state"].get(key, {}) for p, key in zip(self._parameters(), keys, strict=True)}
        for i, p in enumerate(self._parameters()):
            self._check_entry(i, p, entries[id(p)])
        for group, loaded in zip(self.param_groups, options, strict=True):
            group.update(loaded)
        for i, (number, segment) in enumerate(self._segments):
            self._load_segment(i, segment, self._buffers(self.param_groups[number]), entries)

    def _loaded_options(self, group: Group, saved: Mapping[str, Any]) -> dict[str, Any]:
        options = {name: saved[name] for name in (*self.defaults, *_BESIDE) if name in saved}
        if "betas" in options:
            options["betas"] = tuple(options["betas"])  # JSON has lists
        self._check({**group, **options})
        return options

    def _check_entry(self, i: int, p: Parameter, entry: Mapping[str, Any]) -> None:
        known = self._buffers(self.defaults)
        for name, value in entry.items():
            if name == "step" or value is None:
                continue
            if name not in known:
                raise ValueError(f"{type(self).__name__}: expected state of {sorted(known)}, got {name!r}")
            if np.shape(value) != p.shape:
                shape = np.shape(value)
                raise ShapeError(f"{type(self).__name__}: expected {name} of parameter {i} as {p.shape}, got {shape}")

    def _load_segment(
        self,
        i: int,
        segment: Segment,
        wanted: Mapping[str, float | None],
        entries: Mapping[int, Mapping[str, Any]],
    ) -> None:
        for name, flat in self._state[i].items():
            flat[:] = wanted[name] or 0.0
        for j, (p, start) in enumerate(zip(segment.parameters, segment.starts, strict=False)):
            arrays = {name: a for name, a in entries[id(p)].items() if name != "step" and a is not None}
            self._steps[i][j] = int(entries[id(p)].get("step", bool(arrays)))  # PyTorch's SGD does not count
            for name, value in arrays.items():
                view(self._buffer(i, name, wanted[name] or 0.0), p, start)[...] = value

    # --- what an optimizer defines ------------------------------------------------------------------------------------

    def _check_bound(self) -> None:
        if not self.param_groups:
            raise ValueError(f"{type(self).__name__} has no parameters: pass model.parameters()")

    def _check(self, options: Mapping[str, Any]) -> None:
        raise TypeError(f"{type(self).__name__} does not define which options are valid")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        """The options that the kernel reads, as numbers: lr first, then momentum or beta1 if there is one."""
        raise TypeError(f"{type(self).__name__} does not define what its kernel reads")

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        """The kernel's state by PyTorch's names: what each begins with, None for what these options leave out."""
        raise TypeError(f"{type(self).__name__} does not define its state")

    def _check_least(self, options: Mapping[str, Any], *names: str) -> None:
        for name in names:
            if not options[name] >= 0:
                raise ValueError(f"{type(self).__name__}: expected {name} of at least 0, got {options[name]!r}")
