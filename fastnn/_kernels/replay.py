"""Record what kernels a piece of Python calls, make sure that the record is right, then replay it without Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .kernel import Array, active

Slots = tuple[Array, ...]
Results = tuple[Array, ...]

_MOST_RECORDS = 8  #: of one replayer; one for each shape, so a stream of ever new shapes runs from Python
_MOST_BYTES = 1 << 30  #: that the records of runs keep; steps that need more are so long that Python's time is nothing
_MOST_UNSETTLED = 4  #: runs that may settle things
_UNSETTLED = "attributes of a layer, or options, change from run to run"
_MOST_SEEN = 64  #: shapes that are remembered because they may come again
_VALUES = (bool, int, float, complex, str, bytes)  #: compared by value, where other things are by identity


@dataclass
class _Entry:
    """A record, what its body returned, and what to hold against a later run."""

    record: Any
    results: Results
    contents: Slots  #: copies of what the slots held
    signature: list[Any]
    trusted: bool = False


class Context(Protocol):
    """What the calls of a body depend on."""

    def signature(self) -> list[Any]:
        """Everything that decides which kernels are called, and on what."""
        ...

    def memory(self) -> list[Array]:
        """Arrays that kernels may read although no kernel of the body writes them."""
        ...

    def own_arrays(self) -> Sequence[tuple[str, Array]]:
        """Arrays that only kernels may change, each with a name for messages, which several may have."""
        ...

    def refresh(self) -> None:
        """Bring memory up to date that kernels read, such as options."""
        ...

    def ready(self) -> bool:
        """Whether a run would begin afresh: False where it would go on with gradients that are there."""
        ...

    @property
    def replays(self) -> bool:
        """Whether it may be replayed at all."""
        ...


class Replayer:
    """Runs ``body(*slots)``: from Python at first, which is recorded, a second time to verify, then from the record.

    body: calls kernels on the slots and on memory that stays where it is, and returns arrays that kernels wrote. Run
        from Python by `run`, it is always the real run: a body with state of its own sees what it would see anyway.
    context: what the calls depend on; asked when something changed.
    where: what a kernel is called from, for messages.
    data: arrays that kernels may read as well. contents: of slots, what has to differ between the runs of which one is
        recorded and the other verified, by default they themselves.
    """

    def __init__(
        self,
        body: Callable[..., Results],
        context: Context,
        where: Callable[[], str],
        data: Sequence[Array] = (),
        contents: Callable[..., Slots] = lambda *slots: slots,
    ) -> None:
        self._body, self._context, self._where, self._data, self._contents = body, context, where, data, contents
        self.classes: tuple[int, ...] = ()  #: of `Record.finish`
        self._entries: dict[Any, _Entry] = {}
        self._latest: tuple[Any, Any, Results] | None = None  # backend, record, and where that writes its results
        self._seen: set[Any] = set()
        self._preparing = threading.Lock()
        self._full = False  # no further record would fit
        self._unsettled = 0  # runs, one after the other, that changed what they depend on
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
            if not self._context.ready():
                return None
            if not _same(self._context.signature(), entry.signature):
                self._entries.pop(_key(slots), None)
                return None
            self._context.refresh()
            entry.record.trust()
        return entry

    def results(self, slots: Slots) -> Results | None:
        """Copies of what the body would return, by `record`; None while there is none."""
        entry = self._entry(slots)
        if entry is None:
            return None
        self._latest = active(), entry.record, entry.results
        return self.results_like_latest(slots)

    def results_like_latest(self, slots: Slots) -> Results | None:
        """The same by the record that `results` used last, if that is still known to hold: the shortest way."""
        latest = self._latest
        if latest is None or active() is not latest[0]:
            return None
        found: Results | None = latest[1].compute(slots, latest[2])
        return found

    def comes_again(self, slots: Slots) -> bool:
        """Whether slots of this kind were asked about before, and a record may still come of it."""
        key = _key(slots)
        if self.obstacle is not None or active().Record is None or len(self._entries) >= _MOST_RECORDS:
            return False
        if active().Record.is_recording():  # these very calls, as part of others
            return False
        if not self._context.replays:
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
        possible = self.obstacle is None and active().Record is not None and self._context.replays
        if not possible or not self._context.ready() or (entry is not None and entry.trusted):
            return self._body(*slots)
        if entry is not None and _same(self._context.signature(), entry.signature):
            if any(np.array_equal(a, b) for a, b in zip(self._contents(*slots), entry.contents, strict=True)):
                return self._body(*slots)  # from which an array that is never computed anew could not be told
            return self._verify(entry, slots, []) or self._body(*slots)
        if entry is None and (self._full or len(self._entries) >= _MOST_RECORDS):
            return self._body(*slots)
        results, entry = self._record(slots, [])
        if entry is not None:
            self._full = sum(e.record.memory for e in (entry, *self._entries.values())) > _MOST_BYTES
            if not self._full:
                self._entries[key] = entry
        return results or self._body(*slots)

    def prepare(self, slots: Slots, others: Slots) -> None:
        """Record the body on `slots` and verify it on `others`, at once; memory that kernels change is put back.

        Where `obstacle` says why afterwards, it cannot be replayed. Nothing is done while another thread is at it, or
        is recording something else.
        """
        if not self._context.ready() or not self._preparing.acquire(blocking=False):
            return
        done: list[Any] = []
        try:
            if self._entry(slots) is None:  # else another thread was faster
                self._prepare(slots, others, done)
        finally:
            active().Record.undo(done)
            self._preparing.release()

    def _prepare(self, slots: Slots, others: Slots, done: list[Any]) -> None:
        entry = None
        for _ in range(2):  # a first run may settle things, so that it is not like those that follow
            results, entry = self._record(slots, done)
            if entry is not None or not results or self.obstacle is not None:
                break
        if entry is None or not self._verify(entry, others, done) or not entry.trusted:
            return
        self._entries.pop(_key(slots), None)
        if len(self._entries) >= _MOST_RECORDS:
            del self._entries[next(iter(self._entries))]
        self._entries[_key(slots)] = entry

    def _record(self, slots: Slots, done: list[Any]) -> tuple[Results, _Entry | None]:
        """Run the body and make a record of it, unless it changed what it depends on; the record is added to `done`.

        No results, and nothing was run, while another record is in progress.
        """
        before = self._context.signature()
        results = self._run_into(active().Record(self._where), slots, done)
        after = self._context.signature()
        if not results or self.obstacle is not None or not len(done[-1]):
            return results, None
        if _same(before, after):
            self._unsettled = 0
            return results, _Entry(done[-1], results, tuple(a.copy() for a in self._contents(*slots)), after)
        self._unsettled += 1
        if self._unsettled > _MOST_UNSETTLED:
            self._refuse(_UNSETTLED)
        return results, None

    def _verify(self, entry: _Entry, slots: Slots, done: list[Any]) -> Results:
        """Run the record, then the body from the same state; both have to agree to the bit.

        The record comes first: whatever NumPy is to compute anew still holds what it computed from other slots. No
        results, and nothing was run, while another record is in progress.
        """
        record, witness = entry.record, active().Record(self._where, verify=True)
        self._context.refresh()
        before = record.copy_changed()
        try:
            rehearsed = record.rehearse(slots)
            found = [a.tobytes() for a in entry.results]
        finally:
            record.restore(before)
        results = self._run_into(witness, slots, done)
        if not results or self.obstacle is not None:
            return results
        if not _same(self._context.signature(), entry.signature):
            self._refuse(_UNSETTLED)
            return results
        at = record.difference(witness, rehearsed)
        if at is not None or found != [a.tobytes() for a in results]:
            self._refuse(_explain(at, record.names, witness.names))
        else:
            entry.trusted, entry.contents = True, ()
            record.trust()
        return results

    def _run_into(self, record: Any, slots: Slots, done: list[Any]) -> Results:
        """Run the body while `record` notes its kernels; nothing is run, and () returned, while another one does."""
        own = [(name, a, a.tobytes()) for name, a in self._context.own_arrays()]
        memory = self._context.memory()  # parameters may move meanwhile
        done.append(record)
        try:
            if not record.start():
                return ()
            results = self._body(*slots)
        finally:
            record.stop()
        if record.obstacle is not None:
            self._refuse(record.obstacle)
        elif not all(isinstance(a, np.ndarray) and record.writes(a) for a in results):
            self._refuse("what it returns was not written by a kernel")
        else:
            record.finish(slots, self.classes, _number(results[:1], "float64"), _number(results[1:2], "int64"))
            self._look_for_numpy(record, memory, own)
        return results

    def _look_for_numpy(self, record: Any, memory: list[Array], own: Sequence[tuple[str, Array, bytes]]) -> None:
        """Refuse what reads or changes arrays that a replay would not see change."""
        at = record.reads_beside([*memory, *self._context.memory(), *self._data])
        if at is not None:
            kernel, where = record.names[at]
            self._refuse(
                f"{where or 'something'} gives {kernel} an array that is no parameter and that no kernel wrote, so "
                "that a replay would not see it change; make constants read-only (array.flags.writeable = False)"
            )
        for name, a, before in own:
            if a.tobytes() != before and not record.writes(a):
                self._refuse(f"{name} is changed, but not by a kernel")

    def _refuse(self, obstacle: str) -> None:
        self.obstacle = self.obstacle or obstacle
        self._entries.clear()
        self._latest = None


def _number(results: Results, dtype: str) -> Array | None:
    """The result that is there, if it is one number of this dtype: a loss, or a count."""
    return next((a for a in results if a.dtype == dtype and a.shape == (1,)), None)


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
    other[...] = a[::-1]
    if a.dtype.kind == "f":
        ramp = np.arange(1, a.size + 1, dtype=a.dtype).reshape(a.shape)
        other *= a.dtype.type(0.75)
        other += ramp / a.dtype.type(4 * a.size)  # which no number is a fixed point of
        return other
    other[: (len(a) + 1) // 2] = a[:1]  # labels: another count of each, and only such as there are
    if np.array_equal(other, a):
        other[...] = a == 0  # all are alike: what was 0 is 1, and the other way round
    return other


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))


def _alike(x: Any, y: Any) -> bool:
    if isinstance(x, tuple) and type(x) is type(y):
        return _same(x, y)
    return x is y or (type(x) is type(y) and isinstance(x, _VALUES) and x == y)


def _explain(found: int | None, recorded: Sequence[tuple[str, str]], again: Sequence[tuple[str, str]]) -> str:
    if found is None:
        return "what it returns is not the same when its kernels are replayed"
    names = recorded if found < len(recorded) else again
    kernel, where = names[found]
    return (
        f"{where or 'a call'} does not do the same when its kernels are replayed (first difference: {kernel}, call "
        f"{found + 1} of {len(recorded)}); all arithmetic has to be done by kernels, and the same ones in each run"
    )
