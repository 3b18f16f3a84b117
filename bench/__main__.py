"""``python -m bench``: fastnn beside PyTorch, JAX, scikit-learn and the machine itself; tables, targets and charts."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy

from . import courses, cs231n, custom, estimators, gpu, kernels, latency, scaling, steps, targets
from .inputs import cases
from .machine import MachineError, described
from .peers import chosen
from .report import Verdict, verdicts_table, word
from .workloads import ENCODERS, SWEEPS, WORKLOADS

T = TypeVar("T")
#: What a command returns: its results for JSON, the peers' versions, its table, and the verdicts on its targets.
Outcome = tuple[dict[str, Any], dict[str, str], str, list[Verdict]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, given as words, by default those of the command line."""
    top = parser()
    options = top.parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        top.error(str(error))
    except (kernels.AboveCeiling, MachineError) as error:
        sys.exit(f"python -m bench: {error}")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(required=True)

    command = _measuring(commands, "steps", _steps, "training steps", repeats=10)
    command.add_argument("--steps", type=int, default=30, help="steps in a round (default 30)")
    command.add_argument("--untuned", action="store_true", help="leave peers the environment as it is")

    command = _measuring(commands, "kernels", _kernels, "every kernel, also beside the machine's limits", repeats=7)
    command.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of real arrays")

    _measuring(commands, "latency", _latency, "one prediction; import, size, first step", repeats=10)

    command = _measuring(commands, "scaling", _scaling, "steps over batch, width and threads", repeats=5)
    command.add_argument("--steps", type=int, default=30, help="steps in a round (default 30)")

    command = _measuring(commands, "courses", _courses, "whole trainings of courses", repeats=1)
    command.add_argument("--epochs", type=int, help="instead of the course's")

    _measuring(commands, "cs231n", _cs231n, "CS231n's layers by naive loops, im2col and fastnn", repeats=3)

    _measuring(commands, "custom", _custom, "a user's activations beside the built-in ones", repeats=15)

    _measuring(commands, "estimators", _estimators, "estimators beside scikit-learn's perceptron", repeats=3)

    command = commands.add_parser("gpu", help="on an NVIDIA GPU: its kernels' contract, losses, and steps")
    command.add_argument("--repeats", type=int, default=10, help="rounds (default 10)")
    command.add_argument("--steps", type=int, default=100, help="steps in a round (default 100)")
    command.add_argument("--only", action="append", metavar="TEXT", help="networks that have this in their name")
    command.add_argument("--json", type=Path, help="file for every round's figures")
    command.set_defaults(run=_gpu, command="gpu")

    command = commands.add_parser("chart", help="a picture of what --json saved")
    command.add_argument("file", type=Path)
    command.add_argument("--out", type=Path, required=True, help="file for the picture")
    command.set_defaults(run=_chart)
    return top


def _measuring(
    commands: Any, name: str, measure: Callable[[argparse.Namespace], Outcome], what: str, repeats: int
) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=what)
    command.add_argument("--against", metavar="PEERS", help="of torch, jax, sklearn: a comma list (default: installed)")
    command.add_argument("--threads", type=int, default=1, help="threads that each may use (default 1)")
    command.add_argument("--repeats", type=int, default=repeats, help=f"rounds (default {repeats})")
    command.add_argument("--only", action="append", metavar="TEXT", help="what has this in its name, instead of all")
    command.add_argument("--json", type=Path, help="file for every round's figures")
    command.add_argument("--chart", type=Path, help="file for a picture")
    command.set_defaults(run=_run, command=name, measure=measure)
    return command


