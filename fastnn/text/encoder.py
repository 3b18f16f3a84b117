"""A pretrained model with its tokenizer: texts to states of their tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .._kernels import Array
from ..layers import BertModel, Padded
from .bucketing import of_tokens
from .wordpiece import WordPiece

TOKENS_AT_ONCE = 4096


class Encoder:
    """A `BertModel` that is not trained any further, and the tokenizer that it was trained with; see `load_encoder`.

    name: what it was asked for by. fingerprint: SHA-256, hexadecimal, of its files: another one gives other states.
    """

    def __init__(self, model: BertModel, tokenizer: WordPiece, name: str, fingerprint: str) -> None:
        model.requires_grad_(False)
        self.model, self.tokenizer, self.name, self.fingerprint = model, tokenizer, name, fingerprint

    @property
    def width(self) -> int:
        """How many numbers a token's state has, E."""
        return self.model.hidden_size

    def states(self, ids: Sequence[Array], tokens_at_once: int = TOKENS_AT_ONCE) -> Iterator[tuple[int, Array]]:
        """(index, states (T_i, E)) of each text, the longest first: texts of like lengths are computed together.

        ids: (T_i,) int64 each, as the tokenizer gives them. tokens_at_once: how many, padding included, unless one text
        has more. Dropout is off. Raises `ShapeError`, `DTypeError`, ValueError.
        """
        for indices in of_tokens([len(text) for text in ids], tokens_at_once):
            y, _ = self.model.forward(Padded.of([ids[i] for i in indices], self.tokenizer.pad_id))
            for i, states, length in zip(indices, y.values, y.lengths, strict=True):
                yield int(i), states[:length]

    def encode(self, texts: Iterable[str]) -> list[Array]:
        """The states (T_i, E) of each text's tokens, from [CLS] to [SEP]."""
        ids = self.tokenizer(texts)
        found = dict(self.states(ids))
        return [found[i] for i in range(len(ids))]
