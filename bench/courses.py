"""Whole trainings of courses, fastnn's `fit` beside PyTorch's usual loop, one after the other for each network.

Both train for as many epochs on the same images in the same order, from the same weights. Reading the images and
cutting them into batches, validation and test are outside the measurement, the making of the model and all that `fit`
does before its first step inside; `fit` also keeps the training accuracy, which the loop does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fastnn.courses import fashion_fnn, mnist_fc

from .peers import PEERS
from .report import aligned
from .rounds import Comparison, Figure, figure, in_turn, workers_of
from .steps import check_same_losses
from .worker import Worker
from .workloads import Workload, normalised


@dataclass(frozen=True)
class Course:
    """A course's result. runs: its networks, each trained for so many epochs on `samples(data)`."""

    name: str
    data: str
    epochs: int
    runs: tuple[Workload, ...]


def _mnist_fc() -> Course:
    """The ten runs of ``fastnn reproduce mnist-fc``."""
    runs = tuple(
        Workload(
            name,
            (784,),
            (("Linear", 784, how.hidden), (how.activation.__name__,), ("Linear", how.hidden, 10)),
            how.batch,
            options={"lr": how.lr, "momentum": how.momentum},
        )
        for name, how in mnist_fc.RUNS.items()
    )
    return Course("mnist-fc", "mnist", mnist_fc.EPOCHS, runs)


def _fashion_fnn() -> Course:
    """An epoch of the network that the course reports; with Adam's bias correction, as PyTorch has no form without."""
    whole = normalised(784, 512, 128, 64, 10, batch=fashion_fnn.BATCH)
    layers = (*whole.layers[:-2], whole.layers[-1])  # no Dropout in the last block
    return Course("fashion-fnn", "fashion-mnist", 1, (replace(whole, name=fashion_fnn.REPORTED, layers=layers),))


COURSES = {course.name: course for course in (_mnist_fc(), _fashion_fnn())}


def compare(
    courses: Iterable[Course], peers: Sequence[str], threads: int, rounds: int, epochs: int | None
) -> tuple[list[Comparison], dict[str, str]]:
    """Measure each run of each course, and sum them up: of every course, one comparison a run, then the whole.

    epochs: None for the course's. Returns the peers' versions, too.
    """
    found: list[Comparison] = []
    with workers_of(peers, threads) as workers:
        about = {key: value for worker in workers.values() for key, value in worker.about.items()}
        for course in courses:
            epochs_of = epochs or course.epochs
            runs = [_compare(run, course.data, epochs_of, workers, threads, rounds) for run in course.runs]
            found += [*runs, total(course.name, runs)]
    return found, about


def _compare(
    run: Workload, data: str, epochs: int, workers: Mapping[str, Worker], threads: int, rounds: int
) -> Comparison:
    check_same_losses(run, workers)
    prepared = {peer: worker.prepare_training(run, data, epochs) for peer, worker in workers.items()}
    able = {peer: found for peer, found in prepared.items() if found is not None}
    seconds = in_turn({peer: partial(workers[peer].time_training, able[peer]["form"]) for peer in able}, rounds)
    return Comparison(run.name, threads, {peer: figure(able[peer], seconds[peer]) for peer in able})


def total(name: str, runs: Sequence[Comparison]) -> Comparison:
    """All runs together, as far as a peer can do them all."""
    able = [peer for peer in runs[0].figures if all(peer in run.figures for run in runs)]
    sums = {peer: [sum(us) for us in zip(*(run.figures[peer].rounds for run in runs), strict=True)] for peer in able}
    return Comparison(name, runs[0].threads, {peer: Figure("", sums[peer], {}) for peer in able})


def table(comparisons: Sequence[Comparison]) -> str:
    """A line for each run and peer, and for a whole course; a ratio says how many times as long the peer takes."""
    lines = [("training", "threads", "fastnn s", "peer", "s", "ratio", "its fastest form")]
    for c in comparisons:
        ours = (c.task, str(c.threads), f"{c.ours.us / 1e6:.2f}")
        if not c.peers:
            lines.append((*ours, "–", "–", "–", "–"))
        for peer in c.peers:
            theirs = c.figures[peer]
            lines.append((*ours, PEERS[peer].title, f"{theirs.us / 1e6:.2f}", f"{c.ratio(peer):.2f}", theirs.form))
    return aligned(lines, right={1, 2, 4, 5})
