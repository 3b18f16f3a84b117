"""The measuring itself, inside a peer's own process."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from .costs import bytes_moved, flops
from .inputs import make, shapes
from .peer import Form, Peer
from .workloads import Workload

MEASUREMENT = 5e-3  #: seconds that one measurement of a kernel should last
WARM_UP = 3  #: steps before those that count
PASSES = 3  #: how often each form is tried, in turn, before one is chosen


class Session:
    """One peer, and the form in which it computes what is being measured."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._form: Form
        gc.freeze()  # a library's own objects, so that collecting before each measurement takes no time

    def about(self) -> dict[str, str]:
        """The peer's versions."""
        return self._peer.about()

    def prepare_kernel(self, row: str, shape: str, dtype: str) -> dict[str, Any] | None:
        """Choose the fastest form of a row; see `Worker.prepare_kernel`."""
        call = make(row, shapes(row)[shape], dtype)
        forms = self._peer.kernel_forms(call)
        if not forms:
            return None
        seconds = self._choose(forms, MEASUREMENT)
        return {
            "form": self._form.title,
            "seconds": seconds,
            "repeats": max(1, math.ceil(MEASUREMENT / seconds)),
            "flops": flops(call),
            "bytes": bytes_moved(call),
        }

    def time_kernel(self, repeats: int) -> float:
        """Seconds per call, over so many calls of the form chosen."""
        with self._in_force(self._form):
            return seconds_per_call(self._form.call, repeats)

    def prepare_step(self, workload: Workload) -> dict[str, Any]:
        """Choose the fastest form of a training step; see `Worker.prepare_step`."""
        seconds = self._choose(self._peer.step_forms(workload), 10 * MEASUREMENT)
        return {"form": self._form.title, "seconds": seconds}

    def time_steps(self, steps: int) -> list[float]:
        """Seconds of each step of the form chosen. Raises if the training went astray: NaN can change the speed."""
        found: list[float] = []
        loss: Any = None
        with self._in_force(self._form):
            for _ in range(WARM_UP):
                self._form.call()
            for _ in range(steps):
                start = perf_counter()
                loss = self._form.call()
                found.append(perf_counter() - start)
        if not math.isfinite(float(loss)):
            raise ArithmeticError(f"the loss of {self._form.title} is {float(loss)}")
        return found

    def losses(self, workload: Workload, steps: int) -> list[float]:
        """The losses of the first steps, in the first form."""
        form = self._peer.step_forms(workload)[0]
        with self._in_force(form):
            return [float(form.call()) for _ in range(steps)]

    def _choose(self, forms: Sequence[Form], least: float) -> float:
        """Keep the fastest form; returns its seconds per call. Each measurement lasts at least `least` seconds."""
        best: dict[int, float] = {}
        for _ in range(PASSES if len(forms) > 1 else 1):
            for i, form in enumerate(forms):
                with self._in_force(form):
                    form.call()
                    once = seconds_per_call(form.call, 1)
                    seconds = seconds_per_call(form.call, max(1, math.ceil(least / max(once, 1e-7))))
                best[i] = min(best.get(i, math.inf), seconds)
        chosen = min(best, key=lambda i: best[i])
        self._form = forms[chosen]
        return best[chosen]

    @contextmanager
    def _in_force(self, form: Form) -> Iterator[None]:
        """Within: the form's threads and context, and no garbage collection."""
        self._peer.use_threads(form.threads)
        gc.collect()
        gc.disable()
        try:
            with form.context():
                yield
        finally:
            gc.enable()


def seconds_per_call(call: Callable[[], Any], repeats: int) -> float:
    """The mean over so many calls in a row."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats
