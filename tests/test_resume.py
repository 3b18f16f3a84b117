"""A run that was broken off and goes on from its checkpoint ends with the bits of one that never was."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_batches import Rows
from test_training import CLASSES, blobs, weights

import fastnn as fn
from fastnn._kernels import Array, backends

X, Y = blobs(90)
VALIDATION = blobs(40, seed=1)


class Keeping(fn.Checkpoint):
    """Keeps every checkpoint, not only the last."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self.files: list[bytes] = []

    def write(self, state: Any) -> None:
        super().write(state)
        self.files.append(Path(self.path).read_bytes())


class Decay(fn.Callback):
    """A schedule of one's own: a smaller learning rate after each epoch, remembered apart from the optimizer."""

    def __init__(self, optimizer: fn.SGD) -> None:
        self.optimizer, self.rate = optimizer, 0.1

    def on_train_begin(self, model: fn.Layer, history: fn.History) -> None:
        self.rate = 0.1

    def on_epoch_end(self, model: fn.Layer, history: fn.History) -> None:
        self.rate *= 0.8
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rate = state["rate"]


def network(dtype: str = "float32") -> fn.Sequential:
    return fn.Sequential(
        fn.Linear(6, 16, dtype=dtype), fn.ReLU(), fn.Dropout(0.3), fn.Linear(16, CLASSES, dtype=dtype), fn.Dropout(0.1)
    )


def run(how: dict[str, Any], path: Path, start: int = 0, **more: Any) -> tuple[Any, Keeping]:
    """What a run ends with. start: of the random numbers, without influence on one that goes on."""
    fn.manual_seed(start)
    how = dict(how)
    model = network(how.pop("dtype", "float32"))
    optimizer = fn.SGD(lr=0.1, momentum=0.9)
    every, more_callbacks = how.pop("every", {"every_batches": 2}), how.pop("callbacks", lambda optimizer: [])
    keeping = Keeping(path, **every)
    callbacks = [keeping, *more_callbacks(optimizer)]
    data = how.pop("data", (X, Y))
    history = fn.fit(
        model, *data, optimizer=optimizer, **{"epochs": 4, "batch_size": 20, **how}, callbacks=callbacks, **more
    )
    found = {name: value for name, value in history.as_dict().items() if name != "seconds"}
    return (
        found,
        weights(model),
        weights_of(optimizer),
        [layer.state.tolist() for layer in (model[2], model[4])],
    ), keeping


def weights_of(optimizer: fn.SGD) -> list[Any]:
    state = optimizer.state_dict()
    arrays = [
        (name, value if name == "step" else value.tolist())
        for each in state["state"].values()
        for name, value in each.items()
    ]
    return [arrays, [group["lr"] for group in state["param_groups"]]]


def thaw(model: fn.Layer, history: fn.History) -> None:
    model[0].requires_grad_(history.epochs >= 2)  # type: ignore[index]


def even(number: int) -> Any:
    rng = np.random.default_rng(number)
    for _ in range(5):
        where = rng.integers(0, 90, 20)
        yield X[where], Y[where]


