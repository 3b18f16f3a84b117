"""What a reproduction found: numbers by name, and a check for each figure of the course."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._files import StrPath
from .._output import table, write_json


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

    @property
    def shown(self) -> str:
        """`ours` with as many digits as the course's figure has, at least 9."""
        digits = sum(character.isdigit() for character in self.course)
        return f"{self.ours:.{min(max(digits, 9), 17)}g}"

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
    """One reproduction, or the attempt at one.

    name: what was reproduced
    seconds: wall-clock time, reading the data and drawing pictures included
    threads, isa: how many threads computed, with which instruction set ("none" without compiled kernels)
    seed: of everything random; None in an attempt that was to take the course's own
    found: metrics, checks, notes and pictures
    what, about: one line on the result, and all that its module says of it
    options: what was set besides the seed and changes what is computed, such as the number of epochs
    date: when it ended, as "2026-01-31 15:00 UTC"
    machine: the processor, and versions, by name
    error: why there is nothing found; None where there is
    """

    name: str
    seconds: float
    threads: int
    isa: str
    seed: int | None
    found: Found
    what: str = ""
    about: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def holds(self) -> bool:
        """Whether there is something found and every check holds."""
        return self.error is None and all(check.holds for check in self.found.checks)

    @property
    def verdict(self) -> str:
        """`holds`, for a reader."""
        if self.error is not None:
            return "COULD NOT RUN"
        wrong, count = sum(not check.holds for check in self.found.checks), len(self.found.checks)
        if wrong:
            return f"{wrong} of {count} DO NOT HOLD" if wrong > 1 else f"1 of {count} DOES NOT HOLD"
        return f"all {count} hold" if count > 1 else ("holds" if count else "nothing to check")

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

    @classmethod
    def read(cls, path: StrPath) -> Report:
        """The report that `write` wrote; a number that is not finite, which JSON lacks, comes back as NaN.

        Raises OSError, and ValueError for a file that is no report.
        """
        try:
            fields = json.loads(Path(path).read_bytes())
            for check in fields["checks"]:
                check["ours"] = math.nan if check["ours"] is None else float(check["ours"])
                _check_kinds(check, _CHECK)
            found = {name: fields.pop(name) for name in ("metrics", "checks", "notes", "pictures")}
            _check_kinds(found, _FOUND)
            _check_kinds({f"note {i}": note for i, note in enumerate(found["notes"])}, {}, str)
            _check_kinds(found["pictures"], {}, str)
            _check_kinds(fields, _REPORT)
            checks = [Check(**check) for check in found.pop("checks")]
            return cls(found=Found(checks=checks, **found), **fields)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: not a report of this version") from error

    def table(self) -> str:
        """The checks, one a line under a heading, in aligned columns."""
        rows = [[c.what, c.course, c.shown, c.must, "yes" if c.holds else "NO"] for c in self.found.checks]
        return table([["what", "course", "ours", "must", "holds"], *rows])

    def summary(self) -> str:
        """The table, the notes, and one line on the run."""
        how = f"threads {self.threads}, {self.isa}, seed {self.seed}"
        return "\n".join([self.table(), *self.found.notes, f"{self.name}: {self.seconds:.1f} s ({how})"])

    def write(self, path: StrPath) -> None:
        """Write the report to a JSON file."""
        write_json(path, self.as_dict())


_Kinds = dict[str, type | tuple[type, ...]]
#: What stands in a file of a report, by name.
_CHECK: _Kinds = {"what": str, "course": str, "ours": float, "must": str, "holds": bool}
_FOUND: _Kinds = {"metrics": dict, "checks": list, "notes": list, "pictures": dict}
_REPORT: _Kinds = {"seconds": (int, float), "threads": int, "seed": (int, type(None)), "error": (str, type(None))}
_REPORT |= {name: str for name in ("name", "isa", "what", "about", "date")} | {"options": dict, "machine": dict}


def _check_kinds(values: Mapping[str, Any], kinds: _Kinds, otherwise: type = object) -> None:
    """Raise TypeError for a value that is of another kind, ValueError for a number of seconds that is not finite."""
    for name, value in values.items():
        if not isinstance(value, kinds.get(name, otherwise)):
            raise TypeError(f"{name}: expected {kinds.get(name, otherwise)}, got {type(value).__name__}")
    if not math.isfinite(values.get("seconds", 0)):
        raise ValueError("seconds: expected a finite number")
