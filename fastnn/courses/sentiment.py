"""Texts rated by their sentiment: a recurrent network over the token states of a frozen, pretrained encoder.

The network stands in a folder: `model.safetensors`, and `encoder.json`, which names the encoder that it was trained
with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fastnn as fn
from fastnn import text
from fastnn._files import StrPath
from fastnn._kernels import Array
from fastnn._output import write_json
from fastnn.text.pretrained import expanded

HIDDEN, DROPOUT = 256, 0.25
MODEL, ENCODER = "model.safetensors", "encoder.json"
_TEXTS_AT_ONCE = 128


def network(width: int) -> fn.Sequential:
    """Token states (N, T, width) to scores (N, 1), above 0 for a positive text; the course's, with PyTorch's weights.

    What comes after the encoder: a bidirectional GRU of two layers, of which the last states of both directions count.
    """
    rnn = fn.GRU(width, HIDDEN, num_layers=2, batch_first=True, dropout=DROPOUT, bidirectional=True, returns="last")
    return fn.Sequential({"rnn": rnn, "dropout": fn.Dropout(DROPOUT), "out": fn.Linear(2 * HIDDEN, 1)})


def probabilities(scores: Array) -> Array:
    """How probably texts with these scores are positive, float64."""
    found: Array = 1 / (1 + np.exp(-scores.astype(np.float64)))
    return found


class Classifier:
    """A trained network and the encoder that it was trained with."""

    def __init__(self, model: fn.Layer, encoder: text.Encoder) -> None:
        self.model, self.encoder = model, encoder

    def rate(self, texts: Sequence[str]) -> Array:
        """How probably each text is positive, (N,) float64; what follows the 510th token of a text does not count."""
        found = np.empty(len(texts), np.float64)
        ids = self.encoder.tokenizer(texts)
        for indices in text.batches([len(some) for some in ids], _TEXTS_AT_ONCE):
            states = dict(self.encoder.states([ids[i] for i in indices]))
            x = fn.Padded.of([states[i] for i in range(len(indices))])
            found[indices] = probabilities(self.model.scores(x)[:, 0])
        return found

    def save(self, folder: Path) -> None:
        """Write the network, and what the encoder is; the encoder itself stays where it is."""
        (folder / ENCODER).unlink(missing_ok=True)  # not beside a network that it does not go with
        fn.save(self.model, folder / MODEL)
        place = expanded(self.encoder.name)
        name = str(place.resolve()) if place.is_dir() else self.encoder.name
        write_json(folder / ENCODER, {"name": name, "fingerprint": self.encoder.fingerprint})

    @classmethod
    def load(cls, folder: Path, encoder: StrPath | None = None) -> Classifier:
        """The network in a folder. encoder: where its encoder is, if it is not where it was.

        Raises OSError for missing files and ValueError for damaged ones, or for another encoder.
        """
        name, fingerprint = _encoder_of(folder)
        try:
            found = text.load_encoder(name if encoder is None else encoder)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder}: trained with the encoder {name!r}, but {error}") from error
        if found.fingerprint != fingerprint:
            raise ValueError(
                f"{folder}: trained with the encoder {name!r} of SHA-256 {fingerprint[:16]}…, but {found.name!r} is "
                f"another one, of {found.fingerprint[:16]}…: name the right one's folder by --encoder"
            )
        return cls(_network_in(folder / MODEL, found.width), found)


def _network_in(file: Path, width: int) -> fn.Layer:
    """The network in a file, which must give one score for states (N, T, width)."""
    model = fn.load(file)
    try:
        shape = np.shape(model.scores(fn.Padded.of([np.zeros((1, width), np.float32)])))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: no network for states of width {width}: {error}") from error
    if shape != (1, 1):
        raise ValueError(f"{file}: no network for states of width {width}: expected scores (1, 1), got {shape}")
    return model


def _encoder_of(folder: Path) -> tuple[str, str]:
    """Name and fingerprint of the encoder that the network in a folder was trained with."""
    path = folder / ENCODER
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no network for sentiment: it has no {ENCODER}; "
            f"fastnn reproduce imdb-sentiment --out {folder} trains one"
        )
    try:
        about = json.loads(path.read_bytes())
        name, fingerprint = about["name"], about["fingerprint"]
        if isinstance(name, str) and isinstance(fingerprint, str):
            return name, fingerprint
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise ValueError(f"{path}: damaged: expected name and fingerprint of an encoder")