def _run(options: argparse.Namespace) -> None:
    """Measure, show, judge, save and draw."""
    options.peers = chosen(options.command, options.against)
    found, about, table, verdicts = options.measure(options)
    print(table)
    if verdicts:
        print("\n" + verdicts_table(verdicts))
    data = {
        "kind": options.command,
        "machine": described(),
        "about": about,
        "threads": options.threads,
        **found,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    if options.json:
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
    if options.chart:
        _draw(data, options.chart)
    if options.command == "kernels":
        kernels.check_below_ceiling([kernels.Measured.from_json(m) for m in data["measured"]])


def _steps(options: argparse.Namespace) -> Outcome:
    workloads = _only(options, (*WORKLOADS.values(), *ENCODERS.values()), lambda workload: workload.name)
    comparisons, about = steps.compare(
        workloads, options.peers, options.threads, options.repeats, options.steps, not options.untuned
    )
    found = {"comparisons": [asdict(c) for c in comparisons]}
    return found, about, steps.table(comparisons), targets.of_steps(comparisons)


def _kernels(options: argparse.Namespace) -> Outcome:
    wanted = _only(options, cases(), " ".join)
    measured, limits, about = kernels.compare(wanted, options.peers, options.threads, options.repeats, options.dtype)
    found = {"dtype": options.dtype, "limits": asdict(limits), "measured": [asdict(m) for m in measured]}
    return found, about, kernels.table(measured, limits, targets.marks(measured)), targets.of_kernels(measured)


def _latency(options: argparse.Namespace) -> Outcome:
    workloads = _only(options, WORKLOADS.values(), lambda workload: workload.name)
    comparisons, about = latency.compare(workloads, options.peers, options.threads, options.repeats)
    starts = latency.starts(options.peers, options.threads, options.repeats)
    found = {"comparisons": [asdict(c) for c in comparisons], "starts": [asdict(start) for start in starts]}
    return found, about, latency.table(comparisons, starts), targets.of_latency(comparisons, starts)


def _scaling(options: argparse.Namespace) -> Outcome:
    sweeps = {name: SWEEPS[name] for name in _only(options, SWEEPS, str)}
    points, about = scaling.compare(sweeps, options.peers, options.threads, options.repeats, options.steps)
    return {"points": [asdict(p) for p in points]}, about, scaling.table(points), targets.of_scaling(points)


def _courses(options: argparse.Namespace) -> Outcome:
    wanted = _only(options, courses.COURSES.values(), lambda course: course.name)
    comparisons, about = courses.compare(wanted, options.peers, options.threads, options.repeats, options.epochs)
    found = {"epochs": options.epochs, "comparisons": [asdict(c) for c in comparisons]}
    return found, about, courses.table(comparisons), targets.of_courses(comparisons)


def _cs231n(options: argparse.Namespace) -> Outcome:
    if options.peers:
        raise ValueError("--against: cs231n has no peers but NumPy")
    timings = cs231n.compare(_only(options, cs231n.TASKS, str), options.threads, options.repeats)
    return {"timings": [asdict(t) for t in timings]}, {"numpy": numpy.__version__}, cs231n.table(timings), []


def _custom(options: argparse.Namespace) -> Outcome:
    if options.peers:
        raise ValueError("--against: custom has no peers, it compares fastnn with itself")
    if not find_spec("numba"):
        raise ValueError("custom needs Numba, which is not installed")
    timings = custom.compare(_only(options, custom.TASKS, str), options.threads, options.repeats)
    about = {name: importlib.metadata.version(name) for name in ("numba", "llvmlite")}
    return {"timings": [asdict(t) for t in timings]}, about, custom.table(timings), targets.of_custom(timings)


def _estimators(options: argparse.Namespace) -> Outcome:
    if options.peers:
        raise ValueError("--against: estimators has no peers but scikit-learn")
    if not find_spec("sklearn"):
        raise ValueError("estimators needs scikit-learn, which is not installed")
    timings = estimators.compare(_only(options, estimators.TASKS, str), options.threads, options.repeats)
    about = {name: importlib.metadata.version(name) for name in ("scikit-learn", "scipy", "numpy")}
    return {"timings": [asdict(t) for t in timings]}, about, estimators.table(timings), targets.of_estimators(timings)


def _gpu(options: argparse.Namespace) -> None:
    """The contract, the losses, and the steps; an error if the contract or a loss fails, another without a GPU."""
    obstacle = gpu.obstacle()
    if obstacle is not None:
        print(f"python -m bench gpu: nothing was run on a GPU: {obstacle}", file=sys.stderr)
        sys.exit(gpu.NO_GPU)
    print(f"GPU: {gpu.name()}")
    kept = gpu.contract()
    traces = [gpu.trace(network, *gpu.NETWORKS[network]) for network in gpu.NETWORKS]
    print(gpu.traces_table(traces))
    alone = gpu.torch_obstacle()
    if alone is not None:
        print(f"fastnn by itself: {alone}")
    comparisons = [
        gpu.compare(workload, options.repeats, options.steps, alone is None)
        for workload in _only(options, gpu.workloads(), lambda workload: workload.name)
    ]
    print(steps.table(comparisons))
    verdicts = [Verdict("contract of the CUDA kernels", word(kept), "met", kept), *gpu.of_traces(traces)]
    print("\n" + verdicts_table(verdicts))
    if options.json:
        data = {
            "kind": "gpu",
            "machine": {**described(), "gpu": gpu.name()},
            "traces": [asdict(t) for t in traces],
            "comparisons": [asdict(c) for c in comparisons],
            "verdicts": [asdict(verdict) for verdict in verdicts],
        }
        options.json.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
    if not all(verdict.met for verdict in verdicts):
        sys.exit(1)


def _only(options: argparse.Namespace, things: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """Those whose name holds one of the texts of ``--only``, in small letters or capitals."""
    found = [
        thing
        for thing in things
        if options.only is None or any(text.lower() in name(thing).lower() for text in options.only)
    ]
    if not found:
        raise ValueError(f"--only {' '.join(options.only)}: {options.command} has nothing of that name")
    return found


def _chart(options: argparse.Namespace) -> None:
    _draw(json.loads(options.file.read_text(encoding="utf-8")), options.out)


def _draw(data: Mapping[str, Any], out: Path) -> None:
    from . import charts  # Matplotlib is only needed here

    charts.draw(data, out)


if __name__ == "__main__":
    main()
