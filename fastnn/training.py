"""Training a model on arrays, and measuring it."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import _kernels as k
from . import init
from ._errors import DTypeError, ShapeError
from ._kernels import Array
from .layers import Layer
from .layers.layer import as_real
from .losses import CrossEntropyLoss, LossBackward, check_labels, check_range
from .optim import SGD, Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVALUATED_AT_ONCE = 256  # samples; as many in `fit` as in `evaluate`, so that both give the same bits
_CHECKED_AT_ONCE = 1 << 18  # numbers; a check of all of x then needs little memory


class Loss(Protocol):
    """What `fit` needs of a loss. One with ``count_correct(scores, labels)`` too is given labels, others numbers."""

    def forward(self, scores: Array, target: Any, /, need_grad: bool = True) -> tuple[float, LossBackward]:
        """The loss of a batch, and the function that returns its gradient by the scores."""
        ...


# --- what training leaves behind --------------------------------------------------------------------------------------


@dataclass
class History:
    """One number per finished epoch in each list; those of the validation are empty without one.

    loss, accuracy: means over the samples, each measured in its batch while training, so before the batch's update and
        with dropout on. The accuracy is a fraction; without one (see `Loss`) its lists stay empty.
    seconds: the time of training, validation and callbacks not counted.
    val_loss, val_accuracy: what `evaluate` says of the validation data after the epoch.
    interrupted: whether Ctrl-C ended the training; the unfinished epoch is not in the lists.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    interrupted: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Copies of all lists, and `interrupted`, by name; JSON values."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Loss and accuracy over the epochs, as a matplotlib figure; `path` writes it to a file as well."""
        from .plots import learning_curves

        return learning_curves(self, path)

    def _add(self, train: dict[str, float], validation: dict[str, float], seconds: float) -> None:
        for prefix, means in (("", train), ("val_", validation)):
            for name, value in means.items():
                getattr(self, prefix + name).append(value)
        self.seconds.append(seconds)  # the last: an epoch without seconds is an unfinished one

    def _drop_unfinished(self) -> None:
        for values in (self.loss, self.accuracy, self.val_loss, self.val_accuracy):
            del values[self.epochs :]


class Callback:
    """What `fit` calls while it trains; each hook does nothing unless overridden."""

    def on_train_begin(self, model: Layer, history: History) -> None:
        """Before the first epoch."""

    def on_batch_end(self, model: Layer, batch: int, loss: float) -> None:
        """After each update. batch: counted from 0 in each epoch; loss: that of the batch."""

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        """After each epoch and its validation, both in the history by now. True ends the training."""

    def on_train_end(self, model: Layer, history: History) -> None:
        """After the last epoch, be it the last one wanted, ended by a callback or broken off by Ctrl-C."""


class _OnEpochEnd(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[Layer, History], Any]) -> None:
        self.function = function

    def on_epoch_end(self, model: Layer, history: History) -> bool | None:
        result: bool | None = self.function(model, history)
        return result


def _as_callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(f"callbacks: expected Callback objects or functions (model, history), got {callback!r}")
    return _OnEpochEnd(callback)


# --- the public functions ---------------------------------------------------------------------------------------------


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
    _check_model(model)
    loss = _check_loss(loss)
    _check_whole("batch_size", batch_size, 1)
    _check_whole("epochs", epochs, 0)
    if seed is not None:
        _check_whole("seed", seed, 0)
    hooks = [_as_callback(callback) for callback in callbacks]
    x, y = _check_data(model, x, y, loss)
    _check_drop_last(drop_last, len(x), batch_size)
    validation = None if validation_data is None else _check_validation(model, validation_data, loss)
    step = Step(model, loss, _bound(optimizer, model))
    rng = _start_random(model, seed)
    model.zero_grad()  # an earlier step may have been broken off half-way
    show = _shown(progress, epochs)
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
    _check_model(model)
    loss = _check_loss(loss)
    _check_whole("batch_size", batch_size, 1)
    x, y = _check_data(model, x, y, loss)
    _check_drop_last(drop_last, len(x), batch_size)
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
    show: _Silent,
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


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_model(model: Any) -> None:
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")


def _check_loss(loss: Any) -> Loss:
    if loss is None:
        return CrossEntropyLoss()
    if isinstance(loss, type) or not hasattr(loss, "forward"):
        raise TypeError(f"loss: expected a loss such as CrossEntropyLoss(), got {loss!r}")
    checked: Loss = loss
    return checked


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def _check_drop_last(drop_last: bool, samples: int, batch_size: int) -> None:
    if drop_last and samples < batch_size:
        raise ValueError(f"drop_last: {samples} samples are fewer than batch_size={batch_size}, so no batch is left")


