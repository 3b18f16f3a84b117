"""Layers of a transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _kernels as k
from .._kernels import Array
from .activation import GELU, ReLU
from .attention import MultiheadAttention, as_given, samples_first
from .containers import chain, trains
from .dropout import Dropout
from .layer import Backward, Layer, check_gradient, register
from .linear import Linear
from .norm import LayerNorm
from .padded import joined, split

Forward = Callable[[Array, bool], tuple[Array, Backward]]


@register
class TransformerEncoderLayer(Layer):
    """Self-attention, then two linear layers, each with a residual connection and layer normalisation.

    Vaswani et al. 2017, "Attention is all you need", section 3.1: h = norm1(x + self_attn(x)),
    y = norm2(h + linear2(activation(linear1(h)))); with `norm_first` h = x + self_attn(norm1(x)), and so on (Xiong et
    al. 2020, "On layer normalization in the transformer architecture"). Dropout follows attention, activation and
    linear2, and drops attention's weights.

    x: (T, N, d_model), or (N, T, d_model) with `batch_first`, which `fit` needs, as its batches have samples first; or
        `Padded` of it. y: of the shape of x, with zeros where x is padded.
    activation: ``"relu"`` or ``"gelu"``. is_causal: as of `MultiheadAttention`.
    Arguments, keys, initial values and other defaults are PyTorch's.
    """

    takes_padded = True

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        is_causal: bool = False,
        dtype: str = "float32",
    ) -> None:
        if activation not in ("relu", "gelu"):
            raise ValueError(f"TransformerEncoderLayer: expected activation 'relu' or 'gelu', got {activation!r}")
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, is_causal=is_causal, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation: Layer = ReLU() if activation == "relu" else GELU()
        self.norm_first = bool(norm_first)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        attention = self.self_attn
        return {
            "d_model": attention.embed_dim,
            "nhead": attention.num_heads,
            "dim_feedforward": self.linear1.out_features,
            "dropout": self.dropout.p,
            "activation": "relu" if isinstance(self.activation, ReLU) else "gelu",
            "layer_norm_eps": self.norm1.eps,
            "batch_first": attention.batch_first,
            "norm_first": self.norm_first,
            "bias": self.linear1.bias is not None,
            "is_causal": attention.is_causal,
            "dtype": self.dtype,
        }

    def forward(self, x: Any, train: bool = False, *, key_padding_mask: Array | None = None) -> tuple[Any, Backward]:
        """x: see the class. key_padding_mask: (N, T) bool, True for steps that are to be ignored as keys.

        Raises `ShapeError`, `DTypeError`.
        """
        values, lengths = split(x)
        batch_first = self.self_attn.batch_first

        def attend(a: Array, train: bool) -> tuple[Array, Backward]:
            found, attention = self.self_attn.forward(joined(a, lengths), train, key_padding_mask=key_padding_mask)
            a, dropped = self.dropout1.forward(split(found)[0], train)
            return a, lambda dy, need_dx=True: attention(dropped(dy), need_dx)

        def feed(a: Array, train: bool) -> tuple[Array, Backward]:
            return chain((self.linear1, self.activation, self.dropout, self.linear2, self.dropout2), a, train)

        def cleared(a: Array) -> Array:
            if lengths is None:
                return a
            return as_given(k.zero_padding(samples_first(a, batch_first), lengths), batch_first)

        h, first = self._residual(attend, self.norm1, values, train)
        y, second = self._residual(feed, self.norm2, h, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            below = need_dx or trains(self.self_attn, self.norm1)
            dh = second(cleared(dy), need_dx=below)
            return first(dh, need_dx=need_dx) if below else None

        return joined(cleared(y), lengths), backward

    def _residual(self, body: Forward, norm: LayerNorm, x: Array, train: bool) -> tuple[Array, Backward]:
        """The sum of x and the body's output, normalised, or with `norm_first` that of the normalised x."""
        if self.norm_first:
            inner, norm_backward = norm.forward(x, train)
            inner, body_backward = body(inner, train)

            def backward(dy: Array, need_dx: bool = True) -> Array | None:
                dx = norm_backward(body_backward(dy), need_dx)
                return k.add(dx, dy, relu=False, out=dx) if need_dx else None

            return k.add(x, inner, relu=False), backward
        inner, body_backward = body(x, train)
        y, norm_backward = norm.forward(k.add(x, inner, relu=False), train)

        def backward_of_sum(dy: Array, need_dx: bool = True) -> Array | None:
            ds = norm_backward(dy)
            dx = body_backward(ds, need_dx)
            return k.add(dx, ds, relu=False) if need_dx else None

        return y, backward_of_sum
