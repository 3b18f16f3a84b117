"""What a peer is: a framework, or a backend of fastnn, that can be measured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from fastnn._kernels import Array

from .inputs import Call
from .workloads import Workload

SEED = 12321  #: of the weights that a whole training begins with


@dataclass
class Form:
    """One way in which a peer computes something.

    name: what tells it from the peer's others, such as ``"channels-last"``; "" where there is but one.
    call: does it; a training step returns its loss, a number or what ``float`` takes, a prediction its scores or class.
    context: held around many calls.
    steps: how many a call does at once, the loss being their mean; figures are of one.
    """

    name: str
    threads: int
    call: Callable[[], Any]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    steps: int = 1

    @property
    def title(self) -> str:
        """Name and threads, for a table."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.name}, {threads}" if self.name else threads


class Peer(Protocol):
    """A framework in its own process; of several forms the fastest is measured."""

    def about(self) -> dict[str, str]:
        """Versions and what else a reader of a figure has to know."""
        ...

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        ...

    def kernel_forms(self, call: Call) -> list[Form]:
        """The forms in which a row of the kernel table can be computed; none if the peer has no equivalent."""
        ...

    def step_forms(self, workload: Workload) -> list[Form]:
        """The forms of a training step: forward, loss, backward and update of the next batch; none if it cannot."""
        ...

    def prediction_forms(self, workload: Workload) -> list[Form]:
        """The forms of a prediction for the next batch: its scores, or its classes; none if it cannot."""
        ...

    def training_forms(self, workload: Workload, x: Array, labels: Array, epochs: int) -> list[Form]:
        """The forms of a whole training on these samples, in their order, from PyTorch's weights after `SEED`.

        A remainder of a batch is left out. Batches lie ready before a call, the model is made anew within it; it
        returns the mean loss of the last epoch. None if the peer has none.
        """
        ...
