"""Two overlapping digits in an image: the "mini" data of project 3 of the course MITx 6.86x, made from MNIST.

Each image of the course is the pixelwise maximum of two images of MNIST, the first in its upper 28 rows, the second in
its lower 28 of 42: so are all its test images, exactly. Where the course's training images are not at hand, `composed`
makes others of the same kind.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .dataset import Dataset
from .files import DataError, DataNotFoundError, FileSet, KnownFile, locate_any, reading
from .idx import decompressed
from .idx_images import check_labels
from .mnist import CLASS_NAMES, mnist
from .plain_pickle import PlainPickleError, loads

Pixels = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

HEIGHT, WIDTH, OFFSET = 42, 28, 14  #: of an image, and the row in which its lower digit begins
TRAINING, TEST = 40000, 4000  #: how many images the course has
_LARGEST = 500_000_000  # bytes of a file of the course, uncompressed: more than any has
_DIVISOR = 256  # the course's numbers are bytes / 256

_TEST_FILE = KnownFile("test.npz", 1197514, "02e66e9a61aac84cdcdcca3f4627bd59b4dbcf98aae83f8f2dc1338189e6919f")
_LABELS_FILE = KnownFile("train_labels.npz", 39059, "98085c6ad2b7ffd85995b0c1065c3a17cb52f4a9d609aa07b1ba75c806798726")
#: In the course's own archive. Checksums of these files were never published; those of most of the content are below.
_ARCHIVE = (
    KnownFile("train_multi_digit_mini.pkl.gz", 0, ""),
    KnownFile("train_labels_mini.txt.gz", 0, ""),
    KnownFile("test_multi_digit_mini.pkl.gz", 0, ""),
    KnownFile("test_labels_mini.txt.gz", 0, ""),
)
#: SHA-256 of the course's numbers, as bytes, by the file that holds them.
_CONTENT = {
    "test_multi_digit_mini.pkl.gz": "570a267c085921e7c2413967968836f473dcc71cc171c128a9eff1fa3030a657",
    "test_labels_mini.txt.gz": "5694b76786f486dddbf0a90e3f453d97c3f62c4eb4847966f83e5df7a25d4c1c",
    "train_labels_mini.txt.gz": "2c85b3efb49dc1db9a7ab8ffc71ec2e263c778c849d8365de792374ef5d38d8c",
}


class Source(NamedTuple):
    """MNIST, if it should be needed. load: takes nothing; seed: of the choice of digits."""

    load: Callable[[], Dataset]
    seed: int


def two_digit_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    mnist_root: str | os.PathLike[str] | None = None,
    download: bool = True,
    verify: bool = True,
    seed: int = 0,
) -> Dataset:
    """40000 training and 4000 test images of shape (1, 42, 28), float32, byte / 256; labels (N, 2), int64, of the upper
    and of the lower digit.

    root: the folder that holds the files; None searches `$FASTNN_DATA/two-digit-mnist`, then the cache, and does
        without them if they are in neither. Nobody is known to serve them, so that they are not downloaded. They are
        the course's own `train_multi_digit_mini.pkl.gz`, `test_multi_digit_mini.pkl.gz`, `train_labels_mini.txt.gz` and
        `test_labels_mini.txt.gz`; or `test.npz`, the course's test images and their labels, with `train_labels.npz`,
        the labels of its training images. Training images are then composed from MNIST's for these labels; without any
        files, all images are, of digits drawn evenly and independently, as the course's seem to be.
    mnist_root, download: of MNIST, as in `mnist`, where images have to be composed from it
    verify: False accepts other files of the same format and names, of any number of images; format and labels are
        checked all the same. Of the course's training images no checksum is known, but for that in the gzip format.
    seed: of the digits from which images are composed

    The `origin` of what is returned says where images and labels come from. The pickles are not unpickled: only the
    data in them is read, and nothing that a file asks for is run.
    Raises DataError, an OSError, which names the file and what is wrong with it.
    """

    def digits() -> Dataset:
        return mnist(mnist_root, divisor=_DIVISOR, download=download, verify=verify)

    try:
        form, paths = locate_any(list(FORMS), root, download=False, verify=verify)
    except DataNotFoundError as error:
        if root is not None:
            raise
        warnings.warn(f"all images are composed from MNIST: {error}", stacklevel=2)
        return _all_composed(Source(digits, seed))
    return FORMS[form](paths, verify, Source(digits, seed))


def drawn(labels: Labels, digits: Labels, rng: np.random.Generator) -> Labels:
    """For labels (N, 2) the index, (N, 2), of a digit with each, drawn with replacement.

    digits: (M,) what each digit is. Raises ValueError for a label that none of them has.
    """
    pick = np.empty(labels.shape, np.int64)
    for digit in np.unique(labels):
        pick[labels == digit] = rng.choice(np.flatnonzero(digits == digit), (labels == digit).sum())
    return pick


def composed(digits: Pixels, pick: Labels) -> Pixels:
    """Images (N, 1, 42, 28): the pixelwise maximum of two digits, the first one above.

    digits: (M, 1, 28, 28); pick: (N, 2) indices of digits
    """
    x = np.zeros((len(pick), 1, HEIGHT, WIDTH), digits.dtype)
    x[:, :, : HEIGHT - OFFSET] = digits[pick[:, 0]]
    lower = x[:, :, OFFSET:]
    np.maximum(lower, digits[pick[:, 1]], out=lower)
    return x


# --- the forms --------------------------------------------------------------------------------------------------------


def _all_composed(source: Source) -> Dataset:
    """Without any file of the course."""
    digits, rng = source.load(), np.random.default_rng(source.seed)

    def part(x: Pixels, y: Labels, count: int) -> tuple[Pixels, Labels]:
        pick = rng.integers(0, len(x), (count, 2))
        return composed(x, pick), y[pick]

    training, test = part(digits.x_train, digits.y_train, TRAINING), part(digits.x_test, digits.y_test, TEST)
    origin = f"all images are composed from MNIST's digits by the course's rule, seed {source.seed}"
    return Dataset(*training, *test, CLASS_NAMES, origin=origin)


def _training_composed(paths: Sequence[Path], verify: bool, source: Source) -> Dataset:
    """The course's test images, and its labels of both parts."""
    test_path, labels_path = paths
    x_test, y_test = _arrays(test_path, "images", "labels")
    (y_train,) = _arrays(labels_path, "labels")
    test = _checked(test_path, x_test, test_path, y_test)
    labels = _labels(labels_path, y_train)
    digits = source.load()
    x_train = composed(digits.x_train, drawn(labels, digits.y_train, np.random.default_rng(source.seed)))
    origin = (
        "the test images and all labels are the course's own; the training images are composed from MNIST's digits by "
        f"the course's rule, seed {source.seed}"
    )
    return Dataset(x_train, labels, *test, CLASS_NAMES, origin=origin)