CASES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 3},
    "no seed": {},
    "in order": {"seed": 3, "shuffle": False},
    "drop_last": {"seed": 3, "drop_last": True},
    "float64": {"seed": 3, "dtype": "float64"},
    "each batch": {"seed": 3, "every": {"every_batches": 1}, "epochs": 2},
    "each 7 batches": {"seed": 3, "every": {"every_batches": 7, "every_epochs": None}},
    "each stretch": {"seed": 3, "every": {"every_seconds": 0.0}},
    "validation": {"seed": 3, "validation_data": VALIDATION, "metrics": {"f": lambda t, p: (t == p).mean()}},
    "stops early": {
        "seed": 3,
        "epochs": 9,
        "validation_data": VALIDATION,
        "callbacks": lambda optimizer: [fn.EarlyStopping("val_loss", 1, 0.05, restore_best=True)],
    },
    "best model": {"seed": 3, "callbacks": lambda optimizer: [fn.BestModel("accuracy")]},
    "schedule": {"seed": 3, "callbacks": lambda optimizer: [Decay(optimizer)]},
    "thaws": {"seed": 3, "callbacks": lambda optimizer: [thaw]},
    "batches": {"data": (even, None), "epochs": 3},
    "rows": {"data": (Rows(X), Rows(Y)), "seed": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_going_on_from_any_checkpoint(case: str, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    expected, keeping = run(CASES[case], path)
    assert len(keeping.files) > 2
    for content in keeping.files:
        path.write_bytes(content)
        assert run(CASES[case], path, start=1, resume=path)[0] == expected
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("backend", list(backends()))
def test_on_each_backend(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    how = {"seed": 1, "epochs": 2}
    with fn.use_backend(backend):
        expected, keeping = run(how, path)
        path.write_bytes(keeping.files[1])
        assert run(how, path, resume=path)[0] == expected


def test_an_iterator_of_batches_is_gone_through_again(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def how() -> dict[str, Any]:
        endless = (batch for number in range(10**6) for batch in even(number))
        return {"data": (endless, None), "steps_per_epoch": 7, "epochs": 3}

    expected, keeping = run(how(), path)
    for content in keeping.files:
        path.write_bytes(content)
        assert run(how(), path, resume=path)[0] == expected


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    found = []
    for every in ({"every_batches": 1}, {"every_epochs": 10}):
        found.append(run({"seed": 3, "every": every}, tmp_path / "run")[0])
    assert found[0] == found[1]


def test_when_checkpoints_are_written(tmp_path: Path) -> None:
    for every, count in (
        ({}, 4),
        ({"every_epochs": 3}, 2),  # after the third, and the last
        ({"every_epochs": None}, 1),
        ({"every_epochs": None, "every_batches": 4}, 5 + 1),  # of 20 batches
        ({"every_epochs": None, "every_seconds": 3600}, 1),
    ):
        assert len(run({"seed": 0, "every": every}, tmp_path / "run")[1].files) == count, every


def test_numbers_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "run"
    expected, keeping = run({"seed": np.uint8(3), "batch_size": np.int32(20), "epochs": np.int64(4)}, path)
    path.write_bytes(keeping.files[3])
    assert run({"seed": 3, "batch_size": 20}, path, resume=path)[0] == expected


def test_more_epochs_and_a_finished_run(tmp_path: Path) -> None:
    path = tmp_path / "run"
    longer = run({"seed": 3, "epochs": 6}, tmp_path / "other")[0]
    shorter = run({"seed": 3, "epochs": 4}, path)[0]
    assert run({"seed": 3, "epochs": 4}, path, resume=path)[0] == shorter
    assert run({"seed": 3, "epochs": 6}, path, resume=path)[0] == longer


def test_true_goes_on_where_there_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    expected, keeping = run({"seed": 3}, path, resume=True)
    path.write_bytes(keeping.files[3])
    assert run({"seed": 3}, path, start=5, resume=True)[0] == expected
    assert run({"seed": 3}, path, resume=False)[0] == expected
    with pytest.raises(ValueError, match="resume: True needs a Checkpoint"):
        fn.fit(network(), X, Y, resume=True)
    with pytest.raises(FileNotFoundError):
        fn.fit(network(), X, Y, resume=tmp_path / "none")


def test_the_table_goes_on(tmp_path: Path) -> None:
    path, table = tmp_path / "run", tmp_path / "log.csv"
    how: dict[str, Any] = {"seed": 3, "callbacks": lambda optimizer: [fn.CSVLogger(table)]}
    _, keeping = run(how, path)
    expected = table.read_text().split()
    path.write_bytes(keeping.files[4])  # in the second epoch
    run(how, path, resume=path)
    found = table.read_text().split()
    assert [line.split(",")[:3] for line in found] == [line.split(",")[:3] for line in expected]


def test_ctrl_c_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    expected, _ = run({"seed": 3}, path)

    class Interrupt(fn.Callback):
        batches = 0

        def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
            self.batches += 1
            if self.batches == 8:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        run({"seed": 3, "callbacks": lambda optimizer: [Interrupt()]}, path)
    assert run({"seed": 3}, path, resume=path)[0] == expected


def test_progress_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    _, keeping = run({"seed": 3}, path)
    path.write_bytes(keeping.files[4])  # in the second epoch
    run({"seed": 3}, path, resume=path, progress=True)
    assert "epoch 2/4" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    path.write_bytes(keeping.files[4])
    run({"seed": 3}, path, resume=path, progress=True)
    assert [line[:10] for line in capfd.readouterr().err.splitlines()] == [f"epoch {i}/4:" for i in (2, 3, 4)]


# --- refused ----------------------------------------------------------------------------------------------------------


def other_x() -> Array:
    x: Array = X.copy()
    x[50, 2] += 1
    return x


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"data": (other_x(), Y)}, "data"),
    "labels": ({"data": (X, (Y + 1) % CLASSES)}, "data"),
    "number of samples": ({"data": (X[:80], Y[:80])}, "data"),
    "batch size": ({"batch_size": 21}, "batch_size"),
    "shuffle": ({"shuffle": False}, "shuffle"),
    "drop_last": ({"drop_last": True}, "drop_last"),
    "seed": ({"seed": 4}, "seed"),
    "validation": ({"validation_data": (X, Y)}, "validation_data"),
    "loss": ({"loss": fn.CrossEntropyLoss(reduction="sum")}, "loss"),
    "dtype": ({"dtype": "float64"}, r"model.config.layers.0.config.dtype"),
    "callbacks": ({"callbacks": lambda optimizer: [fn.BestModel("loss")]}, "callbacks"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_run_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    run({"seed": 3}, path)
    different, name = DIFFERENT[case]
    with pytest.raises(ValueError, match=rf"^resume: the run there has another {name}(\.[\w.]+)?: "):
        run({"seed": 3, **different}, path, resume=path)


def test_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    fn.fit(network(), X, Y, seed=0, epochs=1, callbacks=[fn.Checkpoint(path)])
    wider = fn.Sequential(fn.Linear(6, 17), *network()[1:3], fn.Linear(17, CLASSES), fn.Dropout(0.1))
    dropping = network()
    dropping[2].p = 0.5  # type: ignore[attr-defined]
    for model in (wider, dropping):
        before = weights(model)
        with pytest.raises(
            ValueError,
            match=r"another model.config.layers.(0.config.out_features: 16, here 17|2.config.p: 0.3, here 0.5)$",
        ):
            fn.fit(model, X, Y, seed=0, epochs=1, resume=path)
        assert weights(model) == before
    for optimizer in (fn.SGD(lr=0.02, momentum=0.9), fn.SGD(network()[0].parameters(), lr=0.01, momentum=0.9)):
        with pytest.raises(ValueError, match=r"(another optimizer)|(none of this model)"):
            fn.fit(network(), X, Y, seed=0, epochs=1, optimizer=optimizer, resume=path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "run", tmp_path / "model"
    fn.fit(network(), X, Y, seed=0, epochs=1, callbacks=[fn.Checkpoint(path)])
    fn.save(network(), model)
    with pytest.raises(fn.CheckpointError, match=r"model: it holds no training to go on with"):
        fn.fit(network(), X, Y, resume=model)
    with pytest.raises(fn.CheckpointError, match=r"run: it holds a training, not a model: go on with it by fit"):
        fn.load(path)
    content = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(content), 30):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(fn.CheckpointError, match=r"^.*run: "):
            fn.fit(network(), X, Y, seed=0, resume=path)
        path.write_bytes(content[:at])
        with pytest.raises(fn.CheckpointError, match=r"^.*run: "):
            fn.fit(network(), X, Y, seed=0, resume=path)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"every_epochs": 0}, "Checkpoint: every_epochs: expected a whole number"),
        ({"every_batches": 1.5}, "Checkpoint: every_batches: expected a whole number"),
        ({"every_seconds": -1}, "Checkpoint: expected every_seconds of at least 0"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fn.Checkpoint("run", **options)


def test_a_state_that_is_no_json_is_named(tmp_path: Path) -> None:
    class Strange(fn.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"set": {1}}

    with pytest.raises(TypeError, match="got set as run/callbacks/0/1/set"):
        fn.fit(network(), X, Y, epochs=1, callbacks=[Strange(), fn.Checkpoint(tmp_path / "run")])


def test_arrays_whose_paths_are_alike(tmp_path: Path) -> None:
    state: dict[Any, Any] = {
        "a": {"b": np.arange(3)},
        "a/b": np.ones(2),
        1: np.zeros(1),
        "1": np.full(2, 7.5),
        "a/b'": np.arange(2),
    }

    class Odd(fn.Callback):
        found: Any = None

        def state_dict(self) -> Any:
            return state

        def load_state_dict(self, state: Any) -> None:
            self.found = state

    path, odd = tmp_path / "run", Odd()
    for resume in (False, True):
        fn.fit(network(), X, Y, seed=0, epochs=1, callbacks=[odd, fn.Checkpoint(path)], resume=resume)
    assert odd.found.keys() == state.keys()
    np.testing.assert_array_equal(odd.found.pop("a")["b"], np.arange(3))
    for key, value in odd.found.items():
        np.testing.assert_array_equal(value, state[key])


@pytest.mark.parametrize(
    "value,what",
    [
        (np.ones(2, complex), "dtype complex128"),
        (np.array(["a"]), "dtype <U1"),
        (np.ones(2, "M8[s]"), r"dtype datetime64\[s\]"),
        (np.array([None]), "dtype object"),
        (np.complex128(1), "complex128"),
    ],
)
def test_numbers_that_no_file_has_are_named(tmp_path: Path, value: Any, what: str) -> None:
    class Strange(fn.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"z": value}

    path = tmp_path / "run"
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match=rf"a checkpoint holds .*got {what} as run/callbacks/0/1/z$"):
        fn.fit(network(), X, Y, epochs=1, callbacks=[Strange(), fn.Checkpoint(path)])
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_other_metrics_are_refused(tmp_path: Path) -> None:
    def metric(true: Any, predicted: Any) -> Any:
        return (true == predicted).mean()

    path, how = tmp_path / "run", {"seed": 3, "validation_data": VALIDATION}
    run({**how, "metrics": {"f": metric}}, path)
    for metrics, here in (({"g": metric}, r"\.0: 'f', here 'g'"), ({}, r": \['f'\], here \[\]")):
        with pytest.raises(ValueError, match=f"^resume: the run there has another metrics{here}"):
            run({**how, "metrics": metrics}, path, resume=path)


@pytest.mark.parametrize("steps", [None, 5])
def test_batches_that_end_too_early_are_refused(tmp_path: Path, steps: int | None) -> None:
    path = tmp_path / "run"
    _, keeping = run({"data": (even, None), "epochs": 2, "steps_per_epoch": steps}, path)
    path.write_bytes(keeping.files[1])  # after four of the first five
    few = {"data": (lambda number: list(even(number))[:2], None), "epochs": 2, "steps_per_epoch": steps}
    with pytest.raises(ValueError, match=r"^x: expected 4 batches before those to go on with in epoch 1, got 2$"):
        run(few, path, resume=path)


# --- kill -9 ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import hashlib, json, sys
import numpy as np
import fastnn as fn

path, epochs = sys.argv[1], int(sys.argv[2])
fn.set_num_threads(1)
fn.manual_seed(0)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((2010, 1, 12, 12)).astype(np.float32), rng.integers(0, 5, 2010)
model = fn.Sequential(
    fn.Conv2d(1, 8, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Dropout(0.4), fn.Linear(200, 32), fn.ReLU(),
    fn.Dropout(0.2), fn.Linear(32, 5)
)

class Ready(fn.Callback):
    def on_train_begin(self, model, history):
        print("ready", flush=True)

callbacks = [Ready()]
if path:
    callbacks += [fn.Checkpoint(path, every_seconds=0.02, every_batches=23), fn.BestModel()]
else:
    callbacks += [fn.BestModel()]
history = fn.fit(
    model, x, y, optimizer=fn.SGD(lr=0.05, momentum=0.9, nesterov=True), epochs=epochs, seed=7,
    validation_data=(x[:300], y[:300]), callbacks=callbacks, resume=bool(path)
)
found = {name: values for name, values in history.as_dict().items() if name != "seconds"}
bits = hashlib.sha256(b"".join(a.tobytes() for a in model.state_dict().values())).hexdigest()
print(json.dumps([bits, found]))
"""


def started(path: str, epochs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), path, str(epochs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(path: str, epochs: int) -> Any:
    out, _ = started(path, epochs).communicate(timeout=120)
    return json.loads(out.splitlines()[-1])


def killed(path: Path, epochs: int, kills: int, longest: float, seed: int) -> Any:
    """What a run ends with that was killed so many times at random moments; and how often it was still at work then."""
    rng, hits = random.Random(seed), 0
    for _ in range(kills):
        with started(str(path), epochs) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, longest))
            hits += process.poll() is None
            process.send_signal(signal.SIGKILL)
    return finished(str(path), epochs), hits


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_and_resumed(tmp_path: Path) -> None:
    found, hits = killed(tmp_path / "run", epochs=60, kills=3, longest=0.3, seed=0)
    assert found == finished("", epochs=60)
    assert hits >= 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_fifty_times(tmp_path: Path) -> None:
    found, hits = killed(tmp_path / "run", epochs=400, kills=50, longest=0.2, seed=1)
    assert found == finished("", epochs=400)
    assert hits >= 40
    assert len(list(tmp_path.iterdir())) <= 2  # no heap of what was half-written
