"""fastnn: small neural networks, trained and run fast on a CPU."""

from . import data
from ._errors import DTypeError, ShapeError
from ._kernels import get_num_threads, set_num_threads, use_backend
from .callbacks import Callback
from .checkpoint import CheckpointError, load, save
from .gradcheck import GradientError, gradcheck, numerical_gradient
from .history import History
from .init import manual_seed
from .layers import (
    ELU,
    GELU,
    Conv2d,
    Dropout,
    Dropout2d,
    Embedding,
    Flatten,
    Identity,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool2d,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    Unflatten,
    register,
)
from .losses import CrossEntropyLoss
from .optim import SGD
from .step import CapturedStep, CaptureError, capture
from .training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Callback",
    "CaptureError",
    "CapturedStep",
    "CheckpointError",
    "Conv2d",
    "CrossEntropyLoss",
    "DTypeError",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "GradientError",
    "History",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Unflatten",
    "capture",
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
