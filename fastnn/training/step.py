"""One training step: forward, loss, backward, update; from Python, or captured and replayed without it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .._errors import ShapeError
from .._kernels import Array, active
from .._kernels.replay import Replayer, Results, another, without_gaps
from ..layers import Layer
from ..layers.layer import as_input
from ..layers.padded import Padded, split, through
from ..layers.recorded import ModelContext, caller
from ..losses import Loss
from ..losses.loss import computed, counted, is_mean, mean_weights, options_of
from ..losses.targets import check_weight, targets_of
from ..optim import Optimizer
from .batches import Checked, Layout, Slots, as_slots
from .checks import as_loss, check_model, check_optimizer, scores_of_one
from .weights import batch_weights, check_takes_weights

STRETCH = 0.05  #: seconds of replay after which Python may serve signals


class CaptureError(RuntimeError):
    """A step that cannot be replayed; the message says why."""


class Step(ModelContext):
    """One update. All that happens to a batch happens here."""

    def __init__(
        self, model: Layer, loss: Loss, optimizer: Optimizer, layout: Layout | None = None, count: bool = True
    ) -> None:
        """layout: of the slots, by default (x, y). count: whether to count how many samples of a batch were right."""
        super().__init__(model)
        self._kept = model  # the context by itself would let go of it
        self.loss, self.optimizer, self.layout, self.count = loss, optimizer, layout or Layout(), count

    def __call__(self, *slots: Array) -> Results:
        """The batch's loss before the update, (1,) float64, and (1,) int64 how many were right, if counted."""
        x, target, weight = self.layout.split(slots)
        output, backward = through(self.model, self.model.forward, x, True)
        scores = split(output)[0]
        loss, loss_backward = computed(self.loss, scores, target, sample_weight=weight)
        correct = counted(self.loss, scores, target) if self.count else ()
        backward(loss_backward(), need_dx=False)
        self.optimizer.step()
        for p in self.model.parameters():
            p.used = False  # gradients of those that the optimizer does not know are of one step, too
        return loss, *correct

    def signature(self) -> list[Any]:
        """What decides which kernels a step calls, and on what."""
        return [*super().signature(), *options_of(self.loss), *self.optimizer.structure()]

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
        self._scores: Any = None  #: of one sample

    def __call__(self, x: Array, y: Any, sample_weight: Array | None = None) -> float:
        """One step on a batch; returns its loss before the update.

        x: (N, …), y: (N,) labels or (N, …) targets, a tuple of them for a joint loss, sample_weight: (N,), all as of
        `fit`. Raises what `fit` raises of shapes, dtypes and labels (it does not look for NaN), and `CaptureError`
        where the step cannot be replayed any more. Threads take turns.
        """
        plain = type(y) is not tuple and sample_weight is None and type(x) is not Padded
        slots = (x, y) if plain else as_slots(x, y, sample_weight)
        known = active() is self._backend and (type(x) is not Padded or bool(np.all(x.lengths)))  # else: an error
        loss: float | None = self._call(slots) if known else None
        return self._prepared(self._checked(x, y, sample_weight)) if loss is None else loss

    def epoch(self, x: Array, y: Any, sample_weight: Array | None = None) -> float:
        """A step on each batch of x and y in turn, as large as that of `capture`; returns the mean loss of a sample.

        Python comes in only between stretches of 50 ms, for Ctrl-C. What is left over at the end is a smaller batch.
        """
        arrays, batch = self._checked(x, y, sample_weight), self._batch_size
        samples = len(arrays[0])
        weights = batch_weights(samples, batch, mean_weights(self._step.loss, *self._step.layout.split(arrays)[1:]))
        factors = weights if is_mean(self._step.loss) else np.ones(len(weights))
        total, done = 0.0, 0
        while done < len(weights):
            slots = tuple(a[done * batch : (done + 1) * batch] for a in arrays)
            record = self._record(slots)
            if record is None:
                loss = self._prepared(slots)
                total += loss * factors[done] if factors[done] else 0.0  # the mean of what weighs nothing is NaN
                done += 1
            else:
                strides, steps = tuple(batch * a.strides[0] for a in slots), samples // batch - done
                some, total, _ = record.run(slots, strides, max(steps, 1), STRETCH, total, factors[done:])
                done += some
        return float(total / weights.sum())

    def profile(self, x: Array, y: Any, sample_weight: Array | None = None) -> list[tuple[str, str, float]]:
        """A step on a batch; returns (kernel, its layer, microseconds) of each kernel, in the order of the step."""
        slots = self._checked(x, y, sample_weight)
        record = self._record(slots)
        times = None if record is None else record.times(slots)
        if times is None:
            raise CaptureError("a step from Python has no profile: gradients are there, or the backend is another")
        return [(*name, 1e6 * seconds) for name, seconds in zip(record.names, times, strict=True)]

    def _prepared(self, slots: Slots) -> float:
        """A step on a batch that was checked, which the last record need not take as it is."""
        record = self._record(slots)
        if record is None:
            return float(self._step(*slots)[0][0])
        self._call = record.call
        loss: float = record.run(slots, (0,) * len(slots), 1, 0.0)[1]
        return loss

    def _record(self, slots: Slots) -> Any:
        """The record for such a batch, made now if need be; None where the step has to run from Python."""
        here = active() is self._backend and not self._backend.Record.is_recording()
        if not here or not self._step.replays or not self._step.ready():
            return None
        record = self._replayer.record(slots)
        if record is None:
            _check_host(self._step.model)
        while record is None and self._replayer.obstacle is None:
            if not self._step.ready():  # any more: another thread has begun a step by hand
                return None
            others = [another(a) for a in slots]
            if self._step.layout.padded:
                others[1] = 1 + slots[1] % slots[0].shape[1]  # other lengths, and such as can be
            self._replayer.prepare(slots, tuple(others))
            record = self._replayer.record(slots)
            if record is None:
                time.sleep(1e-4)  # another thread is recording
        self._last = record
        if record is None:
            raise CaptureError(f"the step cannot be captured: {self._replayer.obstacle}")
        return record

    def _checked(self, x: Any, y: Any, sample_weight: Any) -> Slots:
        """The slots as kernels take them: of the right dtype, aligned, without gaps, and apart from each other."""
        model, loss = self._step.model, self._step.loss
        x = as_input(x, model, "x")
        values, lengths = split(x)
        if values.ndim < 1 or values.size == 0:
            raise ShapeError(f"x: expected at least one sample, got shape {values.shape}")
        if self._last is None or not self._last.holds:  # another last layer may have another number of classes
            self._scores = scores_of_one(model, x)
        target = targets_of(loss, y, self._scores, len(x), "y")
        weight = None if sample_weight is None else check_weight(sample_weight, len(x), model.dtype, "sample_weight")
        found = Layout.of(x, target, weight)
        if found != self._step.layout:
            raise ValueError(f"expected a batch of {self._step.layout}, as it was captured, got {found}")
        slots = as_slots(x, target, weight)
        bounds = (model.vocabulary or 0,) if lengths is None else (model.vocabulary or 0, values.shape[1] + 1)
        self._replayer.classes = (*bounds, *_classes(slots[len(bounds) :], self._scores))
        apart: list[Array] = []
        for a in map(without_gaps, slots):
            apart.append(a.copy() if any(np.may_share_memory(a, other) for other in apart) else a)
        return tuple(apart)


