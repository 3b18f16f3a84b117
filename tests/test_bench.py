"""The benchmarks run: every row can be called, operations are counted right, tables and charts come out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # `bench` is no part of the installed package

from bench import __main__ as command  # noqa: E402
from bench import courses, cs231n, custom, estimators, kernels, latency, machine, peer_fastnn, scaling, steps, targets  # noqa: E402
from bench import session as bench_session  # noqa: E402
from bench.costs import bytes_moved, flops, footprint  # noqa: E402
from bench.cs231n import Timing  # noqa: E402
from bench.inputs import Call, cases, family, make, shapes, sizes  # noqa: E402
from bench.kernels import AboveCeiling, Limits, Measured  # noqa: E402
from bench.latency import Start  # noqa: E402
from bench.machine import Machine, MachineError, check_loop  # noqa: E402
from bench.peer import Form  # noqa: E402
from bench.peers import PEERS, chosen, missing  # noqa: E402
from bench.report import Verdict, verdicts_table  # noqa: E402
from bench.rounds import Comparison, Figure, in_turn  # noqa: E402
from bench.scaling import Point, thread_counts  # noqa: E402
from bench.session import Session  # noqa: E402
from bench.worker import Worker, WorkerError  # noqa: E402
from bench.workloads import BATCHES, ENCODERS, WORKLOADS, Workload, batches, samples, stacked  # noqa: E402
from fastnn._kernels import TABLE, backends, use_backend  # noqa: E402
from fastnn.courses import fashion_fnn  # noqa: E402


def tiny(row: str, **options: Any) -> Call:
    """A call of a row at the first of its samples that has more than one element wherever there can be more."""
    calls = (make(row, sample, **options) for sample in TABLE[row].samples)
    fixed = [arg.dims == (1,) for arg in TABLE[row].inputs]
    return next(call for call in calls if all(a.size > 1 or one for a, one in zip(call.inputs, fixed, strict=True)))


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


def test_operations_of_attention() -> None:
    sizes = {"N": 2, "T": 3, "S": 5, "E": 8, "heads": 2}
    for row, products in (("attention", 2), ("attention_backward", 5)):
        assert flops(make(row, {**sizes, "causal": False})) == products * 2 * 2 * 3 * 5 * 8
        assert flops(make(row, {**sizes, "causal": True})) == products * 2 * 2 * (1 + 2 + 3) * 8
    assert flops(make("linear_attention", {**sizes, "causal": False})) == 2 * 2 * (3 + 5) * 8 * 4
    assert flops(make("mix_steps", {"N": 2, "S": 5, "E": 8, "R": 3, "M": 6})) == 2 * 2 * 3 * 5 * 8


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
    assert footprint(make("sgd", {"n": 10, "T": 2})) == 4 * 10 * 3 + 8 * 6 + 8 * 2
    norm = {"N": 6, "C": 3, "H": 1, "W": 1, "relu": False, "train": True, "eps": 1e-5}
    assert bytes_moved(make("batch_norm", norm)) == 4 * (2 * 18 + 4 * 3)
    assert bytes_moved(make("batch_norm_backward", norm)) == 4 * (5 * 18 + 6 * 3)
    assert footprint(make("batch_norm_backward", norm)) == 4 * (3 * 18 + 6 * 3)
    assert bytes_moved(make("gather_rows", {"M": 100, "B": 2, "shape": (3,)})) == 4 * 2 * 3 * 2 + 8 * 2


# --- peers ------------------------------------------------------------------------------------------------------------

BACKEND = "native" if "native" in backends() else "reference"
CNN = Workload(
    "small CNN",
    (1, 7, 7),
    (("Conv2d", 1, 2, 3), ("ReLU",), ("MaxPool2d", 2), ("Flatten",), ("Linear", 8, 10)),
    batch=2,
)
MLP = Workload("small MLP", (12,), (("Linear", 12, 8), ("ReLU",), ("Linear", 8, 10)), batch=4)
NESTEROV = Workload("Nesterov", (12,), (("Linear", 12, 10),), 4, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True})


def test_worker_measures_kernels_steps_and_predictions() -> None:
    with Worker(BACKEND) as worker:
        assert worker.about["fastnn"]
        prepared = worker.prepare_kernel("relu", "mnist 32x128")
        assert prepared is not None
        assert prepared["bytes"] == prepared["footprint"] == 2 * 4 * 32 * 128
        assert worker.time_kernel(prepared["form"], prepared["repeats"]) > 0
        prepared = worker.prepare_step(CNN)
        assert prepared is not None
        assert "eager, 1 thread" in prepared["forms"]
        assert worker.time_steps("eager, 1 thread", 3) > 0
        prepared = worker.prepare_prediction(CNN)
        assert prepared is not None
        assert [*prepared["forms"]] == [
            f"{way}, 1 thread" for way in ("model(x)", "model.scores(x)", "model.predict(x)")
        ]
        first, second = worker.losses(CNN)["eager"]
        assert first == pytest.approx(np.log(10), rel=0.2)
        assert first != second
        with pytest.raises(WorkerError, match="KeyError"):
            worker.prepare_kernel("relu", "no such shape")
        assert worker.losses(CNN)["eager"] == [first, second]
        assert len(worker.first_steps(CNN)) == 2


@pytest.mark.parametrize("peer", ["reference", "torch", "jax", "sklearn"])
def test_peers_train_and_predict_alike(peer: str) -> None:
    if reason := missing(peer):
        pytest.skip(reason)
    with Worker(BACKEND) as ours, Worker(peer) as theirs:
        workers = {"native": ours, peer: theirs}
        for workload in (MLP, NESTEROV):
            steps.check_same_losses(workload, workers)
        for workload in (latency.one_sample(CNN), latency.one_sample(MLP)):
            latency.check_same_classes(workload, workers)
        assert theirs.classes(latency.one_sample(MLP))
        if peer == "sklearn":  # which has no such momentum, and no convolution
            assert theirs.losses(NESTEROV) == theirs.classes(latency.one_sample(CNN)) == {}


LEAKY = Workload("leaky", (12,), (("Linear", 12, 8), ("LeakyReLU",), ("Linear", 8, 10)), 4, "Adam", {"lr": 0.01})


def few_samples() -> tuple[np.ndarray, np.ndarray]:
    """A remainder of a batch of 4 at the end."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((42, 12)).astype(np.float32), rng.integers(0, 10, 42)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_whole_trainings_are_alike() -> None:
    # In a process of its own: two OpenMP runtimes in one disturb each other.
    code = "import test_bench; test_bench.train_with_torch()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "tests", timeout=120)


