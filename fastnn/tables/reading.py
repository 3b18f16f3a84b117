"""Which reader a file goes to, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from .csv_file import read_csv
from .npz import Arrays, read_npz
from .parquet import read_parquet
from .table import Table

_CSV, _PARQUET, _NPZ = (".csv", ".tsv", ".txt"), (".parquet", ".pq"), ".npz"
_KNOWN = f"{', '.join((*_CSV, *_PARQUET, _NPZ))}, or a folder of pictures"


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a CSV or Parquet file."""
    return path.suffix.lower() in (*_CSV, *_PARQUET) and not path.is_dir()


def check_exists(path: Path) -> None:
    """Raise FileNotFoundError unless there is a file or a folder."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")


def read_table(path: Path, delimiter: str | None = None) -> Table:
    """The table in a CSV, Parquet or .npz file.

    Raises OSError for a file that cannot be read, ValueError for one of another kind, what the readers raise.
    """
    check_exists(path)
    if not is_table(path):
        found = read_arrays(path).inputs
        if not isinstance(found, Table):
            raise ValueError(f"{path}: expected a table, or an x (N, features), got images of shape {found.shape}")
        return found
    return read_csv(path, delimiter) if path.suffix.lower() in _CSV else read_parquet(path)


def read_arrays(path: Path) -> Arrays:
    """The arrays in an .npz file. Raises OSError for a file that cannot be read, ValueError for one of another kind."""
    check_exists(path)
    if path.suffix.lower() != _NPZ or path.is_dir():
        raise ValueError(f"{path}: what kind of file is that? Expected {_KNOWN}")
    return read_npz(path)
