"""Scaled dot-product attention (Vaswani et al. 2017, "Attention is all you need", equation 1), and masks of keys."""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def _split(x: Array, heads: int) -> Array:
    """(N, T, E) as (N, heads, T, E / heads)."""
    N, T, E = x.shape
    return x.reshape(N, T, heads, E // heads).transpose(0, 2, 1, 3)


def _join(x: Array) -> Array:
    """(N, heads, T, D) as (N, T, heads * D)."""
    N, heads, T, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(N, T, heads * D)


def _scores(q: Array, key: Array, mask: Array | None, heads: int, causal: bool) -> Array:
    """q keyᵀ / sqrt(E / heads) of each head, -inf where a key may not be attended: (N, heads, T, S)."""
    (N, T, E), S = q.shape, key.shape[1]
    scores = _split(q, heads) @ _split(key, heads).swapaxes(2, 3) * q.dtype.type((E // heads) ** -0.5)
    allowed = np.ones((N, 1, T, S), bool)
    if mask is not None:
        allowed &= mask[:, None, None, :]
    if causal:
        allowed &= np.tri(T, S, dtype=bool)
    return np.where(allowed, scores, -np.inf).astype(q.dtype)


def attention(q: Array, key: Array, value: Array, mask: Array | None, heads: int, causal: bool) -> tuple[Array, Array]:
    """y = softmax(q keyᵀ / sqrt(E / heads)) value in each head, over the keys that may be attended.

    These are the keys whose mask is True, and with `causal` of them those that come no later than the query. A query
    that may attend to none gets zeros (in PyTorch NaN), and a logsumexp of -inf.
    q: (N, T, E), key, value: (N, S, E), mask: (N, S) bool or None for all.
    Returns y: (N, T, E), logsumexp: (N, heads, T), the logarithm of the sum of the exponentials of a query's scores.
    """
    scores = _scores(q, key, mask, heads, causal)
    top = scores.max(axis=3, keepdims=True, initial=-np.inf)
    top = np.where(top == -np.inf, 0, top)
    e = np.exp(scores - top)
    total = e.sum(axis=3, keepdims=True)
    y = np.where(total == 0, 0, (e / total)) @ _split(value, heads)
    return _join(y), (top + np.log(total))[..., 0]


def key_mask(lengths: Array, padding: Array | None, length: int) -> Array:
    """Which keys may be attended: those before the end of their sequence that are no padding.

    lengths: (N,) int64, padding: (N, length) bool, True for keys to ignore, or None. Returns mask: (N, length) bool.
    """
    mask: Array = np.arange(length) < lengths[:, None]
    return mask if padding is None else mask & ~padding
