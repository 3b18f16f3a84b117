"""A folder of reports as one web page: ``fastnn reproduce --report DIR``.

The page is written from the files DIR/*/report.json and the pictures beside them and from nothing else, so that it can
be written again at any time. It holds its pictures and its style: it needs no other file, no script and no network.
"""

from __future__ import annotations

import base64
import math
import mimetypes
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from .._files import StrPath, check_folder, write_bytes
from . import RESULTS
from .report import Check, Found, Report

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PNG = b"\x89PNG\r\n\x1a\n"
WIDE = 1.9  # above this ratio of width to height, a picture has a row of its own


def write(folder: StrPath) -> Path:
    """Write `folder`/index.html from all reports in the folders below; returns its path. Raises OSError."""
    path = Path(folder) / "index.html"
    check_folder(path)
    write_bytes(path, page(read(folder), Path(folder)).encode(errors="replace"))
    return path


def read(folder: StrPath) -> list[Report]:
    """The reports in the folders below, under these folders' names, in the order of RESULTS; others come last."""
    order = {name: place for place, name in enumerate(RESULTS)}
    names = [path.parent.name for path in Path(folder).glob("*/report.json") if path.is_file()]
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    return [replace(_read(Path(folder) / name / "report.json"), name=name) for name in names]


def _read(path: Path) -> Report:
    """The report, or one that says why there is none."""
    try:
        return Report.read(path)
    except (OSError, ValueError) as error:
        return Report("", 0, 0, "", None, Found({}, ()), error=str(error))


def page(reports: Sequence[Report], folder: Path) -> str:
    """The HTML; pictures are in the folders below `folder` that have the reports' names."""
    machines: list[dict[str, str]] = []
    for report in reports:
        if report.machine and _machine(report) not in machines:
            machines.append(_machine(report))
    lists = [_machine_list(number, machine) for number, machine in enumerate(machines, 1)]
    sections = [_section(report, folder / report.name, machines) for report in reports]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>fastnn: course results, reproduced</title>
<style>{STYLE}</style>
</head>
<body>
<header id="top">
<h1>Course results, reproduced</h1>
<p>Figures that deep-learning courses publish, and what fastnn finds.{_dates(reports)}</p>
{"".join(lists)}</header>
<main>
{_summary(reports)}{"".join(sections)}</main>
<footer><p>Written by fastnn {escape(__version__)} from the reports in the folders beside this page.</p></footer>
</body>
</html>
"""


# --- the machine and the summary --------------------------------------------------------------------------------------


def _dates(reports: Sequence[Report]) -> str:
    """When the reports were made."""
    dates = sorted({report.date for report in reports if report.date})
    if not dates:
        return ""
    return (
        f" Run on {escape(dates[0])}." if len(dates) == 1 else f" Run from {escape(dates[0])} to {escape(dates[-1])}."
    )


def _machine(report: Report) -> dict[str, str]:
    """What a run ran on, in a reader's words."""
    labels = {"cpu": "CPU", "python": "Python", "numpy": "NumPy", "fastnn": "fastnn"}
    words = {label: _text(report.machine.get(key)) for key, label in labels.items()}
    return words | {"threads": _text(report.threads), "instruction set": _text(report.isa)}


def _machine_list(number: int, machine: Mapping[str, str]) -> str:
    pairs = [f"<div><dt>{label}</dt><dd>{escape(text)}</dd></div>" for label, text in machine.items()]
    return f'<dl class="machine" aria-label="machine {number}">{"".join(pairs)}</dl>\n'


def _summary(reports: Sequence[Report]) -> str:
    """How many results hold, and a line on each."""
    rows = [
        [f'<a href="#{_id(report)}">{escape(report.name)}</a>', _verdict(report), _time(report), _inline(report.what)]
        for report in reports
    ]
    held = sum(report.holds and len(report.found.checks) > 0 for report in reports)
    missing = [name for name in RESULTS if name not in {report.name for report in reports}]
    return f"""<section aria-labelledby="summary">
<h2 id="summary">{held} of {len(reports)} results hold</h2>
{_table("All results", ["result", "checks", "time", "what it is"], rows, [not report.holds for report in reports])}
{f"<p>There is no report of {escape(', '.join(missing))}.</p>" if missing else ""}
</section>
"""


