"""`fastnn.estimators` beside scikit-learn's multi-layer perceptron: five-fold cross-validation, and a grid search.

Both sides have the same parameters, the same folds and the same random state, and take turns in one process, in which
NumPy's BLAS may have as many threads as fastnn; a search has two worker processes, which have started before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from time import perf_counter
from typing import Any

import numpy as np

from .report import aligned
from .rounds import in_turn
from .worker import THREADS

SIDES = ("fastnn", "sklearn")
ROOT = Path(__file__).parents[1]
FOLDS = 5
GRID = {  # 24 points
    "hidden_layer_sizes": [(32,), (64,)],
    "alpha": [1e-5, 1e-4, 1e-3],
    "learning_rate_init": [0.001, 0.01],
    "batch_size": [32, 64],
}


@dataclass(frozen=True)
class Task:
    """What is trained on. data: as `data` knows it; rows: how many there are."""

    data: str
    rows: int
    regression: bool = False
    dtype: str = "float64"
    search: bool = False


TASKS: Mapping[str, Task] = {
    "digits": Task("digits", 1797),
    "digits in float32": Task("digits", 1797, dtype="float32"),
    "breast cancer": Task("cancer", 569),
    "wine": Task("wine", 178),
    "diabetes": Task("diabetes", 442, regression=True),
    "like California housing": Task("housing", 4000, regression=True),
    "search of 24 points": Task("digits", 1797, search=True),
}


@dataclass(frozen=True)
class Timing:
    """One task. seconds: by side, of each round, all fits together. scores: by side, of each fold; a search's best."""

    task: str
    seconds: Mapping[str, Sequence[float]]
    scores: Mapping[str, Sequence[float]]

    def ratio(self) -> float:
        """How many times as long scikit-learn takes: the median over rounds."""
        return median(b / a for a, b in zip(self.seconds["fastnn"], self.seconds["sklearn"], strict=True))

    def shortfall(self) -> float:
        """How much worse fastnn's mean score is, in standard errors of scikit-learn's; 0 if it is not."""
        ours, theirs = self.scores["fastnn"], self.scores["sklearn"]
        worse = fmean(theirs) - fmean(ours)
        return 0.0 if worse <= 0 or len(theirs) < 2 else worse / (stdev(theirs) / len(theirs) ** 0.5)


def compare(names: Sequence[str], threads: int, rounds: int) -> list[Timing]:
    """Measure the tasks of these names in a process of its own, in which both sides may have so many threads."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": path}
    command = [sys.executable, "-m", "bench.estimators", str(rounds), *names]
    reply = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return [Timing(**timing) for timing in json.loads(reply)]


def table(timings: Sequence[Timing]) -> str:
    """One line for each task: seconds of all its fits (a search: of the whole), and accuracy or R² with its error."""
    lines = [("task", "rows", "fastnn s", "scikit-learn s", "ratio", "fastnn score", "scikit-learn score")]
    for timing in timings:
        seconds = [f"{median(timing.seconds[side]):.2f}" for side in SIDES]
        scores = [_score(timing.scores[side]) for side in SIDES]
        rows, ratio = str(TASKS[timing.task].rows), f"{timing.ratio():.1f}"
        lines.append((timing.task, rows, seconds[0], seconds[1], ratio, scores[0], scores[1]))
    return aligned(lines, right={1, 2, 3, 4, 5, 6})


def _score(scores: Sequence[float]) -> str:
    error = f" ± {stdev(scores) / len(scores) ** 0.5:.4f}" if len(scores) > 1 else ""
    return f"{fmean(scores):.4f}{error}"


# --- what is measured -------------------------------------------------------------------------------------------------


def data(name: str) -> tuple[Any, Any]:
    """X (N, features) and y; numbers y have mean 0 and standard deviation 1."""
    from sklearn import datasets

    loaders: dict[str, Callable[..., Any]] = {
        "digits": datasets.load_digits,
        "cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
    }
    x, y = housing(4000) if name == "housing" else loaders[name](return_X_y=True)
    return x, (y - y.mean()) / y.std() if name in ("diabetes", "housing") else y


def housing(rows: int) -> tuple[Any, Any]:
    """Numbers like those of California's districts: eight columns, some skewed, a price that depends on the place."""
    rng = np.random.default_rng(0)
    income, people = rng.lognormal(1.2, 0.45, rows), rng.lognormal(7, 0.7, rows)
    age, rooms = rng.uniform(1, 52, rows), rng.lognormal(1.65, 0.3, rows)
    bedrooms, household = rooms * rng.normal(0.2, 0.02, rows), rng.lognormal(1.05, 0.25, rows)
    latitude, longitude = rng.uniform(32.5, 42, rows), rng.uniform(-124.3, -114.3, rows)
    coast = np.exp(-((longitude + 124 - 0.85 * (42 - latitude)) ** 2) / 2)
    price = 0.4 * income + 1.2 * coast + 0.01 * age - 0.2 * household + 0.3 * rng.standard_normal(rows)
    return np.stack([income, age, rooms, bedrooms, people, household, latitude, longitude], axis=1), price


def estimators(regression: bool) -> dict[str, Any]:
    """By side, the class."""
    import sklearn.neural_network as theirs

    import fastnn.estimators as ours

    name = "MLPRegressor" if regression else "MLPClassifier"
    return {"fastnn": getattr(ours, name), "sklearn": getattr(theirs, name)}


def cross_validated(net: Any, x: Any, y: Any, scores: dict[str, list[float]], side: str) -> float:
    """Seconds of all fits, the scaling of the columns included; notes the scores."""
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = cross_validate(make_pipeline(StandardScaler(), net), x, y, cv=FOLDS)
    scores[side] = found["test_score"].tolist()
    return float(found["fit_time"].sum())


def searched(net: Any, x: Any, y: Any, scores: dict[str, list[float]], side: str) -> float:
    """Seconds of a grid search on two workers, the last fit on all of the data included; notes the best score."""
    from sklearn.model_selection import GridSearchCV

    start = perf_counter()
    search = GridSearchCV(net, GRID, cv=3, n_jobs=2).fit(x, y)
    scores[side] = [float(search.best_score_)]
    return perf_counter() - start


def measure(names: Sequence[str], rounds: int) -> list[Timing]:
    """The tasks of these names, both sides in turn."""
    found = []
    for name in names:
        task, scores = TASKS[name], dict[str, list[float]]()
        x, y = data(task.data)
        x = x.astype(task.dtype)
        nets = {side: kind(random_state=0) for side, kind in estimators(task.regression).items()}
        for net in nets.values():
            net.set_params(max_iter=30 if task.search else 200).fit(x[:100], y[:100])
        run = searched if task.search else cross_validated
        if task.search:
            _start_workers()
        times = in_turn({side: partial(run, nets[side], x, y, scores, side) for side in SIDES}, rounds)
        found.append(Timing(name, times, scores))
    return found


def _start_workers() -> None:
    """Two processes that have imported both sides."""
    import joblib

    joblib.Parallel(n_jobs=2)(joblib.delayed(estimators)(False) for _ in range(8))


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore"  # of workers: 200 epochs are not always enough for either side
    warnings.simplefilter("ignore")
    print(json.dumps([asdict(timing) for timing in measure(sys.argv[2:], int(sys.argv[1]))]))
