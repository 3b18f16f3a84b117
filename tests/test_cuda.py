"""The CUDA backend: the contract of the kernel table, and models on a device.

Tests marked `gpu` need one: a real GPU, or Numba's simulator, ``NUMBA_ENABLE_CUDASIM=1 pytest tests/test_cuda.py``,
which a test of the default run starts where there is none. The simulator runs each CUDA thread as a Python thread, so
what it is given is small.
"""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import test_kernels as contract
from kernel_inputs import SPECIAL, Sample, dtypes, make, sample_id, shape_of, sprinkle, tolerance

import fastnn as fn
from bench.workloads import Workload
from fastnn import _kernels as k
from fastnn._kernels import table
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


@pytest.fixture(autouse=True)
def _better_simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The simulator waits for its threads by asking them without a pause, which takes several times as long as it need;
    and two threads that come to shared memory at once may get two arrays."""
    if not SIMULATED:
        yield
        return
    from numba.core import types
    from numba.cuda.simulator.kernel import BlockThread
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    def is_alive(thread: Any) -> bool:
        time.sleep(0)
        return threading.Thread.is_alive(thread)

    def array(shared: Any, shape: Any, dtype: Any) -> Any:
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno  # in a block, one array for each line that asks
        new = np.empty(shape, as_dtype(dtype) if isinstance(dtype, types.Type) else dtype)
        return shared._allocations.setdefault(place, new)

    monkeypatch.setattr(BlockThread, "is_alive", is_alive)
    monkeypatch.setattr(FakeCUDAShared, "array", array)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


# --- the contract -----------------------------------------------------------------------------------------------------

#: Families without CUDA kernels.
WITHOUT = {row.name for family in (table.attention, table.linear_attention, table.recurrence) for row in family.ROWS}
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
def test_all_other_rows_have_cuda_kernels() -> None:
    from fastnn._kernels.cuda import FUNCTIONS

    assert k.TABLE.keys() - FUNCTIONS.keys() == WITHOUT | HOST | {"copy"}


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


# --- arrays -----------------------------------------------------------------------------------------------------------


@gpu
def test_views_are_numpys() -> None:
    host = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    a = k.to_device(host, "cuda")
    for view in (
        lambda a: a,
        lambda a: a[1],
        lambda a: a[:, 1:, ::2],
        lambda a: a[..., ::-1, 2],
        lambda a: a[:, None, :, 3:1:-1],
        lambda a: a[1, 2, 3, 4],
        lambda a: a[:0],
        lambda a: a.T,
        lambda a: a.transpose(0, 2, 3, 1),
        lambda a: np.moveaxis(a, -1, 1),
        lambda a: a.reshape(6, -1),
        lambda a: a.transpose(0, 2, 3, 1).reshape(8, 15),  # which is a copy
        lambda a: a[:, 1:].reshape(2, -1)[1:],
        lambda a: a[:0].reshape(0, 5),
    ):
        found, expected = view(a), view(host)
        assert type(found) is type(a)
        assert (found.shape, found.ndim, found.size) == (expected.shape, expected.ndim, expected.size)
        assert (found.dtype, found.nbytes, found.flags.c_contiguous) == (
            a.dtype,
            expected.nbytes,
            expected.flags.c_contiguous,
        )
        np.testing.assert_array_equal(np.asarray(found), expected)
        np.testing.assert_array_equal(np.asarray(found.copy()), expected)
        assert found.tolist() == expected.tolist()
        assert found.tobytes() == expected.tobytes()
    assert len(a) == 2 and len([*a]) == 2
    assert float(a[0, 0, 0, 1]) == 1.0 and int(a[0, 0, 0, 2]) == 2 and bool(a[0, 0, 0, 3])
    assert np.asarray(a, np.float64).dtype == np.float64
    assert a.strides == host.strides
    assert "on cuda" in repr(a[0, 0, 0])


@gpu
@pytest.mark.parametrize("layout", ["C", "F", "channels last"])
def test_an_array_keeps_its_layout(layout: str) -> None:
    host = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    host = np.moveaxis(np.moveaxis(host, 1, -1).copy(), -1, 1) if layout == "channels last" else host.copy(order=layout)
    a = k.to_device(host, "cuda")
    assert a.strides == host.strides
    back = np.asarray(a)
    assert back.strides == host.strides
    np.testing.assert_array_equal(back, host)
    np.testing.assert_array_equal(np.asarray(copy.deepcopy(a)), host)
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(a))), host)


@gpu
def test_writing_into_an_array() -> None:
    host = np.zeros((3, 4), np.float32)
    a = k.to_device(host, "cuda")
    for array in (host, a):
        array[1] = 2
        array[:, 1:3] = np.arange(6).reshape(3, 2)
        array[::2, ::-1] = np.arange(4, dtype=np.float32)
        array.T[3] = 7
        array[1:] = array[:-1]
    np.testing.assert_array_equal(np.asarray(a), host)
    a[...] = k.to_device(np.ones(4, np.float32), "cuda")
    np.testing.assert_array_equal(np.asarray(a), 1)


@gpu
def test_what_an_array_does_not_do() -> None:
    a = k.to_device(np.zeros((3, 4), np.float32), "cuda")
    with pytest.raises(TypeError, match="slices and whole numbers"):
        a[np.array([0, 1])]
    with pytest.raises(TypeError, match=r"np\.asarray"):
        a == a  # noqa: B015
    with pytest.raises(TypeError, match="expected float32"):
        a[0] = k.to_device(np.zeros(4), "cuda")
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(a, copy=False)
    with pytest.raises(IndexError):
        a[3]
    assert k.to_device(a, "cuda") is a
    with pytest.raises(ValueError, match="'cpu' or 'cuda', got 'gpu'"):
        fn.to_device(a, "gpu")


@gpu
def test_arrays_in_two_places_are_an_error() -> None:
    x, w = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)
    there = k.to_device(w, "cuda")
    for backend in k.backends():
        with fn.use_backend(backend), pytest.raises(TypeError, match="linear: x is on cpu, weight on cuda"):
            k.linear(x, there, None, relu=False)
    with pytest.raises(TypeError, match="linear: x is on cuda, weight on cpu"):
        k.linear(k.to_device(x, "cuda"), w, None, relu=False)
    with pytest.raises(TypeError, match="expected hyper in the host's memory"):
        p = k.to_device(np.zeros(3, np.float32), "cuda")
        k.sgd(p, p, None, k.to_device(np.zeros(6), "cuda"), np.zeros(1, np.int64))
    with pytest.raises(TypeError, match="out for y must be an array in the GPU's memory"):
        k.relu(k.to_device(x, "cuda"), out=x)
    with pytest.raises(NotImplementedError, match=r"0 \(GRU\): no CUDA kernel for 'recurrence'; model.to"):
        fn.Sequential(fn.GRU(3, 2, batch_first=True)).to("cuda").scores(np.zeros((2, 4, 3), np.float32))


@gpu
@pytest.mark.parametrize("name", ["linear", "relu", "mse"])
def test_inputs_in_any_layout(name: str) -> None:
    """Arrays that lie otherwise than the row says are laid out by a copy."""
    kernel = k.TABLE[name]
    inputs, params = make(kernel, kernel.samples[3 if name == "mse" else 1], "float32")
    expected, _ = contract.reference(kernel, inputs, params)
    for layout in ("fortran", "reversed", "strided"):
        there = []
        for a in inputs:
            if layout == "fortran":
                there.append(k.to_device(np.asfortranarray(a), "cuda"))
            elif layout == "reversed":
                there.append(k.to_device(a[..., ::-1].copy(), "cuda")[..., ::-1])
            else:
                there.append(k.to_device(np.repeat(a, 2, axis=0), "cuda")[::2])
        contract.assert_outputs(
            layout, kernel, on_host(called(kernel, there, params)), expected, tolerance(kernel, "float32")
        )


# --- models -----------------------------------------------------------------------------------------------------------


def small_cnn(*, p: float = 0.5) -> fn.Sequential:
    """The layers of mnist-cnn, few and small."""
    return fn.Sequential(
        *(fn.Conv2d(1, 2, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Conv2d(2, 3, 2), fn.ReLU(), fn.MaxPool2d(2)),
        *(fn.Flatten(), fn.Linear(3, 4), fn.Dropout(p), fn.Linear(4, 3)),
    )


def images(samples: int, size: int = 8) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, 1, size, size)).astype(np.float32), rng.integers(0, 3, samples)


class Losses(fn.Callback):
    """The loss of each batch."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        self.found.append(loss)


