"""Losses: ``forward(scores, target)`` returns the loss and a function that returns its gradient."""

from .classes import CrossEntropyLoss, MultiMarginLoss, NLLLoss
from .combined import JointLoss, L2Penalty
from .loss import Loss
from .pointwise import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "JointLoss",
    "L1Loss",
    "L2Penalty",
    "Loss",
    "MSELoss",
    "MultiMarginLoss",
    "NLLLoss",
]
