"""Layers of PyTorch by the names and arguments that workloads use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .torch_kernels.tensors import Tensor, torch


class _Bert(torch.nn.Module):  # type: ignore[misc]
    """The states of BERT's tokens, under Hugging Face's keys, by the functions that its own model calls."""

    def __init__(self, words: int, E: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        nn, self.heads = torch.nn, heads

        def output(inputs: int) -> Any:
            return nn.ModuleDict({"dense": nn.Linear(inputs, E), "LayerNorm": nn.LayerNorm(E, 1e-12)})

        def layer() -> Any:
            projections = nn.ModuleDict({name: nn.Linear(E, E) for name in ("query", "key", "value")})
            attention = nn.ModuleDict({"self": projections, "output": output(E)})
            intermediate = nn.ModuleDict({"dense": nn.Linear(E, width)})
            return nn.ModuleDict({"attention": attention, "intermediate": intermediate, "output": output(width)})

        sizes = {"word": words, "position": 512, "token_type": 2}
        tables = {f"{name}_embeddings": nn.Embedding(size, E) for name, size in sizes.items()}
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": nn.LayerNorm(E, 1e-12)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer() for _ in range(layers))})

    def forward(self, ids: Tensor) -> Tensor:
        e = self.embeddings
        places, types = torch.arange(ids.shape[1]), torch.zeros_like(ids)
        x = e["word_embeddings"](ids) + e["token_type_embeddings"](types) + e["position_embeddings"](places)
        x = e["LayerNorm"](x)
        for layer in self.encoder["layer"]:
            attention, output = layer["attention"], layer["output"]
            q, key, value = (
                attention["self"][name](x).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            y = torch.nn.functional.scaled_dot_product_attention(q, key, value).transpose(1, 2).flatten(2)
            x = attention["output"]["LayerNorm"](attention["output"]["dense"](y) + x)
            h = torch.nn.functional.gelu(layer["intermediate"]["dense"](x))
            x = output["LayerNorm"](output["dense"](h) + x)
        return x


def _gru(*args: Any) -> Any:
    """A GRU that passes on the last hidden states of its last layer, side by side."""
    module = torch.nn.GRU(*args)
    module.register_forward_hook(lambda gru, x, returned: torch.cat([*returned[1][-1 - gru.bidirectional :]], 1))
    return module


#: ``torch.nn``, and what is not in it.
LAYERS = SimpleNamespace(**{**vars(torch.nn), "BertModel": _Bert, "GRU": _gru})
