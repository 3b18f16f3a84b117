"""``fastnn info``: describe the installation."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import fastnn as fn

from .. import _kernels as k
from .arguments import add_json

#: The package that each extra brings, and its module.
EXTRAS = {
    "plot": ("matplotlib", "matplotlib"),
    "sklearn": ("scikit-learn", "sklearn"),
    "parquet": ("pyarrow", "pyarrow"),
    "text": ("tokenizers", "tokenizers"),
    "progress": ("tqdm", "tqdm"),
    "jit": ("numba", "numba"),
    "torch": ("torch", "torch"),
}


def add(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser("info", help="describe the installation")
    parser.set_defaults(run=run)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print versions, processor, threads and backends."""
    from .._machine import cpu_model, package_version
    from .._output import to_json

    facts = {
        "fastnn": fn.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "threads": fn.get_num_threads(),
        "isa": k.isa(),
        "runnable": list(k.native._runtime.runnable()) if k.COMPILED else [],
        "backends": sorted(k.backends()),
        "packages": {name: package_version(name) for name in ("numpy", "safetensors")},
        "extras": {extra: {name: package_version(name, module)} for extra, (name, module) in EXTRAS.items()},
    }
    print(to_json(facts) if arguments.json else "\n".join(f"{key:<10} {_words(value)}" for key, value in facts.items()))
    return 0


def _words(value: Any) -> str:
    """A fact for a reader."""
    if isinstance(value, dict):
        entries = [
            (key, f"({_words(item)})" if isinstance(item, dict) else _words(item)) for key, item in value.items()
        ]
        return ", ".join(" ".join(entry) for entry in entries)
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "missing" if value is None else str(value)
