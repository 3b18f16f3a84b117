"""Attention whose time grows only with the length of the sequence, not with its square."""

from __future__ import annotations

from typing import Any

from .. import _kernels as k
from .. import init
from .._errors import ShapeError
from .._kernels import Array
from .attention import Attention
from .layer import Backward, register
from .parameter import Parameter


@register
class LinearAttention(Attention):
    """Attention by a feature map (Katharopoulos et al. 2020, "Transformers are RNNs", equations 4, 5 and 7).

    y_t = Σ_s φ(q_t)·φ(k_s) v_s / Σ_s φ(q_t)·φ(k_s) in each of `num_heads` heads, with φ(x) = elu(x) + 1: the sums of
    φ(k_s) v_sᵀ and of φ(k_s) are the same for all queries, so that time and memory grow only with T. Projections,
    names and initial weights are those of `MultiheadAttention`.

    x: (N, T, embed_dim), or `Padded` of it, whose padding is not attended to. y: of the shape of x, with zeros where x
        is padded. feature_map: ``"elu+1"``, which there is. causal: s up to t only, by running sums (equation 8).
    in_proj_weight: (3 embed_dim, embed_dim), in_proj_bias: (3 embed_dim,), out_proj.weight, out_proj.bias.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        feature_map: str = "elu+1",
        causal: bool = False,
        *,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        if feature_map != "elu+1":
            raise ValueError(f"LinearAttention: expected feature_map 'elu+1', got {feature_map!r}")
        super().__init__(embed_dim, num_heads, bias, None, None, dtype)
        self.feature_map, self.causal = feature_map, bool(causal)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().config(), "feature_map": self.feature_map, "causal": self.causal}

    def forward(
        self, x: Any, train: bool = False, *, key: Any = None, value: Any = None, key_padding_mask: Array | None = None
    ) -> tuple[Any, Backward]:
        """x: (N, T, embed_dim) or `Padded`; the others as of `MultiheadAttention`, with N first.

        Raises `ShapeError`, `DTypeError`.
        """
        return self.forward_with(x, key, value, key_padding_mask, train)

    def attend(self, q: Array, key: Array, value: Array, mask: Array | None, train: bool) -> tuple[Array, Any]:
        """See `Attention`."""
        how: dict[str, Any] = {"heads": self.num_heads, "causal": self.causal}
        y, norm = k.linear_attention(q, key, value, mask, **how)
        return y, lambda dy: k.linear_attention_backward(dy, q, key, value, mask, y, norm, **how)


@register
class LowRankAttention(Attention):
    """Attention to `rank` mixtures of the keys (Wang et al. 2020, "Linformer: self-attention with linear complexity").

    y = softmax(q (E k)ᵀ / sqrt(D)) (F v) in each of `num_heads` heads (equation 7): learned matrices E and F, the same
    in all heads, mix the T keys and values into `rank` of them, so that time and memory grow only with T. All else is
    as of `MultiheadAttention`.

    x: (N, T, embed_dim) with T up to `max_length`, or `Padded` of it, whose padding is left out of the mixtures. y: of
        the shape of x, with zeros where x is padded.
    key_steps, value_steps: (rank, max_length), E and F, of which shorter sequences use the first T columns; drawn as
        the weights of ``Linear(max_length, rank)``. in_proj_weight: (3 embed_dim, embed_dim), in_proj_bias:
        (3 embed_dim,), out_proj.weight, out_proj.bias.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        max_length: int,
        rank: int,
        *,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        init.check_sizes("LowRankAttention", max_length=max_length, rank=rank)
        super().__init__(embed_dim, num_heads, bias, None, None, dtype)
        shape = int(rank), int(max_length)
        self.key_steps, self.value_steps = (Parameter(init.default(shape, shape[1], False, dtype)[0]) for _ in range(2))

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        rank, max_length = self.key_steps.shape
        return {**super().config(), "max_length": max_length, "rank": rank}

    def forward(
        self, x: Any, train: bool = False, *, key: Any = None, value: Any = None, key_padding_mask: Array | None = None
    ) -> tuple[Any, Backward]:
        """x: (N, T, embed_dim) or `Padded`; the others as of `MultiheadAttention`, with N first, of up to max_length.

        Raises `ShapeError`, `DTypeError`.
        """
        return self.forward_with(x, key, value, key_padding_mask, train)

    def attend(self, q: Array, key: Array, value: Array, mask: Array | None, train: bool) -> tuple[Array, Any]:
        """See `Attention`."""
        S, (_, max_length) = key.shape[1], self.key_steps.shape
        if max_length < S:
            raise ShapeError(f"{self.label}: expected sequences of at most {max_length} steps, got {S}")
        mixed_key, mixed_value = (
            k.mix_steps(a, steps.data, mask) for a, steps in ((key, self.key_steps), (value, self.value_steps))
        )
        how: dict[str, Any] = {"heads": self.num_heads, "causal": False}
        y, logsumexp = k.attention(q, mixed_key, mixed_value, None, **how)

        def backward(dy: Array) -> tuple[Array, ...]:
            dq, *dmixed = k.attention_backward(dy, q, mixed_key, mixed_value, None, y, logsumexp, **how)
            found = [dq]
            for gradient, a, steps in zip(dmixed, (key, value), (self.key_steps, self.value_steps), strict=True):
                target = steps.target()
                if target is not False:
                    k.mix_steps_backward_weights(gradient, a, mask, max_length=max_length, out=target)
                found.append(k.mix_steps_backward_data(gradient, steps.data, mask, length=S))
            return tuple(found)

        return y, backward
