"""Where files are kept, and writing them so that nobody ever sees half of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

StrPath = str | os.PathLike[str]


def from_environment(variable: str) -> Path | None:
    """The folder that a variable names, None where it is not set."""
    value = os.environ.get(variable)
    return Path(os.path.expanduser(value)) if value else None


def cache_folder() -> Path:
    """Where things are kept that can be had again; it need not exist. Raises RuntimeError where there is no home."""
    chosen = from_environment("FASTNN_CACHE")
    if chosen is not None:
        return chosen
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification has relative paths ignored
        return Path(xdg) / "fastnn"
    return Path.home() / ".cache" / "fastnn"


def check_folder(path: StrPath) -> None:
    """Raise FileNotFoundError unless there is a folder for this file, which is to be written later."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(folder)!r} for {os.fspath(path)!r}")


def write_bytes(path: StrPath, data: bytes, one_writer: bool = False) -> None:
    """Write a file that replaces an older one only when it is complete.

    one_writer: nobody else writes this file meanwhile, so that what a killed process left half-written is overwritten.
    Whoever reads it meanwhile, or after a crash, sees the old file or the new one. Behind a symbolic link, the file
    that it names is replaced; permissions stay. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder, not a file to write")
    if target.exists() and not target.is_file():  # a device or a pipe is written to, never replaced
        target.write_bytes(data)
        return
    temporary = target.with_name(f".{target.name if one_writer else os.urandom(8).hex()}.part")
    try:
        with open(temporary, "wb" if one_writer else "xb") as stream:  # not tempfile: its files are private
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut after the rename leaves an empty file with the final name
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # after the rename there is nothing to remove
