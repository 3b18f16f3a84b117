"""Training a model on data, and measuring it."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from . import init
from ._checks import check_drop_last, check_loss, check_metrics, check_model, check_whole
from ._files import StrPath
from ._progress import Silent, shown
from .batches import Data, open_data
from .callbacks import Callback, as_callback
from .history import History
from .layers import Layer
from .losses import Loss
from .optim import Optimizer, bound
from .passes import Means, Pass, evaluation
from .resume import Checkpoint, check_kind, described, load_arrays, model_arrays, read
from .step import Step

_EVALUATED_AT_ONCE = 256  # samples; as many in `fit` as in `evaluate`, so that both give the same bits

Metric = Callable[[Any, Any], Any]


def fit(
    model: Layer,
    x: Any,
    y: Any = None,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    epochs: int = 10,
    shuffle: bool = True,
    drop_last: bool = False,
    validation_data: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Iterable[Callback | Callable[[Layer, History], Any]] = (),
    seed: int | None = None,
    progress: bool = False,
    steps_per_epoch: int | None = None,
    resume: StrPath | bool | None = None,
) -> History:
    """Train a model.

    x: (N, …) real numbers, finite; converted once to the model's dtype. y: (N,) integers from 0 to classes-1, or what
        else the loss takes as targets. Data larger than memory come in two ways. A memory map, or any object with a
        length that takes slices and arrays of ascending indices, as x or y: each batch is read, checked and converted
        when its turn comes. Or batches (x, y) or (x, y, sample_weight) as x, without y: an iterable, or a function,
        called for each epoch (with its number from 0 if it takes one), that returns one; these come in their own order
        and size.
    loss: None for `CrossEntropyLoss()`.
    optimizer: None for ``SGD(lr=0.01, momentum=0.9)``. One without parameters gets all of the model's.
    shuffle: False keeps the samples in their order, True draws a new one each epoch.
    drop_last: leave out the last batch of an epoch if it is smaller than the others.
    validation_data: (x, y) or (x, y, sample_weight), or batches, measured after each epoch as by `evaluate`.
    sample_weight: (N,) numbers of at least 0, by which the samples' losses are multiplied; means are weighted means.
    class_weight: a dictionary or array of a weight for each class, or ``"balanced"``, scikit-learn's
        N / (classes · samples of the class); multiplied into sample_weight. Not applied in validation.
    metrics: functions (y_true, y_pred) by name, measured on the validation data after each epoch; the history has them
        as ``val_name``. y_pred: (N,) classes where the targets are labels, else the model's scores; tuples for several
        heads.
    callbacks: `Callback` objects, or functions (model, history) called after each epoch, which end the training by
        returning True.
    seed: makes shuffles and dropout the same in each run by itself; None goes on with what `manual_seed` began.
    progress: show a bar for each epoch (with tqdm installed, else a line), on stderr.
    steps_per_epoch: how many batches of an iterable make an epoch; None for all of them.
    resume: a file that a `Checkpoint` wrote, from which to go on to the same bits as if the run had never stopped; the
        other arguments must be those of that run (of data larger than memory only some samples are compared). True for
        the file of the `Checkpoint` among the callbacks, which need not be there yet.

    The first steps run from Python and are recorded; the others are replayed without it, to the same bits (see
    `capture`), unless a callback has an `on_batch_end`, the loss is not made of kernels, or something in the model is
    not, of which a warning tells.
    Ctrl-C ends the training with a warning and keeps what was learned.
    Raises `ShapeError`, `DTypeError`, ValueError or TypeError, naming the argument, before anything is trained (of data
    larger than memory: when the batch comes), and `CheckpointError`.
    """
    check_model(model)
    loss = check_loss(loss)
    check_whole("batch_size", batch_size, 1)
    check_whole("epochs", epochs, 0)
    if seed is not None:
        check_whole("seed", seed, 0)
    if steps_per_epoch is not None:
        check_whole("steps_per_epoch", steps_per_epoch, 1)
    hooks = [as_callback(callback) for callback in callbacks]
    weights = {"sample_weight": sample_weight, "class_weight": class_weight}
    data = open_data(model, x, y, loss, **weights, steps=steps_per_epoch, repeated=True)
    if data.samples is not None:
        check_drop_last(drop_last, data.samples, batch_size)
    validation = None if validation_data is None else _validation(model, validation_data, loss)
    check_metrics(metrics, validation is not None)
    saved = read(resume, hooks)
    step = Step(model, loss, bound(optimizer, model), data.layout)
    show = shown(progress, epochs)
    run = _Run(
        step,
        Pass(step, data, loss, step, batch_size, drop_last),
        None if validation is None else evaluation(model, validation, loss, _EVALUATED_AT_ONCE),
        dict(metrics or {}),
        hooks,
        _start_random(model, seed),
        shuffle,
        show,
    )
    options = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last, "seed": seed}
    if saved is not None or any(isinstance(hook, Checkpoint) for hook in hooks):
        run.kind = described(step, data, validation, {**options, "steps_per_epoch": steps_per_epoch})
    model.zero_grad()  # an earlier step may have been broken off half-way
    try:
        run.begin(saved)
        while run.history.epochs < epochs and not run.stopped:
            run.epoch(epochs)
    except KeyboardInterrupt:
        _interrupted(model, run.history)
    finally:
        show.close()
    for hook in hooks:
        hook.on_train_end(model, run.history)
    return run.history


def evaluate(
    model: Layer,
    x: Any,
    y: Any = None,
    *,
    loss: Loss | None = None,
    batch_size: int = 256,
    drop_last: bool = False,
    sample_weight: Any = None,
) -> dict[str, float]:
    """``{"loss": …, "accuracy": …}``, means over the samples, dropout off; a loss without labels has no accuracy.

    x, y, loss: as in `fit`, with the same checks and errors. batch_size: how many samples are computed at a time.
    drop_last: leave out the last batch if it is smaller than the others.
    sample_weight: (N,) numbers of at least 0; the loss is then a weighted mean. The accuracy is not.
    """
    check_model(model)
    loss = check_loss(loss)
    check_whole("batch_size", batch_size, 1)
    data = open_data(model, x, y, loss, sample_weight=sample_weight)
    if data.samples is not None:
        check_drop_last(drop_last, data.samples, batch_size)
    return evaluation(model, data, loss, batch_size, drop_last).means()


class _Run:
    """A training, as far as it has come."""

    def __init__(
        self,
        step: Step,
        training: Pass,
        validating: Pass | None,
        metrics: dict[str, Metric],
        hooks: list[Callback],
        rng: np.random.Generator,
        shuffle: bool,
        show: Silent,
    ) -> None:
        self.step, self.training, self.validating, self.metrics = step, training, validating, metrics
        self.hooks, self.rng, self.shuffle, self.show = hooks, rng, shuffle, show
        self.listening = [hook for hook in hooks if type(hook).on_batch_end is not Callback.on_batch_end]
        self.checkpoints = [hook for hook in hooks if isinstance(hook, Checkpoint)]
        self.kind: dict[str, Any] = {}  #: what a run that goes on from its checkpoint must have in common with it
        self.history = History()
        self.updates = 0  #: batches of all epochs
        self.stopped = False
        self._means = Means(step.loss)  # of the epoch in progress
        self._random: Any = None  # the generator as it was when the epoch began
        self._seconds = 0.0  # of training in this epoch

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Call the callbacks; go on where a checkpoint was written."""
        if saved is not None:
            self._load(saved)
        for hook in self.hooks:
            hook.on_train_begin(self.step.model, self.history)
        if saved is not None:
            for (_, hook), (_, state) in zip(self._remembering(), saved["callbacks"], strict=True):
                hook.load_state_dict(state)
            self.step.optimizer.load_state_dict(saved["optimizer"])  # the last: learning rates are as they were

    def epoch(self, epochs: int) -> None:
        """Train for an epoch, or for the rest of one, and measure it."""
        known = self.training.obstacle
        self._train()
        means, after = self._means.values(), self._validate()
        if self.training.obstacle != known:
            warnings.warn(f"fit: steps run from Python, which is slower: {self.training.obstacle}", stacklevel=3)
        self.history._add(means, after, self._seconds)
        if not np.isfinite(means["loss"]):
            warnings.warn(f"fit: the loss is {means['loss']}; a smaller learning rate may help", stacklevel=3)
        self.show.end({**means, **{f"val_{name}": value for name, value in after.items()}}, self._seconds)
        self._means, self._seconds = Means(self.step.loss), 0.0
        ends = [hook.on_epoch_end(self.step.model, self.history) for hook in self.hooks]  # every hook is called
        self.stopped = any(_is_true(end) for end in ends)
        last = self.stopped or self.history.epochs >= epochs
        for checkpoint in self.checkpoints:
            if last or checkpoint.due_after_epoch(self.history.epochs):
                checkpoint.write(self.state_dict())

    def _train(self) -> None:
        self._random = self.rng.bit_generator.state
        samples = self.training.data.samples
        order = self.rng.permutation(samples) if self.shuffle and samples is not None else None
        start = time.perf_counter() - self._seconds
        number = self.history.epochs
        self.show.begin(number + 1, self.training.count, self._means.batches)
        batches = self.training.batches(self._means, order, number, not self.listening, self._most)
        for done, value in batches:
            self.updates += done
            self._seconds = time.perf_counter() - start
            self.show.batches(done, self._means)
            for hook in self.listening:
                hook.on_batch_end(self.step.model, self._means.batches - 1, value)
            for checkpoint in self.checkpoints:
                if checkpoint.due(self.updates):
                    checkpoint.write(self.state_dict())

    def _most(self) -> int:
        """After how many batches more a checkpoint is due."""
        return min((checkpoint.batches_left(self.updates) for checkpoint in self.checkpoints), default=sys.maxsize)

    def _validate(self) -> dict[str, float]:
        if self.validating is None:
            return {}
        found = self.validating.means(self.history.epochs)
        if self.metrics:
            y_true, y_pred = self.validating.predictions(self.step.model, self.history.epochs)
            found.update({name: float(metric(y_true, y_pred)) for name, metric in self.metrics.items()})
        return found

    def state_dict(self) -> dict[str, Any]:
        """All on which the rest of the run depends."""
        parameters = self.step.model.named_parameters()
        return {
            "kind": self.kind,
            "model": model_arrays(self.step.model),
            "frozen": [name for name, p in parameters if not p.requires_grad],
            "optimizer": self.step.optimizer.state_dict(),
            "callbacks": [(name, hook.state_dict()) for name, hook in self._remembering()],
            "random": self.rng.bit_generator.state if self._means.batches == 0 else self._random,
            "means": self._means.state_dict(),
            "seconds": self._seconds,
            "updates": self.updates,
            "stopped": self.stopped,
            "history": self.history.as_dict(),
        }

    def _remembering(self) -> list[tuple[str, Callback]]:
        """The callbacks that have something to remember."""
        return [(type(hook).__name__, hook) for hook in self.hooks if hook.state_dict()]

    def _load(self, saved: dict[str, Any]) -> None:
        """All but what the callbacks and the optimizer remember."""
        check_kind(saved["kind"], self.kind)
        check_kind(
            {"callbacks": [n for n, _ in saved["callbacks"]]}, {"callbacks": [n for n, _ in self._remembering()]}
        )
        load_arrays(self.step.model, saved["model"])
        for name, p in self.step.model.named_parameters():
            if p.requires_grad == (name in saved["frozen"]):
                p.requires_grad = name not in saved["frozen"]
        self.rng.bit_generator.state = saved["random"]
        self._means.load_state_dict(saved["means"])
        self._seconds, self.updates, self.stopped = saved["seconds"], saved["updates"], saved["stopped"]
        self.history = History(**saved["history"])


def _validation(model: Layer, given: Any, loss: Loss) -> Data:
    """What `validation_data` holds."""
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        x, y, weight = (*given, None)[:3]
        return open_data(model, x, y, loss, sample_weight=weight, prefix="validation ", repeated=True)
    if isinstance(given, tuple | list | np.ndarray) or not (callable(given) or hasattr(given, "__iter__")):
        raise ValueError(f"validation_data: expected a pair (x, y), or batches, got {type(given).__name__}")
    return open_data(model, given, None, loss, prefix="validation ")


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
