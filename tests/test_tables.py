"""fastnn.tables, `fastnn train --data FILE` and `fastnn predict`: from a file to predictions, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import Outcome, Run, in_process_of_its_own
from test_plots import check_nothing_is_cut_off, drawn

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, r2_score

import fastnn as fn
from fastnn import cli, plots, tables
from fastnn._kernels import Array
from fastnn.tables import Predictor, Settings, Size, prepare
from fastnn.tables.csv_file import read_csv
from fastnn.tables.fitting import fit_columns, fitted_transformer, raw_matrix
from fastnn.tables.inputs import CategoryColumn, Columns
from fastnn.tables.networks import network
from fastnn.tables.parquet import read_parquet
from fastnn.tables.table import Column

CLASSES = ["confusion_matrix.png", "learning_curve.png", "model.safetensors", "preprocessing.json", "report.json"]
NUMBERS = ["learning_curve.png", "model.safetensors", "predicted_vs_true.png", "preprocessing.json", "report.json"]
QUICK = Settings(epochs=3)


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    """An empty working directory; commands may set the number of threads."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fn.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


# --- files to train on ------------------------------------------------------------------------------------------------


def write_csv(path: str, header: Sequence[str], rows: Sequence[Sequence[Any]], **how: Any) -> Path:
    with open(path, "w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        csv.writer(file, **how).writerows([header, *rows])
    return Path(path)


def people(count: int = 400, seed: int = 0) -> list[list[Any]]:
    """Rows of age, city, member and what they do; ages and cities are missing here and there."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        age, city, member = round(rng.normal(40, 12), 1), rng.choice(["Oslo", "Rome", "Lima, Peru"]), rng.random() < 0.5
        score = 0.15 * (age - 40) + {"Oslo": 2, "Rome": -2}.get(city, 0) + 2 * member - 1
        shown = ["" if i % 20 == 3 else age, "NA" if i % 31 == 5 else city, str(bool(member)).lower()]
        rows.append([*shown, "buys" if score + rng.normal() / 2 > 0 else 'says "no"'])
    return rows


PEOPLE = ("age", "city", "member", "does")


def write_people(path: str = "people.csv", **how: Any) -> Path:
    return write_csv(path, PEOPLE, people(), **how)


def prices(count: int = 300) -> list[list[Any]]:
    """Rows of two numbers, a kind, and a price that depends on all of them."""
    rng = np.random.default_rng(1)
    kinds = {"x": 0, "y": 30, "z": -30}
    found = []
    for _ in range(count):
        (a, b), kind = rng.normal(size=2), str(rng.choice(list(kinds)))
        found.append([a, b, kind, 100 + 20 * a + 5 * b + kinds[kind] + rng.normal()])
    return found


def write_prices(path: str = "prices.csv") -> Path:
    return write_csv(path, ("a", "b", "kind", "price"), prices(), delimiter=";")


def digits(count: int = 600) -> tuple[Array, Array]:
    """Images (count, 8, 8) from 0 to 255, uint8, and what they show."""
    bunch = load_digits()
    return (bunch.images[:count] * 15.9).astype(np.uint8), bunch.target[:count]


def write_pictures(folder: str, images: Array, labels: Sequence[Any]) -> Path:
    """A folder for each label."""
    Image = pytest.importorskip("PIL.Image")
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = Path(folder, str(label))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:04}.png")
    return Path(folder)


def predicted(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- end to end -------------------------------------------------------------------------------------------------------


def test_classes_of_a_csv_file(run: Run) -> None:
    """Mixed columns, a byte order mark, quotes and missing values."""
    write_people(encoding="utf-8-sig")
    done = run("train", "--data", "people.csv", "--target", "does", "--out", "a/b", "--json", "--hidden", "32,16")
    report = done.json
    assert done.status == 0 and sorted(os.listdir("a/b")) == CLASSES
    assert json.loads(Path("a/b/report.json").read_text()) == report
    assert sorted(report["files"]) == [str(Path("a/b", name)) for name in CLASSES]
    assert report["task"] == "classification" and report["rows"] == 400
    assert report["parts"] == {"training": 256, "validation": 64, "test": 80}
    assert report["target"]["classes"] == {
        name: [row[3] for row in people()].count(name) for name in ("buys", 'says "no"')
    }
    columns = {
        column["name"]: (column["kind"], column["width"], column["missing"]) for column in report["inputs"]["columns"]
    }
    assert columns == {"age": ("number", 1, 20), "member": ("boolean", 1, 0), "city": ("category", 4, 13)}
    network_, baseline = report["test"]["network"], report["test"]["baseline"]
    assert (
        network_["accuracy"] > 0.85 > 0.7 > baseline["accuracy"] and network_["log loss"] < baseline["log loss"] / 1.5
    )
    assert report["model"]["parameters"] == 6 * 32 + 32 + 32 * 16 + 16 + 16 * 2 + 2
    assert report["training"]["best_epoch"] == 1 + int(np.argmin(report["history"]["val_loss"]))

    done = run("predict", "a/b", "people.csv", "--proba", "--out", "p.csv")
    assert done.status == 0 and done.out == "" and "400 predictions" in done.err
    rows = predicted("p.csv")
    assert list(rows[0]) == ["prediction", "proba_buys", 'proba_says "no"'] and len(rows) == 400
    assert np.mean([row["prediction"] == truth[3] for row, truth in zip(rows, people(), strict=True)]) > 0.85
    for row in rows:
        shares = [float(row["proba_buys"]), float(row['proba_says "no"'])]
        assert sum(shares) == pytest.approx(1) and row["prediction"] == ("buys", 'says "no"')[int(np.argmax(shares))]


def test_for_a_reader(run: Run) -> None:
    write_people()
    done = run("train", "--data", "people.csv", "--epochs", "2", "--threads", "1", "--seed", "3")
    assert done.status == 0 and sorted(os.listdir("fastnn-out")) == CLASSES
    for words in (
        "data: people.csv, 400 rows\n",
        "numbers: age; 20 missing values\n",
        "booleans: member\n",
        "categories: city (4); 13 missing values\n",
        "): classification\n",
        "rows: 256 for training, 64 for validation, 80 for test\n",
        "(threads 1, ",
        ", seed 3)\n",
        "| network | baseline: majority class '",
        "\naccuracy ",
        "fastnn-out/report.json",
    ):
        assert words in done.out, words
    assert run("predict", "fastnn-out", "people.csv").out.splitlines()[0] == "prediction"


def test_numbers_of_a_csv_file(run: Run) -> None:
    write_prices()
    report = run("train", "--data", "prices.csv", "--out", "o", "--lr", "0.01", "--json").json
    assert sorted(os.listdir("o")) == NUMBERS and report["task"] == "regression"
    assert report["test"]["network"]["R²"] > 0.97 and report["test"]["baseline"]["R²"] < 0.01
    assert report["test"]["network"]["RMSE"] < 5 < 20 < report["test"]["baseline"]["RMSE"]
    assert report["classes"] is None and report["baseline"].startswith("mean ")
    assert run("predict", "o/model.safetensors", "prices.csv", "--out", "p.csv").status == 0
    guesses = [float(row["prediction"]) for row in predicted("p.csv")]
    assert r2_score([row[3] for row in prices()], guesses) > 0.97
    run("predict", "o", "prices.csv", "--proba").check_refused("--proba", "no probabilities")


def test_another_task_leaves_no_picture_of_the_first(run: Run) -> None:
    write_people()
    write_prices()
    for name, files in (("people.csv", CLASSES), ("prices.csv", NUMBERS)):
        assert run("train", "--data", name, "--epochs", "1").status == 0
        assert sorted(os.listdir("fastnn-out")) == files


@pytest.mark.parametrize("shape", ["features", "images"])
def test_npz(run: Run, shape: str) -> None:
    images, labels = digits()
    x = images.reshape(len(images), -1) if shape == "features" else images
    np.savez("digits.npz", x=x, y=labels)
    options = ("--epochs", "12", "--lr", "0.005", *(("--model", "conv8-pool-fc32") if shape == "images" else ()))
    report = run("train", "--data", "digits.npz", "--json", *options).json
    assert report["test"]["network"]["accuracy"] > 0.85 and report["test"]["baseline"]["accuracy"] < 0.2
    assert report["inputs"]["kind"] == ("table" if shape == "features" else "array")
    np.savez("more.npz", x=x[:7])
    assert run("predict", "fastnn-out", "more.npz", "--out", "p.csv").status == 0
    assert (
        np.mean([int(row["prediction"]) == label for row, label in zip(predicted("p.csv"), labels[:7], strict=True)])
        > 0.6
    )


def test_pictures(run: Run) -> None:
    """Grey ones by class; then from a flat folder, and one by itself."""
    images, labels = digits(400)
    names = [f"digit {label}" for label in labels]
    folder = write_pictures("numerals", images, names)
    Path("numerals/.hidden").write_text("no class")
    options = ("--epochs", "12", "--lr", "0.005", "--model", "conv8-pool-fc32")
    report = run("train", "--data", str(folder), "--json", *options).json
    assert report["inputs"] == {"kind": "pictures", "shape": [1, 8, 8], "resized": False}
    assert report["test"]["network"]["accuracy"] > 0.8 and report["target"]["classes"]["digit 0"] == names.count(
        "digit 0"
    )
    flat = write_pictures("more", images[:9], ["."] * 9)
    assert run("predict", "fastnn-out", str(flat), "--proba", "--out", "p.csv").status == 0
    rows = predicted("p.csv")
    assert [row["file"] for row in rows] == [f"{i:04}.png" for i in range(9)] and "proba_digit 7" in rows[0]
    assert np.mean([row["prediction"] == name for row, name in zip(rows, names[:9], strict=True)]) > 0.7
    alone = run("predict", "fastnn-out", "more/0003.png").out.splitlines()
    assert alone == ["file,prediction", f"0003.png,{rows[3]['prediction']}"]


def test_pictures_in_colour_are_resized(run: Run) -> None:
    rng = np.random.default_rng(0)
    shapes = [(8 + i % 3, 9, 3) for i in range(30)]
    images = [(rng.random(shape) * 80).astype(np.uint8) for shape in shapes]
    for i, image in enumerate(images):
        image[..., i % 2 * 2] += 150  # red ones and blue ones
    folder = write_pictures("colours", images, ["red" if i % 2 == 0 else "blue" for i in range(30)])
    write_pictures("colours", [np.full((8, 9), 120, np.uint8)], ["red"])  # a grey one among them
    arguments = ("train", "--data", str(folder), "--epochs", "15", "--lr", "0.01")
    run(*arguments).check_refused("several sizes", "8 x 9", "9 x 9", "--size")
    report = run(*arguments, "--size", "6x10", "--model", "conv8-mean", "--json").json
    assert report["inputs"] == {"kind": "pictures", "shape": [3, 6, 10], "resized": True}
    assert run("predict", "fastnn-out", "colours", "--out", "p.csv").status == 0
    rows = [row for row in predicted("p.csv") if row["file"] != os.path.join("red", "0000.png")]
    assert all(row["file"].startswith(row["prediction"]) for row in rows) and len(rows) == 29


def test_pictures_are_read_as_they_are() -> None:
    """Pixels, upright; transparency is left out, black and white is grey."""
    Image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    for i, label in enumerate("aab"):
        Path(label).mkdir(exist_ok=True)
        Image.fromarray(pixels + i).save(f"{label}/{i}.png")
    Path("all").mkdir()
    for label in "ab":
        os.rename(label, f"all/{label}")
    pictures, target = tables.pictures.read_classes(Path("all"), None)
    assert np.array_equal(pictures.images, np.stack([(pixels + i)[..., :3].transpose(2, 0, 1) for i in range(3)]))
    assert pictures.files == [os.path.join(*name) for name in (("a", "0.png"), ("a", "1.png"), ("b", "2.png"))]
    assert target.values.tolist() == ["a", "a", "b"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(np.array([[0, 50], [100, 150], [200, 250]], np.uint8)).save("turned.png", exif=exif)
    upright = tables.pictures.read_pictures(Path("turned.png"), Size(2, 3), 1, resize=False)
    assert upright.images.tolist() == [[[[200, 100, 0], [250, 150, 50]]]]


def test_parquet_is_as_csv(run: Run) -> None:
    """The same table gives the same network, to the bit."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write_people()
    frame = pd.DataFrame(people(), columns=PEOPLE)
    frame["age"] = pd.to_numeric(frame["age"])
    frame["city"] = frame["city"].replace("NA", None).astype("category")
    frame["member"] = frame["member"] == "true"
    frame.to_parquet("people.parquet")
    for name, out in (("people.csv", "c"), ("people.parquet", "p")):
        saved(Path(name), out)
        assert run("predict", out, name, "--proba", "--out", f"{out}.csv").status == 0
    assert Path("c.csv").read_text() == Path("p.csv").read_text()
    assert Path("c/preprocessing.json").read_text() == Path("p/preprocessing.json").read_text()


def test_columns_of_parquet() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "real": [0.5, float("nan"), 2.0],
            "truth": pd.array([True, None, False], dtype="boolean"),
            "text": ["a", None, " b "],
            "when": pd.to_datetime(["2020-01-01 00:00", None, "2021-01-01 10:00"]),
        }
    )
    frame.to_parquet("t.parquet")
    found = read_parquet(Path("t.parquet")).columns
    assert {name: column.kind for name, column in found.items()} == {
        "whole": "number",
        "real": "number",
        "truth": "boolean",
        "text": "category",
        "when": "date",
    }
    assert all(column.missing.tolist() == [False, True, False] for column in found.values())
    assert found["text"].values.tolist() == ["a", None, "b"] and found["whole"].texts.tolist() == ["1", None, "3"]
    frame.assign(lists=[[1], [2], [3]]).to_parquet("lists.parquet")
    with pytest.raises(ValueError, match="'lists': row 1: expected a number, a boolean or a text"):
        read_parquet(Path("lists.parquet"))


# --- preprocessing ----------------------------------------------------------------------------------------------------


def column(name: str, values: Sequence[Any], **how: Any) -> Column:
    array = np.empty(len(values), object)
    array[:] = values
    return Column(name, array, "made.csv", **how)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_applied_is_what_scikit_learn_has_fitted(seed: int) -> None:
    """To the bit of float32, on rows that were not there for fitting, with missing values and unknown categories."""
    rng = np.random.default_rng(seed)

    def texts(values: Any) -> list[Any]:
        return [None if rng.random() < 0.1 else str(value) for value in values]

    columns = [
        column("n1", texts(rng.normal(1e3, 7, 90))),
        column("n2", texts(rng.integers(0, 5, 90))),
        column("same", ["2.5"] * 90),
        column("b1", texts(rng.choice(["true", "False"], 90))),
        column("c1", texts(rng.choice(["a", "b", "c"], 90))),
        column("c2", [f"rare {i}" if i > 60 else f"often {i % 4}" for i in range(90)], categorical=True),
    ]
    rows = np.arange(60)
    fitted = fit_columns(columns, rows)
    table = tables.table.Table({c.name: c for c in columns}, "made.csv")
    with pytest.warns(UserWarning, match=r"column 'c2': 29 of 90 values are categories that the training did not have"):
        x = fitted.encode(table)
    everything = np.arange(90)
    theirs = fitted_transformer(columns, rows).transform(raw_matrix(columns, everything))
    assert x.dtype == np.float32 and np.array_equal(x, theirs.astype(np.float32)) and x.shape[1] == fitted.shape[0]
    again = Columns.from_json(json.loads(json.dumps(fitted.to_json())))
    with pytest.warns(UserWarning):
        assert again == fitted and np.array_equal(again.encode(table), x)


