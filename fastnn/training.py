"""Training a model on arrays, and measuring it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from . import _kernels as k
from . import init
from ._checks import check_data, check_drop_last, check_loss, check_model, check_validation, check_whole
from ._kernels import Array
from ._progress import Silent, shown
from .callbacks import Callback, as_callback
from .history import History
from .layers import Layer
from .losses import Loss
from .optim import SGD, Optimizer

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
    step = Step(model, loss, _bound(optimizer, model))
    rng = _start_random(model, seed)
    model.zero_grad()  # an earlier step may have been broken off half-way
    show = shown(progress, epochs)
    history = History()

    def epoch() -> None:
        start = time.perf_counter()
        order = rng.permutation(len(x)) if shuffle else None
        train = _train(step, x, y, order, batch_size, drop_last, hooks, show)
        seconds = time.perf_counter() - start
        after = {} if validation is None else _evaluate(model, *validation, loss, _EVALUATED_AT_ONCE, False)
        history._add(train, after, seconds)
        if not np.isfinite(train["loss"]):
            warnings.warn(f"fit: the loss is {train['loss']}; a smaller learning rate may help", stacklevel=3)
        show.end({**train, **{f"val_{name}": value for name, value in after.items()}}, seconds)

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
    return _evaluate(model, x, y, loss, batch_size, drop_last)


# --- batches ----------------------------------------------------------------------------------------------------------


class Step:
    """One update: forward, loss, backward, optimizer. All that happens to a batch happens here."""

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.count_correct = getattr(loss, "count_correct", None)

    def __call__(self, x: Array, y: Array) -> tuple[float, int]:
        """The batch's loss before the update, and how many of its samples were right (0 without labels)."""
        scores, backward = self.model.forward(x, train=True)
        value, loss_backward = self.loss.forward(scores, y)
        correct = 0 if self.count_correct is None else self.count_correct(scores, y)
        backward(loss_backward(), need_dx=False)
        self.optimizer.step()
        return value, correct


class _Means:
    """Means over samples of what batches report."""

    def __init__(self, loss: Loss) -> None:
        self.is_sum = getattr(loss, "reduction", "mean") == "sum"
        self.has_accuracy = hasattr(loss, "count_correct")
        self.loss, self.correct, self.samples = 0.0, 0, 0

    def add(self, value: float, correct: int, samples: int) -> None:
        self.loss += value if self.is_sum else value * samples
        self.correct += correct
        self.samples += samples

    def values(self) -> dict[str, float]:
        means = {"loss": self.loss / self.samples}
        return {**means, "accuracy": self.correct / self.samples} if self.has_accuracy else means


def _batches(
    x: Array, y: Array, order: Array | None, batch_size: int, drop_last: bool
) -> Iterator[tuple[Array, Array]]:
    """x and y a batch at a time, in the order given, None for their own."""
    for i in range(0, _stop(len(x), batch_size, drop_last), batch_size):
        if order is None:
            yield x[i : i + batch_size], y[i : i + batch_size]
        else:
            where = order[i : i + batch_size]
            yield k.gather_rows(x, where), k.gather_rows(y, where)


def _stop(samples: int, batch_size: int, drop_last: bool) -> int:
    return samples - samples % batch_size if drop_last else samples


def _train(
    step: Step,
    x: Array,
    y: Array,
    order: Array | None,
    batch_size: int,
    drop_last: bool,
    hooks: Sequence[Callback],
    show: Silent,
) -> dict[str, float]:
    """One epoch."""
    means = _Means(step.loss)
    listening = [hook for hook in hooks if type(hook).on_batch_end is not Callback.on_batch_end]
    show.begin(-(-_stop(len(x), batch_size, drop_last) // batch_size))
    for i, batch in enumerate(_batches(x, y, order, batch_size, drop_last)):
        value, correct = step(*batch)
        means.add(value, correct, len(batch[1]))
        show.batch(means)
        for hook in listening:
            hook.on_batch_end(step.model, i, value)
    return means.values()


def _evaluate(model: Layer, x: Array, y: Array, loss: Loss, batch_size: int, drop_last: bool) -> dict[str, float]:
    means = _Means(loss)
    count_correct = getattr(loss, "count_correct", None)
    for batch, target in _batches(x, y, None, batch_size, drop_last):
        scores, _ = model.forward(batch, train=False)
        value, _ = loss.forward(scores, target, need_grad=False)
        means.add(value, 0 if count_correct is None else count_correct(scores, target), len(target))
    return means.values()


def _bound(optimizer: Optimizer | None, model: Layer) -> Optimizer:
    """The optimizer, which has parameters of the model now if it had none."""
    if optimizer is None:
        optimizer = SGD(lr=0.01, momentum=0.9)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an optimizer such as SGD(lr=0.01), got {optimizer!r}")
    if not optimizer.param_groups:
        optimizer.bind(model.parameters())
    updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in updated for p in model.parameters()):
        raise ValueError("optimizer: it has parameters, but none of this model; make a new one for each model")
    return optimizer


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
