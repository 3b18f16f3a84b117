"""Where batches come from: arrays in memory, arrays that are read as they are needed, or an iterable of batches.

Each of the three checks what it gives out, and gives it out as slots of a step: (x, *targets[, sample_weight]), where
`Padded` takes two slots, values and lengths.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from .. import _kernels as k
from .._arrays import as_array
from .._errors import DTypeError, ShapeError
from .._kernels import Array
from ..layers import Layer, Padded
from ..losses import Loss
from ..losses.targets import check_weight, targets_of
from .checks import check_x, scores_of_one
from .weights import check_takes_weights, class_weights

Slots = tuple[Array, ...]

_LABELS_AT_ONCE = 1 << 16


@dataclass
class Layout:
    """What the slots of a step hold."""

    heads: int = 0  #: of how many arrays the target is a tuple, 0 where it is a single array
    weighted: bool = False
    padded: bool = False

    @classmethod
    def of(cls, x: Any, target: Any, weight: Any) -> Layout:
        """That of a batch."""
        return cls(len(target) if isinstance(target, tuple) else 0, weight is not None, isinstance(x, Padded))

    def __str__(self) -> str:
        x = "Padded(values, lengths)" if self.padded else "x"
        target = f"({', '.join(f'y{i}' for i in range(self.heads))})" if self.heads else "y"
        return f"({x}, {target}, sample_weight)" if self.weighted else f"({x}, {target})"

    def split(self, slots: Slots) -> tuple[Any, Any, Array | None]:
        """x, the target as the loss takes it, and the weights of the samples, None without any."""
        x, first = (Padded(*slots[:2]), 2) if self.padded else (slots[0], 1)
        weight = slots[-1] if self.weighted else None
        return x, slots[first : first + self.heads] if self.heads else slots[first], weight


def as_slots(x: Any, target: Any, weight: Any) -> tuple[Any, ...]:
    """The reverse of `Layout.split`."""
    inputs = (x.values, x.lengths) if isinstance(x, Padded) else (x,)
    targets = target if isinstance(target, tuple) else (target,)
    return (*inputs, *targets) if weight is None else (*inputs, *targets, weight)


class Checked:
    """Checks and converts samples, all of a data set at once or a batch at a time."""

    def __init__(self, model: Layer, loss: Loss, prefix: str = "", class_weight: Any = None) -> None:
        self.prefix, self._model, self._loss, self._class_weight = prefix, model, loss, class_weight
        self._scores: Any = None  # of one sample, once there was one
        self._table: Array | None = None  # the weight of each class
        self.labels: Iterable[Array] | None = None  #: those of the whole data set, in parts, where these are at hand

    def __call__(self, x: Any, y: Any, weight: Any = None, where: str = "") -> Slots:
        """Slots of these samples. where: which they are, for errors."""
        x = check_x(self._model, x, f"{self.prefix}x{where}")
        if self._scores is None:
            self._scores = scores_of_one(self._model, x, f"{self.prefix}x{where}")
        target = targets_of(self._loss, y, self._scores, len(x), f"{self.prefix}y{where}")
        if weight is not None:
            weight = check_weight(weight, len(x), self._model.dtype, f"{self.prefix}sample_weight{where}")
        if self._class_weight is not None:
            weight = self._by_class(target, weight)
        self.layout = Layout.of(x, target, weight)
        return as_slots(x, target, weight)

    def _by_class(self, labels: Any, weight: Array | None) -> Array:
        """The weights of the samples times those of their classes."""
        if isinstance(labels, tuple) or labels.dtype != np.int64 or labels.ndim != 1:
            raise ValueError("class_weight: it needs targets that are labels (N,)")
        if self._table is None:
            classes = self._scores.shape[1]
            known = (labels,) if self.labels is None else self.labels
            self._table = class_weights(self._class_weight, classes, known, getattr(self._loss, "ignore_index", None))
        each: Array = self._table[np.clip(labels, 0, len(self._table) - 1)]  # what a loss ignores has any weight
        return (each if weight is None else each * weight).astype(self._model.dtype)


class Arrays:
    """A data set in memory, checked and converted once."""

    def __init__(self, check: Checked, x: Any, y: Any, weight: Any, repeated: bool) -> None:
        """repeated: it will be gone through many times, so that it pays to put images in the order of the kernels."""
        x, *others = check(x, y, weight)
        self.layout, self.samples = check.layout, len(x)
        self.slots: Slots = (_channels_last(x) if repeated else x, *others)

    def read(self, order: Array | None, batch_size: int, start: int, stop: int) -> Iterator[Slots]:
        """Batches of the samples from `start` to `stop`, counted in that order."""
        for at in range(start, stop, batch_size):
            where = _where(order, at, min(at + batch_size, stop))
            yield tuple(a[where] for a in self.slots)

    def described(self) -> list[Array]:
        """Arrays by which another data set is told from it."""
        return list(self.slots)


class Lazy:
    """A data set too large for memory: each batch is read, checked and converted when its turn comes.

    x, y, weight: anything with a length that takes slices and arrays of indices in ascending order.
    """

    def __init__(self, check: Checked, x: Any, y: Any, weight: Any) -> None:
        self._check, self.samples = check, len(x)
        self._arrays = tuple(_as_plain(a) for a in (x, y, weight))
        if not self.samples:
            raise ShapeError(f"{check.prefix}x: expected at least one sample, got none")
        for name, a in (("y", y), ("sample_weight", weight)):
            for part in a if isinstance(a, tuple) else (a,):
                if a is not None and len(part) != self.samples:
                    raise ShapeError(
                        f"{check.prefix}{name}: expected {self.samples} entries, one for each sample, got {len(part)}"
                    )
        if not isinstance(y, tuple):
            check.labels = (np.asarray(y[i : i + _LABELS_AT_ONCE]) for i in range(0, len(y), _LABELS_AT_ONCE))
        self._read(slice(0, 1), "")  # what does not fit the model is found before anything is trained
        self.layout = check.layout

    def read(self, order: Array | None, batch_size: int, start: int, stop: int) -> Iterator[Slots]:
        """Batches of the samples from `start` to `stop`, counted in that order."""
        for at in range(start, stop, batch_size):
            yield self._read(_where(order, at, min(at + batch_size, stop)), f", batch {at // batch_size}")

    def _read(self, where: slice | Array, name: str) -> Slots:
        x, y, weight = (_rows(a, where) for a in self._arrays)
        return self._check(x, y, weight, name)

    def described(self) -> list[Array]:
        """Some samples, spread evenly: reading all would take as long as an epoch."""
        return list(self._read(np.unique(np.linspace(0, self.samples - 1, 64).astype(np.int64)), ""))


class Batches:
    """Batches (x, y) or (x, y, sample_weight) from an iterable, or from a function that is called for each epoch."""

    samples = None

    def __init__(self, check: Checked, batches: Any, steps: int | None) -> None:
        self._check, self._batches, self.steps = check, batches, steps
        self.once = not callable(batches) and iter(batches) is batches  #: an iterator, which goes on in the next epoch
        self._taken = 0  # of an iterator
        self.layout = Layout()  # that of the first batch, and then of all
        self._known = False

    def read_epoch(self, number: int, skip: int) -> Iterator[Slots]:
        """The batches of an epoch (from 0), but for the first few, which were there before."""
        found, at = self._begin(number), skip
        if self.once:
            skip = max(0, number * (self.steps or 0) + skip - self._taken)
        skipped = sum(1 for _ in islice(found, skip))
        if skipped < skip:
            raise ValueError(
                f"{self._check.prefix}x: expected {skip} batches before those to go on with in epoch {number + 1}, "
                f"got {skipped}"
            )
        self._taken += skipped
        for batch in islice(found, None if self.steps is None else self.steps - at):
            self._taken += 1
            yield self._checked(batch, f", batch {at}")
            at += 1
        if at < (self.steps or 1):
            wanted = "at least one batch" if self.steps is None else f"{self.steps} batches (steps_per_epoch)"
            hint = "; a function that returns an iterator is called anew for each epoch" if self.once else ""
            raise ValueError(f"{self._check.prefix}x: expected {wanted} in epoch {number + 1}, got {at}{hint}")

    def _begin(self, number: int) -> Iterator[Any]:
        if not callable(self._batches):
            return iter(self._batches)
        takes_number = bool(inspect.signature(self._batches).parameters)
        return iter(self._batches(number) if takes_number else self._batches())

    def _checked(self, batch: Any, where: str) -> Slots:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(
                f"{self._check.prefix}x{where}: expected (x, y) or (x, y, sample_weight), got {type(batch).__name__}"
            )
        x, y, weight = (*batch, None)[:3]
        slots = self._check(x, y, weight, where)
        found = self._check.layout
        if not self._known:
            self._known = True
            vars(self.layout).update(vars(found))  # the very object that a step asks
        if found != self.layout:
            raise ValueError(
                f"{self._check.prefix}x{where}: expected {self.layout}, as in the first batch, got {found}"
            )
        return slots

    def described(self) -> list[Array]:
        """Nothing: there is nothing to look at before the first batch comes."""
        return []


Data = Arrays | Lazy | Batches


def open_data(
    model: Layer,
    x: Any,
    y: Any,
    loss: Loss,
    *,
    sample_weight: Any = None,
    class_weight: Any = None,
    steps: int | None = None,
    prefix: str = "",
    repeated: bool = False,
) -> Data:
    """The data behind the arguments of `fit` and `evaluate`, whichever of the three kinds it is."""
    weighted = sample_weight is not None or class_weight is not None
    if weighted:
        check_takes_weights(loss, "sample_weight" if sample_weight is not None else "class_weight")
    check = Checked(model, loss, prefix, class_weight)
    if y is None and _gives_batches(x):
        if sample_weight is not None:
            raise ValueError(f"{prefix}sample_weight: batches bring theirs along, as (x, y, sample_weight)")
        if isinstance(class_weight, str):
            raise ValueError("class_weight: 'balanced' needs all labels beforehand, which batches do not give")
        return Batches(check, x, steps)
    if steps is not None:
        raise ValueError("steps_per_epoch: it is for an iterable of batches; arrays are gone through in each epoch")
    if any(_is_lazy(a) for a in (x, *(y if isinstance(y, tuple) else (y,)))):
        heads = isinstance(y, tuple) and all(hasattr(a, "__len__") for a in y)
        y = tuple(_indexed(a, f"{prefix}y") for a in y) if heads else _indexed(y, f"{prefix}y")
        weight = None if sample_weight is None else _indexed(sample_weight, f"{prefix}sample_weight")
        return Lazy(check, _indexed(x, f"{prefix}x"), y, weight)
    return Arrays(check, x, y, sample_weight, repeated)


def _is_lazy(a: Any) -> bool:
    """Whether it is to be read batch by batch: a memory map, or something of one's own that is like an array.

    Sequences, and what other libraries hold in memory (which they show by their protocols), NumPy converts at once.
    """
    if k.is_array(a) or isinstance(a, Sequence | Mapping):
        return isinstance(a, np.memmap)
    if isinstance(a, Padded):
        return _is_lazy(a.values)
    in_memory = any(hasattr(a, name) for name in ("__array_interface__", "__array_ufunc__", "__dlpack__"))
    return hasattr(a, "__len__") and hasattr(a, "__getitem__") and not in_memory


def _as_plain(a: Any) -> Any:
    """A memory map as an array, which reads nothing yet."""
    if isinstance(a, Padded):
        return Padded(_as_plain(a.values), np.asarray(a.lengths))
    return np.asarray(a) if isinstance(a, np.memmap) else a


def _indexed(a: Any, what: str) -> Any:
    """What takes slices and arrays of indices: `a` itself if it is to be read batch by batch, else an array."""
    if _is_lazy(a) or isinstance(a, Padded):
        return a
    found = as_array(a, what)
    if not found.ndim:
        raise ShapeError(f"{what}: expected an entry for each sample, got {type(a).__name__}")
    return found


def _gives_batches(x: Any) -> bool:
    return (
        not hasattr(x, "shape") and not isinstance(x, str | bytes | Mapping) and (callable(x) or hasattr(x, "__iter__"))
    )


def _where(order: Array | None, start: int, stop: int) -> slice | Array:
    return slice(start, stop) if order is None else order[start:stop]


def _rows(a: Any, where: slice | Array) -> Any:
    """Rows of an array, or of each of a tuple; read in ascending order, which files are fast at, and some ask for."""
    if a is None or isinstance(a, tuple):
        return None if a is None else tuple(_rows(part, where) for part in a)
    if isinstance(a, Padded):
        return Padded(_rows(a.values, where), _rows(a.lengths, where))
    try:
        if isinstance(where, slice):
            return np.asarray(a[where])
        ascending = np.argsort(where)
        found = np.asarray(a[where[ascending]])
    except (TypeError, KeyError, IndexError) as error:
        raise DTypeError(f"{type(a).__name__}: it does not take slices and arrays of indices: {error}") from error
    rows = np.empty_like(found)
    rows[ascending] = found
    return rows


def _channels_last(x: Array) -> Array:
    """Images (N, C, H, W) with their channels last in memory, as kernels want them, so that no batch need be copied."""
    return k.copy(x, channels_last=True) if x.ndim == 4 and x.shape[1] > 1 else x