# --- one result -------------------------------------------------------------------------------------------------------


def _section(report: Report, folder: Path, machines: Sequence[Mapping[str, str]]) -> str:
    """All that one report says."""
    found = report.found
    parts = [
        f'<h2 id="{_id(report)}">{escape(report.name)}</h2>',
        f'<p class="run">{_verdict(report)}{_run(report, machines)}</p>',
        _prose(report.about or report.what),
        f'<pre class="error">{escape(report.error)}</pre>' if report.error is not None else "",
        _checks(found.checks) if found.checks else "",
        f"<ul>{''.join(f'<li>{_inline(note)}</li>' for note in found.notes)}</ul>" if found.notes else "",
        f'<div class="pictures">{_pictures(found.pictures, folder)}</div>' if found.pictures else "",
        _metrics(found.metrics) if found.metrics else "",
        '<p class="up"><a href="#top">up</a></p>',
    ]
    return f'<section aria-labelledby="{_id(report)}">\n{_lines(parts)}</section>\n'


def _run(report: Report, machines: Sequence[Mapping[str, str]]) -> str:
    """When and how it ran."""
    if not report.machine:
        return ""
    facts = [report.date, _time(report)]
    facts += [] if report.seed is None else [f"seed {report.seed}"]
    facts += [f"{key} {_text(value)}" for key, value in report.options.items()]
    facts += [f"machine {machines.index(_machine(report)) + 1}"] if len(machines) > 1 else []
    return "".join(f" · {escape(fact)}" for fact in facts if fact)


def _checks(checks: Sequence[Check]) -> str:
    rows = [
        [_inline(check.what), escape(check.course), _ours(check), escape(check.must), _held(check.holds)]
        for check in checks
    ]
    return _table("Checks", ["what", "course", "ours", "must", "holds"], rows, [not check.holds for check in checks])


def _ours(check: Check) -> str:
    return check.shown if math.isfinite(check.ours) else "not finite"  # which of them, a file does not say


def _pictures(pictures: Mapping[str, str], folder: Path) -> str:
    return "".join(_picture(folder, name, caption) for name, caption in pictures.items())


def _picture(folder: Path, name: str, caption: str) -> str:
    """A picture of this folder, or that it is missing."""
    try:
        path = (folder / name).resolve()
        own = path.parent == folder.resolve() and path.is_file()  # nothing from elsewhere, no pipe, no device
        data = path.read_bytes() if own else None
    except (OSError, ValueError):  # not there, or no name of a file
        data = None
    words = f"<figcaption>{_inline(caption)}</figcaption></figure>\n"
    if data is None:
        return f'<figure class="wide"><p class="missing">There is no picture <code>{escape(name)}</code>.</p>{words}'
    kind = mimetypes.guess_type(name)[0] or "image/png"
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    width, height = struct.unpack(">II", data[16:24]) if data.startswith(PNG) and len(data) >= 24 else (0, 0)
    size = f' width="{width}" height="{height}"' if width and height else ""
    wide = ' class="wide"' if width > WIDE * height else ""
    return f'<figure{wide}><img src="{escape(source)}" alt="{escape(caption)}"{size}>{words}'


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = [[escape(name), escape(text)] for name, text in _flat(metrics)]
    return (
        f"<details><summary>All numbers ({len(rows)})</summary>{_table('Numbers', ['name', 'value'], rows)}</details>"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The numbers in a nest of dictionaries and lists, with their names; those of a plain list together."""
    if isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list | tuple) for item in value):
        yield name, ", ".join(map(_text, value))
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(item, f"{name} / {key}" if name else str(key))
    else:
        yield name, _text(value)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _id(report: Report) -> str:
    """The section's name in links; "result-" keeps it apart from the page's own."""
    return f"result-{quote(report.name, safe='', errors='replace')}"


def _verdict(report: Report) -> str:
    nothing = report.holds and not report.found.checks
    return f"– {escape(report.verdict)}" if nothing else _mark(report.verdict, report.holds)


def _held(holds: bool) -> str:
    return _mark("yes" if holds else "NO", holds)


def _mark(words: str, good: bool) -> str:
    """Words that stand out if things are not good, also for who sees no colours."""
    return f'<span class="yes">✓ {escape(words)}</span>' if good else f'<strong class="no">✗ {escape(words)}</strong>'


def _table(caption: str, heading: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = ()) -> str:
    """A table of HTML cells, the first of each row its heading, that scrolls in a box of its own."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heading)
    marks = marked or [False] * len(rows)
    body = [
        f'<tr{" class=marked" if mark else ""}><th scope="row">{first}</th>'
        + "".join(f"<td>{cell}</td>" for cell in others)
        + "</tr>"
        for (first, *others), mark in zip(rows, marks, strict=True)
    ]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{_lines(body)}</tbody>\n</table></div>"
    )


