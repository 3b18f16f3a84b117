"""How `fit` shows its progress: not at all, a line for each epoch, or a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol


class Running(Protocol):
    """The means so far of an epoch."""

    def values(self) -> dict[str, float]:
        """By name, such as ``loss``."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, epoch: int, batches: int | None, done: int) -> None:
        """An epoch (from 1) of so many batches, if that is known, begins, or goes on after some of them."""

    def batches(self, count: int, means: Running) -> None:
        """So many batches more were trained; the means are those of the epoch so far."""

    def end(self, means: dict[str, float], seconds: float) -> None:
        """An epoch ended, validation included."""

    def close(self) -> None:
        """The training ended."""


class Lines(Silent):
    """One line for each epoch, on stderr."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.epoch = epochs, 0

    def begin(self, epoch: int, batches: int | None, done: int) -> None:
        self.epoch = epoch

    def end(self, means: dict[str, float], seconds: float) -> None:
        numbers = ", ".join(f"{name} {value}" for name, value in _texts(means).items())
        print(f"epoch {self.epoch}/{self.epochs}: {numbers}, {seconds:.1f} s", file=sys.stderr)


class Bars(Lines):
    """One bar of tqdm for each epoch, on stderr."""

    def __init__(self, epochs: int, tqdm: Callable[..., Any]) -> None:
        super().__init__(epochs)
        self.tqdm = tqdm
        self.bar: Any = None

    def begin(self, epoch: int, batches: int | None, done: int) -> None:
        super().begin(epoch, batches, done)
        self.bar = self.tqdm(total=batches, initial=done, desc=f"epoch {epoch}/{self.epochs}", unit="batch")

    def batches(self, count: int, means: Running) -> None:
        self.bar.set_postfix(_texts(means.values()), refresh=False)
        self.bar.update(count)

    def end(self, means: dict[str, float], seconds: float) -> None:
        self.bar.set_postfix(_texts(means))
        self.bar.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _texts(means: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in means.items()}


def shown(progress: bool, epochs: int) -> Silent:
    if not progress:
        return Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Lines(epochs)
    return Bars(epochs, tqdm)
