"""Every optimizer beside PyTorch's. A line here puts one through all that tests/test_complete.py asks of optimizers:

name: (class name, arguments, arguments of PyTorch's if they are others)
"""

from __future__ import annotations

from typing import Any

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd with momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd with everything": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1, "maximize": True},
    ),
}
