"""fastnn: small neural networks, trained and run fast on a CPU."""

from . import data
from ._errors import DTypeError, ShapeError
from ._kernels import get_num_threads, set_num_threads, use_backend
from .callbacks import Callback
from .checkpoint import CheckpointError, load, save
from .gradcheck import GradientError, gradcheck, numerical_gradient
from .history import History
from .init import manual_seed
from .layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, Parameter, ReLU, Sequential, register
from .losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    JointLoss,
    L1Loss,
    L2Penalty,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
)
from .optim import SGD
from .step import CapturedStep, CaptureError, capture
from .training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "BCEWithLogitsLoss",
    "Callback",
    "CaptureError",
    "CapturedStep",
    "CheckpointError",
    "Conv2d",
    "CrossEntropyLoss",
    "DTypeError",
    "Dropout",
    "Flatten",
    "GradientError",
    "History",
    "HuberLoss",
    "JointLoss",
    "L1Loss",
    "L2Penalty",
    "Layer",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "MultiMarginLoss",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "ShapeError",
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
