"""Layers: one family a file. A layer owns parameters and wires kernels; it does no arithmetic of its own."""

from .activation import ReLU
from .containers import Sequential
from .conv import Conv2d
from .dropout import Dropout
from .layer import Layer, register
from .linear import Linear
from .parameter import Parameter
from .pooling import MaxPool2d
from .shape import Flatten

__all__ = [
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "register",
]
