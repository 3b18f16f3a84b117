"""What training leaves behind: the losses and accuracies of its epochs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class History:
    """One number per finished epoch in each list; those of the validation are empty without one.

    loss, accuracy: means over the samples, each measured in its batch while training, so before the batch's update and
        with dropout on. The accuracy is a fraction; without one (see `Loss`) its lists stay empty.
    seconds: the time of training, validation and callbacks not counted.
    val_loss, val_accuracy: what `evaluate` says of the validation data after the epoch.
    interrupted: whether Ctrl-C ended the training; the unfinished epoch is not in the lists.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    interrupted: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Copies of all lists, and `interrupted`, by name; JSON values."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Loss and accuracy over the epochs, as a matplotlib figure; `path` writes it to a file as well."""
        from .plots import learning_curves

        return learning_curves(self, path)

    def _add(self, train: dict[str, float], validation: dict[str, float], seconds: float) -> None:
        for prefix, means in (("", train), ("val_", validation)):
            for name, value in means.items():
                getattr(self, prefix + name).append(value)
        self.seconds.append(seconds)  # the last: an epoch without seconds is an unfinished one

    def _drop_unfinished(self) -> None:
        for values in (self.loss, self.accuracy, self.val_loss, self.val_accuracy):
            del values[self.epochs :]
