"""Graphs that are not chains: layers side by side on the same input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .. import _kernels as k
from .._errors import ShapeError
from .._kernels import Array
from .activation import ReLU
from .containers import Container, trains
from .layer import Backward, Layer, check_gradient, register
from .padded import joined, split, through

_JOINED = len(k.TABLE["concatenate"].inputs)  # at once


@register
class Residual(Layer):
    """activation(body(x) + shortcut(x)), the block of He et al. 2015 ("Deep Residual Learning for Image Recognition").

    body: a layer, often a `Sequential`, whose output is as large as that of the shortcut.
    shortcut: None for x itself (the paper's equation 1), or a layer, such as a 1x1 convolution (equation 2).
    activation: None, or a layer. `ReLU` is computed together with the sum.
    Parameters have keys such as ``body.0.weight`` and ``shortcut.weight``.
    """

    takes_padded = True

    def __init__(self, body: Layer, shortcut: Layer | None = None, activation: Layer | None = None) -> None:
        for name, layer in (("body", body), ("shortcut", shortcut), ("activation", activation)):
            if not isinstance(layer, Layer) and (layer is not None or name == "body"):
                raise TypeError(f"Residual: expected a layer as {name}, got {type(layer).__name__}")
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def config(self) -> dict[str, Any]:
        """Constructor arguments, which are layers."""
        return {"body": self.body, "shortcut": self.shortcut, "activation": self.activation}

    @property
    def vocabulary(self) -> int | None:
        """That of body or shortcut, the smaller one."""
        return _vocabulary((self.body, self.shortcut))

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        """x: any shape that body and shortcut take, or `Padded`. Raises `ShapeError`, `DTypeError`."""
        self.check(split(x)[0])
        branches = (self.body, self.shortcut)
        (inner, body_backward), (kept, shortcut_backward) = (_run(branch, x, train) for branch in branches)
        (inner, lengths), (kept, _) = split(inner), split(kept)
        _check_alike(self, (inner, kept))
        y, activation_backward = self._activated(inner, kept, train)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            check_gradient(self, dy, y.shape)
            ds = activation_backward(dy, need_dx=need_dx or trains(*branches))
            return _through(branches, (body_backward, shortcut_backward), lambda i: ds, need_dx)

        return joined(y, lengths), backward

    def _activated(self, inner: Array, kept: Array, train: bool) -> tuple[Array, Backward]:
        """The activation of the sum."""
        relu = self.activation
        if type(relu) is not ReLU or "forward" in vars(relu):  # a subclass, or a forward put in its place, is another
            return _run(relu, k.add(inner, kept, relu=False), train)
        y = k.add(inner, kept, relu=True)
        return y, lambda dy, need_dx=True: k.relu_backward(dy, y) if need_dx else None


@register
class Parallel(Container):
    """Branches on the same x: ``Parallel(a, b)``, or ``Parallel({"low": a, "high": b})`` to name them.

    mode: what becomes of their outputs: ``"sum"``; ``"concatenate"``, along axis `dim`, as in Szegedy et al. 2014
        ("Going Deeper with Convolutions"); or ``"tuple"``, the heads of a model, for a loss that takes several scores.
        The backward function of a tuple takes a tuple of gradients.
    dim: any axis but 0, that of the samples.
    Parameters have keys such as ``0.weight``, or ``low.weight``.
    """

    takes_padded = True

    def __init__(self, *branches: Layer | Mapping[str, Layer], mode: str = "sum", dim: int = 1) -> None:
        super().__init__(*branches)
        if mode not in ("sum", "concatenate", "tuple"):
            raise ValueError(f"Parallel: expected mode 'sum', 'concatenate' or 'tuple', got {mode!r}")
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim == 0:
            raise ValueError(f"Parallel: expected dim as a whole number other than 0, the axis of samples, got {dim!r}")
        if not len(self):
            raise ValueError("Parallel: expected at least one branch")
        self.mode, self.dim = mode, int(dim)

    def config(self) -> dict[str, Any]:
        """The branches, by name, and what becomes of their outputs."""
        return {**super().config(), "mode": self.mode, "dim": self.dim}

    @property
    def vocabulary(self) -> int | None:
        """The smallest of the branches'."""
        return _vocabulary(self)

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        """x: any shape that every branch takes, or `Padded`. Raises `ShapeError`, `DTypeError`."""
        branches = list(self)
        outputs, backwards = zip(*(_run(branch, x, train) for branch in branches), strict=True)
        values, lengths = zip(*map(split, outputs), strict=True)
        y, gradient = getattr(self, f"_{self.mode}")(values)
        if self.mode != "tuple":
            y = joined(y, lengths[0])

        def backward(dy: Any, need_dx: bool = True) -> Array | None:
            return _through(branches, backwards, gradient(dy), need_dx)

        return y, backward

    # --- what becomes of the outputs, and from its gradient that of each of them, by number --------------

    def _tuple(self, outputs: tuple[Array, ...]) -> tuple[Any, Callable[[Any], Callable[[int], Array]]]:
        def gradient(dy: Any) -> Callable[[int], Array]:
            if not isinstance(dy, tuple | list) or len(dy) != len(outputs):
                found = f"{len(dy)} of them" if isinstance(dy, tuple | list) else type(dy).__name__
                raise ShapeError(f"{self.label}: expected a gradient for each of {len(outputs)} heads, got {found}")
            return lambda i: dy[i]

        return outputs, gradient

    def _sum(self, outputs: tuple[Array, ...]) -> tuple[Array, Callable[[Array], Callable[[int], Array]]]:
        _check_alike(self, outputs)
        y = _total(outputs)

        def gradient(dy: Array) -> Callable[[int], Array]:
            check_gradient(self, dy, y.shape)
            return lambda i: dy

        return y, gradient

    def _concatenate(self, outputs: tuple[Array, ...]) -> tuple[Array, Callable[[Array], Callable[[int], Array]]]:
        axis = self._axis(outputs)
        parts = [_as_rows(a, axis) for a in outputs]
        shape = list(outputs[0].shape)
        shape[axis] = sum(a.shape[axis] for a in outputs)
        y = _from_rows(side_by_side(parts), shape, axis)
        ends = list(accumulate((part.shape[1] for part in parts), initial=0))

        def gradient(dy: Array) -> Callable[[int], Array]:
            check_gradient(self, dy, y.shape)
            rows = _as_rows(dy, axis)

            def part(i: int) -> Array:
                columns = k.columns(rows, start=ends[i], count=ends[i + 1] - ends[i])
                return _from_rows(columns, outputs[i].shape, axis)

            return part

        return y, gradient

    def _axis(self, outputs: tuple[Array, ...]) -> int:
        """Which axis `dim` is, after checking that the outputs are alike along all others."""
        ndim = outputs[0].ndim
        axis = self.dim + ndim if self.dim < 0 else self.dim
        if not 0 < axis < ndim:
            raise ShapeError(f"{self.label}: cannot concatenate along axis {self.dim} of {outputs[0].shape}")
        _check_alike(self, outputs, axis)
        return axis


# --- branches ---------------------------------------------------------------------------------------------------------


def _run(branch: Layer | None, x: Array, train: bool) -> tuple[Array, Backward]:
    """The forward pass of a branch; None passes everything on."""
    if branch is None:
        return x, lambda dy, need_dx=True: dy if need_dx else None
    return through(branch, branch.forward, x, train)


def _through(
    branches: Sequence[Layer | None],
    backwards: Sequence[Backward],
    gradient: Callable[[int], Array],
    need_dx: bool,
) -> Array | None:
    """Each branch's gradient, by its number, through that branch; what they all were given gets the sum of theirs.

    Without need_dx only those are run that have something to train.
    """
    if need_dx:
        dx: Array | None = _total(backward(gradient(i)) for i, backward in enumerate(backwards))
        return dx
    for i, backward in enumerate(backwards):
        if trains(branches[i]):
            backward(gradient(i), need_dx=False)
    return None


def _total(arrays: Iterable[Array | None]) -> Any:
    """The sum of arrays, added one after the other; None, where branches have no gradient to give, adds nothing."""
    total = mine = None  # mine: memory that may be written over, as the first array may belong to others
    for a in arrays:
        if total is None:
            total = a
        elif a is not None:
            total = mine = k.add(total, a, relu=False, out=mine)
    return total


def _vocabulary(branches: Iterable[Layer | None]) -> int | None:
    """The least vocabulary: every branch gets the same x."""
    found = (branch.vocabulary for branch in branches if branch is not None)
    return min((size for size in found if size is not None), default=None)


def _check_alike(layer: Layer, outputs: Sequence[Any], axis: int | None = None) -> None:
    """Raise a `ShapeError` that names the layer unless its branches give arrays that are alike but along this axis."""
    for a in outputs:
        if not k.is_array(a):
            raise ShapeError(f"{layer.label}: expected an array from each branch, got {type(a).__name__}")
    shapes = [a.shape if axis is None else (*a.shape[:axis], *a.shape[axis + 1 :]) for a in outputs]
    if any(shape != shapes[0] or a.ndim != outputs[0].ndim for shape, a in zip(shapes, outputs, strict=True)):
        found = " and ".join(str(a.shape) for a in outputs)
        but = "" if axis is None else f" but along axis {axis}"
        raise ShapeError(f"{layer.label}: expected branches to give equal shapes{but}, got {found}")


# --- arrays as rows: what lies side by side along an axis lies side by side in each of them ---------------------------


def _is_image(ndim: int, axis: int) -> bool:
    """Whether channels are joined, of images that lie channels last."""
    return ndim == 4 and axis == 1


def _as_rows(a: Array, axis: int) -> Array:
    """A view of a, or of a copy in the order in memory that this takes."""
    if _is_image(a.ndim, axis):
        pixels = a.transpose(0, 2, 3, 1)
        if not pixels.flags.c_contiguous:
            pixels = k.copy(a, channels_last=True).transpose(0, 2, 3, 1)
        rows: Array = pixels.reshape(math.prod(pixels.shape[:3]), a.shape[1])
        return rows
    in_order = a if a.flags.c_contiguous else k.copy(a, channels_last=False)
    rows = in_order.reshape(math.prod(a.shape[:axis]), math.prod(a.shape[axis:]))
    return rows


def _from_rows(rows: Array, shape: Sequence[int], axis: int) -> Array:
    """The reverse: rows seen as an array of this shape."""
    if _is_image(len(shape), axis):
        N, C, H, W = shape
        image: Array = rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)
        return image
    joined: Array = rows.reshape(shape)
    return joined


def side_by_side(parts: Sequence[Array]) -> Array:
    """Rows side by side, of any number of arrays (rows, ...)."""
    while len(parts) > 1:
        some = [*parts[:_JOINED], *[None] * (_JOINED - len(parts))]
        parts = [k.concatenate(*some), *parts[_JOINED:]]
    return parts[0]