def train_with_torch() -> None:
    """Every form of PyTorch comes to the loss of `fit`, each time anew; raises where one does not."""
    from bench.peer_torch import TorchPeer

    peer = TorchPeer(1)
    peer.use_threads(1)
    for workload in (MLP, LEAKY):
        (ours,) = peer_fastnn.connect(BACKEND, 1).training_forms(workload, *few_samples(), 2)
        expected = ours.call()
        assert ours.call() == expected
        for form in peer.training_forms(workload, *few_samples(), 2):
            for _ in range(2):
                np.testing.assert_allclose(form.call(), expected, rtol=1e-4, err_msg=form.title)


def test_a_training_is_chosen_by_its_first_steps_and_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    class Peer(peer_fastnn.FastnnPeer):
        def training_forms(self, workload: Workload, x: Any, labels: Any, epochs: int) -> Any:
            seen.append((len(x), epochs))
            return super().training_forms(workload, x, labels, epochs)

    x, labels = few_samples()
    monkeypatch.setattr(bench_session, "samples", lambda data: (np.tile(x, (20, 1)), np.tile(labels, 20)))
    session = Session(Peer(BACKEND, 1))
    prepared = session.prepare_training(MLP, "mnist", 3)
    assert prepared is not None and prepared["form"] == "fit, 1 thread"
    assert seen == [(400, 1), (840, 3)]
    assert session.time_training("fit, 1 thread") > 0
    session._forms = {"a": Form("a", 1, lambda: float("nan"))}
    with pytest.raises(ArithmeticError, match="a, 1 thread came to nan"):
        session.time_training("a")


