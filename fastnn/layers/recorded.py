"""What a `Replayer` has to know of a model: what its kernel calls depend on, and where they come from."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any
from weakref import ref

import numpy as np

from .. import _kernels as k
from .._kernels import Array, kernel
from .._kernels.replay import Replayer
from .layer import Layer
from .parameter import Parameter


class ModelContext:
    """A model, to which it holds no reference: what holds this may belong to the model."""

    def __init__(self, model: Layer) -> None:
        self._model = ref(model)

    @property
    def model(self) -> Layer:
        """The model, which is there as long as it is asked for anything."""
        model = self._model()
        assert model is not None
        return model

    def signature(self) -> list[Any]:
        """Everything about the model that decides which kernels it calls and on what."""
        found: list[Any] = [k.get_num_threads()]
        for layer in self.model.modules():
            found.append(ref(layer))
            for name, value in vars(layer).items():
                if name == "_replayer":
                    continue
                found += (name, value)
                if isinstance(value, Parameter):
                    found += (value.data, value.grad, value.requires_grad)
        return found

    def memory(self) -> list[Array]:
        """Arrays that kernels may read although no kernel of a call wrote them: nothing else changes them unseen."""
        parameters = (a for p in self.model.parameters() for a in (p.data, p.grad))
        return [*parameters, *(buffer for _, buffer in self.model.named_buffers())]

    def own_arrays(self) -> list[tuple[str, Array]]:
        """Arrays of layers beside the parameters, which only kernels may change, with where they are."""
        return [
            (f"{layer.label}.{name}", value)
            for layer in self.model.modules()
            for name, value in vars(layer).items()
            if isinstance(value, np.ndarray)
        ]

    def refresh(self) -> None:
        """Nothing that kernels read has to be brought up to date."""

    def ready(self) -> bool:
        """Nothing is under way with which the next run would go on."""
        return True

    @property
    def replays(self) -> bool:
        """Whether all layers may be replayed."""
        return all(layer.replays for layer in self.model.modules())


def caller() -> str:
    """The label of the layer, or the class of the loss or optimizer, that calls a kernel now: from the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != Replayer.__module__:  # which called all of this
        for found in frame.f_locals.values():
            if isinstance(found, Layer) and not found.is_container:
                return found.label
            if getattr(type(found), "names_calls", False):
                return type(found).__name__
        frame = frame.f_back
    return ""


kernel.where = caller
