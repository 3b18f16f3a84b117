"""Models in files: weights under PyTorch's keys and the architecture, in one safetensors file.

The file's metadata has one entry, `fastnn`, a JSON object: format, fastnn_version, dtype, architecture, reason, tied,
sha256. The architecture is nested, ``{"layer": class name, "config": constructor arguments}``, and only registered
classes are ever made from it; nothing is unpickled or imported. The digest covers the whole file, with zeros in its own
place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import init
from ._errors import DTypeError, ShapeError
from ._files import StrPath, write_bytes
from ._kernels import Array
from .layers import Layer
from .layers.layer import REGISTRY
from .layers.parameter import Parameter

FORMAT = 1
_NO_DIGEST = "0" * 64
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
_DTYPES = {np.dtype(code) for code in _TYPES.values()}
_PICKLE = (
    "no safetensors file but a pickle, as torch.save writes it (.pt, .pth), which could run any code if it was read. "
    "In PyTorch, convert it: safetensors.torch.save_file(torch.load('m.pt', weights_only=True), 'm.safetensors') "
    "for a state_dict, safetensors.torch.save_model(model, 'm.safetensors') for a model"
)
_MARK = b'\\"fastnn_version\\"'  # in the header of each file of ours, even if the entry's name was damaged


class CheckpointError(ValueError):
    """A file cannot be loaded; the message names it and says why."""


def save(model: Layer, path: StrPath) -> None:
    """Write weights and architecture to a safetensors file, which replaces an older one only when it is complete.

    Behind a symbolic link, the file that it names is replaced; permissions stay.
    Whether parameters are frozen, and the state of optimizers and of dropout, is not in the file. A model with a layer
    that defines no `config` or is not registered is saved without its architecture: load it with ``load(path, model)``.
    Raises OSError, and TypeError if `model` is none.
    """
    if not isinstance(model, Layer):
        raise TypeError(f"save: expected a layer or model, got {type(model).__name__}")
    write_bytes(path, to_bytes(model.state_dict(), _about(model)))


def load(path: StrPath, model: Layer | None = None) -> Layer:
    """The model in a file; or, given a model, that model with the weights of the file.

    model: needed for files without an architecture, such as those that PyTorch's `safetensors.torch` writes; its
        keys and shapes must be the file's, but for tied parameters, of which the file may hold one. Weights, of any
        dtype down to bfloat16, are converted to its own.
    Raises FileNotFoundError, and `CheckpointError` for a file that is damaged, truncated, too new or not as expected.
    """
    if model is not None and not isinstance(model, Layer):
        raise TypeError(f"load: expected a layer or model, got {type(model).__name__}")
    data = Path(path).read_bytes()
    try:
        return _from_bytes(data, model)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


# --- writing ----------------------------------------------------------------------------------------------------------


def to_bytes(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    """A safetensors file of arrays, C-contiguous ones, with this and its own digest in the metadata."""
    from safetensors.numpy import save as serialize

    from . import __version__

    about = {"format": FORMAT, "fastnn_version": __version__, "sha256": _NO_DIGEST, **about}
    text = json.dumps(about, separators=(",", ":"))
    data: bytes = serialize(dict(arrays), metadata={"fastnn": text})
    digest = hashlib.sha256(data).hexdigest()
    place = data.index(_NO_DIGEST.encode(), data.index(b'\\"sha256\\"'))
    return data[:place] + digest.encode() + data[place + 64 :]


def fits(a: Array) -> bool:
    """Whether numbers of this dtype can be written and read again."""
    return a.dtype.newbyteorder("<") in _DTYPES


def _about(model: Layer) -> dict[str, Any]:
    found, reason = architecture(model)
    return {"dtype": model.dtype, "architecture": found, "reason": reason, "tied": _tied_keys(model)}


def architecture(model: Layer) -> tuple[Any, str | None]:
    """The architecture as JSON values; or None, and why there is none."""
    try:
        encoded = _encoded(model)
        json.dumps(encoded)
    except TypeError as error:  # no config, or one that is not JSON
        return None, str(error)
    return encoded, None


def _encoded(value: Any) -> Any:
    """A layer, or anything in its config, as JSON values."""
    if isinstance(value, Layer):
        name = type(value).__name__
        if REGISTRY.get(name) is not type(value):
            raise TypeError(f"{name} is not registered, so its architecture cannot be saved")
        return {"layer": name, "config": _encoded(value.config())}
    if isinstance(value, Mapping):
        return {key: _encoded(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_encoded(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def _tied_keys(model: Layer) -> list[list[str]]:
    """The keys of each parameter or buffer that has more than one."""
    keys: dict[int, list[str]] = {}
    for key, values in model._state(""):
        keys.setdefault(id(values), []).append(key)
    return [same for same in keys.values() if len(same) > 1]


# --- reading ----------------------------------------------------------------------------------------------------------


def _from_bytes(data: bytes, model: Layer | None) -> Layer:
    tensors, about = from_bytes(data)
    if about is not None and "run" in about:
        raise CheckpointError("it holds a training, not a model: go on with it by fit(..., resume=path)")
    if model is None:
        model = _made(about, tensors)
    _fill_ties(tensors, _metadata(_header(data)), model)
    try:
        model.load_state_dict(tensors)
    except (KeyError, ShapeError, DTypeError) as error:
        raise CheckpointError(f"its weights do not fit the model: {error.args[0]}") from error
    return model


def from_bytes(data: bytes) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """The arrays of a file, and what `to_bytes` was given beside them; None for a file that is not fastnn's."""
    return _tensors(data), _checked_about(data)