def test_pixels_are_standardised_by_channel() -> None:
    rng = np.random.default_rng(0)
    images, labels = (rng.random((60, 3, 5, 4)) * [[[1]], [[9]], [[200]]]).astype(np.float32), np.arange(60) % 2
    np.savez("images.npz", x=images, y=labels)
    prepared = prepare("images.npz", Settings(model="fc4"))
    training = prepared.x[prepared.parts.training].astype(np.float64)
    assert np.allclose(training.mean((0, 2, 3)), 0, atol=1e-5) and np.allclose(training.std((0, 2, 3)), 1, atol=1e-5)


def test_unknown_categories_count_as_none(run: Run, trained: Path) -> None:
    rows = [[30, "Oslo", "true"], [31, "Paris", "true"], ["", "Bonn", "FALSE"], [33, "Paris", ""], [34, "", "true"]]
    write_csv("new.csv", PEOPLE[:3], rows)
    done = run("predict", str(trained), "new.csv")
    assert done.status == 0 and len(done.out.splitlines()) == 6
    assert done.err.count("\n") == 1 and "new.csv: column 'city': 3 of 5 values" in done.err
    assert "'Paris', 'Bonn'" in done.err
    encoder = CategoryColumn("city", ["Oslo", "Rome"])
    with pytest.warns(UserWarning, match="a missing value"):
        assert encoder.encode(column("city", ["Rome", None])).tolist() == [[0, 1], [0, 0]]


