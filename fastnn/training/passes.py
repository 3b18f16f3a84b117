"""Going through data once, a batch at a time, replayed where that can be."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import _kernels as k
from .._kernels import Array
from .._kernels.replay import Context, Replayer, Results, another
from ..layers import Layer
from ..layers.padded import split
from ..layers.recorded import ModelContext, caller
from ..losses import Loss
from ..losses.loss import computed, counted, is_mean, mean_weights, options_of
from .batches import Arrays, Batches, Data, Layout, Slots
from .step import STRETCH
from .weights import batch_weights

Metric = Callable[[Any, Any], Any]  #: from (y_true, y_pred) to a number

_REPORTS = 4096  #: batches whose losses and counts stay on a device, at most
_READ_EVERY = 1.0  #: seconds, after which they are read in any case


class Means:
    """Means over samples of what batches report; also how far an epoch has come."""

    def __init__(self, loss: Loss) -> None:
        self._is_mean, self._has_accuracy = is_mean(loss), hasattr(loss, "count_correct")
        self.loss, self.weight = 0.0, 0.0
        self.correct, self.samples, self.batches = 0, 0, 0

    def add(self, value: float, correct: int, samples: int, weight: float) -> None:
        """A batch: its loss, how many of its samples are right, and what it weighs."""
        if weight or not self._is_mean:  # the mean of what weighs nothing is NaN
            self.loss += value * weight if self._is_mean else value
        self.weight += weight
        self.count(1, correct, samples)

    def count(self, batches: int, correct: int, samples: int) -> None:
        """Batches whose losses are in by now."""
        self.batches += batches
        self.correct += correct
        self.samples += samples

    def values(self) -> dict[str, float]:
        """By name; NaN where nothing has any weight."""
        means = {"loss": self.loss / self.weight if self.weight else math.nan}
        return {**means, "accuracy": self.correct / self.samples} if self._has_accuracy else means

    def state_dict(self) -> dict[str, Any]:
        """What was added up, as JSON values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        vars(self).update(state)


class _Reports:
    """What batches on a device report, which stays there until it is read: to read is to wait for all kernels."""

    def __init__(self, device: str) -> None:
        self._losses = k.aligned_zeros(_REPORTS, "float64", device)
        self._counts = k.aligned_zeros(_REPORTS, "int64", device)
        self._sizes: list[tuple[int, float]] = []  # samples of a batch, and what it weighs
        self._begun = time.perf_counter()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, results: Results, samples: int, weight: float) -> None:
        """A batch."""
        here = slice(len(self), len(self) + 1)
        self._losses[here] = results[0]
        for count in results[1:2]:
            self._counts[here] = count
        self._sizes.append((samples, weight))

    @property
    def due(self) -> bool:
        """Whether they should be read: there is no room for more, or somebody may want to see how far things are."""
        return len(self) == _REPORTS or time.perf_counter() - self._begun >= _READ_EVERY

    def read(self, means: Means) -> tuple[int, float]:
        """Add them to the means, and forget them; how many there were, and the last loss."""
        losses, counts = (np.asarray(a[: len(self)]).tolist() for a in (self._losses, self._counts))
        found = zip(losses, counts, self._sizes, strict=True)
        value = math.nan
        for value, count, (samples, weight) in found:
            means.add(value, count, samples, weight)
        done, self._sizes, self._begun = len(self), [], time.perf_counter()
        return done, value