def _tensors(data: bytes) -> dict[str, Array]:
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        if _is_pickle(data):
            raise CheckpointError(_PICKLE) from error
        raise CheckpointError(f"damaged, truncated or no safetensors file ({len(data)} bytes): {error}") from error
    return {name: _array(tensor) for name, tensor in sorted(tensors, key=lambda item: item[0])}


def _is_pickle(data: bytes) -> bool:
    """Whether `torch.save` may have written it: a pickle, or a zip archive of one and of numbers."""
    return (data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5")) or (
        data[:2] == b"PK" and b"/data.pkl" in data
    )


def _array(tensor: Mapping[str, Any]) -> Array:
    """A tensor of a safetensors file; float32 for bfloat16, which is the upper half of it."""
    kind, shape = tensor["dtype"], tensor["shape"]
    if kind == "BF16":
        halves = np.frombuffer(tensor["data"], "<u2").astype(np.uint32)
        widened: Array = (halves << 16).view(np.float32).reshape(shape)
        return widened
    if kind not in _TYPES:
        raise CheckpointError(f"it holds numbers of type {kind}, which NumPy does not have")
    array: Array = np.frombuffer(tensor["data"], _TYPES[kind]).reshape(shape)
    return array


def _header(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _metadata(header: bytes) -> dict[str, str]:
    """What a writer has put into the header, text by name."""
    found: dict[str, str] = json.loads(header).get("__metadata__") or {}
    return found


def _fill_ties(tensors: dict[str, Array], metadata: Mapping[str, str], model: Layer) -> None:
    """Add what a file leaves out because it is there under another key.

    PyTorch's `save_model` names that key in the metadata; others count on the model, which has one parameter for both.
    """
    for key, kept in metadata.items():
        if kept in tensors:
            tensors.setdefault(key, tensors[kept])
    for keys in _tied_keys(model):
        there = [key for key in keys if key in tensors]
        tensors.update({key: tensors[there[0]] for key in keys if there and key not in tensors})


def _checked_about(data: bytes) -> dict[str, Any] | None:
    """What `to_bytes` wrote, after checking every byte of the file; None for a file that is not fastnn's."""
    header = _header(data)
    try:
        text = _metadata(header).get("fastnn")
        if text is None and _MARK not in header:
            return None
        about = json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"damaged: its header is not valid JSON: {error}") from error
    _check_digest(data, len(header), about["sha256"] if isinstance(about, dict) and "sha256" in about else None)
    version = about.get("format")
    if version != FORMAT:
        raise CheckpointError(
            f"it has format {version!r}, written by fastnn {about.get('fastnn_version')}; this version reads {FORMAT}"
        )
    checked: dict[str, Any] = about
    return checked


