"""fastnn itself as a peer, on one of its backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array

from .costs import calls_in
from .inputs import Call
from .peer import SEED, Form
from .workloads import Workload, batches, stacked, weights

#: fastnn's layers, of which a GRU returns what a classifier reads.
_LAYERS = SimpleNamespace(**{**vars(fn), "GRU": partial(fn.GRU, returns="last")})
BLOCK = 5e-4  #: seconds that one call of a replay should last


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
        if fn.get_num_threads() != threads:
            fn.set_num_threads(threads)

    def kernel_forms(self, call: Call) -> list[Form]:
        """The row itself, called from Python, and many times in a replay, as it is in a captured step."""
        forms = [self._form("from Python", call.run)]
        if self.backend == "native":
            times = calls_in(BLOCK, call)
            forms.append(self._form("replayed", _replayed(call, times), steps=times))
        return forms

    def step_forms(self, workload: Workload) -> list[Form]:
        """Called layer by layer from Python; captured and replayed, a batch at a call; and all batches in one call."""
        forms = [self._form("eager", _eager(workload))]
        if self.backend == "native":
            forms += [
                self._form("captured", _captured(workload)),
                self._form("captured epoch", _epoch(workload), steps=workload.count),
            ]
        return forms

    def prediction_forms(self, workload: Workload) -> list[Form]:
        """Each of the ways to ask a model."""
        model = _model(workload)
        ways = {"model(x)": model, "model.scores(x)": model.scores, "model.predict(x)": model.predict}
        return [self._form(name, _asked(way, workload)) for name, way in ways.items()]

    def training_forms(self, workload: Workload, x: Array, labels: Array, epochs: int) -> list[Form]:
        """`fit`, as it comes."""
        return [self._form("fit", _fitted(workload, x, labels, epochs))]

    def _form(self, name: str, call: Callable[[], Any], steps: int = 1) -> Form:
        return Form(name, self.threads, call, lambda: fn.use_backend(self.backend), steps)


def connect(backend: str, threads: int) -> FastnnPeer:
    """The peer of this module."""
    return FastnnPeer(backend, threads)


def _model(workload: Workload) -> Any:
    model = workload.build(_LAYERS)
    model.load_state_dict(weights({name: p.shape for name, p in model.named_parameters()}), strict=False)
    return model


def _eager(workload: Workload) -> Callable[[], float]:
    model, loss = _model(workload), fn.CrossEntropyLoss()
    optimizer = getattr(fn, workload.optimizer)(model.parameters(), **workload.options)
    data = cycle(batches(workload))

    def step() -> float:
        x, labels = next(data)
        scores, backward = model.forward(x, train=True)
        mean, loss_backward = loss.forward(scores, labels)
        backward(loss_backward(), need_dx=False)
        optimizer.step()
        return mean

    return step


def _capture(workload: Workload) -> fn.CapturedStep:
    model = _model(workload)
    optimizer = getattr(fn, workload.optimizer)(model.parameters(), **workload.options)
    return fn.capture(model, fn.CrossEntropyLoss(), optimizer, *batches(workload)[0])


def _captured(workload: Workload) -> Callable[[], float]:
    step, data = cache(lambda: _capture(workload)), cycle(batches(workload))
    return lambda: step()(*next(data))


def _epoch(workload: Workload) -> Callable[[], float]:
    step, (x, labels) = cache(lambda: _capture(workload)), stacked(workload)
    return lambda: step().epoch(x, labels)


def _fitted(workload: Workload, x: Array, labels: Array, epochs: int) -> Callable[[], float]:
    def train() -> float:
        fn.init.torch_manual_seed(SEED)
        model, optimizer = workload.build(_LAYERS), getattr(fn, workload.optimizer)(**workload.options)
        order: dict[str, Any] = {"shuffle": False, "drop_last": True}
        history = fn.fit(model, x, labels, optimizer=optimizer, batch_size=workload.batch, epochs=epochs, **order)
        return history.loss[-1]

    return train


def _replayed(call: Call, times: int) -> Callable[[], Any]:
    """The compiled kernel, so many times in one call."""
    record = k.active().Record()
    record.start()
    call.run()
    record.stop()
    record.finish(())
    return lambda: record.run((), (), times, 0.0)


def _asked(way: Callable[[Any], Any], workload: Workload) -> Callable[[], Any]:
    data = cycle([x for x, _ in batches(workload)])
    return lambda: way(next(data))
