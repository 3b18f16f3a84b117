"""What a file to train on holds: inputs, a target, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._kernels import Array
from .fitting import fit_columns, fit_pixels
from .inputs import Columns, Pixels
from .pictures import read_classes
from .reading import check_exists, is_table, read_arrays, read_table
from .settings import Settings
from .table import Column, Table


@dataclass(frozen=True)
class Source:
    """Samples of a file.

    kind: ``"table"``, ``"array"`` of images or ``"pictures"``
    inputs: a table, its target left out; or images (N, C, H, W)
    """

    file: Path
    kind: str
    inputs: Table | Array
    target: Column

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return len(self.target.values)

    def fitted(self, rows: Array, settings: Settings) -> tuple[Columns | Pixels, Array]:
        """What these rows (n,) tell of the inputs, and all inputs encoded by it."""
        if isinstance(self.inputs, Table):
            columns = fit_columns(list(self.inputs.columns.values()), rows)
            return columns, columns.encode(self.inputs)
        pixels = fit_pixels(self.inputs, rows, self.kind, settings.size is not None)
        return pixels, pixels.encode(self.inputs)


def read_source(path: Path, settings: Settings) -> Source:
    """The samples in a file or a folder of pictures.

    Raises OSError for a file that cannot be read, ValueError for one that holds no such samples and for settings that
    are for files of another kind, ImportError without what its format needs.
    """
    check_exists(path)
    if path.is_dir():
        settings.check_unused(path, "a folder of pictures", "target", "drop", "categorical", "delimiter")
        pictures, target = read_classes(path, settings.size)
        return Source(path, "pictures", pictures.images, target)
    if is_table(path):
        settings.check_unused(path, "a table", "size")
        return _of_table(path, read_table(path, settings.delimiter), settings)
    settings.check_unused(path, "an .npz file, whose target is y", "target", "size", "delimiter")
    inputs, found = read_arrays(path)
    if found is None:
        raise ValueError(f"{path}: expected arrays x and y, got x without y")
    if isinstance(inputs, Table):
        return Source(path, "table", _without(_chosen(inputs, settings), settings.drop), found)
    settings.check_unused(path, "an .npz file of images", "drop", "categorical")
    return Source(path, "array", inputs, found)


def _of_table(path: Path, table: Table, settings: Settings) -> Source:
    """The target is the column that the settings name, else the last."""
    name = list(table.columns)[-1] if settings.target is None else settings.target
    if name in settings.drop:
        raise ValueError(f"{path}: column {name!r} is the target, and cannot be left out; name another by --target")
    table = _chosen(table, settings)
    return Source(path, "table", _without(table, (*settings.drop, name)), table[name])


def _chosen(table: Table, settings: Settings) -> Table:
    """The same table, some of whose columns are categories whatever they hold."""
    chosen = {
        column.name: Column(column.name, column.texts, column.file, categorical=True)
        for column in table.select(settings.categorical)
    }
    return Table({**table.columns, **chosen}, table.file)


def _without(table: Table, names: Sequence[str]) -> Table:
    """A table without some columns; there must be all that are named, and one more."""
    table.select(names)
    columns = {name: column for name, column in table.columns.items() if name not in names}
    if not columns:
        raise ValueError(f"{table.file}: no column is left to predict from")
    return Table(columns, table.file)
