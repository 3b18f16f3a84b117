"""The command fastnn: exit status, what goes to which stream, which files are left; nothing touches the network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastnn as fn
from fastnn import _kernels as k
from fastnn import cli, courses, plots
from fastnn.courses import Check
from fastnn.data import Dataset, digits

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

FILES = ["confusion_matrix.png", "history.json", "learning_curve.png", "model.safetensors"]
ONE_EPOCH = ("train", "--epochs", "1")


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None) -> Path:
    """An empty working directory without data sets; commands may set the number of threads."""
    for variable in ("FASTNN_DATA", "FASTNN_MIRROR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(fn.__file__).parents[1]))  # the tests may run from anywhere
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)

    def check_refused(self, *words: str) -> None:
        """One line on standard error and nothing else."""
        assert self.status == 2 and self.out == ""
        assert self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        for word in words:
            assert word in self.err


class Run:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        self.capsys.readouterr()
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0
        return Outcome(status, *self.capsys.readouterr())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastnn", *arguments]


def in_process_of_its_own(*arguments: str) -> Outcome:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
    return Outcome(done.returncode, done.stdout, done.stderr)


# --- train ------------------------------------------------------------------------------------------------------------


def test_train(run: Run) -> None:
    """The default example reaches what it is said to reach, and says so."""
    done = run("train", "--out", "a/b", "--json")
    summary = done.json
    assert done.status == 0 and sorted(os.listdir("a/b")) == FILES
    assert summary["validation"]["accuracy"] >= 0.98 and summary["training"]["accuracy"] >= 0.98
    assert summary["epochs"] == 30 and not summary["interrupted"]
    assert (summary["threads"], summary["isa"]) == (fn.get_num_threads(), k.isa())
    assert sorted(summary["files"]) == [str(Path("a/b", name)) for name in FILES]
    history = json.loads(Path("a/b/history.json").read_text())
    assert history["val_accuracy"][-1] == summary["validation"]["accuracy"] and len(history["loss"]) == 30
    data = digits()
    assert fn.evaluate(fn.load("a/b/model.safetensors"), data.x_test, data.y_test) == summary["validation"]
    assert "epoch 30/30" in done.err


def test_train_for_a_reader(run: Run) -> None:
    done = run(*ONE_EPOCH, "--seed", "3", "--threads", "1", "--batch-size", "64", "--lr", "0.1")
    assert done.status == 0 and sorted(os.listdir("fastnn-out")) == FILES
    lines = done.out.splitlines()
    assert [line.split("|")[0].strip() for line in lines[2:4]] == ["loss", "accuracy"]
    assert lines[4].startswith("digits: 1437 images, epochs 1, ") and "(threads 1, " in lines[4]
    assert lines[4].endswith("seed 3)")
    assert all(f"fastnn-out/{name}" in lines[5] for name in FILES)


def test_train_options_count(run: Run) -> None:
    found = run(*ONE_EPOCH, "--json", "--seed", "3", "--threads", "1", "--batch-size", "64", "--lr", "0.1").json
    assert {name: found[name] for name in ("seed", "threads", "batch_size", "lr", "epochs")} == {
        "seed": 3,
        "threads": 1,
        "batch_size": 64,
        "lr": 0.1,
        "epochs": 1,
    }


def test_train_on_mnist(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def mnist(download: bool) -> Dataset:
        asked.append(download)
        rng = np.random.default_rng(0)
        images, labels = rng.random((64, 1, 28, 28), np.float32), rng.integers(0, 10, 64)
        return Dataset(images, labels, images[:20], labels[:20], tuple("0123456789"))

    monkeypatch.setattr(fn.data, "mnist", mnist)
    summary = run(*ONE_EPOCH, "--data", "mnist", "--json", "--no-download").json
    assert asked == [False] and (summary["data"], summary["samples"]) == ("mnist", 64)
    assert sorted(os.listdir("fastnn-out")) == FILES


def test_train_same_seed_same_result(run: Run) -> None:
    first, again, other = (run(*ONE_EPOCH, "--json", "--seed", seed).json["validation"] for seed in "445")
    assert first == again != other


def test_training_that_diverges_is_valid_json(run: Run) -> None:
    done = run(*ONE_EPOCH, "--lr", "1e30", "--json")
    assert done.status == 0 and done.json["validation"]["loss"] is None
    assert "NaN" not in Path("fastnn-out/history.json").read_text()


def test_train_interrupted_before_the_end_of_an_epoch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    done = run("train")
    assert done.status == 130 and sorted(os.listdir("fastnn-out")) == FILES
    assert "interrupted" in done.out and "-" in done.out.splitlines()[3]
    assert run("train", "--json").json["training"] == {}


def test_train_interrupted_while_writing_leaves_no_half_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plots.figure, "write_bytes", interrupt)
    done = run(*ONE_EPOCH)
    assert done.status == 130 and os.listdir("fastnn-out") == ["model.safetensors"]
    assert done.err.endswith("fastnn: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_learned() -> None:
    process = subprocess.Popen(
        command("train", "--epochs", "1000000", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job has it ignored
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        shown = b""
        while b"epoch 3/" not in shown:
            piece = os.read(process.stderr.fileno(), 1 << 16)
            assert piece, shown
            shown += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    summary = Outcome(process.returncode, out.decode(), err.decode()).json
    assert process.returncode == 130 and summary["interrupted"] and 2 <= summary["epochs"] < 1000000
    assert summary["validation"]["accuracy"] > 0.5
    assert b"Traceback" not in err and b"fit: interrupted after" in err
    assert sorted(os.listdir("fastnn-out")) == FILES
    history = json.loads(Path("fastnn-out/history.json").read_text())
    assert history["interrupted"] and len(history["loss"]) == summary["epochs"]
    fn.load("fastnn-out/model.safetensors")


# --- reproduce --------------------------------------------------------------------------------------------------------


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A result `made-up` that finds `ours` and is run with `arguments`; `error` is raised if set."""
    state = SimpleNamespace(ours=1.0, arguments={}, error=None)

    def run(*, seed: int, out: Path | None, progress: bool, epochs: int = 3, data: Path | None = None) -> Any:
        state.arguments = {"seed": seed, "out": out, "progress": progress, "epochs": epochs, "data": data}
        if state.error:
            raise state.error
        print("on the way", file=sys.stderr)
        return courses.Found({"ours": state.ours}, [Check.at_least("a number", "about 1", state.ours, 0.9)])

    monkeypatch.setitem(courses.RESULTS, "made-up", "a test")
    monkeypatch.setitem(sys.modules, "fastnn.courses.made_up", SimpleNamespace(SEED=5, run=run))
    yield state