def _course(paths: Sequence[Path], verify: bool, source: Source) -> Dataset:
    """Everything is the course's own."""
    train_images, train_labels, test_images, test_labels = paths
    train = _checked(train_images, _pickled(train_images, verify), train_labels, _text(train_labels, verify))
    test = _checked(test_images, _pickled(test_images, verify), test_labels, _text(test_labels, verify))
    return Dataset(*train, *test, CLASS_NAMES, origin="all images and labels are the course's own")


# --- files ------------------------------------------------------------------------------------------------------------


def _arrays(path: Path, *names: str) -> list[npt.NDArray[np.uint8]]:
    """The arrays of these names in an .npz file, all of bytes."""
    with reading(path, f"not a file of {' and '.join(names)}"), np.load(path, allow_pickle=False) as file:
        found = [file[name] for name in names]
    for name, values in zip(names, found, strict=True):
        if values.dtype != np.uint8:
            raise DataError(f"{path}: expected {name} of dtype uint8, got {values.dtype}")
    return found


def _pickled(path: Path, verify: bool) -> npt.NDArray[np.uint8]:
    """(N, 42, 28) bytes from a compressed pickle of N · 42 · 28 real numbers, which are multiples of 1/256."""
    try:
        numbers = loads(decompressed(path, path.read_bytes(), most=_LARGEST))
    except PlainPickleError as error:
        raise DataError(f"{path}: not an array of images: {error}") from error
    pixels = HEIGHT * WIDTH
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind != "f" or not numbers.ndim:
        found = f"{numbers.dtype} {numbers.shape}" if isinstance(numbers, np.ndarray) else type(numbers).__name__
        raise DataError(f"{path}: expected an array of real numbers, got {found}")
    if not len(numbers) or numbers.shape[1:] not in ((pixels,), (HEIGHT, WIDTH), (1, HEIGHT, WIDTH)):
        raise DataError(f"{path}: expected {HEIGHT}x{WIDTH} numbers for each image, got an array {numbers.shape}")
    images = np.empty((len(numbers), HEIGHT, WIDTH), np.uint8)
    for image, row in zip(images, numbers.reshape(images.shape), strict=True):  # of them all, copies would take 1 GB
        scaled = row * _DIVISOR
        if not ((scaled >= 0) & (scaled < _DIVISOR) & (scaled == np.floor(scaled))).all():
            raise DataError(f"{path}: expected numbers that are a byte / {_DIVISOR}")
        image[...] = scaled
    return _verified(path, images, verify)


