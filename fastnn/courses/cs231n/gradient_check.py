"""Numerical gradients, by central differences."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ..._kernels import Array
from ...gradcheck import numerical_gradient


def eval_numerical_gradient(f: Callable[[Array], Any], x: Array, verbose: bool = True, h: float = 1e-5) -> Array:
    """The gradient at x of f, which returns a number. x: any shape, float64; restored. Returns an array like x.

    verbose: print it.
    """
    gradient = numerical_gradient(f, x, eps=h)
    if verbose:
        print(gradient)
    return gradient


def eval_numerical_gradient_array(f: Callable[[Array], Any], x: Array, df: Array, h: float = 1e-5) -> Array:
    """The gradient at x of f, which returns an array, under the upstream gradient df of its shape.

    x: any shape, float64; restored. Returns an array like x.
    """
    return numerical_gradient(f, x, df, eps=h)


def grad_check_sparse(
    f: Callable[[Array], Any], x: Array, analytic_grad: Array, num_checks: int = 10, h: float = 1e-5
) -> None:
    """Print numerical and analytic gradient of f, which returns a number, at elements of x drawn by `random`.

    x, analytic_grad: of one shape, float64.
    """
    for _ in range(num_checks):
        i = tuple(random.randrange(size) for size in x.shape)
        kept = x[i]
        try:
            x[i] = kept + h
            above = f(x)
            x[i] = kept - h
            below = f(x)
        finally:
            x[i] = kept
        numerical, analytic = (above - below) / (2 * h), analytic_grad[i]
        error = abs(numerical - analytic) / max(1e-8, abs(numerical) + abs(analytic))
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")


__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse"]
