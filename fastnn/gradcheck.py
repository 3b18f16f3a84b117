"""Numerical gradients: are a layer's hand-written ones right?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._errors import DTypeError
from .layers.padded import Padded, split

Array = np.ndarray[Any, Any]


class GradientError(AssertionError):
    """A gradient differs from its numerical estimate."""


def numerical_gradient(f: Callable[[Array], Any], x: Array, df: Array | None = None, eps: float = 1e-6) -> Array:
    """The gradient of f at x by central differences, (f(x + eps) - f(x - eps)) / (2 eps), element by element.

    f: takes x, returns a scalar, or an array of which `df`, of the same shape, is the upstream gradient.
    x: any shape, float64; each element is changed in place for two calls of f, then restored.
    Returns an array of the shape of x.
    """
    _require_float64("x", x)
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        kept = x[i]
        try:
            x[i] = kept + eps
            above = np.array(f(x))  # a copy, lest f fill the same memory again
            x[i] = kept - eps
            below = np.array(f(x))
        finally:
            x[i] = kept
        if above.dtype != np.float64:
            raise DTypeError(f"gradients are checked in float64: f returned {above.dtype}")
        if df is None and above.size != 1:
            raise ValueError(f"f returned an array of shape {above.shape}: pass its upstream gradient as df")
        gradient[i] = np.sum((above - below) * (1.0 if df is None else df)) / (2 * eps)
    return gradient


def relative_error(a: Array, b: Array) -> float:
    """The largest |a - b| / max(1e-8, |a| + |b|) of any element, the measure of Stanford's course CS231n."""
    return float(np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)), initial=0.0))


def gradcheck(
    layer_or_loss: Any,
    x: Any,
    target: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the gradients of a layer, under a random upstream gradient, or of a loss with numerical ones.

    layer_or_loss: a layer, with ``forward(x, train) -> (y, backward)`` and ``named_parameters()``, yielding (name, p)
        with arrays ``p.data`` and ``p.grad``; parameters without a gradient are skipped. y may be a tuple of arrays. It
        must depend on x and the parameters alone (so no dropout), and have no kink within eps of them.
        Or, with a target, a loss, with ``forward(scores, target) -> (number, backward)`` and perhaps parameters.
    x: the layer's input or the loss's scores, float64, an array, a tuple of arrays, or `Padded`; or whole numbers,
        which have no gradient. target: of the loss.
    atol, rtol: an element may differ by ``atol + rtol * |numerical|``.

    Returns the largest relative error (`relative_error`) by name, that of x as "x", of a tuple as "x[0]", "x[1]", ….
    Raises `GradientError` naming the parameter and its worst element, `DTypeError` where anything is not float64.
    """
    if isinstance(x, Padded):
        x = Padded(np.array(x.values), x.lengths)
    else:
        x = tuple(np.array(a) for a in x) if isinstance(x, tuple) else np.array(x)
    variables = {name: a for name, a in _named("x", x).items() if a.dtype.kind not in "iub"}
    parameters = dict(layer_or_loss.named_parameters()) if hasattr(layer_or_loss, "named_parameters") else {}
    for name, a in (*variables.items(), *((name, p.data) for name, p in parameters.items())):
        _require_float64(name, a)

    if hasattr(layer_or_loss, "zero_grad"):
        layer_or_loss.zero_grad()
    arguments = (x, True if target is None else target)
    y, backward = layer_or_loss.forward(*arguments)
    if target is None:
        rng = np.random.default_rng(seed)
        for name, a in _named("the output", y).items():
            _require_float64(name, a)
        upstream = tuple(np.asarray(rng.standard_normal(a.shape)) for a in _named("", y).values())
        copies = tuple(a.copy() for a in upstream)  # lest a layer work in place
        dx = backward(copies if isinstance(y, tuple) else copies[0])
    else:
        upstream, dx = (np.ones(1),), backward()
    # Copies: the forward passes below may use their memory again.
    found = {name: np.array(a) for name, a in _named("x", dx).items() if name in variables}
    found |= {name: np.array(p.grad) for name, p in parameters.items() if getattr(p, "grad", None) is not None}

    errors = {}
    for name, gradient in found.items():
        at = variables[name] if name in variables else parameters[name].data
        expected = numerical_gradient(lambda _: _flat(layer_or_loss.forward(*arguments)[0]), at, _flat(upstream), eps)
        _compare(name, gradient, expected, atol, rtol)
        errors[name] = relative_error(gradient, expected)
    return errors


def _named(name: str, arrays: Any) -> dict[str, Array]:
    """An array by its name, those of a tuple by theirs; of `Padded` the values."""
    arrays = split(arrays)[0]
    return {f"{name}[{i}]": a for i, a in enumerate(arrays)} if isinstance(arrays, tuple) else {name: arrays}


def _flat(arrays: Any) -> Array:
    """All numbers of an array, of a tuple of arrays, or of a number; of `Padded` the values."""
    arrays = split(arrays)[0]
    return np.concatenate([np.ravel(a) for a in (arrays if isinstance(arrays, tuple) else (arrays,))])


def _require_float64(name: str, a: Array) -> None:
    if a.dtype != np.float64:
        raise DTypeError(f"gradients are checked in float64: {name} is {a.dtype}")


def _compare(name: str, found: Array, expected: Array, atol: float, rtol: float) -> None:
    if found.shape != expected.shape:
        raise GradientError(f"gradient of {name}: expected shape {expected.shape}, got {found.shape}")
    excess = np.abs(found - expected) - (atol + rtol * np.abs(expected))
    excess[np.isnan(excess)] = np.inf
    if excess.size and excess.max() > 0:
        worst = np.unravel_index(excess.argmax(), excess.shape)
        where = ", ".join(str(int(i)) for i in worst)
        raise GradientError(
            f"gradient of {name}: {int(np.sum(excess > 0))} of {excess.size} elements differ, most at [{where}]: "
            f"got {found[worst]:.10g}, numerically {expected[worst]:.10g}"
        )
