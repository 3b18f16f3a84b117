"""Instruction sets: each table is compiled as its name says and chosen by FASTNN_ISA; its tiles live in registers."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn import _kernels as k

if not k.COMPILED:
    pytest.skip("installed without compiled kernels", allow_module_level=True)

from fastnn._kernels import TABLE
from fastnn._kernels.native import ISAS, NativeBackend, _runtime, choose_isa
from fastnn._kernels.table import linear, linear_attention

RUNNABLE: list[str] = _runtime.runnable()
X86 = platform.machine() == "x86_64"
MACROS = {"base": {"sse2"}, "avx2": {"sse2", "avx2", "fma"}, "avx512": {"sse2", "avx2", "fma", "avx512f"}}


def shared_object(isa: str) -> Path:
    module = __import__(f"fastnn._kernels.native._{isa}", fromlist=["kernels"])
    return Path(module.__file__)


def disassemble(isa: str) -> str:
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump (binutils) is not installed")
    return subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", shared_object(isa)], check=True, capture_output=True, text=True
    ).stdout


def functions(listing: str) -> dict[str, list[tuple[int, str]]]:
    """(address, instruction) by function."""
    found: dict[str, list[tuple[int, str]]] = {}
    for line in listing.splitlines():
        head = re.match(r"[0-9a-f]+ <(.+)>:", line)
        if head:
            body = found.setdefault(head[1], [])
        elif "\t" in line:
            address, instruction = line.split(":", 1)
            body.append((int(address, 16), instruction.strip()))
    return found


def inner_loops(body: list[tuple[int, str]]) -> list[list[str]]:
    """The loops that multiply and hold no other loop, found by their jumps backwards."""
    spans = []
    for address, instruction in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", instruction)
        if jump and body[0][0] <= int(jump[1], 16) < address:
            spans.append((int(jump[1], 16), address))
    spans.sort(key=lambda span: span[1] - span[0])  # the shortest first: those inside of others
    loops: list[list[str]] = []
    taken: list[tuple[int, int]] = []
    for first, last in spans:
        loop = [instruction for at, instruction in body if first <= at <= last]
        if any(i.startswith("ret") for i in loop):  # a jump back out of code that lies behind the end
            continue
        if any("fma" in i for i in loop) and not any(first <= f and t <= last for f, t in taken):
            taken.append((first, last))
            loops.append(loop)
    return loops


@pytest.mark.skipif(not X86, reason="the instruction sets are those of x86-64")
@pytest.mark.parametrize("isa", RUNNABLE)
def test_macros_are_what_the_name_says(isa: str) -> None:
    assert set(NativeBackend(isa).macros) == MACROS[isa]


@pytest.mark.parametrize("isa", RUNNABLE)
def test_table_is_complete(isa: str) -> None:
    module = __import__(f"fastnn._kernels.native._{isa}", fromlist=["kernels"])
    made = {"elementwise", "update"}  # what rows run on that are made of users' functions
    assert set(module.kernels()) == made | set(TABLE)


@pytest.mark.skipif(not X86, reason="the instruction sets are those of x86-64")
def test_baseline_has_no_wide_register() -> None:
    listing = disassemble("base")
    assert "xmm" in listing
    assert not re.findall(r"%[yz]mm\d+", listing)


@pytest.mark.skipif(not X86, reason="the instruction sets are those of x86-64")
@pytest.mark.parametrize("isa", [isa for isa in RUNNABLE if isa != "base"])
def test_tiles_stay_in_registers(isa: str) -> None:
    """The innermost loop of a tile touches no stack: a spilled accumulator or address costs a multiple."""
    tiles = {name: body for name, body in functions(disassemble(isa)).items() if re.match(r"(outer|dot)_\d+x\d", name)}
    assert len(tiles) >= 2 * 2 * 18  # heights and widths, masked or not, for both types
    for name, body in tiles.items():
        loops = inner_loops(body)
        assert loops, name
        for loop in loops:
            spills = [line for line in loop if re.search(r"\(%r[sb]p", line)]
            assert not spills, f"{isa}: {name}: {spills[:3]}"


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTNN_ISA", raising=False)
    assert choose_isa() == RUNNABLE[-1]
    monkeypatch.setenv("FASTNN_ISA", "base")
    assert choose_isa() == "base"
    with pytest.raises(ValueError, match="expected one of base, avx2, avx512, got 'sse9'"):
        choose_isa("sse9")
    monkeypatch.setattr(_runtime, "runnable", lambda: ["base"])
    with pytest.raises(RuntimeError, match="this processor runs only base"):
        choose_isa("avx2")


@pytest.mark.parametrize("isa", ISAS)
def test_environment_variable(isa: str) -> None:
    script = "import fastnn._kernels as k; print(k.isa())"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "FASTNN_ISA": isa}, capture_output=True, text=True
    )
    if isa in RUNNABLE:
        assert done.stdout.strip() == isa
    else:
        assert done.returncode != 0
        assert f"FASTNN_ISA={isa}" in done.stderr


@pytest.mark.parametrize(
    "file,names",
    [
        ("linear.pxi", {"OUT_BLOCK": 32, "DEPTH": 1024, "PANEL_DEPTH": 128, "PANELS": 8, "MANY_ROWS": 256}),
        ("linear.pxi", {name: getattr(linear, name) for name in ("TURN_ROWS", "TURN_OUTS", "MANY")}),
        ("linear_attention_of.h", {"CHUNK": linear_attention._CHUNK}),
        ("attention.pxi", {"KEYS": 64, "MOST_QUERIES": 64}),
    ],
)
def test_scratch_in_the_table_is_what_kernels_use(file: str, names: dict[str, int]) -> None:
    """`_linear_scratch` and `_linear_backward_scratch` of the table are written with these numbers."""
    source = Path(_runtime.__file__).with_name(file)
    if not source.exists():
        pytest.skip("an installation has no sources of the kernels")
    found = dict(re.findall(r"^(?:    |#define )(\w+)(?: =)? (\d+)", source.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: int(found[name]) for name in names} == names
    assert TABLE["linear"].scratch({"N": 7, "I": 5000, "O": 3}, 4) == (0, 256 * (32 + 1024))  # type: ignore[misc]
    backward = TABLE["linear_backward_data"].scratch({"N": 7, "I": 9, "O": 3}, 4)  # type: ignore[misc]
    assert backward == (0, 128 * 8 * 256)
    assert TABLE["linear_backward_weights"].scratch({"N": 1024, "I": 9, "O": 3}, 4) == (0, 128 * (8 * 256 + 256 * 4))  # type: ignore[misc]
