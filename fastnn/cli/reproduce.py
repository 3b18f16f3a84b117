"""``fastnn reproduce``: run a course's experiment, or all of them, and hold what they find against its figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import MOST_SEED, add_json, add_threads, add_training, positive, set_threads, whole
from .sentiment import ENCODER


def add(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser("reproduce", help="reproduce a course's result and check it against the course's")
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which result (see --list)")
    parser.add_argument("--all", action="store_true", help="every result there is, even if one fails")
    parser.add_argument("--list", action="store_true", help="list the results that there are")
    parser.add_argument("--seed", type=whole(0, MOST_SEED), metavar="S", help="default: the course's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report, pictures and model here")
    page = "write them into DIR/NAME, and DIR/index.html on every report in DIR; by itself, only that page"
    parser.add_argument("--report", type=Path, metavar="DIR", help=page)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder of the data sets, or of this one")
    parser.add_argument(
        "--course-mistake", action="store_true", help="fashion-fnn: more on what the course's way of evaluating costs"
    )
    parser.add_argument("--encoder", metavar="DIR", help=f"imdb-sentiment: {ENCODER}")
    parser.add_argument("--limit", type=whole(10), metavar="N", help="imdb-sentiment: so many reviews only")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="imdb-sentiment: where to keep states of tokens")
    parser.add_argument(
        "--cache-limit", type=positive, metavar="GB", help="imdb-sentiment: what they may take there (default: 16)"
    )
    add_training(parser, "the course's")
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reproduce, and print what was found."""
    from ..courses import command

    set_threads(arguments)
    return command.run(arguments)
