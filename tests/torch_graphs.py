"""PyTorch modules that return what ours do, with the same keys."""

from __future__ import annotations

from typing import Any

import pytest


def residual(nn: Any, body: Any, shortcut: Any = None, activation: Any = None) -> Any:
    """A module that adds what goes around its body."""

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body, self.shortcut, self.activation = body, shortcut, activation

        def forward(self, x: Any) -> Any:
            y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
            return y if self.activation is None else self.activation(y)

    return Residual()


def parallel(nn: Any, *branches: Any, mode: str = "sum", dim: int = 1) -> Any:
    """A module of branches on the same input."""
    import torch

    class Parallel(nn.ModuleList):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            outputs = [branch(x) for branch in self]
            if mode == "sum":
                return sum(outputs[1:], outputs[0])
            return torch.cat(outputs, dim) if mode == "concatenate" else tuple(outputs)

    return Parallel(branches)


def sequence(recurrent: Any) -> Any:
    """A recurrent module that returns its output alone."""
    recurrent.register_forward_hook(lambda module, x, returned: returned[0])
    return recurrent


def last(recurrent: Any) -> Any:
    """A recurrent module that returns the last hidden states of its last layer, its directions side by side."""

    def beside(module: Any, x: Any, returned: Any) -> Any:
        h = returned[1][0] if isinstance(returned[1], tuple) else returned[1]
        return h[-2 if module.bidirectional else -1 :].transpose(0, 1).flatten(1)

    recurrent.register_forward_hook(beside)
    return recurrent


def bert(add_pooling_layer: bool, **config: Any) -> Any:
    """Hugging Face's model, of which only the states come."""
    transformers = pytest.importorskip("transformers")

    class States(transformers.BertModel):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return super().forward(x).last_hidden_state

    made = transformers.BertConfig(**config, attn_implementation="eager")
    return States(made, add_pooling_layer=add_pooling_layer)


def attention(nn: Any, *arguments: Any, causal: bool = False, **options: Any) -> Any:
    """torch.nn's MultiheadAttention of x to itself, which returns y alone."""
    import torch

    module = nn.MultiheadAttention(*arguments, **options)

    def forward(x: Any) -> Any:
        T = x.shape[1 if module.batch_first else 0]
        later = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None
        return type(module).forward(module, x, x, x, need_weights=False, attn_mask=later)[0]

    module.forward = forward
    return module


def linear_attention(nn: Any, embed_dim: int, num_heads: int, causal: bool = False) -> Any:
    """Linear attention in its O(T²) form, by the parameters of torch.nn's MultiheadAttention."""
    import torch

    module = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def forward(x: Any) -> Any:
        q, k, v = _heads(module, x)
        scores = (nn.functional.elu(q) + 1) @ (nn.functional.elu(k) + 1).transpose(2, 3)
        scores = torch.tril(scores) if causal else scores
        return module.out_proj(((scores / scores.sum(3, keepdim=True)) @ v).transpose(1, 2).flatten(2))

    module.forward = forward
    return module


def low_rank_attention(nn: Any, embed_dim: int, num_heads: int, max_length: int, rank: int) -> Any:
    """Attention to mixtures of the keys, by the parameters of torch.nn's MultiheadAttention and two more."""
    import torch

    module = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
    module.key_steps, module.value_steps = (nn.Parameter(torch.randn(rank, max_length) / 4) for _ in range(2))

    def forward(x: Any) -> Any:
        q, k, v = _heads(module, x)
        k, v = module.key_steps[:, : x.shape[1]] @ k, module.value_steps[:, : x.shape[1]] @ v
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return module.out_proj(y.transpose(1, 2).flatten(2))

    module.forward = forward
    return module


def _heads(module: Any, x: Any) -> Any:
    """Queries, keys and values, each (N, heads, T, D)."""
    projected = x @ module.in_proj_weight.T + module.in_proj_bias
    return (a.unflatten(2, (module.num_heads, -1)).transpose(1, 2) for a in projected.chunk(3, 2))
