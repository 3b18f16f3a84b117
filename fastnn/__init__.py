"""fastnn: small neural networks, trained and run fast on a CPU."""

from . import data
from ._errors import DTypeError, ShapeError
from ._kernels import get_num_threads, set_num_threads, use_backend
from .callbacks import Callback
from .checkpoint import CheckpointError, load, save
from .clipping import clip_grad_norm_, clip_grad_value_
from .gradcheck import GradientError, gradcheck, numerical_gradient
from .history import History
from .init import manual_seed
from .layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, Parameter, ReLU, Sequential, register
from .losses import CrossEntropyLoss
from .optim import SGD, Adagrad, Adam, AdamW, RMSprop
from .schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
)
from .step import CapturedStep, CaptureError, capture
from .training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Callback",
    "CaptureError",
    "CapturedStep",
    "CheckpointError",
    "Conv2d",
    "CosineAnnealingLR",
    "CrossEntropyLoss",
    "DTypeError",
    "Dropout",
    "ExponentialLR",
    "Flatten",
    "GradientError",
    "History",
    "LambdaLR",
    "Layer",
    "Linear",
    "LinearLR",
    "MaxPool2d",
    "MultiStepLR",
    "OneCycleLR",
    "Parameter",
    "RMSprop",
    "ReLU",
    "ReduceLROnPlateau",
    "Schedule",
    "Sequential",
    "SequentialLR",
    "ShapeError",
    "StepLR",
    "capture",
    "clip_grad_norm_",
    "clip_grad_value_",
    "data",
    "evaluate",
    "fit",
    "get_num_threads",
    "gradcheck",
    "load",
    "manual_seed",
    "numerical_gradient",
    "register",
    "save",
    "set_num_threads",
    "use_backend",
]
