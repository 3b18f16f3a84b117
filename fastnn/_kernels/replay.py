"""Record what kernels a piece of Python calls, make sure that the record is right, then replay it without Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .kernel import Array, active

Slots = tuple[Array, ...]
Results = tuple[Array, ...]

_MOST_RECORDS = 8  #: of one replayer; one for each shape, so a stream of ever new shapes runs from Python
_MOST_UNSETTLED = 4  #: runs that may settle things
_UNSETTLED = "attributes of a layer, or options, change from run to run"
_MOST_SEEN = 64  #: shapes that are remembered because they may come again
_VALUES = (bool, int, float, complex, str, bytes)  #: compared by value, where other things are by identity


@dataclass
class _Entry:
    """A record, what its body returned, and what to hold against a later run."""

    record: Any
    results: Results
    slots: Slots  #: copies
    signature: list[Any]
    trusted: bool = False


class Replayer:
    """Runs ``body(*slots)``: from Python at first, which is recorded, a second time to verify, then from the record.

    body: calls kernels on the slots and on memory that stays where it is, and returns arrays that kernels wrote. Run
        from Python it is always the real run: a body with state of its own sees what it would see without all this.
    signature: everything that decides which kernels are called, and on what; looked at when something changed.
    where: what a kernel is called from, for messages.
    refresh: brings memory up to date that kernels read, such as options, when something changed.
    """

    def __init__(
        self,
        body: Callable[..., Results],
        signature: Callable[[], list[Any]],
        where: Callable[[], str],
        refresh: Callable[[], None] = lambda: None,
        classes: int = 0,
    ) -> None:
        """classes: in `Record.call`, labels in the last slot are checked to be below it; 0 for no check."""
        self._body, self._signature, self._where, self._refresh = body, signature, where, refresh
        self._classes = classes
        self._entries: dict[Any, _Entry] = {}
        self._latest: tuple[Any, Any, Array] | None = None  # backend, record, and where that writes its first result
        self._seen: set[Any] = set()
        self._preparing = threading.Lock()
        self._unsettled = 0  # runs that changed what they depend on
        self.obstacle: str | None = None  #: why it is run from Python for good, None if it is not

    def record(self, slots: Slots) -> Any:
        """The record that does what the body would do on these slots; None while there is none."""
        entry = self._entry(slots)
        return None if entry is None else entry.record

    def _entry(self, slots: Slots) -> _Entry | None:
        """What can be replayed on these slots."""
        entry = self._entries.get(_key(slots))
        if entry is None or not entry.trusted:
            return None
        if not entry.record.holds:
            if not _same(self._signature(), entry.signature):
                self._entries.pop(_key(slots), None)
                return None
            self._refresh()
            entry.record.trust()
        return entry

    def result(self, slots: Slots) -> Array | None:
        """A copy of what the body would return first, by `record`; None while there is none."""
        entry = self._entry(slots)
        if entry is None:
            return None
        self._latest = active(), entry.record, entry.results[0]
        return self.result_like_latest(slots)

    def result_like_latest(self, slots: Slots) -> Array | None:
        """The same by the record that `result` used last, if that is still known to hold: the shortest way."""
        latest = self._latest
        if latest is None or active() is not latest[0]:
            return None
        found: Array | None = latest[1].compute(slots, latest[2])
        return found

    def comes_again(self, slots: Slots) -> bool:
        """Whether slots of this kind were asked about before, and a record may still come of it."""
        key = _key(slots)
        if self.obstacle is not None or active().Record is None or len(self._entries) >= _MOST_RECORDS:
            return False
        if active().Record.is_recording():  # these very calls, as part of others
            return False
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        again = key in self._seen
        self._seen.add(key)
        return again

    def run(self, slots: Slots) -> Results:
        """Run the body from Python, and learn from it."""
        key = _key(slots)
        entry = self._entries.get(key)
        if self.obstacle is not None or active().Record is None or (entry is not None and entry.trusted):
            return self._body(*slots)
        if entry is not None and _same(self._signature(), entry.signature):
            if any(np.array_equal(a, b) for a, b in zip(slots, entry.slots, strict=True)):
                return self._body(*slots)  # from which an array that is never computed anew could not be told
            return self._verify(entry, slots, [])
        if entry is None and len(self._entries) >= _MOST_RECORDS:
            return self._body(*slots)
        results, entry = self._record(slots, [])
        if entry is not None:
            self._entries[key] = entry
        return results

    def prepare(self, slots: Slots, others: Slots) -> None:
        """Record the body on `slots` and verify it on `others`, at once; memory that kernels change is put back.

        Where `obstacle` says why afterwards, it cannot be replayed. Nothing is done while another thread is at it.
        """
        if not self._preparing.acquire(blocking=False):
            return
        done: list[Any] = []
        try:
            if self._entry(slots) is not None:  # of another thread, just now
                return
            for _ in range(2):  # a first run may settle things, so that it is not like those that follow
                _, entry = self._record(slots, done)
                if entry is not None or self.obstacle is not None:
                    break
            if entry is not None:
                self._verify(entry, others, done)
                if entry.trusted:
                    self._entries.pop(_key(slots), None)
                    if len(self._entries) >= _MOST_RECORDS:
                        del self._entries[next(iter(self._entries))]
                    self._entries[_key(slots)] = entry
        finally:
            for record in reversed(done):
                record.restore()
            self._preparing.release()

    def _record(self, slots: Slots, done: list[Any]) -> tuple[Results, _Entry | None]:
        """Run the body and make a record of it, unless it changed what it depends on; the record is added to `done`."""
        before = self._signature()
        results = self._run_into(active().Record(self._where), slots, done)
        after = self._signature()
        if not _same(before, after):
            self._unsettled += 1
            if self._unsettled > _MOST_UNSETTLED:
                self._refuse(_UNSETTLED)
        elif len(done[-1]) and self.obstacle is None:
            return results, _Entry(done[-1], results, tuple(a.copy() for a in slots), after)
        return results, None

    def _verify(self, entry: _Entry, slots: Slots, done: list[Any]) -> Results:
        """Run the record, then the body from the same state; both have to agree to the bit.

        The record comes first: whatever NumPy is to compute anew still holds what it computed from other slots.
        """
        record, witness = entry.record, active().Record(self._where, verify=True)
        before = record.copy_changed()
        try:
            rehearsed = record.rehearse(slots)
            found = [a.tobytes() for a in entry.results]
        finally:
            record.restore(before)
        results = self._run_into(witness, slots, done)
        if not len(witness) or self.obstacle is not None:
            return results
        if not _same(self._signature(), entry.signature):
            self._refuse(_UNSETTLED)
            return results
        at = record.difference(witness, rehearsed)
        if at is not None or found != [a.tobytes() for a in results]:
            self._refuse(_explain(at, record.names, witness.names))
        else:
            entry.trusted, entry.slots = True, ()
            record.trust()
        return results

    def _run_into(self, record: Any, slots: Slots, done: list[Any]) -> Results:
        """Run the body while `record`, unless another one is in progress, notes its kernels."""
        done.append(record)
        if not record.start():
            return self._body(*slots)
        try:
            results = self._body(*slots)
        finally:
            record.stop()
        loss = results[0] if results and results[0].dtype == np.float64 and results[0].shape == (1,) else None
        record.finish(slots, self._classes, loss, results[1] if len(results) > 1 else None)
        if record.obstacle is not None:
            self._refuse(record.obstacle)
        return results

    def _refuse(self, obstacle: str) -> None:
        self.obstacle = obstacle
        self._entries.clear()
        self._latest = None


def _key(slots: Slots) -> Any:
    return active(), *((a.shape, _strides(a), a.dtype.str) for a in slots)


def _strides(a: Array) -> tuple[int, ...]:
    """Those along axes longer than 1; others lead nowhere."""
    return tuple(stride for stride, size in zip(a.strides, a.shape, strict=True) if size != 1)


def without_gaps(a: Array) -> Array:
    """The array, if it is aligned and its axes lie in memory without gaps, in any order; else a copy in C order."""
    if not a.flags.aligned:
        return np.array(a)
    if a.flags.c_contiguous or a.transpose(np.argsort([-stride for stride in a.strides])).flags.c_contiguous:
        return a
    return np.ascontiguousarray(a)


def another(a: Array) -> Array:
    """An array of the same shape, dtype and order in memory with other numbers of that size, for one without gaps."""
    other = np.empty_like(a)
    if a.dtype.kind == "f":
        other[...] = a[::-1] * a.dtype.type(0.75) + a.dtype.type(0.125)
    else:
        other[...] = a[::-1]
        if np.array_equal(other, a):
            other[...] = a == 0  # what was 0 is 1, and the other way round: labels of two classes, whatever there are
    return other


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))


def _alike(x: Any, y: Any) -> bool:
    if isinstance(x, tuple) and type(x) is type(y):
        return _same(x, y)
    return x is y or (type(x) is type(y) and isinstance(x, _VALUES) and x == y)


def _explain(found: int | None, recorded: Sequence[tuple[str, str]], again: Sequence[tuple[str, str]]) -> str:
    if found is None:
        return "what it returns was not written by a kernel"
    names = recorded if found < len(recorded) else again
    kernel, where = names[found]
    return (
        f"{where or 'a call'} does not do the same when its kernels are replayed (first difference: {kernel}, call "
        f"{found + 1} of {len(recorded)}); all arithmetic has to be done by kernels, and the same ones in each run"
    )