def test_courses_are_those_that_are_reproduced() -> None:
    course = courses.COURSES["mnist-fc"]
    assert (course.epochs, len(course.runs)) == (10, 10)
    leaky = {run.name: run for run in course.runs}["hidden 128, LeakyReLU"]
    assert leaky.layers == (("Linear", 784, 128), ("LeakyReLU",), ("Linear", 128, 10))
    momentum = {run.name: run for run in course.runs}["hidden 10, momentum .9"]
    assert (momentum.batch, momentum.optimizer, momentum.options) == (32, "SGD", {"lr": 0.1, "momentum": 0.9})
    (reported,) = courses.COURSES["fashion-fnn"].runs
    drawn = fashion_fnn.network(reported.name)
    assert [layer[0] for layer in reported.layers] == [type(layer).__name__ for layer in drawn][1:]
    assert (reported.batch, reported.optimizer) == (128, "Adam")


def test_samples_of_unknown_data_are_refused() -> None:
    with pytest.raises(ValueError, match="expected data 'mnist' or 'fashion-mnist', got 'nothing'"):
        samples("nothing")


class FakeWorker:
    """A worker that says what it is told to."""

    def __init__(self, losses: list[float]) -> None:
        self.trace = losses

    def losses(self, workload: Workload) -> dict[str, list[float]]:
        return {"eager": self.trace}

    def classes(self, workload: Workload) -> dict[str, list[int]]:
        return {"eager": [int(loss) for loss in self.trace]}

    def prepare_training(self, workload: Workload, data: str, epochs: int) -> dict[str, Any] | None:
        return (
            {"form": f"{epochs} epochs", "forms": {}} if workload.name == "small MLP" or len(self.trace) == 2 else None
        )

    def time_training(self, form: str) -> float:
        return self.trace[0]


def test_courses_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: Any = {"native": FakeWorker([2.0, 2.0]), "torch": FakeWorker([9.0, 9.0])}
    for worker in workers.values():
        worker.about = {}
    monkeypatch.setattr(courses, "workers_of", lambda peers, threads: nullcontext(workers))
    monkeypatch.setattr(courses, "check_same_losses", lambda run, workers: None)
    course = courses.Course("mnist-fc", "mnist", 3, (MLP, NESTEROV))
    found, _ = courses.compare([course], ["torch"], 1, 2, None)
    assert courses.table(found).splitlines() == [
        "training   threads  fastnn s  peer         s  ratio  its fastest form",
        "small MLP        1      2.00  PyTorch   9.00   4.50  3 epochs",
        "Nesterov         1      2.00  PyTorch   9.00   4.50  3 epochs",
        "mnist-fc         1      4.00  PyTorch  18.00   4.50",
    ]
    assert [c.task for c in found] == ["small MLP", "Nesterov", "mnist-fc"]
    assert found[2].figures["torch"].rounds == [18e6, 18e6]
    assert [(v.figure, v.target, v.met) for v in targets.of_courses(found)] == [("4.50", "≥ 4", True)]
    workers["torch"].trace = [9.0]  # cannot do the second
    alone = courses.compare([course], ["torch"], 1, 1, 7)[0]
    assert [c.peers for c in alone] == [["torch"], [], []]
    assert alone[0].ours.form == "7 epochs" and "–" in courses.table(alone)


def test_a_peer_that_trains_or_predicts_otherwise_is_found() -> None:
    workers: Any = {"native": FakeWorker([2.3, 2.1]), "torch": FakeWorker([2.3, 3.1])}
    with pytest.raises(ArithmeticError, match=r"small MLP: torch \(eager\) has losses"):
        steps.check_same_losses(MLP, workers)
    with pytest.raises(ArithmeticError, match=r"torch \(eager\) predicts \[2, 3\], fastnn \[2, 2\]"):
        latency.check_same_classes(MLP, workers)


