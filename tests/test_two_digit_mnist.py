"""Two overlapping digits: the course's archive, its test images alone, and images composed from MNIST."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn.data import Dataset, two_digit_mnist
from fastnn.data.files import DataError, DataNotFoundError, FileSet, KnownFile

module = importlib.import_module("fastnn.data.two_digit_mnist")

RNG = np.random.default_rng(0)
TRAINING, TEST = 9, 5
IMAGES = RNG.integers(0, 256, (TRAINING + TEST, 42, 28), np.uint8)
LABELS = RNG.integers(0, 10, (TRAINING + TEST, 2), np.uint8)
DIGITS = np.arange(60) % 10
NAMES = ["train_multi_digit_mini.pkl.gz", "train_labels_mini.txt.gz"]
NAMES += ["test_multi_digit_mini.pkl.gz", "test_labels_mini.txt.gz"]


def text(labels: np.ndarray) -> bytes:
    stream = io.StringIO()
    np.savetxt(stream, labels.T)
    return gzip.compress(stream.getvalue().encode(), mtime=0)


def pickled(images: Any, protocol: int = 2) -> bytes:
    return gzip.compress(pickle.dumps(images, protocol), 1, mtime=0)


def arrays(**named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)
    return stream.getvalue()


def archive(images: np.ndarray = IMAGES / 256, protocol: int = 2) -> dict[str, bytes]:
    contents = (images[:TRAINING], LABELS[:TRAINING], images[TRAINING:], LABELS[TRAINING:])
    return {
        name: text(a) if "labels" in name else pickled(a, protocol) for name, a in zip(NAMES, contents, strict=True)
    }


TEST_ALONE = {
    "test.npz": arrays(images=IMAGES[TRAINING:], labels=LABELS[TRAINING:]),
    "train_labels.npz": arrays(labels=LABELS[:TRAINING]),
}


def put(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """60 digits in the place of MNIST, of which image i is i throughout; few images to be composed."""
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    x = np.tile((np.arange(60, dtype=np.float32) / 256)[:, None, None, None], (1, 28, 28))
    digits = Dataset(x, DIGITS, x[::-1].copy(), DIGITS[::-1].copy(), tuple("0123456789"))
    monkeypatch.setattr(module, "mnist", lambda root, *, divisor, download, verify: digits)
    monkeypatch.setattr(module, "TRAINING", 50)
    monkeypatch.setattr(module, "TEST", 20)
    return digits


def assert_test_part(data: Dataset) -> None:
    np.testing.assert_array_equal(data.x_test, (IMAGES[TRAINING:, None] / 256).astype(np.float32), strict=True)
    np.testing.assert_array_equal(data.y_test, LABELS[TRAINING:].astype(np.int64), strict=True)
    assert data.class_names == tuple("0123456789")


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_an_image_is_the_maximum_of_its_digits() -> None:
    digits = RNG.random((4, 1, 28, 28)).astype(np.float32)
    (found,) = module.composed(digits, np.array([[2, 1]]))
    assert found.shape == (1, 42, 28) and found.dtype == np.float32
    np.testing.assert_array_equal(found[0, :14], digits[2, 0, :14])
    np.testing.assert_array_equal(found[0, 14:28], np.maximum(digits[2, 0, 14:], digits[1, 0, :14]))
    np.testing.assert_array_equal(found[0, 28:], digits[1, 0, 14:])


def test_digits_are_drawn_for_labels() -> None:
    labels = RNG.integers(0, 10, (500, 2))
    pick = module.drawn(labels, DIGITS, np.random.default_rng(0))
    np.testing.assert_array_equal(DIGITS[pick], labels)
    assert len(np.unique(pick)) == 60
    with pytest.raises(ValueError):
        module.drawn(np.array([[10, 0]]), DIGITS, np.random.default_rng(0))


# --- the forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("shape", [(42, 28), (1, 42, 28), (42 * 28,)])
def test_the_courses_archive(tmp_path: Path, protocol: int, shape: tuple[int, ...]) -> None:
    images = (IMAGES / 256).reshape(-1, *shape)
    data = two_digit_mnist(put(tmp_path / "mine", archive(images, protocol)), verify=False)
    assert_test_part(data)
    np.testing.assert_array_equal(data.x_train, (IMAGES[:TRAINING, None] / 256).astype(np.float32), strict=True)
    np.testing.assert_array_equal(data.y_train, LABELS[:TRAINING].astype(np.int64), strict=True)
    assert data.origin == "all images and labels are the course's own"
    with pytest.raises(DataError, match=r"mini\.txt\.gz: not the course's: its 9 entries have SHA-256"):
        two_digit_mnist(tmp_path / "mine")


def test_the_archive_counts_before_test_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "two-digit-mnist", archive() | TEST_ALONE)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert two_digit_mnist(verify=False).origin == "all images and labels are the course's own"


def test_training_images_are_composed_for_the_courses_labels(tmp_path: Path, small: Dataset) -> None:
    data = two_digit_mnist(put(tmp_path, TEST_ALONE), verify=False, seed=3)
    assert_test_part(data)
    np.testing.assert_array_equal(data.y_train, LABELS[:TRAINING].astype(np.int64), strict=True)
    rng, pick = np.random.default_rng(3), np.empty((TRAINING, 2), np.int64)
    for d in range(10):
        where = LABELS[:TRAINING] == d
        pick[where] = rng.choice(np.flatnonzero(d == DIGITS), where.sum())
    np.testing.assert_array_equal(data.x_train, module.composed(small.x_train, pick), strict=True)
    assert data.origin.startswith("the test images and all labels are the course's own") and "seed 3" in data.origin
    assert data.origin in repr(data)


def test_without_files_all_images_are_composed(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"(?s)all images are composed from MNIST: two-digit-mnist: not found"):
        data, again, other = two_digit_mnist(), two_digit_mnist(), two_digit_mnist(seed=1)
    assert data.x_train.shape == (50, 1, 42, 28) and data.x_test.shape == (20, 1, 42, 28)
    assert data.origin == "all images are composed from MNIST's digits by the course's rule, seed 0"
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        corners = np.stack([x[:, 0, 0, 0], x[:, 0, -1, -1]], 1)  # nothing overlaps there
        np.testing.assert_array_equal(np.round(corners * 256).astype(np.int64) % 10, y)
    np.testing.assert_array_equal(data.x_train, again.x_train)
    assert (data.y_train != other.y_train).any()
    with pytest.raises(DataNotFoundError, match=r"two-digit-mnist: .*missing"):
        two_digit_mnist(tmp_path)


def test_mnist_is_asked_for_as_it_is_named(monkeypatch: pytest.MonkeyPatch, small: Dataset) -> None:
    asked: list[Any] = []

    def mnist(*arguments: Any, **options: Any) -> Dataset:
        asked.append((arguments, options))
        return small

    monkeypatch.setattr(module, "mnist", mnist)
    two_digit_mnist(mnist_root="here", download=False, verify=False)
    assert asked == [(("here",), {"divisor": 256, "download": False, "verify": False})]


def test_real_data(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The course's test images are of digits of MNIST's test part; the data that are here say of which."""
    folder = real_data / "two-digit-mnist"
    if not folder.is_dir():
        pytest.skip("FASTNN_DATA does not hold two-digit MNIST")
    digits = fn.data.mnist(real_data / "mnist", divisor=256)
    monkeypatch.setattr(module, "mnist", fn.data.mnist)
    data = two_digit_mnist(folder, mnist_root=real_data / "mnist")
    assert data.x_train.shape == (40000, 1, 42, 28) and data.y_train.shape == (40000, 2)
    with np.load(folder / "test.npz") as file:
        pick = file["mnist_test_index"].astype(np.int64)
    np.testing.assert_array_equal(data.x_test, module.composed(digits.x_test, pick), strict=True)
    np.testing.assert_array_equal(data.y_test, digits.y_test[pick], strict=True)
    pick = module.drawn(data.y_train, digits.y_train, np.random.default_rng(0))
    np.testing.assert_array_equal(data.x_train[:100], module.composed(digits.x_train, pick[:100]), strict=True)


