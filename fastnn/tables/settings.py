"""How a network is trained on a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .pictures import Size


@dataclass(frozen=True)
class Settings:
    """All that may be chosen; the defaults are those of the command line.

    target: the column to predict; None for the last
    task: ``"classification"``, ``"regression"``, or ``"auto"`` for what the target looks like
    model: ``"mlp"``, ``"cnn"``, a text or a .json file (see `networks`); None for a cnn for images, else an mlp
    hidden: the sizes of an mlp's hidden layers
    batch_norm, dropout: as of `networks.network`
    epochs: at most. patience: so many epochs without a smaller validation loss end the training
    lr, batch_size: of Adam
    test: the share of the rows that are held out for the report. validation: the share of the others that are held out
        to tell when to stop
    seed: of the split, the initial weights, the shuffles and dropout
    drop: columns to leave out. categorical: columns to take for categories whatever they hold
    size: to which pictures are resized; None if all have the same
    delimiter: of a CSV file, by name (see `csv_file`); None to find out
    """

    target: str | None = None
    task: str = "auto"
    model: str | None = None
    hidden: tuple[int, ...] = (128, 64)
    batch_norm: bool = False
    dropout: float = 0.0
    epochs: int = 200
    patience: int = 20
    lr: float = 0.001
    batch_size: int = 32
    test: float = 0.2
    validation: float = 0.2
    seed: int = 0
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    size: Size | None = None
    delimiter: str | None = None

    def check_unused(self, path: Path, what: str, *names: str) -> None:
        """Raise ValueError for a setting that means nothing for such a file."""
        for name in names:
            if getattr(self, name):
                raise ValueError(f"{path}: --{name} is not for {what}")