@pytest.mark.skipif(BACKEND != "native", reason="no compiled kernels")
def test_captured_steps_are_forms_of_their_own() -> None:
    session = Session(peer_fastnn.connect("native", 1))
    eager, captured, epoch = session.losses(CNN).values()
    assert captured == eager
    assert epoch == pytest.approx(eager)
    prepared = session.prepare_step(CNN)
    assert prepared is not None
    assert [*prepared["forms"]] == ["eager, 1 thread", "captured, 1 thread", "captured epoch, 1 thread"]
    assert len(session.time_steps("captured epoch, 1 thread", 2 * BATCHES)) >= 2


@pytest.mark.skipif(BACKEND != "native", reason="no compiled kernels")
def test_kernels_are_measured_in_a_replay_too() -> None:
    session = Session(peer_fastnn.connect("native", 1))
    prepared = session.prepare_kernel("relu", "mnist 32x128", "float32")
    assert prepared is not None
    assert [*prepared["forms"]] == ["from Python, 1 thread", "replayed, 1 thread"]
    assert prepared["form"] == "replayed, 1 thread"  # a call from Python takes as long as many of these kernels


def test_stacked_batches_follow_each_other() -> None:
    x, labels = stacked(CNN)
    (first, _), (second, some) = batches(CNN)[:2]
    assert np.array_equal(x[:4], np.concatenate([first, second]))
    assert np.array_equal(labels[2:4], some)
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous


def test_peers_to_compare_with() -> None:
    assert chosen("steps", "reference") == ["reference"]
    assert chosen("steps", "") == []
    assert all(not missing(peer) for peer in chosen("steps", None))
    with pytest.raises(ValueError, match="no peer 'keras', only reference, torch, jax, sklearn"):
        chosen("steps", "reference,keras")


def test_a_peer_that_is_not_installed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.peers.find_spec", lambda package: None)
    with pytest.raises(SystemExit, match="2"):
        command.main(["steps", "--against", "jax"])
    assert "--against jax: jax is not installed" in capsys.readouterr().err


def test_workloads_go_through_json() -> None:
    for workload in WORKLOADS.values():
        assert Workload.from_json(json.loads(json.dumps(workload.as_json()))) == workload
    assert "Dropout" not in str(WORKLOADS["MNIST CNN"].without_dropout().layers)


def test_jax_is_asked_for_the_bare_network_in_place_of_a_normalised_one() -> None:
    cnn, normalised = WORKLOADS["MNIST CNN"], WORKLOADS["784-512-128-64-10 normalised, Adam, batch 128"]
    assert cnn.asked_of("jax") is cnn and normalised.asked_of("torch") is normalised
    bare = normalised.asked_of("jax")
    assert [layer[0] for layer in bare.layers] == ["Linear", "ReLU"] * 3 + ["Linear"]
    assert (bare.optimizer, bare.options, bare.batch) == ("SGD", {"lr": 0.001}, 128)


def test_every_round_measures_everything() -> None:
    called = []
    found = in_turn({key: lambda key=key: called.append(key) or len(called) for key in "ab"}, 2, pause=0)  # type: ignore[misc]
    assert "".join(called) == "baab"
    assert found == {"a": [2, 3], "b": [1, 4]}


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_computes_the_same() -> None:
    # In a process of its own: two OpenMP runtimes in one disturb each other.
    code = "import test_bench; test_bench.compare_with_torch()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "tests", timeout=120)


def compare_with_torch() -> None:
    """Every form of every operator of PyTorch against the reference; raises where they differ."""
    from bench.peer_torch import TorchPeer
    from bench.torch_kernels import KERNELS

    # These draw numbers of their own, so only shapes can agree.
    drawn = ("dropout", "dropout2d", "attention_dropout", "max_pool2d_backward")
    drawn += ("conv2d_max_pool2d_backward_data", "conv2d_max_pool2d_backward_weights")
    drawn += ("random_crop", "random_crop_backward", "random_flip", "cutout")
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


# --- the machine ------------------------------------------------------------------------------------------------------

TOOLS = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("objdump")), reason="no C compiler, or no objdump")


