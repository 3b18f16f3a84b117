"""What the README promises: its examples run, and importing fastnn stays light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
HEAVY = ("numba", "scipy", "sklearn", "matplotlib", "tqdm", "safetensors", "argparse", "numpy.random")


def blocks() -> list[str]:
    """The Python code of the README, block by block."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def run(code: str, folder: Path) -> str:
    (folder / "example.py").write_text(code, encoding="utf-8")  # some of it is read again, to be taken apart
    done = subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_example_learns_the_digits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    example = blocks()[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    printed = run(example, tmp_path)
    accuracy = re.search(r"validation accuracy (\d\.\d+)", printed)
    assert accuracy is not None, printed
    assert float(accuracy[1]) >= 0.97
    assert (tmp_path / "digits.safetensors").stat().st_size > 10_000


@pytest.mark.parametrize("block", blocks()[1:], ids=lambda block: block.splitlines()[-1][:40])
def test_other_examples_run(block: str, tmp_path: Path) -> None:
    run(block, tmp_path)


def test_two_set_up_lines() -> None:
    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("fastnn train")
    assert lines[1].endswith("pytest -n auto")


def test_import_is_light() -> None:
    script = f"import sys, fastnn; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
