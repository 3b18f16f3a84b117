"""A trained network together with what its data were turned into: it predicts for a file.

It stands in a folder: `model.safetensors`, and `preprocessing.json`, in which a digest says which model it goes with.
The JSON object has format, fastnn_version, model (the SHA-256 of the model's file), inputs and target.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn

from .._files import StrPath, write_bytes
from .._kernels import Array
from .._output import write_json
from .inputs import Columns, Pixels
from .pictures import read_pictures
from .reading import check_exists, is_table, read_arrays, read_table
from .table import Table
from .target import Quantity, Target, target_from_json

FORMAT = 1
MODEL, PREPROCESSING = "model.safetensors", "preprocessing.json"


@dataclass(frozen=True)
class Predictions:
    """What a network says of each sample of a file, in their order.

    values: N names of classes, or (N,) float64
    probabilities: (N, classes) float32, of `names`; None for numbers
    files: of pictures, their names; else None
    """

    values: list[str] | Array
    probabilities: Array | None
    names: list[str]
    files: list[str] | None

    def as_csv(self, proba: bool = False) -> str:
        """A line for each sample under a header: file for pictures, prediction, and proba_… for each class.

        Raises ValueError for probabilities of numbers.
        """
        columns: dict[str, Any] = {} if self.files is None else {"file": self.files}
        numbers = isinstance(self.values, np.ndarray)
        columns["prediction"] = [f"{value:.9g}" for value in self.values] if numbers else self.values
        if proba:
            if self.probabilities is None:
                raise ValueError("--proba: the model predicts numbers, which have no probabilities")
            shares = zip(self.names, self.probabilities.T, strict=True)
            columns |= {f"proba_{name}": [f"{value:.9g}" for value in column] for name, column in shares}
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return text.getvalue()

    def write(self, path: StrPath, proba: bool = False) -> None:
        """Write `as_csv` to a file that replaces an older one only when it is complete."""
        write_bytes(path, self.as_csv(proba).encode())


class Predictor:
    """A network, what turns files into its inputs, and what its outputs mean."""

    def __init__(self, model: fn.Layer, inputs: Columns | Pixels, target: Target) -> None:
        self.model, self.inputs, self.target = model, inputs, target

    def predict(self, path: StrPath, delimiter: str | None = None) -> Predictions:
        """Predictions for all samples of a file of the kind that the network was trained on; its target may be there.

        delimiter: as of `read_csv`.
        Raises OSError for a file that cannot be read, ValueError for one that does not have what the network needs.
        """
        return self.decide(*self._encoded(Path(path), delimiter))

    def decide(self, x: Array, files: list[str] | None = None) -> Predictions:
        """Predictions for inputs that are encoded. x: (N, features) or (N, C, H, W) float32"""
        values, probabilities = self.target.decode(self.model.scores(x))
        names = [] if isinstance(self.target, Quantity) else self.target.names
        return Predictions(values, probabilities, names, files)

    def _encoded(self, path: Path, delimiter: str | None) -> tuple[Array, list[str] | None]:
        """What the network takes, and the names of pictures."""
        if isinstance(self.inputs, Columns):
            return self.inputs.encode(read_table(path, delimiter)), None
        if self.inputs.kind == "array":
            images = read_arrays(path).inputs
            if isinstance(images, Table):
                raise ValueError(f"{path}: x: expected images (N, {', '.join(map(str, self.inputs.shape))})")
            return self.inputs.encode(images), None
        check_exists(path)
        if is_table(path) or path.suffix.lower() == ".npz":
            raise ValueError(f"{path}: expected pictures, for on such the model was trained")
        found = read_pictures(path, self.inputs.size, self.inputs.shape[0], self.inputs.resize)
        return self.inputs.encode(found.images), found.files

    def save(self, folder: Path) -> list[Path]:
        """Write both files into a folder that is there; returns their paths."""
        files = [folder / MODEL, folder / PREPROCESSING]
        fn.save(self.model, files[0])
        about = {"format": FORMAT, "fastnn_version": fn.__version__, "model": _digest(files[0])}
        write_json(files[1], {**about, "inputs": self.inputs.to_json(), "target": self.target.to_json()})
        return files

    @classmethod
    def load(cls, path: StrPath) -> Predictor:
        """The predictor in a folder, which the model's file may stand for.

        Raises OSError for missing files and ValueError for damaged ones, or such as do not go together.
        """
        folder = Path(path).parent if Path(path).name == MODEL else Path(path)
        file = folder / PREPROCESSING
        if not file.is_file():
            raise FileNotFoundError(
                f"{folder}: no model to predict with: it has no {PREPROCESSING}; "
                f"fastnn train --data FILE --out {folder} writes one"
            )
        digest, inputs, target = _parsed(file)
        model = fn.load(folder / MODEL)
        if digest != _digest(folder / MODEL):
            raise ValueError(f"{folder}: {MODEL} is not the model that {PREPROCESSING} goes with; train it again")
        _check_fit(model, inputs, target, file)
        return cls(model, inputs, target)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _check_fit(model: fn.Layer, inputs: Columns | Pixels, target: Target, file: Path) -> None:
    """Raise ValueError unless the model takes such inputs, and has a number for each class."""
    try:
        shape = np.shape(model.scores(np.zeros((1, *inputs.shape), np.float32)))
    except (MemoryError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: damaged: its columns are not the model's: {error}") from error
    if shape != (1, target.outputs):
        raise ValueError(
            f"{file}: damaged: its target is not the model's: expected {target.outputs} scores, got {shape}"
        )


def _parsed(file: Path) -> tuple[str, Columns | Pixels, Target]:
    """The digest of the model, inputs and target in a file."""
    try:
        about = json.loads(file.read_bytes())
        version = about["format"]
        if version == FORMAT:
            inputs = about["inputs"]
            made = Columns.from_json(inputs) if inputs["kind"] == Columns.kind else Pixels.from_json(inputs)
            return str(about["model"]), made, target_from_json(about["target"])
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: damaged, or not of fastnn: {error}") from error
    raise ValueError(f"{file}: it has format {version!r}; this version of fastnn reads {FORMAT}")
