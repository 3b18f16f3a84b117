"""``python -m bench``: compares training steps with PyTorch's, and draws charts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from . import steps
from .workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, given as words, by default those of the command line."""
    options = parser().parse_args(arguments)
    options.run(options)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(required=True)

    command = commands.add_parser("steps", help="training steps beside PyTorch's, in turn")
    command.add_argument("--threads", type=int, default=1, help="threads that each may use (default 1)")
    command.add_argument("--repeats", type=int, default=10, help="rounds of a block of steps each (default 10)")
    command.add_argument("--steps", type=int, default=30, help="steps in a block (default 30)")
    command.add_argument("--only", choices=WORKLOADS, action="append", help="a workload, instead of all")
    command.add_argument("--untuned", action="store_true", help="leave PyTorch the allocator's usual settings")
    command.add_argument("--json", type=Path, help="file for every round's figures")
    command.add_argument("--chart", type=Path, help="file for a picture")
    command.set_defaults(run=_steps)

    command = commands.add_parser("chart", help="a picture of saved benchmarks")
    command.add_argument("file", type=Path, help="JSON of pytest-benchmark, or of `steps --json`")
    command.add_argument("--out", type=Path, required=True, help="file for the picture")
    command.set_defaults(run=_chart)
    return top


def _steps(options: argparse.Namespace) -> None:
    workloads = [WORKLOADS[name] for name in options.only or WORKLOADS]
    comparisons, about = steps.compare(workloads, options.threads, options.repeats, options.steps, not options.untuned)
    print(steps.table(comparisons))
    data = steps.as_json(comparisons, about)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
    if options.chart:
        _draw(data, options.chart)


def _chart(options: argparse.Namespace) -> None:
    _draw(json.loads(options.file.read_text(encoding="utf-8")), options.out)


def _draw(data: dict[str, object], out: Path) -> None:
    from . import charts  # Matplotlib is only needed here

    charts.draw_data(data, out)


if __name__ == "__main__":
    main()
