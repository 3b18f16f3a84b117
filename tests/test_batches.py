"""Data that is not in memory: memory maps, what is like an array, and batches as they come."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from test_training import X, Y, blobs, cnn, history_bits, images, mlp, weights

import fastnn as fn
from fastnn._kernels import Array, replay

VALIDATION = blobs(300, seed=1)
HOW: dict[str, Any] = {"seed": 0, "epochs": 3, "batch_size": 32}


class Rows:
    """Something like an array that can only be read, in ascending order."""

    def __init__(self, a: Array) -> None:
        self.a = a
        self.most = 0

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, where: Any) -> Any:
        if not isinstance(where, slice):
            assert (np.diff(where) > 0).all()
        found = self.a[where]
        self.most = max(self.most, len(found))
        return found.tolist()


def mapped(folder: Path, a: Array, offset: int = 0) -> Any:
    """The array as a memory map."""
    path = folder / f"{len(list(folder.iterdir()))}.bin"
    path.write_bytes(b"\0" * offset + a.tobytes())
    return np.memmap(path, a.dtype, "r", offset, a.shape)


def result(model: fn.Sequential, history: fn.History) -> Any:
    return history_bits(history), weights(model)


def trained(x: Any, y: Any = None, validation: Any = VALIDATION, **how: Any) -> Any:
    model = mlp()
    return result(model, fn.fit(model, x, y, validation_data=validation, **{**HOW, **how}))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("kind", ["map", "map, unaligned", "map of doubles", "rows", "labels"])
def test_the_same_bits_as_from_memory(tmp_path: Path, shuffle: bool, drop_last: bool, kind: str) -> None:
    how = {"shuffle": shuffle, "drop_last": drop_last}
    x: Any = {
        "map": lambda: mapped(tmp_path, X),
        "map, unaligned": lambda: mapped(tmp_path, X, 5),
        "map of doubles": lambda: mapped(tmp_path, X.astype(np.float64)),
        "rows": lambda: Rows(X),
        "labels": lambda: X,
    }[kind]()
    y: Any = Rows(Y) if kind in ("rows", "labels") else Y
    xv, yv = mapped(tmp_path, VALIDATION[0]), mapped(tmp_path, VALIDATION[1])
    assert trained(x, y, (xv, yv), **how) == trained(X, Y, **how)
    if isinstance(x, Rows):
        assert x.most == 32


@pytest.mark.parametrize("kind", ["map", "rows"])
def test_lists_beside_what_is_not_in_memory(tmp_path: Path, kind: str) -> None:
    x = mapped(tmp_path, X) if kind == "map" else Rows(X)
    weight = np.linspace(0.5, 2, len(X))
    expected = trained(X, Y, sample_weight=weight)
    assert trained(x, Y.tolist(), sample_weight=weight.tolist()) == expected
    assert trained(X.tolist(), Rows(Y), sample_weight=Rows(weight)) == expected
    with pytest.raises(fn.ShapeError, match=r"^sample_weight: expected 100 entries, one for each sample, got 99"):
        trained(x, Y, sample_weight=weight[1:].tolist())
    with pytest.raises(fn.ShapeError, match=r"^sample_weight: expected an entry for each sample, got float"):
        trained(x, Y, sample_weight=0.5)


def test_images_from_a_map(tmp_path: Path) -> None:
    x, y = images()
    found = []
    for each in (x, mapped(tmp_path, x)):
        model = cnn()
        found.append(result(model, fn.fit(model, each, y, seed=0, epochs=3, batch_size=10)))
    assert found[0] == found[1]


@needs_native
@pytest.mark.parametrize("large", [False, True])
def test_steps_on_a_map_are_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    """But for those that need so much memory that Python's time is nothing beside them."""
    if large:
        monkeypatch.setattr(replay, "_MOST_BYTES", 100)
    calls = []

    class Counting(fn.Layer):
        def forward(self, x: Array, train: bool = False) -> Any:
            calls.append(train)
            return x, lambda dy, need_dx=True: dy

    fn.fit(fn.Sequential(Counting(), fn.Linear(6, 3)), mapped(tmp_path, X), Y, seed=0, epochs=10, batch_size=25)
    assert sum(calls) == (10 * len(X) // 25 if large else 2)  # a step to record and one to verify


def test_evaluate_on_a_map(tmp_path: Path) -> None:
    x, y = mapped(tmp_path, X), Y
    for how in ({}, {"batch_size": 7}, {"batch_size": 30, "drop_last": True}):
        assert fn.evaluate(mlp(), x, y, **how) == fn.evaluate(mlp(), X, Y, **how)  # type: ignore[arg-type]


def batches(x: Array, y: Array, size: int = 32) -> list[tuple[Array, Array]]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


@pytest.mark.parametrize("kind", ["list", "function", "generator function", "of the epoch", "lists", "iterator"])
def test_batches(kind: str) -> None:
    given = batches(X, Y)

    def generator() -> Iterator[Any]:
        yield from given

    kinds: dict[str, Any] = {
        "list": given,
        "function": lambda: given,
        "generator function": generator,
        "of the epoch": lambda number: iter(given),
        "lists": [[x.tolist(), y.tolist()] for x, y in given],
        "iterator": iter(given * 3),
    }
    how: dict[str, Any] = {"steps_per_epoch": 4} if kind == "iterator" else {}
    assert trained(kinds[kind], **how) == trained(X, Y, shuffle=False)


def test_batches_as_validation() -> None:
    assert trained(X, Y, lambda: iter(batches(*VALIDATION, 256))) == trained(X, Y)
    once = batches(*VALIDATION, 256)
    metric = {"f": lambda true, predicted: (true == predicted).mean()}
    for given in (iter(once), (batch for batch in once)):
        for how in ({}, {"epochs": 1, "metrics": metric}):
            with pytest.raises(ValueError, match=r"^validation_data: an iterator is over once it was gone through"):
                trained(X, Y, given, **how)
    assert trained(X, Y, iter(once), epochs=1) == trained(X, Y, epochs=1)
    assert trained(X, Y, lambda: iter(once), metrics=metric) == trained(X, Y, metrics=metric)
    assert fn.evaluate(mlp(), batches(X, Y)) == fn.evaluate(mlp(), X, Y, batch_size=32)


def test_a_function_is_told_the_epoch() -> None:
    seen = []

    def of(number: int) -> Any:
        seen.append(number)
        return batches(X[number:], Y[number:])

    fn.fit(mlp(), of, epochs=3)
    assert seen == [0, 1, 2]


def test_steps_per_epoch() -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield from batches(X, Y, 50)

    counted: list[int] = []

    class Count(fn.Callback):
        def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
            counted.append(batch)

    fn.fit(mlp(), endless, epochs=2, steps_per_epoch=3, callbacks=[Count()])
    assert counted == [0, 1, 2] * 2
    turns = [batches(X, Y, 50)[i] for i in (0, 1, 0, 1, 0, 1)]  # an iterator goes on where the first epoch left it
    by_epoch = trained(lambda number: turns[3 * number :], epochs=2, steps_per_epoch=3)
    assert trained(endless(), epochs=2, steps_per_epoch=3) == by_epoch != trained(turns[:3], epochs=2)
    with pytest.raises(ValueError, match=r"^x: expected 3 batches \(steps_per_epoch\) in epoch 1, got 2$"):
        fn.fit(mlp(), batches(X, Y, 50), epochs=2, steps_per_epoch=3)
    with pytest.raises(ValueError, match=r"in epoch 2, got 1; a function that returns an iterator"):
        fn.fit(mlp(), iter(batches(X, Y, 25)), epochs=2, steps_per_epoch=3)
    with pytest.raises(ValueError, match=r"^steps_per_epoch: it is for an iterable of batches"):
        fn.fit(mlp(), X, Y, steps_per_epoch=3)


def test_an_iterator_is_over_after_an_epoch() -> None:
    with pytest.raises(ValueError, match=r"^x: expected at least one batch in epoch 2, got 0; a function that returns"):
        fn.fit(mlp(), iter(batches(X, Y)), epochs=2)
    with pytest.raises(ValueError, match=r"^x: expected at least one batch in epoch 1, got 0$"):
        fn.fit(mlp(), [])


def nan_in(x: Array, sample: int) -> Array:
    x = x.copy()
    x[sample, 0] = np.nan
    return x


@pytest.mark.parametrize("kind", ["map", "rows", "batches"])
def test_what_is_wrong_is_found_when_it_comes(kind: str, tmp_path: Path) -> None:
    def run(x: Array, y: Array) -> None:
        if kind == "batches":
            fn.fit(mlp(), batches(x, y), seed=0, epochs=1)
        else:
            make: Any = Rows if kind == "rows" else lambda a: mapped(tmp_path, a)
            fn.fit(mlp(), make(x), make(y), shuffle=False, epochs=1)

    with pytest.raises(ValueError, match=r"^x, batch 2: expected finite numbers, got NaN in sample 6"):
        run(nan_in(X, 70), Y)
    with pytest.raises(ValueError, match=r"^y, batch 3: expected labels from 0 to 2, got 9 \(sample 2\)"):
        run(X, np.where(np.arange(100) == 98, 9, Y))
    with pytest.raises(fn.ShapeError, match=r"^x.*: it does not fit the model"):
        run(X[:, 1:], Y)
    with pytest.raises(fn.DTypeError, match=r"^y.*: expected integer labels, got float64"):
        run(X, Y.astype(float))
    if kind != "batches":
        with pytest.raises(fn.ShapeError, match=r"^y: expected 100 entries, one for each sample, got 99"):
            run(X, Y[:-1])


def test_batches_are_checked() -> None:
    for bad in ([X], [(X,)], [(X, Y, Y, Y)], [{"x": X}], iter([3])):
        with pytest.raises(ValueError, match=r"^x, batch 0: expected \(x, y\) or \(x, y, sample_weight\)"):
            fn.fit(mlp(), bad)
    with pytest.raises(ValueError, match=r"^sample_weight: "):
        fn.fit(mlp(), batches(X, Y), sample_weight=np.ones(100))


def test_what_takes_no_slices_is_refused() -> None:
    class Strange(Rows):
        def __getitem__(self, where: Any) -> Any:
            raise TypeError("only one at a time")

    with pytest.raises(fn.DTypeError, match="Strange: it does not take slices and arrays of indices: only one"):
        fn.fit(mlp(), Strange(X), Y)


LARGE = """
import os, sys
import numpy as np
import fastnn as fn

def private():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) << 10

path, samples = sys.argv[1], int(sys.argv[2])
x = np.lib.format.open_memmap(path, "r")
y = np.arange(samples) % 3
model = fn.Sequential(fn.Linear(1024, 16), fn.ReLU(), fn.Linear(16, 3))
fn.fit(model, np.array(x[:64]), y[:64], epochs=2, batch_size=16)
before = most = private()

class Watch(fn.Callback):
    def on_epoch_end(self, model, history):
        global most
        most = max(most, private())

fn.fit(model, x, y, epochs=2, batch_size=64, validation_data=(x, y), callbacks=[Watch()])
fn.evaluate(model, x, y)
print(max(most, private()) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of private memory")
def test_a_map_is_not_loaded(tmp_path: Path) -> None:
    """Pages of the file itself are the system's to give and take; what counts is memory of the process's own."""
    samples, size = 48_000, 48_000 * 1024 * 2
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (samples, 1024))
    rng = np.random.default_rng(0)
    for i in range(0, samples, 1000):
        file[i : i + 1000] = rng.standard_normal((1000, 1024), np.float32)
    file.flush()
    run = [sys.executable, "-c", textwrap.dedent(LARGE), str(tmp_path / "x.npy"), str(samples)]
    grown = int(subprocess.run(run, check=True, capture_output=True, text=True, timeout=120).stdout)
    assert grown < size / 5, f"{grown} of {size} bytes"
