"""Rows that compute each number by itself, made from a scalar function ``f(T, x, a, b)`` of dtype T.

A literal is a float64 to Numba, and so is what it touches: constants are written ``T(0.5)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from .launch import device, kernel, over


def unary(f: Callable[..., Any], *options: str) -> Callable[..., None]:
    """The row y = f(T, x, a, b), a and b being the options of these names, if there are any."""
    of = device(f)

    @kernel("T[::1], T[::1], T, T")
    def apply(y: Any, x: Any, a: Any, b: Any) -> None:
        T = x.dtype.type
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            y[i] = of(T, x[i], a, b)

    def row(y: Any, x: Any, *, dims: dict[str, int], **params: float) -> None:
        over(apply, x.size, y, x, *_scalars(x, options, params))

    return row


def binary(f: Callable[..., Any], *options: str) -> Callable[..., None]:
    """The row z = f(T, x, y, a, b), a and b being the options of these names, if there are any."""
    of = device(f)

    @kernel("T[::1], T[::1], T[::1], T, T")
    def apply(z: Any, x: Any, y: Any, a: Any, b: Any) -> None:
        T = x.dtype.type
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            z[i] = of(T, x[i], y[i], a, b)

    def row(z: Any, x: Any, y: Any, *, dims: dict[str, int], **params: float) -> None:
        over(apply, x.size, z, x, y, *_scalars(x, options, params))

    return row


def _scalars(x: Any, options: tuple[str, ...], params: dict[str, float]) -> list[Any]:
    return [x.dtype.type(params[name]) for name in options] + [x.dtype.type(0)] * (2 - len(options))
