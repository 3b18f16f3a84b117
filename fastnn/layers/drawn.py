"""What layers with random bits of their own have in common."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .. import init
from .layer import Layer


class Drawn(Layer):
    """Base of layers whose random bits are a function of (seed, layer, step, index), by the Philox4x32-10 generator.

    They depend neither on threads nor on the order in memory. `manual_seed` and the seed of `fit` set the first; each
    call in training, which takes its bits by ``k.next_key(self.state)``, is a step.
    """

    def __init__(self) -> None:
        self.state = np.zeros(3, np.uint64)
        self.reseed(*init.next_stream())

    def reseed(self, seed: int, layer: int) -> None:
        """Begin a new sequence: step 0 of this seed and layer number."""
        self.state[:] = seed % 2**64, layer, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Drawn:
        """A copy draws other bits than its original; a pickled one goes on with the same."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        for name, value in self.__getstate__().items():
            object.__setattr__(made, name, copy.deepcopy(value, memo))
        made.reseed(*init.next_stream())
        return made