def test_test_rows_have_no_part_in_the_training() -> None:
    """Whatever stands in them, the network and the preprocessing are the same, to the bit."""
    rows = prices(100)
    path = write_csv("a.csv", ("a", "b", "kind", "price"), rows)
    first = prepare(path, QUICK)
    trained = first.train()
    assert not set(first.parts.test) & {*first.parts.training, *first.parts.validation}
    assert sorted(np.concatenate(first.parts)) == list(range(100))
    for i in first.parts.test:
        rows[i] = [1e6, -1e6, "z", 12345.0]
    second = prepare(write_csv("b.csv", ("a", "b", "kind", "price"), rows), QUICK)
    retrained = second.train()
    assert trained.history.val_loss == retrained.history.val_loss
    assert second.predictor.inputs == first.predictor.inputs and second.predictor.target == first.predictor.target
    assert trained.report["test"] != retrained.report["test"]


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predictions_are_the_model_s(run: Run) -> None:
    """What the command writes, in a process of its own as well, is what the model itself says; without scikit-learn."""
    path = write_people()
    saved(path, "m")
    predictor = Predictor.load("m")
    assert isinstance(predictor.inputs, Columns)
    model, x = fn.load("m/model.safetensors"), predictor.inputs.encode(read_csv(path))
    names = json.loads(Path("m/preprocessing.json").read_text())["target"]["names"]
    done = run("predict", "m", "people.csv", "--proba")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["prediction"] for row in rows] == [names[i] for i in model.predict(x)]
    shares = [[float(row[f"proba_{name}"]) for name in names] for row in rows]
    assert np.array_equal(np.array(shares, np.float32), model.predict_proba(x))
    assert in_process_of_its_own("predict", "m", "people.csv", "--proba") == done
    script = (
        "import sys; from fastnn.cli import main; main(['predict', 'm', 'people.csv', '--out', 'p.csv']); "
        "sys.exit(bool({'sklearn', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120, stderr=subprocess.DEVNULL).returncode == 0


def test_numbers_that_are_predicted_are_the_model_s(run: Run) -> None:
    path = write_prices()
    saved(path, "m")
    about = json.loads(Path("m/preprocessing.json").read_text())["target"]
    scores = fn.load("m/model.safetensors").scores(
        Columns.from_json(json.loads(Path("m/preprocessing.json").read_text())["inputs"]).encode(read_csv(path))
    )
    rows = csv.DictReader(io.StringIO(run("predict", "m", "prices.csv").out))
    expected = scores[:, 0].astype(np.float64) * about["scale"] + about["mean"]
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-8)


def test_the_report_is_scikit_learn_s() -> None:
    """The metrics are those of what the predictor says of the test rows in the file."""
    path = write_people()
    prepared = prepare(path, QUICK)
    report = prepared.train().report
    found = prepared.predictor.predict(path)
    test = prepared.parts.test
    truth = np.array([row[3] for row in people()])[test]
    guesses = np.array(found.values)[test]
    assert found.probabilities is not None
    assert report["test"]["network"] == pytest.approx(
        {
            "accuracy": accuracy_score(truth, guesses),
            "macro F1": f1_score(truth, guesses, average="macro"),
            "log loss": log_loss(truth, found.probabilities[test]),
        }
    )
    training = np.array([row[3] for row in people()])[prepared.parts.training]
    majority = max(set(training), key=list(training).count)
    assert report["test"]["baseline"]["accuracy"] == pytest.approx(np.mean(truth == majority))
    assert report["baseline"] == f"majority class {str(majority)!r}"

    prepared = prepare(write_prices(), QUICK)
    report, test = prepared.train().report, prepared.parts.test
    truth = np.array([row[3] for row in prices()])
    guesses = prepared.predictor.predict("prices.csv").values
    assert report["test"]["network"]["MAE"] == pytest.approx(mean_absolute_error(truth[test], guesses[test]))
    mean = truth[prepared.parts.training].mean()
    assert report["test"]["baseline"]["MAE"] == pytest.approx(np.abs(truth[test] - mean).mean())


def test_same_seed_same_model() -> None:
    write_people()
    for seed, out in ((4, "a"), (4, "b"), (5, "c")):
        saved(Path("people.csv"), out, seed=seed, dropout=0.2)
    first, again, other = (Path(out, "model.safetensors").read_bytes() for out in "abc")
    assert first == again != other


def test_the_best_epoch_counts() -> None:
    """The weights are those of the smallest validation loss, not the last; patience ends the training."""
    prepared = prepare(write_people(), Settings(lr=0.05, patience=3, epochs=100))
    trained = prepared.train()
    losses, best = trained.history.val_loss, trained.report["training"]["best_epoch"]
    assert len(losses) == best + 3 and losses[best - 1] == min(losses)
    validation = prepared.parts.validation
    found = fn.evaluate(prepared.predictor.model, prepared.x[validation], prepared.y[validation])
    assert found["loss"] == min(losses) != losses[-1]


def test_batch_norm_with_one_row_left_over() -> None:
    prepared = prepare(
        write_people(), Settings(epochs=1, batch_norm=True, batch_size=51, dropout=0.1)
    )  # 256 = 5·51 + 1
    assert len(prepared.parts.training) % 51 == 1
    prepared.train()
    kinds = [type(layer).__name__ for layer in prepared.predictor.model]  # type: ignore[attr-defined]
    assert kinds == [*["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2, "Linear"]


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(delimiter: str) -> None:
    rows = [["1.5", "a, b; c", "x\ny"], ["2", 'q"uo|te', ""], ["", "NA", "\t"]]
    write_csv("t.txt", ["n", "t", "u v"], rows, delimiter=delimiter)
    found = read_csv(Path("t.txt")).columns
    assert found["n"].values.tolist() == ["1.5", "2", None] and found["n"].kind == "number"
    assert found["t"].values.tolist() == ["a, b; c", 'q"uo|te', None]
    assert found["u v"].values.tolist() == ["x\ny", None, None]


def test_csv_of_one_column_and_of_spaces() -> None:
    Path("one.csv").write_text("a\n1\n2\n")
    assert read_csv(Path("one.csv")).columns["a"].numbers.tolist() == [1, 2]
    Path("spaces.csv").write_text('a, b\r\n 1, "x, y"\r\n\r\n2 ,z')
    found = read_csv(Path("spaces.csv")).columns
    assert found["a"].numbers.tolist() == [1, 2] and found["b"].texts.tolist() == ["x, y", "z"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2.5e3", None], "number"),
        (["true", "FALSE", None], "boolean"),
        (["a", "b"], "category"),
        (["yes", "no"], "category"),
        ([None, None], "empty"),
        (["2020-01-31", "2020-02-01T10:00:00Z"], "date"),
        (["31.1.2020", "1/2/20"], "date"),
        (["1_000", "2_000"], "category"),
        (["inf", "1"], "number"),
        (["1", "x"], "mixed, of 2 values 1 are numbers and 1 are not, such as 'x' in row 2"),
        (["1,5", "-2,25"], "decimal commas, as in '1,5' in row 1"),
    ],
)
def test_kinds(values: list[str | None], kind: str) -> None:
    if " " not in kind:
        assert column("a", values).kind == kind
    else:
        with pytest.raises(ValueError) as caught:
            _ = column("a", values).kind
        assert kind in str(caught.value)
    if any(values):
        assert column("a", values, categorical=True).kind == "category"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "classification"),
        (["true", "false"], "classification"),
        ([str(i % 20) for i in range(50)], "classification"),
        ([str(i % 21) for i in range(50)], "regression"),
        (["0.5", "1.5"], "regression"),
    ],
)
def test_task(values: list[str], task: str) -> None:
    assert tables.target.task_of(column("y", values), "auto") == task
    assert tables.target.task_of(column("y", values), "classification") == "classification"


