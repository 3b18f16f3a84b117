"""Every optimizer beside PyTorch's. A line here puts one through all that tests/test_complete.py asks of optimizers."""

from __future__ import annotations

from typing import Any

#: The class, which is PyTorch's name for it, too, and its options.
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1, "maximize": True}),
]
