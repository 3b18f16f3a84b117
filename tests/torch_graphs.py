"""PyTorch modules like `Residual` and `Parallel`, with the same keys."""

from __future__ import annotations

from typing import Any

import pytest


def residual(nn: Any, body: Any, shortcut: Any = None, activation: Any = None) -> Any:
    """A module that adds what goes around its body."""

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body, self.shortcut, self.activation = body, shortcut, activation

        def forward(self, x: Any) -> Any:
            y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
            return y if self.activation is None else self.activation(y)

    return Residual()


def parallel(nn: Any, *branches: Any, mode: str = "sum", dim: int = 1) -> Any:
    """A module of branches on the same input."""
    import torch

    class Parallel(nn.ModuleList):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            outputs = [branch(x) for branch in self]
            if mode == "sum":
                return sum(outputs[1:], outputs[0])
            return torch.cat(outputs, dim) if mode == "concatenate" else tuple(outputs)

    return Parallel(branches)


def bert(add_pooling_layer: bool, **config: Any) -> Any:
    """Hugging Face's model, of which only the states come."""
    transformers = pytest.importorskip("transformers")

    class States(transformers.BertModel):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return super().forward(x).last_hidden_state

    made = transformers.BertConfig(**config, attn_implementation="eager")
    return States(made, add_pooling_layer=add_pooling_layer)
