"""Reading a Parquet file with pandas and pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import reading
from .table import Column, Table, check_names


def read_parquet(path: Path) -> Table:
    """The table in a file; an index that pandas has put into it is no column.

    Raises OSError for a file that cannot be read, ValueError for a column of lists or of other values that are neither
    numbers, booleans, texts nor dates, ImportError without pandas or pyarrow.
    """
    try:
        import pandas as pd
        import pyarrow  # noqa: F401 -- pandas would say in its own words that it is missing
    except ImportError as error:
        raise ImportError('a Parquet file needs pandas and pyarrow: pip install "fastnn[parquet]"') from error
    with reading(path, "no Parquet file, or a damaged one"):
        frame = pd.read_parquet(path, engine="pyarrow")
    names = [str(name).strip() for name in frame.columns]
    if not names:
        raise ValueError(f"{path}: no columns")
    check_names(names, str(path))
    if not len(frame):
        raise ValueError(f"{path}: columns, but no rows")
    columns = (Column(name, _values(frame.iloc[:, i], name, path), str(path)) for i, name in enumerate(names))
    return Table({column.name: column for column in columns}, str(path))


def _values(series: Any, name: str, path: Path) -> Any:
    """What `Column` holds: numbers as float64, anything else as texts."""
    from pandas.api import types

    dtype = series.dtype
    if types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype) and not types.is_complex_dtype(dtype):
        return series.to_numpy(np.float64, na_value=np.nan)
    values = np.empty(len(series), object)
    values[:] = [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
    for row, value in enumerate(values):
        if value is not None:
            values[row] = _as_text(value, f"{path}: column {name!r}: row {row + 1}") or None
    return values


def _as_text(value: Any, where: str) -> str:
    """A text, a boolean, a number or a date as it would stand in a CSV file."""
    if not np.isscalar(value) and not hasattr(value, "isoformat"):
        raise ValueError(f"{where}: expected a number, a boolean or a text, got {type(value).__name__}")
    if isinstance(value, bytes | complex):
        raise ValueError(f"{where}: expected a number, a boolean or a text, got {type(value).__name__}")
    return str(value).strip()
