"""fastnn.courses: reports, the registry, each experiment on made-up data; on the real data, the course's figures."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import courses
from fastnn._output import table, to_json, write_json
from fastnn.courses import Check, Found, Report, data_folder, mnist_cnn
from fastnn.data import Dataset

NAN = float("nan")


def strictly(text: str) -> Any:
    """What the JSON text says; unlike Python's reader, no NaN and no infinity is taken."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def report(*checks: Check) -> Report:
    return Report("a-name", 1.5, 2, "base", 3, Found({"loss": 0.5, "worst": NAN}, checks, ["By the way."]))


# --- reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "reaches", "exceeds"), [(0.9, False, False), (0.95, True, False), (0.96, True, True)])
def test_bounds(ours: float, reaches: bool, exceeds: bool) -> None:
    assert Check.at_least("x", "about 1", ours, 0.95) == Check("x", "about 1", ours, ">= 0.95", reaches)
    assert Check.above("x", "about 1", ours, 0.95) == Check("x", "about 1", ours, "> 0.95", exceeds)


def test_distances() -> None:
    assert Check.within("x", 0.25, 0.375, 0.125) == Check("x", "0.25", 0.375, "± 0.125", True)
    assert not Check.within("x", 0.25, 0.375, 0.12).holds and not Check.within("x", 1, NAN, 9).holds
    assert Check.within("x", 0.25, 0.5, 0.1, around=0.45) == Check("x", "0.25", 0.5, "0.45 ± 0.1", True)
    assert Check.below("x", "", 1, 2).holds and not Check.below("x", "", 2, 2).holds


def test_nan_meets_no_bound() -> None:
    assert not Check.at_least("x", "1", NAN, 0).holds and not Check.above("x", "1", NAN, 0).holds


def test_numpy_numbers_make_plain_checks() -> None:
    assert Check.above("x", "1", np.float32(2), 1).holds is True


@pytest.mark.parametrize(
    ("course", "ours", "shown"),
    [
        ("about .9", 2 / 3, "0.666666667"),
        ("7.038453196038151", 7.038453196038151, "7.038453196038151"),
        ("0.020371427168192176", 0.020371427168192176, "0.020371427168192176"),
        ("12345678901234567890 1", 1 / 3, "0.33333333333333331"),
        ("1", NAN, "nan"),
    ],
)
def test_as_many_digits_are_shown_as_the_course_has(course: str, ours: float, shown: str) -> None:
    assert Check("a", course, ours, "", True).shown == shown


def test_a_report_holds_if_every_check_does() -> None:
    good, bad = Check("a", "1", 1.0, "= 1", True), Check("b", "2", NAN, "= 2", False)
    assert report(good).holds and report().holds and not report(good, bad).holds


def test_report_as_json(tmp_path: Path) -> None:
    found = report(Check("a", "about 1", NAN, ">= 1", False))
    found.write(tmp_path / "report.json")
    assert strictly((tmp_path / "report.json").read_text()) == {
        "name": "a-name",
        "seconds": 1.5,
        "threads": 2,
        "isa": "base",
        "seed": 3,
        "metrics": {"loss": 0.5, "worst": None},
        "checks": [{"what": "a", "course": "about 1", "ours": None, "must": ">= 1", "holds": False}],
        "notes": ["By the way."],
        "pictures": {},
        "what": "",
        "about": "",
        "options": {},
        "date": "",
        "machine": {},
        "error": None,
    }
    assert os.listdir(tmp_path) == ["report.json"]


def test_reports_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = report(Check("a", "about 1", 0.1 + 0.2, ">= 1", False), Check("b", "2", NAN, "= 2", False))
    found.write(tmp_path / "report.json")
    again = Report.read(tmp_path / "report.json")
    assert again.as_dict() | {"checks": []} == found.as_dict() | {"metrics": {"loss": 0.5, "worst": None}, "checks": []}
    assert again.found.checks[0] == found.found.checks[0] and math.isnan(again.found.checks[1].ours)


@pytest.mark.parametrize(
    "change",
    [
        {"checks": [{"what": "a"}]},
        {"checks": [{"what": "a", "course": "", "ours": "x", "must": "", "holds": True}]},
        {"checks": 1},
        {"metrics": 1},
        {"notes": 1},
        {"pictures": [1]},
        {"bogus": 1},
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report().as_dict() | change))
    with pytest.raises(ValueError, match=r"report\.json: not a report"):
        Report.read(path)
    for text in ("", "[]", "1", '{"name": "a"}', "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"report\.json: not a report"):
            Report.read(path)


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [
        ([], "nothing to check"),
        ([True], "holds"),
        ([True, True], "all 2 hold"),
        ([False], "1 of 1 DOES NOT HOLD"),
        ([False, True, False], "2 of 3 DO NOT HOLD"),
    ],
)
def test_verdicts(holds: list[bool], verdict: str) -> None:
    assert report(*(Check("a", "1", 1.0, "= 1", hold) for hold in holds)).verdict == verdict


