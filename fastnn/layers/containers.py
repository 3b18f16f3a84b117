"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from .fused import steps
from .layer import Backward, Layer, register
from .padded import through


class Container(Layer):
    """Base of layers that hold others: ``Kind(a, b)``, or ``Kind({"conv1": a, "fc": b})`` to name them.

    Parameters have PyTorch's keys: ``0.weight``, or ``conv1.weight``. x: any shape that the first layer takes.
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        kind = type(self).__name__
        named = dict(layers[0]) if len(layers) == 1 and isinstance(layers[0], Mapping) else dict(_numbered(layers))
        for name, layer in named.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"{kind}: expected layers, got {type(layer).__name__} as {name!r}")
            if not name or "." in name:
                raise ValueError(f"{kind}: a layer's name may not be empty or contain a dot, got {name!r}")
            if layer.name is None:
                layer.name = name
        self._layers = named

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer), in their order, then those that are attributes of a subclass."""
        yield from self._layers.items()
        yield from super().named_children()

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers.values())

    def __getitem__(self, index: int) -> Layer:
        found: Layer = list(self._layers.values())[index]
        return found

    def config(self) -> dict[str, Any]:
        """The layers, by name."""
        return {"layers": self._layers}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """The layers come first, other arguments by name."""
        return cls(config["layers"], **{name: value for name, value in config.items() if name != "layers"})


@register
class Sequential(Container):
    """Layers one after the other: ``Sequential(a, b)``, or ``Sequential({"conv1": a, "fc": b})`` to name them.

    x: any shape that the first takes. Parameters have PyTorch's keys: ``0.weight``, or ``conv1.weight``.
    """

    is_container = True
    takes_padded = True

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Layer:
        if isinstance(index, slice):
            return Sequential(dict(list(self._layers.items())[index]))
        return super().__getitem__(index)

    def remove(self, layer: Layer) -> None:
        """Take a layer out; where all are numbered, those after it get new numbers."""
        numbered = list(self._layers) == [str(i) for i in range(len(self))]
        self._layers = {name: other for name, other in self._layers.items() if other is not layer}
        if numbered:
            self._layers = dict(_numbered(tuple(self._layers.values())))
            for name, other in self._layers.items():
                other.name = name

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        """x, or `Padded`, through all layers; the backward stops below the lowest that has something to train."""
        return chain(list(self._layers.values()), x, train)


def chain(layers: Sequence[Layer], x: Any, train: bool) -> tuple[Any, Backward]:
    """x through layers one after the other, as `Sequential` does it."""
    done: list[tuple[Sequence[Layer], Backward]] = []
    for group, forward in steps(layers):
        x, step = through(group[0], forward, x, train)
        done.append((group, step))

    def backward(dy: Any, need_dx: bool = True) -> Any:
        lowest = 0 if need_dx else _lowest_trained(group for group, _ in done)
        for i in range(len(done) - 1, lowest - 1, -1):
            dy = done[i][1](dy, need_dx=need_dx or i > lowest)
        return dy if need_dx else None

    return x, backward


def trains(*layers: Layer | None) -> bool:
    """Whether one of these layers has a parameter that is not frozen."""
    return any(p.requires_grad for layer in layers if layer is not None for p in layer.parameters())


def _numbered(layers: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    return ((str(i), layer) for i, layer in enumerate(layers))


def _lowest_trained(groups: Iterable[Sequence[Layer]]) -> int:
    """The first group with something to train; their number if there is none."""
    i = -1
    for i, group in enumerate(groups):
        if trains(*group):
            return i
    return i + 1