def trace(
    make_model: Any, x: Any, y: Any, device: str, steps: int, batch: int, **options: Any
) -> tuple[Any, list[float]]:
    """A model trained on a device from the same weights, and the loss of each step."""
    fn.manual_seed(0)
    model, losses = make_model().to(device), Losses()
    options = {"optimizer": fn.SGD(lr=0.05, momentum=0.9, nesterov=True), "shuffle": True} | options
    fn.fit(model, x, y, batch_size=batch, epochs=-(-steps * batch // len(x)), callbacks=[losses], seed=0, **options)
    return model, losses.found[:steps]


@gpu
def test_twenty_steps_of_a_small_mnist_cnn() -> None:
    x, y = images(8)
    (model, losses), (there, found) = (trace(small_cnn, x, y, device, 20, 2) for device in ("cpu", "cuda"))
    assert len(losses) == 20
    np.testing.assert_allclose(found, losses, atol=1e-4)
    assert (there.device, model.device) == ("cuda", "cpu")
    for key, value in there.state_dict().items():
        assert type(value) is np.ndarray
        np.testing.assert_allclose(value, model.state_dict()[key], atol=1e-4)


@gpu
@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_twenty_steps_of_mnist_cnn() -> None:
    """The course's own network, on two images a step, each of which takes the simulator minutes."""
    from fastnn.courses.mnist_cnn import network

    x, y = images(8, 28)
    losses, found = (trace(network, x, y, device, 20, 2)[1] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found, losses, atol=1e-4)


def small_norm() -> fn.Sequential:
    return fn.Sequential(
        *(fn.Flatten(), fn.Linear(16, 4, bias=False), fn.BatchNorm1d(4), fn.ReLU()),  # a bias would get noise alone
        *(fn.Residual(fn.Linear(4, 4)), fn.Linear(4, 3)),
    )


@gpu
def test_fit_predict_and_save(tmp_path: Path) -> None:
    """Validation, metrics, callbacks, decay and clipping, a model in a file: all as on the CPU."""
    from sklearn.metrics import f1_score

    x, y = images(10, 4)
    found = {}
    for device in ("cpu", "cuda"):
        fn.manual_seed(0)
        model = small_norm().to(device)
        best, adam = fn.BestModel(path=tmp_path / f"{device}.safetensors"), fn.Adam(lr=0.02, clip_norm=0.5)
        history = fn.fit(
            *(model, x, y),
            loss=fn.L2Penalty(fn.CrossEntropyLoss(weight=[1, 2, 1], label_smoothing=0.1), model, 1e-2),
            optimizer=adam,
            batch_size=4,
            epochs=2,
            validation_data=(x[:5], y[:5]),
            metrics={"f1": lambda a, b: f1_score(a, b, average="macro", zero_division=0)},
            callbacks=[best, fn.StepLR(adam, 1), fn.EarlyStopping(patience=5)],
            sample_weight=np.linspace(0.5, 1.5, 10),
            seed=1,
        )
        loaded = fn.load(tmp_path / f"{device}.safetensors")
        np.testing.assert_array_equal(loaded.state_dict()["1.weight"], model.state_dict()["1.weight"])
        assert (loaded.device, model.device) == ("cpu", device)
        found[device] = (
            {name: history[name] for name in history.names() if name != "seconds"},
            {"scores": model.scores(x, 4), "proba": model.predict_proba(x), "classes": model.predict(x)},
            fn.evaluate(model, x, y, batch_size=4),
        )
        assert all(type(a) is np.ndarray for a in found[device][1].values())
        assert model(fn.to_device(x, device)).shape == (10, 3)
        assert str(model.summary((1, 4, 4))) == str(small_norm().summary((1, 4, 4)))
        np.testing.assert_allclose(fn.fold_batch_norm(model).scores(x), model.scores(x), atol=1e-5)
    for there, here in zip(found["cuda"], found["cpu"], strict=True):
        assert there.keys() == here.keys()
        for name in here:
            np.testing.assert_allclose(there[name], here[name], atol=1e-4, err_msg=name)


def two_heads() -> fn.Layer:
    return fn.Sequential(fn.Linear(3, 4), fn.Parallel(fn.Linear(4, 2), fn.Linear(4, 3), mode="tuple"))


@gpu
@pytest.mark.parametrize("source", ["batches", "lazy", "no room"])
def test_data_that_are_copied_batch_by_batch(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)).astype(np.float32), np.stack([rng.integers(0, n, 6) for n in (2, 3)], 1)
    if source == "no room":
        monkeypatch.setattr(k, "fits", lambda arrays, device: False)

    class Rows:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, where: Any) -> Any:
            return x[where]

    def run(device: str) -> list[float]:
        fn.manual_seed(0)
        model = two_heads().to(device)
        loss = fn.JointLoss([fn.CrossEntropyLoss(), fn.CrossEntropyLoss()], [1.0, 0.5])
        data = ((lambda: ((x[i : i + 2], y[i : i + 2]) for i in range(0, 6, 2))),)
        data = data if source == "batches" else (Rows() if source == "lazy" else x, y)
        history = fn.fit(model, *data, loss=loss, optimizer=fn.RMSprop(lr=0.05), batch_size=2, epochs=2, seed=0)
        return [*history.loss, *history.accuracy]

    np.testing.assert_allclose(run("cuda"), run("cpu"), atol=1e-5)


