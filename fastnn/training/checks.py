"""The checks of what `fit` and `evaluate` are given, each a clear error that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arrays import as_array, check_finite
from .._errors import ShapeError
from ..layers import Layer
from ..layers.layer import as_input
from ..layers.padded import joined, placed, split
from ..losses import CrossEntropyLoss, Loss
from ..losses.loss import check_loss
from ..optim import SGD, Optimizer


def check_model(model: Any) -> None:
    if not isinstance(model, Layer):
        raise TypeError(f"model: expected a layer or model, got {type(model).__name__}")


def check_samples_first(model: Layer) -> None:
    """Raise ValueError, naming the layer, for a model that takes sequences by steps, of which no batch can be cut."""
    for layer in model.modules():
        if not getattr(layer, "batch_first", True):
            raise ValueError(f"{layer.label}: expected batch_first=True in a model that is given samples one by one")


def as_loss(loss: Any) -> Loss:
    """The loss, by default `CrossEntropyLoss`."""
    return CrossEntropyLoss() if loss is None else check_loss(loss, "loss")


def check_optimizer(optimizer: Optimizer | None, model: Layer) -> Optimizer:
    """The optimizer, by default SGD, which has the model's parameters now if it had none; for `fit` and `capture`."""
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


def check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def check_metrics(metrics: Any) -> None:
    if metrics is None:
        return
    if not isinstance(metrics, Mapping) or not all(
        isinstance(name, str) and callable(f) for name, f in metrics.items()
    ):
        raise TypeError(f"metrics: expected functions (y_true, y_pred) by name, got {metrics!r}")
    taken = {"loss", "accuracy"} & metrics.keys()
    if taken:
        raise ValueError(f"metrics: {', '.join(sorted(taken))} is measured anyway, find another name")


def check_drop_last(drop_last: bool, samples: int, batch_size: int) -> None:
    if drop_last and samples < batch_size:
        raise ValueError(f"drop_last: {samples} samples are fewer than batch_size={batch_size}, so no batch is left")


def check_x(model: Layer, x: Any, what: str) -> Any:
    """Samples in the model's dtype and contiguous, at least one, all numbers finite; `Padded` if x is."""
    values, lengths = split(x)
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the next check names
        samples, lengths = split(as_input(joined(as_array(values, what), lengths), model, what))
    if samples.ndim < 1 or samples.size == 0:
        raise ShapeError(f"{what}: expected at least one sample, got shape {samples.shape}")
    check_finite(samples, what)
    return joined(np.require(samples, requirements=("C", "A")), lengths)  # then gathering a batch need not copy all


def scores_of_one(model: Layer, x: Any, what: str = "x") -> Any:
    """The model's output for the first sample; shapes that do not fit are found here."""
    device = model.device
    try:
        return split(model(placed(x[:1], device)))[0]
    except ShapeError as error:
        raise ShapeError(f"{what}: it does not fit the model: {error}") from error
    except ValueError:  # normalised by statistics of its batch, which one sample does not have
        if len(x) == 1:
            raise
        y = split(model(placed(x[:2], device)))[0]
        return tuple(head[:1] for head in y) if isinstance(y, tuple) else y[:1]
