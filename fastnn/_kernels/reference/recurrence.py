"""Recurrent layers: one direction of one layer, from the products of its weights with all inputs.

Elman: "Finding structure in time", 1990. Cho et al.: "Learning phrase representations using RNN encoder-decoder", 2014,
section 2.3, with the reset gate after the product, as in PyTorch. Hochreiter, Schmidhuber: "Long short-term memory",
1997, with the forget gate of Gers et al. 2000. Gates stand in PyTorch's order: r, z, n, and i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..kernel import Array
from ..table.recurrence import CELLS

_Rows = tuple[Array, Array]


def _sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


# --- a step: from gates = W_i x + b_i, hidden = W_h h + b_h and the state, the new state and what is kept -------------


def _elman(f: Callable[[Array], Array]) -> Callable[[Array, Array, Array], _Rows]:
    def step(gates: Array, hidden: Array, state: Array) -> _Rows:
        h = f(gates + hidden)
        return h, h

    return step


def _gru(gates: Array, hidden: Array, state: Array) -> _Rows:
    (gr, gz, gn), (hr, hz, q) = np.split(gates, 3, -1), np.split(hidden, 3, -1)
    r, z = _sigmoid(gr + hr), _sigmoid(gz + hz)
    n = np.tanh(gn + r * q)
    return n + z * (state - n), np.hstack([r, z, n, q])


def _lstm(gates: Array, hidden: Array, state: Array) -> _Rows:
    old = state[:, state.shape[1] // 2 :]
    i, f, g, o = np.split(gates + hidden, 4, -1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * old + i * g
    return np.hstack([o * np.tanh(c), c]), np.hstack([i, f, g, o, old, np.tanh(c)])


_STEPS = (
    _elman(np.tanh),
    _elman(lambda a: np.where(a <= 0, 0, a)),
    _elman(lambda a: a),
    _gru,
    _lstm,
)


# --- back: from d, the gradient by the new state, those by gates and hidden, and what goes past hidden to the old state


def _elman_backward(slope: Callable[[Array, Array], Array]) -> Callable[[Array, Array, Array], tuple[Array, ...]]:
    def step(d: Array, kept: Array, before: Array) -> tuple[Array, ...]:
        da = slope(d, kept)
        return da, da, np.zeros_like(d)

    return step


def _gru_backward(d: Array, kept: Array, before: Array) -> tuple[Array, ...]:
    r, z, n, q = np.split(kept, 4, -1)
    dn = d * (1 - z) * (1 - n * n)
    dr, dz = dn * q * (r * (1 - r)), d * (before - n) * (z * (1 - z))
    return np.hstack([dr, dz, dn]), np.hstack([dr, dz, dn * r]), d * z


def _lstm_backward(d: Array, kept: Array, before: Array) -> tuple[Array, ...]:
    i, f, g, o, old, tanh_c = np.split(kept, 6, -1)
    dh, dc = np.split(d, 2, -1)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    da = np.hstack(
        [dc * g * (i * (1 - i)), dc * old * (f * (1 - f)), dc * i * (1 - g * g), dh * tanh_c * (o * (1 - o))]
    )
    return da, da, np.hstack([np.zeros_like(dh), dc * f])


_STEPS_BACKWARD = (
    _elman_backward(lambda d, h: d * (1 - h * h)),
    _elman_backward(lambda d, h: np.where(h <= 0, 0, d)),
    _elman_backward(lambda d, h: d),
    _gru_backward,
    _lstm_backward,
)


# --- all steps --------------------------------------------------------------------------------------------------------


def _walk(gates: Array, lengths: Array | None, batch_first: bool, reverse: bool) -> list[tuple[Array, Array, Array]]:
    """For each step the sequences that have it, n, and where it lies: the two leading indices."""
    N, T = gates.shape[:2] if batch_first else gates.shape[1::-1]
    steps = np.full(N, T) if lengths is None else np.clip(lengths, 0, T)

    def places() -> Iterator[tuple[Array, Array, Array]]:
        for s in range(T):
            n = np.flatnonzero(steps > s)
            t = steps[n] - 1 - s if reverse else np.full(len(n), s)
            yield (n, n, t) if batch_first else (n, t, n)

    return list(places())


def _states(parts: tuple[Array | None, ...], shape: tuple[int, int], dtype: Any) -> Array:
    """h, or h and c side by side."""
    return np.hstack([np.zeros(shape, dtype) if part is None else part for part in parts])


def recurrence(
    gates: Array,
    h0: Array | None,
    c0: Array | None,
    weight: Array,
    bias: Array | None,
    lengths: Array | None,
    cell: int,
    batch_first: bool,
    reverse: bool,
) -> tuple[Array, Array, Array, Array]:
    """Every step of a recurrent layer in one direction; `reverse` begins at each sequence's own end.

    gates: (T, N, G), or (N, T, G) with batch_first, the products with the inputs. h0, c0: (N, H), the first states,
    None for zeros; only an LSTM has c. weight: (G, H) and bias: (G,) or None, of the product with h. lengths: (N,), or
    None for T all. cell: a place in `CELLS`. Returns y: (T, N, H) or (N, T, H), the h of each step; last: (N, S), the
    states at the end, h or h and c side by side; kept: (…, K) and before: (…, H), the h before each step, for the
    backward pass. What is padding is 0.
    """
    H, widths = weight.shape[1], tuple(CELLS.values())[cell]
    A, B = gates.shape[:2]
    state = _states((h0, c0)[: widths[1]], (A if batch_first else B, H), gates.dtype)
    y, kept, before = (np.zeros((A, B, width * H), gates.dtype) for width in (1, widths[2], 1))
    for n, a, b in _walk(gates, lengths, batch_first, reverse):
        before[a, b] = state[n, :H]
        hidden = state[n, :H] @ weight.T
        state[n], kept[a, b] = _STEPS[cell](gates[a, b], hidden if bias is None else hidden + bias, state[n])
        y[a, b] = state[n, :H]
    return y, state, kept, before


def recurrence_backward(
    dy: Array | None,
    dh: Array | None,
    dc: Array | None,
    kept: Array,
    before: Array,
    weight: Array,
    lengths: Array | None,
    cell: int,
    batch_first: bool,
    reverse: bool,
) -> tuple[Array, Array, Array]:
    """The gradients by the two products of `recurrence` and by its first states, through all steps.

    dy: (T, N, H) or (N, T, H), and dh, dc: (N, H), by the last states; None for zeros. kept, before: as `recurrence`
    returned them. Others: its arguments. Returns dgates and dhidden: (…, G), by the products with inputs and with h,
    which differ for a GRU; dfirst: (N, S).
    """
    H, widths = weight.shape[1], tuple(CELLS.values())[cell]
    A, B = kept.shape[:2]
    d = _states((dh, dc)[: widths[1]], (A if batch_first else B, H), kept.dtype)
    dgates, dhidden = (np.zeros((A, B, widths[0] * H), kept.dtype) for _ in range(2))
    for n, a, b in reversed(_walk(kept, lengths, batch_first, reverse)):
        if dy is not None:
            d[n, :H] += dy[a, b]
        dgates[a, b], dhidden[a, b], d[n] = _STEPS_BACKWARD[cell](d[n], kept[a, b], before[a, b])
        d[n, :H] += dhidden[a, b] @ weight
    return dgates, dhidden, d
