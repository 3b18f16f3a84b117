"""What ``fastnn reproduce`` does: one result, all of them, and the page on a folder of reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._output import table, to_json
from . import RESULTS, Report, attempt, page, reproduce


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 0; 1 if a check does not hold; 2 if one of all results could not run.

    Raises ValueError for arguments that do not go together, and what `reproduce` raises.
    """
    if arguments.list:
        lines = [f"{name}: {what}" for name, what in RESULTS.items()]
        print(to_json(RESULTS) if arguments.json else "\n".join(lines))
        return 0
    if arguments.all and (arguments.name or arguments.out):
        raise ValueError("reproduce: --all takes neither a name nor --out; --report DIR writes into DIR/NAME")
    if arguments.out and arguments.report:
        raise ValueError("reproduce: take --out or --report, which writes into DIR/NAME")
    options = {
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "data": arguments.data,
        "download": None if arguments.download else False,  # None: what needs no data set takes no such option
        "course_mistake": arguments.course_mistake or None,
        "encoder": arguments.encoder,
        "limit": arguments.limit,
        "cache": arguments.cache,
        "cache_limit": arguments.cache_limit,
        "progress": True,
    }
    if arguments.all:
        return _all(arguments.report, options, arguments.json)
    if arguments.name:
        return _one(arguments.name, arguments.out, arguments.report, options, arguments.json)
    if arguments.report:
        if any(options[name] is not None for name in options if name not in ("download", "progress")):
            raise ValueError("reproduce: --report alone only writes the page; name a result, or take --all")
        page.write(arguments.report)
        _tell(page.read(arguments.report), arguments.report, arguments.json)
        return 0
    raise ValueError(f"reproduce: name a result: {', '.join(RESULTS)}; or take --all")


def _one(name: str, out: Path | None, folder: Path | None, options: dict[str, Any], as_json: bool) -> int:
    """Run one experiment; its report goes to `out`, or to its place in `folder`, which has a page."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page.write(folder)  # before hours of training, not after
    report = reproduce(name, out=out if folder is None else folder / name, **options)
    print(to_json(report.as_dict()) if as_json else report.summary())
    if folder is not None:
        page.write(folder)
    return 0 if report.holds else 1


def _all(folder: Path | None, options: dict[str, Any], as_json: bool) -> int:
    """Run every experiment, whatever becomes of the others; after Ctrl-C, tell of those that are done."""
    reports: list[Report] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page.write(folder)  # before hours of training, not after
    try:
        for name, what in RESULTS.items():
            print(f"{name}: {what}", file=sys.stderr)
            report = attempt(name, out=None if folder is None else folder / name, **options)
            reports.append(report)
            if folder is not None:
                page.write(folder)  # now: whatever happens to the others, it tells of this one
            if report.error is not None:
                print(f"fastnn: {name}: {report.error}", file=sys.stderr)
            elif not as_json:
                print(report.summary(), end="\n\n", flush=True)
    finally:
        _tell(reports, folder, as_json)
    if any(report.error is not None for report in reports):
        return 2
    return 0 if all(report.holds for report in reports) else 1


def _tell(reports: Sequence[Report], folder: Path | None, as_json: bool) -> None:
    """Print what became of each result, and where the page is."""
    if as_json:
        print(to_json({report.name: report.as_dict() for report in reports}))
        return
    print(table([["result", "checks", "time"], *([r.name, r.verdict, f"{r.seconds:.1f} s"] for r in reports)]))
    if folder is not None:
        print(f"written: {folder / 'index.html'}")
