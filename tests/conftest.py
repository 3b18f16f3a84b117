"""Fixtures that several tests share."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import fastnn as fn
from fastnn import _kernels as k
from fastnn.data import Dataset

#: The same examples in every run, so that one that passed here passes there; others by --hypothesis-profile=random.
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile("same")

needs_native = pytest.mark.skipif("native" not in k.backends(), reason="installed without compiled kernels")


def pytest_configure() -> None:
    """Nobody is to believe that they tested compiled kernels that are not there; and Ctrl-C must be testable."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not k.COMPILED and os.environ.get("FASTNN_PURE") != "1":
        raise pytest.UsageError(
            "the compiled kernels are missing: pip install -e . (or FASTNN_PURE=1 pytest without them)"
        )


HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(autouse=True)
def _seeded() -> None:
    fn.manual_seed(0)
    if HAS_TORCH:  # it begins with another seed in every process
        importlib.import_module("torch").manual_seed(0)


@pytest.fixture
def threads() -> Iterator[None]:
    """Lets a test change the number of threads; it is put back afterwards."""
    before = fn.get_num_threads()
    yield
    fn.set_num_threads(before)


@pytest.fixture
def installed() -> Iterator[None]:
    """`fastnn.courses.cs231n` is installed; afterwards it is not."""
    from fastnn.courses import cs231n

    finders = [*sys.meta_path]
    cs231n.install()
    yield
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] in cs231n.PACKAGES]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets, in the layout of `fastnn.data`; skips where FASTNN_DATA does not name one."""
    folder = os.environ.get("FASTNN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FASTNN_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """700 and 100 images in the place of MNIST: class c is a bright square at a place of its own, in noise."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, count)
        x = (rng.random((count, 1, 28, 28)) / 4).astype(np.float32)
        for image, label in zip(x, y, strict=True):
            row, column = divmod(int(label), 4)
            image[0, 2 + 8 * row : 8 + 8 * row, 1 + 7 * column : 7 + 7 * column] += 0.7
        return x, y

    data = Dataset(*part(700), *part(100), tuple("0123456789"))
    monkeypatch.setattr(fn.data, "mnist", lambda root, *, divisor, download: data)
    return data