@TOOLS
def test_machine_is_measured() -> None:
    with Machine() as limits:
        assert limits.unit in ("base", "avx2", "avx512")
        assert limits.gflops(1) > limits.gflops(1, "float64") > 0.1
        assert limits.copied(1 << 16, 1) > 0.1
        assert limits.copied(1 << 16, 2) > 0.1


@TOOLS
def test_loops_of_every_unit_are_what_they_say(tmp_path: Path) -> None:
    listing = machine.disassembly(machine.compile_source(tmp_path))
    loops = set(re.findall(r"<((?:base|avx2|avx512)_float(?:32|64))>:", listing))
    assert {"base_float32", "base_float64"} <= loops
    for function in loops:
        check_loop(listing, function)


@pytest.mark.parametrize("tool", ["cc", "objdump"])
def test_without_its_tools_the_machine_is_not_measured(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if name == tool else name)
    monkeypatch.setattr(command, "chosen", lambda *_: [])
    with pytest.raises(SystemExit, match=f"there is no {tool}"):
        command.main(["kernels"])


def listing_of(destinations: list[int], *others: str) -> str:
    """A disassembly of a loop that adds to these registers, among other instructions."""
    body = [f"vfmadd213ps %zmm15,%zmm14,%zmm{i}" for i in destinations] + [
        *others,
        "dec    %rdi",
        "jne    1000 <f+0x0>",
    ]
    lines = [f"    {0x1000 + 6 * i:x}:\t{instruction}" for i, instruction in enumerate(body)]
    return "\n".join(["0000000000001000 <f>:", *lines, "    1200:\tret", "", "0000000000002000 <g>:", "    2000:\tret"])


def test_a_loop_that_lies_is_found() -> None:
    right = [*range(12), *range(12)]
    check_loop(listing_of(right), "f")
    planted = {
        "found 12 in 12": listing_of(right[:12]),  # a compiler that halved the work
        "found 24 in 1 ": listing_of([0] * 24),  # a compiler that folded the chains
        "among 27": listing_of(right, "vmovaps (%rax),%zmm14"),
        "found 48 in 12": listing_of(right * 2),
    }
    for message, listing in planted.items():
        with pytest.raises(MachineError, match=message):
            check_loop(listing, "f")
    with pytest.raises(MachineError, match="expected one loop in the disassembly, found 0"):
        check_loop(listing_of(right), "g")


def test_loops_of_other_disassemblers() -> None:
    for name, operands in (("fmla", "v{}.4s, v14.4s, v15.4s"), ("fmla.4s", "v{}, v14, v15")):
        body = [f"{name} {operands.format(i % 12)}" for i in range(24)] + ["subs x0, x0, #1", "b.ne 0x1000 <_f>"]
        check_loop("\n".join(["1000 <_f>:", *(f" {0x1000 + 4 * i:x}: {line}" for i, line in enumerate(body))]), "f")


# --- tables, targets and charts ---------------------------------------------------------------------------------------


def measure(form: str, *rounds: float) -> Figure:
    return Figure(form, list(rounds), {form: rounds[0]})


COMPARISONS = [
    Comparison(
        "MNIST CNN",
        2,
        {
            "native": measure("eager, 2 threads", 100.0, 110.0, 300.0),
            "torch": measure("channels-last, fused, 1 thread", 200.0, 209.0, 900.0),
            "jax": measure("scan, NHWC, 1 thread", 1000.0, 1001.0, 1002.0),
        },
    ),
    Comparison("784-10-10", 1, {"native": measure("eager, 1 thread", 29.6)}),
]


def measured(row: str, shape: str, us: float, theirs: float, limit: float) -> Measured:
    """A kernel that took `us`, and 2 more to call, PyTorch `theirs`, on a machine with this limit."""
    call = make(row, shapes(row)[shape])
    comparison = Comparison(
        f"{row} {shape}", 1, {"native": measure("", us + 2, us + 2), "torch": measure("", theirs, theirs)}
    )
    return Measured(
        row, shape, family(row), call.sizes, flops(call), bytes_moved(call), [limit, limit], comparison, [us, us]
    )