@gpu
def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    x, y = images(6, 4)

    def run(epochs: int, **options: Any) -> Any:
        fn.manual_seed(0)
        model = fn.Sequential(fn.Flatten(), fn.Linear(16, 3), fn.Dropout(0.5)).to("cuda")
        fn.fit(model, x, y, optimizer=fn.Adam(lr=0.1), batch_size=4, epochs=epochs, seed=0, **options)
        return model.state_dict()["1.weight"]

    whole = run(3)
    run(1, callbacks=[fn.Checkpoint(tmp_path / "run")])
    np.testing.assert_array_equal(run(3, resume=tmp_path / "run"), whole)


@gpu
def test_a_loop_of_ones_own_and_a_move_on_the_way() -> None:
    """Layers, losses and optimizers take arrays on the device; parameters, gradients and state move with the model."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)

    def run(*devices: str) -> tuple[list[float], dict[str, Any], Any]:
        fn.manual_seed(0)
        model = fn.Sequential(fn.Linear(3, 4), fn.Tanh(), fn.Linear(4, 2))
        optimizer = fn.SGD(model.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for device in devices:
            assert model.to(device) is model
            output, backward = model.forward(fn.to_device(x, device), train=True)
            loss, loss_backward = fn.MSELoss().forward(output, y)
            dx = backward(loss_backward())
            assert fn.clip_grad_norm_(model.parameters(), 10.0) > 0
            optimizer.step()
            losses.append(loss)
            assert {k.device_of(a) for a in (output, dx, model[0].weight.grad, model[0].weight.data)} == {device}
        return losses, model.state_dict(), optimizer.state_dict()["state"][0]["momentum_buffer"]

    losses, weights, momentum = run(*["cpu"] * 4)
    for devices in (["cuda"] * 4, ["cpu", "cuda", "cuda", "cpu"], ["cuda", "cpu", "cuda", "cpu"]):
        found = run(*devices)
        np.testing.assert_allclose(found[0], losses, atol=1e-5)
        np.testing.assert_allclose(found[2], momentum, atol=1e-5)
        for key, value in weights.items():
            np.testing.assert_allclose(found[1][key], value, atol=1e-5)


@gpu
def test_a_model_moves_with_all_it_has() -> None:
    fn.manual_seed(0)
    model = small_norm()
    before = {key: value.copy() for key, value in model.state_dict().items()}
    assert model.to("cuda") is model
    assert all(k.device_of(p.data) == k.device_of(p.grad) == "cuda" for p in model.parameters())
    assert all(k.device_of(a) == "cuda" for _, a in model.named_buffers())
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.device == "cuda"
        for key, value in other.to("cpu").state_dict().items():
            np.testing.assert_array_equal(value, before[key])
        assert other.device == "cpu"
    assert type(model[1].weight.data) is np.ndarray
    model.to("cuda").load_state_dict({key: value + 1 for key, value in before.items()})
    np.testing.assert_array_equal(model.state_dict()["1.weight"], before["1.weight"] + 1)
    fn.init.zeros_(model[1].weight)
    assert not np.asarray(model[1].weight).any()
    with pytest.raises(ValueError, match="'cpu' or 'cuda', got 'cuda:1'"):
        model.to("cuda:1")


@gpu
def test_no_step_is_captured_on_a_device() -> None:
    x, y = images(4, 4)
    model = small_norm()
    step = fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x, y)
    model.to("cuda")
    with pytest.raises(fn.CaptureError, match="model is on 'cuda', where no step is captured"):
        step(x, y)
    with pytest.raises(fn.CaptureError, match="model is on 'cuda', where no step is captured"):
        fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x, y)


# --- functions of one's own -------------------------------------------------------------------------------------------


def swish(x: Any, beta: float = 1.0) -> Any:
    return x / (1 + math.exp(-beta * x))


def crooked(x: Any, a: float = 0.5) -> Any:
    return max(x, 0) + a * math.sqrt(abs(x)) + math.erf(x) if x > -1 else math.tanh(x) * a**2 - min(x, -2)


def looped(x: Any) -> Any:
    y = x
    for i in range(3):
        y = y * 0.5 + i
    return y


def log_cosh(prediction: Any, target: Any) -> Any:
    error = abs(prediction - target)
    return error + math.log1p(math.exp(-2 * error)) - math.log(2)


def Lion(p: Any, grad: Any, m: Any, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99) -> Any:
    return p - lr * np.sign(beta1 * m + (1 - beta1) * grad), beta2 * m + (1 - beta2) * grad


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The functions above as layers, a loss and an optimizer, which no other test sees."""
    monkeypatch.setattr(sys.modules[fn.elementwise.__module__], "REGISTRY", {})
    return SimpleNamespace(
        swish=fn.elementwise(swish),
        crooked=fn.elementwise(crooked),
        looped=fn.elementwise(derivative=lambda x: 0.125)(looped),
        log_cosh=fn.elementwise_loss(log_cosh),
        Lion=fn.elementwise_optimizer(Lion),
    )


