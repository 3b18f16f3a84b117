"""``fastnn train``: a network for an example, or for one's own data in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..tables import Settings, Size, networks, prepare
from ..tables.summary import summary
from . import examples
from .arguments import (
    INTERRUPTED,
    MOST_SEED,
    add_delimiter,
    add_json,
    add_threads,
    add_training,
    positive,
    set_threads,
    share,
    whole,
)

#: Options that only one's own data have; each is None unless it is given.
_OWN = (
    *("target", "task", "model", "hidden", "dropout", "batch_norm", "patience"),
    *("validation", "test", "drop", "categorical", "size", "delimiter"),
)


def add(commands: Any) -> None:
    """Describe the arguments."""
    what = "train a network on an example or on one's own data and write model, pictures and report"
    parser = commands.add_parser(
        "train",
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=(networks.__doc__ or "").replace("``", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    data = (
        f"an example ({', '.join(examples.RECIPES)}), or a file: .csv, .tsv, .parquet, .npz with x and y, or a folder "
        "with a subfolder of pictures for each class; ./ before it if it has an example's name (default: %(default)s)"
    )
    parser.add_argument("--data", default="digits", help=data)
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--lr", type=positive, metavar="X", help="learning rate (default: depends on the data)")
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("fastnn-out"), metavar="DIR", help="default: %(default)s")
    add_training(parser, "depends on the data")
    add_threads(parser)
    add_json(parser)
    _add_own(parser.add_argument_group("one's own data"))


def _add_own(group: Any) -> None:
    group.add_argument("--target", metavar="COLUMN", help="what to predict (default: the last column)")
    tasks = ("auto", "classification", "regression")
    auto = "auto takes texts, and whole numbers of at most 20 values, for classes (default: auto)"
    group.add_argument("--task", choices=tasks, help=auto)
    spec = "mlp, cnn, a text such as conv32-pool-conv64-pool-fc128, or a .json file (default: cnn for images, else mlp)"
    group.add_argument("--model", metavar="SPEC", help=spec)
    group.add_argument("--hidden", type=_sizes, metavar="N,N", help="hidden layers of an mlp (default: 128,64)")
    group.add_argument("--dropout", type=share, metavar="P", help="share after each hidden linear layer (default: 0)")
    group.add_argument("--batch-norm", action="store_true", default=None, help="normalise each hidden layer")
    patience = "end after N epochs without a smaller validation loss (default: 20)"
    group.add_argument("--patience", type=whole(1), metavar="N", help=patience)
    group.add_argument("--test", type=share, metavar="P", help="share of the rows for the report (default: 0.2)")
    validation = "share of the other rows that tells when to stop (default: 0.2)"
    group.add_argument("--validation", type=share, metavar="P", help=validation)
    group.add_argument("--drop", action="append", metavar="COLUMN", help="leave a column out (may be repeated)")
    categorical = "take a column for categories whatever it holds (may be repeated)"
    group.add_argument("--categorical", action="append", metavar="COLUMN", help=categorical)
    group.add_argument("--size", type=_size, metavar="H[xW]", help="resize all pictures to so many pixels")
    add_delimiter(group)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print what came of it; after Ctrl-C, everything is written as well."""
    set_threads(arguments)
    own = {name: value for name in _OWN if (value := getattr(arguments, name)) is not None}
    if arguments.data in examples.RECIPES:
        if own:
            option = next(iter(own)).replace("_", "-")
            raise ValueError(f"train: --{option} is for one's own data, not for the example {arguments.data}")
        return examples.train(arguments)
    if not Path(arguments.data).exists():
        known = ", ".join(examples.RECIPES)
        raise FileNotFoundError(f"{arguments.data}: no such file or folder, and none of the examples {known}")
    return _train_own(arguments, own)


def _train_own(arguments: argparse.Namespace, own: dict[str, Any]) -> int:
    from .._output import to_json

    chosen = {name: value for name in ("lr", "epochs") if (value := getattr(arguments, name)) is not None}
    chosen |= {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    settings = Settings(batch_size=arguments.batch_size, seed=arguments.seed, **chosen)
    prepared = prepare(arguments.data, settings)
    arguments.out.mkdir(parents=True, exist_ok=True)  # before the training, not after
    trained = prepared.train(progress=True)
    trained.save(arguments.out)
    print(to_json(trained.report) if arguments.json else summary(trained.report))
    return INTERRUPTED if trained.history.interrupted else 0


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(whole(1, networks.MOST)(part) for part in text.split(","))


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    most = 4096
    return Size(whole(1, most)(height), whole(1, most)(width or height))
