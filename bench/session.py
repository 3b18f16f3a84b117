"""The measuring itself, inside a peer's own process."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from .costs import bytes_moved, flops, footprint
from .inputs import make, shapes
from .peer import Form, Peer
from .workloads import BATCHES, Workload, samples

MEASUREMENT = 5e-3  #: seconds that one measurement of a kernel should last
SLICES = 5  #: of a measurement of a kernel, the median of which counts, since others may use the machine, too
ROUND = 0.03  #: seconds that a round of steps lasts at least: a processor that waited is slow at first
WARM_UP = 3  #: steps before those that count
PASSES = 3  #: how often each form is tried, in turn, before one is chosen
HOPELESS = 3  #: a form that takes so many times as long as the best is not tried again
TRIAL = 100  #: steps of a whole training by which its form is chosen
EPOCHS = 2  #: through all batches, after which all forms of all peers must have had the same losses


class Session:
    """One peer, and the forms in which it can compute what is being measured."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._forms: dict[str, Form] = {}
        gc.freeze()  # a library's own objects, so that collecting before each measurement takes no time

    def about(self) -> dict[str, str]:
        """The peer's versions."""
        return self._peer.about()

    def prepare_kernel(self, row: str, shape: str, dtype: str) -> dict[str, Any] | None:
        """Choose the fastest form of a row; see `Worker.prepare_kernel`."""
        call = make(row, shapes(row)[shape], dtype)
        prepared = self._prepare(self._peer.kernel_forms(call), MEASUREMENT)
        if prepared is None:
            return None
        repeats = max(1, math.ceil(MEASUREMENT / prepared["seconds"]))
        work = {"flops": flops(call), "bytes": bytes_moved(call), "footprint": footprint(call)}
        return {**prepared, "repeats": repeats, **work}

    def prepare_step(self, workload: Workload) -> dict[str, Any] | None:
        """Choose the fastest form of a training step; see `Worker.prepare_step`."""
        return self._prepare(self._peer.step_forms(workload), 10 * MEASUREMENT)

    def prepare_prediction(self, workload: Workload) -> dict[str, Any] | None:
        """Choose the fastest form of a prediction; see `Worker.prepare_prediction`."""
        return self._prepare(self._peer.prediction_forms(workload), 4 * MEASUREMENT)

    def prepare_training(self, workload: Workload, data: str, epochs: int) -> dict[str, Any] | None:
        """Choose the fastest form of a whole training by its first `TRIAL` steps; see `Worker.prepare_training`."""
        x, labels = samples(data)
        trial = TRIAL * workload.batch
        prepared = self._prepare(self._peer.training_forms(workload, x[:trial], labels[:trial], 1), 0)
        self._forms = {form.title: form for form in self._peer.training_forms(workload, x, labels, epochs)}
        return prepared

    def time_training(self, form: str) -> float:
        """Seconds of the training prepared, in one of its forms. Raises if it went astray."""
        with self._in_force(self._forms[form]) as chosen:
            start = perf_counter()
            loss = chosen.call()
            seconds = perf_counter() - start
        if not math.isfinite(loss):
            raise ArithmeticError(f"{chosen.title} came to {loss}")
        return seconds

    def time_kernel(self, form: str, repeats: int) -> float:
        """Seconds per call, over so many calls in a row: the median of their slices, as for the machine's limits."""
        with self._in_force(self._forms[form]) as chosen:
            calls = math.ceil(repeats / (chosen.steps * SLICES))
            return median(seconds_per_step(chosen, calls) for _ in range(min(SLICES, repeats)))

    def time_steps(self, form: str, steps: int) -> list[float]:
        """Seconds of each of so many steps, or predictions, or of more, for `ROUND`; a block at once tells its mean.

        Raises if the training went astray: NaN can change the speed.
        """
        found: list[float] = []
        result: Any = None
        with self._in_force(self._forms[form]) as chosen:
            for _ in range(math.ceil(WARM_UP / chosen.steps)):
                chosen.call()
            end = perf_counter() + ROUND
            while len(found) * chosen.steps < steps or perf_counter() < end:
                start = perf_counter()
                result = chosen.call()
                found.append((perf_counter() - start) / chosen.steps)
        if not np.isfinite(np.asarray(result)).all():
            raise ArithmeticError(f"{chosen.title} came to {result}")
        return found

    def losses(self, workload: Workload) -> dict[str, list[float]]:
        """By name of a form, the mean loss of each of the first `EPOCHS` passes through the batches."""
        found: dict[str, list[float]] = {}
        for form in one_of_each_name(self._peer.step_forms(workload)):
            with self._in_force(form):
                calls = range(workload.count // form.steps)
                found[form.name] = [float(np.mean([float(form.call()) for _ in calls])) for _ in range(EPOCHS)]
        return found

    def classes(self, workload: Workload) -> dict[str, list[int]]:
        """By name of a form, the most probable classes of all batches, which are of one sample."""
        found: dict[str, list[int]] = {}
        for form in one_of_each_name(self._peer.prediction_forms(workload)):
            with self._in_force(form):
                results = [np.asarray(form.call()) for _ in range(BATCHES)]
            found[form.name] = [int(r.argmax() if r.ndim == 2 else r[0]) for r in results]
        return found

    def first_steps(self, workload: Workload) -> list[float]:
        """Seconds of the very first call of a training step, and of the best of some later ones; in the first form."""
        form = self._peer.step_forms(workload)[0]
        with self._in_force(form):
            seconds = [seconds_per_step(form, 1) * form.steps for _ in range(10)]
        return [seconds[0], min(seconds[1:])]

    def _prepare(self, forms: Sequence[Form], least: float) -> dict[str, Any] | None:
        """Try every form, and keep them; each measurement lasts at least `least` seconds. None if there are none."""
        self._forms = {form.title: form for form in forms}
        best: dict[str, float] = {}
        for _ in range(PASSES if len(forms) > 1 else 1):
            for title, form in self._forms.items():
                if best.get(title, 0.0) <= HOPELESS * min(best.values(), default=0.0):
                    best[title] = min(best.get(title, math.inf), self._try(form, least))
        if not best:
            return None
        fastest = min(best, key=lambda title: best[title])
        return {"form": fastest, "seconds": best[fastest], "forms": best}

    def _try(self, form: Form, least: float) -> float:
        with self._in_force(form):
            form.call()
            once = max(seconds_per_step(form, 1), 1e-7)
            return seconds_per_step(form, max(1, math.ceil(least / (once * form.steps))))

    @contextmanager
    def _in_force(self, form: Form) -> Iterator[Form]:
        """Within: the form's threads and context, and no garbage collection."""
        self._peer.use_threads(form.threads)
        gc.collect()
        gc.disable()
        try:
            with form.context():
                yield form
        finally:
            gc.enable()


def one_of_each_name(forms: Sequence[Form]) -> list[Form]:
    """Those forms that differ in more than their threads."""
    return list({form.name: form for form in reversed(forms)}.values())[::-1]


def seconds_per_step(form: Form, calls: int) -> float:
    """The mean over so many calls in a row."""
    call: Callable[[], Any] = form.call
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / (calls * form.steps)
