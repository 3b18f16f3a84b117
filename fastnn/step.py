"""One training step: forward, loss, backward, update; from Python, or captured and replayed without it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ._checks import check_data, check_loss, check_model, check_targets, scores_of_one
from ._errors import ShapeError
from ._kernels import Array, active
from ._kernels.replay import Replayer, Results, another, without_gaps
from .layers import Layer
from .layers.layer import as_input, as_real
from .layers.recorded import ModelContext, caller
from .losses import Loss, check_labels, check_range, computed, counted, is_mean
from .optim import Optimizer, bound

STRETCH = 0.05  #: seconds of replay after which Python may serve signals


class CaptureError(RuntimeError):
    """A step that cannot be replayed; the message says why."""


class Step(ModelContext):
    """One update. All that happens to a batch happens here."""

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer, count: bool = True) -> None:
        """count: whether to count how many samples of a batch were right."""
        super().__init__(model)
        self._kept = model  # the context by itself would let go of it
        self.loss, self.optimizer, self.count = loss, optimizer, count

    def __call__(self, x: Array, y: Array) -> Results:
        """The batch's loss before the update, (1,) float64, and (1,) int64 how many were right, if counted."""
        scores, backward = self.model.forward(x, train=True)
        loss, loss_backward = computed(self.loss, scores, y)
        correct = counted(self.loss, scores, y) if self.count else ()
        backward(loss_backward(), need_dx=False)
        self.optimizer.step()
        for p in self.model.parameters():
            p.used = False  # gradients of those that the optimizer does not know are of one step, too
        return loss, *correct

    def signature(self) -> list[Any]:
        """What decides which kernels a step calls, and on what."""
        options = getattr(self.loss, "__dict__", {})
        return [*super().signature(), self.loss, *options.values(), *self.optimizer.structure()]

    def memory(self) -> list[Array]:
        """Parameters, and what the optimizer has."""
        return [*super().memory(), *self.optimizer.memory()]

    def refresh(self) -> None:
        """Options of the optimizer."""
        self.optimizer.refresh()

    def ready(self) -> bool:
        """Whether no parameter holds a gradient to which a step from Python would add."""
        groups = (p for group in self.optimizer.param_groups for p in group["params"])
        return not any(p.used for p in (*self.model.parameters(), *groups))


