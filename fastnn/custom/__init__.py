"""A user's own functions, number by number: layers, losses and optimizers, compiled by Numba where it is installed."""

from .elementwise import elementwise
from .loss import elementwise_loss
from .optimizer import elementwise_optimizer

__all__ = ["elementwise", "elementwise_loss", "elementwise_optimizer"]
