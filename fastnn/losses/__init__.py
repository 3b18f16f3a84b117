"""Losses: ``forward(scores, target)`` returns the loss and a function that returns its gradient."""

from .classes import CrossEntropyLoss, MultiMarginLoss, NLLLoss
from .combined import JointLoss, L2Penalty
from .loss import KernelLoss, Loss, LossBackward, computed, counted, is_mean, mean_weights, options_of
from .pointwise import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss
from .targets import check_labels, check_range, targets_of

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "JointLoss",
    "KernelLoss",
    "L1Loss",
    "L2Penalty",
    "Loss",
    "LossBackward",
    "MSELoss",
    "MultiMarginLoss",
    "NLLLoss",
    "check_labels",
    "check_range",
    "computed",
    "counted",
    "is_mean",
    "mean_weights",
    "options_of",
    "targets_of",
]
