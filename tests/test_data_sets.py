"""Fashion-MNIST, CIFAR-10 and IMDB: every form in which they come, and what is in a file that means harm."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import io
import lzma
import os
import pickle
import struct
import tarfile
import threading
import time
import tokenize
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn.data import cifar10, fashion_mnist, imdb
from fastnn.data.files import DataError, DataNotFoundError, FileSet, KnownFile
from fastnn.data.plain_pickle import PlainPickleError, loads

cifar = importlib.import_module("fastnn.data.cifar10")
fashion = importlib.import_module("fastnn.data.fashion_mnist")
reviews = importlib.import_module("fastnn.data.imdb")

REAL = Path(os.environ.get("FASTNN_DATA", ""))  # before the fixture below takes it away
needs_real = pytest.mark.skipif(not (REAL / "cifar-10").is_dir(), reason="FASTNN_DATA does not hold CIFAR-10")

# --- a made data set in every form ------------------------------------------------------------------------------------

BATCHES = 6  # the last is the test batch
COUNT = 7  # images of each
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCHES, COUNT, 3, 32, 32), np.uint8)
LABELS = RNG.integers(0, 10, (BATCHES, COUNT), np.uint8)
PYTHON_NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def python_2_batch(i: int) -> bytes:
    """What Python 2's cPickle writes with protocol 2, operation by operation: strings of bytes all through."""
    data = IMAGES[i].tobytes()

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01bq\x03\x87Rq\x04("
    array += (
        b"K\x01M"
        + struct.pack("<H", COUNT)
        + b"M\x00\x0c\x86q\x05cnumpy\ndtype\nq\x06U\x02u1q\x07K\x00K\x01\x87Rq\x08("
    )
    array += (
        b"K\x03U\x01|q\x09NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )
    labels = b"]q\x0a(" + b"".join(b"K" + bytes([label]) for label in LABELS[i].tolist()) + b"e"
    names = b"]q\x0b(" + b"".join(text(b"frog_%d.png" % k) for k in range(COUNT)) + b"e"
    items = (text(b"batch_label") + text(b"batch 1 of 5"), text(b"data") + array, text(b"labels") + labels)
    return b"\x80\x02}q\x00(" + b"".join(items) + text(b"filenames") + names + b"u."


def dumped(protocol: int) -> Callable[[int], bytes]:
    """What today's Python writes."""

    def dump(i: int) -> bytes:
        named = {"data": IMAGES[i].reshape(COUNT, -1), "labels": LABELS[i].tolist(), "batch_label": b"batch"}
        return pickle.dumps(named, protocol)

    return dump


def binary_batch(i: int) -> bytes:
    return np.concatenate([LABELS[i][:, None], IMAGES[i].reshape(COUNT, -1)], 1).tobytes()


def archive(members: dict[str, bytes], compress: str = "w:gz", pax: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=compress, pax_headers=pax) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def differences() -> dict[str, bytes]:
    """Red and blue less green, then each pixel less its left and upper neighbours plus the one between."""
    names = [*(f"train_batch_{i}.xz" for i in range(1, 6)), "test_first1000.xz"]
    content = {}
    for name, images in zip(names, IMAGES, strict=True):
        x = images.copy()
        x[:, 0] -= x[:, 1]
        x[:, 2] -= x[:, 1]
        x = np.diff(np.diff(x, axis=2, prepend=np.uint8(0)), axis=3, prepend=np.uint8(0))
        content[name] = lzma.compress(x.tobytes())
    labels = io.BytesIO()
    np.savez(labels, train=LABELS[:5].ravel(), test_first1000=LABELS[5])
    return {**content, "labels.npz": labels.getvalue()}


def batches(write: Callable[[int], bytes], folder: str = "", suffix: str = "") -> dict[str, bytes]:
    return {f"{folder}{name}{suffix}": write(i) for i, name in enumerate(PYTHON_NAMES)}


PY, BIN = "cifar-10-batches-py/", "cifar-10-batches-bin/"
CONTENTS: dict[str, dict[str, bytes]] = {
    "python archive": {"cifar-10-python.tar.gz": archive(batches(python_2_batch, PY))},
    "python folder": batches(python_2_batch, PY),
    "python batches": batches(python_2_batch),
    **{f"python batches, protocol {p}": batches(dumped(p)) for p in range(6) if p != 1},
    "binary archive": {"cifar-10-binary.tar.gz": archive(batches(binary_batch, BIN, ".bin"))},
    "binary folder": batches(binary_batch, BIN, ".bin"),
    "binary batches": batches(binary_batch, "", ".bin"),
    "differences": differences(),
}


def put(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def known(name: str, content: dict[str, bytes], *mirrors: str) -> FileSet:
    files = (KnownFile(file, len(data), hashlib.sha256(data).hexdigest()) for file, data in content.items())
    return FileSet(name, tuple(files), mirrors)


def assert_made(data: fn.data.Dataset) -> None:
    x, y = IMAGES.reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255), LABELS.ravel().astype(np.int64)
    count = 5 * COUNT
    for found, expected in ((data.x_train, x[:count]), (data.y_train, y[:count]), (data.x_test, x[count:])):
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.flags.c_contiguous and found.flags.writeable
    np.testing.assert_array_equal(data.y_test, y[count:], strict=True)
    assert data.class_names[0] == "airplane" and len(data.class_names) == 10
    assert data.note == f"only {COUNT} of 10000 test images" and data.note in repr(data)


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, home or mirror of the real world."""
    for variable in ("FASTNN_DATA", "FASTNN_MIRROR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    forms = {form._replace(mirrors=()): read for form, read in cifar.FORMS.items()}
    monkeypatch.setattr(cifar, "FORMS", forms)
    monkeypatch.setattr(reviews, "FORMS", {form._replace(mirrors=()): read for form, read in reviews.FORMS.items()})
    monkeypatch.setattr(fashion, "FILES", fashion.FILES._replace(mirrors=()))


class Server(ThreadingHTTPServer):
    """Serves some content by the last part of the path; keeps the paths asked for."""

    daemon_threads = True

    def __init__(self, content: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.content[self.path.rpartition("/")[2]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], Server]]:
    servers: list[Server] = []

    def start(content: dict[str, bytes]) -> Server:
        servers.append(Server(content))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# --- Fashion-MNIST ----------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


FASHION = {
    file.name: gzip.compress(idx(IMAGES[i // 2, :, 0] if i % 2 == 0 else LABELS[i // 2]), mtime=0)
    for i, file in enumerate(fashion.FILES.files)
}


@pytest.mark.skipif(not (REAL / "fashion-mnist").is_dir(), reason="FASTNN_DATA does not hold Fashion-MNIST")
def test_real_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(REAL))
    data = fashion_mnist(download=False)
    assert data.x_train.shape == (60000, 1, 28, 28) and data.x_test.shape == (10000, 1, 28, 28)
    assert data.x_train.max() == 1 and (np.bincount(data.y_train) == 6000).all()
    assert data.class_names[data.y_train[0]] == "Ankle boot" and data.note == ""


def test_fashion_mnist_is_downloaded_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    server = serve(FASHION)
    monkeypatch.setattr(fashion, "FILES", known("fashion-mnist", FASHION, server.url))
    data = fashion_mnist(divisor=1)
    np.testing.assert_array_equal(data.x_train[:, 0], IMAGES[0, :, 0])
    np.testing.assert_array_equal(data.y_test, LABELS[1])
    assert sorted(path.name for path in (tmp_path / "cache" / "fashion-mnist").iterdir()) == sorted(FASHION)
    server.asked.clear()
    fashion_mnist()
    assert not server.asked
    with pytest.raises(ValueError, match="fashion-mnist: divisor must be positive"):
        fashion_mnist(divisor=0)


def test_images_compressed_anew_are_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content in another archive, and the very file."""
    original = known("fashion-mnist", FASHION)
    anew = {name: gzip.compress(gzip.decompress(data), 1, mtime=0) for name, data in FASHION.items()}
    twins = (file._replace(twins=(hashlib.sha256(anew[file.name]).hexdigest(),)) for file in original.files)
    monkeypatch.setattr(fashion, "FILES", original)
    with pytest.raises(DataError, match="SHA-256"):
        fashion_mnist(put(tmp_path / "anew", anew))
    monkeypatch.setattr(fashion, "FILES", original._replace(files=tuple(twins)))
    assert len(fashion_mnist(tmp_path / "anew").x_train) == len(fashion_mnist(put(tmp_path / "old", FASHION)).x_train)


# --- CIFAR-10: every form ---------------------------------------------------------------------------------------------


@needs_real
@pytest.mark.slow
def test_real_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(REAL))
    data = cifar10(download=False)
    assert data.x_train.shape == (50000, 3, 32, 32) and data.x_test.shape[1:] == (3, 32, 32)
    assert (np.bincount(data.y_train) == 5000).all() and len(data.y_test) == len(data.x_test)
    assert bool(data.note) == (len(data.x_test) < 10000)
    np.testing.assert_allclose(data.x_train.mean((0, 2, 3)), (0.4914, 0.4822, 0.4465), atol=1e-3)
    rows = np.concatenate([data.y_train[:10000, None], np.round(data.x_train[:10000] * 255).reshape(10000, -1)], 1)
    assert hashlib.sha256(rows.astype(np.uint8).tobytes()).hexdigest() == cifar._BINARY[0].digest


@pytest.mark.parametrize("form", CONTENTS)
def test_cifar10_in_every_form(tmp_path: Path, form: str) -> None:
    folder = put(tmp_path / "mine", CONTENTS[form])
    assert_made(cifar10(folder, verify=False))
    with pytest.raises(DataError, match=r"SHA-256|MD5"):  # it is not the real one
        cifar10(folder)
    with pytest.raises(ValueError, match="cifar10: divisor must be positive"):
        cifar10(folder, divisor=-1)


def test_the_first_form_counts_and_all_places_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    content = CONTENTS["python archive"]
    server = serve(content)
    first, *others = cifar.FORMS.items()
    forms = {known("cifar-10", content, server.url): first[1], **dict(others)}
    monkeypatch.setattr(cifar, "FORMS", forms)
    with pytest.raises(DataNotFoundError, match=r"(?s)cifar-10: not found.*FASTNN_DATA is not set"):
        cifar10(download=False)
    with pytest.raises(DataNotFoundError, match=r"cifar-10: .*: missing data_batch_2$"):
        cifar10(put(tmp_path / "some", {name: b"" for name in PYTHON_NAMES if name != "data_batch_2"}))
    assert_made(cifar10())
    assert server.asked == ["/cifar-10-python.tar.gz"]
    assert_made(cifar10(download=False))
    shared = put(tmp_path / "shared" / "cifar-10", {**CONTENTS["binary batches"], **content})
    monkeypatch.setenv("FASTNN_DATA", str(shared.parent))
    assert_made(cifar10())
    (shared / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin: .*SHA-256"):
        cifar10()
    assert_made(cifar10(verify=False))
    assert len(server.asked) == 1


def test_another_form_in_the_cache_is_not_downloaded_again(tmp_path: Path) -> None:
    put(tmp_path / "cache" / "cifar-10", CONTENTS["binary archive"])
    assert_made(cifar10(verify=False))


# --- CIFAR-10: damaged and hostile files ------------------------------------------------------------------------------


def changed(form: str, name: str, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    return {**CONTENTS[form], name: change(CONTENTS[form][name])}


def long_member(content: bytes) -> bytes:
    """A header that promises more than any batch has."""
    info = tarfile.TarInfo(f"{PY}data_batch_1")
    info.size = 10**12
    return gzip.compress(info.tobuf() + bytes(1024))


def linked(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo(f"{PY}data_batch_1")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    return stream.getvalue()


DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "archive breaks off": (
        changed("python archive", "cifar-10-python.tar.gz", lambda a: a[: len(a) // 2]),
        "cifar-10-python.tar.gz: truncated or corrupt archive",
    ),
    "no archive": ({"cifar-10-python.tar.gz": b"<html>"}, "cifar-10-python.tar.gz: truncated or corrupt archive"),
    "archive lacks a batch": (
        {"cifar-10-binary.tar.gz": archive({f"{BIN}data_batch_1.bin": binary_batch(0)})},
        f"it lacks {BIN}data_batch_2.bin, ",
    ),
    "member of a huge size": ({"cifar-10-python.tar.gz": long_member(b"")}, "data_batch_1: expected a file of at most"),
    "member that is a link": ({"cifar-10-python.tar.gz": linked(b"")}, "data_batch_1: expected a file of at most"),
    "names that climb": (
        {"cifar-10-python.tar.gz": archive(batches(python_2_batch, f"../{PY}"))},
        f"it lacks {PY}data_batch_1",
    ),
    "hostile batch in an archive": (
        {"cifar-10-python.tar.gz": archive(batches(lambda i: b"cos\nsystem\n(S'true'\ntR.", PY))},
        "data_batch_1: not a batch of CIFAR-10: it holds more than data: it asks for os.system",
    ),
    "binary batch breaks off": (changed("binary batches", "data_batch_2.bin", lambda b: b[:-1]), "multiple of 3073"),
    "binary batch is empty": (changed("binary batches", "test_batch.bin", lambda b: b""), "test_batch.bin: expected a"),
    "label 10": (changed("binary batches", "data_batch_1.bin", lambda b: b"\x0a" + b[1:]), "labels 0..9, got 10 at"),
    "a list": (changed("python batches", "test_batch", lambda b: pickle.dumps([1])), "test_batch: .*a dict, got list"),
    "no data": (changed("python batches", "test_batch", lambda b: pickle.dumps({})), r"\(N, 3072\).*got NoneType"),
    "reals": (
        changed("python batches", "test_batch", lambda b: pickle.dumps({"data": np.zeros((1, 3072))})),
        r"uint8, got float64 \(1, 3072\)",
    ),
    "labels are text": (
        changed("python batches", "test_batch", lambda b: b.replace(b"labels", b"sabels")),
        "a list of labels, got NoneType",
    ),
    "too few labels": (
        changed(
            "python batches",
            "test_batch",
            lambda b: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}),
        ),
        "expected 2 labels, one per image, got 1",
    ),
    "xz breaks off": (changed("differences", "train_batch_3.xz", lambda b: b[:-9]), "train_batch_3.xz: truncated or"),
    "no xz": (changed("differences", "train_batch_3.xz", lambda b: b"BZh"), "train_batch_3.xz: truncated or corrupt"),
    "odd xz": (
        changed("differences", "train_batch_3.xz", lambda b: lzma.compress(bytes(3073))),
        "multiple of 3072 bytes, got 3073",
    ),
    "an image more": (
        changed("differences", "train_batch_5.xz", lambda b: lzma.compress(bytes(3072 * (COUNT + 1)))),
        f"expected {COUNT + 1} labels, one per image, got {COUNT}",
    ),
    "an image less": (
        changed("differences", "train_batch_5.xz", lambda b: lzma.compress(bytes(3072))),
        f"labels.npz: expected {4 * COUNT + 1} labels, one per image, got {5 * COUNT}",
    ),
    "bad header of an archive": (
        {"cifar-10-python.tar.gz": archive({"a": b""}, pax={"GNU.sparse.map": "abc"})},
        "cifar-10-python.tar.gz: truncated or corrupt archive",
    ),
    "no labels": (changed("differences", "labels.npz", lambda b: b[:-30]), "labels.npz: not a file of labels"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_named(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    with pytest.raises(DataError, match=message):
        cifar10(put(tmp_path / "mine", content), verify=False)


def test_any_damage_to_labels_is_named(tmp_path: Path) -> None:
    path, rng = tmp_path / "labels.npz", np.random.default_rng(0)
    stream = io.BytesIO()
    np.savez_compressed(stream, train=LABELS[:5].ravel(), test_first1000=LABELS[5])
    for whole in (CONTENTS["differences"]["labels.npz"], stream.getvalue()):
        for _ in range(1500):
            content = bytearray(whole)
            for at in rng.integers(0, len(whole), rng.integers(1, 4)):
                content[at] = rng.integers(256)
            path.write_bytes(content)
            with contextlib.suppress(DataError):
                cifar._labels(path)


@pytest.mark.parametrize(
    "error", [zlib.error, NotImplementedError, MemoryError, tokenize.TokenError, RuntimeError, SyntaxError]
)
def test_any_error_of_a_reader_of_labels_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise error("so")

    monkeypatch.setattr(np, "load", broken)
    with pytest.raises(DataError, match=r"labels\.npz: not a file of labels: so$"):
        cifar._labels(tmp_path / "labels.npz")


# --- IMDB -------------------------------------------------------------------------------------------------------------

#: (label, number, text) of each review, in order; a tab and a line separator of Unicode are part of a text.
REVIEWS = {
    "train": [(0, 0, "Bad.<br />Not\tgood."), (0, 2, "Dull\u2028again"), (0, 10, "Worse"), (1, 1, "Très bien")],
    "test": [(0, 3, "No."), (1, 0, "Yes!"), (1, 7, "")],
}


def review_files() -> dict[str, bytes]:
    """As in the original archive, in no order, with what is to be left out."""
    files = {"aclImdb/README": b"\xff", "aclImdb/train/unsup/0_0.txt": b"\xff", "aclImdb/train/pos": b"x"}
    for part, rows in REVIEWS.items():
        for label, number, text in reversed(rows):
            rating = 7 if label else 3
            files[f"aclImdb/{part}/{'pos' if label else 'neg'}/{number}_{rating}.txt"] = text.encode()
    return files


def review_table(part: str) -> bytes:
    lines = (f"{label}\t{7 if label else 3}\t{number}\t{text}\n" for label, number, text in REVIEWS[part])
    return "".join(lines).encode()


IMDB = {
    "archive": {"aclImdb_v1.tar.gz": archive(review_files())},
    "tables": {f"{part}.tsv.xz": lzma.compress(review_table(part)) for part in REVIEWS},
}


def assert_reviews(data: fn.data.TextDataset) -> None:
    parts = zip(REVIEWS.values(), (data.x_train, data.x_test), (data.y_train, data.y_test), strict=True)
    for rows, texts, labels in parts:
        assert texts == [text for _, _, text in rows]
        np.testing.assert_array_equal(labels, np.array([label for label, _, _ in rows], np.int64), strict=True)
    assert data.class_names == ("negative", "positive")
    assert repr(data) == "TextDataset(x_train: 4 texts, x_test: 3 texts, 2 classes)"


@pytest.mark.skipif(not (REAL / "imdb").is_dir(), reason="FASTNN_DATA does not hold the reviews")
def test_real_imdb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(REAL))
    data = imdb(download=False)
    assert len(data.x_train) == len(data.x_test) == 25000
    for labels in (data.y_train, data.y_test):
        np.testing.assert_array_equal(labels, np.repeat([0, 1], 12500))
    assert data.x_train[0].startswith("Story of a man") and data.x_test[-1].startswith("I was plagued")
    assert sum(map(len, data.x_train)) > 33_000_000 and any("<br />" in text for text in data.x_test)


@pytest.mark.parametrize("form", IMDB)
def test_imdb_in_every_form(tmp_path: Path, form: str) -> None:
    folder = put(tmp_path / "mine", IMDB[form])
    assert_reviews(imdb(folder, verify=False))
    with pytest.raises(DataError, match=r"SHA-256|MD5"):  # it is not the real one
        imdb(folder)


def test_imdb_is_downloaded_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[dict[str, bytes]], Server]
) -> None:
    content = IMDB["archive"]
    server = serve(content)
    first, *others = reviews.FORMS.items()
    monkeypatch.setattr(reviews, "FORMS", {known("imdb", content, server.url): first[1], **dict(others)})
    with pytest.raises(DataNotFoundError, match="imdb: not found"):
        imdb(download=False)
    assert_reviews(imdb())
    assert_reviews(imdb(download=False))
    assert server.asked == ["/aclImdb_v1.tar.gz"]
    written = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert written == ["cache/imdb/aclImdb_v1.tar.gz"]
    shared = put(tmp_path / "shared" / "imdb", IMDB["tables"])
    monkeypatch.setenv("FASTNN_DATA", str(shared.parent))
    assert_reviews(imdb(verify=False))


def imdb_archive(**changes: bytes | None) -> dict[str, bytes]:
    """The archive with other files in it: names have __ for slashes; None for none."""
    files = {**review_files(), **{f"aclImdb/{name.replace('__', '/')}.txt": data for name, data in changes.items()}}
    return {"aclImdb_v1.tar.gz": archive({name: data for name, data in files.items() if data is not None})}


def imdb_table(content: bytes) -> dict[str, bytes]:
    return {**IMDB["tables"], "test.tsv.xz": lzma.compress(content)}


BAD_REVIEWS: dict[str, tuple[dict[str, bytes], str]] = {
    "archive breaks off": (
        {"aclImdb_v1.tar.gz": b"\x1f\x8b<html>"},
        "aclImdb_v1.tar.gz: truncated or corrupt archive",
    ),
    "no reviews": (
        {"aclImdb_v1.tar.gz": archive({"aclImdb/test/pos/1_7.txt": b"a"})},
        "aclImdb_v1.tar.gz: it lacks the reviews in aclImdb/train",
    ),
    "a number twice": (imdb_archive(test__pos__0_8=b"again"), "test/pos/0_8.txt: it is there twice"),
    "no text": (imdb_archive(test__pos__0_7=b"\xff"), "aclImdb_v1.tar.gz: a review is no text in UTF-8"),
    "a long review": (imdb_archive(test__pos__9_7=bytes(1_000_001)), "9_7.txt: expected a file of at most 1000000"),
    "xz breaks off": (
        {**IMDB["tables"], "test.tsv.xz": IMDB["tables"]["test.tsv.xz"][:-9]},
        "test.tsv.xz: truncated or corrupt xz file",
    ),
    "no table": (imdb_table(b"\xff\n"), "test.tsv.xz: not a table in UTF-8"),
    "no last line": (imdb_table(b"0\t3\t1\tbad"), "test.tsv.xz: it does not end with a line"),
    "an empty table": (imdb_table(b""), "test.tsv.xz: it does not end with a line"),
    "a label": (imdb_table(b"0\t3\t1\ta\n2\t3\t1\tb\n"), "test.tsv.xz: line 2: expected label 0 or 1"),
    "a column less": (imdb_table(b"0\t3\t1\n"), "test.tsv.xz: line 1: expected label 0 or 1, rating"),
}


@pytest.mark.parametrize("case", BAD_REVIEWS)
def test_damaged_reviews_are_named(tmp_path: Path, case: str) -> None:
    content, message = BAD_REVIEWS[case]
    with pytest.raises(DataError, match=message):
        imdb(put(tmp_path / "mine", content), verify=False)


# --- pickles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_what_pickle_makes_of_it(protocol: int) -> None:
    shared = [1, 2.5, -(10**30), "tëxt", b"\x00\xff", None, True, (), (1,), (1, 2, 3, 4)]
    data = {"a": shared, "b": [shared, shared], b"c": {"d": 3, 5: "e"}, "f": bytearray(b"xy") if protocol == 5 else 0}
    if protocol == 0:  # there, bytes are escaped
        data.pop(b"c")  # type: ignore[call-overload]
    found = loads(pickle.dumps(data, protocol))
    assert found == data
    assert found["b"][0] is found["b"][1] is found["a"]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<f4", ">f8", "?", "f2"])
def test_arrays_of_numbers(protocol: int, dtype: str) -> None:
    for array in (np.arange(24).reshape(2, 3, 4), np.arange(24).reshape(4, 6).T, np.arange(3)):
        expected = array.astype(dtype)
        first, again = loads(pickle.dumps([expected, expected], protocol))
        np.testing.assert_array_equal(first, expected, strict=True)
        assert first.dtype == expected.dtype and again is first


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def ran() -> None:
    raise AssertionError("a function was run")


DTYPE = b"cnumpy\ndtype\n(S'u1'\nI00\nI01\ntR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
HOSTILE: dict[str, bytes] = {
    "os.system": b"cos\nsystem\n(S'true'\ntR.",
    "posix.system, protocol 4": pickle.dumps(Calls(os.system, "true"), 4),
    "eval": pickle.dumps(Calls(eval, "1"), 2),
    "a function of this module": pickle.dumps(Calls(ran), 2),
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "NEWOBJ": b"cnumpy\nndarray\n)\x81.",
    "an array made by a call": b"cnumpy\nndarray\n((I1\nttR.",
    "a function from the stack": b"S'system'\n(S'true'\ntR.",
    "a call of what a call returned": ARRAY + b"(tR.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "a name that is no string": b"\x80\x04K\x01K\x02\x93.",
    "an attribute of a module that is allowed": b"cnumpy.core.multiarray\nfromfile\n.",
    "BUILD of a name": b"cnumpy\ndtype\n}S'__setstate__'\nNsb.",
    "BUILD of a dict": b"}}S'a'\nNsb.",
    "BUILD with slots": b"cnumpy.core.multiarray\n_reconstruct\n(N}S'__defaults__'\nNstb.",
    "an array of objects": pickle.dumps(np.array([Calls(ran)], object), 2),
    "an array of records": pickle.dumps(np.zeros(2, "i4,f4"), 2),
    "an array of text": pickle.dumps(np.array(["a"]), 2),
    "an array of dates": pickle.dumps(np.zeros(2, "M8[s]"), 2),
    "dtype with fields": DTYPE + b"(I3\nS'|'\nN(S'a'\nt}S'a'\n(" + DTYPE + b"I0\ntsI-1\nI-1\nI0\ntb.",
    "dtype of a subarray": DTYPE + b"(I3\nS'|'\n(" + DTYPE + b"I2\ntNNI-1\nI-1\nI0\ntb.",
    "dtype of an unknown order": DTYPE + b"(I3\nS'!'\nNNNI-1\nI-1\nI0\ntb.",
    "dtype by a name": b"cnumpy\ndtype\n(S'object'\ntR.",
    "dtype by a class": b"cnumpy\ndtype\n(cnumpy\nndarray\ntR.",
    "reconstructing a subclass": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nrecarray\n(I0\ntS'b'\ntR.",
    "reconstructing a dtype": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
    "too few bytes": ARRAY + b"(I1\n(I1000000000000\nt" + DTYPE + b"I00\nS'ab'\ntb.",
    "a shape whose product overflows": ARRAY + b"(I1\n(I4294967296\nI4294967296\nt" + DTYPE + b"I00\nS''\ntb.",
    "a negative shape": ARRAY + b"(I1\n(I-1\nt" + DTYPE + b"I00\nS'a'\ntb.",
    "a shape of reals": ARRAY + b"(I1\n(F1\nt" + DTYPE + b"I00\nS'a'\ntb.",
    "another codec": b"c_codecs\nencode\n(Va\nVrot13\ntR.",
    "a codec that is a list": b"c_codecs\nencode\n(Va\n]tR.",
    "characters beyond Latin-1": b"c_codecs\nencode\n(V\\u20ac\nVlatin1\ntR.",
    "decoding": b"c_codecs\ndecode\n(S'a'\nVlatin1\ntR.",
    "a set": pickle.dumps({1}, 4),
    "a complex number": pickle.dumps(1j, 4),
    "a scalar of NumPy": pickle.dumps(np.float64(1), 4),
    "a persistent id": b"Pa\n.",
    "an extension": b"\x82\x01.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "a list that is none": b"}K\x01a.",
    "a dict that is none": b"]K\x01K\x02s.",
    "half an item": b"}(K\x01u.",
    "a list as a key": b"}]Ns.",
    "a tuple as a key": b"}(K\x01tNs.",
    "an unknown operation": b"\xff.",
    "an unknown memo": b"g99\n.",
    "an empty stack": b".",
    "no mark": b"t.",
    "bytes of a huge size": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of a negative size": b"T" + struct.pack("<i", -1) + b".",
    "bytearray of a huge size": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "a frame of a huge size": b"\x80\x04\x95" + struct.pack("<Q", 2**62),
    "a number of many digits": b"I" + b"9" * 10**6 + b"\n",
    "a shape of many sizes": ARRAY + b"(I1\n(" + b"K\x01" * 100 + b"t" + DTYPE + b"I00\nS'a'\ntb.",
    "names that take for ever to write": b"\x80\x04]\x94" + b"h\x00h\x00\x86q\x00" * 40 + b"\x8c\x01x\x93.",
    "a name of many levels": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"\x8c\x01x\x93.",
    "a long name": b"c" + b"a" * 10_000 + b"\nb\n.",
    "bytes made again and again": b"c_codecs\nencode\nq\x02X\x40\x42\x0f\0"
    + b"a" * 10**6
    + b"q\x00Vlatin1\nq\x01"
    + b"h\x02h\x00h\x01\x86R" * 1000
    + b".",
    "bytes of strings made again and again": DTYPE
    + b"q\x03(X\x40\x42\x0f\0"
    + b"a" * 10**6
    + b"q\x00I1000000\ntq\x01"
    + ARRAY
    + b"(I1\n(I1000000\nth\x03I00\nh\x00tq\x02"
    + (ARRAY + b"h\x02b") * 1000
    + b".",
    "keys that hash alike": b"}\x8a\x09" + (3 * (2**61 - 1)).to_bytes(9, "little") + b"Ns.",
    "places in the memo that hash alike": b"Np%d\n." % (2**61 - 1),
    "not a pickle": b"<html>",
    "nothing": b"",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: Any, case: str) -> None:
    def forbidden(*arguments: Any) -> None:
        raise AssertionError("a function was run")

    monkeypatch.setattr(os, "system", forbidden)
    with pytest.raises(PlainPickleError):
        loads(HOSTILE[case])
    folder = put(tmp_path / "mine", {**CONTENTS["python batches"], "data_batch_3": HOSTILE[case]})
    with pytest.raises(DataError, match="data_batch_3: not a batch of CIFAR-10: ") as caught:
        cifar10(folder, verify=False)
    assert len(str(caught.value)) < 1000


def test_a_huge_place_in_the_memo_takes_no_memory() -> None:
    assert loads(b"K\x01r\xff\xff\xff\xff.") == 1  # pickle itself would make a list of four thousand million


def test_deep_and_branching_data_takes_no_time() -> None:
    assert isinstance(loads(b"(" * 100_000 + b"l" * 100_000 + b"."), list)
    laughs = b"]q\x00" + b"".join(b"(h" + bytes([i]) + b"h" + bytes([i]) + b"lq" + bytes([i + 1]) for i in range(90))
    with pytest.raises(PlainPickleError, match="it calls list"):
        loads(laughs + b"(tR.")


def test_many_arrays_that_are_not_built_take_no_time() -> None:
    made = b"".join(b"h\x01h\x02Rr" + struct.pack("<I", i) for i in range(10, 20_010))
    names = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\n(I0\ntS'b'\n\x87q\x02"
    state = b"(I1\n(I1\nt" + DTYPE + b"I00\nS'a'\ntq\x03"
    content = names + state + made + b"(" + b"".join(b"j" + struct.pack("<I", i) + b"h\x03b" for i in range(10, 20_010))
    start = time.perf_counter()
    found = loads(content + b"lj" + struct.pack("<I", 15) + b"\x86.")
    assert time.perf_counter() - start < 10  # a search of the memo for each takes minutes
    assert len(found[0]) == 20_000 and found[1] is found[0][5]


def test_an_array_that_is_in_the_memo_twice() -> None:
    state = b"(I1\n(I1\nt" + DTYPE + b"I00\nS'a'\nt"
    first, second, third = loads(b"(" + ARRAY + b"p1\np2\n" + state + b"bg1\ng2\nt.")
    assert isinstance(first, np.ndarray) and first is second is third


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x80\x02}q\x00(", ARRAY + b"(", DTYPE, b"\x80\x04\x95"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_data_or_an_error(content: bytes, start: bytes) -> None:
    with contextlib.suppress(PlainPickleError):
        loads(start + content)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_batch_is_data_or_an_error(data: st.DataObject) -> None:
    whole = python_2_batch(0)
    place = data.draw(st.one_of(st.integers(0, 200), st.integers(len(whole) - 300, len(whole) - 1)))
    broken = (
        whole[:place]
        if data.draw(st.booleans())
        else whole[:place] + data.draw(st.binary(min_size=1, max_size=3)) + whole[place + 1 :]
    )
    with contextlib.suppress(PlainPickleError):
        loads(broken)
