"""``fastnn predict``: what a model that `train --data FILE` has written says of another file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .._files import check_folder
from ..tables import Predictor
from .arguments import add_delimiter, add_threads, set_threads


def add(commands: Any) -> None:
    """Describe the arguments."""
    what = "predict for each row of a file, or each picture, by a model that train has written; the result is a CSV"
    parser = commands.add_parser("predict", help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(run=run)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder that train --data FILE has written")
    parser.add_argument("file", type=Path, metavar="FILE", help="of the same kind; a column of the target may be there")
    parser.add_argument("--out", type=Path, metavar="CSV", help="default: standard output")
    parser.add_argument("--proba", action="store_true", help="add a column with the probability of each class")
    add_delimiter(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, and write or print it."""
    set_threads(arguments)
    if arguments.out is not None:
        check_folder(arguments.out)
        if arguments.out.exists() and arguments.file.exists() and arguments.out.samefile(arguments.file):
            raise ValueError(f"--out: {arguments.out} is the file to predict from")
    predictions = Predictor.load(arguments.model).predict(arguments.file, arguments.delimiter)
    if arguments.out is None:
        print(predictions.as_csv(arguments.proba), end="")
    else:
        predictions.write(arguments.out, arguments.proba)
        print(f"written: {arguments.out}, {len(predictions.values)} predictions", file=sys.stderr)
    return 0
