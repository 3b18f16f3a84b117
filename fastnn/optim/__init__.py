"""Optimizers: each update is one pass over the flat buffers in which parameters and gradients lie."""

from .adaptive import Adagrad, Adam, AdamW, RMSprop
from .clipping import clip_grad_norm_, clip_grad_value_
from .optimizer import Group, Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Group", "Optimizer", "RMSprop", "clip_grad_norm_", "clip_grad_value_"]
