"""Rows of a table by their index."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def embedding_backward(dy: Array, index: Array, num_embeddings: int, padding_idx: int) -> Array:
    """dW[m] = Σ dy[b] over all b with index[b] = m, in the order of b; dW[padding_idx] stays 0.

    Indices outside of 0 to num_embeddings - 1 count for nothing; a padding_idx of -1 is none.
    dy: (B, D), index: (B,) int64. Returns dweight: (num_embeddings, D).
    """
    dweight = np.zeros((num_embeddings, dy.shape[1]), dy.dtype)
    known = (index >= 0) & (index < num_embeddings) & (index != padding_idx)
    np.add.at(dweight, index[known], dy[known])
    return dweight
