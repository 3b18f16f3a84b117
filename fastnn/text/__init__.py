"""Texts: tokens, batches of like lengths, and pretrained encoders."""

from .bucketing import batches
from .encoder import Encoder
from .pretrained import load_encoder
from .wordpiece import WordPiece

__all__ = ["Encoder", "WordPiece", "batches", "load_encoder"]
