"""Attention: of every query to all keys, and in two ways whose time grows only with the length of the sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _kernels as k
from .. import init
from .._errors import DTypeError, ShapeError
from .._kernels import Array, Target
from .drawn import Drawn
from .layer import Backward, Layer, check_gradient, check_train, contiguous, register
from .linear import Linear
from .padded import check_lengths, joined, split
from .parameter import Parameter


class Attention(Layer):
    """Base of layers that project queries, keys and values, look along sequences in several heads, and project again.

    A subclass defines ``attend(q, key, value, mask, train)``, which returns y and a function from dy to dq, dkey,
    dvalue.
    """

    takes_padded = True
    batch_first = True

    def __init__(
        self, embed_dim: int, num_heads: int, bias: bool, kdim: int | None, vdim: int | None, dtype: str
    ) -> None:
        kind = type(self).__name__
        sizes = {name: size for name, size in (("kdim", kdim), ("vdim", vdim)) if size is not None}
        init.check_sizes(kind, embed_dim=embed_dim, num_heads=num_heads, **sizes)
        if embed_dim % num_heads:
            raise ShapeError(f"{kind}: expected num_heads that divides embed_dim={embed_dim}, got {num_heads}")
        self.embed_dim, self.num_heads = int(embed_dim), int(num_heads)
        self.kdim, self.vdim = (self.embed_dim if size is None else int(size) for size in (kdim, vdim))
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)  # PyTorch draws it first
        alike = self.kdim == self.vdim == self.embed_dim
        shapes = ((3 * self.embed_dim, embed_dim),) if alike else tuple((self.embed_dim, n) for n in self._widths)
        names = ("in_proj_weight",) if alike else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        for name, shape in zip(names, shapes, strict=True):
            setattr(self, name, Parameter(init.xavier_uniform_(init.filled(shape, 0, dtype))))
        self._weights = names
        self.in_proj_bias = Parameter(init.filled((3 * self.embed_dim,), 0, dtype)) if bias else None
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    @property
    def _widths(self) -> tuple[int, int, int]:
        """Of queries, keys and values."""
        return self.embed_dim, self.kdim, self.vdim

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("embed_dim", "num_heads", "dtype")
        return {**{name: getattr(self, name) for name in names}, "bias": self.in_proj_bias is not None}

    # --- forward ------------------------------------------------------------------------------------------------------

    def forward_with(
        self, given: Any, key: Any, value: Any, padding: Array | None, train: bool
    ) -> tuple[Any, Backward]:
        """Self-attention where key is None; a value that is None is the key."""
        check_train(self, train, "key and value go")
        if key is None and value is not None:
            raise ValueError(f"{self.label}: expected a key where a value is given")
        x, lengths = split(given)
        keys, key_lengths = (x, lengths) if key is None else split(key)
        values, value_lengths = (keys, None) if value is None else split(value)
        if value_lengths is not None:
            self._check_lengths(value_lengths, samples_first(values, self.batch_first))
            if key_lengths is not None and not np.array_equal(key_lengths, value_lengths):
                raise ValueError(f"{self.label}: expected values as long as their keys, got other lengths")
            key_lengths = value_lengths
        sources = self._samples_first(x, keys, values)
        N, S = sources[1].shape[:2]
        self._check_lengths(lengths, sources[0])
        self._check_lengths(key_lengths, sources[1])
        mask = self._mask(key_lengths, padding, N, S)
        rows = [a.reshape(-1, a.shape[2]) for a in sources]
        weights, biases = self._parts()
        q, k_, v = (
            k.linear(row, weight, shift, relu=False).reshape(*a.shape[:2], self.embed_dim)
            for row, weight, shift, a in zip(rows, weights, biases, sources, strict=True)
        )
        inner, inner_backward = self.attend(q, k_, v, mask, train)
        y, out_backward = self.out_proj.forward(inner, train)
        if lengths is not None:
            y = k.zero_padding(y, lengths, out=y)

        def backward(dy: Array, need_dx: bool = True) -> Any:
            check_gradient(self, dy, as_given(y, self.batch_first).shape)
            dy = samples_first(dy, self.batch_first)
            if lengths is not None:
                dy = k.zero_padding(dy, lengths)
            gradients = inner_backward(out_backward(dy))
            self._weight_gradients([a.reshape(-1, self.embed_dim) for a in gradients], rows)
            if not need_dx:
                return None
            owners = (0, 0, 0) if key is None else (0, 1, 1 if value is None else 2)
            found: dict[int, Array] = {}  # what was used more than once gets the sum
            for owner, gradient, weight in zip(owners, gradients, weights, strict=True):
                out = None if owner not in found else (found[owner], True)
                found[owner] = k.linear_backward_data(gradient.reshape(-1, self.embed_dim), weight, out=out)
            parts = [as_given(found[i].reshape(sources[i].shape), self.batch_first) for i in range(len(found))]
            return parts[0] if key is None else tuple(parts)

        return joined(as_given(y, self.batch_first), lengths), backward

    def attend(
        self, q: Array, key: Array, value: Array, mask: Array | None, train: bool
    ) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        """y (N, T, E) of q (N, T, E), key and value (N, S, E), mask (N, S) bool or None; dq, dkey, dvalue from dy."""
        raise TypeError(f"{type(self).__name__} does not define how it attends")

    def _samples_first(self, x: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        """All of them checked; what was the same array still is."""
        for a, width in zip((x, key, value), self._widths, strict=True):
            self._check(a, width)
        query = samples_first(x, self.batch_first)
        keys = query if key is x else samples_first(key, self.batch_first)
        values = keys if value is key else samples_first(value, self.batch_first)
        if len(keys) != len(query) or values.shape[:2] != keys.shape[:2]:
            raise ShapeError(
                f"{self.label}: expected as many keys as values, of as many samples as queries, got "
                f"{x.shape}, {key.shape} and {value.shape}"
            )
        return query, keys, values

    def _check_lengths(self, lengths: Array | None, a: Array) -> None:
        if lengths is not None:
            check_lengths(lengths, a.shape[0], a.shape[1], self.label)

    def _check(self, a: Any, width: int) -> None:
        self.check(a)
        if a.ndim != 3 or a.shape[2] != width:
            dims = f"(N, T, {width})" if self.batch_first else f"(T, N, {width})"
            raise ShapeError(f"{self.label}: expected {dims}, got {a.shape}")

    def _mask(self, lengths: Array | None, padding: Array | None, N: int, S: int) -> Array | None:
        if padding is not None:
            if not isinstance(padding, np.ndarray) or padding.dtype != bool:
                found = padding.dtype if isinstance(padding, np.ndarray) else type(padding).__name__
                raise DTypeError(f"{self.label}: expected key_padding_mask as an array of bool, got {found}")
            if padding.shape != (N, S):
                raise ShapeError(f"{self.label}: expected key_padding_mask of shape ({N}, {S}), got {padding.shape}")
            if lengths is None:
                lengths = np.full(N, S)
                lengths.flags.writeable = False  # a constant
        if lengths is None:
            return None
        mask: Array = k.key_mask(lengths, padding, length=S)
        return mask

    # --- weights ------------------------------------------------------------------------------------------------------

    def _parts(self) -> tuple[list[Array], list[Array | None]]:
        """Weights and biases of the projections of queries, keys and values."""
        weights = [getattr(self, name).data for name in self._weights]
        weights = weights if len(weights) == 3 else _thirds(weights[0])
        return weights, [None] * 3 if self.in_proj_bias is None else list(_thirds(self.in_proj_bias.data))

    def _weight_gradients(self, gradients: list[Array], rows: list[Array]) -> None:
        targets = [getattr(self, name).target() for name in self._weights]
        targets = targets if len(targets) == 3 else _target_thirds(targets[0])
        shifts = _target_thirds(False if self.in_proj_bias is None else self.in_proj_bias.target())
        for gradient, row, target, shift in zip(gradients, rows, targets, shifts, strict=True):
            k.linear_backward_weights(gradient, row, out=(target, shift))


def attended(
    given: tuple[Any, ...], how: dict[str, Any], p: float, layer: Drawn
) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """Attention of queries to keys and values, with a mask or None; and dq, dkey, dvalue from dy.

    how: heads and whether it is causal; p: how probably a weight is dropped, by the random bits of the layer.
    """
    if p == 0:
        y, logsumexp = k.attention(*given, **how)
        return y, lambda dy: k.attention_backward(dy, *given, y, logsumexp, **how)
    drawn, how = k.next_key(layer.state), {**how, "p": p}
    y, logsumexp = k.attention_dropout(*given, drawn, **how)
    return y, lambda dy: k.attention_dropout_backward(dy, *given, y, logsumexp, drawn, **how)


def samples_first(a: Array, already: bool) -> Array:
    """(T, N, E), or (N, T, E) already, as (N, T, E) in C order."""
    return contiguous(a if already else a.swapaxes(0, 1))


def as_given(a: Array, batch_first: bool) -> Array:
    """The reverse."""
    return a if batch_first else a.swapaxes(0, 1)


def _thirds(a: Array) -> list[Array]:
    n = len(a) // 3
    return [a[:n], a[n : 2 * n], a[2 * n :]]


def _target_thirds(target: Target) -> list[Target]:
    if not isinstance(target, tuple):
        return [target] * 3
    return [(part, target[1]) for part in _thirds(target[0])]


@register
class MultiheadAttention(Attention, Drawn):
    """Multi-head attention (Vaswani et al. 2017, "Attention is all you need", section 3.2.2), of x to itself or others.

    y = softmax(q kᵀ / sqrt(D)) v in each of `num_heads` heads of D = embed_dim / num_heads numbers; q, k and v are
    products of x (k and v: of `key` and `value` where given) with in_proj_weight, and the heads' y side by side are
    projected by out_proj. No matrix of all weights is ever formed, so PyTorch's `need_weights` is not offered, and y
    alone is returned, not PyTorch's pair.

    x: (T, N, embed_dim), or (N, T, embed_dim) with `batch_first`, which `fit` needs, as its batches have samples first;
        or `Padded` of it, whose padding is not attended to. y: of the shape of x, with zeros where x is padded.
    dropout: the probability with which a weight is dropped in training. is_causal: no query attends to later keys.
    in_proj_weight: (3 embed_dim, embed_dim), or q_proj_weight (embed_dim, embed_dim), k_proj_weight (embed_dim, kdim)
        and v_proj_weight (embed_dim, vdim), where keys or values have another width; in_proj_bias: (3 embed_dim,);
        out_proj.weight, out_proj.bias. Initial values, names, order and other defaults are PyTorch's.
    A query that may attend to no key gets zeros (before out_proj), where PyTorch gives NaN.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        is_causal: bool = False,
        dtype: str = "float32",
    ) -> None:
        init.check_probability("MultiheadAttention", dropout=dropout)
        Drawn.__init__(self)
        super().__init__(embed_dim, num_heads, bias, kdim, vdim, dtype)
        self.dropout, self.batch_first, self.is_causal = float(dropout), bool(batch_first), bool(is_causal)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("dropout", "kdim", "vdim", "batch_first", "is_causal")
        return {**super().config(), **{name: getattr(self, name) for name in names}}

    def forward(
        self, x: Any, train: bool = False, *, key: Any = None, value: Any = None, key_padding_mask: Array | None = None
    ) -> tuple[Any, Backward]:
        """x: see the class. The backward function returns dx; with `key` (dx, dkey), and with `value` dvalue as well.

        key, value: (S, N, kdim), (S, N, vdim), or with N first as x, or `Padded`: what x attends to, by default x; a
            value left out is the key. key_padding_mask: (N, S) bool, True for keys that are to be ignored.
        Raises `ShapeError`, `DTypeError`.
        """
        return self.forward_with(x, key, value, key_padding_mask, train)

    def attend(self, q: Array, key: Array, value: Array, mask: Array | None, train: bool) -> tuple[Array, Any]:
        """See `Attention`."""
        p = self.dropout if train else 0.0
        return attended((q, key, value, mask), {"heads": self.num_heads, "causal": self.is_causal}, p, self)
