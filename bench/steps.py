"""Training steps of fastnn and its peers, and evaluations of encoders, measured in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from .latency import check_same_classes, one_sample
from .peers import OURS
from .report import ratios
from .rounds import Comparison, figure, in_turn, workers_of
from .worker import Worker
from .workloads import ENCODERS, Workload

EVALUATIONS = 3  #: of an encoder in a round, at most: each takes about a second


def compare(
    workloads: Iterable[Workload], peers: Sequence[str], threads: int, rounds: int, steps: int, tuned: bool = True
) -> tuple[list[Comparison], dict[str, str]]:
    """Measure fastnn and the peers, a block of steps each in turn. Returns their versions, too.

    tuned: peers run in the environment that suits them best.
    """
    with workers_of(peers, threads, tuned) as workers:
        about = {key: value for worker in workers.values() for key, value in worker.about.items()}
        return [_compare(workload, workers, threads, rounds, steps) for workload in workloads], about


def _compare(workload: Workload, workers: Mapping[str, Worker], threads: int, rounds: int, steps: int) -> Comparison:
    if workload.name in ENCODERS:
        check_same_classes(one_sample(workload), workers)
        prepared = {peer: worker.prepare_prediction(workload) for peer, worker in workers.items()}
        steps = min(steps, EVALUATIONS)
    else:
        check_same_losses(workload, workers)
        prepared = {peer: worker.prepare_step(workload.asked_of(peer)) for peer, worker in workers.items()}
    able = {peer: found for peer, found in prepared.items() if found is not None}
    measures = {peer: partial(workers[peer].time_steps, found["form"], steps) for peer, found in able.items()}
    seconds = in_turn(measures, rounds)
    return Comparison(workload.name, threads, {peer: figure(able[peer], seconds[peer]) for peer in able})


def check_same_losses(workload: Workload, workers: Mapping[str, Worker]) -> None:
    """Raise unless all forms of all peers train alike: from the same weights, on the same batches, to the same losses.

    The losses are those of the first two passes through the batches: the second shows what the first has learned.
    """
    for peer, worker in workers.items():
        asked = workload.asked_of(peer).without_dropout()
        expected = next(iter(workers[OURS].losses(asked).values()))
        for form, losses in worker.losses(asked).items():
            if any(abs(a - b) > 1e-3 * abs(b) for a, b in zip(losses, expected, strict=True)):
                name = f"{peer} ({form})" if form else peer
                raise ArithmeticError(f"{workload.name}: {name} has losses {losses}, fastnn {expected}")


def table(comparisons: Sequence[Comparison]) -> str:
    """One line for each workload and peer."""
    return ratios("workload", comparisons)
