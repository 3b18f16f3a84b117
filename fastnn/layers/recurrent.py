"""Recurrent layers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _kernels as k
from .. import init
from .._errors import ShapeError
from .._kernels import Array
from .._kernels.table.recurrence import CELLS
from .branches import side_by_side
from .drawn import Drawn
from .layer import Backward, check_gradient, check_train, contiguous, register
from .padded import check_lengths, joined, split
from .parameter import Parameter, target

State = tuple[Array | None, Array | None]  #: h and, of an LSTM, c, or their gradients: (N, H) each, None for zeros
#: From the gradients by what is returned, those by the last layer's rows of outputs, None for zeros, and by the last
#: state of each direction of each layer.
_Gradients = Callable[[Any], tuple[Array | None, list[State]]]
#: From such gradients of a layer, those by its rows of inputs, None unless they are wanted, and by its first states.
_LayerBackward = Callable[[Array | None, list[State], bool], tuple[Array | None, list[Array]]]

_RETURNS = ("tuple", "sequence", "last")
_ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Recurrent(Drawn):
    """Base of recurrent layers. Where dropout between layers takes its random bits from, see `Drawn`."""

    takes_padded = True
    cell: str  #: which of `CELLS`

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        returns: str,
        dtype: str,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        init.check_sizes(kind, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        init.check_dtype(dtype)
        init.check_probability(kind, dropout=dropout)
        if dropout and num_layers == 1:
            warnings.warn(f"{kind}: dropout={dropout} acts between layers, and there is only one", stacklevel=3)
        if returns not in _RETURNS:
            raise ValueError(f"{kind}: expected returns as one of {', '.join(map(repr, _RETURNS))}, got {returns!r}")
        self.input_size, self.hidden_size, self.num_layers = int(input_size), int(hidden_size), int(num_layers)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout, self.returns = float(dropout), returns
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else self._directions * self.hidden_size
            for direction in range(self._directions):
                self._draw(layer, direction, inputs, dtype)

    def _draw(self, layer: int, direction: int, inputs: int, dtype: str) -> None:
        """The parameters of one direction of a layer, drawn in PyTorch's order."""
        gates, bound = CELLS[self.cell][0] * self.hidden_size, 1 / math.sqrt(self.hidden_size)
        for role, shape in zip(_ROLES, ((gates, inputs), (gates, self.hidden_size), (gates,), (gates,)), strict=True):
            if self.bias or not role.startswith("bias"):
                setattr(self, _key(role, layer, direction), Parameter(init.uniform(shape, bound, dtype)))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _states(self) -> int:
        """How many arrays a state is: h, or h and c."""
        return CELLS[self.cell][1]

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        return {name: getattr(self, name) for name in (*names, "returns", "dtype")}

    def forward(self, x: Any, train: bool = False, h0: Any = None) -> tuple[Any, Backward]:
        """x: (T, N, input_size), or (N, T, input_size) with batch_first, or `Padded` of it; h0: the first states.

        h0: (num_layers * D, N, hidden_size), the layers from below, the directions of each one after the other; None
        for zeros. D is 2 if bidirectional, else 1. Raises `ShapeError`, `DTypeError`, and ValueError for lengths that
        cannot be. Where h0 is given, the backward function returns the pair of dx and the gradient by h0.
        """
        check_train(self, train, "first states go, as h0,")
        values, lengths = split(x)
        self._check_input(values, lengths)
        A, B = values.shape[:2]
        firsts = self._each(h0, A if self.batch_first else B, "h0")
        rows = contiguous(values).reshape(A * B, self.input_size)
        backwards: list[tuple[_LayerBackward, Callable[[Array], Array]]] = []
        lasts: list[Array] = []
        for layer in range(self.num_layers):
            rows, drop = self._dropped(rows, train and layer > 0)
            own = firsts[layer * self._directions : (layer + 1) * self._directions]
            rows, ends, layer_backward = self._layer(layer, rows, (A, B), own, lengths, train)
            backwards.append((layer_backward, drop))
            lasts += ends

        returned = {"sequence": self._sequence, "tuple": self._tuple, "last": self._last}[self.returns]
        y, gradients = returned(rows.reshape(A, B, rows.shape[1]), lengths, lasts)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            drows, dlasts = gradients(dy)
            dfirsts: list[Array] = []
            for layer in reversed(range(self.num_layers)):
                layer_backward, drop = backwards[layer]
                own = dlasts[layer * self._directions : (layer + 1) * self._directions]
                drows, found = layer_backward(drows, own, need_dx or layer > 0)
                drows = drows if drows is None else drop(drows)
                dfirsts = found + dfirsts
            dx = drows if drows is None else drows.reshape(values.shape)
            return dx if h0 is None else (dx, self._stacked(dfirsts))

        return y, backward

    def _check_input(self, values: Array, lengths: Array | None) -> None:
        self.check(values, *(("N", "T") if self.batch_first else ("T", "N")), self.input_size)
        N, T = values.shape[:2] if self.batch_first else values.shape[1::-1]
        if T < 1:
            raise ShapeError(f"{self.label}: expected sequences of at least one step, got {values.shape}")
        if lengths is not None:
            check_lengths(lengths, N, T, self.label)

    # --- layers -------------------------------------------------------------------------------------------------------

    def _dropped(self, rows: Array, drops: bool) -> tuple[Array, Callable[[Array], Array]]:
        """What a layer passes on to the next, and its gradient."""
        if not drops or self.dropout == 0:
            return rows, lambda drows: drows
        drop = partial(_dropout, key=k.next_key(self.state), p=self.dropout)
        return drop(rows), drop

    def _layer(
        self, layer: int, rows: Array, shape: tuple[int, int], firsts: list[State], lengths: Array | None, train: bool
    ) -> tuple[Array, list[Array], _LayerBackward]:
        """All directions of a layer, from rows (A * B, inputs): rows (A * B, D * H), and the last state of each."""
        H = self.hidden_size
        ran = [
            self._direction(layer, direction, rows, shape, first, lengths, train)
            for direction, first in enumerate(firsts)
        ]
        y = side_by_side([y.reshape(len(rows), H) for y, _, _ in ran])

        def backward(dy: Array | None, dlasts: list[State], need_dx: bool) -> tuple[Array | None, list[Array]]:
            dx: Array | None = None
            dfirsts: list[Array] = []
            for direction, (_, _, direction_backward) in enumerate(ran):
                own = dy if dy is None or len(ran) == 1 else k.columns(dy, start=direction * H, count=H)
                own = own if own is None else own.reshape(*shape, H)
                dgates, dfirst = direction_backward(own, dlasts[direction])
                dfirsts.append(dfirst)
                if need_dx:
                    weight = getattr(self, _key("weight_ih", layer, direction)).data
                    dx = k.linear_backward_data(dgates, weight, out=None if dx is None else (dx, True))
            return dx, dfirsts

        return y, [last for _, last, _ in ran], backward

    def _direction(
        self,
        layer: int,
        direction: int,
        rows: Array,
        shape: tuple[int, int],
        first: State,
        lengths: Array | None,
        train: bool,
    ) -> tuple[Array, Array, Callable[[Array | None, State], tuple[Array, Array]]]:
        """One direction of a layer: y (A, B, H), the last state, and the backward function, to dgates and dfirst."""
        w_ih, w_hh, b_ih, b_hh = (getattr(self, _key(role, layer, direction), None) for role in _ROLES)
        assert w_ih is not None and w_hh is not None
        cell = list(CELLS).index(self.cell)
        how: dict[str, Any] = {"cell": cell, "batch_first": self.batch_first, "reverse": direction == 1}
        gates = k.linear(rows, w_ih.data, None if b_ih is None else b_ih.data, relu=False)
        shift = None if b_hh is None else b_hh.data
        gates = gates.reshape(*shape, gates.shape[1])
        run = partial(k.recurrence, gates, *first, w_hh.data, shift, lengths, **how)
        keep = None if train else False  # what only the backward pass needs; evaluated, it is computed if need be
        y, last, kept, before = run(out=(None, None, keep, keep))

        def backward(dy: Array | None, dlast: State) -> tuple[Array, Array]:
            states = (kept, before) if kept is not None else run()[2:]
            out = None, None if self.cell == "gru" else False, False if first[0] is None else None
            dgates, dhidden, dfirst = k.recurrence_backward(dy, *dlast, *states, w_hh.data, lengths, **how, out=out)
            dgates, dhidden, old = (
                a.reshape(len(rows), a.shape[2]) for a in (dgates, dgates if dhidden is None else dhidden, states[1])
            )
            k.linear_backward_weights(dgates, rows, out=(w_ih.target(), target(b_ih)))
            k.linear_backward_weights(dhidden, old, out=(w_hh.target(), target(b_hh)))
            return dgates, dfirst

        return y, last, backward

    # --- states of all directions of all layers -----------------------------------------------------------------------

    def _each(self, states: Any, N: int, what: str) -> list[State]:
        """The state of each: from (num_layers * D, N, H), of an LSTM a pair of such arrays; None for zeros."""
        count, pair = self.num_layers * self._directions, states
        if self._states == 1 or states is None:
            pair = states, None
        elif not isinstance(states, tuple | list) or len(states) != 2:
            raise ShapeError(f"{self.label}: expected {what} as a pair, of h and of c, got {type(states).__name__}")
        for a in pair:
            if a is not None:
                self.check(a, count, N, self.hidden_size)
        h, c = ([None] * count if a is None else [contiguous(a[i]) for i in range(count)] for a in pair)
        return list(zip(h, c, strict=True))

    def _part(self, state: Array, which: int) -> Array:
        """h or c of those that lie side by side, (N, S)."""
        if self._states == 1:
            return state
        part: Array = k.columns(state, start=which * self.hidden_size, count=self.hidden_size)
        return part

    def _stacked(self, states: list[Array]) -> Any:
        """The reverse of `_each`, from states (N, S)."""
        shape = len(states), len(states[0]), self.hidden_size
        h, *c = (
            side_by_side([self._part(s, which).reshape(1, -1) for s in states]).reshape(shape)
            for which in range(self._states)
        )
        return (h, *c) if c else h

    # --- what is returned, and from its gradient those by the last layer's rows and by all last states ----------------

    def _sequence(self, y: Array, lengths: Array | None, lasts: list[Array]) -> tuple[Any, _Gradients]:
        def gradients(dy: Array) -> tuple[Array | None, list[State]]:
            check_gradient(self, dy, y.shape)
            rows = contiguous(dy).reshape(y.shape[0] * y.shape[1], y.shape[2])
            return rows, [(None, None)] * len(lasts)

        return joined(y, lengths), gradients

    def _tuple(self, y: Array, lengths: Array | None, lasts: list[Array]) -> tuple[Any, _Gradients]:
        output, output_gradients = self._sequence(y, lengths, lasts)

        def gradients(dy: Any) -> tuple[Array | None, list[State]]:
            if not isinstance(dy, tuple | list) or len(dy) != 2:
                raise ShapeError(f"{self.label}: expected a pair of gradients, by the output and by the last states")
            states = self._each(dy[1], len(lasts[0]), "the gradient by the last states")
            return None if dy[0] is None else output_gradients(dy[0])[0], states

        return (output, self._stacked(lasts)), gradients

    def _last(self, y: Array, lengths: Array | None, lasts: list[Array]) -> tuple[Any, _Gradients]:
        ends, H = lasts[-self._directions :], self.hidden_size
        h = side_by_side([self._part(last, 0) for last in ends])

        def gradients(dy: Array) -> tuple[Array | None, list[State]]:
            check_gradient(self, dy, h.shape)
            below: list[State] = [(None, None)] * (len(lasts) - len(ends))
            return None, [*below, *((k.columns(dy, start=i * H, count=H), None) for i in range(len(ends)))]

        return h, gradients


