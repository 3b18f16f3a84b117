"""Batches of sequences of several lengths, padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _kernels as k
from .._errors import DTypeError, ShapeError
from .._kernels import Array

if TYPE_CHECKING:
    from .layer import Backward, Layer


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences of several lengths in one array, and how long each of them is; what follows its end is padding.

    values: (N, T, …), or (T, N, …) for a layer with ``batch_first=False``. lengths: (N,) int64, from 1 to T.

    Wherever a model takes x, and `fit` and its like take it, this will do as well. Layers that look along a sequence
    (recurrent ones, attention) leave padding alone and pass the lengths on; to others, which look at one step at a
    time, only the values are given. What is padding may be any finite numbers; a loss counts all steps of scores and
    targets, padding among them. Gradients are those of the values, plain arrays.
    """

    values: Array
    lengths: Array

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, where: Any) -> Padded:
        """Some of the sequences, by a slice or an array of indices; for values (N, T, …)."""
        return Padded(self.values[where], self.lengths[where])

    @classmethod
    def of(cls, sequences: Sequence[Any], value: float = 0) -> Padded:
        """From arrays (T_i, …) that are alike but for their lengths: values (N, T, …), padded with `value`.

        Raises `ShapeError` unless there is a sequence, and none is empty or of other dimensions than the first.
        """
        arrays = [np.asarray(a) for a in sequences]
        lengths = np.array([len(a) if a.ndim else 0 for a in arrays], np.int64)
        if not arrays or not lengths.all():
            raise ShapeError("Padded: expected at least one sequence, and at least one step in each of them")
        if any(a.shape[1:] != arrays[0].shape[1:] for a in arrays):
            found = ", ".join(sorted({str(a.shape[1:]) for a in arrays}))
            raise ShapeError(f"Padded: expected sequences that are alike but for their lengths, got steps of {found}")
        dtype = np.result_type(*arrays, value)
        values = np.full((len(arrays), lengths.max(), *arrays[0].shape[1:]), value, dtype)
        for row, a in zip(values, arrays, strict=True):
            row[: len(a)] = a
        return cls(values, lengths)


def split(x: Any) -> tuple[Any, Array | None]:
    """The values, and the lengths where x is `Padded`."""
    return (x.values, x.lengths) if isinstance(x, Padded) else (x, None)


def placed(x: Any, device: str) -> Any:
    """An array, or the values of `Padded`, on a device, copied there if need be."""
    values, lengths = split(x)
    return joined(k.to_device(values, device), lengths)


def joined(values: Any, lengths: Array | None) -> Any:
    """The reverse of `split`."""
    return values if lengths is None else Padded(values, lengths)


def through(layer: Layer, forward: Callable[..., tuple[Any, Backward]], x: Any, train: bool) -> tuple[Any, Backward]:
    """``forward(x, train)`` of a layer: one that does not take `Padded` gets the values, and its output the lengths.

    Raises TypeError for one that does not, although a layer inside it does: that would read the padding.
    """
    if layer.takes_padded or not isinstance(x, Padded):
        return forward(x, train)
    inside = next((part for part in layer.modules() if part.takes_padded and not part.is_container), None)
    if inside is not None:
        raise TypeError(
            f"{layer.label}: it got padded sequences, whose lengths {inside.label} inside it needs: say takes_padded = "
            "True in its class and pass x on as it is"
        )
    y, backward = forward(x.values, train)
    return Padded(y, x.lengths), backward


def check_lengths(lengths: Any, N: int, T: int, label: str) -> None:
    """Raise an error that names the layer, or the argument, unless these are the lengths of N sequences of 1 … T."""
    if not isinstance(lengths, np.ndarray) or lengths.dtype != np.int64:
        found = lengths.dtype if isinstance(lengths, np.ndarray) else type(lengths).__name__
        raise DTypeError(f"{label}: expected lengths as an array of int64, got {found}")
    if lengths.shape != (N,):
        raise ShapeError(f"{label}: expected a length for each of {N} sequences, ({N},), got {lengths.shape}")
    if N and not 1 <= lengths.min() <= lengths.max() <= T:
        raise ValueError(f"{label}: expected lengths from 1 to {T}, got {lengths.min()} to {lengths.max()}")
