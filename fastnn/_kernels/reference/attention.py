"""Scaled dot-product attention (Vaswani et al. 2017, "Attention is all you need", equation 1), and masks of keys."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .dropout import dropout


def split_heads(x: Array, heads: int) -> Array:
    """(N, T, E) as (N, heads, T, E / heads)."""
    N, T, E = x.shape
    split: Array = x.reshape(N, T, heads, E // heads).transpose(0, 2, 1, 3)
    return split


def join_heads(x: Array) -> Array:
    """(N, heads, T, D) as (N, T, heads * D)."""
    N, heads, T, D = x.shape
    joined: Array = x.transpose(0, 2, 1, 3).reshape(N, T, heads * D)
    return joined


def _scores(q: Array, key: Array, mask: Array | None, heads: int, causal: bool) -> Array:
    """q keyᵀ / sqrt(E / heads) of each head, -inf where a key may not be attended: (N, heads, T, S)."""
    (N, T, E), S = q.shape, key.shape[1]
    scores: Array = split_heads(q, heads) @ split_heads(key, heads).swapaxes(2, 3) * q.dtype.type((E // heads) ** -0.5)
    allowed = np.ones((N, 1, T, S), bool)
    if mask is not None:
        allowed &= mask[:, None, None, :]
    if causal:
        allowed &= np.tri(T, S, dtype=bool)
    scores[~np.broadcast_to(allowed, scores.shape)] = -np.inf
    return scores


def attention(
    q: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout_key: Array | None = None,
    *,
    heads: int,
    causal: bool,
    p: float = 0,
) -> tuple[Array, Array]:
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
    weights = np.where(total == 0, 0, e / total)
    if dropout_key is not None:
        weights = dropout(weights, dropout_key, p)
    return join_heads(weights @ split_heads(value, heads)), (top + np.log(total))[..., 0]


def attention_backward(
    dy: Array,
    q: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    y: Array,
    logsumexp: Array,
    dropout_key: Array | None = None,
    *,
    heads: int,
    causal: bool,
    p: float = 0,
) -> tuple[Array, Array, Array]:
    """The gradients of `attention`, the weights being exp(scores - logsumexp), 0 for a query without keys.

    Of each head: dvalue = weightsᵀ dy, dweights = dy valueᵀ, dscores = weights (dweights - Σ dy y), from where they go
    through the product (Dao et al. 2022, "FlashAttention", algorithm 4).
    dy, q, y: (N, T, E), key, value: (N, S, E), mask: (N, S) bool or None, logsumexp: (N, heads, T).
    Returns dq: (N, T, E), dkey, dvalue: (N, S, E).
    """
    top = np.where(logsumexp == -np.inf, np.inf, logsumexp)[..., None]
    weights = np.exp(_scores(q, key, mask, heads, causal) - top)
    dy_of, q_of, key_of, value_of = (split_heads(a, heads) for a in (dy, q, key, value))
    dweights, dropped = dy_of @ value_of.swapaxes(2, 3), weights
    if dropout_key is not None:
        dweights, dropped = dropout(dweights, dropout_key, p), dropout(weights, dropout_key, p)
    mean = (dy_of * split_heads(y, heads)).sum(axis=3, keepdims=True)
    dscores = weights * (dweights - mean) * q.dtype.type(q_of.shape[3] ** -0.5)
    return (
        join_heads(dscores @ key_of),
        join_heads(dscores.swapaxes(2, 3) @ q_of),
        join_heads(dropped.swapaxes(2, 3) @ dy_of),
    )


def attention_dropout(
    q: Array, key: Array, value: Array, mask: Array | None, dropout_key: Array, heads: int, causal: bool, p: float
) -> tuple[Array, Array]:
    """`attention` whose weights are dropped with probability p, else divided by 1 - p: see `dropout`.

    q: (N, T, E), key, value: (N, S, E), mask: (N, S) bool or None, dropout_key: (3,) uint64, for weights
    (N, heads, T, S) in this order. Returns y: (N, T, E), logsumexp: (N, heads, T).
    """
    return attention(q, key, value, mask, dropout_key, heads=heads, causal=causal, p=p)


def attention_dropout_backward(
    dy: Array,
    q: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    y: Array,
    logsumexp: Array,
    dropout_key: Array,
    heads: int,
    causal: bool,
    p: float,
) -> tuple[Array, Array, Array]:
    """The gradients of `attention_dropout`: see `attention_backward`.

    dy, q, y: (N, T, E), key, value: (N, S, E), logsumexp: (N, heads, T).
    Returns dq: (N, T, E), dkey, dvalue: (N, S, E).
    """
    return attention_backward(dy, q, key, value, mask, y, logsumexp, dropout_key, heads=heads, causal=causal, p=p)


def key_mask(lengths: Array, padding: Array | None, length: int) -> Array:
    """Which keys may be attended: those before the end of their sequence that are no padding.

    lengths: (N,) int64, padding: (N, length) bool, True for keys to ignore, or None. Returns mask: (N, length) bool.
    """
    mask: Array = np.arange(length) < lengths[:, None]
    return mask if padding is None else mask & ~padding


def zero_padding(x: Array, lengths: Array) -> Array:
    """y = x up to the end of each sequence, and 0 from there. Also its own backward.

    x: (N, T, E), lengths: (N,) int64. Returns y: (N, T, E).
    """
    return np.where((np.arange(x.shape[1]) < lengths[:, None])[..., None], x, x.dtype.type(0))
