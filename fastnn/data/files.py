"""Finding the files of a data set, and making sure that they are the right ones.

Searched in this order:

1. the folder that the caller names, and then no other
2. `$FASTNN_DATA/<set>/`, a collection that somebody else looks after
3. the cache: `<set>/` in `$FASTNN_CACHE`, or `$XDG_CACHE_HOME/fastnn`, or `~/.cache/fastnn`
4. a download into the cache: `$FASTNN_MIRROR/<set>/`, then the mirrors of the set
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_BLOCK = 1 << 18


class DataError(OSError):
    """A data set cannot be found, fetched or trusted; the message names the file and says why."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A file of a data set is in none of the places that were searched."""


class KnownFile(NamedTuple):
    """A file whose content is known beforehand.

    size: bytes
    sha256: hexadecimal, lower case
    """

    name: str
    size: int
    sha256: str

    def difference(self, size: int, sha256: str) -> str:
        """How a content of `size` bytes with the digest `sha256` differs from this file; "" if it does not."""
        if sha256 == self.sha256:
            return ""
        if size < self.size:
            what = f"truncated, or another file: {size} bytes, expected {self.size}"
        elif size > self.size:
            what = f"longer than expected: {size} bytes, expected {self.size}"
        else:
            what = f"damaged, or another file: {size} bytes, as expected"
        return f"{what}; SHA-256 {sha256}, expected {self.sha256}"


class FileSet(NamedTuple):
    """The files of one data set.

    name: of the set, and of its folder in `FASTNN_DATA`, in the cache and on `FASTNN_MIRROR`
    mirrors: URLs of folders with these files, tried in order; () if nobody serves them
    """

    name: str
    files: tuple[KnownFile, ...]
    mirrors: tuple[str, ...] = ()


def locate(
    wanted: FileSet, root: str | os.PathLike[str] | None = None, *, download: bool = True, verify: bool = True
) -> list[Path]:
    """The paths of the files of `wanted`, in its order, searched for as the top of this module says.

    root: the folder that holds the files; None searches the usual places
    download: whether a missing file may be downloaded into the cache
    verify: whether files found locally must have the known SHA-256; a download always must

    A damaged file is an error, except in the cache, where it is downloaded again if it may be.
    Raises DataNotFoundError (a FileNotFoundError) for missing files, otherwise DataError.
    """
    if root is not None:
        folder = Path(root).expanduser()
        if missing := _missing(wanted, folder):
            raise DataNotFoundError(f"{wanted.name}: {_state(folder, missing)}")
        return _all_in(wanted, folder, verify)
    shared = _from_environment("FASTNN_DATA")
    if shared is not None and not _missing(wanted, shared / wanted.name):
        return _all_in(wanted, shared / wanted.name, verify)
    cache = cache_folder() / wanted.name
    if not download:
        if _missing(wanted, cache):
            raise DataNotFoundError(f"{wanted.name}: not found, and download=False\n{_places(wanted)}")
        return _all_in(wanted, cache, verify)
    return [_fetched(wanted, file, cache / file.name, verify) for file in wanted.files]


def cache_folder() -> Path:
    """Where downloads are kept; the folder need not exist."""
    chosen = _from_environment("FASTNN_CACHE")
    if chosen is not None:
        return chosen
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification has relative paths ignored
        return Path(xdg) / "fastnn"
    try:
        return Path.home() / ".cache" / "fastnn"
    except RuntimeError as error:
        raise DataError(f"no folder for the cache ({error}): set FASTNN_CACHE") from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    import hashlib  # brings OpenSSL along, which `import fastnn` need not pay for

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _missing(wanted: FileSet, folder: Path) -> list[str]:
    return [file.name for file in wanted.files if not (folder / file.name).is_file()]


def _all_in(wanted: FileSet, folder: Path, verify: bool) -> list[Path]:
    for file in wanted.files if verify else ():
        if problem := _problem(wanted, file, folder / file.name):
            raise DataError(problem)
    return [folder / file.name for file in wanted.files]


def _problem(wanted: FileSet, file: KnownFile, path: Path) -> str:
    """What is wrong with the content of `path`; "" if nothing is."""
    sha256 = sha256_of(path)
    difference = file.difference(path.stat().st_size, sha256)
    if not difference:
        return ""
    twin = next((f" (this is the content of {other.name})" for other in wanted.files if other.sha256 == sha256), "")
    return f"{path}: {difference}{twin}"


def _fetched(wanted: FileSet, file: KnownFile, path: Path, verify: bool) -> Path:
    """The file's place in the cache, downloaded if it is not there or is damaged."""
    damage = ""
    if path.is_file():
        damage = _problem(wanted, file, path) if verify else ""
        if not damage:
            return path
        warnings.warn(f"{damage}; downloading it again", stacklevel=2)
    from fastnn.data.download import download_file  # not above: urllib and ssl take long to import

    try:
        download_file(file, _urls(wanted, file), path)
    except DataError as error:
        reasons = [str(error), *([damage] if damage else []), _places(wanted)]
        raise DataError(f"{wanted.name}: " + "\n".join(reasons)) from error
    return path


def _urls(wanted: FileSet, file: KnownFile) -> list[str]:
    own = os.environ.get("FASTNN_MIRROR")
    bases = ([f"{own.rstrip('/')}/{wanted.name}"] if own else []) + list(wanted.mirrors)
    return [f"{base.rstrip('/')}/{file.name}" for base in bases]


def _places(wanted: FileSet) -> str:
    """Where was searched and what was missing there, and where a copy may be put."""
    names = ", ".join(file.name for file in wanted.files)
    advice = f"Put {names} there, or name their folder with root=..., or a server that has them in FASTNN_MIRROR."
    return "\n".join(["Looked into:", *_looked_into(wanted), advice])


def _looked_into(wanted: FileSet) -> Iterator[str]:
    shared = _from_environment("FASTNN_DATA")
    if shared is None:
        yield f"  $FASTNN_DATA/{wanted.name}: FASTNN_DATA is not set"
    else:
        yield f"  FASTNN_DATA: {_state(shared / wanted.name, _missing(wanted, shared / wanted.name))}"
    cache = cache_folder() / wanted.name
    yield f"  the cache: {_state(cache, _missing(wanted, cache))}"


def _state(folder: Path, missing: Iterable[str]) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    return f"{folder}: missing {', '.join(missing) or 'nothing'}"
