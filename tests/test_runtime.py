"""The native runtime: threads, forks, denormal numbers, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import cpu

if not k.COMPILED:
    pytest.skip("installed without compiled kernels", allow_module_level=True)

from fastnn._kernels import native
from fastnn._kernels.kernel import using

pytestmark = pytest.mark.usefixtures("threads")
RUNNABLE: list[str] = native._runtime.runnable()


def small_cnn(dtype: str = "float32") -> fn.Sequential:
    return fn.Sequential(
        fn.Conv2d(1, 32, 3, padding=1, dtype=dtype),
        fn.ReLU(),
        fn.MaxPool2d(2),
        fn.Conv2d(32, 24, 3, stride=2, dtype=dtype),
        fn.ReLU(),
        fn.Flatten(),
        fn.Linear(24 * 25, 70, dtype=dtype),
        fn.Dropout(0.5),
        fn.Linear(70, 10, dtype=dtype),
    )


def train(steps: int, dtype: str = "float32", batch: int = 33) -> bytes:
    """The bits of all parameters after some steps from fixed weights on fixed images."""
    fn.manual_seed(3)
    rng = np.random.default_rng(3)
    model = small_cnn(dtype)
    x, y = rng.standard_normal((batch, 1, 24, 24)).astype(dtype), rng.integers(0, 10, batch)
    loss, optimizer = (
        fn.CrossEntropyLoss(),
        fn.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
    )
    for _ in range(steps):
        scores, backward = model.forward(x, train=True)
        backward(loss.forward(scores, y)[1]())
        optimizer.step()
    return b"".join(p.data.tobytes() for p in model.parameters())


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_thread_count(isa: str, dtype: str) -> None:
    results = set()
    with using(native.NativeBackend(isa)):
        for count in (1, 2, 3, 7):
            fn.set_num_threads(count)
            results.add(train(3, dtype))
    assert len(results) == 1


def test_large_layers_have_the_same_bits_for_any_thread_count() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 96, 12, 12)).astype("f"), rng.standard_normal((150, 96, 3, 3)).astype("f")
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    results = set()
    for count in (1, 2, 3):
        fn.set_num_threads(count)
        y = k.conv2d(x, w, None, **how, relu=False)
        dw, db = k.conv2d_backward_weights(y, x, **how, kernel_size=(3, 3))
        dx = k.conv2d_backward_data(y, w, **how, input_size=(12, 12))
        results.add(b"".join(a.tobytes() for a in (y, dw, db, dx)))
    assert len(results) == 1


def test_eight_threads_predict_with_one_model() -> None:
    fn.set_num_threads(2)
    model, x = small_cnn(), np.random.default_rng(1).standard_normal((64, 1, 24, 24)).astype("f")
    expected = model.scores(x)
    wrong: list[int] = []
    start = threading.Barrier(8)

    def work(i: int) -> None:
        start.wait()
        for _ in range(10):
            if not np.array_equal(model.scores(x), expected):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


def in_fork(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in a forked child (its SHA-256 fits into a pipe)."""
    import hashlib

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(write, hashlib.sha256(work()).digest())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_trains_with_threads_of_its_own() -> None:
    import hashlib

    fn.set_num_threads(3)
    here = hashlib.sha256(train(2)).digest()  # the pool is running when the process forks
    assert in_fork(lambda: train(2)) == here
    assert hashlib.sha256(train(2)).digest() == here


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_fork_while_another_thread_computes() -> None:
    fn.set_num_threads(2)
    stop = threading.Event()

    def busy() -> None:
        model, x = small_cnn(), np.zeros((32, 1, 24, 24), "f")
        while not stop.is_set():
            model(x)

    other = threading.Thread(target=busy)
    other.start()
    try:
        answers = {in_fork(lambda: train(1)) for _ in range(5)}
    finally:
        stop.set()
        other.join(60)
    assert len(answers) == 1


def test_threads_resized_while_others_compute() -> None:
    fn.set_num_threads(2)
    model, x = small_cnn(), np.random.default_rng(1).standard_normal((32, 1, 24, 24)).astype("f")
    expected, wrong = model(x), []

    def work() -> None:
        for _ in range(40):
            if not np.array_equal(model(x), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for count in (1, 4, 2, 3, 1, 5, 2):
        fn.set_num_threads(count)
    for worker in workers:
        worker.join(60)
    assert not wrong


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-40), ("float64", 1e-310)])
def test_denormals_are_flushed_inside_kernels_only(isa: str, dtype: str, tiny: float) -> None:
    small = np.full(40000, tiny, dtype)
    assert small[0] > 0
    fn.set_num_threads(2)
    with using(native.NativeBackend(isa)):
        y = k.linear(small.reshape(400, 100), np.ones((30, 100), dtype), None, relu=False)
    assert not y.any()
    assert (small * np.ones(1, dtype) == small).all()  # NumPy, outside, still has them
    assert np.finfo(dtype).smallest_subnormal > 0


@pytest.mark.parametrize("bad", [0, -1, 257, 1.5, "2", True])
def test_thread_counts_out_of_range(bad: object) -> None:
    with pytest.raises(ValueError, match="whole number from 1 to 256"):
        fn.set_num_threads(bad)  # type: ignore[arg-type]


def test_default_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("FASTNN_NUM_THREADS", "5")
    assert cpu.default_threads() == 5
    monkeypatch.setenv("FASTNN_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="FASTNN_NUM_THREADS: expected a whole number from 1 to 256, got 'many'"):
        cpu.default_threads()
    monkeypatch.delenv("FASTNN_NUM_THREADS")
    monkeypatch.setattr(cpu, "physical_cores", lambda: 8)
    monkeypatch.setattr(cpu, "cgroup_cores", lambda: 8)
    for limit, expected in (("3", 3), ("2,1", 2), ("64", 8), ("dynamic", 8), ("0", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert cpu.default_threads() == expected
    monkeypatch.undo()
    assert 1 <= cpu.default_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "max 100000"}, cpu.MAX_THREADS),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, cpu.MAX_THREADS),
        ({}, cpu.MAX_THREADS),
    ],
)
def test_cgroup_quota(files: dict[str, str], cores: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    root = Path(str(tmp_path))
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text + "\n")
    monkeypatch.setattr(cpu, "_CGROUP", root)
    assert cpu.cgroup_cores() == cores


def test_arrays_are_aligned_and_reused_memory_is_not_shared() -> None:
    x = np.ones((50, 60), "f")
    first = k.relu(x)
    assert first.ctypes.data % 64 == 0
    second = k.relu(-x)
    assert (first == 1).all() and not second.any()
    view = first[::2]
    del first
    third = k.relu(2 * x)
    assert (view == 1).all() and (third == 2).all()


def test_memory_does_not_grow() -> None:
    script = """
import resource, numpy as np, fastnn as fn
model = fn.Sequential(fn.Conv2d(1, 16, 3), fn.ReLU(), fn.Flatten(), fn.Linear(16 * 26 * 26, 10))
rng = np.random.default_rng(0)
def peak(n):
    for i in range(n):
        x = rng.standard_normal((1 + int(rng.integers(40)), 1, 28, 28)).astype("f")
        scores, backward = model.forward(x, train=True)
        backward(scores, need_dx=False)
        model.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak(150)
print(peak(600) - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    assert grown < 20_000  # KiB