MEASURED = [
    measured("linear", "128-128 batch 128", 50.0, 100.0, 100.0),  # 84 GFLOP/s
    measured("linear", "784-10", 10.0, 8.0, 100.0),
    measured("conv2d", "mnist 32-64 13x13", 2000.0, 1800.0, 100.0),
    measured("relu", "mnist 32x32x26x26", 300.0, 300.0, 20.0),
]
LIMITS = Limits("avx512", [100.0, 101.0], {str(size): 20.0 for size in kernels.WORKING_SETS})
STARTS = [Start("native", 0.1, 2.5, [], 1.0, 0.2), Start("torch", 2.0, 754.0, ["scipy"], 20.0, 0.3)]
POINTS = [
    Point(
        "MNIST CNN, batch",
        size,
        {
            "native": {"1": measure("eager", 10.0 * size), "2": measure("eager", 5.0 * size)},
            "torch": {"1": measure("fused", 20.0 * size), "2": measure("fused", 20.0 * size)},
        },
    )
    for size in (8, 32)
]
TIMINGS = [
    Timing("convolution, forward", {"loops": [4e6, 5e6], "im2col": [8e3, 8e3], "fastnn": [1e3, 2e3]}),
    Timing("max pooling, backward", {"loops": [3e5, 3e5], "im2col": [3e3, 3e3], "fastnn": [200.0, 200.0]}),
]


def test_table_of_steps() -> None:
    assert steps.table(COMPARISONS).splitlines() == [
        "workload   threads  fastnn µs  fastnn's form     peer       µs  ratio  its fastest form",
        "MNIST CNN        2        110  eager, 2 threads  PyTorch   209   2.00  channels-last, fused, 1 thread",
        "MNIST CNN        2        110  eager, 2 threads  JAX      1001   9.10  scan, NHWC, 1 thread",
        "784-10-10        1       29.6  eager, 1 thread   –           –      –  –",
    ]


def test_table_of_kernels() -> None:
    lines = kernels.table(MEASURED, LIMITS, targets.marks(MEASURED)).splitlines()
    assert lines[0] == "FMA ceiling, avx512: 100 GFLOP/s before, 101 after"
    assert re.split(r"\s{2,}", lines[3]) == [
        *("row", "shape", "µs", "rate", "of limit", "called µs", "PyTorch µs", "ratio", "target")
    ]
    assert re.split(r"\s{2,}", lines[4])[2:] == [
        *("50.0", "83.9", "GFLOP/s", "84%", "52.0", "100", "1.92", "limit ≥ 0.75 met")
    ]
    assert re.split(r"\s{2,}", lines[6])[-1] == "limit ≥ 0.85 not met, ratio ≥ 0.95 not met"
    assert re.split(r"\s{2,}", lines[8]) == ["linear", "geometric mean", "65%", "1.13"]


def test_tables_of_latency_and_scaling() -> None:
    assert "PyTorch" in latency.table(COMPARISONS, STARTS)
    assert "754.0" in latency.table(COMPARISONS, STARTS)
    assert scaling.table(POINTS).splitlines()[:2] == [
        "                  size  peer     µs, 1 thread  µs, 2 threads  gain of 2",
        "MNIST CNN, batch     8  fastnn           80.0           40.0       2.00",
    ]
    assert [thread_counts(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


def test_table_of_cs231n() -> None:
    assert re.split(r"\s{2,}", cs231n.table(TIMINGS).splitlines()[1]) == [
        *("convolution, forward", "4500000", "8000", "1500", "3250.0", "6.0")
    ]


def test_naive_loops_and_im2col_compute_what_fastnn_does() -> None:
    cs231n.check_same()
    found = cs231n.tasks(images=1)
    assert tuple(found) == cs231n.TASKS
    assert {way for ways in found.values() for way in ways} == set(cs231n.WAYS)


def test_estimators_beside_scikit_learns() -> None:
    (wine,) = estimators.measure(["wine"], 1)
    assert len(wine.scores["fastnn"]) == estimators.FOLDS and wine.shortfall() < 1
    assert wine.seconds["sklearn"][0] > 0
    slow, fast = ({"fastnn": [2.0, 2.0], "sklearn": [8.0, 10.0 * factor]} for factor in (1, 2))
    worse = {"fastnn": [0.7, 0.9], "sklearn": [0.9, 1.1]}
    timings = [
        estimators.Timing("digits", slow, worse),
        estimators.Timing("search of 24 points", fast, {"fastnn": [1.0], "sklearn": [1.0]}),
    ]
    assert re.split(r"\s{2,}", estimators.table(timings).splitlines()[1])[:5] == [
        "digits",
        "1797",
        "2.00",
        "9.00",
        "4.5",
    ]
    found = {verdict.what.split(",")[1].strip(): verdict.met for verdict in targets.of_estimators(timings[:1])}
    assert found == {"scikit-learn's time over fastnn's": False, "worse by standard errors": False}
    assert [verdict.met for verdict in targets.of_estimators(timings[1:])] == [True]
    assert all(np.isfinite(a).all() for a in estimators.data("housing"))


def test_estimators_has_no_other_peers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["estimators", "--against", "reference"])
    assert "estimators has no peers but scikit-learn" in capsys.readouterr().err


def test_cs231n_has_no_peers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["cs231n", "--against", "reference"])
    assert "cs231n has no peers" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
