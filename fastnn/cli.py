"""The command ``fastnn``: train an example, reproduce a course's result, rate texts, describe the installation.

Results go to standard output, progress and errors to standard error. Exit status: 0; 1 if a check of a reproduction
does not hold; 2 for bad usage or input, after one line that says what is wrong, and if one of all reproductions could
not run; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import fastnn as fn

from . import _kernels as k
from ._errors import is_refusal

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_MOST_SEED = 2**32 - 1  # NumPy's RandomState takes no larger one


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


# --- the commands -----------------------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    """Train an example network; after Ctrl-C, everything is written as well."""
    from . import plots
    from .courses.report import to_json

    plots.figure.require()  # before the training, not after
    recipe = RECIPES[arguments.data]
    _set_threads(arguments.threads)
    data = recipe.load(arguments.download)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lr = recipe.lr if arguments.lr is None else arguments.lr

    fn.manual_seed(arguments.seed)
    model = recipe.network()
    history = fn.fit(
        model,
        data.x_train,
        data.y_train,
        optimizer=fn.SGD(lr=lr, momentum=0.9, nesterov=True),
        batch_size=arguments.batch_size,
        epochs=arguments.epochs or recipe.epochs,
        validation_data=(data.x_test, data.y_test),
        progress=True,
    )
    validation = fn.evaluate(model, data.x_test, data.y_test)  # Ctrl-C may have come after the last epoch's

    summary = {
        "data": arguments.data,
        "samples": len(data.x_train),
        "epochs": history.epochs,
        "interrupted": history.interrupted,
        "batch_size": arguments.batch_size,
        "lr": lr,
        "seed": arguments.seed,
        "threads": fn.get_num_threads(),
        "isa": k.isa(),
        "seconds": sum(history.seconds),
        "training": {name: getattr(history, name)[-1] for name in validation if history.epochs},
        "validation": validation,
        "files": _write_training(arguments.out, model, history, data),
    }
    print(to_json(summary) if arguments.json else _summary(summary))
    return INTERRUPTED if history.interrupted else 0


def _write_training(out: Path, model: fn.Sequential, history: fn.History, data: Any) -> list[str]:
    """Write all that a training leaves behind; returns the paths."""
    from . import plots
    from .courses.report import write_json

    names = ("model.safetensors", "learning_curve.png", "confusion_matrix.png", "history.json")
    files = [out / name for name in names]
    fn.save(model, files[0])
    plots.learning_curves(history, files[1])
    plots.confusion_matrix(data.y_test, model.predict(data.x_test), data.class_names, files[2])
    write_json(files[3], history.as_dict())
    return [str(file) for file in files]


def _summary(summary: dict[str, Any]) -> str:
    """What `train` tells a reader."""
    from .courses.report import table

    parts = summary["training"], summary["validation"]
    losses = [f"{part['loss']:.4f}" if part else "-" for part in parts]
    accuracies = [f"{part['accuracy']:.2%}" if part else "-" for part in parts]
    what = f"{summary['samples']} images, epochs {summary['epochs']}, {summary['seconds']:.1f} s"
    how = f"threads {summary['threads']}, {summary['isa']}, seed {summary['seed']}"
    lines = [
        table([["", "training", "validation"], ["loss", *losses], ["accuracy", *accuracies]]),
        f"{summary['data']}: {what} ({how})" + (", interrupted" if summary["interrupted"] else ""),
        "written: " + ", ".join(summary["files"]),
    ]
    return "\n".join(lines)


def _reproduce(arguments: argparse.Namespace) -> int:
    """Run a course's experiment, or all of them, and hold what they find against the course's figures."""
    from .courses import command

    _set_threads(arguments.threads)
    return command.run(arguments)


def _sentiment(arguments: argparse.Namespace) -> int:
    """Rate texts, or the lines of standard input, by what `reproduce imdb-sentiment` has trained."""
    from .courses.report import to_json
    from .courses.sentiment import Classifier
    from .text.wordpiece import encodable

    _set_threads(arguments.threads)
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


def _info(arguments: argparse.Namespace) -> int:
    """Describe the installation."""
    from ._machine import cpu_model, package_version
    from .courses.report import to_json

    facts = {
        "fastnn": fn.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "threads": fn.get_num_threads(),
        "isa": k.isa(),
        "runnable": list(k.native._runtime.runnable()) if k.COMPILED else [],
        "backends": sorted(k.backends()),
        "packages": {name: package_version(name) for name in ("numpy", "safetensors")},
        "extras": {extra: {name: package_version(name, module)} for extra, (name, module) in EXTRAS.items()},
    }
    print(to_json(facts) if arguments.json else "\n".join(f"{key:<10} {_words(value)}" for key, value in facts.items()))
    return 0


# --- what the commands know -------------------------------------------------------------------------------------------


class Recipe(NamedTuple):
    """An example of `train`. load: takes whether it may download; epochs, lr: unless the caller chooses."""

    load: Callable[[bool], Any]
    network: Callable[[], fn.Sequential]
    epochs: int
    lr: float


def _load_digits(download: bool) -> Any:
    from .data import digits

    return digits()


def _load_mnist(download: bool) -> Any:
    from .data import mnist

    return mnist(download=download)


def _load_fashion_mnist(download: bool) -> Any:
    from .data import fashion_mnist

    return fashion_mnist(download=download)


def _digits_network() -> fn.Sequential:
    """Images (N, 1, 8, 8) to scores (N, 10); about 99 % of the validation images are right after 30 epochs."""
    return fn.Sequential(
        fn.Conv2d(1, 16, 3, padding=1),
        fn.ReLU(),
        fn.Conv2d(16, 32, 3, padding=1),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Flatten(),
        fn.Dropout(0.5),
        fn.Linear(512, 10),
    )


def _mnist_network() -> fn.Sequential:
    from .courses.mnist_cnn import network

    return network()


RECIPES = {
    "digits": Recipe(_load_digits, _digits_network, epochs=30, lr=0.03),
    "mnist": Recipe(_load_mnist, _mnist_network, epochs=3, lr=0.01),
    "fashion-mnist": Recipe(_load_fashion_mnist, _mnist_network, epochs=5, lr=0.01),
}

_ENCODER = "the folder of a BERT, or its name"

#: The package that each extra brings, and its module.
EXTRAS = {
    "plot": ("matplotlib", "matplotlib"),
    "sklearn": ("scikit-learn", "sklearn"),
    "text": ("tokenizers", "tokenizers"),
    "progress": ("tqdm", "tqdm"),
    "jit": ("numba", "numba"),
    "torch": ("torch", "torch"),
}


def _words(value: Any) -> str:
    """A fact for a reader."""
    if isinstance(value, dict):
        entries = [
            (key, f"({_words(item)})" if isinstance(item, dict) else _words(item)) for key, item in value.items()
        ]
        return ", ".join(" ".join(entry) for entry in entries)
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "missing" if value is None else str(value)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        fn.set_num_threads(threads)


# --- arguments --------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; the usage has to be asked for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastnn", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"fastnn {fn.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    train = commands.add_parser("train", help="train an example network and write model, pictures and history")
    train.set_defaults(run=_train)
    train.add_argument("--data", choices=RECIPES, default="digits", help="the images (default: %(default)s)")
    train.add_argument("--batch-size", type=_whole(1), default=32, metavar="N", help="default: %(default)s")
    train.add_argument("--lr", type=_positive, metavar="X", help="learning rate (default: depends on the data)")
    train.add_argument("--seed", type=_whole(0, _MOST_SEED), default=0, metavar="S", help="default: %(default)s")
    train.add_argument("--out", type=Path, default=Path("fastnn-out"), metavar="DIR", help="default: %(default)s")

    reproduce = commands.add_parser("reproduce", help="reproduce a course's result and check it against the course's")
    reproduce.set_defaults(run=_reproduce)
    reproduce.add_argument("name", nargs="?", metavar="NAME", help="which result (see --list)")
    reproduce.add_argument("--all", action="store_true", help="every result there is, even if one fails")
    reproduce.add_argument("--list", action="store_true", help="list the results that there are")
    reproduce.add_argument("--seed", type=_whole(0, _MOST_SEED), metavar="S", help="default: the course's")
    reproduce.add_argument("--out", type=Path, metavar="DIR", help="write report, pictures and model here")
    page = "write them into DIR/NAME, and DIR/index.html on every report in DIR; by itself, only that page"
    reproduce.add_argument("--report", type=Path, metavar="DIR", help=page)
    reproduce.add_argument("--data", type=Path, metavar="DIR", help="the folder of the data sets, or of this one")
    reproduce.add_argument(
        "--course-mistake", action="store_true", help="fashion-fnn: more on what the course's way of evaluating costs"
    )

    reproduce.add_argument("--encoder", metavar="DIR", help=f"imdb-sentiment: {_ENCODER}")
    reproduce.add_argument("--limit", type=_whole(10), metavar="N", help="imdb-sentiment: so many reviews only")
    reproduce.add_argument("--cache", type=Path, metavar="DIR", help="imdb-sentiment: where to keep states of tokens")
    reproduce.add_argument(
        "--cache-limit", type=_positive, metavar="GB", help="imdb-sentiment: what they may take there (default: 16)"
    )

    sentiment = commands.add_parser("sentiment", help="rate texts: how probably each of them is positive")
    sentiment.set_defaults(run=_sentiment)
    sentiment.add_argument("text", nargs="*", metavar="TEXT", help="default: the lines of standard input")
    trained = "what reproduce imdb-sentiment wrote (default: %(default)s)"
    sentiment.add_argument("--model", type=Path, default=Path("imdb-sentiment"), metavar="DIR", help=trained)
    sentiment.add_argument("--encoder", metavar="DIR", help=f"where it is now: {_ENCODER}")

    info = commands.add_parser("info", help="describe the installation")
    info.set_defaults(run=_info)
    for command, default in ((train, "depends on the data"), (reproduce, "the course's")):
        command.add_argument("--epochs", type=_whole(1), metavar="N", help=f"passes over the data (default: {default})")
        command.add_argument("--no-download", dest="download", action="store_false", help="never use the network")
    for command in (train, reproduce, sentiment):
        command.add_argument("--threads", type=_whole(1), metavar="T", help="default: one per physical core")
    for command in (train, reproduce, sentiment, info):
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        digits = text[1:] if text[:1] in ("+", "-") else text
        value = int(text) if digits.isdecimal() and digits.isascii() and len(digits) < 20 else None
        if value is None or not least <= value <= most:
            limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number {limits}, got {text!r}")
        return value

    return parse


def _positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


# --- errors -----------------------------------------------------------------------------------------------------------


def _failed(message: str, status: int) -> int:
    """Say in one line what is wrong; returns the exit status."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    print("fastnn: " + "; ".join(lines).replace(":; ", ": "), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning as one line, without the place in the code that it comes from."""
    _failed(f"warning: {message}", 0)
