"""BERT, with the names and the keys that Hugging Face gave its parts: Devlin et al. 2018, "BERT: Pre-training of Deep
Bidirectional Transformers"; its layers are those of Vaswani et al. 2017, "Attention Is All You Need", section 3.

A layer is x = norm(x + attention(x)), then norm(x + dense(gelu(dense(x)))): normalised after the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .. import _kernels as k
from .. import init
from .._errors import DTypeError, ShapeError
from .._kernels import Array
from .activation import GELU, ReLU, Tanh
from .attention import attended
from .containers import Sequential, trains
from .drawn import Drawn
from .dropout import Dropout
from .embedding import Embedding
from .layer import Backward, Layer, check_gradient, contiguous, register
from .linear import Linear
from .norm import LayerNorm
from .padded import check_lengths, joined, split

_ACTIVATIONS = {"gelu": GELU, "gelu_new": lambda: GELU("tanh"), "relu": ReLU}


@register
class BertModel(Layer):
    """States (N, T, hidden_size) of the tokens of N texts, from their ids (N, T) int64 or `Padded`, which stays that.

    The arguments are those of a config.json of Hugging Face, with its defaults, which are those of bert-base-uncased:
    T is at most max_position_embeddings, and `hidden_act` is "gelu", "gelu_new" (by tanh) or "relu". The keys of
    `state_dict` are Hugging Face's as well, such as ``encoder.layer.0.attention.self.query.weight``. Weights are drawn
    from the normal distribution, with a standard deviation of initializer_range.

    add_pooling_layer: whether there is a pooler, tanh(first W^T + b) of the first token's state.
    returns: ``"states"``, or ``"pooled"`` for what the pooler makes of them, (N, hidden_size).
    dtype: ``"float32"`` or ``"float64"``.
    """

    ARGUMENTS = (
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
        *("initializer_range", "layer_norm_eps", "pad_token_id"),
    )  #: names in a config.json
    takes_padded = True

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int | None = 0,
        *,
        add_pooling_layer: bool = True,
        returns: str = "states",
        dtype: str = "float32",
    ) -> None:
        init.check_sizes("BertModel", num_hidden_layers=num_hidden_layers, num_attention_heads=num_attention_heads)
        init.check_sizes("BertModel", hidden_size=hidden_size, intermediate_size=intermediate_size)
        init.check_probability("BertModel", hidden_dropout_prob=hidden_dropout_prob)
        init.check_probability("BertModel", attention_probs_dropout_prob=attention_probs_dropout_prob)
        if hidden_size % num_attention_heads:
            raise ShapeError(
                f"BertModel: expected hidden_size as a multiple of {num_attention_heads} heads, got {hidden_size}"
            )
        if hidden_act not in _ACTIVATIONS:
            raise ValueError(f"BertModel: expected hidden_act as one of {', '.join(_ACTIVATIONS)}, got {hidden_act!r}")
        if returns not in ("states", "pooled") or (returns == "pooled" and not add_pooling_layer):
            raise ValueError(f"BertModel: expected returns 'states' or, with a pooler, 'pooled', got {returns!r}")
        arguments = locals()
        self._config = {name: arguments[name] for name in (*self.ARGUMENTS, "add_pooling_layer", "returns", "dtype")}
        self.vocab_size, self.hidden_size = int(vocab_size), int(hidden_size)
        self.max_position_embeddings, self.returns = int(max_position_embeddings), returns
        tables = vocab_size, max_position_embeddings, type_vocab_size
        norm = layer_norm_eps, hidden_dropout_prob
        self.embeddings = _Embeddings(tables, hidden_size, pad_token_id, *norm, dtype)
        self.encoder = _Encoder(
            _BertLayer(
                _Attention(hidden_size, num_attention_heads, attention_probs_dropout_prob, *norm, dtype),
                _Intermediate(hidden_size, intermediate_size, hidden_act, dtype),
                _Output(intermediate_size, hidden_size, *norm, dtype),
            )
            for _ in range(num_hidden_layers)
        )
        if add_pooling_layer:
            self.pooler = _Pooler(hidden_size, dtype)
        self.apply(lambda layer: _draw(layer, initializer_range))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return dict(self._config)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """As `Layer.load_state_dict`; the numbers of the positions, which files of Hugging Face have, are left out."""
        kept = {key: value for key, value in state_dict.items() if key != "embeddings.position_ids"}
        return super().load_state_dict(kept, strict)

    def forward(self, x: Any, train: bool = False, *, token_type_ids: Array | None = None) -> tuple[Any, Backward]:
        """x: ids (N, T) int64, or `Padded`. token_type_ids: (N, T) int64, below type_vocab_size; None for zeros.

        The backward function returns None: ids have no gradient. Raises `ShapeError`, `DTypeError`, and ValueError for
        an id that is not there.
        """
        ids, lengths = split(x)
        self._check_ids(ids, token_type_ids)
        if lengths is not None:
            check_lengths(lengths, len(ids), ids.shape[1], self.label)
        h, embeddings_backward = self.embeddings.forward_with(ids, token_type_ids, train)
        h, encoder_backward = self.encoder.forward(joined(h, lengths), train)
        states, pools = split(h)[0], self.returns == "pooled"
        if lengths is not None and not pools:
            states = k.zero_padding(states, lengths, out=states)
        y, pooler_backward = self.pooler.forward(states, train) if pools else (joined(states, lengths), None)

        def backward(dy: Array, need_dx: bool = True) -> None:
            check_gradient(self, dy, split(y)[0].shape)
            below = trains(self.embeddings, self.encoder)
            if pooler_backward is not None:
                dy = pooler_backward(dy, need_dx=below)
            elif lengths is not None:
                dy = k.zero_padding(dy, lengths)
            if below:
                dy = encoder_backward(dy, need_dx=trains(self.embeddings))
            if trains(self.embeddings):
                embeddings_backward(dy)

        return y, backward

    def _check_ids(self, ids: Any, token_type_ids: Any) -> None:
        for what, a in (("ids", ids), ("token_type_ids", token_type_ids)):
            if not isinstance(a, np.ndarray | None) or (a is not None and a.dtype != np.int64):
                found = a.dtype if isinstance(a, np.ndarray) else type(a).__name__
                raise DTypeError(f"{self.label}: expected {what} as an array of int64, got {found}")
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.max_position_embeddings:
            limit = self.max_position_embeddings
            raise ShapeError(f"{self.label}: expected ids (N, T) with T from 1 to {limit}, got {ids.shape}")
        if token_type_ids is not None and token_type_ids.shape != ids.shape:
            raise ShapeError(f"{self.label}: expected token_type_ids {ids.shape}, got {token_type_ids.shape}")


def _draw(layer: Layer, std: float) -> None:
    """New weights of one layer."""
    if isinstance(layer, Linear | Embedding):
        init.normal_(layer.weight, 0, std)
    if isinstance(layer, Linear) and layer.bias is not None:
        init.zeros_(layer.bias)
    if isinstance(layer, Embedding) and layer.padding_idx is not None:
        layer.weight.data[layer.padding_idx] = 0


class _Embeddings(Layer):
    """What a token means, where it stands and which of two texts it belongs to, summed and normalised."""

    def __init__(
        self, sizes: tuple[int, int, int], E: int, padding: int | None, eps: float, p: float, dtype: str
    ) -> None:
        words, positions, types = sizes
        self.word_embeddings = Embedding(words, E, padding, dtype=dtype)
        self.position_embeddings = Embedding(positions, E, dtype=dtype)
        self.token_type_embeddings = Embedding(types, E, dtype=dtype)
        self.LayerNorm, self.dropout = LayerNorm(E, eps, dtype=dtype), Dropout(p)

    def forward_with(self, ids: Array, token_type_ids: Array | None, train: bool) -> tuple[Array, Backward]:
        """ids, token_type_ids: (N, T)."""
        words, words_backward = self.word_embeddings.forward(ids, train)
        places, places_backward = self.position_embeddings.forward(_positions(*ids.shape), train)
        types = _zeros(*ids.shape) if token_type_ids is None else token_type_ids
        kinds, kinds_backward = self.token_type_embeddings.forward(types, train)
        total = k.add(words, places, relu=False)
        h, norm_backward = self.LayerNorm.forward(k.add(total, kinds, relu=False, out=total), train)
        y, dropout_backward = self.dropout.forward(h, train)

        def backward(dy: Array) -> None:
            dtotal = norm_backward(dropout_backward(dy))
            for table_backward in (words_backward, places_backward, kinds_backward):
                table_backward(dtotal)

        return y, backward


@lru_cache(maxsize=64)
def _positions(N: int, T: int) -> Array:
    """Where each token stands; read-only, so that a captured step knows it for a constant."""
    return _constant(np.tile(np.arange(T), (N, 1)))


@lru_cache(maxsize=64)
def _zeros(N: int, T: int) -> Array:
    return _constant(np.zeros((N, T), np.int64))


def _constant(a: Array) -> Array:
    a.flags.writeable = False
    return a


class _Encoder(Layer):
    """The layers, whose keys begin with ``layer.0``."""

    takes_padded = True

    def __init__(self, layers: Any) -> None:
        self.layer = Sequential(*layers)

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        """x: (N, T, E) or `Padded`."""
        return self.layer.forward(x, train)


class _BertLayer(Layer):
    """Attention, then what is done to each token by itself."""

    takes_padded = True

    def __init__(self, attention: _Attention, intermediate: _Intermediate, output: _Output) -> None:
        self.attention, self.intermediate, self.output = attention, intermediate, output

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        """x: (N, T, E) or `Padded`."""
        h, attention_backward = self.attention.forward(x, train)
        values, lengths = split(h)
        wide, intermediate_backward = self.intermediate.forward(values, train)
        y, output_backward = self.output.forward_with(wide, values, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dwide, dh = output_backward(dy)
            dx: Array | None = attention_backward(k.add(dh, intermediate_backward(dwide), relu=False), need_dx)
            return dx

        return joined(y, lengths), backward


class _Attention(Layer):
    """norm(x + attention(x))."""

    takes_padded = True

    def __init__(self, E: int, heads: int, attention_p: float, eps: float, p: float, dtype: str) -> None:
        self.self = _SelfAttention(E, heads, attention_p, dtype)
        self.output = _Output(E, E, eps, p, dtype)

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        """x: (N, T, E) or `Padded`."""
        h, self_backward = self.self.forward(x, train)
        (values, lengths), (x, _) = split(h), split(x)
        y, output_backward = self.output.forward_with(values, x, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dh, dx = output_backward(dy)
            inner = self_backward(dh, need_dx)
            return k.add(inner, dx, relu=False, out=inner) if need_dx else None

        return joined(y, lengths), backward


class _SelfAttention(Drawn):
    """Each token's mean of all values, weighted by the softmax of how well their keys answer its query."""

    takes_padded = True

    def __init__(self, E: int, heads: int, p: float, dtype: str) -> None:
        super().__init__()
        self.heads, self.p = int(heads), float(p)
        self.query, self.key, self.value = (Linear(E, E, dtype=dtype) for _ in range(3))

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        """x: (N, T, E) or `Padded`."""
        x, lengths = split(x)
        parts, backwards = zip(*(layer.forward(x, train) for layer in (self.query, self.key, self.value)), strict=True)
        mask = None if lengths is None else k.key_mask(lengths, None, length=x.shape[1])
        how = {"heads": self.heads, "causal": False}
        y, attention_backward = attended((*parts, mask), how, self.p if train else 0.0, self)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            total: Array | None = None
            for part_backward, gradient in zip(backwards, attention_backward(dy), strict=True):
                dx = part_backward(gradient, need_dx)
                total = dx if total is None else k.add(total, dx, relu=False, out=total)
            return total

        return joined(y, lengths), backward