def _key(role: str, layer: int, direction: int) -> str:
    """PyTorch's name of a parameter."""
    return f"{role}_l{layer}{'_reverse' if direction else ''}"


def _dropout(rows: Array, key: Array, p: float) -> Array:
    dropped: Array = k.dropout(rows, key, p=p)
    return dropped


@register
class RNN(_Recurrent):
    """Elman's recurrence: h' = f(W_ih x + b_ih + W_hh h + b_hh).

    x: (T, N, input_size), or (N, T, input_size) with batch_first, or `Padded` of it, as which the output then comes;
        what is padding may be any finite numbers.
    nonlinearity: f, ``"tanh"``, ``"relu"`` or, beside PyTorch's two, ``"identity"``.
    num_layers: how many stand one upon the other. bidirectional: each has a second recurrence, from each sequence's own
        end to its beginning; their outputs lie side by side. D is then 2, else 1.
    dropout: the probability with which, in training, an output of a layer below another is dropped.
    returns: ``"tuple"``: the output of the last layer, (T, N, D * H), its padding 0, and the last hidden states of all
        layers, (num_layers * D, N, H), each from its sequence's own end; ``"sequence"``: the output alone; ``"last"``:
        the last hidden states of the last layer, its directions side by side, (N, D * H). Gradients have the same
        structure, None for parts without.
    dtype: ``"float32"`` or ``"float64"``.

    Parameters have PyTorch's keys, order and initial values, uniform in ±1/sqrt(H), H being hidden_size: weight_ih_l0
    (H, input_size), weight_hh_l0 (H, H), bias_ih_l0 and bias_hh_l0 (H,), weight_ih_l0_reverse, and so on.
    Elman: "Finding structure in time", 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        returns: str = "tuple",
        dtype: str = "float32",
    ) -> None:
        if nonlinearity not in ("tanh", "relu", "identity"):
            raise ValueError(f"RNN: expected nonlinearity 'tanh', 'relu' or 'identity', got {nonlinearity!r}")
        self.cell = self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, returns, dtype)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "nonlinearity": self.nonlinearity}


class _Gated(_Recurrent):
    """Base of layers with PyTorch's arguments of GRU and LSTM."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        returns: str = "tuple",
        dtype: str = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, returns, dtype)


