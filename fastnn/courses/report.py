"""What a reproduction found: numbers by name, and a check for each figure of the course."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._files import StrPath, write_bytes


@dataclass(frozen=True)
class Check:
    """A figure of the course beside ours.

    what: the quantity, such as "test accuracy, 10 epochs"
    course: the figure as the course states it
    ours: the number found
    must: the condition on `ours`, in words
    holds: whether it is met; NaN meets none
    """

    what: str
    course: str
    ours: float
    must: str
    holds: bool

    @classmethod
    def at_least(cls, what: str, course: str, ours: float, bound: float) -> Check:
        """A check that holds from `bound` on."""
        return cls(what, course, ours, f">= {bound:g}", bool(ours >= bound))

    @classmethod
    def above(cls, what: str, course: str, ours: float, bound: float) -> Check:
        """A check that holds for more than `bound`."""
        return cls(what, course, ours, f"> {bound:g}", bool(ours > bound))

    @classmethod
    def below(cls, what: str, course: str, ours: float, bound: float) -> Check:
        """A check that holds for less than `bound`."""
        return cls(what, course, ours, f"< {bound:g}", bool(ours < bound))

    @classmethod
    def within(cls, what: str, course: float, ours: float, tolerance: float, *, around: float | None = None) -> Check:
        """A check that holds no further than `tolerance` from the course's figure, or from `around`."""
        middle, near = (course, "") if around is None else (around, f"{around:g} ")
        return cls(what, repr(float(course)), ours, f"{near}± {tolerance:g}", bool(abs(ours - middle) <= tolerance))


@dataclass(frozen=True)
class Found:
    """What an experiment found.

    metrics: all numbers by name; lists of numbers, and dictionaries of them, may stand among them
    checks: one per figure of the course that such a run can be held against
    notes: what a reader of the figures has to know, a sentence or two each
    pictures: what each picture shows, by the name of its file in `out`; none without `out`
    """

    metrics: dict[str, Any]
    checks: Sequence[Check]
    notes: Sequence[str] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """One reproduction.

    name: what was reproduced
    seconds: wall-clock time, reading the data and drawing pictures included
    threads, isa: how many threads computed, with which instruction set ("none" without compiled kernels)
    seed: of everything random
    found: metrics, checks, notes and pictures
    """

    name: str
    seconds: float
    threads: int
    isa: str
    seed: int
    found: Found

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.found.checks)

    def as_dict(self) -> dict[str, Any]:
        """The fields of the report, of what was found and of the checks, as plain dictionaries and lists."""
        run = {name: value for name, value in vars(self).items() if name != "found"}
        return {
            **run,
            "metrics": dict(self.found.metrics),
            "checks": [dict(vars(check)) for check in self.found.checks],
            "notes": list(self.found.notes),
            "pictures": dict(self.found.pictures),
        }

    def table(self) -> str:
        """The checks, one a line under a heading, in aligned columns."""
        rows = [[c.what, c.course, f"{c.ours:.9g}", c.must, "yes" if c.holds else "NO"] for c in self.found.checks]
        return table([["what", "course", "ours", "must", "holds"], *rows])

    def summary(self) -> str:
        """The table, the notes, and one line on the run."""
        how = f"threads {self.threads}, {self.isa}, seed {self.seed}"
        return "\n".join([self.table(), *self.found.notes, f"{self.name}: {self.seconds:.1f} s ({how})"])

    def write(self, path: StrPath) -> None:
        """Write the report to a JSON file."""
        write_json(path, self.as_dict())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of as many cells as the first one, which is the heading, in columns parted by " | "."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def to_json(value: Any) -> str:
    """JSON text, indented by two. NumPy's numbers become plain ones; NaN and infinities, which JSON lacks, null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def write_json(path: StrPath, value: Any) -> None:
    """Write `to_json(value)` to a file that replaces an older one only when it is complete."""
    write_bytes(path, (to_json(value) + "\n").encode())


def _plain(value: Any) -> Any:
    """The same value in what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
