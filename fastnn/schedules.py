"""Learning-rate schedules: by hand, after each epoch or each update, as in PyTorch, or as callbacks of `fit`."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._kernels import Array
from .layers import Layer
from .optim import Group, Optimizer
from .training.callbacks import Callback, mode_of
from .training.history import History


class Schedule(Callback):
    """Base of schedules whose learning rate is a function of the epoch, or of the update, alone.

    optimizer: it may still be without parameters. last_epoch: how far it is already; -1 begins with the initial rate,
        which is the group's ``initial_lr``, or its ``lr`` when the first schedule comes to it.
    interval: when `fit` moves on, ``"epoch"`` or ``"batch"``; by hand it is ``schedule.step()`` that does. By batch,
        rates of a whole epoch are computed ahead and a kernel takes the next one in each update, so that steps are
        still replayed; ``param_groups`` shows the new rate at the end of the epoch.

    The rates are PyTorch's for a schedule by itself, each group beginning with its own. They are computed from the
    initial rate: what else changes ``lr`` in between is overwritten (in PyTorch it is mostly multiplied), so that two
    schedules do not go together; see `SequentialLR`.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, *, interval: str = "epoch") -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimizer such as SGD(lr=0.01), got {optimizer!r}")
        if interval not in ("epoch", "batch"):
            raise ValueError(f"{type(self).__name__}: expected interval 'epoch' or 'batch', got {interval!r}")
        self.optimizer, self.interval = optimizer, interval
        self.last_epoch = last_epoch + 1
        self.base_lrs: list[float] = []
        self._planned_from = 0
        optimizer.when_bound(self._begin)

    def lr(self, epoch: int, base: float, group: int) -> float:
        """The rate in an epoch, counted from 0, of a group, by its number, that began with the rate `base`."""
        raise TypeError(f"{type(self).__name__} does not define its rate")

    def step(self) -> None:
        """Go on to the next epoch, or update."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Each group's rate."""
        self.settle()
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """How far it is and what it began with, as JSON values."""
        self.settle()
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a `state_dict` was made, of a schedule made with the same arguments."""
        self.last_epoch, self.base_lrs = int(state_dict["last_epoch"]), list(state_dict["base_lrs"])
        self.optimizer.when_bound(self._apply)

    def _begin(self) -> None:
        if not self.base_lrs:
            groups = self.optimizer.param_groups
            self.base_lrs = [float(group.setdefault("initial_lr", group["lr"])) for group in groups]
        self._apply()

    def _apply(self) -> None:
        for number, group in enumerate(self.optimizer.param_groups):
            _set(group, *self._options(self.last_epoch, number))

    def _options(self, epoch: int, number: int) -> tuple[float, ...]:
        """What it moves: the rate, and perhaps the momentum or β₁."""
        return (self.lr(epoch, self.base_lrs[number], number),)

    # --- in `fit` -----------------------------------------------------------------------------------------------------

    def on_train_begin(self, model: Layer, history: History) -> None:
        """By batch: be asked for rates ahead of each epoch."""
        _check_trains(self, self.optimizer, model)
        if self.interval == "batch":
            if self.optimizer.pacer is not None:
                raise ValueError(f"{type(self).__name__}: the optimizer has another schedule by batch")
            self.optimizer.pacer = self

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """Go on to the next epoch, or note how many updates the epoch had."""
        if self.interval == "epoch":
            self.step()
        else:
            self.settle()
        return None

    def settle(self) -> None:
        """Count the updates that took their rates ahead."""
        taken = self.optimizer.followed() if self.optimizer.pacer is self else 0
        if taken:
            self.last_epoch = self._planned_from + taken
            self._apply()

    def rates(self, steps: int) -> list[Array]:
        """For each group, lr, or lr and momentum, of so many updates from now on: (steps, 1 or 2) float64."""
        epochs = range(self.last_epoch, self.last_epoch + steps)
        groups = range(len(self.base_lrs))
        found = [np.array([self._options(epoch, number) for epoch in epochs]) for number in groups]
        self._planned_from = self.last_epoch  # not before: an error leaves the plan that there was
        return found


class StepLR(Schedule):
    """The rate times gamma every step_size epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *, interval: str = "epoch"
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: expected step_size of at least 1, got {step_size!r}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        return float(base * self.gamma ** (epoch // self.step_size))


class MultiStepLR(Schedule):
    """The rate times gamma at each of the milestones."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        interval: str = "epoch",
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        return float(base * self.gamma ** bisect_right(self.milestones, epoch))


class ExponentialLR(Schedule):
    """The rate times gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, interval: str = "epoch") -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        return float(base * self.gamma**epoch)


class LinearLR(Schedule):
    """The rate times a factor that goes from start_factor to end_factor in total_iters epochs, and stays: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        interval: str = "epoch",
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ValueError(
                "LinearLR: expected start_factor from above 0 to 1 and end_factor from 0 to 1, "
                f"got {start_factor!r} and {end_factor!r}"
            )
        if total_iters < 1:
            raise ValueError(f"LinearLR: expected total_iters of at least 1, got {total_iters!r}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(Schedule):
    """The rate goes to eta_min in T_max epochs, along half a cosine, and back in as many more.

    Loshchilov and Hutter, arXiv:1608.03983, equation 5, without the restarts.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1, *, interval: str = "epoch"
    ) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: expected T_max of at least 1, got {T_max!r}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LambdaLR(Schedule):
    """The rate times what a function of the epoch returns: one function, or one for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
        *,
        interval: str = "epoch",
    ) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        if callable(self.lr_lambda):
            return float(base * self.lr_lambda(epoch))
        return float(base * _of_group("LambdaLR", "lr_lambda", self.lr_lambda, self.optimizer)[group](epoch))


class OneCycleLR(Schedule):
    """One cycle: the rate goes from max_lr / div_factor up to max_lr, then down to 1 / final_div_factor of its start.

    The momentum, or Adam's β₁, goes the other way, from max_momentum to base_momentum and back, unless cycle_momentum
    is False. Going up takes the share pct_start of total_steps (or of epochs · steps_per_epoch); three_phase goes down
    to the start as fast, and then on to the end. anneal_strategy: ``"cos"`` or ``"linear"``.
    Smith and Topin, arXiv:1708.07120, as PyTorch's OneCycleLR computes it. It moves with every update, so that in `fit`
    `interval` is ``"batch"``. Beyond total_steps, ValueError.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        interval: str = "batch",
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(
                "OneCycleLR: expected at least one step and pct_start from 0 to 1, "
                f"got {total_steps!r} and {pct_start!r}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        if cycle_momentum and isinstance(optimizer, Optimizer) and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError(f"OneCycleLR: {type(optimizer).__name__} has no momentum: pass cycle_momentum=False")
        self.max_lr, self.base_momentum, self.max_momentum = max_lr, base_momentum, max_momentum
        self.total_steps, self.cycle_momentum = total_steps, cycle_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self._along = _cosine if anneal_strategy == "cos" else _line
        up, end = float(pct_start * total_steps) - 1, total_steps - 1
        self._ends = (up, 2 * pct_start * total_steps - 2, end) if three_phase else (up, end)
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        return self._options(epoch, group)[0]

    def _options(self, epoch: int, number: int) -> tuple[float, ...]:
        phase, share = self._place(epoch)
        corners = self._corners[number]
        return tuple([self._along(values[phase], values[phase + 1], share) for values in corners])

    def _place(self, epoch: int) -> tuple[int, float]:
        """In which phase an update lies, and where."""
        if epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: it ends after {self.total_steps} steps, and this is step {epoch + 1}")
        phase = bisect_left(self._ends, epoch, hi=len(self._ends) - 1)
        start = self._ends[phase - 1] if phase else 0.0
        length = self._ends[phase] - start
        return phase, (epoch - start) / length if length else 1.0

    def _begin(self) -> None:
        self._corners = [self._corners_of(number) for number in range(len(self.optimizer.param_groups))]
        super()._begin()

    def _corners_of(self, group: int) -> list[tuple[float, ...]]:
        """Of all that moves in a group, where each phase begins, and where the last one ends."""
        most, three = self._of("max_lr", group), len(self._ends) == 3
        first = most / self.div_factor
        last = first / self.final_div_factor
        corners: list[tuple[float, ...]] = [(first, most, first, last) if three else (first, most, last)]
        if self.cycle_momentum:
            low, high = self._of("base_momentum", group), self._of("max_momentum", group)
            corners.append((high, low, high, high) if three else (high, low, high))
        return corners

    def _of(self, name: str, group: int) -> float:
        value = getattr(self, name)
        if isinstance(value, int | float):
            return float(value)
        return float(_of_group("OneCycleLR", name, value, self.optimizer)[group])


class SequentialLR(Schedule):
    """Schedules one after the other, each from its own beginning: before the first milestone, up to the next one, …

    A warm-up before any schedule is ``SequentialLR(opt, [LinearLR(opt), CosineAnnealingLR(opt, 95)], [5])``.
    schedulers: of the same optimizer; their `interval` does not count. milestones: one less, ascending.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[Schedule],
        milestones: Sequence[int],
        last_epoch: int = -1,
        *,
        interval: str = "epoch",
    ) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1 or sorted(milestones) != list(milestones):
            raise ValueError(
                "SequentialLR: expected schedules and ascending milestones, one less, "
                f"got {len(schedulers)} schedules and milestones {milestones!r}"
            )
        for schedule in schedulers:
            name = type(schedule).__name__
            if not isinstance(schedule, Schedule) or getattr(schedule, "cycle_momentum", False):
                raise TypeError(f"SequentialLR: expected schedules of the learning rate alone, got {name}")
            if schedule.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: {name} is of another optimizer")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch, interval=interval)

    def lr(self, epoch: int, base: float, group: int) -> float:
        which = bisect_right(self.milestones, epoch)
        schedule = self.schedulers[which]
        return schedule.lr(epoch - (self.milestones[which - 1] if which else 0), base, group)


class ReduceLROnPlateau(Callback):
    """The rate times factor, but at least min_lr, once a metric has not got better for more than patience epochs.

    mode: ``"min"`` or ``"max"``, which is better; None as `BestModel` has it, by the name of monitor, so ``"min"``
    without one. It has to be better by more than threshold, which is a share of the best (threshold_mode ``"rel"``) or
    absolute (``"abs"``). After a reduction, cooldown epochs do not count. One by
    less than eps is left out.
    monitor: in `fit`, the list of the history whose last value counts.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
        *,
        monitor: str = "val_loss",
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"ReduceLROnPlateau: expected an optimizer such as SGD(lr=0.01), got {optimizer!r}")
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: expected factor below 1, got {factor!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: expected threshold_mode 'rel' or 'abs', got {threshold_mode!r}")
        self.mode = mode_of("ReduceLROnPlateau", monitor, mode)
        self.optimizer, self.factor, self.patience = optimizer, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lr, self.eps, self.monitor = min_lr, eps, monitor
        self.best: float | None = None
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: float) -> None:
        """Go on to the next epoch after one that measured `metrics`."""
        value = float(metrics)
        self.last_epoch += 1
        better = self._is_better(value)
        self.best = value if better else self.best
        self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def on_train_begin(self, model: Layer, history: History) -> None:
        """Make sure that there is something to reduce."""
        _check_trains(self, self.optimizer, model)

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """Go on to the next epoch, by what the history says. Raises KeyError for a metric that it does not have."""
        values = history[self.monitor]
        if not values:
            raise ValueError(
                f"ReduceLROnPlateau: no {self.monitor!r} in the history; pass data for it, or monitor='loss'"
            )
        self.step(values[-1])
        return None

    def get_last_lr(self) -> list[float]:
        """Each group's rate."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What it has seen so far, as JSON values; the rates themselves are the optimizer's."""
        return {name: getattr(self, name) for name in ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a `state_dict` was made, of a schedule made with the same arguments."""
        for name in self.state_dict():
            setattr(self, name, state_dict[name])

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.best is None:
            return sign * value < math.inf
        relative = self.threshold_mode == "rel"
        least = self.best * (1 - sign * self.threshold) if relative else self.best - sign * self.threshold
        return sign * value < sign * least

    def _reduce(self) -> None:
        for number, group in enumerate(self.optimizer.param_groups):
            least = self.min_lr
            if not isinstance(least, int | float):
                least = _of_group("ReduceLROnPlateau", "min_lr", least, self.optimizer)[number]
            new = max(group["lr"] * self.factor, least)
            if group["lr"] - new > self.eps:
                group["lr"] = new


def _set(group: Group, lr: float, momentum: float | None = None) -> None:
    group["lr"] = lr
    if momentum is not None and "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    elif momentum is not None:
        group["momentum"] = momentum


def _of_group(schedule: str, name: str, values: Any, optimizer: Optimizer) -> Any:
    """Values of which each group has its own."""
    if len(values) != len(optimizer.param_groups):
        raise ValueError(f"{schedule}: expected {name} of {len(optimizer.param_groups)} groups, got {len(values)}")
    return values


def _check_trains(schedule: Any, optimizer: Optimizer, model: Layer) -> None:
    """Raise ValueError unless the schedule's optimizer is one that trains the model."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in own for p in model.parameters()):
        found = "parameters of another model" if own else "no parameters"
        raise ValueError(f"{type(schedule).__name__}: its optimizer has {found}: pass the same one to fit")


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)


def _line(start: float, end: float, share: float) -> float:
    return (end - start) * share + start
