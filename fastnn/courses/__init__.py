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
import time
from pathlib import Path
from typing import Any

from .. import _kernels as k
from .._files import StrPath
from .report import Check, Found, Report

#: One line on each result that can be reproduced, by name; the module's name has underscores for hyphens.
RESULTS = {
    "mnist-cnn": "MITx 6.86x, project 3: a convolutional network on MNIST",
    "fashion-fnn": "Fashion-MNIST from scratch: three fully connected networks at four learning rates",
    "fashion-best": "Fashion-MNIST: over 93 % in ten minutes, by a convolutional network",
}


def reproduce(name: str, *, seed: int | None = None, out: StrPath | None = None, **options: Any) -> Report:
    """Run the experiment `name` and hold its figures against the course's.

    seed: of everything random; None is the course's own
    out: a folder for `report.json`, pictures and the model; None writes nothing
    options: what the experiment's `run` takes besides; None leaves a default in place

    Raises ValueError for an unknown name or option, and what the experiment raises: an OSError without its data.
    """
    if name not in RESULTS:
        raise ValueError(f"no result is called {name!r}; there are: {', '.join(RESULTS)}")
    experiment = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    options = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in options if key not in inspect.signature(experiment.run).parameters]
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(unknown)}")
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # before hours of training, not after
    seed = experiment.SEED if seed is None else seed
    start = time.perf_counter()
    found = experiment.run(seed=seed, out=folder, **options)
    seconds = time.perf_counter() - start
    report = Report(name, seconds, k.get_num_threads(), k.isa(), seed, found)
    if folder is not None:
        report.write(folder / "report.json")
    return report


def data_folder(data: StrPath | None, name: str) -> Path | None:
    """The folder of one data set, given it or the folder of all data sets, as `FASTNN_DATA` names one."""
    if data is None:
        return None
    folder = Path(data).expanduser()
    return folder / name if (folder / name).is_dir() else folder


__all__ = ["RESULTS", "Check", "Found", "Report", "data_folder", "reproduce"]
