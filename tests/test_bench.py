"""The benchmarks run: every row can be called, operations are counted right, tables and charts come out."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # `bench` is no part of the installed package

from bench import __main__ as command  # noqa: E402
from bench.costs import bytes_moved, flops  # noqa: E402
from bench.inputs import Call, cases, make, shapes, sizes  # noqa: E402
from bench.steps import Comparison, Figure, as_json, from_json, table  # noqa: E402
from bench.worker import Worker, WorkerError  # noqa: E402
from bench.workloads import WORKLOADS, Workload  # noqa: E402
from fastnn._kernels import TABLE, backends, use_backend  # noqa: E402


def tiny(row: str, **options: Any) -> Call:
    """A call of a row at the first of its samples that has more than one element everywhere."""
    calls = (make(row, sample, **options) for sample in TABLE[row].samples)
    return next(call for call in calls if all(a.size > 1 for a in call.inputs))


def outputs(call: Call, backend: str) -> list[np.ndarray[Any, Any]]:
    """What a call computes, and what it changes."""
    with use_backend(backend):
        result = call.run()
    found = result if isinstance(result, tuple) else (result,)
    return [a for a in found if a is not None] + [
        a for arg, a in zip(call.kernel.inputs, call.inputs, strict=True) if arg.inout
    ]


# --- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", TABLE)
def test_every_row_runs_on_every_backend(row: str, dtype: str) -> None:
    expected = outputs(tiny(row, dtype=dtype), "reference")
    for backend in backends():
        for found, wanted in zip(outputs(tiny(row, dtype=dtype), backend), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row,shape", cases())
def test_every_shape_has_sizes(row: str, shape: str) -> None:
    kernel = TABLE[row]
    found = sizes(kernel, shapes(row)[shape])
    for arg in (*kernel.inputs, *kernel.outputs):
        assert all(isinstance(symbol, int) or found[symbol] > 0 for symbol in arg.dims), f"{arg.name}: {found}"


def test_inputs_lie_as_the_row_says() -> None:
    call = make("conv2d", shapes("conv2d")["mnist 32-64 13x13"])
    x, weight, bias = call.inputs
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    assert weight.transpose(2, 3, 1, 0).flags.c_contiguous
    assert all(a.ctypes.data % 64 == 0 for a in (x, weight, bias, *call.targets))
    assert call.run() is call.targets[0]


def test_the_same_seed_makes_the_same_inputs() -> None:
    a, b, c = (make("linear", {"N": 2, "I": 3, "O": 4, "relu": False}, seed=seed).inputs[0] for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


# --- operations and bytes ---------------------------------------------------------------------------------------------


def test_operations_of_a_linear_layer() -> None:
    call = make("linear", {"N": 2, "I": 3, "O": 5, "relu": False})
    assert flops(call) == 2 * 2 * 3 * 5
    assert bytes_moved(call) == 4 * (2 * 3 + 5 * 3 + 5 + 2 * 5)


def test_operations_of_a_convolution_leave_out_padding() -> None:
    # A 3 × 3 window with padding 1 sees 4 of 9 pixels in each corner of a 2 × 2 image: 16 products an image and channel
    # pair. Stride 2 leaves the first corner.
    image = {
        "N": 3,
        "C": 4,
        "H": 2,
        "W": 2,
        "O": 5,
        "KH": 3,
        "KW": 3,
        "padding": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "relu": False,
    }
    for row in ("conv2d", "conv2d_backward_data", "conv2d_backward_weights"):
        assert flops(make(row, {**image, "stride": (1, 1)})) == 2 * 3 * 4 * 5 * 16
        assert flops(make(row, {**image, "stride": (2, 2)})) == 2 * 3 * 4 * 5 * 4
    grouped = {**image, "O": 6, "stride": (1, 1), "groups": 2}
    assert flops(make("conv2d", grouped)) == 2 * 3 * 2 * 6 * 16


def test_bytes_of_rows_that_change_or_select() -> None:
    assert flops(make("sgd", {"n": 10, "T": 2})) == 0
    moved = 4 * 10 * (2 + 1 + 2) + 8 * 6 + 8 * 2 * 2  # param, buffer and steps are read and written
    assert bytes_moved(make("sgd", {"n": 10, "T": 2})) == moved
    assert bytes_moved(make("gather_rows", {"M": 100, "B": 2, "shape": (3,)})) == 4 * 2 * 3 * 2 + 8 * 2


# --- workers ----------------------------------------------------------------------------------------------------------


def test_worker_measures_kernels_and_steps() -> None:
    small = Workload("small", (1, 6, 6), (("Conv2d", 1, 2, 3), ("ReLU",), ("Flatten",), ("Linear", 32, 10)), batch=2)
    with Worker("native" if "native" in backends() else "reference") as worker:
        assert worker.about["fastnn"]
        prepared = worker.prepare_kernel("relu", "mnist 32x128")
        assert prepared is not None
        assert prepared["bytes"] == 2 * 4 * 32 * 128
        assert worker.time_kernel(prepared["repeats"]) > 0
        assert worker.prepare_step(small)["form"] == "eager, 1 thread"
        assert len(worker.time_steps(3)) == 3
        first, second = worker.losses(small, 2)
        assert first == pytest.approx(np.log(10), rel=0.2)
        assert first != second
        with pytest.raises(WorkerError, match="KeyError"):
            worker.prepare_kernel("relu", "no such shape")
        assert worker.losses(small, 1) == [first]


def test_workloads_go_through_json() -> None:
    for workload in WORKLOADS.values():
        assert Workload.from_json(workload.as_json()) == workload
    assert "Dropout" not in str(WORKLOADS["MNIST CNN"].without_dropout().layers)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_computes_the_same() -> None:
    # In a process of its own: two OpenMP runtimes in one disturb each other.
    code = "import test_bench; test_bench.compare_with_torch()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "tests", timeout=120)


def compare_with_torch() -> None:
    """Every form of every operator of PyTorch against the reference; raises where they differ."""
    from bench.peer_torch import KERNELS, TorchPeer

    # These draw numbers of their own, so only shapes can agree.
    drawn = ("dropout", "max_pool2d_backward")
    drawn += ("conv2d_max_pool2d_backward_data", "conv2d_max_pool2d_backward_weights")
    indexed = ("max_pool2d", "conv2d_max_pool2d")  # PyTorch counts through the image
    for row in KERNELS:
        expected = outputs(tiny(row), "reference")
        call = tiny(row)
        for form in TorchPeer(1).kernel_forms(call):
            result = form.call()
            found = [t for t in (result if isinstance(result, tuple) else (result,)) if t is not None]
            if row == "sgd":
                found, expected = call.inputs[0:3:2], expected[-3:-1]
            for f, e in list(zip(found, expected, strict=False))[: 1 if row in indexed else None]:
                assert tuple(f.shape) in (e.shape, ()), f"{row} {form.title}: {f.shape}, expected {e.shape}"
                if row not in drawn:
                    np.testing.assert_allclose(np.asarray(f), e.reshape(f.shape), rtol=1e-4, atol=1e-4, err_msg=row)


# --- tables and charts ------------------------------------------------------------------------------------------------

COMPARISONS = [
    Comparison(
        "MNIST CNN",
        2,
        {
            "native": Figure("eager, 2 threads", [100.0, 110.0, 300.0]),
            "torch": Figure("channels-last, fused, 1 thread", [200.0, 209.0, 900.0]),
        },
    ),
    Comparison("784-10-10", 1, {"native": Figure("eager, 1 thread", [29.6])}),
]


def test_table_of_steps() -> None:
    assert table(COMPARISONS).splitlines() == [
        "workload   threads  fastnn µs  peer      µs  ratio  fastest form of the peer",
        "MNIST CNN        2        110  PyTorch  209   2.00  channels-last, fused, 1 thread",
        "784-10-10        1         30  –          –      –  –",
    ]


def test_steps_go_through_json_and_become_a_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = json.loads(json.dumps(as_json(COMPARISONS, {"fastnn": "0"})))
    assert from_json(data) == COMPARISONS
    saved, chart = tmp_path / "steps.json", tmp_path / "steps.png"
    saved.write_text(json.dumps(data), encoding="utf-8")
    command.main(["chart", str(saved), "--out", str(chart)])
    assert chart.read_bytes().startswith(b"\x89PNG")


def benchmark_of(seconds: float, **info: Any) -> dict[str, Any]:
    """One entry of pytest-benchmark's JSON, as far as charts read it."""
    return {"stats": {"median": seconds}, "extra_info": {"threads": 1, **info}}


def test_chart_of_saved_benchmarks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import charts

    kernel = {"kind": "kernel", "shape": "784-10", "dtype": "float32", "flops": 2_000_000, "bytes": 5_000_000}
    data = {
        "machine_info": {"cpu": {"brand_raw": "a processor"}},
        "benchmarks": [
            benchmark_of(1e-4, **kernel, row="linear", peer="native"),
            benchmark_of(2e-4, **kernel, row="linear", peer="torch"),
            benchmark_of(1e-3, **{**kernel, "flops": 0}, row="relu", peer="reference"),
            benchmark_of(1e-6, **{**kernel, "bytes": 72}, row="next_key", peer="native"),
            benchmark_of(1e-3, kind="step", shape="MNIST CNN", peer="native"),
        ],
    }
    linear, relu, step = charts.panels_of_benchmarks(data)
    assert (linear.unit, linear.bars) == (
        "GFLOP/s",
        {"784-10": {"native": pytest.approx(20), "torch": pytest.approx(10)}},
    )
    assert (relu.unit, relu.bars) == ("GB/s", {"784-10": {"reference": pytest.approx(5)}})
    assert (step.unit, step.bars) == ("µs", {"": {"native": pytest.approx(1000)}})
    charts.draw_data(data, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
