"""fastnn itself as a peer, on one of its backends."""

from __future__ import annotations

from itertools import cycle

import numpy as np

import fastnn as fn
from fastnn import _kernels as k

from .inputs import Call
from .peer import Form
from .workloads import Workload, batches, weights


class FastnnPeer:
    """fastnn on the backend ``native`` or ``reference``."""

    def __init__(self, backend: str, threads: int) -> None:
        """threads: how many to use; NumPy's matrix products take theirs from the environment."""
        self.backend, self.threads = backend, threads

    def about(self) -> dict[str, str]:
        """fastnn's version, and the instruction set of its kernels."""
        return {"fastnn": fn.__version__, "numpy": np.__version__, "isa": k.isa()}

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        fn.set_num_threads(threads)

    def kernel_forms(self, call: Call) -> list[Form]:
        """The row itself."""
        return [Form("", self.threads, call.run, lambda: fn.use_backend(self.backend))]

    def step_forms(self, workload: Workload) -> list[Form]:
        """Called layer by layer from Python."""
        model, loss = workload.build(fn), fn.CrossEntropyLoss()
        model.load_state_dict(weights({name: p.shape for name, p in model.named_parameters()}))
        optimizer = fn.SGD(model.parameters(), **workload.sgd)
        data = cycle(batches(workload))

        def step() -> float:
            x, labels = next(data)
            scores, backward = model.forward(x, train=True)
            mean, loss_backward = loss.forward(scores, labels)
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            return mean

        return [Form("eager", self.threads, step, lambda: fn.use_backend(self.backend))]


def connect(backend: str, threads: int) -> FastnnPeer:
    """The peer of this module."""
    return FastnnPeer(backend, threads)