@gpu
def test_functions_of_ones_own(own: SimpleNamespace) -> None:
    for dtype, allowed in (("float32", 1e-6), ("float64", 1e-14)):
        x = np.linspace(-3, 3, 14).astype(dtype).reshape(2, 7)
        for layer in (own.swish(beta=1.5), own.crooked(), own.looped()):
            with fn.use_backend("reference"):
                y, backward = layer.forward(x, train=True)
                dx = backward(x)
            found, found_backward = layer.forward(fn.to_device(x, "cuda"), train=True)
            np.testing.assert_allclose(np.asarray(found), y, atol=allowed)
            np.testing.assert_allclose(np.asarray(found_backward(fn.to_device(x, "cuda"))), dx, atol=allowed)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((6, 2)).astype(np.float32)

    def make_model() -> fn.Layer:
        return fn.Sequential(fn.Linear(4, 3), own.swish(), fn.Linear(3, 2))

    losses, found = (
        trace(make_model, x, y, device, 6, 2, loss=own.log_cosh(), optimizer=own.Lion(lr=0.01))[1]
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(found, losses, atol=1e-5)


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
        cuda.compile_ptx(lambda: None, (), cc=(9, 0))
    except (ImportError, OSError, RuntimeError) as error:  # by what is missing: NVVM, its library of functions, NVRTC
        pytest.skip(f"NVIDIA's compiler cannot be used: {error}")

    def compiled(function: Any, signature: str, cc: tuple[int, int], **options: bool) -> str:
        # Device functions are compiled for the GPU that is there, which need not be.
        monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: SimpleNamespace(compute_capability=cc))
        arguments, _ = sigutils.normalize_signature(signature)
        found: str = cuda.compile_ptx(function, arguments, cc=cc, **options)[0]
        return found

    yield compiled


