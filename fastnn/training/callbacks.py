"""Callbacks: what `fit` calls while it trains."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

from .. import checkpoint
from .._files import StrPath, check_folder, write_bytes
from .._kernels import Array
from ..layers import Layer
from .checks import check_whole
from .history import History


class Callback:
    """What `fit` calls while it trains; each hook does nothing unless overridden.

    One with something to remember says so by `state_dict` and takes it back by `load_state_dict`: a run that goes on
    from a `Checkpoint` then goes on as if it had never stopped.
    """

    def on_train_begin(self, model: Layer, history: History) -> None:
        """Before the first epoch, or before the first that goes on from a checkpoint."""

    def on_batch_end(self, model: Layer, batch: int, loss: float) -> None:
        """After each update. batch: counted from 0 in each epoch; loss: that of the batch."""

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """After each epoch and its validation, both in the history by now. True ends the training."""

    def on_train_end(self, model: Layer, history: History) -> None:
        """After the last epoch, be it the last one wanted, ended by a callback or broken off by Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: arrays, JSON values, and dictionaries, lists and tuples of them; {} for nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` gave; called after `on_train_begin`."""


class _OnEpochEnd(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[Layer, History], Any]) -> None:
        self.function = function

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        result: bool | None = self.function(model, history)
        return result


def as_callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(f"callbacks: expected Callback objects or functions (model, history), got {callback!r}")
    return _OnEpochEnd(callback)


def mode_of(kind: str, monitor: str, mode: str | None) -> str:
    """``"min"`` or ``"max"``, which of a metric is better; None goes by its name. kind: names the caller in errors."""
    if not isinstance(monitor, str):
        raise TypeError(f"{kind}: expected monitor as the name of a metric, got {monitor!r}")
    if mode is None:
        mode = "min" if monitor.endswith("loss") else "max" if monitor.endswith("accuracy") else None
    if mode not in ("min", "max"):
        raise ValueError(f"{kind}: expected mode 'min' or 'max' for {monitor!r}, got {mode!r}")
    return mode


class BestModel(Callback):
    """Keeps the weights of the epoch in which a metric was best.

    monitor: a metric of the history, such as ``"val_loss"``, ``"val_accuracy"`` or one's own ``"val_f1"``.
    mode: ``"min"`` or ``"max"``, whichever is better; needed for names that end in neither ``loss`` nor ``accuracy``.
    min_delta: what is better by no more than this does not count.
    path: a file to which the model is saved each time (see `save`).
    restore_best: put the best weights back into the model when the training ends.

    Of equals the first is best; NaN never is. `best` and `epoch` (from 1) tell the value and when it was.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str | None = None,
        min_delta: float = 0.0,
        path: StrPath | None = None,
        restore_best: bool = True,
    ) -> None:
        kind = type(self).__name__
        mode = mode_of(kind, monitor, mode)
        if not 0 <= min_delta < math.inf:
            raise ValueError(f"{kind}: expected min_delta of at least 0, got {min_delta!r}")
        self.monitor, self.mode, self.min_delta, self.path = monitor, mode, min_delta, path
        self.restore_best = restore_best
        self._forget()

    def _forget(self) -> None:
        self.best, self.epoch, self.weights = math.nan, 0, dict[str, Array]()

    def on_train_begin(self, model: Layer, history: History) -> None:
        """Forget an earlier training. Raises FileNotFoundError if there is no folder for the file."""
        if self.path is not None:
            check_folder(self.path)
        self._forget()

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """Keep the weights if this is the best epoch so far. Raises KeyError if the metric is not measured."""
        if history.epochs != len(history[self.monitor]):
            raise KeyError(f"{type(self).__name__}: {self.monitor!r} is not measured in each epoch")
        value = history[self.monitor][-1]
        if (not self.epoch and not math.isnan(value)) or self._is_better(value):
            self.best, self.epoch = value, history.epochs
            if self.restore_best:
                self.weights = model.state_dict()
            if self.path is not None:
                checkpoint.save(model, self.path)
        return None

    def _is_better(self, value: float) -> bool:
        return (self.best - value if self.mode == "min" else value - self.best) > self.min_delta

    def on_train_end(self, model: Layer, history: History) -> None:
        """Put the best weights back."""
        if self.restore_best and self.epoch:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value, its epoch and weights."""
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.epoch, self.weights = state["best"], state["epoch"], dict(state["weights"])


class EarlyStopping(BestModel):
    """Ends the training once a metric has not become better for `patience` epochs.

    monitor, mode, min_delta: as of `BestModel`. restore_best: put the best epoch's weights back in the end.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        check_whole("EarlyStopping: patience", patience, 1)
        self.patience = int(patience)
        super().__init__(monitor, mode=mode, min_delta=min_delta, restore_best=restore_best)

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """True once patience is over."""
        super().on_epoch_end(model, history)
        return history.epochs - self.epoch >= self.patience


class CSVLogger(Callback):
    """Writes a table of all metrics, a line for each epoch, as it ends.

    path: the file, written anew by each training. Raises FileNotFoundError, before anything is trained, if there is no
    folder for it, and OSError if it cannot be written.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = path
        self._begun = False

    def on_train_begin(self, model: Layer, history: History) -> None:
        """The file is written anew with the first epoch, and with it the epochs that a checkpoint brought along."""
        check_folder(self.path)
        self._begun = False

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """Add a line. Raises OSError."""
        names = history.names()
        rows = [[history.epochs, *(history[name][-1] for name in names)]]
        if self._begun:
            with open(self.path, "a", newline="") as file:
                csv.writer(file).writerows(rows)
            return None
        text = io.StringIO(newline="")
        columns = zip(*(history[name] for name in names), strict=True)
        csv.writer(text).writerows([["epoch", *names], *([i, *row] for i, row in enumerate(columns, 1))])
        write_bytes(self.path, text.getvalue().encode())
        self._begun = True
        return None
