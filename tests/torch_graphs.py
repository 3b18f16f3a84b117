"""PyTorch modules that return what ours do, with the same keys."""

from __future__ import annotations

from typing import Any


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


def sequence(recurrent: Any) -> Any:
    """A recurrent module that returns its output alone."""
    recurrent.register_forward_hook(lambda module, x, returned: returned[0])
    return recurrent


def last(recurrent: Any) -> Any:
    """A recurrent module that returns the last hidden states of its last layer, its directions side by side."""

    def beside(module: Any, x: Any, returned: Any) -> Any:
        h = returned[1][0] if isinstance(returned[1], tuple) else returned[1]
        return h[-2 if module.bidirectional else -1 :].transpose(0, 1).flatten(1)

    recurrent.register_forward_hook(beside)
    return recurrent