def test_the_courses_own_content_is_known(real_data: Path, tmp_path: Path) -> None:
    """As its archive would hold it."""
    folder = real_data / "two-digit-mnist"
    if not folder.is_dir():
        pytest.skip("FASTNN_DATA does not hold two-digit MNIST")
    with np.load(folder / "test.npz") as test, np.load(folder / "train_labels.npz") as train:
        images, labels, train_labels = test["images"], test["labels"], train["labels"]
    content = {NAMES[1]: text(train_labels), NAMES[2]: pickled(images / 256), NAMES[3]: text(labels)}
    put(tmp_path, content)
    np.testing.assert_array_equal(module._text(tmp_path / NAMES[1], True), train_labels)
    np.testing.assert_array_equal(module._pickled(tmp_path / NAMES[2], True), images)
    np.testing.assert_array_equal(module._text(tmp_path / NAMES[3], True), labels)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_any_damaged_byte_of_known_files_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = (KnownFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in TEST_ALONE.items())
    read = list(module.FORMS.values())[1]
    monkeypatch.setattr(module, "FORMS", {FileSet("two-digit-mnist", tuple(files)): read})
    two_digit_mnist(put(tmp_path, TEST_ALONE))
    for name, whole in TEST_ALONE.items():
        for place in range(0, len(whole), 37):
            (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(DataError, match=name):
                two_digit_mnist(tmp_path)
        put(tmp_path, TEST_ALONE)


@pytest.mark.parametrize("content", [archive(), TEST_ALONE], ids=["archive", "test alone"])
def test_damage_without_checksums_is_harmless_or_named(tmp_path: Path, content: dict[str, bytes]) -> None:
    """The formats' own checksums leave a name or a date that may change; the data are the same then."""
    whole = two_digit_mnist(put(tmp_path, content), verify=False)
    for name, data in content.items():
        for place in {*range(20), *range(20, len(data), 509), *range(len(data) - 20, len(data))}:
            (tmp_path / name).write_bytes(data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :])
            with contextlib.suppress(DataError):
                found = two_digit_mnist(tmp_path, verify=False)
                np.testing.assert_array_equal(found.x_train, whole.x_train)
                np.testing.assert_array_equal(found.x_test, whole.x_test)
                np.testing.assert_array_equal(found.y_train, whole.y_train)
        for length in (0, len(data) // 2, len(data) - 1):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(DataError, match=name):
                two_digit_mnist(tmp_path, verify=False)
        put(tmp_path, content)


def changed(values: np.ndarray, value: Any) -> np.ndarray:
    found = values.copy()
    found.flat[3] = value
    return found


GOOD = IMAGES[:TRAINING] / 256
DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "hostile": ({NAMES[0]: gzip.compress(b"cos\nsystem\n(S'true'\ntR.")}, "not an array of images: it holds more than"),
    "no array": ({NAMES[0]: pickled([1, 2])}, "expected an array of real numbers, got list"),
    "bytes": ({NAMES[0]: pickled(IMAGES)}, r"expected an array of real numbers, got uint8 \(14, 42, 28\)"),
    "sides swapped": (
        {NAMES[0]: pickled(GOOD.reshape(-1, 28, 42))},
        r"expected 42x28 numbers for each image, got an array",
    ),
    "a number": ({NAMES[0]: pickled(np.array(0.5))}, r"expected an array of real numbers, got float64 \(\)"),
    "another size": ({NAMES[0]: pickled(GOOD[:, :41])}, r"expected 42x28 numbers for each image, got an array \(9, 41"),
    "no images": ({NAMES[0]: pickled(GOOD[:0], 4)}, r"expected 42x28 numbers for each image"),
    "odd number": ({NAMES[0]: pickled(changed(GOOD, 0.3))}, r"expected numbers that are a byte / 256"),
    "negative": ({NAMES[0]: pickled(changed(GOOD, -1.0))}, r"expected numbers that are a byte / 256"),
    "too bright": ({NAMES[0]: pickled(changed(GOOD, 1.0))}, r"expected numbers that are a byte / 256"),
    "NaN": ({NAMES[0]: pickled(changed(GOOD, np.nan))}, r"expected numbers that are a byte / 256"),
    "no text": ({NAMES[1]: gzip.compress(b"\xff")}, "not a file of labels"),
    "words": ({NAMES[1]: gzip.compress(b"one two\nthree four\n")}, "not a file of labels"),
    "three lines": ({NAMES[1]: text(np.zeros((9, 3)))}, "expected two lines of labels, got 3"),
    "half a label": ({NAMES[1]: text(changed(LABELS[:9] * 1.0, 0.5))}, "expected labels that are whole numbers"),
    "label 10": ({NAMES[1]: text(changed(LABELS[:9], 10))}, r"txt.gz: expected labels 0\.\.9, got 10"),
    "too few": ({NAMES[1]: text(LABELS[:8])}, "expected 9 labels, one per image, got 8"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_archive_is_named(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    with pytest.raises(DataError, match=message) as error:
        two_digit_mnist(put(tmp_path, archive() | content), verify=False)
    assert next(iter(content)) in str(error.value)


ODD: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "not bytes": (lambda: {"test.npz": arrays(images=IMAGES * 1.0, labels=LABELS)}, "images of dtype uint8, got float"),
    "no labels": (lambda: {"test.npz": arrays(images=IMAGES)}, "not a file of images and labels"),
    "other images": (lambda: {"test.npz": arrays(images=IMAGES[:, :9], labels=LABELS)}, r"shape \(N, 42, 28\), got"),
    "one label each": (lambda: {"train_labels.npz": arrays(labels=LABELS[:, :1])}, r"shape \(N, 2\), got \(14, 1\)"),
    "none": (lambda: {"train_labels.npz": arrays(labels=LABELS[:0])}, r"shape \(N, 2\), got \(0, 2\)"),
    "label 12": (lambda: {"train_labels.npz": arrays(labels=changed(LABELS, 12))}, r"labels 0\.\.9, got 12"),
    "too many": (lambda: {"test.npz": arrays(images=IMAGES[:3], labels=LABELS)}, "expected 3 labels, one per image"),
    "an object": (
        lambda: {"train_labels.npz": arrays(labels=np.array([None, 1]))},
        "train_labels.npz: not a file of labels",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_other_files_of_these_names_are_refused(tmp_path: Path, case: str) -> None:
    content, message = ODD[case]
    with pytest.raises(DataError, match=message):
        two_digit_mnist(put(tmp_path, TEST_ALONE | content()), verify=False)


def test_a_file_that_expands_too_far_is_refused(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST", 1000)
    for name, content in archive().items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="expands to more than 1000 bytes"):
        two_digit_mnist(tmp_path)