class _Intermediate(Layer):
    """gelu(x W^T + b), or another activation."""

    def __init__(self, E: int, width: int, activation: str, dtype: str) -> None:
        self.dense, self.activation = Linear(E, width, dtype=dtype), _ACTIVATIONS[activation]()

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, T, E)."""
        h, dense_backward = self.dense.forward(x, train)
        y, activation_backward = self.activation.forward(h, train)
        return y, lambda dy, need_dx=True: dense_backward(activation_backward(dy), need_dx)


class _Output(Layer):
    """norm(residual + dropout(x W^T + b))."""

    def __init__(self, inputs: int, E: int, eps: float, p: float, dtype: str) -> None:
        self.dense = Linear(inputs, E, dtype=dtype)
        self.LayerNorm, self.dropout = LayerNorm(E, eps, dtype=dtype), Dropout(p)

    def forward_with(self, x: Array, residual: Array, train: bool) -> tuple[Array, Backward]:
        """x: (N, T, inputs); residual: (N, T, E). The backward function returns the gradients of both."""
        h, dense_backward = self.dense.forward(x, train)
        h, dropout_backward = self.dropout.forward(h, train)
        y, norm_backward = self.LayerNorm.forward(k.add(h, residual, relu=False), train)

        def backward(dy: Array) -> tuple[Array, Array]:
            dh = norm_backward(dy)
            return dense_backward(dropout_backward(dh)), dh

        return y, backward


class _Pooler(Layer):
    """tanh(x W^T + b) of each text's first state."""

    def __init__(self, E: int, dtype: str) -> None:
        self.dense, self.activation = Linear(E, E, dtype=dtype), Tanh()

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: (N, T, E); y (N, E)."""
        N, T, E = x.shape
        first = k.columns(x.reshape(N, T * E), start=0, count=E)
        h, dense_backward = self.dense.forward(first, train)
        y, activation_backward = self.activation.forward(h, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dfirst = dense_backward(activation_backward(contiguous(dy)), need_dx)
            if not need_dx:
                return None
            dx: Array = k.concatenate(dfirst, _nothing(N, (T - 1) * E, dfirst.dtype.name), None, None)
            return dx.reshape(N, T, E)

        return y, backward


@lru_cache(maxsize=8)
def _nothing(N: int, count: int, dtype: str) -> Array:
    """No gradient."""
    return _constant(np.zeros((N, count), dtype))
