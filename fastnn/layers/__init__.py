"""Layers: one family a file. A layer owns parameters and wires kernels; it does no arithmetic of its own."""

from .activation import ELU, GELU, Identity, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .attention import MultiheadAttention
from .augment import Cutout, RandomCrop, RandomHorizontalFlip, RandomShift
from .bert import BertModel
from .branches import Parallel, Residual
from .containers import Sequential
from .conv import Conv2d, ConvTranspose2d
from .dropout import Dropout, Dropout2d
from .embedding import Embedding
from .fold import fold_batch_norm
from .layer import Layer, register
from .linear import Linear
from .linear_attention import LinearAttention, LowRankAttention
from .norm import BatchNorm1d, BatchNorm2d, LayerNorm
from .padded import Padded
from .parameter import Parameter
from .pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .recurrent import GRU, LSTM, RNN
from .shape import Flatten, Unflatten
from .transformer import TransformerEncoderLayer

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BertModel",
    "Conv2d",
    "ConvTranspose2d",
    "Cutout",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LinearAttention",
    "LogSoftmax",
    "LowRankAttention",
    "MaxPool2d",
    "MultiheadAttention",
    "Padded",
    "Parallel",
    "Parameter",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomShift",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerEncoderLayer",
    "Unflatten",
    "fold_batch_norm",
    "register",
]