def test_reproduce_for_a_reader(run: Run, made_up: SimpleNamespace) -> None:
    done = run("reproduce", "made-up")
    assert done.status == 0 and done.err == "on the way\n"
    assert done.out.splitlines()[0].split(" | ") == ["what    ", "course ", "ours", "must  ", "holds"]
    assert done.out.splitlines()[2].split(" | ") == ["a number", "about 1", "1   ", ">= 0.9", "yes"]
    assert os.listdir() == []


@pytest.mark.parametrize(("ours", "status"), [(1.0, 0), (0.5, 1), (float("nan"), 1), (float("inf"), 0)])
def test_reproduce_as_json(run: Run, made_up: SimpleNamespace, ours: float, status: int) -> None:
    made_up.ours = ours
    done = run("reproduce", "made-up", "--json", "--out", "o", "--threads", "1")
    found = done.json
    assert done.status == status
    assert {"name", "seconds", "threads", "isa", "seed", "metrics", "checks", "notes", "pictures"} < set(found)
    written = ours if ours in (1.0, 0.5) else None
    assert found["metrics"] == {"ours": written} and found["threads"] == 1 and found["isa"] == k.isa()
    assert found["checks"] == [
        {"what": "a number", "course": "about 1", "ours": written, "must": ">= 0.9", "holds": status == 0}
    ]
    assert json.loads(Path("o/report.json").read_text()) == found and os.listdir("o") == ["report.json"]


def test_reproduce_options(run: Run, made_up: SimpleNamespace) -> None:
    assert run("reproduce", "made-up").status == 0
    assert made_up.arguments == {"seed": 5, "out": None, "progress": True, "epochs": 3, "data": None}
    assert run("reproduce", "made-up", "--seed", "0", "--epochs", "2", "--out", "o", "--data", "d").status == 0
    assert made_up.arguments == {"seed": 0, "out": Path("o"), "progress": True, "epochs": 2, "data": Path("d")}
    run("reproduce", "made-up", "--no-download").check_refused("made-up takes no download")


def test_reproduce_interrupted(run: Run, made_up: SimpleNamespace) -> None:
    made_up.error = KeyboardInterrupt()
    assert run("reproduce", "made-up", "--json") == (130, "", "fastnn: interrupted\n")


@pytest.mark.parametrize("error", [TypeError("a bug"), ValueError("a bug"), ModuleNotFoundError("a bug", name="x")])
def test_bugs_keep_their_traceback(run: Run, made_up: SimpleNamespace, error: Exception) -> None:
    made_up.error = error
    with pytest.raises(type(error), match="a bug"):
        run("reproduce", "made-up")


