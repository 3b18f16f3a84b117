"""PyTorch's kernels: for each row of the table the operator that does the same and no more, by family."""

from . import losses, moves, pointwise, pooling, products, rows, updates
from .tensors import Make

_FAMILIES = (products, pooling, pointwise, rows, losses, updates, moves)

#: By the row's name, what makes a function without arguments of a call and a memory format.
KERNELS: dict[str, Make] = {name: make for family in _FAMILIES for name, make in family.KERNELS.items()}

__all__ = ["KERNELS"]
