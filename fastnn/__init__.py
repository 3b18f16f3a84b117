"""fastnn: small neural networks, trained and run on a CPU faster than any framework does."""

from ._errors import DTypeError, ShapeError
from ._kernels import get_num_threads, set_num_threads, use_backend
from .init import manual_seed
from .layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, Parameter, ReLU, Sequential
from .losses import CrossEntropyLoss
from .optim import SGD

__version__ = "0.1.0"
