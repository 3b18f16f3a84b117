"""Batches of sequences that are about as long as each other, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .._errors import ShapeError
from .._kernels import Array


def batches(lengths: Sequence[int] | Array, batch_size: int, rng: np.random.Generator | None = None) -> list[Array]:
    """Which sequences go together: arrays of their indices, `batch_size` of them in each, fewer in one.

    lengths: (N,) whole numbers. rng: draws the order of the batches, and which of equally long sequences go together;
    None leaves the shortest first. Raises `ShapeError`, ValueError, TypeError.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batches: expected batch_size as a whole number of at least 1, got {batch_size!r}")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"batches: expected rng as numpy.random.Generator or None, got {type(rng).__name__}")
    order = by_length(lengths, rng)
    cut = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if rng is not None:
        cut = [cut[i] for i in rng.permutation(len(cut))]
    return cut


def of_tokens(lengths: Sequence[int] | Array, tokens_at_once: int) -> Iterator[Array]:
    """The same, but as many sequences at a time as have so many tokens, padding included; one at least. Longest first.

    So the first batch takes the most memory, and what is too much fails at once.
    """
    if isinstance(tokens_at_once, bool) or not isinstance(tokens_at_once, int | np.integer) or tokens_at_once < 1:
        raise ValueError(f"expected tokens_at_once as a whole number of at least 1, got {tokens_at_once!r}")
    order, lengths = by_length(lengths)[::-1], np.asarray(lengths)
    while len(order):
        count = max(1, int(tokens_at_once) // max(1, int(lengths[order[0]])))
        yield order[:count]
        order = order[count:]


def by_length(lengths: Sequence[int] | Array, rng: np.random.Generator | None = None) -> Array:
    """The indices of all sequences, the shortest first; of equally long ones in their order, or as rng draws it."""
    found = np.asarray(lengths)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ShapeError(f"expected lengths as whole numbers (N,), got {found.shape} {found.dtype}")
    order = np.arange(len(found)) if rng is None else rng.permutation(len(found))
    by: Array = order[np.argsort(found[order], kind="stable")]
    return by
