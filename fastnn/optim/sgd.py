"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _kernels as k
from .optimizer import Optimizer, Params


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's SGD computes it:

    g = grad + weight_decay · p; buffer = momentum · buffer + (1 - dampening) · g (in the first step: g);
    p -= lr · (g + momentum · buffer with Nesterov, else buffer). maximize climbs instead.
    """

    kernel = k.sgd

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )

    def scale_momentum(self, factor: float) -> None:
        """Multiply the momentum: by lr over a new lr, it goes on as momentum that had lr in it, as others keep it."""
        for state in self._state:
            if "momentum_buffer" in state:
                momentum = state["momentum_buffer"]
                momentum[...] = np.asarray(momentum) * factor  # which may be on a GPU

    def _check(self, options: Mapping[str, Any]) -> None:
        self._check_least(options, "lr", "momentum", "weight_decay")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        return [group[name] for name in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")]

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        return {"momentum_buffer": 0.0 if group["momentum"] else None}
