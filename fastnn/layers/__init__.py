"""Layers: one family a file. A layer owns parameters and wires kernels; it does no arithmetic of its own."""

from .activation import ReLU
from .augment import Cutout, RandomCrop, RandomHorizontalFlip, RandomShift
from .branches import Parallel, Residual
from .containers import Sequential
from .conv import Conv2d, ConvTranspose2d
from .dropout import Dropout
from .fold import fold_batch_norm
from .layer import Layer, register
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d, LayerNorm
from .parameter import Parameter
from .pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .shape import Flatten

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Cutout",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Parallel",
    "Parameter",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "ReLU",
    "Residual",
    "Sequential",
    "fold_batch_norm",
    "register",
]
