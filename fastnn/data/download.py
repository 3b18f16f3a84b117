"""One file from the first mirror that has it, checked before it gets its name."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from .files import DataError, KnownFile

TIMEOUT = 20.0  # seconds that a mirror may stay silent
_BLOCK = 1 << 16


class _MirrorError(Exception):
    """A mirror did not deliver; the next one may."""


def download_file(file: KnownFile, urls: Sequence[str], target: Path) -> None:
    """Writes `file` to `target` from the first of `urls` that serves it.

    The content goes to a temporary file beside `target`, which is renamed once size and SHA-256 are
    right and removed otherwise, whatever happens; so several processes may do this at the same time.

    Raises DataError, with each URL and its failure, if none succeeds, or if the disk refuses.
    """
    failures = []
    for url in urls:
        try:
            _download_from(url, file, target)
            return
        except _MirrorError as error:
            failures.append(f"\n  {url}: {error}")
        except OSError as error:
            raise DataError(f"{target} cannot be written: {error}; FASTNN_CACHE can name another folder") from error
    raise DataError(f"{file.name} cannot be downloaded:{''.join(failures) or ' no mirror is known'}")


def _download_from(url: str, file: KnownFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        _write(url, file, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # after the rename there is nothing to remove


def _write(url: str, file: KnownFile, path: Path) -> None:
    digest, size = hashlib.new(file.algorithm), 0
    # Not tempfile: its files are private, but a cache may be shared. "x": never into somebody else's.
    with open(path, "xb") as stream, contextlib.closing(_blocks(url)) as blocks, _progress(file) as advance:
        for block in blocks:
            size += len(block)
            if size > file.size:  # a web page, or a stream without end
                raise _MirrorError(f"longer than the expected {file.size} bytes")
            digest.update(block)
            stream.write(block)
            advance(len(block))
        if problem := file.difference(size, digest.hexdigest()):
            raise _MirrorError(problem)
        stream.flush()
        os.fsync(stream.fileno())  # else a power cut after the rename leaves an empty file with the final name


def _blocks(url: str) -> Generator[bytes, None, None]:
    """The body at `url`, block by block. Raises _MirrorError for all that a network can do."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "fastnn"})  # some servers refuse urllib's own
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            while block := response.read(_BLOCK):
                yield block
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _MirrorError(str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not a URL
        raise _MirrorError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _progress(file: KnownFile) -> Iterator[Callable[[int], object]]:
    """Yields a function that takes the number of bytes received; it draws a bar where tqdm is installed."""
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        tqdm = None
    if tqdm is None:
        yield lambda count: None
        return
    with tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update