def test_what_could_not_run_does_not_hold() -> None:
    failed = Report("a-name", 1.5, 2, "base", None, Found({}, ()), error="no data")
    assert not failed.holds and failed.verdict == "COULD NOT RUN"


def test_report_as_a_table() -> None:
    found = report(Check("accuracy", "about .93", 0.92345678, ">= 0.9", True), Check("b", "1", NAN, "> 2", False))
    assert found.summary().splitlines() == [
        "what     | course    | ours       | must   | holds",
        "---------+-----------+------------+--------+------",
        "accuracy | about .93 | 0.92345678 | >= 0.9 | yes",
        "b        | 1         | nan        | > 2    | NO",
        "By the way.",
        "a-name: 1.5 s (threads 2, base, seed 3)",
    ]


def test_a_table_of_a_heading_alone() -> None:
    assert table([["a", "bc"]]) == "a | bc\n--+---"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats(width=32).map(np.float32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_any_value_becomes_valid_json(value: Any) -> None:
    strictly(to_json(value))


def test_json_of_numbers_is_exact() -> None:
    values = {"a": 0.1 + 0.2, "b": np.int64(2**60), "c": np.float64(1 / 3), "d": np.arange(3), "e": -math.inf}
    assert strictly(to_json(values)) == {"a": 0.1 + 0.2, "b": 2**60, "c": 1 / 3, "d": [0, 1, 2], "e": None}


def test_what_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", object())
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "1\n"


def test_a_file_behind_a_link_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o604)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_json(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "1\n"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o604


# --- the registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", courses.RESULTS)
def test_every_result_has_its_module(name: str) -> None:
    module = importlib.import_module(f"fastnn.courses.{name.replace('-', '_')}")
    assert isinstance(module.SEED, int) and module.__doc__
    parameters = inspect.signature(module.run).parameters
    assert {"seed", "out", "progress"} <= set(parameters)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"'nothing'.*mnist-cnn"):
        courses.reproduce("nothing")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A result `made-up`; returns the arguments that it is run with."""
    calls: list[dict[str, Any]] = []

    def run(*, seed: int, out: Path | None = None, progress: bool = False, epochs: int = 7) -> Any:
        calls.append({"seed": seed, "out": out, "epochs": epochs})
        return Found({"loss": 1.0}, [Check("a", "1", 1.0, "= 1", True)])

    monkeypatch.setitem(courses.RESULTS, "made-up", "a test")
    monkeypatch.setitem(sys.modules, "fastnn.courses.made_up", SimpleNamespace(SEED=5, run=run))
    return calls


def test_reproduce(made_up: list[dict[str, Any]], tmp_path: Path) -> None:
    found = courses.reproduce("made-up", out=tmp_path / "a" / "b", epochs=None)
    assert made_up == [{"seed": 5, "out": tmp_path / "a" / "b", "epochs": 7}]
    assert strictly((tmp_path / "a" / "b" / "report.json").read_text()) == found.as_dict() | {
        "checks": [vars(check) for check in found.found.checks]
    }
    assert (found.name, found.seed, found.threads) == ("made-up", 5, fn.get_num_threads())
    assert found.seconds >= 0 and found.holds
    assert (found.what, found.options, found.error) == ("a test", {}, None)
    assert found.machine["fastnn"] == fn.__version__ and re.fullmatch(r"\d{4}(-\d\d){2} \d\d:\d\d UTC", found.date)
    assert courses.reproduce("made-up", seed=0, epochs=2).options == {"epochs": 2}
    assert made_up[1:] == [{"seed": 0, "out": None, "epochs": 2}]


def test_options_that_an_experiment_lacks_are_refused(made_up: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="made-up takes no data"):
        courses.reproduce("made-up", data="x")
    assert not made_up


def test_an_attempt_leaves_out_what_the_experiment_lacks(made_up: list[dict[str, Any]], tmp_path: Path) -> None:
    found = courses.attempt("made-up", out=tmp_path, epochs=2, data="x", download=None)
    assert made_up == [{"seed": 5, "out": tmp_path, "epochs": 2}] and found.holds and found.options == {"epochs": 2}
    assert strictly((tmp_path / "report.json").read_text()) == found.as_dict()


@pytest.mark.parametrize(
    ("error", "words"),
    [(FileNotFoundError("no data"), "no data"), (ValueError("a bug"), "Traceback"), (KeyError("a bug"), "a bug")],
)
def test_an_attempt_reports_what_went_wrong(
    made_up: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: str
) -> None:
    def run(*, seed: int, out: Path | None = None) -> Found:
        raise error

    monkeypatch.setattr(sys.modules["fastnn.courses.made_up"], "run", run)
    found = courses.attempt("made-up", out=tmp_path)
    assert found.error is not None and words in found.error and not found.holds
    assert Report.read(tmp_path / "report.json").as_dict() == found.as_dict()
    assert ("Traceback" in found.error) == (not isinstance(error, OSError))


def test_an_attempt_at_a_module_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(courses.RESULTS, "not-there", "a test")
    error = courses.attempt("not-there").error
    assert error is not None and "ModuleNotFoundError" in error


def test_an_attempt_can_be_interrupted(made_up: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*, seed: int, out: Path | None = None) -> Found:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fastnn.courses.made_up"], "run", run)
    with pytest.raises(KeyboardInterrupt):
        courses.attempt("made-up")


def test_a_folder_that_cannot_be_made_is_an_error_before_the_run(made_up: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        courses.reproduce("made-up", out=tmp_path / "file")
    assert not made_up


def test_data_folder(tmp_path: Path) -> None:
    assert data_folder(None, "mnist") is None
    assert data_folder(tmp_path, "mnist") == tmp_path
    (tmp_path / "mnist").mkdir()
    assert data_folder(str(tmp_path), "mnist") == tmp_path / "mnist"


# --- mnist-cnn --------------------------------------------------------------------------------------------------------


def test_mnist_cnn_is_the_course_network() -> None:
    shapes = [p.shape for p in mnist_cnn.network().parameters()]
    assert shapes == [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (128, 1600), (128,), (10, 128), (10,)]
    assert [layer.p for layer in mnist_cnn.network().modules() if isinstance(layer, fn.Dropout)] == [0.5]


def test_mnist_cnn_runs(small_mnist: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    found = courses.reproduce("mnist-cnn", epochs=2, out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "confusion_matrix.png",
        "learning_curve.png",
        "model.safetensors",
        "report.json",
        "worst_mistakes.png",
    ]
    assert sorted(found.found.pictures) == ["confusion_matrix.png", "learning_curve.png", "worst_mistakes.png"]
    metrics = found.found.metrics
    assert [check.ours for check in found.found.checks] == [
        metrics["epoch_1_training_accuracy"],
        metrics["epoch_1_validation_accuracy"],
    ]
    assert metrics["training_accuracy"] > metrics["epoch_1_training_accuracy"] > 0.15
    assert metrics["epochs"] == 2 and found.seed == 12321
    test = fn.evaluate(fn.load(tmp_path / "model.safetensors"), small_mnist.x_test[:96], small_mnist.y_test[:96])
    assert metrics["test_accuracy"] == test["accuracy"]


def test_mnist_cnn_trains_as_the_course_does(small_mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of NumPy's global generator, which is left alone; remainders are dropped."""
    seen: dict[str, Any] = {}

    def fit(model: fn.Sequential, x: np.ndarray, y: np.ndarray, **options: Any) -> fn.History:
        seen.update(options, x=x, y=y)
        return fn.History([1.0], [0.5], [0.1], [1.0], [0.5])

    monkeypatch.setattr(fn, "fit", fit)
    before = np.random.get_state()[1].tolist()
    mnist_cnn.run(seed=12321)
    assert np.random.get_state()[1].tolist() == before

    order = np.arange(630)
    np.random.RandomState(12321).shuffle(order)
    np.testing.assert_array_equal(seen["x"], small_mnist.x_train[:630][order])
    np.testing.assert_array_equal(seen["y"], small_mnist.y_train[:630][order])
    np.testing.assert_array_equal(seen["validation_data"][1], small_mnist.y_train[630:694])  # two batches of 32
    assert (seen["shuffle"], seen["drop_last"], seen["batch_size"], seen["epochs"]) == (False, True, 32, 10)
    wanted = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "dampening": 0.0}
    assert {name: seen["optimizer"].defaults[name] for name in wanted} == wanted


def test_mnist_cnn_interrupted_reports_nothing(
    small_mnist: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce("mnist-cnn", out=tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("epochs", "count"), [(1, 2), (9, 2), (10, 3), (11, 3)])
def test_mnist_cnn_checks(epochs: int, count: int) -> None:
    metrics = {"epoch_1_training_accuracy": 0.915, "epoch_1_validation_accuracy": 0.975, "test_accuracy": 0.99}
    found = mnist_cnn.checks(epochs, metrics)
    assert [check.holds for check in found] == [True, True, False][:count]
    assert all(check.holds for check in mnist_cnn.checks(epochs, metrics | {"test_accuracy": 0.9901}))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("epochs", [1, 10])
def test_mnist_cnn_reaches_the_course(real_data: Path, epochs: int) -> None:
    found = courses.reproduce("mnist-cnn", epochs=epochs, data=real_data, download=False)
    assert found.holds, found.summary()
