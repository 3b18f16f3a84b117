"""A process that measures for one peer, and the other end of its pipe.

Requests and replies are lines of JSON. The parent names what to measure and how often; the child times it by itself and
returns seconds, so that neither pipe nor JSON is in a figure.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from statistics import median
from typing import Any

from .peers import PEERS
from .session import Session
from .workloads import Workload

#: What the libraries read when they start.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FASTNN_NUM_THREADS")


class WorkerError(RuntimeError):
    """Something failed in the worker; the message holds its traceback."""


class Worker:
    """The parent's end: one peer in a process of its own, with at most so many threads."""

    def __init__(self, peer: str, threads: int = 1, tuned: bool = True) -> None:
        """tuned: in the environment that suits the peer best."""
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": path}
        if tuned:
            environment.update(PEERS[peer].environment)
        if threads == 1:
            environment.update(PEERS[peer].alone)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", peer, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.about: dict[str, str] = self._ask("about")

    def prepare_kernel(self, row: str, shape: str, dtype: str = "float32") -> dict[str, Any] | None:
        """Choose the peer's fastest form of a row; None if it has no equivalent.

        Returns form: its title, seconds: of one call, repeats: calls that make one measurement, forms: the seconds of
        each form tried, and the call's flops, bytes and footprint.
        """
        prepared: dict[str, Any] | None = self._ask("prepare_kernel", row=row, shape=shape, dtype=dtype)
        return prepared

    def prepare_step(self, workload: Workload) -> dict[str, Any] | None:
        """Choose the peer's fastest form of a training step; None if it cannot do one.

        Returns form: its title, seconds: of one step, forms: the seconds of each form tried.
        """
        prepared: dict[str, Any] | None = self._ask("prepare_step", workload=workload.as_json())
        return prepared

    def prepare_prediction(self, workload: Workload) -> dict[str, Any] | None:
        """Choose the peer's fastest form of a prediction; returns what `prepare_step` does."""
        prepared: dict[str, Any] | None = self._ask("prepare_prediction", workload=workload.as_json())
        return prepared

    def prepare_training(self, workload: Workload, data: str, epochs: int) -> dict[str, Any] | None:
        """Choose the peer's fastest form of a whole training on `samples(data)`; None if it cannot do one.

        Returns form: its title, and of a short trial seconds: of this form, forms: of each.
        """
        prepared: dict[str, Any] | None = self._ask(
            "prepare_training", workload=workload.as_json(), data=data, epochs=epochs
        )
        return prepared

    def time_training(self, form: str) -> float:
        """Seconds of the training prepared, in one of its forms."""
        return float(self._ask("time_training", form=form))

    def time_kernel(self, form: str, repeats: int) -> float:
        """Seconds per call of the kernel prepared, in one of its forms, over so many calls."""
        return float(self._ask("time_kernel", form=form, repeats=repeats))

    def time_steps(self, form: str, steps: int) -> float:
        """Seconds of a step or prediction in one of the forms prepared: the median, after a few that do not count."""
        found: list[float] = self._ask("time_steps", form=form, steps=steps)
        return median(found)

    def losses(self, workload: Workload) -> dict[str, list[float]]:
        """By name of a form of a training step, the losses of its first passes through the batches."""
        found: dict[str, list[float]] = self._ask("losses", workload=workload.as_json())
        return found

    def classes(self, workload: Workload) -> dict[str, list[int]]:
        """By name of a form of a prediction, the classes that it finds."""
        found: dict[str, list[int]] = self._ask("classes", workload=workload.as_json())
        return found

    def first_steps(self, workload: Workload) -> tuple[float, float]:
        """Seconds of the first call of a training step in this process, and of the best later one."""
        first, later = self._ask("first_steps", workload=workload.as_json())
        return first, later

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the worker ended at {what!r} with status {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply["result"]


# --- the child's end --------------------------------------------------------------------------------------------------


def serve(peer: str, threads: int) -> None:
    """Answer requests from standard input until it ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no reply
    session = Session(importlib.import_module(PEERS[peer].module).connect(peer, threads))
    for line in sys.stdin:
        request = json.loads(line)
        replies.write(json.dumps(answer(session, request.pop("what"), request)) + "\n")
        replies.flush()


def answer(session: Session, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request."""
    if "workload" in arguments:
        arguments["workload"] = Workload.from_json(arguments["workload"])
    try:
        return {"result": getattr(session, what)(**arguments)}
    except Exception:  # of any kind: the parent raises it with this traceback
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
