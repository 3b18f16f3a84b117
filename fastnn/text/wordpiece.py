"""Tokens of texts, as BERT has them: words, cut into pieces that a vocabulary knows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .._files import StrPath
from .._kernels import Array
from ..checkpoint import CheckpointError, short

MAX_TOKENS = 510  #: of a text: with [CLS] and [SEP] the 512 that BERT has positions for
SETTINGS = "tokenizer_config.json"  #: beside a vocabulary
_AT_ONCE = 1024  #: texts
#: What SETTINGS calls the arguments of a `BertNormalizer`, and what they may be.
_NORMALIZER = {
    "do_lower_case": ("lowercase", (True, False)),
    "strip_accents": ("strip_accents", (True, False, None)),
    "tokenize_chinese_chars": ("handle_chinese_chars", (True, False)),
}


class WordPiece:
    """Texts to token ids, by the package `tokenizers` (``pip install "fastnn[text]"``).

    path: a ``tokenizer.json``, whose own truncation and padding are switched off, or a ``vocab.txt``, a token a line.
    max_tokens: of a text; what follows them is left out.
    lowercase: whether texts are lowercased and, unless strip_accents is set, lose their accents; None for what is set.

    Set is what ``tokenizer_config.json`` beside the file says (do_lower_case, strip_accents, tokenize_chinese_chars),
    then what a ``tokenizer.json`` says, then BERT's own: lowercased, without accents, each Chinese character a word.

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
        self.max_tokens, self._file = int(max_tokens), file
        settings = _settings(file.with_name(SETTINGS)) | ({} if lowercase is None else {"lowercase": lowercase})
        self._tokenizer = (_from_json if file.suffix == ".json" else _from_vocabulary)(file, settings)
        self.cls_id, self.sep_id, self.pad_id, self.unk_id = (
            self._special(token, file) for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
        )
        self.tokens("a word")  # some tokenizers fail only here

    def __call__(self, texts: Iterable[str]) -> list[Array]:
        """The ids of each text, int64, from [CLS] to [SEP]. Surrogates, which UTF-8 lacks, count as question marks."""
        if isinstance(texts, str):
            raise TypeError("WordPiece: expected several texts, got one; put it into a list")
        return [
            np.array([self.cls_id, *ids[: self.max_tokens], self.sep_id], np.int64)
            for some in _chunks(_checked(texts))
            for ids in self._ids(some)
        ]

    def tokens(self, text: str) -> list[str]:
        """The pieces of a text, all of them; those that go on with a word begin with ##."""
        (checked,) = _checked([text])
        with _reading(self._file):
            found: list[str] = self._tokenizer.encode(checked, add_special_tokens=False).tokens
        return found

    @property
    def largest_id(self) -> int:
        """The largest id of a token: tables of embeddings need more rows than that."""
        found: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        return found

    def __len__(self) -> int:
        """How many tokens the vocabulary has."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        with _reading(self._file):
            return [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _special(self, token: str, file: Path) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"{file}: no vocabulary of BERT's: it has no {token}")
        return int(found)


def encodable(text: str) -> str:
    """The text with a question mark for each surrogate, which stands for a byte that is not UTF-8, or for nothing."""
    return text.encode("utf-8", "replace").decode()


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"WordPiece: texts[{i}]: expected a text, got {type(text).__name__}")
        yield encodable(text)


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


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Whatever the library says to a file: it raises Exception itself and, where it panics, a BaseException."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{file}: damaged, or no tokenizer: {str(error)[:200]}") from error


def _from_json(file: Path, settings: Mapping[str, Any]) -> Any:
    tokenizers = _tokenizers()
    text = file.read_bytes()
    with _reading(file):
        tokenizer = tokenizers.Tokenizer.from_str(text.decode("utf-8"))
    if not isinstance(tokenizer.model, tokenizers.models.WordPiece):
        kind = type(tokenizer.model).__name__
        raise CheckpointError(f"{file}: expected a tokenizer of the kind WordPiece, got {kind}")
    if tokenizer.model.unk_token not in tokenizer.get_vocab(with_added_tokens=False):
        raise CheckpointError(f"{file}: its unk_token {short(tokenizer.model.unk_token)} is not in its vocabulary")
    if isinstance(tokenizer.normalizer, tokenizers.normalizers.BertNormalizer):
        names = "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"
        own = {name: getattr(tokenizer.normalizer, name) for name in names}
        tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(**{**own, **settings})
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_vocabulary(file: Path, settings: Mapping[str, Any]) -> Any:
    tokenizers = _tokenizers()
    try:
        lines = file.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: no vocabulary: it is not UTF-8 ({error})") from error
    vocabulary = {line: i for i, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(**settings)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocabulary]
    tokenizer.add_special_tokens(special)  # else one that stands in a text would be taken apart
    return tokenizer


def _settings(file: Path) -> dict[str, Any]:
    """The arguments of a `BertNormalizer` that are set in a tokenizer_config.json, if there is one."""
    if not file.is_file():
        return {}
    found, settings = read_object(file), {}
    for name, (argument, values) in _NORMALIZER.items():
        value = found.get(name, values[0])
        if not any(value is allowed for allowed in values):
            raise CheckpointError(f"{file}: expected {name} as true or false, got {short(value)}")
        if name in found:
            settings[argument] = value
    return settings


def read_object(file: Path) -> dict[str, Any]:
    """The object in a file of JSON."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: damaged: expected an object, got {short(found)}")
    return found
