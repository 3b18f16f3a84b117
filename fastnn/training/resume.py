"""Checkpoints of a whole training, from which `fit` goes on as if it had never stopped.

One safetensors file, as `checkpoint` writes them: the arrays of the state, and in the metadata the rest as JSON, with
the SHA-256 of the whole. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import _kernels as k
from .._files import StrPath, check_folder, write_bytes
from .._kernels import Array
from ..checkpoint import CheckpointError, architecture, fits, from_bytes, short, to_bytes
from ..layers import Layer
from .batches import Data
from .callbacks import Callback
from .checks import check_whole
from .history import History
from .step import Step

_HASHED_AT_ONCE = 1 << 18  # numbers


class Checkpoint(Callback):
    """Writes the whole run to a file, for ``fit(…, resume=path)``: a run killed at any moment ends with the same bits.

    In it are the weights and other arrays of the layers, what is frozen, the state of the optimizer, of the callbacks
    and of the random generator, the position in the data, and the history. Not in it are numbers that a layer of one's
    own keeps in Python, and the state of whatever makes batches.

    path: a file, which is replaced only when the new one is complete. every_epochs, every_batches (of all epochs),
    every_seconds: whenever one of these is over; None for never. The end of the training is always written.
    """

    def __init__(
        self,
        path: StrPath,
        every_epochs: int | None = 1,
        every_seconds: float | None = None,
        every_batches: int | None = None,
    ) -> None:
        for name, value in (("every_epochs", every_epochs), ("every_batches", every_batches)):
            if value is not None:
                check_whole(f"Checkpoint: {name}", value, 1)
        if every_seconds is not None and not 0 <= every_seconds < math.inf:
            raise ValueError(f"Checkpoint: expected every_seconds of at least 0, got {every_seconds!r}")
        self.path = path
        self.every_epochs, self.every_seconds, self.every_batches = every_epochs, every_seconds, every_batches
        self._written = time.monotonic()

    def on_train_begin(self, model: Layer, history: History) -> None:
        """The seconds count from here. Raises FileNotFoundError if there is no folder for the file."""
        check_folder(self.path)
        self._written = time.monotonic()

    def batches_left(self, updates: int) -> int:
        """After how many more it is due, `updates` being all there were."""
        return sys.maxsize if self.every_batches is None else self.every_batches - updates % self.every_batches

    def due(self, updates: int) -> bool:
        """Whether it is due after this batch."""
        by_count = self.every_batches is not None and updates % self.every_batches == 0
        return by_count or (self.every_seconds is not None and time.monotonic() - self._written >= self.every_seconds)

    def due_after_epoch(self, epochs: int) -> bool:
        """Whether it is due after this epoch."""
        return self.every_epochs is not None and epochs % self.every_epochs == 0

    def write(self, state: Mapping[str, Any]) -> None:
        """Write the state of the run. Raises OSError."""
        arrays: dict[str, Array] = {}
        run = _packed(state, "run", arrays)
        write_bytes(self.path, to_bytes(arrays, {"run": run}), one_writer=True)
        self._written = time.monotonic()


def read(resume: StrPath | bool | None, callbacks: Iterable[Callback]) -> dict[str, Any] | None:
    """The state in the file that the argument of `fit` names; None if it names none."""
    path: StrPath
    if resume is None or resume is False:
        return None
    if resume is not True:
        path = resume
    else:
        checkpoint = next((hook for hook in callbacks if isinstance(hook, Checkpoint)), None)
        if checkpoint is None:
            raise ValueError("resume: True needs a Checkpoint among the callbacks, which says from which file")
        path = checkpoint.path
        if not Path(path).exists():
            return None
    try:
        arrays, about = from_bytes(Path(path).read_bytes())
        if about is None or "run" not in about:
            raise CheckpointError("it holds no training to go on with, but a model: read it by load()")
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__
    state: dict[str, Any] = _unpacked(about["run"], arrays)
    return state


def check_kind(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ValueError, which names what differs, unless a saved run is of the same kind as the one that goes on."""
    for name, value in json.loads(json.dumps(here)).items():
        for path, there, found in _differences(saved.get(name), value, name):
            raise ValueError(f"resume: the run there has another {path}: {short(there)}, here {short(found)}")


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values are not the same, as deep inside as can be told."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _differences(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i in range(len(a)):
            yield from _differences(a[i], b[i], f"{path}.{i}")
    elif a != b:
        yield path, a, b