def test_numbers_as_classes_keep_their_order() -> None:
    classes, y = tables.target.encode_classes(column("y", ["10", "9", "2.5"] * 3))
    assert classes.names == ["2.5", "9", "10"] and y.tolist() == [2, 1, 0] * 3
    classes, _ = tables.target.encode_classes(column("y", ["10", "9", "x"] * 3, categorical=True))
    assert classes.names == ["10", "9", "x"]


# --- networks ---------------------------------------------------------------------------------------------------------


def kinds(model: fn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model]


def test_networks_from_words() -> None:
    model = network("conv4-conv6x5-pool-drop0.25-fc7", (3, 9, 8), 2)
    assert kinds(model) == ["Conv2d", "ReLU"] * 2 + ["MaxPool2d", "Dropout", "Flatten", "Linear", "ReLU", "Linear"]
    shapes = {name: p.shape for name, p in model.named_parameters() if name.endswith("weight")}
    assert list(shapes.values()) == [(4, 3, 3, 3), (6, 4, 5, 5), (7, 6 * 4 * 4), (2, 7)]
    assert model.scores(np.zeros((5, 3, 9, 8))).shape == (5, 2)
    assert kinds(network("mlp", (4,), 1, hidden=(8,))) == ["Linear", "ReLU", "Linear"]
    assert kinds(network("mean", (3, 9, 8), 4)) == ["AdaptiveAvgPool2d", "Flatten", "Linear"]
    assert kinds(network("cnn", (1, 8, 8), 4)) == kinds(network("conv32-pool-conv64-pool-fc128", (1, 8, 8), 4))
    normalised = network("conv4-fc8", (1, 8, 8), 3, batch_norm=True, dropout=0.5)
    assert kinds(normalised) == [
        *("Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"),
    ]


def test_networks_from_json() -> None:
    layers = ["fc16", {"Linear": {"out_features": 12, "bias": False}}, {"BatchNorm1d": {}}, {"GELU": {}}]
    Path("net.json").write_text(json.dumps(layers))
    model = network("net.json", (5,), 3)
    assert kinds(model) == ["Linear", "ReLU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    assert sorted(p.shape for p in model.parameters() if len(p.shape) > 1) == [(3, 12), (12, 16), (16, 5)]
    loaded = fn.load(saved(write_people(), model="net.json") / "model.safetensors")
    assert kinds(loaded) == kinds(model)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", ["'' is no mlp, cnn, convN"]),
        ("fc", ["'fc' is no"]),
        ("fc8-", ["'' is no"]),
        ("fc0", ["fc0: expected a number from 1 to"]),
        ("fc99999999999", ["from 1 to 65536"]),
        ("conv8x4", ["an odd size"]),
        ("drop1.5", ["drop1.5: expected a share"]),
        ("drop..", ["drop..: expected a share"]),
        ("pool-pool-pool-pool", ["MaxPool2d does not fit after", "(1, 1, 1)"]),
        ("fc8-conv8", ["conv8 needs images, got samples of shape (8,)"]),
        ("fc8-pool", ["pool needs images"]),
        ([1], ["expected a word, or a layer", "got 1"]),
        ({"fc8": {}}, ["expected a list"]),
        ("{", ["no JSON file"]),
        ([{"Nonsense": {}}], ["there is no layer 'Nonsense'; there are"]),
        ([{"Linear": {"out_features": 8, "bogus": 1}}], ["Linear does not fit", "bogus"]),
        ([{"Sequential": {"layers": 3}}], ["Sequential does not fit"]),
        ([{"Conv2d": {"out_channels": 10**9, "kernel_size": 99}}], ["Conv2d does not fit"]),
    ],
)
def test_networks_that_are_none(spec: Any, words: list[str]) -> None:
    if not isinstance(spec, str) or spec == "{":
        Path("net.json").write_text(spec if isinstance(spec, str) else json.dumps(spec))
        spec = "net.json"
    with pytest.raises(ValueError) as caught:
        network(spec, (1, 8, 8), 2)
    for word in (*words, spec):
        assert word in str(caught.value)


# --- what is refused --------------------------------------------------------------------------------------------------


def rows_of(count: int, line: str) -> str:
    return "".join(line.format(i=i, odd=i % 2) + "\n" for i in range(count))


GOOD = "a,y\n" + rows_of(40, "{i},k{odd}")

