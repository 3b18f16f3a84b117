"""Published results of deep-learning courses, reproduced: ``fastnn reproduce NAME``.

One module per result. It is imported when its result is asked for, and has a `SEED`, the course's own, and a function
``run(*, seed, out, progress, …)`` that returns a `Found`; with `progress` it shows on standard error how far it is.
What else `run` takes by keyword is what a caller may set: `epochs`; `data` and `download`, which say where the data set
comes from; `course_mistake`, which repeats a mistake of the course. What the results of one course share stands in a
module named after it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import time
import traceback
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import _kernels as k
from .._errors import is_refusal
from .._files import StrPath
from .._machine import machine
from ..plots import figure
from ..training.history import History
from .report import Check, Found, Report

#: One line on each result that can be reproduced, by name; the module's name has underscores for hyphens.
RESULTS = {
    "scalar-net": "MITx 6.86x, project 3: a network of six neurons, followed by hand",
    "mnist-fc": "MITx 6.86x, project 3: fully connected networks on MNIST, ten runs",
    "mnist-cnn": "MITx 6.86x, project 3: a convolutional network on MNIST",
    "two-digit-mlp": "MITx 6.86x, project 3: one hidden layer for two overlapping digits",
    "two-digit-cnn": "MITx 6.86x, project 3: a convolutional network for two overlapping digits",
    "two-digit-best": "MITx 6.86x, project 3: over 98 % of both of two overlapping digits",
    "fashion-fnn": "Fashion-MNIST from scratch: three fully connected networks at four learning rates",
    "fashion-best": "Fashion-MNIST: over 93 % in ten minutes, by a convolutional network",
    "two-layer-toy": "UCLA ECE C147, homework 3: a two-layer net on toy data",
    "cifar-two-layer": "UCLA ECE C147, homework 3: a two-layer net on CIFAR-10, and a search for its hyper-parameters",
    "layer-checks": "UCLA ECE C147, homework 3: layers and losses of CS231n's frame beside known values",
    "cifar-fc": "UCLA ECE C147, homework 3: fully connected networks on CIFAR-10 by CS231n's Solver",
    "linear-attention": "Deep learning, assignment 3: self-attention in linear time, two ways, beside the full one",
}

#: Options that say where data come from and what is shown: a report does not name them.
_WITHOUT_EFFECT = ("data", "download", "progress")


def reproduce(name: str, *, seed: int | None = None, out: StrPath | None = None, **options: Any) -> Report:
    """Run the experiment `name` and hold its figures against the course's.

    seed: of everything random; None is the course's own
    out: a folder for `report.json`, pictures and the model; None writes nothing
    options: what the experiment's `run` takes besides; None leaves a default in place

    Raises ValueError for an unknown name or option, and what the experiment raises: an OSError without its data.
    """
    experiment = _experiment(name)
    options = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in options if key not in _parameters(experiment)]
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(unknown)}")
    folder = _made(out)
    if folder is not None:
        figure.require()  # before hours of training, not after
    seed = experiment.SEED if seed is None else seed
    start = time.perf_counter()
    found = experiment.run(seed=seed, out=folder, **options)
    report = _report(name, start, seed, found, options, about=inspect.getdoc(experiment) or "")
    return _written(report, folder)


def attempt(name: str, *, seed: int | None = None, out: StrPath | None = None, **options: Any) -> Report:
    """`reproduce`, as one of many: what goes wrong becomes the `error` of a report, and is written like any other.

    Options that the experiment does not take are left out. If `out` cannot be written to, only the report says so.
    """
    start = time.perf_counter()
    try:
        folder = _made(out)
    except OSError as error:
        return _report(name, start, seed, Found({}, ()), {}, error=str(error))
    try:
        taken = _parameters(_experiment(name))
        return reproduce(name, seed=seed, out=folder, **{key: options[key] for key in options if key in taken})
    except Exception as error:
        words = str(error) if is_refusal(error) else traceback.format_exc()
        return _written(_report(name, start, seed, Found({}, ()), {}, error=words), folder)


def _experiment(name: str) -> ModuleType:
    """The module of a result."""
    if name not in RESULTS:
        raise ValueError(f"no result is called {name!r}; there are: {', '.join(RESULTS)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _parameters(experiment: ModuleType) -> Collection[str]:
    """What an experiment's `run` takes."""
    return inspect.signature(experiment.run).parameters


def _made(out: StrPath | None) -> Path | None:
    """The folder, which is there afterwards. Raises OSError if it cannot be, or takes no report."""
    if out is None:
        return None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "report.json").is_dir() or not os.access(folder, os.W_OK):
        raise OSError(f"{os.fspath(folder)}: cannot write report.json there")
    return folder


def _report(name: str, start: float, seed: int | None, found: Found, options: dict[str, Any], **more: str) -> Report:
    """The report on what began at `start` and ends here and now."""
    return Report(
        name,
        time.perf_counter() - start,
        k.get_num_threads(),
        k.isa(),
        seed,
        found,
        what=RESULTS.get(name, ""),
        options={key: value for key, value in options.items() if key not in _WITHOUT_EFFECT},
        date=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        machine=machine(),
        **more,
    )


def _written(report: Report, folder: Path | None) -> Report:
    if folder is not None:
        report.write(folder / "report.json")
    return report


def completed(history: History) -> History:
    """The same history. Raises KeyboardInterrupt if its training was ended by Ctrl-C, after which `fit` returns."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def data_folder(data: StrPath | None, name: str) -> Path | None:
    """The folder of one data set, given it or the folder of all data sets, as `FASTNN_DATA` names one."""
    if data is None:
        return None
    folder = Path(os.path.expanduser(data))
    return folder / name if (folder / name).is_dir() else folder


__all__ = ["RESULTS", "Check", "Found", "Report", "attempt", "completed", "data_folder", "reproduce"]
