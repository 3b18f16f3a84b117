"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

import fastnn as fn

from ..tables.csv_file import DELIMITERS

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MOST_SEED = 2**32 - 1  # NumPy's RandomState takes no larger one


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; the usage has to be asked for."""

    def error(self, message: str) -> NoReturn:
        """Raises SystemExit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """``--threads``, for `set_threads`."""
    parser.add_argument("--threads", type=whole(1), metavar="T", help="default: one per physical core")


def set_threads(arguments: argparse.Namespace) -> None:
    """Compute with as many threads as ``--threads`` says, if it says so."""
    if arguments.threads is not None:
        fn.set_num_threads(arguments.threads)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def add_training(parser: argparse.ArgumentParser, epochs: str) -> None:
    """``--epochs`` and ``--no-download``. epochs: how many there are by default, in words."""
    parser.add_argument("--epochs", type=whole(1), metavar="N", help=f"passes over the data (default: {epochs})")
    parser.add_argument("--no-download", dest="download", action="store_false", help="never use the network")


def add_delimiter(parser: Any) -> None:
    """``--delimiter``."""
    parser.add_argument(
        "--delimiter", choices=DELIMITERS, help="what parts the fields of a CSV file (default: found out)"
    )


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        digits = text[1:] if text[:1] in ("+", "-") else text
        value = int(text) if digits.isdecimal() and digits.isascii() and len(digits) < 20 else None
        if value is None or not least <= value <= most:
            limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number {limits}, got {text!r}")
        return value

    return parse


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def share(text: str) -> float:
    """The type of an argument that is a number above 0 and below 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text!r}")
    return value


def _number(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
