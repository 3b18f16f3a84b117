"""What the machine can do: fused multiply-adds and copied bytes a second, measured by a C program made on the spot.

The program (``machine.c``) is compiled with the system's compiler into a temporary folder. Its loops are trusted only
after a look at their machine code: a loop that a compiler folded, or one whose chains share a register, lies.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("machine.c")
SECONDS = 1e-3  #: that one measurement lasts
INSTRUCTIONS, CHAINS = 24, 12  #: in a loop of machine.c
_ARITHMETIC = re.compile(r"vfmadd\w+p[sd]|mulp[sd]|addp[sd]|fmla(\.\w+)?")


class MachineError(RuntimeError):
    """The ceiling cannot be measured, or was measured wrongly."""


class Machine:
    """The running program; every figure is of now, since the clock drifts."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        program = compile_source(Path(self._folder.name))
        listing = disassembly(program)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.unit = self._line()  #: the instruction set that the ceiling is measured with, the widest there is
        for dtype in ("float32", "float64"):
            check_loop(listing, f"{self.unit}_{dtype}")

    def gflops(self, threads: int, dtype: str = "float32") -> float:
        """Billions of operations a second, a fused multiply-add being two."""
        return self._ask("fma", dtype, threads) / 1e9

    def copied(self, working_set: int, threads: int) -> float:
        """GB a second, read and written, of copies from one half of a working set to the other."""
        return self._ask("copy", max(working_set, 64 * threads), threads) / 1e9

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, what: str, amount: str | int, threads: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {amount} {threads} {SECONDS}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise MachineError(f"{SOURCE.name} ended with status {self._process.wait()}")
        return line


def compile_source(folder: Path) -> Path:
    """machine.c, compiled into the folder."""
    compiler = os.environ.get("CC", "cc")
    program = folder / "machine"
    command = [*compiler.split(), "-O2", "-std=gnu11", "-pthread", str(SOURCE), "-o", str(program)]
    if shutil.which(command[0]) is None:
        raise MachineError(f"measuring the machine's ceiling needs a C compiler, and there is no {command[0]}")
    subprocess.run(command, check=True)
    return program


def disassembly(program: Path) -> str:
    """The program's machine code, as objdump lists it."""
    if shutil.which("objdump") is None:
        raise MachineError(
            "the ceiling's loop is trusted only after a look at its machine code, and there is no objdump"
        )
    command = ["objdump", "-d", "--no-show-raw-insn", str(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_loop(listing: str, function: str) -> None:
    """Raise unless the function's loop has `INSTRUCTIONS` on `CHAINS` registers, and beside them only a counter."""
    body = re.search(rf"^[0-9a-f]+ <_?{function}>:\n(.*?)(?:\n\n|\Z)", listing, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^\s*([0-9a-f]+):\s+(\S+)[ \t]*(.*)$", body[1] if body else "", re.MULTILINE)
    addresses = {int(address, 16): (name, operands) for address, name, operands in found}
    jumps = [
        (target, address)
        for address, (name, operands) in addresses.items()
        if name.startswith(("j", "b.")) and (target := int(operands.split()[0], 16)) <= address
    ]
    if len(jumps) != 1:
        raise MachineError(f"{function}: expected one loop in the disassembly, found {len(jumps)}")
    (first, last) = jumps[0]
    loop = [instruction for address, instruction in addresses.items() if first <= address <= last]
    arithmetic = [operands for name, operands in loop if _ARITHMETIC.fullmatch(name)]
    chains = {re.split(r",\s*", operands)[-1 if "%" in operands else 0] for operands in arithmetic}
    if (len(arithmetic), len(chains)) != (INSTRUCTIONS, CHAINS) or len(loop) > INSTRUCTIONS + 2:
        raise MachineError(
            f"{function}: expected {INSTRUCTIONS} multiply-adds in {CHAINS} registers and a counter, "
            f"found {len(arithmetic)} in {len(chains)} among {len(loop)} instructions"
        )


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def described() -> dict[str, str | int]:
    """Processor, cores, system and Python, for whoever reads a figure."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
