"""Pictures of pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..._errors import ShapeError
from ..._kernels import Array


def visualize_grid(Xs: Any, ubound: float = 255.0, padding: int = 1) -> Array:
    """Images side by side in a square grid, row by row, each scaled by itself from 0 to `ubound`.

    Xs: (N, H, W, C). padding: pixels, which are 0, between two images. Returns (rows, columns, C) float64.
    """
    images = np.asarray(Xs, np.float64)
    if images.ndim != 4:
        raise ShapeError(f"visualize_grid: expected images (N, H, W, C), got {images.shape}")
    count, H, W, C = images.shape
    side = math.ceil(math.sqrt(count))
    grid = np.zeros((max(side * (H + padding) - padding, 0), max(side * (W + padding) - padding, 0), C))
    for i, image in enumerate(images):
        row, column = (n * (size + padding) for n, size in zip(divmod(i, side), (H, W), strict=True))
        low, high = image.min(), image.max()
        grid[row : row + H, column : column + W] = ubound * (image - low) / max(high - low, 1e-30)
    return grid


__all__ = ["visualize_grid"]
