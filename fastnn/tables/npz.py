"""Reading an .npz file: arrays ``x`` and, for training, ``y``; nothing in it is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._kernels import Array
from ..data.files import reading
from .table import Column, Table, listed


class Arrays(NamedTuple):
    """What an .npz file holds.

    inputs: a table with columns x0, x1, … of an x (N, features); images (N, C, H, W) of an x (N, C, H, W) or (N, H, W)
    target: y, None where there is none
    """

    inputs: Table | Array
    target: Column | None


def read_npz(path: Path) -> Arrays:
    """Raises OSError for a file that is damaged or holds pickles, ValueError for arrays of another shape or type."""
    with reading(path, "no .npz file, or a damaged one"):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            arrays = {name: archive[name] for name in archive.files if name in ("x", "y")}
            names = archive.files
    if "x" not in arrays:
        raise ValueError(f"{path}: expected arrays x and y, got {listed(names) or 'none'}")
    x = arrays["x"]
    if x.ndim not in (2, 3, 4) or not x.size:
        raise ValueError(f"{path}: x: expected (N, features), (N, H, W) or (N, C, H, W), got {x.shape}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: x: expected real numbers, got {x.dtype}")
    target = _target(arrays["y"], len(x), path) if "y" in arrays else None
    return Arrays(_features(x, path) if x.ndim == 2 else _images(x, path), target)


def _features(x: Array, path: Path) -> Table:
    numbers = np.asfortranarray(x, np.float64)  # columns lie together
    columns = (Column(f"x{i}", numbers[:, i], str(path)) for i in range(x.shape[1]))
    return Table({column.name: column for column in columns}, str(path))


def _images(x: Array, path: Path) -> Array:
    if x.ndim == 3:
        x = x[:, None]
    if x.shape[3] in (1, 3, 4) and x.shape[1] > 4:
        raise ValueError(f"{path}: x: expected (N, C, H, W), got {x.shape}, which looks like (N, H, W, C)")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        sample = int(np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))[0])
        raise ValueError(f"{path}: x: expected finite numbers in images, got NaN or infinity in sample {sample}")
    return x


def _target(y: Array, count: int, path: Path) -> Column:
    """y as a column; a boolean or a text is a text there."""
    if y.shape not in ((count,), (count, 1)):
        raise ValueError(f"{path}: y: expected ({count},), one for each sample of x, got {y.shape}")
    if y.dtype.kind not in "fiubU":
        raise ValueError(f"{path}: y: expected numbers or texts, got {y.dtype}")
    y = y.reshape(count)
    if y.dtype.kind in "fiu":
        return Column("y", y.astype(np.float64), str(path))
    texts = np.empty(count, object)
    texts[:] = [str(value) or None for value in y.tolist()]
    return Column("y", texts, str(path))
