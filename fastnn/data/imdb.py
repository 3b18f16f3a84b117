"""The Large Movie Review Dataset: reviews of films by A. L. Maas et al. ("Learning Word Vectors for Sentiment
Analysis", ACL 2011), half of them negative and half positive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .archive import members
from .dataset import TextDataset
from .files import DataError, FileSet, KnownFile, locate_any, reading

CLASS_NAMES = ("negative", "positive")

_LARGEST_REVIEW = 1_000_000  # bytes, many times those of the longest
_LARGEST_PART = 500_000_000  # bytes of all reviews of a part: what a damaged file may make of itself

_ARCHIVE = KnownFile("aclImdb_v1.tar.gz", 84125825, "7c2ac02c03563afcf9b574c7e56c153a")
_TABLES = (
    KnownFile("train.tsv.xz", 9057624, "b2e69f5d75ce575581420219f5a16ca62191bd37597575c50e74280dc5a9ed7c"),
    KnownFile("test.tsv.xz", 8824272, "b0b611c1098e674f81c830e45442b5f6ac9b13dc2d7ddca72ed801d0f9ed9d19"),
)
_IN_ARCHIVE = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]{1,9})_[0-9]{1,9}\.txt", re.ASCII)


class Part(NamedTuple):
    """The reviews for training, or those for the test, and a label for each."""

    texts: list[str]
    labels: list[int]


def imdb(root: str | os.PathLike[str] | None = None, *, download: bool = True, verify: bool = True) -> TextDataset:
    """25000 training and 25000 test reviews, each a text as it was published, with its ``<br />``; labels 0 (negative)
    and 1 (positive), int64. In both parts the negative reviews come first: shuffle before training.

    root: the folder that holds the files; None searches `$FASTNN_DATA/imdb`, then the cache, then downloads into the
        cache (84 MB; `FASTNN_MIRROR` names a server that is tried first). The first of these is read:
        `aclImdb_v1.tar.gz`, as the authors publish it; its 50000 reviews without a label are left out;
        `train.tsv.xz` and `test.tsv.xz`, with a line for each review: label, rating, number and text, parted by tabs.
    download: False never uses the network
    verify: False accepts other files of the same format and names; the format is checked all the same

    Raises DataError, an OSError, which names the file and what is wrong with it.
    """
    form, paths = locate_any(list(FORMS), root, download=download, verify=verify)
    (train, train_labels), (test, test_labels) = FORMS[form](paths)
    y_train, y_test = (np.array(labels, np.int64) for labels in (train_labels, test_labels))
    return TextDataset(train, y_train, test, y_test, CLASS_NAMES)


def _from_archive(paths: Sequence[Path]) -> list[Part]:
    """The reviews by their names: aclImdb/train/pos/NUMBER_RATING.txt."""
    (path,) = paths
    found: Mapping[str, dict[tuple[int, int], bytes]] = {"train": {}, "test": {}}
    total = 0
    for name, content in members(path, _IN_ARCHIVE.fullmatch, _LARGEST_REVIEW):
        match = _IN_ARCHIVE.fullmatch(name)
        assert match is not None
        part, key = found[match[1]], (int(match[2] == "pos"), int(match[3]))
        total += len(content)
        if key in part or total > 2 * _LARGEST_PART:
            raise DataError(
                f"{path}: {name}: " + ("it is there twice" if key in part else "there are too many reviews")
            )
        part[key] = content
    for name, reviews in found.items():
        if not reviews:
            raise DataError(f"{path}: it lacks the reviews in aclImdb/{name}")
    return [_in_order(path, reviews) for reviews in found.values()]


def _in_order(path: Path, reviews: Mapping[tuple[int, int], bytes]) -> Part:
    """Reviews by label and number, in that order."""
    keys = sorted(reviews)
    with reading(path, "a review is no text in UTF-8"):
        return Part([reviews[key].decode() for key in keys], [label for label, _ in keys])


def _from_tables(paths: Sequence[Path]) -> list[Part]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:  # which decompresses both at a time
        return list(pool.map(_from_table, paths))


def _from_table(path: Path) -> Part:
    import lzma

    with reading(path, "truncated or corrupt xz file"), lzma.open(path) as stream:
        content = stream.read(_LARGEST_PART)
    with reading(path, "not a table in UTF-8"):
        text = content.decode()
    texts, labels = [], []
    for label, review in _rows(path, text):
        texts.append(review)
        labels.append(label)
    return Part(texts, labels)


def _rows(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Label and text of each line; texts may hold tabs, and characters at which `splitlines` would break them."""
    if not text.endswith("\n"):
        raise DataError(f"{path}: it does not end with a line")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        cells = line.split("\t", 3)
        if len(cells) != 4 or cells[0] not in ("0", "1"):
            raise DataError(f"{path}: line {number}: expected label 0 or 1, rating, number and text, parted by tabs")
        yield int(cells[0]), cells[3]


#: Each form and what reads it: the training and the test reviews.
FORMS: dict[FileSet, Callable[[Sequence[Path]], list[Part]]] = {
    FileSet("imdb", (_ARCHIVE,), ("https://ai.stanford.edu/~amaas/data/sentiment/",)): _from_archive,
    FileSet("imdb", _TABLES): _from_tables,
}
