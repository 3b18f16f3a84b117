"""A strict reader of IDX files, the format of MNIST and its relatives."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .files import DataError

_UBYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_NDIM = 32  # what every NumPy can hold


def read_idx(path: str | os.PathLike[str], ndim: int | None = None) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, gzip-compressed or not (its first bytes tell).

    ndim: the number of dimensions that the file must have; None allows any

    Returns a read-only uint8 array of the shape that the file states.
    Raises DataError, naming the file, if it is truncated, corrupt, of another type or longer than it states.

    Format: two zero bytes, a type byte, the number of dimensions, each size as a big-endian
    uint32, the elements in C order (http://yann.lecun.com/exdb/mnist/, "The IDX file format").
    """
    path = Path(path)
    content = decompressed(path, path.read_bytes())
    shape = _shape(path, content, ndim)
    start, count = 4 + 4 * len(shape), math.prod(shape)
    found = len(content) - start
    if found < count:
        raise DataError(f"{path}: truncated: shape {shape} needs {count} bytes of data, found {found}")
    if found > count:
        raise DataError(f"{path}: {found - count} trailing bytes after the {count} of shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def decompressed(path: Path, content: bytes, most: int | None = None) -> bytes:
    """The content of a file, gzip-compressed or not. path: for errors, which are a DataError.

    most: more bytes than that are an error before they take any memory; None for no limit
    """
    if not content.startswith(_GZIP_MAGIC):
        return content
    import gzip
    import zlib

    try:
        if most is None:
            return gzip.decompress(content)
        with gzip.open(io.BytesIO(content)) as file:
            found = file.read(most + 1)
    except EOFError as error:
        raise DataError(f"{path}: truncated: the gzip stream breaks off after {len(content)} bytes") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip stream: {error}") from error
    if len(found) > most:
        raise DataError(f"{path}: expands to more than {most} bytes")
    return found


def _shape(path: Path, content: bytes, ndim: int | None) -> tuple[int, ...]:
    """The sizes in the header, none of them 0."""
    if len(content) < 4:
        raise DataError(f"{path}: truncated: expected an IDX header, found {len(content)} bytes")
    magic, found = content[:4].hex(), content[3]
    if content[:3] != bytes([0, 0, _UBYTE]):
        raise DataError(f"{path}: not an IDX file of unsigned bytes: expected it to begin with 000008, found {magic}")
    if ndim is not None and found != ndim:
        raise DataError(f"{path}: expected {ndim} dimensions (magic 000008{ndim:02x}), found {found} (magic {magic})")
    if not 1 <= found <= _MAX_NDIM:
        raise DataError(f"{path}: expected 1 to {_MAX_NDIM} dimensions, found {found} (magic {magic})")
    header = content[4 : 4 + 4 * found]
    if len(header) < 4 * found:
        raise DataError(f"{path}: truncated: {found} dimensions need {4 * found} bytes, found {len(header)}")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    if 0 in shape:
        raise DataError(f"{path}: expected positive sizes, found shape {shape}")
    return shape
