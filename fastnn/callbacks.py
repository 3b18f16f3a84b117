"""Callbacks: what `fit` calls while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .history import History
from .layers import Layer


class Callback:
    """What `fit` calls while it trains; each hook does nothing unless overridden."""

    def on_train_begin(self, model: Layer, history: History) -> None:
        """Before the first epoch."""

    def on_batch_end(self, model: Layer, batch: int, loss: float) -> None:
        """After each update. batch: counted from 0 in each epoch; loss: that of the batch."""

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """After each epoch and its validation, both in the history by now. True ends the training."""

    def on_train_end(self, model: Layer, history: History) -> None:
        """After the last epoch, be it the last one wanted, ended by a callback or broken off by Ctrl-C."""


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