def _check_validation(model: Layer, data: Any, loss: Loss) -> tuple[Array, Array]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(f"validation_data: expected a pair (x, y), got {type(data).__name__}")
    x, y = data
    return _check_data(model, x, y, loss, "validation ")


def _check_data(model: Layer, x: Any, y: Any, loss: Loss, prefix: str = "") -> tuple[Array, Array]:
    """x in the model's dtype and y as the loss takes it, both contiguous, after checking that they fit the model."""
    x = _real(x, model, f"{prefix}x")
    if x.ndim < 1 or x.size == 0:
        raise ShapeError(f"{prefix}x: expected at least one sample, got shape {x.shape}")
    _check_finite(x, f"{prefix}x")
    scores = _scores_of_one(model, x, f"{prefix}x")
    if not hasattr(loss, "count_correct"):
        return x, _check_targets(model, y, len(x), f"{prefix}y")
    if np.ndim(scores) != 2 or len(scores) != 1:
        shape = np.shape(scores)
        raise ShapeError(f"{prefix}x: expected scores (1, classes) from the model for one sample, got {shape}")
    labels = check_labels(_array(y, f"{prefix}y"), len(x), f"{prefix}y")
    check_range(labels, scores.shape[1], f"{prefix}y")
    return x, np.ascontiguousarray(labels)


def _scores_of_one(model: Layer, x: Array, what: str) -> Any:
    """The model's output for the first sample; shapes that do not fit are found here."""
    try:
        return model.forward(x[:1], train=False)[0]
    except ShapeError as error:
        raise ShapeError(f"{what}: it does not fit the model: {error}") from error


def _check_targets(model: Layer, y: Any, count: int, what: str) -> Array:
    """Targets that are no labels: real numbers, one entry for each sample."""
    targets = _real(y, model, what)
    if targets.ndim < 1 or len(targets) != count:
        raise ShapeError(f"{what}: expected {count} targets, one for each sample, got shape {targets.shape}")
    _check_finite(targets, what)
    return targets


def _real(a: Any, model: Layer, what: str) -> Array:
    """`a` in the model's dtype and contiguous, so that gathering a batch need not copy all of it."""
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the next check names
        real = as_real(_array(a, what), model.dtype, what)
    return np.ascontiguousarray(real) if real.ndim else real


def _array(a: Any, what: str) -> Array:
    try:
        array: Array = np.asarray(a)
        return array
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{what}: {error}") from error
    except TypeError as error:
        raise DTypeError(f"{what}: {error}") from error


def _check_finite(a: Array, what: str) -> None:
    """Raise ValueError, naming the first sample, for NaN or infinity."""
    rows = max(1, _CHECKED_AT_ONCE * len(a) // max(a.size, 1))
    for i in range(0, len(a), rows):
        finite = np.isfinite(a[i : i + rows])
        if not finite.all():
            sample = i + int(np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))[0])
            found = "NaN" if np.isnan(a[sample]).any() else f"infinity (as {a.dtype.name})"
            raise ValueError(f"{what}: expected finite numbers, got {found} in sample {sample}")


# --- progress ---------------------------------------------------------------------------------------------------------


class _Silent:
    """Shows nothing."""

    def begin(self, batches: int) -> None:
        """An epoch of so many batches begins."""

    def batch(self, means: _Means) -> None:
        """A batch was trained; the means are those of the epoch so far."""

    def end(self, means: dict[str, float], seconds: float) -> None:
        """An epoch ended, validation included."""

    def close(self) -> None:
        """The training ended."""


class _Lines(_Silent):
    """One line for each epoch, on stderr."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.epoch = epochs, 0

    def begin(self, batches: int) -> None:
        self.epoch += 1

    def end(self, means: dict[str, float], seconds: float) -> None:
        numbers = ", ".join(f"{name} {value}" for name, value in _texts(means).items())
        print(f"epoch {self.epoch}/{self.epochs}: {numbers}, {seconds:.1f} s", file=sys.stderr)


class _Bars(_Lines):
    """One bar of tqdm for each epoch, on stderr."""

    def __init__(self, epochs: int, tqdm: Callable[..., Any]) -> None:
        super().__init__(epochs)
        self.tqdm = tqdm
        self.bar: Any = None

    def begin(self, batches: int) -> None:
        super().begin(batches)
        self.bar = self.tqdm(total=batches, desc=f"epoch {self.epoch}/{self.epochs}", unit="batch")

    def batch(self, means: _Means) -> None:
        self.bar.set_postfix(_texts(means.values()), refresh=False)
        self.bar.update()

    def end(self, means: dict[str, float], seconds: float) -> None:
        self.bar.set_postfix(_texts(means))
        self.bar.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _texts(means: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in means.items()}


def _shown(progress: bool, epochs: int) -> _Silent:
    if not progress:
        return _Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Lines(epochs)
    return _Bars(epochs, tqdm)
