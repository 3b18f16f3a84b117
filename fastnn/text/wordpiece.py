"""Tokens of texts, as BERT has them: words, cut into pieces that a vocabulary knows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .._files import StrPath
from .._kernels import Array
from ..checkpoint import CheckpointError

MAX_TOKENS = 510  #: of a text: with [CLS] and [SEP] the 512 that BERT has positions for
_AT_ONCE = 1024  #: texts


class WordPiece:
    """Texts to token ids, by the package `tokenizers` (``pip install "fastnn[text]"``).

    path: a ``tokenizer.json``, whose own truncation and padding are switched off, or a ``vocab.txt``, a token a line.
    max_tokens: of a text; what follows them is left out.
    lowercase: for a ``vocab.txt``, whether texts are lowercased and lose their accents; by default as
        ``tokenizer_config.json`` beside it says, or True. A ``tokenizer.json`` says it by itself.

    cls_id, sep_id, pad_id, unk_id: the ids of [CLS], [SEP], [PAD] and [UNK].
    Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1: the longest pieces, from the left.
    Raises ImportError, FileNotFoundError, and `CheckpointError` for a file that is no such vocabulary.
    """

    def __init__(self, path: StrPath, max_tokens: int = MAX_TOKENS, lowercase: bool | None = None) -> None:
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int | np.integer) or max_tokens < 1:
            raise ValueError(f"WordPiece: expected max_tokens as a whole number of at least 1, got {max_tokens!r}")
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"WordPiece: there is no file {os.fspath(path)!r}")
        self.max_tokens = int(max_tokens)
        self._tokenizer = _from_json(file) if file.suffix == ".json" else _from_vocabulary(file, lowercase)
        self.cls_id, self.sep_id, self.pad_id, self.unk_id = (
            self._special(token, file) for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
        )

    def __call__(self, texts: Iterable[str]) -> list[Array]:
        """The ids of each text, int64, from [CLS] to [SEP]."""
        if isinstance(texts, str):
            raise TypeError("WordPiece: expected several texts, got one; put it into a list")
        return [
            np.array([self.cls_id, *found.ids[: self.max_tokens], self.sep_id], np.int64)
            for some in _chunks(texts)
            for found in self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
        ]

    def tokens(self, text: str) -> list[str]:
        """The pieces of a text, all of them; those that go on with a word begin with ##."""
        found: list[str] = self._tokenizer.encode(text, add_special_tokens=False).tokens
        return found

    def __len__(self) -> int:
        """How many tokens the vocabulary has."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def _special(self, token: str, file: Path) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"{file}: no vocabulary of BERT's: it has no {token}")
        return int(found)


def _chunks(texts: Iterable[str]) -> Iterable[Sequence[str]]:
    """So many at a time as do not take much memory."""
    rest = iter(texts)
    return iter(lambda: list(islice(rest, _AT_ONCE)), [])


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('texts need tokenizers: pip install "fastnn[text]"') from error
    return tokenizers


def _from_json(file: Path) -> Any:
    tokenizers = _tokenizers()
    try:
        tokenizer = tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{file}: damaged, or no tokenizer: {str(error)[:200]}") from error
    if not isinstance(tokenizer.model, tokenizers.models.WordPiece):
        kind = type(tokenizer.model).__name__
        raise CheckpointError(f"{file}: expected a tokenizer of the kind WordPiece, got {kind}")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_vocabulary(file: Path, lowercase: bool | None) -> Any:
    tokenizers = _tokenizers()
    try:
        lines = file.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: no vocabulary: it is not UTF-8 ({error})") from error
    vocabulary = {line: i for i, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    lowercase = _lowercases(file) if lowercase is None else lowercase
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocabulary]
    tokenizer.add_special_tokens(special)  # else one that stands in a text would be taken apart
    return tokenizer


def _lowercases(vocabulary: Path) -> bool:
    settings = vocabulary.with_name("tokenizer_config.json")
    try:
        return bool(json.loads(settings.read_text("utf-8")).get("do_lower_case", True))
    except FileNotFoundError:
        return True
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{settings}: damaged: {error}") from error
