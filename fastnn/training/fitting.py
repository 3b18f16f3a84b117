"""Training a model on data, and measuring it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import init
from .._files import StrPath
from ..layers import Layer
from ..losses import Loss
from ..optim import Optimizer
from .batches import Batches, Data, open_data
from .callbacks import Callback, as_callback
from .checks import (
    as_loss,
    check_drop_last,
    check_metrics,
    check_model,
    check_optimizer,
    check_samples_first,
    check_whole,
)
from .history import History
from .passes import Metric, Pass, evaluation
from .progress import shown
from .resume import Checkpoint, described, read
from .run import Run
from .step import Step

_EVALUATED_AT_ONCE = 256  # samples; as many in `fit` as in `evaluate`, so that both give the same bits


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
    progress: bool | str = False,
    steps_per_epoch: int | None = None,
    resume: StrPath | bool | None = None,
) -> History:
    """Train a model.

    x: (N, …) real numbers, finite, or `Padded`; converted once to the model's dtype. y: (N,) integers from 0 to
        classes-1, or what else the loss takes as targets. Data larger than memory come in two ways. A memory map, or
        any object with a length that takes slices and arrays of ascending indices, as x or y: each batch is read,
        checked and converted when its turn comes. Or batches (x, y) or (x, y, sample_weight) as x, without y: an
        iterable, or a function, called for each epoch (with its number from 0 if it takes one), that returns one; these
        come in their own order and size.
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
    progress: show a bar for each epoch (with tqdm installed, else a line), on stderr; a text names the training.
    steps_per_epoch: how many batches of an iterable make an epoch; None for all of them.
    resume: a file that a `Checkpoint` wrote, from which to go on to the same bits as if the run had never stopped; the
        other arguments must be those of that run (of data larger than memory only some samples are compared). True for
        the file of the `Checkpoint` among the callbacks, which need not be there yet.

    The first steps run from Python and are recorded; the others are replayed without it, to the same bits (see
    `capture`), unless a callback has an `on_batch_end`, the loss is not made of kernels, or something in the model is
    not, of which a warning tells.
    A model on a GPU (see `Layer.to`) is trained there, step by step from Python. Data in memory are copied there once
    if they take at most half of what is free, else batch by batch; losses are read at the end of an epoch and once a
    second.
    Ctrl-C ends the training with a warning and keeps what was learned.
    Raises `ShapeError`, `DTypeError`, ValueError or TypeError, naming the argument, before anything is trained (of data
    larger than memory: when the batch comes), and `CheckpointError`.
    """
    check_model(model)
    check_samples_first(model)
    loss = as_loss(loss)
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
    check_metrics(metrics)
    if metrics and validation is None:
        raise ValueError("metrics: they are measured on validation_data, of which there is none")
    if isinstance(validation, Batches) and validation.once and (epochs > 1 or metrics):
        raise ValueError(
            "validation_data: an iterator is over once it was gone through, but each epoch needs it, and metrics once "
            "more; a function that returns an iterator is called anew each time"
        )
    saved = read(resume, hooks)
    step = Step(model, loss, check_optimizer(optimizer, model), data.layout)
    run = Run(
        step,
        Pass(step, data, loss, step, batch_size, drop_last, device=model.device),
        None if validation is None else evaluation(model, validation, loss, _EVALUATED_AT_ONCE),
        dict(metrics or {}),
        hooks,
        _start_random(model, seed),
        shuffle,
        shown(progress, epochs),
    )
    options: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last, "seed": seed}
    if saved is not None or any(isinstance(hook, Checkpoint) for hook in hooks):
        options.update(steps_per_epoch=steps_per_epoch, metrics=sorted(metrics or ()))
        run.kind = described(step, data, validation, options)
    return run.train(epochs, saved)


def evaluate(
    model: Layer,
    x: Any,
    y: Any = None,
    *,
    loss: Loss | None = None,
    batch_size: int = 256,
    drop_last: bool = False,
    sample_weight: Any = None,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """``{"loss": …, "accuracy": …}``, means over the samples, dropout off; a loss without labels has no accuracy.

    x, y, loss: as in `fit`, with the same checks and errors. batch_size: how many samples are computed at a time.
    drop_last: leave out the last batch if it is smaller than the others.
    sample_weight: (N,) numbers of at least 0; the loss is then a weighted mean. The accuracy is not.
    metrics: functions (y_true, y_pred) by name, as in `fit`, whose results stand beside the two; the data are gone
        through twice then, so that batches may not come from an iterator that ends.
    """
    check_model(model)
    check_samples_first(model)
    loss = as_loss(loss)
    check_whole("batch_size", batch_size, 1)
    check_metrics(metrics)
    data = open_data(model, x, y, loss, sample_weight=sample_weight)
    if data.samples is not None:
        check_drop_last(drop_last, data.samples, batch_size)
    return evaluation(model, data, loss, batch_size, drop_last).measured(model, metrics or {})


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