@register
class GRU(_Gated):
    """Gated recurrent units: h' = n + z (h - n).

    r = σ(W_ir x + b_ir + W_hr h + b_hr), z = σ(W_iz x + b_iz + W_hz h + b_hz), n = tanh(W_in x + b_in + r (W_hn h +
    b_hn)); weights and biases hold r, z and n in this order, weight_ih_l0 being (3 * hidden_size, input_size).
    x: (T, N, input_size), or (N, T, input_size) with batch_first, or `Padded` of it. All else as of `RNN`.
    Cho et al.: "Learning phrase representations using RNN encoder-decoder for statistical machine translation", 2014,
    section 2.3, with the reset gate behind the product.
    """

    cell = "gru"


@register
class LSTM(_Gated):
    """Long short-term memory: c' = f c + i g, h' = o tanh(c').

    i, f, o = σ(W_i x + b_i + W_h h + b_h) and g = tanh of such a sum, each with weights of its own; weights and biases
    hold i, f, g and o in this order, weight_ih_l0 being (4 * hidden_size, input_size).
    x: (T, N, input_size), or (N, T, input_size) with batch_first, or `Padded` of it. All else as of `RNN`, but that
    states are pairs of h and c: h0 is the pair (h0, c0), and ``"tuple"`` returns (output, (h_n, c_n)).
    Hochreiter, Schmidhuber: "Long short-term memory", 1997; Gers et al.: "Learning to forget", 2000.
    """

    cell = "lstm"
