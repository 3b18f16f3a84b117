"""PyTorch itself, typed as Any since it need not be installed where this is checked, and a call's arrays for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from fastnn._kernels import Array

from ..inputs import Call

torch: Any = import_module("torch")
aten: Any = torch.ops.aten
Tensor = Any
Make = Callable[[Call, Any], Callable[[], Any]]  #: from a call and a memory format to a function without arguments


def tensor(a: Array, memory_format: Any = None) -> Tensor:
    """The array as a tensor, sharing its memory unless images lie otherwise than the format says."""
    t = torch.from_numpy(a)
    return t.contiguous(memory_format=memory_format) if memory_format is not None and a.ndim == 4 else t


def tensors(call: Call, memory_format: Any) -> list[Tensor]:
    """The inputs of a call."""
    return [None if a is None else tensor(a, memory_format) for a in call.inputs]


def out(call: Call) -> list[Tensor]:
    """The arrays that receive its results."""
    return [torch.from_numpy(a) for a in call.targets]