# --- reproduce --all --------------------------------------------------------------------------------------------------


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Results `good`, `poor` and `lost` in the place of the real ones; what they raise, by name, may be set."""
    errors: dict[str, Any] = {"lost": FileNotFoundError("no data")}

    def experiment(name: str) -> SimpleNamespace:
        def run(*, seed: int, out: Path | None, progress: bool, epochs: int = 3) -> courses.Found:
            if name in errors:
                raise errors[name]
            if out is not None:
                (out / "a.png").write_bytes(b"")
            check = Check.at_least("a number", "about 1", {"poor": 0.5}.get(name, 1.0), 0.9)
            return courses.Found({"epochs": epochs}, [check], pictures={"a.png": f"The picture of {name}"})

        return SimpleNamespace(SEED=5, run=run)

    for name in list(courses.RESULTS):
        monkeypatch.delitem(courses.RESULTS, name)
    for name in ("lost", "good", "poor"):
        monkeypatch.setitem(courses.RESULTS, name, f"what {name} is")
        monkeypatch.setitem(sys.modules, f"fastnn.courses.{name}", experiment(name))
    return errors


def test_all(run: Run, several: dict[str, Any]) -> None:
    done = run("reproduce", "--all", "--report", "r", "--epochs", "2", "--no-download")
    assert done.status == 2 and "fastnn: lost: no data\n" in done.err and "poor: what poor is\n" in done.err
    assert done.out.splitlines()[-5:] == [
        "-------+----------------------+------",
        "lost   | COULD NOT RUN        | 0.0 s",
        "good   | holds                | 0.0 s",
        "poor   | 1 of 1 DOES NOT HOLD | 0.0 s",
        "written: r/index.html",
    ]
    assert done.out.count("a number") == 2
    assert sorted(os.listdir("r")) == ["good", "index.html", "lost", "poor"]
    assert sorted(os.listdir("r/good")) == ["a.png", "report.json"] and os.listdir("r/lost") == ["report.json"]
    html = Path("r/index.html").read_text()
    assert html.index("result-lost") < html.index("result-good") < html.index("result-poor")
    assert "1 of 3 results hold" in html and "The picture of good" in html and "epochs 2" in html

    Path("r/index.html").unlink()
    again = run("reproduce", "--report", "r")
    assert again.status == 0 and again.out == done.out[done.out.index("result ") :] and again.err == ""
    assert Path("r/index.html").read_text() == html


def test_all_as_json(run: Run, several: dict[str, Any]) -> None:
    done = run("reproduce", "--all", "--json", "--report", "r")
    assert list(done.json) == ["lost", "good", "poor"] and done.json["lost"]["error"] == "no data"
    assert {name: json.loads(Path(f"r/{name}/report.json").read_text()) for name in done.json} == done.json
    assert run("reproduce", "--report", "r", "--json").json == done.json


@pytest.mark.parametrize(("wrong", "status"), [((), 1), (("poor",), 0), (("lost",), 2), (("lost", "poor"), 2)])
def test_status_of_all(run: Run, several: dict[str, Any], wrong: tuple[str, ...], status: int) -> None:
    """Without --report, nothing is written."""
    several.pop("lost")
    several.update({name: OSError("no data") for name in wrong if name == "lost"})
    if wrong == ("poor",):
        del courses.RESULTS["poor"]
    assert run("reproduce", "--all").status == status and os.listdir() == []


def test_all_goes_on_after_a_bug_and_shows_it(run: Run, several: dict[str, Any]) -> None:
    several["good"] = ZeroDivisionError("a bug")
    done = run("reproduce", "--all", "--report", "r")
    assert done.status == 2 and "Traceback" in done.err and "1 of 1 DOES NOT HOLD" in done.out
    assert "ZeroDivisionError: a bug" in Path("r/index.html").read_text()


def test_all_interrupted(run: Run, several: dict[str, Any]) -> None:
    several["good"] = KeyboardInterrupt()
    done = run("reproduce", "--all", "--report", "r")
    assert done.status == 130 and done.err.endswith("fastnn: interrupted\n") and "lost   | COULD" in done.out
    assert "There is no report of good, poor." in Path("r/index.html").read_text()
    several["lost"] = KeyboardInterrupt()
    done = run("reproduce", "--all", "--report", "s", "--json")
    assert done.status == 130 and done.json == {} and "There is no report of lost, " in Path("s/index.html").read_text()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_between_results(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from types import SimpleNamespace\n"
        "from fastnn import cli, courses\n"
        "def run(*, seed, out, progress):\n"
        "    return courses.Found({}, [])\n"
        "def wait(*, seed, out, progress):\n"
        "    print('waiting', flush=True)\n"
        "    time.sleep(100)\n"
        "courses.RESULTS.clear()\n"
        "for name, function in {'first': run, 'second': wait, 'third': run}.items():\n"
        "    courses.RESULTS[name] = name\n"
        "    sys.modules[f'fastnn.courses.{name}'] = SimpleNamespace(SEED=0, run=function)\n"
        "sys.exit(cli.main(['reproduce', '--all', '--report', 'r']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert process.stdout is not None
    try:
        while b"waiting" not in (line := process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and err.endswith(b"fastnn: interrupted\n")
    assert "There is no report of second, third." in Path("r/index.html").read_text()
    assert sorted(os.listdir("r")) == ["first", "index.html", "second"]


def test_a_page_of_one(run: Run, several: dict[str, Any]) -> None:
    assert run("reproduce", "poor", "--report", "r").status == 1
    html = Path("r/index.html").read_text()
    assert "0 of 1 results hold" in html and "There is no report of lost, good." in html
    assert run("reproduce", "good", "--report", "r", "--json").json["name"] == "good"
    assert "1 of 2 results hold" in Path("r/index.html").read_text()
    run("reproduce", "lost", "--report", "r").check_refused("no data")
    assert Path("r/index.html").read_text().count("<section") == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--all", "good"), "neither"),
        (("--all", "--out", "o"), "neither"),
        (("good", "--out", "o", "--report", "r"), "--out or --report"),
        (("--report", "nowhere"), "nowhere"),
        (("--report", ".", "--seed", "1"), "--report alone"),
        ((), "lost, good, poor"),
    ],
)
def test_what_does_not_go_together(run: Run, several: dict[str, Any], arguments: tuple[str, ...], word: str) -> None:
    run("reproduce", *arguments).check_refused(word)
    assert os.listdir() == []


def test_a_folder_that_takes_no_report(run: Run, several: dict[str, Any]) -> None:
    """Known before the training; the others of `--all` go on."""
    Path("r/good/report.json").mkdir(parents=True)
    run("reproduce", "good", "--report", "r").check_refused("cannot write report.json")
    run("reproduce", "good", "--out", "r/good").check_refused("cannot write report.json")
    done = run("reproduce", "--all", "--report", "r")
    assert done.status == 2 and "cannot write report.json" in done.err
    assert "2 of 2" not in done.out and Path("r/poor/report.json").is_file()


def test_without_streams(run: Run, several: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``>&- 2>&-``."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["reproduce", "good"]) == 0


def test_a_report_folder_that_is_a_file(run: Run, several: dict[str, Any]) -> None:
    Path("taken").write_text("kept")
    for arguments in (("--all",), ("good",), ()):
        run("reproduce", *arguments, "--report", "taken").check_refused("taken")
    assert Path("taken").read_text() == "kept"


def test_list(run: Run) -> None:
    assert run("reproduce", "--list").out.splitlines() == [f"{name}: {what}" for name, what in courses.RESULTS.items()]
    assert run("reproduce", "--list", "--json").json == courses.RESULTS
    assert "mnist-cnn" in courses.RESULTS


@pytest.mark.parametrize("arguments", [("reproduce", "mnist"), ("reproduce",), ("reproduce", "../mnist_cnn")])
def test_unknown_results_list_the_known(run: Run, arguments: tuple[str, ...]) -> None:
    run(*arguments).check_refused("mnist-cnn")


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "COMMAND"),
        (("bogus",), "reproduce"),
        (("train", "--data", "cifar"), "mnist"),
        (("train", "--epochs", "0"), "at least 1, got '0'"),
        (("train", "--epochs", "1.5"), "whole number"),
        (("train", "--epochs", "9" * 5000), "whole number"),
        (("train", "--epochs", "²"), "whole number"),
        (("train", "--batch-size", "-1"), "--batch-size"),
        (("train", "--lr", "0"), "positive"),
        (("train", "--lr", "nan"), "positive"),
        (("train", "--lr", "inf"), "positive"),
        (("train", "--seed", "-1"), "from 0 to 4294967295"),
        (("train", "--seed", "4294967296"), "from 0 to 4294967295"),
        (("train", "--threads", "0"), "--threads"),
        (("train", "--threads", "100000"), "from 1 to"),
        (("train", "--bogus"), "--bogus"),
        (("info", "--bogus"), "--bogus"),
        (("reproduce", "mnist-cnn", "--epochs", "0"), "at least 1"),
        (("reproduce", "imdb-sentiment", "--limit", "9"), "at least 10, got '9'"),
        (("reproduce", "mnist-cnn", "--limit", "10"), "mnist-cnn takes no limit"),
        (("sentiment", "a text", "--model", "nowhere"), "nowhere: no network for sentiment"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...], word: str) -> None:
    run(*arguments).check_refused(word)
    assert os.listdir() == []


@pytest.mark.parametrize("arguments", [("train", "--data", "mnist"), ("reproduce", "mnist-cnn", "--json")])
def test_missing_data(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "empty"))
    run(*arguments, "--no-download").check_refused("mnist: not found", str(tmp_path / "empty"), "FASTNN_DATA")


def test_missing_data_folder(run: Run) -> None:
    run("reproduce", "mnist-cnn", "--data", "nowhere").check_refused("nowhere: no such folder")


@pytest.mark.parametrize("arguments", [ONE_EPOCH, ("reproduce", "mnist-cnn")])
def test_out_that_is_a_file(run: Run, arguments: tuple[str, ...]) -> None:
    Path("taken").write_text("kept")
    run(*arguments, "--out", "taken").check_refused("taken")
    assert Path("taken").read_text() == "kept"


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("matplotlib.figure", ONE_EPOCH, "plot"),
        ("sklearn.metrics", ONE_EPOCH, "sklearn"),
        ("sklearn.datasets", ONE_EPOCH, "sklearn"),
        ("matplotlib.figure", ("reproduce", "mnist-cnn", "--out", "o"), "plot"),
    ],
)
def test_missing_extras(
    run: Run, monkeypatch: pytest.MonkeyPatch, missing: str, arguments: tuple[str, ...], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    run(*arguments).check_refused(f'pip install "fastnn[{extra}]"')


def test_without_tqdm_there_are_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    done = run(*ONE_EPOCH, "--json")
    assert done.status == 0 and done.json["epochs"] == 1 and done.err.startswith("epoch 1/1: loss")


# --- info, and the process --------------------------------------------------------------------------------------------


def test_info(run: Run) -> None:
    found = run("info", "--json").json
    assert (found["fastnn"], found["isa"], found["threads"]) == (fn.__version__, k.isa(), fn.get_num_threads())
    assert found["backends"] == sorted(k.backends()) and found["cpu"] and found["python"]
    assert k.isa() in [*found["runnable"], "none"]
    assert found["extras"]["plot"]["matplotlib"] and set(found["extras"]) == set(cli.EXTRAS)
    assert found["extras"]["text"].keys() == {"tokenizers"}
    text = run("info").out
    assert all(line.split()[0] in found for line in text.splitlines()) and found["packages"]["numpy"] in text


def test_info_of_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.EXTRAS, "plot", ("no-such-package", "no_such_module"))
    assert run("info", "--json").json["extras"]["plot"] == {"no-such-package": None}
    assert "plot (no-such-package missing)" in run("info").out


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"fastnn {fn.__version__}\n", "")
    for arguments in ([], ["train"], ["predict"], ["reproduce"], ["sentiment"], ["info"]):
        done = run(*arguments, "--help")
        assert done.status == 0 and done.out.startswith("usage: fastnn") and done.err == ""


def test_as_a_module() -> None:
    assert in_process_of_its_own("--version") == (0, f"fastnn {fn.__version__}\n", "")
    in_process_of_its_own("reproduce", "mnist-cnn", "--no-download", "--json").check_refused("mnist: not found")
    done = in_process_of_its_own(*ONE_EPOCH, "--json")
    assert done.status == 0 and done.json["epochs"] == 1 and sorted(os.listdir("fastnn-out")) == FILES


def test_a_reader_that_goes_away() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command("info"), stdout=writing, stderr=subprocess.PIPE, timeout=120)
    finally:
        os.close(writing)
    assert done.returncode == 1 and done.stderr == b""


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fastnn", {"argparse", "tqdm", "numba", "torch", "matplotlib", "sklearn"}),
        ("from fastnn.cli import main; main(['info'])", {"tqdm", "numba", "torch", "matplotlib", "sklearn"}),
        ("from fastnn.cli import main; main(['reproduce', '--list'])", {"tqdm", "matplotlib", "sklearn"}),
        ("from fastnn.courses import sentiment", {"tqdm", "tokenizers", "torch", "matplotlib", "sklearn"}),
    ],
)
def test_nothing_heavy_is_imported_in_vain(statement: str, absent: set[str]) -> None:
    script = f"{statement}\nimport sys\nfound = {absent!r} & set(sys.modules)\nassert not found, found"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, stdout=subprocess.DEVNULL)
