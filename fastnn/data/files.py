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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .. import _files

_BLOCK = 1 << 18


class DataError(OSError):
    """A data set cannot be found, fetched or trusted; the message names the file and says why."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A file of a data set is in none of the places that were searched."""


class KnownFile(NamedTuple):
    """A file whose content is known beforehand.

    name: of the file, or its path in the folder of its set
    size: bytes
    digest: its SHA-256, or where nothing better was ever published its MD5; hexadecimal, lower case; "" if neither was
    twins: digests of files that are as good, such as the same content compressed anew
    """

    name: str
    size: int
    digest: str
    twins: tuple[str, ...] = ()

    @property
    def algorithm(self) -> str:
        """What the digests are, as hashlib names it."""
        return "sha256" if len(self.digest) == 64 else "md5"

    def difference(self, size: int, digest: str) -> str:
        """How a content of `size` bytes with this digest differs from the file; "" if it does not."""
        if digest in (self.digest, *self.twins):
            return ""
        if size < self.size:
            what = f"truncated, or another file: {size} bytes, expected {self.size}"
        elif size > self.size:
            what = f"longer than expected: {size} bytes, expected {self.size}"
        else:
            what = f"damaged, or another file: {size} bytes, as expected"
        name = {"sha256": "SHA-256", "md5": "MD5"}[self.algorithm]
        return f"{what}; {name} {digest}, expected {self.digest}"


class FileSet(NamedTuple):
    """The files of one data set, in one of the forms in which it comes.

    name: of the set, and of its folder in `FASTNN_DATA`, in the cache and on `FASTNN_MIRROR`
    mirrors: URLs of folders with these files, tried in order; () if nobody serves them
    """

    name: str
    files: tuple[KnownFile, ...]
    mirrors: tuple[str, ...] = ()


def locate(
    wanted: FileSet, root: str | os.PathLike[str] | None = None, *, download: bool = True, verify: bool = True
) -> list[Path]:
    """The paths of the files of `wanted`, in its order; see `locate_any`."""
    return locate_any([wanted], root, download=download, verify=verify)[1]


def locate_any(
    forms: Sequence[FileSet], root: str | os.PathLike[str] | None = None, *, download: bool = True, verify: bool = True
) -> tuple[FileSet, list[Path]]:
    """The form of a data set that was found, and the paths of its files, searched for as the top of this module says.

    forms: of one data set, under one name; where a place has several, the first counts. The first one is downloaded.
    root: the folder that holds the files; None searches the usual places
    download: whether a missing file may be downloaded into the cache
    verify: whether files found locally must have the known SHA-256; a download always must

    A damaged file is an error, except in the cache, where it is downloaded again if it may be.
    Raises DataNotFoundError (a FileNotFoundError) for missing files, otherwise DataError.
    """
    name = forms[0].name
    if root is not None:
        folder = Path(os.path.expanduser(root))
        found = _complete(forms, folder)
        if found is None:
            raise DataNotFoundError(f"{name}: {_state(folder, forms)}")
        return found, _all_in(found, folder, verify)
    shared = _files.from_environment("FASTNN_DATA")
    if shared is not None and (found := _complete(forms, shared / name)):
        return found, _all_in(found, shared / name, verify)
    cache = cache_folder() / name
    found = _complete(forms, cache)
    if not download:
        if found is None:
            raise DataNotFoundError(f"{name}: not found, and download=False\n{_places(forms)}")
        return found, _all_in(found, cache, verify)
    if found is None or found is forms[0]:
        return forms[0], [_fetched(forms, file, cache / file.name, verify) for file in forms[0].files]
    return found, _all_in(found, cache, verify)


def cache_folder() -> Path:
    """Where downloads are kept; the folder need not exist."""
    try:
        return _files.cache_folder()
    except RuntimeError as error:
        raise DataError(f"no folder for the cache ({error}): set FASTNN_CACHE") from error


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns errors into a DataError: on damaged files, readers of the standard library raise errors of any kind.

    what: is wrong with the file, if it cannot be read
    """
    try:
        yield
    except Exception as error:
        raise DataError(f"{path}: {what}: {str(error)[:200] or type(error).__name__}") from error


def digest_of(path: Path, algorithm: str) -> str:
    """The digest of a file's content, hexadecimal."""
    import hashlib  # brings OpenSSL along, which `import fastnn` need not pay for

    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _complete(forms: Sequence[FileSet], folder: Path) -> FileSet | None:
    """The first form of which a folder has all files."""
    return next((form for form in forms if not _missing(form, folder)), None)


def _missing(wanted: FileSet, folder: Path) -> list[str]:
    return [file.name for file in wanted.files if not (folder / file.name).is_file()]


def _all_in(wanted: FileSet, folder: Path, verify: bool) -> list[Path]:
    for file in wanted.files if verify else ():
        if problem := _problem(wanted, file, folder / file.name):
            raise DataError(problem)
    return [folder / file.name for file in wanted.files]


def _problem(wanted: FileSet, file: KnownFile, path: Path) -> str:
    """What is wrong with the content of `path`; "" if nothing is, as far as is known."""
    if not file.digest:
        return ""
    digest = digest_of(path, file.algorithm)
    difference = file.difference(path.stat().st_size, digest)
    if not difference:
        return ""
    other = next((f" (this is the content of {other.name})" for other in wanted.files if other.digest == digest), "")
    return f"{path}: {difference}{other}"


def _fetched(forms: Sequence[FileSet], file: KnownFile, path: Path, verify: bool) -> Path:
    """The file's place in the cache, downloaded if it is not there or is damaged. file: of the first form."""
    wanted, damage = forms[0], ""
    if path.is_file():
        damage = _problem(wanted, file, path) if verify else ""
        if not damage:
            return path
        warnings.warn(f"{damage}; downloading it again", stacklevel=2)
    from .download import download_file  # not above: urllib and ssl take long to import

    try:
        download_file(file, _urls(wanted, file), path)
    except DataError as error:
        reasons = [str(error), *([damage] if damage else []), _places(forms)]
        raise DataError(f"{wanted.name}: " + "\n".join(reasons)) from error
    return path


def _urls(wanted: FileSet, file: KnownFile) -> list[str]:
    own = os.environ.get("FASTNN_MIRROR")
    bases = ([f"{own.rstrip('/')}/{wanted.name}"] if own else []) + list(wanted.mirrors)
    return [f"{base.rstrip('/')}/{file.name}" for base in bases]


def _places(forms: Sequence[FileSet]) -> str:
    """Where was searched and what was missing there, and where a copy may be put."""
    names = ", ".join(file.name for file in forms[0].files)
    advice = f"Put {names} there, or name their folder with root=..., or a server that has them in FASTNN_MIRROR."
    return "\n".join(["Looked into:", *_looked_into(forms), advice])


def _looked_into(forms: Sequence[FileSet]) -> Iterator[str]:
    name, shared = forms[0].name, _files.from_environment("FASTNN_DATA")
    if shared is None:
        yield f"  $FASTNN_DATA/{name}: FASTNN_DATA is not set"
    else:
        yield f"  FASTNN_DATA: {_state(shared / name, forms)}"
    yield f"  the cache: {_state(cache_folder() / name, forms)}"


def _state(folder: Path, forms: Sequence[FileSet]) -> str:
    """What a folder lacks: of the form of which it has most, or of the first one."""
    if not folder.is_dir():
        return f"{folder}: no such folder"
    found = max(forms, key=lambda form: len(form.files) - len(_missing(form, folder)) if len(forms) > 1 else 0)
    return f"{folder}: missing {', '.join(_missing(found, folder)) or 'nothing'}"
