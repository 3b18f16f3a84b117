"""The states that a frozen encoder gives to the tokens of texts, in files, so that no text is encoded twice.

Each part of a data set has two files, named after what is in them. NAME-KEY.f16 holds the states of all its texts in
their order, in half precision. NAME-KEY.json is the record: what they are states of, and a checksum for each block of
256 texts that is written. A run goes on where another was broken off, with the first block without a checksum; a block
that its checksum does not fit is encoded anew. A block is always encoded by itself, so that the states are the same
however often a run was broken off.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import fastnn as fn
from fastnn._kernels import Array
from fastnn.text import Encoder

from .._files import write_bytes
from .._output import to_json

BLOCK = 256  #: texts that are encoded, written and recorded together
_FORMAT = 1


def kept(
    encoder: Encoder, parts: Mapping[str, Sequence[Array]], folder: Path, limit: float, progress: bool = False
) -> dict[str, TokenStates]:
    """The states of each part's texts, read from the folder where they are in it, else encoded and written.

    parts: by name, the token ids (T_i,) of each text. limit: bytes that all files may take.
    Raises OSError, before anything is encoded, if they take more, or if the disk has too little room for them.
    """
    found = {name: TokenStates(encoder, ids, folder, name) for name, ids in parts.items()}
    _check_room(folder, list(found.values()), limit)
    total = sum(states.tokens for states in found.values())
    with _shown(progress, total, f"states of {total} tokens") as advance:
        for states in found.values():
            states.fill(advance)
    return found


def _check_room(folder: Path, wanted: Sequence[TokenStates], limit: float) -> None:
    needed = sum(states.bytes for states in wanted)
    what = f"the states of {sum(states.tokens for states in wanted)} tokens take {_gb(needed)}"
    if needed > limit:
        raise OSError(f"{what}, more than the {_gb(limit)} that are allowed: allow more, or take fewer texts")
    folder.mkdir(parents=True, exist_ok=True)
    missing, free = sum(states.bytes - states.on_disk() for states in wanted), shutil.disk_usage(folder).free
    if missing > free:
        raise OSError(
            f"{what}, of which {_gb(missing)} are missing, but {folder} has room for {_gb(free)}: name another"
        )


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


class TokenStates:
    """States (T_i, E) of the tokens of N texts, in half precision in a file."""

    def __init__(self, encoder: Encoder, ids: Sequence[Array], folder: Path, name: str) -> None:
        """ids: (T_i,) int64 of each text. Nothing is read or written yet; see `fill`."""
        self.encoder, self.ids = encoder, ids
        self.lengths = np.array([len(text) for text in ids], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])  #: where each text begins, in tokens
        self.tokens, self.width = int(self.offsets[-1]), encoder.width
        self.bytes = 2 * self.width * self.tokens
        texts = hashlib.sha256(self.lengths.tobytes())
        for text in ids:
            texts.update(text.tobytes())
        self.about = {
            "format": _FORMAT,
            "encoder": encoder.fingerprint,
            "texts": texts.hexdigest(),
            "shape": [self.tokens, self.width],
        }
        key = hashlib.sha256(json.dumps(self.about).encode()).hexdigest()[:16]
        self.path, self.record = folder / f"{name}-{key}.f16", folder / f"{name}-{key}.json"
        self.encoded = 0  #: how many tokens `fill` had to encode
        self._states: Array = np.zeros((0, self.width), np.float16)

    def __len__(self) -> int:
        return len(self.lengths)

    def on_disk(self) -> int:
        """How many of the bytes have their place on the disk."""
        return min(self.bytes, 512 * self.path.stat().st_blocks) if self.path.is_file() else 0

    def fill(self, advance: Callable[[int], object] = lambda count: None) -> None:
        """Check what the file has, and encode what it lacks. advance: is told of so many tokens more."""
        sums = self._recorded()
        with open(self.path, "r+b" if self.path.is_file() else "w+b") as file:
            file.truncate(self.bytes)  # a longer file is shortened, a shorter one filled with zeros
            wanted = [number for number in range(len(sums)) if not self._has(file.fileno(), number, sums[number])]
            damaged = sum(sums[number] is not None for number in wanted)
            if damaged:
                warnings.warn(f"{self.path}: {damaged} blocks of {len(sums)} are damaged; encoding them", stacklevel=2)
            advance(self.tokens - sum(self._tokens_in(number) for number in wanted))
            for number in wanted:
                block = self._encoded(number)
                file.seek(self._place(number)[0])
                file.write(block.data)  # not by way of a map: on a full disk that would kill the process
                file.flush()
                sums[number] = zlib.crc32(block.data)
                write_bytes(self.record, to_json({**self.about, "sums": sums}).encode(), one_writer=True)
                advance(len(block))
        self._states = np.asarray(np.memmap(self.path, np.float16, "r", shape=(self.tokens, self.width)))

    def _recorded(self) -> list[int | None]:
        """The checksum of each block that was written; none of a record that is damaged, or of other states."""
        nothing: list[int | None] = [None] * -(-len(self) // BLOCK)
        try:
            found = json.loads(self.record.read_bytes())
            sums = found.pop("sums")
            if found == self.about and len(sums) == len(nothing) and all(type(s) in (int, type(None)) for s in sums):
                return list(sums)
        except FileNotFoundError:
            return nothing
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        warnings.warn(f"{self.record}: damaged, or of other texts; encoding all of them", stacklevel=3)
        return nothing

    def _has(self, file: int, number: int, checksum: int | None) -> bool:
        """Whether a block is in the file."""
        start, stop = self._place(number)
        return checksum is not None and zlib.crc32(os.pread(file, stop - start, start)) == checksum

    def _tokens_in(self, number: int) -> int:
        start, stop = self._place(number)
        return (stop - start) // (2 * self.width)

    def _place(self, number: int) -> tuple[int, int]:
        """Where a block begins and ends, in bytes."""
        ends = self.offsets[[number * BLOCK, min((number + 1) * BLOCK, len(self))]]
        start, stop = (2 * self.width * int(end) for end in ends)
        return start, stop

    def _encoded(self, number: int) -> Array:
        """The states of a block, (tokens, E) float16."""
        first, stop = number * BLOCK, min((number + 1) * BLOCK, len(self))
        offsets = self.offsets[first : stop + 1] - self.offsets[first]
        block = np.empty((int(offsets[-1]), self.width), np.float16)
        with np.errstate(over="ignore"):
            for i, states in self.encoder.states(self.ids[first:stop]):
                block[offsets[i] : offsets[i + 1]] = states
        if not np.isfinite(block).all():
            raise ValueError(f"encoder {self.encoder.name!r}: a state is no number, or too large for half precision")
        self.encoded += len(block)
        return block

    def batch(self, indices: Array) -> fn.Padded:
        """The states of some texts, float32, padded with zeros; read in the order in which they lie in the file."""
        lengths = self.lengths[indices]
        values = np.zeros((len(indices), int(lengths.max()), self.width), np.float32)
        for row in np.argsort(indices):
            i = indices[row]
            values[row, : lengths[row]] = self._states[self.offsets[i] : self.offsets[i + 1]]
        return fn.Padded(values, lengths)


@contextmanager
def _shown(progress: bool, total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Yields a function that takes how many tokens more are done: a bar with tqdm installed, else a line each tenth."""
    if not progress or sys.stderr is None:
        yield lambda count: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _lines(total, what)
        return
    with tqdm(total=total, desc=what, unit="token", unit_scale=True) as bar:
        yield bar.update


def _lines(total: int, what: str) -> Callable[[int], object]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        tenths = 10 * done // total
        done += count
        if 10 * done // total > tenths:
            print(f"{what}: {done / total:.0%}", file=sys.stderr)

    return advance
