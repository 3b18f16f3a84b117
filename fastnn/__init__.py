"""fastnn: small neural networks, trained and run fast on a CPU."""

from . import data, init
from ._errors import DTypeError, ShapeError
from ._kernels import get_num_threads, set_num_threads, use_backend
from .callbacks import BestModel, Callback, CSVLogger, EarlyStopping
from .checkpoint import CheckpointError, load, save
from .gradcheck import GradientError, gradcheck, numerical_gradient
from .history import History
from .init import manual_seed
from .layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Cutout,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    Linear,
    MaxPool2d,
    Parallel,
    Parameter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
    ReLU,
    Residual,
    Sequential,
    fold_batch_norm,
    register,
)
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
from .resume import Checkpoint
from .step import CapturedStep, CaptureError, capture
from .training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BestModel",
    "CSVLogger",
    "Callback",
    "CaptureError",
    "CapturedStep",
    "Checkpoint",
    "CheckpointError",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Cutout",
    "DTypeError",
    "Dropout",
    "EarlyStopping",
    "Flatten",
    "GradientError",
    "History",
    "HuberLoss",
    "JointLoss",
    "L1Loss",
    "L2Penalty",
    "Layer",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "MultiMarginLoss",
    "NLLLoss",
    "Parallel",
    "Parameter",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "ReLU",
    "Residual",
    "Sequential",
    "ShapeError",
    "capture",
    "data",
    "evaluate",
    "fit",
    "fold_batch_norm",
    "get_num_threads",
    "gradcheck",
    "init",
    "load",
    "manual_seed",
    "numerical_gradient",
    "register",
    "save",
    "set_num_threads",
    "use_backend",
]
