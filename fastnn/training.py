"""Training a model on arrays, and measuring it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from . import _kernels as k
from . import init
from ._checks import check_data, check_drop_last, check_loss, check_model, check_validation, check_whole
from ._kernels import Array
from ._kernels.replay import Context, Replayer, Results
from ._progress import shown
from .callbacks import Callback, as_callback
from .history import History
from .layers import Layer
from .layers.recorded import ModelContext, caller
from .losses import Loss, computed, counted, is_mean
from .optim import Optimizer, bound
from .step import STRETCH, Step

_EVALUATED_AT_ONCE = 256  # samples; as many in `fit` as in `evaluate`, so that both give the same bits


def fit(
    model: Layer,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    epochs: int = 10,
    shuffle: bool = True,
    drop_last: bool = False,
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Iterable[Callback | Callable[[Layer, History], Any]] = (),
    seed: int | None = None,
    progress: bool = False,
) -> History:
    """Train a model.

    x: (N, …) real numbers, finite; converted once to the model's dtype. y: (N,) integers from 0 to classes-1.
    loss: None for `CrossEntropyLoss()`.
    optimizer: None for ``SGD(lr=0.01, momentum=0.9)``. One without parameters gets all of the model's.
    shuffle: False keeps the samples in their order, True draws a new one each epoch.
    drop_last: leave out the last batch of an epoch if it is smaller than the others.
    validation_data: (x, y), measured after each epoch as by `evaluate`.
    callbacks: `Callback` objects, or functions (model, history) called after each epoch, which end the training by
        returning True.
    seed: makes shuffles and dropout the same in each run by itself; None goes on with what `manual_seed` began.
    progress: show a bar for each epoch (with tqdm installed, else a line), on stderr.

    The first steps run from Python and are recorded; the others are replayed without it, to the same bits (see
    `capture`), unless a callback has an `on_batch_end`, the loss is not made of kernels, or something in the model is
    not, of which a warning tells.
    Ctrl-C ends the training with a warning and keeps what was learned.
    Raises `ShapeError`, `DTypeError`, ValueError or TypeError, naming the argument, before anything is trained.
    """
    check_model(model)
    loss = check_loss(loss)
    check_whole("batch_size", batch_size, 1)
    check_whole("epochs", epochs, 0)
    if seed is not None:
        check_whole("seed", seed, 0)
    hooks = [as_callback(callback) for callback in callbacks]
    x, y = check_data(model, x, y, loss)
    check_drop_last(drop_last, len(x), batch_size)
    validation = None if validation_data is None else check_validation(model, validation_data, loss)
    step = Step(model, loss, bound(optimizer, model))
    rng = _start_random(model, seed)
    model.zero_grad()  # an earlier step may have been broken off half-way
    show = shown(progress, epochs)
    history = History()
    training = _Pass(step, (_channels_last(x), y), loss, step)
    validating = None if validation is None else _evaluation(model, validation, loss)
    listening = [hook for hook in hooks if type(hook).on_batch_end is not Callback.on_batch_end]
    stop = _stop(len(x), batch_size, drop_last)

    def train() -> dict[str, float]:
        order = rng.permutation(len(x)) if shuffle else None
        means, batches = _Means(loss), 0
        step.optimizer.ahead(-(-stop // batch_size))
        show.begin(-(-stop // batch_size))
        for done, value in training.batches(order, batch_size, stop, means, replay=not listening):
            show.batches(done, means)
            for hook in listening:
                hook.on_batch_end(model, batches, value)
            batches += done
        return means.values()

    def epoch() -> None:
        known, start = training.obstacle, time.perf_counter()
        train_means = train()
        seconds = time.perf_counter() - start
        after = {} if validating is None else validating.means(_EVALUATED_AT_ONCE)
        if training.obstacle != known:
            warnings.warn(f"fit: steps run from Python, which is slower: {training.obstacle}", stacklevel=3)
        history._add(train_means, after, seconds)
        if not np.isfinite(train_means["loss"]):
            warnings.warn(f"fit: the loss is {train_means['loss']}; a smaller learning rate may help", stacklevel=3)
        show.end({**train_means, **{f"val_{name}": value for name, value in after.items()}}, seconds)

    try:
        for hook in hooks:
            hook.on_train_begin(model, history)
        while history.epochs < epochs:
            epoch()
            if any([_is_true(hook.on_epoch_end(model, history)) for hook in hooks]):  # a list: every hook is called
                break
    except KeyboardInterrupt:
        _interrupted(model, history)
    finally:
        step.optimizer.ahead(0)
        show.close()
    for hook in hooks:
        hook.on_train_end(model, history)
    return history


def evaluate(
    model: Layer, x: Any, y: Any, *, loss: Loss | None = None, batch_size: int = 256, drop_last: bool = False
) -> dict[str, float]:
    """``{"loss": …, "accuracy": …}``, means over the samples, dropout off; a loss without labels has no accuracy.

    x, y, loss: as in `fit`, with the same checks and errors. batch_size: how many samples are computed at a time.
    drop_last: leave out the last batch if it is smaller than the others.
    """
    check_model(model)
    loss = check_loss(loss)
    check_whole("batch_size", batch_size, 1)
    x, y = check_data(model, x, y, loss)
    check_drop_last(drop_last, len(x), batch_size)
    return _evaluation(model, (x, y), loss).means(batch_size, drop_last)


# --- passes over data -------------------------------------------------------------------------------------------------


class _Means:
    """Means over samples of what batches report."""

    def __init__(self, loss: Loss) -> None:
        self.is_mean, self.has_accuracy = is_mean(loss), hasattr(loss, "count_correct")
        self.loss, self.correct, self.samples = 0.0, 0, 0

    def add(self, value: float, correct: int, samples: int) -> None:
        self.loss += value * samples if self.is_mean else value
        self.correct += correct
        self.samples += samples

    def values(self) -> dict[str, float]:
        means = {"loss": self.loss / self.samples}
        return {**means, "accuracy": self.correct / self.samples} if self.has_accuracy else means


class _Pass:
    """What is done to each batch of some data, in their order or in that of a permutation; replayed where it can be."""

    def __init__(
        self, body: Callable[[Array, Array], Results], data: tuple[Array, Array], loss: Loss, context: Context
    ) -> None:
        """body: from a batch (x, y) to its loss and how many were right; context: of `Replayer`."""
        self._data, self._loss, self._body = data, loss, body
        self._in_order = Replayer(body, context, caller, data)
        self._permuted = Replayer(self._gather, context, caller, data, lambda where: (data[0][where], data[1][where]))

    @property
    def obstacle(self) -> str | None:
        """Why nothing is replayed, once that is known."""
        return self._in_order.obstacle or self._permuted.obstacle

    def _gather(self, where: Array) -> Results:
        x, y = (k.gather_rows(a, where) for a in self._data)
        return self._body(x, y)

    def batches(
        self, order: Array | None, batch_size: int, stop: int, means: _Means, replay: bool = True
    ) -> Iterator[tuple[int, float]]:
        """Go through the first `stop` samples, adding to `means`; yields how many batches were done, and the last loss.

        One batch at a time, or about 50 ms of replayed ones, whose last loss is not known.
        """
        replay = replay and hasattr(self._loss, "compute")
        replayer, body = (self._in_order, self._body) if order is None else (self._permuted, self._gather)
        sources = self._data if order is None else (order,)
        at = 0
        while at < stop:
            size, done, value = min(batch_size, stop - at), 1, math.nan
            slots = tuple(a[at : at + size] for a in sources)
            record = replayer.record(slots) if replay else None
            if record is None:
                results = replayer.run(slots) if replay else body(*slots)
                value = float(results[0][0])
                means.add(value, int(results[1][0]) if len(results) > 1 else 0, size)
            else:
                strides, weight = tuple(size * a.strides[0] for a in sources), size if means.is_mean else 1
                done, means.loss, right = record.run(slots, strides, (stop - at) // size, STRETCH, means.loss, weight)
                means.correct += right
                means.samples += done * size
            yield done, value
            at += done * size

    def means(self, batch_size: int, drop_last: bool = False) -> dict[str, float]:
        """The means over all samples, in order."""
        means = _Means(self._loss)
        for _ in self.batches(None, batch_size, _stop(len(self._data[0]), batch_size, drop_last), means):
            pass
        return means.values()


class _Evaluation(ModelContext):
    """The forward pass and the loss, dropout off."""

    def __init__(self, model: Layer, loss: Loss) -> None:
        super().__init__(model)
        self._loss = loss

    def __call__(self, x: Array, y: Array) -> Results:
        scores = self.model.forward(x, train=False)[0]
        return computed(self._loss, scores, y, need_grad=False)[0], *counted(self._loss, scores, y)

    def signature(self) -> list[Any]:
        """The loss is part of it."""
        return [*super().signature(), *getattr(self._loss, "__dict__", {}).values()]


def _evaluation(model: Layer, data: tuple[Array, Array], loss: Loss) -> _Pass:
    evaluation = _Evaluation(model, loss)
    return _Pass(evaluation, data, loss, evaluation)


def _stop(samples: int, batch_size: int, drop_last: bool) -> int:
    return samples - samples % batch_size if drop_last else samples


def _channels_last(x: Array) -> Array:
    """Images (N, C, H, W) with their channels last in memory, as kernels want them, so that no batch need be copied."""
    return k.copy(x, channels_last=True) if x.ndim == 4 and x.shape[1] > 1 else x


def _start_random(model: Layer, seed: int | None) -> np.random.Generator:
    """The generator of the shuffles; a seed begins the sequences of dropout anew as well."""
    if seed is None:
        return init.generator()
    for number, layer in enumerate(layer for layer in model.modules() if hasattr(layer, "reseed")):
        layer.reseed(int(seed), number)
    return np.random.default_rng(seed)


def _is_true(result: Any) -> bool:
    """Whether a callback asks to stop: by True itself, not by whatever a one-line function happens to return."""
    return isinstance(result, bool | np.bool_) and bool(result)


def _interrupted(model: Layer, history: History) -> None:
    history.interrupted = True
    history._drop_unfinished()
    model.zero_grad()  # a backward pass may have been broken off
    warnings.warn(f"fit: interrupted after {history.epochs} epochs; the model keeps what it learned", stacklevel=3)