def test_users_activations_beside_the_built_in_ones() -> None:
    for name, (own, built_in) in custom.PAIRS.items():
        x = np.linspace(-30, 30, 101)
        np.testing.assert_allclose(own()(x), built_in()(x), rtol=1e-8, err_msg=name)  # above 20, Softplus is x
    (found,) = custom.compare(custom.TASKS[:1], 1, 2)
    assert len(found.own) == len(found.built_in) == 2
    timing = custom.Timing("ReLU, forward, images", (13.0, 12.0), (10.0, 10.0))
    assert custom.table([timing]).splitlines()[1].endswith("  1.25")
    (verdict,) = targets.of_custom([timing])
    assert (verdict.figure, verdict.target, verdict.met) == ("1.25", "≤ 1.2", False)


def test_targets_are_met_or_not() -> None:
    cnn, jax = targets.of_steps(COMPARISONS)
    assert (cnn.target, cnn.figure, cnn.met) == ("≥ 4.5", "2.00", False)
    assert (jax.figure, jax.met) == ("9.10", True)
    found = {v.what: v for v in targets.of_kernels(MEASURED)}
    wide = found["linear, N from 128, I from 128, O from 128, part of the limit"]
    assert (wide.figure, wide.met) == ("1 of 1", True)
    convolution = found["conv2d*, PyTorch's time over fastnn's"]
    assert (convolution.figure, convolution.met) == ("0 of 1: not conv2d mnist 32-64 13x13 0.90", False)
    assert found["relu*, part of the limit"].met
    assert [v.met for v in targets.of_latency(COMPARISONS, STARTS)] == [False, True, True, True]
    assert [v.figure for v in targets.of_scaling(POINTS)] == ["2.00"]
    assert verdicts_table([Verdict("import", "0.1", "≤ 0.15", True)]).splitlines()[1] == "import  ≤ 0.15  met  0.1"


def test_targets_name_what_there_is() -> None:
    data = targets.TARGETS
    assert {t["task"] for t in data["courses"]} <= set(courses.COURSES)
    assert {t["task"] for t in (*data["steps"], *data["latency"]["prediction"])} <= {*WORKLOADS, *ENCODERS}
    assert {t["sweep"] for t in data["scaling"]} <= set(command.SWEEPS)
    for target in data["kernels"]:
        assert any(fnmatchcase(row, target["rows"]) for row in TABLE)
    assert {t["peer"] for part in ("steps", "kernels") for t in data[part] if "peer" in t} <= set(PEERS)