#: What stands in data.csv, further arguments, and words of the one line that says what is wrong.
REFUSED: dict[str, tuple[str | bytes, list[str], list[str]]] = {
    "missing target": (GOOD, ["--target", "z"], ["no column 'z'; there are 'a', 'y'"]),
    "missing drop": (GOOD, ["--drop", "z"], ["no column 'z'"]),
    "missing categorical": (GOOD, ["--categorical", "z"], ["no column 'z'"]),
    "nothing left": (GOOD, ["--drop", "a"], ["no column is left"]),
    "target dropped": (GOOD, ["--drop", "y"], ["'y' is the target"]),
    "mixed": (GOOD + "x17,k1\n", [], ["column 'a': mixed", "40 are numbers and 1 are not", "'x17' in row 41"]),
    "mixed target": ("a,y\n" + rows_of(40, "{i},{odd}") + "1,z\n", [], ["column 'y': mixed", "--categorical y"]),
    "decimal commas": ("a;y\n" + rows_of(40, "{i},5;k{odd}"), [], ["column 'a': decimal commas"]),
    "empty": ("", [], ["the file is empty"]),
    "only a mark": (b"\xef\xbb\xbf\n\n", [], ["the file is empty"]),
    "only a header": ("a,y\n", [], ["a header, but no rows"]),
    "no header": (rows_of(40, "{i},{odd}"), [], ["expected the names of the columns in the first line"]),
    "one sample of a class": (GOOD + "5,z\n", [], ["column 'y': class 'z' has one sample", "have fewer than 3"]),
    "two samples of a class": (GOOD + "5,z\n6,z\n", [], ["class 'z' has two samples"]),
    "one class": ("a,y\n" + rows_of(40, "{i},k"), [], ["one class only, 'k'"]),
    "one value": ("a,y\n" + rows_of(40, "{i},0.5"), [], ["one value only, 0.5"]),
    "missing target value": (GOOD + "5,\n6,NaN\n", [], ["target is missing in 2 rows, the first being row 41"]),
    "dates as target": ("a,y\n" + rows_of(40, "{i},2020-01-1{odd}"), [], ["a target of dates", "--task"]),
    "texts as numbers": (GOOD, ["--task", "regression"], ["column 'y': expected a number", "got 'k0' in row 1"]),
    "names twice": ("a,b,a,y\n1,2,3,4\n", [], ["several columns have the name 'a'"]),
    "no name": (",a,y\n0,1,2\n", [], ["no name for column 1"]),
    "ragged": (GOOD + "1,2,3\n", [], ["line 42: expected 2 fields, as the header has, got 3"]),
    "open quote": (GOOD + '"1,2\n3,4\n', [], ["line 43: unexpected end of data"]),
    "ambiguous": ("a,b;c\n" + rows_of(9, "1,2;3"), [], ["by comma or by semicolon", "--delimiter"]),
    "dates": ("d,y\n" + rows_of(40, "2020-01-1{odd},k{odd}"), [], ["'d' (dates", "--drop d"]),
    "free text": ("t,e,y\n" + rows_of(40, "word{i},,k{odd}"), [], ["'t' (40 different texts in 40 rows), 'e' (no v"]),
    "rare value": (
        "a,b,y\n" + rows_of(80, "{i},,k{odd}") + "1,x,k1\n",
        ["--validation", "0.9", "--seed", "1"],
        ["'b' (no value in the 6 rows to train on)"],
    ),
    "infinity": ("a,y\n" + rows_of(40, "1e999,k{odd}"), [], ["column 'a'", "finite numbers, got infinity in row 1"]),
    "too large": ("a,y\n" + rows_of(40, "{i}e300,k{odd}"), [], ["column 'a': its numbers are too large"]),
    "too few rows": ("a,y\n" + rows_of(4, "{i},{i}.5"), [], ["expected 2 rows in it and besides it, got 1 of 4 rows"]),
    "too few rows of classes": ("a,y\n" + rows_of(6, "{i},k{odd}"), [], ["expected 2 rows, one for each class"]),
    "an archive": (b"PK\x03\x04\x00\x00", [], ["bytes that are zero"]),
    "latin-1": ("a,y\nÅ,1\n".encode("latin-1"), [], ["no CSV file in UTF-8: byte 4 is 0xc5"]),
    "hidden of a cnn": (GOOD, ["--model", "fc8", "--hidden", "8"], ["--hidden is for --model mlp"]),
    "cnn": (GOOD, ["--model", "cnn"], ["conv32 needs images"]),
    "no network": (GOOD, ["--model", "fc"], ["--model fc: 'fc' is no mlp"]),
    "no file of a network": (GOOD, ["--model", "no.json"], ["no.json"]),
    "size": (GOOD, ["--size", "8"], ["--size is not for a table"]),
    "diverges": ("a,y\n" + rows_of(40, "{i},{i}.5"), ["--lr", "1e30"], ["diverged: try an --lr of less than 1e+30"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_csv(run: Run, case: str) -> None:
    """One line, exit status 2, and nothing is written but, before a training, the empty folder."""
    content, arguments, words = REFUSED[case]
    Path("data.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run("train", "--data", "data.csv", *arguments)
    last = done.err.splitlines(keepends=True)[-1]  # progress stands before it
    Outcome(done.status, done.out, last).check_refused(*words)
    assert len(done.err.splitlines()) == 1 or case == "diverges"
    assert not Path("fastnn-out").exists() or (case == "diverges" and os.listdir("fastnn-out") == [])


def npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive"), [], ["no .npz file, or a damaged one"]),
        (lambda path: path.write_bytes(b""), [], ["no .npz file"]),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), [], ["it holds a single array"]),
        (npz(a=np.zeros(3)), [], ["expected arrays x and y, got 'a'"]),
        (npz(x=np.zeros((30, 2))), [], ["got x without y"]),
        (npz(x=np.array([{}] * 30), y=np.zeros(30)), [], ["damaged", "pickle"]),
        (npz(x=np.zeros(30), y=np.zeros(30)), [], ["expected (N, features), (N, H, W)", "got (30,)"]),
        (npz(x=np.zeros((30, 0)), y=np.zeros(30)), [], ["got (30, 0)"]),
        (npz(x=np.zeros((30, 2), complex), y=np.zeros(30)), [], ["expected real numbers"]),
        (npz(x=np.zeros((30, 2)), y=np.zeros(29)), [], ["expected (30,)", "got (29,)"]),
        (npz(x=np.zeros((30, 2)), y=np.full(30, np.nan)), [], ["target is missing in 30 rows"]),
        (npz(x=np.zeros((30, 2)), y=np.zeros(30, "M8[s]")), [], ["expected numbers or texts"]),
        (npz(x=np.full((30, 2), np.inf), y=np.arange(30) % 2), [], ["column 'x0'", "infinity in row 1"]),
        (npz(x=np.full((30, 4, 4), np.nan), y=np.arange(30) % 2), [], ["finite numbers in images", "sample 0"]),
        (npz(x=np.zeros((30, 8, 8, 3)), y=np.arange(30) % 2), [], ["which looks like (N, H, W, C)"]),
        (npz(x=np.zeros((30, 2)), y=np.arange(30) % 2), ["--target", "y"], ["--target is not for an .npz file"]),
        (
            npz(x=np.zeros((30, 4, 4)), y=np.arange(30) % 2),
            ["--hidden", "8"],
            ["--hidden is for --model mlp, not for cnn"],
        ),
        (npz(x=np.zeros((30, 4, 4)), y=np.arange(30) % 2), ["--drop", "x0"], ["--drop is not for an .npz file"]),
    ],
)
def test_refused_npz(run: Run, make: Callable[[Path], None], arguments: list[str], words: list[str]) -> None:
    make(Path("data.npz"))
    run("train", "--data", "data.npz", *arguments).check_refused(*words)
    assert os.listdir() == ["data.npz"]


