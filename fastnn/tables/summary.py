"""A report for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from .._output import table

_KINDS = {"number": "numbers", "boolean": "booleans", "category": "categories"}
_LONGEST = 100  #: characters of names in a line


def summary(report: Mapping[str, Any]) -> str:
    """What `Trained.report` says, in lines: what was read, trained and found, and where files are."""
    parts, training, seconds = report["parts"], report["training"], report["seconds"]
    network, baseline = report["test"]["network"], report["test"]["baseline"]
    model, best = report["model"], training["best_epoch"]
    epochs = f"{training['epochs']} epochs{', interrupted' if training['interrupted'] else ''}, the best being {best}"
    how = f"threads {report['threads']}, {report['isa']}, seed {report['settings']['seed']}"
    figures = [[name, f"{value:.4g}", f"{baseline[name]:.4g}"] for name, value in network.items()]
    lines = [
        f"data: {report['file']}, {report['rows']} rows",
        *_inputs(report["inputs"]),
        f"target: {_target(report['target'])}: {report['task']}",
        "rows: " + ", ".join(f"{count} for {part}" for part, count in parts.items()),
        f"model: {model['spec']}, {model['parameters']:,} parameters",
        f"time: reading {seconds['reading']:.1f} s, training {seconds['training']:.1f} s, {epochs} ({how})",
        "",
        table([["test rows", "network", f"baseline: {report['baseline']}"], *figures]),
        "",
        "written: " + ", ".join(report["files"]),
    ]
    return "\n".join(lines)


def _inputs(inputs: Mapping[str, Any]) -> list[str]:
    if "shape" in inputs:
        C, H, W = inputs["shape"]
        what = f"{H} x {W} pixels, {C} channel{'s' * (C > 1)}{', resized' if inputs['resized'] else ''}"
        return [f"images: {what}"]
    lines = []
    for kind, called in _KINDS.items():
        columns = [column for column in inputs["columns"] if column["kind"] == kind]
        if columns:
            missing = sum(column["missing"] for column in columns)
            names = _listed([_column(column) for column in columns], "columns")
            lines.append(f"{called}: {names}" + (f"; {missing} missing values" if missing else ""))
    return lines


def _column(column: Mapping[str, Any]) -> str:
    return f"{column['name']} ({column['width']})" if column["kind"] == "category" else str(column["name"])


def _target(target: Mapping[str, Any]) -> str:
    if "classes" not in target:
        return f"{target['name']}, from {target['least']:.6g} to {target['most']:.6g}, mean {target['mean']:.6g}"
    return f"{target['name']} ({_listed([f'{name} {n}' for name, n in target['classes'].items()], 'classes')})"


def _listed(names: Sequence[str], what: str) -> str:
    """As many names as fit into a line."""
    ends = accumulate(len(name) for name in names)
    shown = [name for name, end in zip(names, ends, strict=True) if end <= _LONGEST] or [names[0][:_LONGEST]]
    return ", ".join(shown) + (f" … ({len(names)} {what})" if len(names) > len(shown) else "")