# --- a run's kind -----------------------------------------------------------------------------------------------------


def described(step: Step, data: Data, validation: Data | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """By name, all that must not change when a run goes on."""
    optimizer = step.optimizer
    beside = {name: value for name, value in vars(optimizer).items() if isinstance(value, bool | int | float | str)}
    groups = [[p.size for p in group["params"]] for group in optimizer.param_groups]
    return {
        "model": architecture(step.model)[0],
        "parameters": {name: [*p.shape, p.dtype.name] for name, p in step.model.named_parameters()},
        "optimizer": [type(optimizer).__name__, _plain({**optimizer.defaults, **beside}), groups],
        "loss": _plain(step.loss),
        **{name: _plain(value) for name, value in options.items()},
        "data": _fingerprint(data),
        "validation_data": None if validation is None else _fingerprint(validation),
    }


def _fingerprint(data: Data) -> list[Any]:
    return [data.samples, *(_plain(a) for a in data.described())]


def _plain(value: Any) -> Any:
    """JSON values by which this is told from others like it; of an array the digest, of an object its options."""
    if k.is_array(value):
        return [*value.shape, value.dtype.name, _digest(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    options = {} if isinstance(value, Layer) else getattr(value, "__dict__", {})
    return [type(value).__name__, {name: _plain(inner) for name, inner in options.items() if not name.startswith("_")}]


def _digest(a: Array) -> str:
    """The SHA-256 of an array in C order, read a part at a time: it may lie otherwise in memory, and be large."""
    found, a = hashlib.sha256(), np.atleast_1d(a)
    rows = max(1, _HASHED_AT_ONCE * len(a) // max(a.size, 1))
    for i in range(0, len(a), rows):
        found.update(a[i : i + rows].tobytes())
    return found.hexdigest()


# --- a model's arrays -------------------------------------------------------------------------------------------------


def model_arrays(model: Layer) -> dict[str, Array]:
    """Copies of parameters, buffers, and all other arrays of layers that may change, such as the state of dropout."""
    return {**{name: np.array(a) for name, a in _own_arrays(model)}, **model.state_dict()}


def load_arrays(model: Layer, arrays: Mapping[str, Array]) -> None:
    """Put them back, in place."""
    own = dict(_own_arrays(model))
    if any(name not in arrays or arrays[name].shape != a.shape for name, a in own.items()):
        raise CheckpointError(f"resume: it does not have the arrays of the layers: {', '.join(own)}")
    for name, a in own.items():
        a[...] = arrays[name]
    model.load_state_dict({name: arrays[name] for name in model.state_dict() if name in arrays})


def _own_arrays(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Array]]:
    for name, value in vars(layer).items():
        if k.is_array(value) and value.flags.writeable:
            yield prefix + name, value
    for name, child in layer.named_children():
        yield from _own_arrays(child, f"{prefix}{name}.")


# --- arrays and JSON --------------------------------------------------------------------------------------------------


def _packed(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    """The value as JSON; its arrays go where the JSON names them, after their path."""
    if value is None or isinstance(value, bool | int | float | str):  # the first: most are numbers of the history
        return value
    if isinstance(value, np.ndarray):
        if not fits(value):
            raise TypeError(f"a checkpoint holds whole and real numbers and bool, got dtype {value.dtype} as {path}")
        name = path
        while name in arrays:  # names with slashes, and the keys 1 and "1", lead to the same path
            name += "'"
        arrays[name] = np.array(value, order="C")
        return {"array": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _packed(inner, f"{path}/{key}", arrays)] for key, inner in value.items()]}
    if isinstance(value, tuple | list):
        inner = [_packed(part, f"{path}/{i}", arrays) for i, part in enumerate(value)]
        return {"tuple": inner} if isinstance(value, tuple) else inner
    if isinstance(value, np.generic) and fits(np.asarray(value)):
        return value.item()
    raise TypeError(f"a checkpoint holds arrays and JSON values, got {type(value).__name__} as {path}")


def _unpacked(value: Any, arrays: Mapping[str, Array]) -> Any:
    """The reverse of `_packed`."""
    if isinstance(value, list):
        return [_unpacked(inner, arrays) for inner in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(arrays[value["array"]])
    if "tuple" in value:
        return tuple(_unpacked(inner, arrays) for inner in value["tuple"])
    return {key: _unpacked(inner, arrays) for key, inner in value["items"]}
