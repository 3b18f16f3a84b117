"""``fastnn sentiment``: rate texts by what `reproduce imdb-sentiment` has trained."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from .arguments import add_json, add_threads, set_threads

ENCODER = "the folder of a BERT, or its name"


def add(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser("sentiment", help="rate texts: how probably each of them is positive")
    parser.set_defaults(run=run)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="default: the lines of standard input")
    trained = "what reproduce imdb-sentiment wrote (default: %(default)s)"
    parser.add_argument("--model", type=Path, default=Path("imdb-sentiment"), metavar="DIR", help=trained)
    parser.add_argument("--encoder", metavar="DIR", help=f"where it is now: {ENCODER}")
    add_threads(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Rate texts, or the lines of standard input."""
    from .._output import to_json
    from ..courses.sentiment import Classifier
    from ..text.wordpiece import encodable

    set_threads(arguments)
    classifier = Classifier.load(arguments.model, arguments.encoder)
    texts = [encodable(text) for text in arguments.text or _lines()]
    if not texts:
        raise ValueError("sentiment: expected a text, or lines on standard input")
    ratings = classifier.rate(texts).tolist()
    if arguments.json:
        rated = [{"text": text, "positive": rating} for text, rating in zip(texts, ratings, strict=True)]
        print(to_json({"encoder": classifier.encoder.name, "texts": rated}))
        return 0
    print(f"fastnn: encoder {classifier.encoder.name}", file=sys.stderr)
    for text, rating in zip(texts, ratings, strict=True):
        print(f"{rating:.3f} {' '.join(text.split())}")
    return 0


def _lines() -> list[str]:
    """The lines of standard input that say something; what of it is not UTF-8 stands as surrogates."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return [line.rstrip("\r\n") for line in sys.stdin or () if line.strip()]
