"""The command ``fastnn``: train on examples or on one's own data, predict, reproduce a course's result, rate texts.

Results go to standard output, progress and errors to standard error. Exit status: 0; 1 if a check of a reproduction
does not hold; 2 for bad usage or input, after one line that says what is wrong, and if one of all reproductions could
not run; 130 after Ctrl-C.

One module a command: ``add`` describes its arguments, ``run`` does it and returns the exit status.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import fastnn as fn

from .._errors import is_refusal
from . import info, predict, reproduce, sentiment, train
from .arguments import INTERRUPTED, Parser
from .info import EXTRAS

__all__ = ["EXTRAS", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    argv: the arguments, None for those of the process. Raises SystemExit for bad usage, --help and --version.
    """
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a "±" that a terminal cannot show ends no run
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status: int = arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that went away can still be dealt with
            return status
        except KeyboardInterrupt:
            return _failed("interrupted", INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
            return 1
        except (ImportError, OSError, TypeError, ValueError) as error:
            if not is_refusal(error):
                raise
            return _failed(str(error), 2)


def _parser() -> Parser:
    parser = Parser(prog="fastnn", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"fastnn {fn.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, predict, reproduce, sentiment, info):
        command.add(commands)
    return parser


def _failed(message: str, status: int) -> int:
    """Say in one line what is wrong; returns the exit status."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    print("fastnn: " + "; ".join(lines).replace(":; ", ": "), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning as one line, without the place in the code that it comes from."""
    _failed(f"warning: {message}", 0)
