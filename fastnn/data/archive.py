"""Files in a tar archive, read one after the other; nothing is ever unpacked to a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .files import DataError, reading


def members(path: Path, wanted: Callable[[str], object], largest: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files in a .tar.gz whose names are wanted, in the archive's order.

    largest: bytes, more than any of them has: what a damaged archive may make of itself
    Raises DataError for an archive that breaks off or is none, and for a wanted name that is no file or too large.
    """
    import tarfile

    what = "truncated or corrupt archive"
    with reading(path, what):
        archive = tarfile.open(path, "r|gz")  # noqa: SIM115
    with archive:
        while True:
            with reading(path, what):
                member = archive.next()
            if member is None:
                return
            if not wanted(member.name):
                continue
            if not member.isreg() or member.size > largest:
                raise DataError(f"{path}: {member.name}: expected a file of at most {largest} bytes")
            with reading(path, what):
                stream = archive.extractfile(member)
                content = b"" if stream is None else stream.read()
            yield member.name, content
