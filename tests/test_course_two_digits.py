"""The course results on two overlapping digits: on made-up data, and on the real data the figures to be reached."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn.courses import two_digit_best, two_digit_cnn, two_digit_mlp, two_digits
from fastnn.data import Dataset
from fastnn.data.two_digit_mnist import composed

NAMES = ["two-digit-mlp", "two-digit-cnn", "two-digit-best"]
FILES = ["confusion_matrix_lower.png", "confusion_matrix_upper.png", "learning_curve.png", "worst_mistakes.png"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """300 digits in the place of MNIST, digit c being a bright bar in row 2 c + 4; images of two, 720 and 130."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 10  # of which each tenth has all ten
    x = (rng.random((300, 1, 28, 28)) / 4).astype(np.float32)
    for image, digit in zip(x, y, strict=True):
        image[0, 2 * digit + 4, 4:24] = 1
    digits = Dataset(x, y, x, y, tuple("0123456789"))
    pick = rng.integers(0, 300, (850, 2))
    images, labels = composed(x, pick), y[pick]
    two = Dataset(images[:720], labels[:720], images[720:], labels[720:], digits.class_names, origin="made up")
    monkeypatch.setattr(fn.data, "mnist", lambda root, *, divisor, download: digits)
    monkeypatch.setattr(fn.data, "two_digit_mnist", lambda root, *, mnist_root, download: two)
    return two


# --- what they share --------------------------------------------------------------------------------------------------


def test_folders(tmp_path: Path) -> None:
    assert two_digits.folders(None) == (None, None)
    assert two_digits.folders(tmp_path) == (tmp_path, None)
    (tmp_path / "mnist").mkdir()
    assert two_digits.folders(tmp_path) == (None, tmp_path / "mnist")
    (tmp_path / "two-digit-mnist").mkdir()
    assert two_digits.folders(tmp_path) == (tmp_path / "two-digit-mnist", tmp_path / "mnist")


def test_the_heads_are_halves_of_one_layer() -> None:
    fn.manual_seed(1)
    whole = fn.Linear(6, 20)
    fn.manual_seed(1)
    heads = two_digits.heads(6)
    x = np.random.default_rng(0).random((3, 6), np.float32)
    np.testing.assert_allclose(np.concatenate(heads(x), 1), whole(x), rtol=1e-5, atol=1e-6)