def _prose(text: str) -> str:
    """Paragraphs; a table or an indented passage stays as it is set."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n".join(
        f"<pre>{escape(block)}</pre>" if re.search(r"^(\s|[|*-])", block, re.MULTILINE) else f"<p>{_inline(block)}</p>"
        for block in blocks
        if block
    )


def _inline(text: str) -> str:
    """A text in which `this` is code."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escape(text))


def _text(value: Any) -> str:
    """A value for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.9g}"
    return "–" if value is None else str(value)


def _time(report: Report) -> str:
    """How long it took, on one line."""
    minutes, seconds = divmod(round(report.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        words = f"{hours} h {minutes} min"
    else:
        words = f"{minutes} min {seconds} s" if minutes else f"{report.seconds:.1f} s"
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _lines(parts: Iterable[str]) -> str:
    """Those that are not empty, one a line."""
    return "".join(f"{part}\n" for part in parts if part)


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --box: #f6f8fa;
  --link: #0550ae; --good: #116329; --bad: #a40e26; --alarm: #ffebe9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1; --line: #3d444d; --box: #161b22;
    --link: #79c0ff; --good: #56d364; --bad: #ff9a94; --alarm: #3c1618; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: .5rem 0; font-size: 1.8rem; line-height: 1.2; }
h2 { margin: 0 0 .25rem; font-size: 1.35rem; }
main > section { margin-top: 2rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
p, ul { max-width: 50rem; margin: .5rem 0; }
ul { padding-left: 1.25rem; }
a { color: var(--link); }
.machine { display: flex; flex-wrap: wrap; gap: .25rem 2rem; margin: .75rem 0; }
.machine dt, .run, figcaption, footer, .up { color: var(--soft); font-size: .875rem; }
.machine dd { margin: 0; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-size: .875rem; }
tbody th { font-weight: inherit; }
tr.marked > * { background: var(--alarm); }
tr.marked > :first-child { box-shadow: inset 4px 0 var(--bad); }
.yes { color: var(--good); }
.no { color: var(--bad); }
.yes, .no, th a { white-space: nowrap; }
#summary + .scroll td:last-child { min-width: 14rem; }
@media (max-width: 40rem) { th, td { padding: .35rem .4rem; font-size: .875rem; } }
pre { padding: .75rem; overflow-x: auto; background: var(--box); border-radius: 4px; }
pre, code { font: .875em/1.5 ui-monospace, monospace; }
.error { border-left: 4px solid var(--bad); white-space: pre-wrap; }
.missing { padding: 1rem; border: 1px dashed var(--bad); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem;
  align-items: start; margin: 1rem 0; }
figure { margin: 0; }
.wide { grid-column: 1 / -1; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { margin-top: .25rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; }
footer { margin-top: 2rem; border-top: 1px solid var(--line); }
"""