def _text(path: Path, verify: bool) -> npt.NDArray[np.uint8]:
    """(N, 2) bytes from compressed text: a line of numbers for the upper digits, one for the lower ones."""
    content = decompressed(path, path.read_bytes(), most=_LARGEST)
    with reading(path, "not a file of labels"):
        rows = [[float(number) for number in line.split()] for line in content.decode("ascii").splitlines()]
        table = np.array(rows, ndmin=2)
    if table.shape[0] != 2:
        raise DataError(f"{path}: expected two lines of labels, got {table.shape[0]}")
    if not ((table >= 0) & (table < 256) & (table == np.floor(table))).all():
        raise DataError(f"{path}: expected labels that are whole numbers")
    return _verified(path, np.ascontiguousarray(table.T.astype(np.uint8)), verify)


def _verified(path: Path, values: npt.NDArray[np.uint8], verify: bool) -> npt.NDArray[np.uint8]:
    """The same values. Raises DataError unless they are the course's, as far as that is known."""
    import hashlib  # brings OpenSSL along, which `import fastnn` need not pay for

    expected = _CONTENT.get(path.name)
    found = hashlib.sha256(values.tobytes()).hexdigest()
    if verify and expected is not None and found != expected:
        raise DataError(
            f"{path}: not the course's: its {len(values)} entries have SHA-256 {found}, expected {expected}"
        )
    return values


def _checked(
    images_path: Path, images: npt.NDArray[np.uint8], labels_path: Path, labels: npt.NDArray[np.uint8]
) -> tuple[Pixels, Labels]:
    """Images (N, 1, 42, 28) float32 and labels (N, 2) int64, from bytes."""
    if images.ndim != 3 or images.shape[1:] != (HEIGHT, WIDTH) or not len(images):
        raise DataError(f"{images_path}: expected images of shape (N, {HEIGHT}, {WIDTH}), got {images.shape}")
    return np.divide(images[:, None], _DIVISOR, dtype=np.float32), _labels(labels_path, labels, len(images))


def _labels(path: Path, labels: npt.NDArray[np.uint8], images: int | None = None) -> Labels:
    """(N, 2) int64. images: how many there are to be labelled, None for as many as there are labels."""
    if labels.ndim != 2 or labels.shape[1] != 2 or not len(labels):
        raise DataError(f"{path}: expected labels of shape (N, 2), got {labels.shape}")
    for column in labels.T:
        check_labels(path, column, len(labels) if images is None else images, len(CLASS_NAMES))
    return labels.astype(np.int64)


#: Each form and what reads it.
FORMS: dict[FileSet, Callable[[Sequence[Path], bool, Source], Dataset]] = {
    FileSet("two-digit-mnist", _ARCHIVE): _course,
    FileSet("two-digit-mnist", (_TEST_FILE, _LABELS_FILE)): _training_composed,
}
