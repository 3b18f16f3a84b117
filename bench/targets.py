"""What fastnn must reach, from ``targets.json``, and whether what was measured does.

Steps: how many times as long a peer takes, by threads; without "peer", every peer measured. Kernels: the rows whose
name fits the pattern, with sizes from and below those given ("narrow" and "wide" are the fewer and the more of a
convolution's input and output channels); share: of the FMA ceiling, or of a copy's bandwidth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from . import estimators
from .custom import Timing
from .kernels import Measured
from .latency import Start
from .peers import OURS, PEERS
from .report import Verdict, word
from .rounds import Comparison
from .scaling import Point

TARGETS: Mapping[str, Any] = json.loads(Path(__file__).with_name("targets.json").read_text(encoding="utf-8"))


def of_steps(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Verdicts on training steps."""
    found = []
    for target in TARGETS["steps"]:
        for c in comparisons:
            least = target["ratio"].get(str(c.threads))
            if c.task == target["task"] and least is not None:
                for peer in [target["peer"]] if "peer" in target else c.peers:
                    if peer in c.figures:
                        what = f"step of {c.task}, {_threads(c.threads)}, {PEERS[peer].title}'s time over fastnn's"
                        found.append(_at_least(what, c.ratio(peer), least))
    return found


def of_courses(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Verdicts on whole trainings."""
    return [
        _at_least(f"{c.task}, {_threads(c.threads)}, {PEERS[peer].title}'s time over fastnn's", c.ratio(peer), least)
        for target in TARGETS["courses"]
        for c in comparisons
        if c.task == target["task"] and (least := target["ratio"].get(str(c.threads))) is not None
        for peer in c.peers
    ]


# --- kernels ----------------------------------------------------------------------------------------------------------


def of_kernels(measured: Sequence[Measured]) -> list[Verdict]:
    """Verdicts on groups of kernels; each group says how many of it are met."""
    found = []
    for target in TARGETS["kernels"]:
        group = [m for m in measured if _applies(target, m)]
        if not group:
            continue
        if "mean ratio" in target:
            mean = geometric_mean(m.comparison.ratio(target["peer"]) for m in group)
            found.append(_at_least(_title(target), mean, target["mean ratio"]))
        else:
            missed = [f"{m.name} {_value(target, m):.2f}" for m in group if not _is_met(target, m)]
            figure = f"{len(group) - len(missed)} of {len(group)}" + (": not " + ", ".join(missed) if missed else "")
            least = f"≥ {target['share']:.0%}" if "share" in target else f"≥ {target['ratio']}"
            found.append(Verdict(_title(target), figure, least, not missed))
    return found


def marks(measured: Sequence[Measured]) -> dict[str, str]:
    """By name of a row and shape, its targets and whether they are met."""
    found: dict[str, str] = {}
    for m in measured:
        single = [t for t in TARGETS["kernels"] if "mean ratio" not in t and _applies(t, m)]
        texts = [
            f"{'limit' if 'share' in t else 'ratio'} ≥ {t.get('share', t.get('ratio'))} {word(_is_met(t, m))}"
            for t in single
        ]
        found[m.name] = ", ".join(texts)
    return found


def _applies(target: Mapping[str, Any], m: Measured) -> bool:
    sizes = dict(m.sizes)
    if "C" in sizes and "O" in sizes:
        sizes |= {"narrow": min(sizes["C"], sizes["O"]), "wide": max(sizes["C"], sizes["O"])}
    return (
        fnmatchcase(m.row, target["rows"])
        and all(sizes.get(symbol, 0) >= size for symbol, size in target.get("from", {}).items())
        and all(sizes.get(symbol, 0) < size for symbol, size in target.get("below", {}).items())
        and ("peer" not in target or target["peer"] in m.comparison.figures)
    )


def _value(target: Mapping[str, Any], m: Measured) -> float:
    return m.share() if "share" in target else m.comparison.ratio(target["peer"])


def _is_met(target: Mapping[str, Any], m: Measured) -> bool:
    least: float = target.get("share", target.get("ratio"))
    return _value(target, m) >= least


def _title(target: Mapping[str, Any]) -> str:
    limits = [f"{symbol} from {size}" for symbol, size in target.get("from", {}).items()]
    limits += [f"{symbol} below {size}" for symbol, size in target.get("below", {}).items()]
    if "share" in target:
        what = "part of the limit"
    else:
        what = f"{PEERS[target['peer']].title}'s time over fastnn's" + ", mean" * ("mean ratio" in target)
    return ", ".join([target["rows"], *limits, what])


# --- latency and scaling ----------------------------------------------------------------------------------------------


def of_latency(comparisons: Sequence[Comparison], starts: Sequence[Start]) -> list[Verdict]:
    """Verdicts on predictions, each in fastnn's fastest form, on import and size."""
    targets = TARGETS["latency"]
    found = [
        _at_most(
            f"prediction of {c.task}, {c.ours.form}, part of {PEERS[target['peer']].title}'s time",
            1 / c.ratio(target["peer"]),
            target["part"],
        )
        for target in targets["prediction"]
        for c in sorted((c for c in comparisons if c.task == target["task"]), key=lambda c: c.ours.us)[:1]
        if target["peer"] in c.figures
    ]
    for start in starts:
        if start.peer == OURS:
            found.append(_at_most("import beyond NumPy, s", start.import_s, targets["import seconds"]))
            found.append(Verdict("import of heavy packages", ", ".join(start.heavy) or "none", "none", not start.heavy))
            found.append(_at_most("installed beyond NumPy, MB", start.megabytes, targets["installed megabytes"]))
    return found


def of_scaling(points: Sequence[Point]) -> list[Verdict]:
    """Verdicts on what more threads gain."""
    return list(_of_scaling(points))


def _of_scaling(points: Sequence[Point]) -> Iterator[Verdict]:
    for target in TARGETS["scaling"]:
        for point in points:
            asked = (point.sweep, point.size) == (target["sweep"], target["size"])
            if asked and str(target["threads"]) in point.figures[OURS]:
                what = f"{point.sweep} {point.size}: {_threads(target['threads'])} over one"
                yield _at_least(what, point.gain(OURS, target["threads"]), target["gain"])


def of_custom(timings: Sequence[Timing]) -> list[Verdict]:
    """Verdicts on a user's activations."""
    most = TARGETS["custom"]["ratio"]
    return [_at_most(f"a user's {t.task}, its time over the built-in one's", t.ratio(), most) for t in timings]


def of_estimators(timings: Sequence[estimators.Timing]) -> list[Verdict]:
    """Verdicts on the time of classifiers' fits and of searches, and on all scores."""
    asked, found = TARGETS["estimators"], []
    for t in timings:
        task = estimators.TASKS[t.task]
        what = f"{t.task}, scikit-learn's time over fastnn's"
        if task.search:
            found.append(_at_least(what, t.ratio(), asked["search ratio"]))
        elif not task.regression and task.rows >= asked["from rows"]:
            found.append(_at_least(what, t.ratio(), asked["fit ratio"]))
        if not task.search:
            found.append(_at_most(f"{t.task}, worse by standard errors", t.shortfall(), asked["standard errors"]))
    return found


def _threads(n: int) -> str:
    return f"{n} thread{'s' * (n > 1)}"


def _at_least(what: str, figure: float, least: float) -> Verdict:
    return Verdict(what, f"{figure:.2f}", f"≥ {least}", figure >= least)


def _at_most(what: str, figure: float, most: float) -> Verdict:
    return Verdict(what, f"{figure:.3g}", f"≤ {most}", figure <= most)