def test_functions_of_ones_own_compile(compiler: Any, own: SimpleNamespace) -> None:
    from fastnn._kernels.cuda import custom

    rows = *own.swish.rows, *own.crooked.rows, *own.looped.rows, *own.log_cosh.rows, own.Lion.kernel
    for program in (row.made.program for row in rows):
        text, beside = custom.source(program)
        arrays = "float32[::1], " * len(program.arrays)
        signature = f"void({arrays}UniTuple(float64, {max(1, len(program.options))}), int64)"
        assert ".entry" in compiler(custom.function(text, beside, "float32"), signature, (9, 0), opt=False), (
            program.name
        )


def compile_all(compiler: Any, cc: tuple[int, int], most: int | None, **options: bool) -> None:
    from fastnn._kernels.cuda.launch import KERNELS

    for function, signatures in KERNELS:
        assert signatures, function
        for signature in signatures[:most]:
            try:
                assert ".entry" in compiler(function, signature, cc, **options)
            except Exception as error:
                raise AssertionError(f"{function.__module__}.{function.__name__}: {signature}") from error


def test_every_kernel_compiles(compiler: Any) -> None:
    """For float32, without optimization, which takes most of the time."""
    compile_all(compiler, (9, 0), 1, opt=False)


@pytest.mark.slow
@pytest.mark.parametrize("cc", [(7, 5), (8, 6), (9, 0)])
def test_every_kernel_compiles_for_all_types(compiler: Any, cc: tuple[int, int]) -> None:
    compile_all(compiler, cc, None)


