"""Attention in time that grows with the length of the sequence only, here in its O(T²) form: that is what it equals."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .attention import join_heads, split_heads


def _features(x: Array) -> Array:
    """φ(x) = elu(x) + 1."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def _slope(x: Array) -> Array:
    return np.where(x > 0, x.dtype.type(1), np.exp(np.minimum(x, 0)))


def _allowed(q: Array, key: Array, mask: Array | None, causal: bool) -> Array:
    """1 where a key may be attended, else 0: (N, 1, T, S)."""
    (N, T), S = q.shape[:2], key.shape[1]
    allowed = np.ones((N, 1, T, S), bool)
    if mask is not None:
        allowed &= mask[:, None, None, :]
    return (allowed & np.tri(T, S, dtype=bool) if causal else allowed).astype(q.dtype)


def linear_attention(
    q: Array, key: Array, value: Array, mask: Array | None, heads: int, causal: bool
) -> tuple[Array, Array]:
    """y_t = Σ_s φ(q_t)·φ(k_s) v_s / norm_t, norm_t = Σ_s φ(q_t)·φ(k_s), with φ(x) = elu(x) + 1, in each head.

    Katharopoulos et al. 2020, "Transformers are RNNs: fast autoregressive transformers with linear attention",
    equations 4 and 7; `causal`: s up to t, equation 8. A query that may attend to no key gets zeros.
    q: (N, T, E), key, value: (N, S, E), mask: (N, S) bool or None. Returns y: (N, T, E), norm: (N, heads, T).
    """
    phi_q, phi_k = (split_heads(_features(a), heads) for a in (q, key))
    scores = phi_q @ phi_k.swapaxes(2, 3) * _allowed(q, key, mask, causal)
    norm = scores.sum(axis=3)
    weights = np.where(norm[..., None] == 0, 0, scores / norm[..., None])
    return join_heads(weights @ split_heads(value, heads)), norm


def linear_attention_backward(
    dy: Array,
    q: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    y: Array,
    norm: Array,
    heads: int,
    causal: bool,
) -> tuple[Array, Array, Array]:
    """The gradients of `linear_attention`: dscores = (dy·v - dy·y) / norm, 0 for a query without keys.

    dy, q, y: (N, T, E), key, value: (N, S, E), mask: (N, S) bool or None, norm: (N, heads, T).
    Returns dq: (N, T, E), dkey, dvalue: (N, S, E).
    """
    allowed = _allowed(q, key, mask, causal)
    phi_q, phi_k = (split_heads(_features(a), heads) for a in (q, key))
    dy_of, y_of, value_of = (split_heads(a, heads) for a in (dy, y, value))
    share = allowed * np.where(norm == 0, 0, 1 / norm)[..., None].astype(q.dtype)
    dscores = (dy_of @ value_of.swapaxes(2, 3) - (dy_of * y_of).sum(axis=3, keepdims=True)) * share
    dvalue = (phi_q @ phi_k.swapaxes(2, 3) * share).swapaxes(2, 3) @ dy_of
    dphi_q, dphi_k = dscores @ phi_k, dscores.swapaxes(2, 3) @ phi_q
    return join_heads(dphi_q) * _slope(q), join_heads(dphi_k) * _slope(key), join_heads(dvalue)


def _kept(x: Array, mask: Array | None) -> Array:
    return x if mask is None else np.where(mask[..., None], x, x.dtype.type(0))


def mix_steps(x: Array, weight: Array, mask: Array | None) -> Array:
    """y[n] = weight[:, :S] x[n], of steps whose mask is True: a sequence mixed into one of R steps.

    Wang et al. 2020, "Linformer: self-attention with linear complexity", equation 7, does this to keys and values.
    x: (N, S, E), weight: (R, M) with M at least S, mask: (N, S) bool or None. Returns y: (N, R, E).
    """
    y: Array = weight[:, : x.shape[1]] @ _kept(x, mask)
    return y


def mix_steps_backward_data(dy: Array, weight: Array, mask: Array | None, length: int) -> Array:
    """dx[n] = weight[:, :length]ᵀ dy[n], and 0 where the mask is False.

    dy: (N, R, E), weight: (R, M), mask: (N, length) bool or None. Returns dx: (N, length, E).
    """
    return _kept(weight[:, :length].T @ dy, mask)


def mix_steps_backward_weights(dy: Array, x: Array, mask: Array | None, max_length: int) -> Array:
    """dweight = Σ dy[n] x[n]ᵀ, of steps whose mask is True.

    dy: (N, R, E), x: (N, S, E), mask: (N, S) bool or None. Returns dweight: (R, max_length).
    """
    dweight = np.zeros((dy.shape[1], max_length), dy.dtype)
    dweight[:, : x.shape[1]] = (dy @ _kept(x, mask).swapaxes(1, 2)).sum(axis=0)
    return dweight