class Pass:
    """What is done to each batch of some data, in their order or in that of a permutation; replayed where it can be.

    On a device the batches come from a copy of the data there, if it fits into half of the memory that is free, else
    each is copied in its turn; losses and counts stay there and are read at the end, or once a second.
    """

    def __init__(
        self,
        body: Callable[..., Results],
        data: Data,
        loss: Loss,
        context: Context,
        batch_size: int,
        drop_last: bool = False,
        *,
        changes_nothing: bool = False,
        device: str = "cpu",
    ) -> None:
        """body: from the slots of a batch to its loss and how many were right; context: of `Replayer`.

        changes_nothing: the body may be run on other numbers as well, to verify a record of it.
        device: where the model is.
        """
        arrays = data.slots if isinstance(data, Arrays) else ()
        self.data, self._arrays, self._loss, self._body, self._size = data, arrays, loss, body, batch_size
        samples = data.samples or 0
        self._stop = samples - samples % batch_size if drop_last else samples
        self._changes_nothing = changes_nothing and not data.layout.padded
        self._each = mean_weights(loss, *data.layout.split(arrays)[1:]) if arrays else None
        self._weights = self._weigh(self._each)  # for samples in their order
        # What is the same for all samples, such as weights of 1, cannot differ to show that it is read anew: no need.
        vary = [i for i, a in enumerate(arrays) if a.ndim > 1 or (a != a[0]).any()]
        differ = (lambda *slots: tuple(slots[i] for i in vary)) if arrays else self._varying
        self._in_order = Replayer(body, context, caller, arrays, differ)
        self._device = device
        whole = device != "cpu" and k.fits(arrays, device)
        self._placed = tuple(k.to_device(a, device) for a in arrays) if whole else ()
        self._permuted = Replayer(
            self._gather, context, caller, arrays, lambda where: differ(*(a[where] for a in arrays))
        )

    def _varying(self, *slots: Array) -> Slots:
        """Those of a batch that differ from those of any other, as lengths need not."""
        return (slots[0], *slots[2:]) if self.data.layout.padded else slots

    def _weigh(self, each: Array | None) -> tuple[Array, Array]:
        """What each batch weighs, and all batches so far, added one after the other as they would be from Python."""
        weights = batch_weights(self._stop, self._size, each)
        return weights, np.cumsum(weights)

    @property
    def obstacle(self) -> str | None:
        """Why nothing is replayed, once that is known."""
        return self._in_order.obstacle or self._permuted.obstacle

    @property
    def count(self) -> int | None:
        """How many batches there are, None where nobody knows."""
        return self.data.steps if isinstance(self.data, Batches) else -(-self._stop // self._size)

    def _gather(self, where: Array) -> Results:
        return self._body(*(k.gather_rows(a, where) for a in self._arrays))

    def batches(
        self,
        means: Means,
        order: Array | None = None,
        epoch: int = 0,
        replay: bool = True,
        most: Callable[[], int] = lambda: sys.maxsize,
    ) -> Iterator[tuple[int, float]]:
        """Go on where `means` stands, adding to it; yields how many batches were done, and the last loss.

        One batch at a time, or about 50 ms of replayed ones, whose last loss is not known, but not more than `most`
        says. The bits are the same however many are done at a time. epoch: its number, from 0.
        """
        if self._device != "cpu":
            return self._on_device(means, order, epoch, most if replay else lambda: 1)
        replay = replay and hasattr(self._loss, "compute")
        if self._arrays:
            return self._from_memory(means, order, replay, most)
        return self._as_they_come(means, order, epoch, replay)

    def _from_memory(
        self, means: Means, order: Array | None, replay: bool, most: Callable[[], int]
    ) -> Iterator[tuple[int, float]]:
        replayer, body = (self._in_order, self._body) if order is None else (self._permuted, self._gather)
        arrays = self._arrays if order is None else (order,)
        weights, total = self._weights if self._each is None or order is None else self._weigh(self._each[order])
        while means.samples < self._stop:
            at = means.samples
            size = min(self._size, self._stop - at)
            slots = tuple(a[at : at + size] for a in arrays)
            record = replayer.record(slots) if replay else None
            if record is None and replay and self._comes_once(at) and replayer.comes_again(slots):
                replayer.prepare(slots, tuple(map(another, slots)))
                record = replayer.record(slots)
            if record is None:
                weight = float(weights[means.batches])
                done, value = 1, _from_python(replayer.run(slots) if replay else body(*slots), means, size, weight)
            else:
                strides = tuple(size * a.strides[0] for a in arrays)
                factors = weights[means.batches :] if is_mean(self._loss) else None
                steps, value = min((self._stop - at) // size, most()), math.nan
                done, means.loss, right = record.run(slots, strides, steps, STRETCH, means.loss, factors)
                means.count(done, right, done * size)
                means.weight = float(total[means.batches - 1])
            yield done, value

    def _comes_once(self, at: int) -> bool:
        """Whether the batch from sample `at` is the only one of its size, and the same in each pass."""
        full = self._stop // self._size
        return self._changes_nothing and (full == 1 or at == full * self._size)

    def _as_they_come(self, means: Means, order: Array | None, epoch: int, replay: bool) -> Iterator[tuple[int, float]]:
        for slots in self._read(order, epoch, means):
            size, each = len(slots[0]), mean_weights(self._loss, *self.data.layout.split(slots)[1:])
            total = float(size if each is None else each.sum(dtype=np.float64))
            record = self._in_order.record(slots) if replay else None
            if record is None:
                results = self._in_order.run(slots) if replay else self._body(*slots)
                value = _from_python(results, means, size, total)
            else:
                _, value, right = record.run(slots, (0,) * len(slots), 1, 0.0)
                means.add(value, right, size, total)
            yield 1, value

    def _on_device(
        self, means: Means, order: Array | None, epoch: int, most: Callable[[], int]
    ) -> Iterator[tuple[int, float]]:
        reports, limit = _Reports(self._device), most()
        for slots, samples, weight in self._copied(means, order, epoch):
            reports.add(self._body(*slots), samples, weight)
            if reports.due or len(reports) >= limit:
                yield reports.read(means)
                limit = most()
        if len(reports):
            yield reports.read(means)

    def _copied(self, means: Means, order: Array | None, epoch: int) -> Iterator[tuple[Slots, int, float]]:
        """The batches on the device, how many samples each has and what it weighs."""
        if not self._placed:
            for slots in self._read(order, epoch, means):
                size, each = len(slots[0]), mean_weights(self._loss, *self.data.layout.split(slots)[1:])
                there = tuple(k.to_device(a, self._device) for a in slots)
                yield there, size, float(size if each is None else each.sum(dtype=np.float64))
            return
        weights = (self._weights if self._each is None or order is None else self._weigh(self._each[order]))[0]
        where = None if order is None else k.to_device(order, self._device)
        for number, at in enumerate(range(means.samples, self._stop, self._size), means.batches):
            stop = min(at + self._size, self._stop)
            if where is None:
                there = tuple(a[at:stop] for a in self._placed)
            else:
                there = tuple(k.gather_rows(a, where[at:stop]) for a in self._placed)
            yield there, stop - at, float(weights[number])

    def _read(self, order: Array | None, epoch: int, means: Means) -> Iterator[Slots]:
        if isinstance(self.data, Batches):
            return self.data.read_epoch(epoch, means.batches)
        return self.data.read(order, self._size, means.samples, self._stop)

    def means(self, epoch: int = 0) -> dict[str, float]:
        """The means over all samples, in order."""
        means = Means(self._loss)
        for _ in self.batches(means, epoch=epoch):
            pass
        return means.values()

    def measured(self, model: Layer, metrics: Mapping[str, Metric], epoch: int = 0) -> dict[str, float]:
        """The means, and metrics of the model's predictions, for which the data are gone through once more."""
        found = self.means(epoch)
        if metrics:
            y_true, y_pred = self.predictions(model, epoch)
            found.update({name: float(metric(y_true, y_pred)) for name, metric in metrics.items()})
        return found

    def predictions(self, model: Layer, epoch: int = 0) -> tuple[Any, Any]:
        """All targets, and what the model says for them: the best class where targets are labels, else its scores."""
        found = []
        for slots in self._read(None, epoch, Means(self._loss)):
            x, target, _ = self.data.layout.split(slots)
            found.append((target, model.scores(x, self._size)))
        targets, scores = (_joined(parts) for parts in zip(*found, strict=True))
        return targets, _predicted(scores, targets)


def _from_python(results: Results, means: Means, samples: int, weight: float) -> float:
    """Add what a batch returned to the means; returns its loss."""
    value = float(results[0][0])
    means.add(value, int(results[1][0]) if len(results) > 1 else 0, samples, weight)
    return value


def _joined(parts: tuple[Any, ...]) -> Any:
    """Arrays of all batches as one, or for each head one."""
    if isinstance(parts[0], tuple):
        return tuple(_joined(head) for head in zip(*parts, strict=True))
    return np.concatenate(parts)


def _predicted(scores: Any, targets: Any) -> Any:
    if isinstance(targets, tuple):
        return tuple(_predicted(*head) for head in zip(scores, targets, strict=True))
    return scores.argmax(1) if targets.dtype == np.int64 and scores.ndim == 2 else scores


class Evaluation(ModelContext):
    """The forward pass and the loss, dropout off."""

    def __init__(self, model: Layer, loss: Loss, layout: Layout) -> None:
        super().__init__(model)
        self._loss, self._layout = loss, layout

    def __call__(self, *slots: Array) -> Results:
        x, target, weight = self._layout.split(slots)
        scores = split(self.model(x))[0]
        loss = computed(self._loss, scores, target, need_grad=False, sample_weight=weight)[0]
        return loss, *counted(self._loss, scores, target)

    def signature(self) -> list[Any]:
        """The loss is part of it."""
        return [*super().signature(), *options_of(self._loss)]


def evaluation(model: Layer, data: Data, loss: Loss, batch_size: int, drop_last: bool = False) -> Pass:
    """A pass that measures."""
    body = Evaluation(model, loss, data.layout)
    return Pass(body, data, loss, body, batch_size, drop_last, changes_nothing=True, device=model.device)
