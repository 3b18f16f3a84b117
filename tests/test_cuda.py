"""The CUDA backend: the contract of the kernel table, and models on a device.

Tests marked `gpu` need one: a real GPU, or Numba's simulator, ``NUMBA_ENABLE_CUDASIM=1 pytest tests/test_cuda.py``,
which a test of the default run starts where there is none. The simulator runs each CUDA thread as a Python thread, so
what it is given is small.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_kernels as contract
from kernel_inputs import SPECIAL, Sample, dtypes, make, sample_id, shape_of, sprinkle, tolerance

from fastnn import _kernels as k
from fastnn._kernels.kernel import Kernel

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
HAS_NUMBA = importlib.util.find_spec("numba_cuda") is not None or SIMULATED


def _has_driver() -> bool:
    """Whether there can be a GPU; asked without Numba, which takes a second to come."""
    try:
        ctypes.CDLL("libcuda.so.1" if sys.platform != "win32" else "nvcuda.dll")
    except OSError:
        return False
    return True


on_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_NUMBA, reason="numba-cuda is not installed"),
    pytest.mark.skipif(not (SIMULATED or _has_driver()), reason="no GPU, and not under NUMBA_ENABLE_CUDASIM=1"),
]


def gpu(test: Any) -> Any:
    """A test on a device."""
    for mark in on_device:
        test = mark(test)
    return test


# --- the contract -----------------------------------------------------------------------------------------------------

#: Families without CUDA kernels.
WITHOUT = {
    name
    for name in k.TABLE
    if name.startswith(("recurrence", "attention", "linear_attention", "mix_steps", "zero_padding"))
}
#: Rows of arrays that stay in the host's memory, and of the backend itself.
HOST = {kernel.name for kernel in k.TABLE.values() if all(arg.host for arg in kernel.inputs)}
MOST_WORK = 600 if SIMULATED else 1 << 40


def work(kernel: Kernel, sample: Sample) -> int:
    """How many numbers a call has."""
    return sum(int(np.prod(shape_of(arg, sample))) for arg in (*kernel.inputs, *kernel.outputs))


def samples(kernel: Kernel, most: int = 2) -> list[Sample]:
    """The samples of a row to run; on the simulator an empty one, and the largest that are not too large."""
    by_work = sorted(kernel.samples, key=lambda sample: work(kernel, sample))
    if not SIMULATED:
        return by_work
    empty = [s for s in by_work if 0 in s.values() or 0 in s.get("shape", ())][:1]
    full = [s for s in by_work if s not in empty]
    small = [s for s in full if work(kernel, s) <= MOST_WORK][-most:]
    return [*empty, *(small or full[:1])]


def cases(wanted: Any = lambda kernel, dtype: True, most: int = 2) -> Any:
    """One test for each sample and dtype of the rows that have CUDA kernels."""
    return pytest.mark.parametrize(
        "name,sample,dtype",
        [
            pytest.param(kernel.name, sample, dtype, id=f"{kernel.name}-{sample_id(sample)}-{dtype}")
            for kernel in k.TABLE.values()
            if kernel.name not in WITHOUT | HOST
            for dtype in dtypes(kernel)
            if wanted(kernel, dtype)
            for sample in samples(kernel, most)
        ],
    )


def moved(kernel: Kernel, inputs: Any) -> list[Any]:
    """Copies of the inputs on the device, but for those that stay with the host."""
    pairs = zip(kernel.inputs, inputs, strict=True)
    return [a if a is None else a.copy() if arg.host else k.to_device(a, "cuda") for arg, a in pairs]


def called(kernel: Kernel, inputs: Any, params: Any, out: Any = None) -> tuple[Any, ...]:
    """The outputs, on the device; `out` is None or one target for each output."""
    if out is not None and len(kernel.outputs) == 1:
        (out,) = out
    result = kernel(*inputs, out=out, **params)
    found = () if not kernel.outputs else result if isinstance(result, tuple) else (result,)
    assert all(a is None or k.device_of(a) == "cuda" for a in found)
    return found


def on_host(arrays: Any) -> list[Any]:
    return [None if a is None else np.asarray(a) for a in arrays]


def assert_as_reference(kernel: Kernel, inputs: Any, params: Any, dtype: str) -> None:
    expected, after = contract.reference(kernel, inputs, params)
    there = moved(kernel, inputs)
    found = on_host(called(kernel, there, params))
    contract.assert_outputs(kernel.name, kernel, found, expected, tolerance(kernel, dtype))
    for arg, a, e in zip(kernel.inputs, on_host(there), after, strict=True):
        if a is not None:
            contract.assert_close(f"{arg.name} afterwards", a, e, tolerance(kernel, dtype) if arg.inout else 0.0)


@gpu
@cases()
def test_result(name: str, sample: Sample, dtype: str) -> None:
    kernel = k.TABLE[name]
    assert_as_reference(kernel, *make(kernel, sample, dtype), dtype)


@gpu
@cases(lambda kernel, dtype: any(arg.optional for arg in kernel.inputs), most=1)
def test_optional_inputs(name: str, sample: Sample, dtype: str) -> None:
    kernel = k.TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=1)
    for i, arg in enumerate(kernel.inputs):
        if arg.optional:
            assert_as_reference(kernel, [*inputs[:i], None, *inputs[i + 1 :]], params, dtype)


@gpu
@cases(lambda kernel, dtype: kernel.name in SPECIAL and dtype == "float32", most=1)
def test_special_values(name: str, sample: Sample, dtype: str) -> None:
    kernel = k.TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=2)
    assert_as_reference(kernel, sprinkle(kernel, inputs, 0.3), params, dtype)


@gpu
@cases(lambda kernel, dtype: bool(kernel.outputs) and dtype == "float32", most=1)
def test_out(name: str, sample: Sample, dtype: str) -> None:
    """An output is written over what is there, in any layout, or added to it, or left out; twice the same bits."""
    kernel = k.TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=3)
    expected, _ = contract.reference(kernel, inputs, params)
    rng = np.random.default_rng(5)
    bits = set()
    for layout, add in (("stored", False), ("strided", False), ("logical", True)):
        targets, out, wanted = [], [], []
        for arg, e in zip(kernel.outputs, expected, strict=True):
            added = add and arg.dtype not in ("uint16", "bool")  # a place in a window is nothing to add
            before = rng.integers(-8, 9, e.shape).astype(e.dtype)
            a = np.asfortranarray(before) if layout == "stored" and arg.order is None else before
            there = k.to_device(np.repeat(a, 2, axis=-1), "cuda")[..., ::2] if layout == "strided" else None
            targets.append(k.to_device(a, "cuda") if there is None else there)
            out.append((targets[-1], added))
            wanted.append(before + e if added else e)
        found = called(kernel, moved(kernel, inputs), params, out)
        assert all(f is target for f, target in zip(found, targets, strict=True))
        contract.assert_outputs(layout, kernel, on_host(found), wanted, 20 * tolerance(kernel, dtype))
        if not add:
            bits.add(b"".join(a.tobytes() for a in found))
    assert len(bits) == 1
    optional = [arg.optional for arg in kernel.outputs]
    if any(optional):
        found = called(kernel, moved(kernel, inputs), params, [False if left else None for left in optional])
        assert [a is None for a in found] == optional


# --- every kernel compiles for a GPU, without one ---------------------------------------------------------------------


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Compiles a CUDA kernel for an architecture; there need be no GPU, but NVIDIA's compiler."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    if SIMULATED:
        pytest.skip("the simulator compiles nothing")
    from numba import cuda
    from numba.core import sigutils

    try:
        from numba.cuda.cudadrv.nvvm import NVVM

        NVVM()
    except Exception as error:
        pytest.skip(f"no NVVM: {error}")

    def compiled(function: Any, signature: str, cc: tuple[int, int]) -> str:
        # Device functions are compiled for the GPU that is there, which need not be.
        monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: SimpleNamespace(compute_capability=cc))
        arguments, _ = sigutils.normalize_signature(signature)
        found: str = cuda.compile_ptx(function, arguments, cc=cc)[0]
        return found

    yield compiled


def test_every_kernel_compiles(compiler: Any) -> None:
    from fastnn._kernels.cuda.launch import KERNELS

    for function, signatures in KERNELS:
        assert signatures, function
        for signature in signatures:
            try:
                assert ".entry" in compiler(function, signature, (9, 0))
            except Exception as error:
                raise AssertionError(f"{function.__module__}.{function.__name__}: {signature}") from error


# --- where there is no GPU --------------------------------------------------------------------------------------------


@pytest.mark.skipif(SIMULATED or _has_driver(), reason="there is a device")
@pytest.mark.skipif(not HAS_NUMBA, reason="numba-cuda is not installed")
def test_on_the_simulator() -> None:
    """All tests of this file that need a device, in a process whose Numba simulates one."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