def _check_host(model: Layer) -> None:
    if model.device != "cpu":
        raise CaptureError(
            f"the model is on {model.device!r}, where no step is captured: fit, or a loop of one's own, runs there"
        )


def _classes(targets: Slots, scores: Any) -> tuple[int, ...]:
    """For each of these slots, how many classes its labels may name, 0 where it holds none."""
    heads = scores if isinstance(scores, tuple) else (scores,)
    found = [np.shape(head)[1] if a.dtype == np.int64 else 0 for a, head in zip(targets, heads, strict=False)]
    return (*found, *[0] * (len(targets) - len(found)))


def capture(model: Layer, loss: Loss, optimizer: Optimizer, x: Any, y: Any, sample_weight: Any = None) -> CapturedStep:
    """The training step for a loop of one's own, without Python inside: ``step = capture(…)``, ``loss = step(x, y)``.

    x, y, sample_weight: a batch, as of `fit`. optimizer: one without parameters gets all of the model's.
    The step is recorded on this batch and verified on another one made from it; weights, optimizer and dropout are as
    before afterwards, gradients zero; meanwhile no other thread may use the model. It computes, to the bit, what the
    same loop from Python does.
    Raises what `fit` raises of bad arguments, and `CaptureError`, naming the layer, where something in the step is not
    computed by kernels, or not by the same ones each time, or where the model is on a GPU. A choice that depends on
    data has to be made in a kernel.
    """
    check_model(model)
    loss = as_loss(loss)
    if sample_weight is not None:
        check_takes_weights(loss, "sample_weight")
    check = Checked(model, loss)
    check(x, y, sample_weight)
    optimizer = check_optimizer(optimizer, model)
    step = Step(model, loss, optimizer, check.layout, count=False)
    if not hasattr(loss, "compute"):
        raise CaptureError(f"{type(loss).__name__} is not made of kernels: it has no `compute`")
    _check_host(model)
    if active().Record is None:
        raise CaptureError(f"the {active().name} backend cannot replay: it runs from Python")
    for layer in model.modules():
        if not layer.replays:
            raise CaptureError(f"{layer.label} is not to be replayed: its `replays` is False")
    model.zero_grad()  # an earlier step may have been broken off half-way
    optimizer.zero_grad()
    captured = CapturedStep(step, len(x))
    captured._record(captured._checked(x, y, sample_weight))
    return captured