@gpu
def test_memory_that_is_kept_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn._kernels.cuda import array

    here = fn.to_device(np.zeros(1000), "cuda")
    context = SimpleNamespace(get_memory_info=lambda: (5000, 9000))
    monkeypatch.setattr(array, "cuda", SimpleNamespace(current_context=lambda: context))
    monkeypatch.setattr(array._Memory, "kept", {})
    assert array.free_memory() == 5000
    del here
    assert array.free_memory() == 13000


@gpu
def test_sequences_of_several_lengths_are_refused_by_name() -> None:
    model = fn.Sequential(fn.GRU(3, 4, batch_first=True, returns="last")).to("cuda")
    with pytest.raises(NotImplementedError, match="0 \\(GRU\\): no CUDA kernel for 'recurrence'"):
        model.predict(fn.Padded(np.zeros((2, 5, 3), np.float32), np.array([5, 2])))


@gpu
def test_numpy_computes_nothing_with_arrays_on_a_device() -> None:
    a = fn.to_device(np.ones(3, np.float32), "cuda")
    for compute in (lambda: np.ones(3) * a, lambda: np.maximum(a, 0), lambda: a + 1):
        with pytest.raises(TypeError):
            compute()
    assert a is not None and (a == None) is False  # noqa: E711


# --- where there is no GPU --------------------------------------------------------------------------------------------


