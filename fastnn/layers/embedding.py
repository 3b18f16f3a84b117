"""Layers that look things up."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _kernels as k
from .. import init
from .._arrays import check_range
from .._errors import DTypeError
from .._kernels import Array
from .layer import Backward, Layer, check_gradient, contiguous, register
from .parameter import Parameter


@register
class Embedding(Layer):
    """y = weight[x], for indices x of any shape (…) in int64; y (…, embedding_dim).

    weight: (num_embeddings, embedding_dim), drawn from the standard normal distribution, as PyTorch draws it.
    padding_idx: an index, from the end if negative, whose row begins as zeros and gets no gradient.
    dtype: ``"float32"`` or ``"float64"``.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype: str = "float32"
    ) -> None:
        init.check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = int(num_embeddings), int(embedding_dim)
        self.padding_idx = self._row(padding_idx)
        self.weight = Parameter(init.normal((self.num_embeddings, self.embedding_dim), dtype))
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def _row(self, index: int | None) -> int | None:
        if index is None:
            return None
        whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
        if not whole or not -self.num_embeddings <= index < self.num_embeddings:
            raise ValueError(f"Embedding: expected padding_idx as one of {self.num_embeddings} indices, got {index!r}")
        return int(index) % self.num_embeddings

    @property
    def vocabulary(self) -> int:
        """How many indices there are."""
        return self.num_embeddings

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("num_embeddings", "embedding_dim", "padding_idx", "dtype")
        return {name: getattr(self, name) for name in names}

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape, int64. Raises `DTypeError`, and ValueError for an index that is not there.

        In a replay nothing is checked: such an index then gives NaN, and gets no gradient. Its own gradient, as x has
        none, is None.
        """
        if not k.is_array(x) or x.dtype != np.int64:
            found = x.dtype if k.is_array(x) else type(x).__name__
            raise DTypeError(f"{self.label}: expected an array of indices as int64, got {found}")
        check_range(np.asarray(x), self.num_embeddings, self.label, "indices")
        index = contiguous(x).reshape(-1)
        y = k.gather_rows(self.weight.data, index)

        def backward(dy: Array, need_dx: bool = True) -> None:
            check_gradient(self, dy, (*x.shape, self.embedding_dim))
            target = self.weight.target()
            if target is not False:
                rows = contiguous(dy).reshape(-1, self.embedding_dim)
                padding = -1 if self.padding_idx is None else self.padding_idx
                k.embedding_backward(rows, index, num_embeddings=self.num_embeddings, padding_idx=padding, out=target)

        return y.reshape(*x.shape, self.embedding_dim), backward
