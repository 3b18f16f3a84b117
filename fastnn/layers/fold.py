"""Models for inference: batch normalisation folded into the layer before it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from .containers import Sequential
from .conv import Conv2d
from .layer import Layer
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d
from .parameter import Parameter

#: Which layers, of exactly these types, have a normalisation after them that can be folded.
_PAIRS = ((Conv2d, BatchNorm2d), (Linear, BatchNorm1d))


def fold_batch_norm(model: Layer) -> Layer:
    """A copy of a model for inference, in which batch normalisation costs nothing.

    In each `Sequential`, nested ones too, a `BatchNorm2d` right after a `Conv2d`, and a `BatchNorm1d` right after a
    `Linear`, which has to be given x (N, in_features), is gone: with scale = weight / sqrt(running_var + eps), the
    layer before it has its weights times scale, and as bias (bias - running_mean) scale + the normalisation's bias,
    computed in float64. Evaluated, the copy gives what the model gives, up to rounding. A normalisation without running
    statistics stays, and so does one that is used at several places, or after a layer that is. Numbered layers are
    numbered anew.
    """
    device = model.device
    model = copy.deepcopy(model).to("cpu")
    uses = Counter(id(part) for layer in model.modules() for part in (layer, *vars(layer).values()))
    for chain in list(model.modules()):
        if isinstance(chain, Sequential) and _is_chain(chain):
            for (_, layer), (owner, norm) in pairwise(list(_in_order(chain))):
                if _fold(layer, norm, uses):
                    owner.remove(norm)
    return model.to(device)


def _is_chain(layer: Sequential) -> bool:
    """Whether it computes its layers one after the other, as a subclass may not."""
    return type(layer).forward is Sequential.forward and "forward" not in vars(layer)


def _in_order(chain: Sequential) -> Iterator[tuple[Sequential, Layer]]:
    """The layers in the order in which they compute, each with the chain that holds it."""
    for layer in chain:
        if isinstance(layer, Sequential) and _is_chain(layer):
            yield from _in_order(layer)
        else:
            yield chain, layer


def _fold(layer: Layer, norm: Layer, uses: Counter[int]) -> bool:
    """Let a layer compute what it does with the normalisation after it; False where that cannot be."""
    if not isinstance(layer, Conv2d | Linear) or not isinstance(norm, BatchNorm1d | BatchNorm2d):
        return False
    if (type(layer), type(norm)) not in _PAIRS:
        return False
    assert isinstance(layer, Conv2d | Linear) and isinstance(norm, BatchNorm1d | BatchNorm2d)
    mean, var, bias = norm.running_mean, norm.running_var, layer.bias
    parts = layer, norm, layer.weight, *([] if bias is None else [bias])
    channels = len(layer.weight.data)
    if mean is None or var is None or channels != norm.num_features or any(uses[id(part)] > 1 for part in parts):
        return False
    scale = 1 / np.sqrt(var.astype(np.float64) + norm.eps)
    if norm.weight is not None:
        scale *= norm.weight.data
    shift = (0 if bias is None else bias.data.astype(np.float64)) - mean
    shift = shift * scale + (0 if norm.bias is None else norm.bias.data)
    layer.weight.data[...] = layer.weight.data * scale.reshape(-1, *(1,) * (layer.weight.data.ndim - 1))
    if bias is None:
        layer.bias = Parameter(shift.astype(layer.weight.dtype))
    else:
        bias.data[...] = shift
    return True
