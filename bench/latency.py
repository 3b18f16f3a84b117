"""How long one prediction takes, and everything before the first: importing, installing, warming up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import fastnn

from .peers import OURS, PEERS
from .report import aligned, ratios
from .rounds import Comparison, figure, in_turn, workers_of
from .worker import Worker
from .workloads import WORKLOADS, Workload

CALLS = 200  #: predictions in a round
FIRST = WORKLOADS["784-128-10"]  #: whose first step is measured: one that every peer can do
HEAVY = ("numba", "scipy", "sklearn", "matplotlib")  #: what importing fastnn must not import
_IMPORT = """
import json, sys, time
import numpy
start = time.perf_counter()
import {package}
print(json.dumps([time.perf_counter() - start, [name for name in {heavy} if name in sys.modules]]))
"""


@dataclass(frozen=True)
class Start:
    """What it takes to begin with a peer. import_s: beyond NumPy's import; megabytes: installed beyond NumPy's;
    heavy: which of the `HEAVY` packages it imports; first_ms, later_ms: the first call of a training
    step in a process, a block of steps in JAX, and the best of the next nine."""

    peer: str
    import_s: float
    megabytes: float
    heavy: list[str]
    first_ms: float
    later_ms: float


# --- one prediction ---------------------------------------------------------------------------------------------------


def compare(
    workloads: Iterable[Workload], peers: Sequence[str], threads: int, rounds: int
) -> tuple[list[Comparison], dict[str, str]]:
    """Measure predictions of one sample, each of fastnn's forms beside each peer's fastest; and the peers' versions."""
    with workers_of(peers, threads) as workers:
        about = {key: value for worker in workers.values() for key, value in worker.about.items()}
        single = [one_sample(workload) for workload in workloads]
        return [c for workload in single for c in _compare(workload, workers, threads, rounds)], about


def _compare(workload: Workload, workers: Mapping[str, Worker], threads: int, rounds: int) -> list[Comparison]:
    check_same_classes(workload, workers)
    prepared = {peer: worker.prepare_prediction(workload) for peer, worker in workers.items()}
    able = {peer: found for peer, found in prepared.items() if found is not None}
    chosen = [(OURS, form) for form in able[OURS]["forms"]]
    chosen += [(peer, found["form"]) for peer, found in able.items() if peer != OURS]
    seconds = in_turn({(peer, form): partial(workers[peer].time_steps, form, CALLS) for peer, form in chosen}, rounds)
    figures = {(peer, form): figure(able[peer], seconds[peer, form], form) for peer, form in chosen}
    theirs = {peer: found for (peer, _), found in figures.items() if peer != OURS}
    return [
        Comparison(workload.name, threads, {OURS: found, **theirs})
        for (peer, _), found in figures.items()
        if peer == OURS
    ]


def one_sample(workload: Workload) -> Workload:
    """The same network for batches of one."""
    return replace(workload, name=workload.name.partition(" batch ")[0], batch=1)


def check_same_classes(workload: Workload, workers: Mapping[str, Worker]) -> None:
    """Raise unless all forms of all peers predict the same."""
    found = {peer: worker.classes(workload) for peer, worker in workers.items()}
    expected = next(iter(found[OURS].values()))
    for peer, forms in found.items():
        for form, classes in forms.items():
            if classes != expected:
                raise ArithmeticError(f"{workload.name}: {peer} ({form}) predicts {classes}, fastnn {expected}")


# --- before the first -------------------------------------------------------------------------------------------------


def starts(peers: Sequence[str], threads: int, repeats: int) -> list[Start]:
    """What it takes to begin with fastnn and with each peer: medians over fresh processes."""
    return [_start(peer, threads, repeats) for peer in (OURS, *peers)]


def _start(peer: str, threads: int, repeats: int) -> Start:
    package = PEERS[peer].package
    with TemporaryDirectory() as cache:
        imports = [import_time(package, cache) for _ in range(repeats + 1)][1:]  # the first one compiles to byte code
    steps = [_first_steps(peer, threads) for _ in range(3)]
    size = installed_bytes(PEERS[peer].distribution or package)
    first, later = (1e3 * median(values) for values in zip(*steps, strict=True))
    return Start(peer, median(seconds for seconds, _ in imports), size / 1e6, imports[0][1], first, later)


def import_time(package: str, cache: str) -> tuple[float, list[str]]:
    """Seconds that a fresh process takes to import a package after NumPy, and what heavy ones it imports with it.

    cache: a folder for byte code, so that it is kept whatever Python is told here, as it is in an installation.
    """
    code = _IMPORT.format(package=package, heavy=HEAVY)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    reply = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout
    seconds, heavy = json.loads(reply)
    return seconds, heavy


def _first_steps(peer: str, threads: int) -> tuple[float, float]:
    with Worker(peer, threads) as worker:
        return worker.first_steps(FIRST)


def installed_bytes(name: str) -> int:
    """Bytes of a distribution's files and of all those that it requires beside NumPy; fastnn's also in a checkout."""
    return sum(map(_own_bytes, _required(name, set()) - _required("numpy", set())))


def _required(name: str, seen: set[str]) -> set[str]:
    """The distribution and those that it requires, as far as they are installed."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in seen:
        return seen
    seen.add(name)
    for line in _requires(name):
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line)):
            _required(match[0], seen)
    return seen


def _requires(name: str) -> list[str]:
    if name == "fastnn":
        return ["numpy", "safetensors"]
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _own_bytes(name: str) -> int:
    if name == "fastnn":
        return _package_bytes(Path(fastnn.__file__).parent)
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:  # required elsewhere: on another system, say
        return 0
    return sum(path.stat().st_size for path in map(Path, (str(file.locate()) for file in files)) if path.is_file())


def _package_bytes(folder: Path) -> int:
    """What an installation has of a package: no sources of kernels, which a checkout has beside them."""
    installed = {".py", ".pyc", ".pyi", ".typed", ".so", ".pyd"}
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in installed or path.name == "py.typed")


# --- what is shown ----------------------------------------------------------------------------------------------------


def table(comparisons: Sequence[Comparison], found: Sequence[Start]) -> str:
    """One line for each of fastnn's forms and each peer, then one for the start of each."""
    lines = [("peer", "import beyond NumPy s", "installed beyond NumPy MB", "first step ms", "later step ms")]
    for start in found:
        values = f"{start.import_s:.2f}", f"{start.megabytes:.1f}", f"{start.first_ms:.2f}", f"{start.later_ms:.2f}"
        lines.append((PEERS[start.peer].title, *values))
    return ratios("one sample", comparisons) + "\n\n" + aligned(lines, right={1, 2, 3, 4})