class CapturedStep:
    """A training step that runs without Python inside: what `capture` returns.

    A batch of another size is captured when it comes, and so is the step anew when something changed that it depends
    on: a layer was frozen, a parameter replaced, the number of threads set. Options of the optimizer may be changed in
    its `param_groups` at any time. A step that has to go on with gradients that are there, and one under
    ``use_backend("reference")``, runs from Python.
    """

    def __init__(self, step: Step, batch_size: int) -> None:
        self._step, self._batch_size = step, batch_size
        self._replayer = Replayer(step, step, caller)
        self._backend = active()
        self._call: Any = lambda slots: None  #: `Record.call` of the last shape
        self._last: Any = None  #: the record itself

    def __call__(self, x: Array, y: Array) -> float:
        """One step on a batch; returns its loss before the update.

        x: (N, …), y: (N,) labels or (N, …) targets, as of `fit`. Raises what `fit` raises of shapes, dtypes and labels
        (it does not look for NaN), and `CaptureError` where the step cannot be replayed any more. Threads take turns.
        """
        loss: float | None = self._call((x, y)) if active() is self._backend else None
        return self._prepared(x, y) if loss is None else loss

    def epoch(self, x: Array, y: Array) -> float:
        """A step on each batch of x and y in turn, as large as that of `capture`; returns the mean loss of a sample.

        Python comes in only between stretches of 50 ms, for Ctrl-C. What is left over at the end is a smaller batch.
        """
        x, y = self._as_slots(x, y)
        mean, batch = is_mean(self._step.loss), self._batch_size
        total, at, whole = 0.0, 0, len(x) - len(x) % batch
        while at < whole:
            slots = x[at : at + batch], y[at : at + batch]
            record = self._record(slots)
            if record is None:
                done, total = 1, total + self._prepared(*slots) * (batch if mean else 1)
            else:
                strides, steps = tuple(batch * a.strides[0] for a in slots), (whole - at) // batch
                done, total, _ = record.run(slots, strides, steps, STRETCH, total, batch if mean else 1)
            at += done * batch
        if at < len(x):
            total += self(x[at:], y[at:]) * (len(x) - at if mean else 1)
        return total / len(x)

    def profile(self, x: Array, y: Array) -> list[tuple[str, str, float]]:
        """A step on a batch; returns (kernel, its layer, microseconds) of each kernel, in the order of the step."""
        slots = self._as_slots(x, y)
        record = self._record(slots)
        times = None if record is None else record.times(slots)
        if times is None:
            raise CaptureError("a step from Python has no profile: gradients are there, or the backend is another")
        return [(*name, 1e6 * seconds) for name, seconds in zip(record.names, times, strict=True)]

    def _prepared(self, x: Any, y: Any) -> float:
        """A step on a batch that the last record does not take as it is."""
        slots = self._as_slots(x, y)
        record = self._record(slots)
        loss: float | None = None
        if record is not None:
            self._call = record.call
            loss = self._call(slots)
        return float(self._step(*slots)[0][0]) if loss is None else loss

    def _record(self, slots: tuple[Array, Array]) -> Any:
        """The record for such a batch, made now if need be; None where the step has to run from Python."""
        here = active() is self._backend and not self._backend.Record.is_recording()
        if not here or not self._step.replays or not self._step.ready():
            return None
        record = self._replayer.record(slots)
        while record is None and self._replayer.obstacle is None:
            if not self._step.ready():  # any more: another thread has begun a step by hand
                return None
            self._replayer.prepare(slots, tuple(another(a) for a in slots))
            record = self._replayer.record(slots)
            if record is None:
                time.sleep(1e-4)  # another thread is recording
        self._last = record
        if record is None:
            raise CaptureError(f"the step cannot be captured: {self._replayer.obstacle}")
        return record

    def _as_slots(self, x: Any, y: Any) -> tuple[Array, Array]:
        """x and y as kernels take them: of the right dtype, aligned, without gaps, and apart from each other."""
        x = as_input(x, self._step.model, "x")
        if x.ndim < 1 or x.size == 0:
            raise ShapeError(f"x: expected at least one sample, got shape {x.shape}")
        if hasattr(self._step.loss, "count_correct"):
            if self._last is None or not self._last.holds:  # another last layer may have another number of classes
                self._replayer.classes = scores_of_one(self._step.model, x).shape[1]
            y = check_labels(y, len(x), "y")
            check_range(y, self._replayer.classes, "y")
        else:
            y = check_targets(as_real(y, self._step.model.dtype, "y"), len(x), "y")
        x, y = without_gaps(x), without_gaps(np.ascontiguousarray(y))
        return x, y.copy() if np.may_share_memory(x, y) else y


def capture(model: Layer, loss: Loss, optimizer: Optimizer, x: Any, y: Any) -> CapturedStep:
    """The training step for a loop of one's own, without Python inside: ``step = capture(…)``, ``loss = step(x, y)``.

    x, y: a batch, as of `fit`. optimizer: one without parameters gets all of the model's.
    The step is recorded on this batch and verified on another one made from it; weights, optimizer and dropout are as
    before afterwards, gradients zero; meanwhile no other thread may use the model. It computes, to the bit, what the
    same loop from Python does.
    Raises what `fit` raises of bad arguments, and `CaptureError`, naming the layer, where something in the step is not
    computed by kernels, or not by the same ones each time. A choice that depends on data has to be made in a kernel.
    """
    check_model(model)
    loss = check_loss(loss)
    x, y = check_data(model, x, y, loss)
    optimizer = bound(optimizer, model)
    step = Step(model, loss, optimizer, count=False)
    if not hasattr(loss, "compute"):
        raise CaptureError(f"{type(loss).__name__} is not made of kernels: it has no `compute`")
    if active().Record is None:
        raise CaptureError(f"the {active().name} backend cannot replay: it runs from Python")
    for layer in model.modules():
        if not layer.replays:
            raise CaptureError(f"{layer.label} is not to be replayed: its `replays` is False")
    model.zero_grad()  # an earlier step may have been broken off half-way
    optimizer.zero_grad()
    captured = CapturedStep(step, len(x))
    captured._record(captured._as_slots(x, y))
    return captured
