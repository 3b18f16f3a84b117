"""Layers: one family a file. A layer owns parameters and wires kernels; it does no arithmetic of its own."""

from .activation import ReLU
from .containers import Sequential
from .conv import Conv2d
from .dropout import Dropout
from .fold import fold_batch_norm
from .layer import Layer, register
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d, LayerNorm
from .parameter import Parameter
from .pooling import MaxPool2d
from .shape import Flatten

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "fold_batch_norm",
    "register",
]
