"""Optimizers with a rate of its own for each number: RMSprop, Adagrad, Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _kernels as k
from .optimizer import Optimizer, Params


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), as PyTorch's RMSprop computes it:

    g = grad + weight_decay · p; s = alpha · s + (1 - alpha) · g²; with centered, m = alpha · m + (1 - alpha) · g and
    s - m² takes the place of s; buffer = momentum · buffer + g / (√s + eps); p -= lr · buffer. maximize climbs instead.
    """

    kernel = k.rmsprop

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )

    def _check(self, options: Mapping[str, Any]) -> None:
        self._check_least(options, "lr", "alpha", "eps", "weight_decay", "momentum")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        return [group[name] for name in ("lr", "momentum", "alpha", "eps", "weight_decay", "maximize")]

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        return {
            "square_avg": 0.0,
            "grad_avg": 0.0 if group["centered"] else None,
            "momentum_buffer": 0.0 if group["momentum"] else None,
        }


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011), as PyTorch's Adagrad computes it:

    g = grad + weight_decay · p; sum += g², which begins with initial_accumulator_value;
    p -= lr / (1 + steps taken · lr_decay) · g / (√sum + eps). maximize climbs instead.
    """

    kernel = k.adagrad
    _needs_state = True

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )

    def _check(self, options: Mapping[str, Any]) -> None:
        self._check_least(options, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        return [group[name] for name in ("lr", "lr_decay", "weight_decay", "eps", "maximize")]

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        return {"sum": float(group["initial_accumulator_value"])}


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980), as PyTorch's Adam computes it:

    g = grad + weight_decay · p; m = β₁ · m + (1 - β₁) · g; v = β₂ · v + (1 - β₂) · g²; in step t
    p -= lr · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + eps). amsgrad takes the largest v so far; maximize climbs instead.
    decoupled_weight_decay: p shrinks by the factor 1 - lr · weight_decay in place of the term in g, as in `AdamW`.
    bias_correction: False leaves 1 - β₁ᵗ and 1 - β₂ᵗ out.
    """

    kernel = k.adam

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=decoupled_weight_decay,
            bias_correction=bias_correction,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )

    def _check(self, options: Mapping[str, Any]) -> None:
        self._check_least(options, "lr", "eps", "weight_decay")
        betas = options["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: expected two betas from 0 to below 1, got {betas!r}")

    def _options(self, group: Mapping[str, Any]) -> list[float]:
        names = ("eps", "weight_decay", "decoupled_weight_decay", "maximize", "bias_correction")
        return [group["lr"], *group["betas"], *(group[name] for name in names)]

    def _buffers(self, group: Mapping[str, Any]) -> dict[str, float | None]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0, "max_exp_avg_sq": 0.0 if group["amsgrad"] else None}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), as PyTorch's AdamW computes it:

    p shrinks by the factor 1 - lr · weight_decay before each update; the rest is `Adam`.
    """

    def __init__(
        self,
        params: Params | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            bias_correction=bias_correction,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
