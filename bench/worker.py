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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastnn import _kernels as k

from .session import Session
from .workloads import Workload

#: By peer: the module that connects to it, and what has to be installed.
PEERS = {
    "native": ("bench.peer_fastnn", "fastnn"),
    "reference": ("bench.peer_fastnn", "fastnn"),
    "torch": ("bench.peer_torch", "torch"),
}
#: What the libraries read when they start.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FASTNN_NUM_THREADS")
#: What makes a peer faster than it is when it is merely started. PyTorch's tuning guide advises an allocator that keeps
#: memory; glibc's does with these, else PyTorch loses a tenth to a fifth of a CNN's step to page faults.
TUNING = {"torch": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32)}}


class WorkerError(RuntimeError):
    """Something failed in the worker; the message holds its traceback."""


def missing(peer: str) -> str:
    """Why a peer cannot be measured here, "" if it can."""
    package = PEERS[peer][1]
    if peer == "native":
        return "" if k.COMPILED else "fastnn was installed without compiled kernels"
    return "" if find_spec(package) else f"{package} is not installed"


class Worker:
    """The parent's end: one peer in a process of its own, with at most so many threads."""

    def __init__(self, peer: str, threads: int = 1, tuned: bool = True) -> None:
        """tuned: with the peer's environment in `TUNING`."""
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), "PYTHONPATH": path}
        environment.update(TUNING.get(peer, {}) if tuned else {})
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

        Returns form: its title, seconds: of one call, repeats: calls that make one measurement, flops and bytes.
        """
        prepared: dict[str, Any] | None = self._ask("prepare_kernel", row=row, shape=shape, dtype=dtype)
        return prepared

    def time_kernel(self, repeats: int) -> float:
        """Seconds per call of the kernel prepared, over so many calls."""
        return float(self._ask("time_kernel", repeats=repeats))

    def prepare_step(self, workload: Workload) -> dict[str, Any]:
        """Choose the peer's fastest form of a training step. Returns form: its title, and seconds: of one step."""
        prepared: dict[str, Any] = self._ask("prepare_step", workload=workload.as_json())
        return prepared

    def time_steps(self, steps: int) -> list[float]:
        """Seconds of each of so many steps of the workload prepared, after a few that are not counted."""
        return [float(s) for s in self._ask("time_steps", steps=steps)]

    def losses(self, workload: Workload, steps: int) -> list[float]:
        """The losses of the first steps of a workload."""
        return [float(loss) for loss in self._ask("losses", workload=workload.as_json(), steps=steps)]

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
    session = Session(importlib.import_module(PEERS[peer][0]).connect(peer, threads))
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