def test_the_loss_is_half_of_both() -> None:
    scores, y = np.random.default_rng(0).random((2, 5, 10), np.float32), np.arange(10).reshape(5, 2)
    one = [fn.CrossEntropyLoss().forward(scores[i], y[:, i].copy())[0] for i in range(2)]
    assert two_digits.loss().forward(tuple(scores), y)[0] == pytest.approx(sum(one) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run(small: Dataset, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    found = courses.reproduce(name, epochs=1, out=tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*FILES, "model.safetensors", "report.json"])
    assert sorted(found.found.pictures) == FILES
    assert found.seed == 12321 and found.found.checks == [] and "made up." in found.found.notes[0]
    metrics, model = found.found.metrics, fn.load(tmp_path / "model.safetensors")
    count = len(small.x_test) if name == "two-digit-best" else 128  # the course drops the remainder of a batch
    predicted = model.predict(small.x_test[:count])
    for i, digit in enumerate(two_digits.DIGITS):
        assert metrics[f"test_{digit}_accuracy"] == np.mean(predicted[i] == small.y_test[:count, i])
    assert metrics["epochs"] == 1 and metrics["test_loss"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_it_reports_nothing(
    small: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(fn, "fit", lambda *_, **__: fn.History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        courses.reproduce(name, out=tmp_path)
    assert os.listdir(tmp_path) == []


# --- the course's networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [two_digit_mlp, two_digit_cnn])
def test_they_train_as_the_course_does(small: Dataset, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    seen: dict[str, Any] = {}

    def fit(model: fn.Sequential, x: np.ndarray, y: np.ndarray, **options: Any) -> fn.History:
        seen.update(options, x=x, y=y)
        numbers = {f"val_{name}": [0.5] for name in two_digits.METRICS}
        return fn.History([1.0], [0.5], [0.1], [1.0], [0.5], **numbers)

    monkeypatch.setattr(fn, "fit", fit)
    module.run(seed=12321)
    order = np.arange(648)
    np.random.RandomState(12321).shuffle(order)
    np.testing.assert_array_equal(seen["x"], small.x_train[order])
    np.testing.assert_array_equal(seen["y"], small.y_train[order])
    np.testing.assert_array_equal(seen["validation_data"][1], small.y_train[648:712])  # one batch of 64
    assert (seen["shuffle"], seen["drop_last"], seen["batch_size"], seen["epochs"]) == (False, True, 64, 30)
    wanted = {"lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    assert {name: seen["optimizer"].defaults[name] for name in wanted} == wanted


def test_the_networks_begin_with_pytorchs_weights() -> None:
    """Of the course's network, its unused convolution included."""
    torch = pytest.importorskip("torch")
    made = {
        two_digit_mlp: lambda: [torch.nn.Linear(1176, 64), torch.nn.Linear(64, 20)],
        two_digit_cnn: lambda: [torch.nn.Conv2d(1, 32, 5), torch.nn.Conv2d(32, 64, 3), torch.nn.Linear(7296, 20)],
    }
    for module, make in made.items():
        torch.manual_seed(5)
        first, *_, last = make()
        fn.init.torch_manual_seed(5)
        weights = [p.data for p in module.network().parameters()]
        np.testing.assert_array_equal(weights[0], first.weight.detach().numpy())
        np.testing.assert_array_equal(np.concatenate(weights[2::2]), last.weight.detach().numpy())
        np.testing.assert_array_equal(np.concatenate(weights[3::2]), last.bias.detach().numpy())


def test_the_course_leaves_dropout_on(small: Dataset) -> None:
    found = two_digit_cnn.run(seed=1, epochs=2)
    off, on = (found.metrics[f"test_upper_accuracy{way}"] for way in ("", "_dropout_on"))
    assert 0.15 < on <= 1 and on != off
    assert f"{on:.4f} (upper digit)" in found.notes[1]


@pytest.mark.parametrize(("module", "upper", "lower"), [(two_digit_mlp, 0.915, 0.9), (two_digit_cnn, 0.96, 0.95)])
def test_checks_of_the_course_networks(module: Any, upper: float, lower: float) -> None:
    metrics = {"epochs": 30, "test_upper_accuracy": upper, "test_lower_accuracy": lower - 1e-4}
    assert [check.holds for check in module.checks(metrics)] == [True, False]
    assert module.checks(metrics | {"epochs": 29}) == []


# --- the best ---------------------------------------------------------------------------------------------------------


def test_no_digit_is_in_training_and_in_validation(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.tile((np.arange(300, dtype=np.float32) / 512)[:, None, None, None], (1, 28, 28))
    numbered = Dataset(x, np.arange(300) % 10, x, np.arange(300) % 10, small.class_names)
    monkeypatch.setattr(fn.data, "mnist", lambda root, *, divisor, download: numbered)
    given = two_digit_best.digits(small.y_train, 0)
    first, second = (given.images(np.random.default_rng(seed)) for seed in (0, 1))

    def numbers(images: np.ndarray) -> np.ndarray:
        return np.round(np.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], 1) * 512).astype(np.int64)

    assert numbers(first.x).max() < 270 <= numbers(given.validation.x).min()
    assert (numbers(first.x) != numbers(second.x)).any()
    for part in (first, second, given.validation):
        np.testing.assert_array_equal(numbers(part.x) % 10, part.y)
    np.testing.assert_array_equal(first.y, small.y_train[:648])
    np.testing.assert_array_equal(given.validation.y, small.y_train[648:])


@pytest.mark.parametrize("fresh", [True, False])
def test_each_epoch_has_its_images(small: Dataset, monkeypatch: pytest.MonkeyPatch, fresh: bool) -> None:
    epochs: list[list[Any]] = []

    def fit(model: fn.Sequential, batches: Any, **options: Any) -> fn.History:
        assert options["steps_per_epoch"] == 10
        epochs.extend(list(batches(epoch)) for epoch in (0, 1, 1))
        return fn.History()

    monkeypatch.setattr(fn, "fit", fit)
    given = two_digit_best.digits(small.y_train, 0)
    two_digit_best.train(two_digit_best.Candidate(fresh=fresh), given, seed=0, epochs=2, progress=False)
    assert [len(batch.x) for batch in epochs[0]] == [64] * 10
    first, second, again = (np.concatenate([batch.x for batch in epoch]) for epoch in epochs)
    np.testing.assert_array_equal(second, again)
    sums = [set(x.sum((1, 2, 3)).tolist()) for x in (first, second)]
    assert len(sums[0] & sums[1]) / len(sums[0]) < 0.1 if fresh else len(sums[0] & sums[1]) / len(sums[0]) > 0.9
    assert (first != second).any()


def test_the_search_trains_every_candidate(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_digit_best, "WIDTHS", (2, 2, 2))
    found = two_digit_best.search(epochs=1)
    lines = two_digit_best.results(found).splitlines()
    assert [line.split(" | ")[0].strip() for line in lines] == ["candidate", lines[1], *two_digit_best.CANDIDATES]
    assert all(np.isfinite(history.val_loss).all() for history in found.values())


def test_checks_of_the_best() -> None:
    metrics = {f"{part}_{digit}_accuracy": 0.981 for part in ("validation", "test") for digit in two_digits.DIGITS}
    metrics |= {"epochs": two_digit_best.EPOCHS, "test_lower_accuracy": 0.98}
    assert [check.holds for check in two_digit_best.checks(metrics)] == [True, True, True, False]
    assert two_digit_best.checks(metrics | {"epochs": 1}) == []


# --- on the real data -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_the_figures_are_reached(real_data: Path, name: str) -> None:
    found = courses.reproduce(name, data=real_data, download=False)
    assert found.holds, found.summary()
