"""What training leaves behind: the losses, accuracies and other measures of its epochs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .._files import StrPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History:
    """One number per finished epoch in each list; those of the validation are empty without one.

    loss, accuracy: means over the samples, each measured in its batch while training, so before the batch's update and
        with dropout on. The accuracy is a fraction; without one (see `Loss`) its lists stay empty.
    seconds: the time of training, validation and callbacks not counted.
    val_loss, val_accuracy: what `evaluate` says of the validation data after the epoch.
    interrupted: whether Ctrl-C ended the training; the unfinished epoch is not in the lists.

    Metrics of one's own stand beside them: that of ``fit(metrics={"f1": …})`` is ``history.val_f1``, or
    ``history["val_f1"]``.
    """

    loss: list[float]
    accuracy: list[float]
    seconds: list[float]
    val_loss: list[float]
    val_accuracy: list[float]
    interrupted: bool

    def __init__(
        self,
        loss: Iterable[float] = (),
        accuracy: Iterable[float] = (),
        seconds: Iterable[float] = (),
        val_loss: Iterable[float] = (),
        val_accuracy: Iterable[float] = (),
        interrupted: bool = False,
        **metrics: Iterable[float],
    ) -> None:
        self.loss, self.accuracy, self.seconds = list(loss), list(accuracy), list(seconds)
        self.val_loss, self.val_accuracy = list(val_loss), list(val_accuracy)
        self.interrupted = interrupted
        vars(self).update({name: list(values) for name, values in metrics.items()})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> list[float]: ...

    def __getitem__(self, name: str) -> list[float]:
        """The list of a metric by its name, such as ``"val_loss"``."""
        found = vars(self).get(name)
        if not isinstance(found, list):
            raise KeyError(f"the history has no {name!r}, but {', '.join(self.names())}")
        return found

    def names(self) -> list[str]:
        """The metrics that were measured."""
        return [name for name, values in vars(self).items() if isinstance(values, list) and values]

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Copies of all lists, and `interrupted`, by name; JSON values."""
        return {name: value[:] if isinstance(value, list) else value for name, value in vars(self).items()}

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # lists change

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def plot(self, path: StrPath | None = None, *, metrics: str | Sequence[str] = ("loss", "accuracy")) -> Figure:
        """These metrics over the epochs, as a matplotlib figure; `path` writes it to a file as well.

        See `fastnn.plots.learning_curves`.
        """
        from ..plots import learning_curves

        return learning_curves(self, path, metrics=metrics)

    def _add(self, train: dict[str, float], validation: dict[str, float], seconds: float) -> None:
        for prefix, means in (("", train), ("val_", validation)):
            for name, value in means.items():
                vars(self).setdefault(prefix + name, []).append(value)
        self.seconds.append(seconds)  # the last: an epoch without seconds is an unfinished one

    def _drop_unfinished(self) -> None:
        for values in vars(self).values():
            if isinstance(values, list):
                del values[self.epochs :]
