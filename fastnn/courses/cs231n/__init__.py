"""The modules that the notebooks of Stanford's CS231n, and of courses built on its frame, import: on fastnn's kernels.

After ``fastnn.courses.cs231n.install()`` the import lines of such a notebook work as they stand, and it runs unchanged:

    from nndl.fc_net import *
    from cs231n.data_utils import get_CIFAR10_data
    from cs231n.solver import Solver

`nndl` is the name that UCLA's ECE C147 gives to the part that its students write.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

#: The modules of each package, by what a notebook calls it; all are modules of this one.
PACKAGES = {
    "cs231n": ("data_utils", "fast_layers", "gradient_check", "optim", "solver", "vis_utils"),
    "nndl": ("fc_net", "layer_utils", "layers", "neural_net", "optim"),
}


def install() -> None:
    """Make ``import cs231n.…`` and ``import nndl.…`` find the modules of this package; again, it does nothing.

    Raises ImportError, and changes nothing, where another package of such a name can be imported.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for package in PACKAGES:
        if (where := _found(package)) is not None:
            raise ImportError(
                f"fastnn.courses.cs231n.install: there is another package {package!r}, in {where}; "
                "use that one, or start Python where it cannot be imported"
            )
    sys.meta_path.append(_Finder())


def _found(package: str) -> str | None:
    """Where a package would be imported from, None if there is none of that name."""
    if package in sys.modules:
        return getattr(sys.modules[package], "__file__", None) or "memory"
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if spec.origin is None and not any(list(folder.glob("*.py")) for folder in folders):
        return None  # a folder of that name without modules, such as that of the frame's data sets
    return ", ".join(map(str, folders)) or str(spec.origin)


class _Finder(MetaPathFinder):
    """Finds the packages, which are empty, and their modules, each of which is imported when it is asked for."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        if module in ("", *PACKAGES.get(package, ())) and package in PACKAGES:
            return ModuleSpec(name, _Loader(), is_package=not module)
        return None


class _Loader(Loader):
    """Puts the module of this package in the place of a new one."""

    def create_module(self, spec: ModuleSpec) -> None:
        """None: as Python does it."""

    def exec_module(self, module: ModuleType) -> None:
        _, _, name = module.__name__.partition(".")
        if name:
            sys.modules[module.__name__] = importlib.import_module(f"{__name__}.{name}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within: NumPy's global random numbers, from which the frame draws, begin at `seed`; afterwards they go on."""
    before: Any = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


__all__ = ["PACKAGES", "install", "seeded"]
