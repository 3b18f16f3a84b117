"""Reading a CSV file: UTF-8, a header, fields quoted by ``"``; parted by comma, semicolon, tab or bar."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from .table import MISSING, Column, Table, check_names, listed

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_LOOKED_AT = 100  #: records from which the delimiter is told


def read_csv(path: Path, delimiter: str | None = None) -> Table:
    """The table in a file; a byte order mark is left out, and so are spaces around values.

    delimiter: one of DELIMITERS by name; None for the one that cuts the first records into as many fields each.

    Raises OSError, and ValueError for anything that is no such table, naming the line.
    """
    text = _text(path)
    separator = _sniffed(text, path) if delimiter is None else DELIMITERS[delimiter]
    records = _records(text, separator, path)
    if not records:
        raise ValueError(f"{path}: the file is empty")
    (_, names), rows = records[0], records[1:]
    names = [name.strip() for name in names]
    if all(_is_number(name) for name in names):
        raise ValueError(f"{path}: expected the names of the columns in the first line, got numbers: {listed(names)}")
    check_names(names, str(path))
    for line, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{path}: line {line}: expected {len(names)} fields, as the header has, got {len(row)}")
    if not rows:
        raise ValueError(f"{path}: a header, but no rows")
    columns = zip(*(row for _, row in rows), strict=True)
    return Table({name: _column(name, texts, path) for name, texts in zip(names, columns, strict=True)}, str(path))


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no CSV file in UTF-8: byte {error.start} is {data[error.start]:#04x}") from error
    if "\0" in text:
        raise ValueError(f"{path}: no CSV file: it has bytes that are zero")
    return text


def _records(text: str, separator: str, path: Path, most: int | None = None) -> list[tuple[int, list[str]]]:
    """The fields of each record, and the line that it ends in; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return [(reader.line_num, fields) for fields in islice(reader, most) if fields]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}") from error


def _sniffed(text: str, path: Path) -> str:
    """The delimiter. Raises ValueError if there are several that may be it."""
    widths = {name: _width(text, separator) for name, separator in DELIMITERS.items()}
    widest = max(widths.values())
    if widest < 2:  # one column; or lines that differ in length, of which the error will tell
        first = text.partition("\n")[0]
        return max(DELIMITERS.values(), key=first.count)
    found = [name for name, width in widths.items() if width == widest]
    if len(found) > 1:
        raise ValueError(f"{path}: its fields may be parted by {' or by '.join(found)}: say which by --delimiter")
    return DELIMITERS[found[0]]


def _width(text: str, separator: str) -> int:
    """How many fields the first records have, each of them as many; 0 if they differ."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        widths = {len(fields) for fields in islice(reader, _LOOKED_AT) if fields}
    except csv.Error:  # quotes that make no sense between these
        return 0
    return widths.pop() if len(widths) == 1 else 0


def _column(name: str, texts: Sequence[str], path: Path) -> Column:
    values = np.empty(len(texts), object)
    values[:] = [None if (text := raw.strip()) in MISSING else text for raw in texts]
    return Column(name, values, str(path))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
