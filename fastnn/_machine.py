"""What this process runs on."""

from __future__ import annotations

import platform
from importlib import metadata, util
from pathlib import Path

import numpy as np

from . import __version__


def machine() -> dict[str, str]:
    """The processor's name, and the versions that figures may depend on."""
    return {
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fastnn": __version__,
    }


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def package_version(name: str, module: str | None = None) -> str | None:
    """The version of an installed package, found without importing it; None if it cannot be imported."""
    if util.find_spec(module or name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # on the path, but not installed
        return "unknown"