@pytest.mark.skipif(SIMULATED or _has_driver(), reason="there is a device")
@pytest.mark.skipif(not HAS_NUMBA, reason="numba-cuda is not installed")
def test_without_a_gpu() -> None:
    model = fn.Sequential(fn.Linear(2, 3))
    for move in (lambda: model.to("cuda"), lambda: fn.to_device(np.zeros(3), "cuda")):
        with pytest.raises(RuntimeError, match=r"no NVIDIA GPU can be used here\. Looked for: NVIDIA's driver"):
            move()
    assert model.device == "cpu"
    assert model.to("cpu") is model


def test_only_numbers_move() -> None:
    for wrong in (np.array(["a"]), fn.Padded(np.zeros((2, 3)), np.array([3, 1]))):
        with pytest.raises(fn.DTypeError, match="to_device: expected an array of numbers"):
            fn.to_device(wrong, "cpu")


def test_a_source_of_ones_own_may_have_a_backend() -> None:
    class Source:
        backend, shape, dtype, ndim = "hdf5", (8, 3), np.dtype("float32"), 2
        asked: ClassVar[list[Any]] = []

        def __len__(self) -> int:
            return 8

        def __getitem__(self, key: Any) -> Any:
            self.asked.append(key)
            return np.ones((8, 3), np.float32)[key]

    model = fn.Linear(3, 2)
    fn.fit(model, Source(), np.arange(8) % 2, batch_size=4, epochs=1, optimizer=fn.SGD(lr=0.1))
    assert Source.asked and not any(isinstance(key, int) for key in Source.asked)  # it is read batch by batch
    assert model.scores(Source()).shape == (8, 2)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("fastnn._kernels.cuda")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delattr(k, "cuda", raising=False)
    with pytest.raises(ImportError, match=r"device 'cuda' needs .* pip install \"fastnn\[cuda\]\""):
        fn.Linear(2, 3).to("cuda")


def test_import_touches_neither_numba_nor_a_driver() -> None:
    code = "import sys, fastnn; fastnn.Linear(2, 3); assert not {'numba', 'numba_cuda', 'cuda'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(SIMULATED or _has_driver(), reason="there is a device")
def test_the_benchmark_needs_a_gpu() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "gpu"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "nothing was run on a GPU" in done.stderr


@gpu
def test_losses_and_steps_of_the_benchmark() -> None:
    from bench import gpu as measured

    traced = measured.trace("small", lambda: fn.Sequential(fn.Linear(3, 10)), (3,), steps=3, batch=4)
    assert len(traced.cpu) == len(traced.gpu) == 3
    assert measured.of_traces([traced])[0].met
    assert not measured.of_traces([measured.Trace("wrong", [1.0], [1.1])])[0].met
    assert "small" in measured.traces_table([traced])
    workload = Workload("3-4-10", (3,), (("Linear", 3, 4), ("ReLU",), ("Linear", 4, 10)), batch=2, count=2)
    compared = measured.compare(workload, rounds=1, steps=1, beside_torch=False)
    assert compared.ours.us > 0
    if SIMULATED:
        assert "simulates" in str(measured.obstacle())


@pytest.mark.skipif(SIMULATED or _has_driver(), reason="there is a device")
@pytest.mark.skipif(not HAS_NUMBA, reason="numba-cuda is not installed")
@pytest.mark.timeout(900)
def test_on_the_simulator() -> None:
    """All tests of this file that need a device, in a process whose Numba simulates one."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