def test_refused_pictures(run: Run) -> None:
    Image = pytest.importorskip("PIL.Image")
    images = np.zeros((8, 6, 6), np.uint8)
    write_pictures("p", images, [*"aaaabbbb"])

    def refused(*words: str, arguments: Sequence[str] = ()) -> None:
        run("train", "--data", "p", *arguments).check_refused(*words)
        assert not Path("fastnn-out").exists()

    Path("p/a/0000.png").write_text("no picture")
    refused(os.path.join("p", "a", "0000.png"), "no picture, or a damaged one")
    whole = Path("p/b/0004.png").read_bytes()
    Path("p/a/0000.png").write_bytes(whole[: len(whole) // 2])
    refused("0000.png", "damaged")
    Image.fromarray(np.zeros((6, 6), np.uint16)).save("p/a/0000.png")
    refused("0000.png", "of kind 'I;16'")
    Image.fromarray(np.zeros((6, 300), np.uint8)).save("p/a/0000.png")
    refused("0000.png", "6 x 300 pixels, larger than 256", "--size")
    Path("p/a/0000.png").unlink()
    refused("--target is not for a folder", arguments=["--target", "class"])
    refused("expected a number in each row, got 'a'", arguments=["--task", "regression"])
    Path("p/stray.png").write_bytes(whole)
    refused("a subfolder for each class, got 'stray.png' as well")
    Path("p/stray.png").unlink()
    Path("p/c").mkdir()
    refused("no picture of class 'c'")
    Path("p/c/0.png").write_bytes(whole)
    refused("class 'c' has one sample")
    Path("empty").mkdir()
    run("train", "--data", "empty").check_refused("for each of several classes, got 0")


def test_refused_formats(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.xlsx").write_bytes(b"PK")
    run("train", "--data", "data.xlsx").check_refused("data.xlsx: what kind of file is that?", ".csv", ".npz")
    run("train", "--data", "nowhere.csv").check_refused("nowhere.csv", "digits")
    run("train", "--target", "y").check_refused("--target is for one's own data, not for the example digits")
    run("train", "--batch-norm").check_refused("--batch-norm is for one's own data")
    Path("data.parquet").write_text(GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    run("train", "--data", "data.parquet").check_refused('pip install "fastnn[parquet]"')
    assert not Path("fastnn-out").exists()


def test_damaged_parquet(run: Run) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    Path("data.parquet").write_text(GOOD)
    run("train", "--data", "data.parquet").check_refused("data.parquet: no Parquet file")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--test", "1"), "above 0 and below 1"),
        (("--dropout", "x"), "above 0 and below 1"),
        (("--hidden", "8,"), "whole number"),
        (("--size", "0"), "from 1 to 4096"),
        (("--task", "guess"), "classification"),
        (("--delimiter", "dot"), "semicolon"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...], word: str) -> None:
    Path("data.csv").write_text(GOOD)
    run("train", "--data", "data.csv", *arguments).check_refused(word)
    assert os.listdir() == ["data.csv"]


def test_out_that_is_a_file(run: Run) -> None:
    Path("data.csv").write_text(GOOD)
    Path("taken").write_text("kept")
    run("train", "--data", "data.csv", "--out", "taken").check_refused("taken")
    assert Path("taken").read_text() == "kept"


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the end of an epoch there is nothing to write; later, what was learned is."""
    Path("data.csv").write_text(GOOD)
    fit = fn.fit

    def interrupted(*arguments: Any, callbacks: list[Any], **options: Any) -> fn.History:
        def stop(model: fn.Layer, history: fn.History) -> None:
            if history.epochs == 2:
                raise KeyboardInterrupt

        return fit(*arguments, callbacks=[*callbacks, stop], **options)

    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    done = run("train", "--data", "data.csv")
    assert done.status == 130 and done.err == "fastnn: interrupted\n" and os.listdir("fastnn-out") == []
    monkeypatch.setattr(fn, "fit", interrupted)
    done = run("train", "--data", "data.csv", "--json")
    assert done.status == 130 and done.json["training"]["interrupted"] and sorted(os.listdir("fastnn-out")) == CLASSES


@pytest.fixture
def trained() -> Path:
    """A folder of what was trained on people.csv, as far as predictions need it."""
    return saved(write_people())


def saved(path: Path, folder: str = "model", **settings: Any) -> Path:
    Path(folder).mkdir()
    prepared = prepare(path, Settings(epochs=1, **settings))
    prepared.train()
    prepared.predictor.save(Path(folder))
    return Path(folder)


REFUSED_AT_PREDICTION = [
    ("age,member\n1,true\n", ["no column 'city'; there are 'age', 'member'"]),
    ("member\ntrue\n", ["no column 'age', 'city'"]),
    ("age,city,member\nold,Oslo,true\n", ["column 'age': expected a number in each row, got 'old' in row 1"]),
    (
        "age,city,member\n1,Oslo,true\n2,Oslo,maybe\n",
        ["column 'member': expected true or false", "'maybe' in row 2"],
    ),
    ("age,city,member\n1e300,Oslo,true\n", ["too large"]),
    ("age,city,member\n", ["a header, but no rows"]),
    ("", ["the file is empty"]),
    ("age,age,city,member\n1,1,Oslo,true\n", ["several columns have the name 'age'"]),
]


def test_refused_at_prediction(run: Run, trained: Path) -> None:
    """An older result stays as it was."""
    Path("p.csv").write_text("older")
    for content, words in REFUSED_AT_PREDICTION:
        Path("new.csv").write_text(content)
        run("predict", str(trained), "new.csv", "--out", "p.csv").check_refused("new.csv", *words)
        assert Path("p.csv").read_text() == "older"
        assert sorted(os.listdir()) == ["model", "new.csv", "p.csv", "people.csv"]


def test_predictions_do_not_replace_their_input(run: Run, trained: Path) -> None:
    before = Path("people.csv").read_bytes()
    run("predict", str(trained), "people.csv", "--out", "./people.csv").check_refused("is the file to predict from")
    assert Path("people.csv").read_bytes() == before


def test_no_model_to_predict_with(run: Run, trained: Path) -> None:
    run("predict", "nowhere", "people.csv").check_refused("nowhere: no model to predict with", "preprocessing.json")
    run("predict", str(trained), "nowhere.csv").check_refused("nowhere.csv: no such file")
    run("predict", str(trained), "people.csv", "--out", "no/p.csv").check_refused("no folder 'no'")
    Path("x.xlsx").write_bytes(b"PK")
    run("predict", str(trained), "x.xlsx").check_refused("what kind of file")
    fn.save(fn.Sequential(fn.Linear(6, 2)), trained / "model.safetensors")
    run("predict", str(trained), "people.csv").check_refused("is not the model that preprocessing.json goes with")
    (trained / "model.safetensors").unlink()
    run("predict", str(trained), "people.csv").check_refused("model.safetensors")
    (trained / "preprocessing.json").unlink()
    run("predict", str(trained), "people.csv").check_refused("it has no preprocessing.json")


def test_damaged_preprocessing(run: Run, trained: Path) -> None:
    file = trained / "preprocessing.json"
    whole = file.read_text()
    damages: list[Callable[[Any], Any]] = [
        lambda about: about.pop("inputs"),
        lambda about: about.pop("format"),
        lambda about: about["inputs"].update(kind="other"),
        lambda about: about["inputs"]["columns"][0].update(mean="0"),
        lambda about: about["inputs"]["columns"][0].update(bogus=1),
        lambda about: about["inputs"]["columns"][2].update(categories=[1]),
        lambda about: about["target"].update(task="other"),
        lambda about: about["target"].update(names=[1, 2]),
        lambda about: about.update(inputs=[]),
        lambda about: about["inputs"]["columns"].pop(),
        lambda about: about["target"]["names"].pop(),
        lambda about: about.update(target={"task": "regression", "name": "does", "mean": 0.0, "scale": 1.0}),
    ]
    for damage in damages:
        about = json.loads(whole)
        damage(about)
        file.write_text(json.dumps(about))
        run("predict", str(trained), "people.csv").check_refused("preprocessing.json: damaged")
    file.write_text(whole[: len(whole) // 2])
    run("predict", str(trained), "people.csv").check_refused("preprocessing.json: damaged")
    file.write_text(json.dumps({**json.loads(whole), "format": 2}))
    run("predict", str(trained), "people.csv").check_refused("it has format 2; this version of fastnn reads 1")


def test_predicting_for_data_of_another_kind(run: Run) -> None:
    images, labels = digits(60)
    labels = labels % 2
    np.savez("images.npz", x=images, y=labels)
    np.savez("small.npz", x=images[:, :4])
    np.savez("flat.npz", x=images.reshape(60, -1), y=labels)
    folder = write_pictures("pictures", images, labels.tolist())
    write_pictures("wide", images[:2, :, :7], ["a", "b"])
    for path in (Path("images.npz"), folder, write_people()):
        saved(path, f"of {path}", model="fc4")

    def refused(trained_on: str, name: str, *words: str) -> None:
        run("predict", f"of {trained_on}", name).check_refused(name, *words)

    refused("images.npz", "people.csv", "what kind of file")
    refused("images.npz", "flat.npz", "expected images (N, 1, 8, 8)")
    run("predict", "of images.npz", "small.npz").check_refused("(1, 8, 8), got (60, 1, 4, 8)")
    refused("images.npz", str(folder), "what kind of file")
    refused("people.csv", "images.npz", "got images of shape (60, 1, 8, 8)")
    refused("people.csv", "flat.npz", "no column 'age'")
    refused("people.csv", str(folder), "what kind of file")
    refused("pictures", "images.npz", "expected pictures")
    refused("pictures", "people.csv", "expected pictures")
    refused("pictures", "wide", "8 x 8 pixels, as in training, got 8 x 7")
    Path("none").mkdir()
    refused("pictures", "none", "no pictures")


def test_nothing_is_half_written(run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks off: the CSV is the older one, and a model that lost its preprocessing predicts nothing."""
    Path("p.csv").write_text("older")

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        run("predict", str(trained), "people.csv", "--out", "p.csv").check_refused("no space left")
    assert Path("p.csv").read_text() == "older" and sorted(os.listdir()) == ["model", "p.csv", "people.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(tables.predictor, "write_json", broken)
        assert run("train", "--data", "people.csv", "--epochs", "1", "--seed", "1", "--out", "model").status == 2
    run("predict", "model", "people.csv").check_refused("model.safetensors is not the model that")


# --- pictures of the result -------------------------------------------------------------------------------------------


def test_prediction_error() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(1e4, 300, 200)
    figure = plots.prediction_error(true, true + rng.normal(0, 30, 200), "p.png", name="price in $ and $")
    renderer = drawn(figure)
    check_nothing_is_cut_off(figure, renderer)
    axes = figure.axes[0]
    assert axes.get_title().startswith("R² 0.98") and "(200 samples)" in axes.get_title()
    assert axes.get_xlabel() == "predicted price in $ and $" and axes.get_ylabel() == "true price in $ and $"
    assert len(axes.collections[0].get_offsets()) == 200 and Path("p.png").stat().st_size > 10_000
    with pytest.raises(fn.ShapeError, match="N >= 2"):
        plots.prediction_error([1.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        plots.prediction_error([1.0, 2.0], [1.0, float("nan")])


def test_missing_extras(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.csv").write_text(GOOD)
    for module, extra in (("matplotlib.figure", "plot"), ("sklearn.metrics", "sklearn")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            run("train", "--data", "data.csv").check_refused(f'pip install "fastnn[{extra}]"')
    write_pictures("p", np.zeros((8, 6, 6), np.uint8), [*"aaaabbbb"])
    monkeypatch.setitem(sys.modules, "PIL", None)
    run("train", "--data", "p").check_refused("pip install pillow")


def test_nothing_warns_in_vain(run: Run) -> None:
    """Nor does scikit-learn."""
    write_people()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare("people.csv", QUICK).train()
    assert cli.EXTRAS["parquet"] == ("pyarrow", "pyarrow")
