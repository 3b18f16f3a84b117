"""How a training shows its progress: not at all, a line for each epoch, or a bar."""

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

    def __init__(self, epochs: int | None, name: str = "") -> None:
        """epochs: None where the training is one of which nobody counts the epochs."""
        self.epochs, self.epoch, self.name = epochs, 0, name

    def begin(self, epoch: int, batches: int | None, done: int) -> None:
        self.epoch = epoch

    @property
    def place(self) -> str:
        """Which epoch of how many, after the name of the training."""
        return _joined(self.name, "" if self.epochs is None else f"epoch {self.epoch}/{self.epochs}")

    def end(self, means: dict[str, float], seconds: float) -> None:
        numbers = ", ".join(f"{name} {value}" for name, value in _texts(means).items())
        print(_joined(self.place, f"{numbers}, {seconds:.1f} s"), file=sys.stderr)


class Bars(Lines):
    """One bar of tqdm for each epoch, on stderr."""

    def __init__(self, epochs: int | None, name: str, tqdm: Callable[..., Any]) -> None:
        super().__init__(epochs, name)
        self.tqdm = tqdm
        self.bar: Any = None

    def begin(self, epoch: int, batches: int | None, done: int) -> None:
        super().begin(epoch, batches, done)
        self.bar = self.tqdm(total=batches, initial=done, desc=self.place, unit="batch")

    def batches(self, count: int, means: Running) -> None:
        self.bar.set_postfix(_texts(means.values()), refresh=False)
        self.bar.update(count)

    def end(self, means: dict[str, float], seconds: float) -> None:
        self.bar.set_postfix(_texts(means))
        self.bar.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _joined(*parts: str) -> str:
    """The parts that are not empty."""
    return ": ".join(part for part in parts if part)


def _texts(means: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in means.items()}


def shown(progress: bool | str, epochs: int | None = None) -> Silent:
    """progress: whether to show any; a text is the training's name, shown with it. epochs: None shows none."""
    if not progress or sys.stderr is None:
        return Silent()
    name = progress if isinstance(progress, str) else ""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Lines(epochs, name)
    return Bars(epochs, name, tqdm)
