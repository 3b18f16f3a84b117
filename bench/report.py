"""What all commands show: tables, and verdicts on targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .peers import PEERS
from .rounds import Comparison


@dataclass(frozen=True)
class Verdict:
    """One target, the figure that was measured, and whether that is enough."""

    what: str
    figure: str
    target: str
    met: bool


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    """One line for each target."""
    lines = [("target", "", "", "measured"), *((v.what, v.target, word(v.met), v.figure) for v in verdicts)]
    return aligned(lines, right=set())


def word(met: bool) -> str:
    """How a table says it."""
    return "met" if met else "not met"


def ratios(what: str, comparisons: Sequence[Comparison]) -> str:
    """One line for each task and peer; µs are medians, a ratio says how many times as long the peer takes."""
    lines = [(what, "threads", "fastnn µs", "fastnn's form", "peer", "µs", "ratio", "its fastest form")]
    for c in comparisons:
        ours = (c.task, str(c.threads), micros(c.ours.us), c.ours.form)
        if not c.peers:
            lines.append((*ours, "–", "–", "–", "–"))
        for peer in c.peers:
            theirs = c.figures[peer]
            lines.append((*ours, PEERS[peer].title, micros(theirs.us), f"{c.ratio(peer):.2f}", theirs.form))
    return aligned(lines, right={1, 2, 5, 6})


def micros(us: float) -> str:
    """Microseconds with about three digits."""
    return f"{us:.0f}" if us >= 99.5 else f"{us:.1f}" if us >= 9.95 else f"{us:.2f}"


def aligned(lines: Sequence[Sequence[str]], right: set[int]) -> str:
    """Columns of equal width; those in `right`, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