def _check_digest(data: bytes, header_size: int, digest: Any) -> None:
    """Raise unless `digest`, as found in the header, is that of the file."""
    legible = isinstance(digest, str) and len(digest) == 64 and digest.isascii()
    place = data.find(digest.encode(), 8, 8 + header_size) if legible else -1
    if place < 0:
        raise CheckpointError("damaged: its SHA-256 is missing or illegible")
    found = hashlib.sha256(data[:place])
    found.update(_NO_DIGEST.encode())
    found.update(memoryview(data)[place + 64 :])
    if found.hexdigest() != digest:
        raise CheckpointError(f"damaged: its SHA-256 is {found.hexdigest()}, expected {digest}")


def _made(about: Mapping[str, Any] | None, tensors: Mapping[str, Array]) -> Layer:
    """A new model, by the architecture in the file."""
    if about is None:
        raise CheckpointError("it holds weights but no architecture of fastnn: pass load(path, model=...)")
    if about.get("architecture") is None:
        reason = about.get("reason")
        raise CheckpointError(f"it was saved without its architecture ({reason}): pass load(path, model=...)")
    try:
        # The limit is what the file holds: an architecture that wants more takes no memory before it fails.
        with init.blank(sum(a.size for a in tensors.values())):
            model = _decoded(about["architecture"])
    except RecursionError as error:
        raise CheckpointError("its architecture is nested too deeply") from error
    if not isinstance(model, Layer):
        raise CheckpointError(f"its architecture is no layer: {short(model)}")
    _tie(model, about.get("tied"))
    return model


def _decoded(node: Any) -> Any:
    """The reverse of `_encoded`."""
    if isinstance(node, list):
        return [_decoded(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.keys() != {"layer", "config"}:
        return {key: _decoded(inner) for key, inner in node.items()}
    name, config = node["layer"], _decoded(node["config"])
    cls = REGISTRY.get(name) if isinstance(name, str) else None
    if cls is None:
        raise CheckpointError(
            f"unknown layer {short(name)}; known are {', '.join(sorted(REGISTRY))}. "
            "Define it first, decorated with fastnn.register or fastnn.elementwise, or pass load(path, model=...)"
        )
    try:
        return cls.from_config(config)
    except RecursionError:
        raise
    except Exception as error:  # whatever a constructor says to arguments that come from a file
        raise CheckpointError(f"no {name} can be made from {short(config)}: {error}") from error


def _tie(model: Layer, groups: Any) -> None:
    """Let the layers named by the keys of a group share the first key's parameter or buffer."""
    try:
        for keys in groups:
            (first_owner, name), *others = (_owner(model, key) for key in keys)
            first: Parameter | Array = getattr(first_owner, name)
            for owner, attribute in others:
                other: Parameter | Array = getattr(owner, attribute)
                if (type(other), other.shape, other.dtype) != (type(first), first.shape, first.dtype):
                    raise ValueError(f"{attribute} has another shape or dtype than {name}")
                setattr(owner, attribute, first)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"it ties arrays that its architecture does not have so: {short(groups)}") from error


def _owner(model: Layer, key: Any) -> tuple[Layer, str]:
    """The layer that has a parameter or buffer directly, and its name there."""
    if not isinstance(key, str):
        raise TypeError(key)
    *path, attribute = key.split(".")
    for name in path:
        model = dict(model.named_children())[name]
    if not isinstance(getattr(model, attribute), Parameter) and attribute not in model.buffers:
        raise KeyError(key)
    return model, attribute


def short(value: Any) -> str:
    """A value from a file in an error, which it must not flood."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