def test_a_kernel_above_the_ceiling_fails() -> None:
    kernels.check_below_ceiling(MEASURED)
    with pytest.raises(AboveCeiling, match=r"linear 784-10: fastnn at 502 GFLOP/s, the ceiling is 100"):
        kernels.check_below_ceiling([*MEASURED, measured("linear", "784-10", 1.0, 9.0, 100.0)])
    with pytest.raises(AboveCeiling, match="PyTorch"):
        kernels.check_below_ceiling([measured("linear", "784-10", 9.0, 1.0, 100.0)])
    kernels.check_below_ceiling([measured("relu", "mnist 32x128", 0.1, 0.1, 20.0)])  # bytes: a cache may do better


def test_a_run_with_a_kernel_above_the_ceiling_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = [measured("linear", "784-10", 1.0, 9.0, 100.0)]
    monkeypatch.setattr(kernels, "compare", lambda *_: (broken, LIMITS, {}))
    monkeypatch.setattr(command, "chosen", lambda *_: ["torch"])
    saved = tmp_path / "kernels.json"
    with pytest.raises(SystemExit) as ended:
        command.main(["kernels", "--json", str(saved)])
    assert "above what the machine can compute: linear 784-10" in str(ended.value)  # a text: status 1
    assert [Measured.from_json(m) for m in json.loads(saved.read_text(encoding="utf-8"))["measured"]] == broken
    assert "784-10" in capsys.readouterr().out


def test_nothing_of_that_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["steps", "--against", "", "--only", "no such network"])
    assert "--only no such network: steps has nothing of that name" in capsys.readouterr().err


OUTCOMES: dict[str, Any] = {
    "steps": {"comparisons": [asdict(c) for c in COMPARISONS]},
    "kernels": {"dtype": "float32", "limits": asdict(LIMITS), "measured": [asdict(m) for m in MEASURED]},
    "courses": {"epochs": None, "comparisons": [asdict(c) for c in COMPARISONS]},
    "latency": {"comparisons": [asdict(c) for c in COMPARISONS], "starts": [asdict(s) for s in STARTS]},
    "scaling": {"points": [asdict(p) for p in POINTS]},
    "cs231n": {"timings": [asdict(t) for t in TIMINGS]},
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_charts_are_drawn_from_json(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = {"kind": kind, "machine": {"processor": "a processor", "cores": 2}, "threads": 2, **OUTCOMES[kind]}
    saved, chart = tmp_path / "saved.json", tmp_path / "chart.png"
    saved.write_text(json.dumps(data), encoding="utf-8")
    command.main(["chart", str(saved), "--out", str(chart)])
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_results_go_through_json() -> None:
    data = json.loads(json.dumps(OUTCOMES))
    assert [Comparison.from_json(c) for c in data["steps"]["comparisons"]] == COMPARISONS
    assert [Measured.from_json(m) for m in data["kernels"]["measured"]] == MEASURED
    assert [Point.from_json(p) for p in data["scaling"]["points"]] == POINTS


def test_chart_of_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "saved.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        command.main(["chart", str(tmp_path / "saved.json"), "--out", str(tmp_path / "chart.png")])
    assert "expected JSON of steps, latency, courses, kernels, scaling, cs231n" in capsys.readouterr().err


# --- what comes before the first prediction ---------------------------------------------------------------------------


def test_import_and_size(tmp_path: Path) -> None:
    seconds, heavy = latency.import_time("fastnn", str(tmp_path))
    assert seconds > 0
    assert heavy == []
    size = latency.installed_bytes("fastnn")
    assert 1e5 < size < targets.TARGETS["latency"]["installed megabytes"] * 1e6


@TOOLS
@pytest.mark.skipif(BACKEND != "native", reason="no compiled kernels")
def test_commands_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved.json"
    quick = ["--against", "reference", "--repeats", "1", "--json", str(saved)]
    for name, more in {
        "steps": ["--only", "784-10-10", "--steps", "2"],
        "kernels": ["--only", "softmax 32"],
        "latency": ["--only", "784-10-10"],
        "scaling": ["--only", "width", "--steps", "2"],
    }.items():
        command.main([name, *quick, *more])
        assert "fastnn" in capsys.readouterr().out
        data = json.loads(saved.read_text(encoding="utf-8"))
        assert data["kind"] == name
        assert data["machine"]["processor"]
        assert data["about"]["fastnn"]
