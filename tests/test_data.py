"""fastnn.data: reading, searching, checking and downloading; no test leaves 127.0.0.1 or its temporary folder."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.data import digits, mnist
from fastnn.data.files import DataError, DataNotFoundError, FileSet, KnownFile, locate
from fastnn.data.idx import read_idx

# By name: in the package, the functions hide the modules that they come from.
mnist_module = importlib.import_module("fastnn.data.mnist")
download_module = importlib.import_module("fastnn.data.download")

REAL = os.environ.get("FASTNN_DATA", "")  # before the fixture below takes it away
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (file.name for file in mnist_module.FILES.files)
NOBODY = "http://127.0.0.1:1/"  # a port that refuses


def idx(array: np.ndarray) -> bytes:
    """An IDX file of the bytes of `array`."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def made_mnist() -> dict[str, np.ndarray]:
    """30 and 20 images of 6x5 noise (it must not compress: a truncated download is to break off in the data)."""
    rng = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, 6, 5), np.uint8)

    def labels(count: int) -> np.ndarray:
        return rng.permutation(np.arange(count, dtype=np.uint8) % 10)

    return {TRAIN_IMAGES: images(30), TRAIN_LABELS: labels(30), TEST_IMAGES: images(20), TEST_LABELS: labels(20)}


ARRAYS = made_mnist()
CONTENT = {name: gzip.compress(idx(array), mtime=0) for name, array in ARRAYS.items()}


def known(content: dict[str, bytes], *mirrors: str) -> FileSet:
    files = (KnownFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items())
    return FileSet("mnist", tuple(files), mirrors)


def put(folder: Path, content: dict[str, bytes] = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def all_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No variable, home or mirror of the real world; MNIST is the made one. Returns the cache's folder for it."""
    for variable in ("FASTNN_DATA", "FASTNN_MIRROR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, NOBODY))
    return tmp_path / "cache" / "mnist"


Answer = bytes | Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Callable[[str], Answer]], "Server"]


class Server(ThreadingHTTPServer):
    """Serves each path by calling `reply(path)`: a content, or an answer of its own; keeps the paths asked for."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.reply(self.path)
        if callable(answer):
            answer(self)
        else:
            send(self, answer, len(answer))

    def log_message(self, *args: object) -> None:
        """Keeps quiet."""


def send(handler: BaseHTTPRequestHandler, body: bytes, stated: int) -> None:
    """`body`, under a Content-Length of `stated`."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(stated))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a Server."""
    servers: list[Server] = []

    def start(reply: Callable[[str], Answer]) -> Server:
        servers.append(Server(reply))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def content_of(path: str) -> bytes:
    return CONTENT[path.rpartition("/")[2]]


def assert_made(data: object, divisor: float = 255.0) -> None:
    for part, images, labels in (("train", TRAIN_IMAGES, TRAIN_LABELS), ("test", TEST_IMAGES, TEST_LABELS)):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        np.testing.assert_array_equal(x, ARRAYS[images][:, None].astype(np.float32) / np.float32(divisor), strict=True)
        np.testing.assert_array_equal(y, ARRAYS[labels])
        assert x.flags.c_contiguous
        assert x.flags.writeable
        assert y.flags.writeable


# ---------------------------------------------------------------------------------------------- the public functions


@pytest.mark.skipif(not REAL or not Path(REAL, "mnist").is_dir(), reason="no real MNIST: FASTNN_DATA does not hold it")
def test_real_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    data = mnist(download=False, divisor=256)
    assert data.x_train.shape == (60000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    assert data.x_train.max() == np.float32(255 / 256)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("divisor", [255.0, 256, 1])
def test_mnist_from_a_folder(tmp_path: Path, divisor: float) -> None:
    data = mnist(put(tmp_path / "mine"), divisor=divisor)
    assert_made(data, divisor)
    assert data.class_names == tuple("0123456789")
    assert "x_train: float32 (30, 1, 6, 5)" in repr(data)


@pytest.mark.parametrize("divisor", [0, -1.0, float("nan"), float("inf"), 1e-60])
def test_bad_divisor(divisor: float) -> None:
    with pytest.raises(ValueError, match="divisor must be positive"):
        mnist(divisor=divisor)


def test_digits() -> None:
    pytest.importorskip("sklearn")
    data = digits()
    assert data.x_train.shape == (1437, 1, 8, 8)
    assert data.x_test.shape == (360, 1, 8, 8)
    assert data.x_train.dtype == np.float32
    assert data.y_test.dtype == np.int64
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert np.ptp(np.bincount(data.y_test)) <= 2  # 34 to 37: stratified
    assert data.class_names == tuple("0123456789")
    np.testing.assert_array_equal(digits().x_test, data.x_test)
    assert not np.array_equal(digits(seed=1).x_test, data.x_test)
    assert len(digits(test_size=0.5).x_test) == 899


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "fastnn\[sklearn\]"'):
        digits()


def test_import_is_light() -> None:
    heavy = "{'sklearn', 'ssl', 'urllib.request', 'http.client', 'lzma', 'tqdm'}"
    script = "import sys, numpy; before = set(sys.modules); import fastnn.data; "
    script += f"print((set(sys.modules) - before) & {heavy})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# ------------------------------------------------------------------------------------------------------ IDX files


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4, 5), (2, 1, 3, 2)])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path: Path, shape: tuple[int, ...], compress: Callable[[bytes], bytes]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "file"
    path.write_bytes(compress(idx(array)))
    np.testing.assert_array_equal(read_idx(path), array, strict=True)
    np.testing.assert_array_equal(read_idx(str(path), ndim=len(shape)), array)


PLAIN = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
ZIPPED = gzip.compress(PLAIN, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: expected an IDX header, found 0 bytes"),
        (PLAIN[:3], "truncated: expected an IDX header, found 3 bytes"),
        (PLAIN[:10], "truncated: 3 dimensions need 12 bytes, found 6"),
        (PLAIN[:-1], r"truncated: shape \(2, 3, 4\) needs 24 bytes of data, found 23"),
        (PLAIN + b"!!", r"2 trailing bytes after the 24 of shape \(2, 3, 4\)"),
        (b"<htm" + PLAIN, "expected it to begin with 000008, found 3c68746d"),
        (b"\0\0\x0d\x01" + PLAIN[4:], "not an IDX file of unsigned bytes: .* found 00000d01"),
        (b"\0\0\x08\0!", "expected 1 to 32 dimensions, found 0"),
        (b"\0\0\x08\xff" + bytes(2000), "expected 1 to 32 dimensions, found 255"),
        (b"\0\0\x08\x02" + bytes(8), r"expected positive sizes, found shape \(0, 0\)"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated: shape .* needs 79228162458924105385300197375 bytes"),
        (ZIPPED[:-9], "truncated: the gzip stream breaks off"),
        (ZIPPED[:5], "truncated: the gzip stream breaks off after 5 bytes"),
        (ZIPPED[:-6] + bytes([ZIPPED[-6] ^ 1]) + ZIPPED[-5:], "corrupt gzip stream: CRC check failed"),
        (ZIPPED[:12] + bytes([ZIPPED[12] ^ 64]) + ZIPPED[13:], "corrupt gzip stream"),
        (ZIPPED + b"tail", "corrupt gzip stream: Not a gzipped file"),
        (gzip.compress(PLAIN + b"!", mtime=0), "1 trailing bytes"),
    ],
)
def test_idx_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"some-file: .*{message}"):
        read_idx(path)


def test_idx_wrong_dimension_count(tmp_path: Path) -> None:
    path = tmp_path / "some-file"
    path.write_bytes(PLAIN)
    with pytest.raises(DataError, match=r"expected 1 dimensions \(magic 00000801\), found 3 \(magic 00000803\)"):
        read_idx(path, ndim=1)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\0\0\x08", b"\0\0\x08\x01\0\0\0", b"\x1f\x8b\x08\0"]))
def test_any_bytes_are_an_array_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(start + content)
    with contextlib.suppress(DataError):
        assert read_idx(path).size > 0


# ------------------------------------------------------------------------------------------------ the search order


def paths(folder: Path) -> list[Path]:
    return [folder / name for name in CONTENT]


def test_search_order(tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(content_of)
    wanted = known(CONTENT, server.url)
    mine, shared = put(tmp_path / "mine"), tmp_path / "shared" / "mnist"
    assert locate(wanted, mine) == paths(mine)
    assert not server.asked
    assert locate(wanted) == paths(sandbox)
    assert server.asked == [f"/{name}" for name in CONTENT]
    monkeypatch.setenv("FASTNN_DATA", str(shared.parent))
    assert locate(wanted) == paths(sandbox)  # FASTNN_DATA lacks the set: on to the cache
    put(shared)
    assert locate(wanted) == paths(shared)
    assert locate(wanted, str(mine)) == paths(mine)
    (shared / TEST_LABELS).unlink()
    assert locate(wanted) == paths(sandbox)
    (sandbox / TEST_IMAGES).unlink()
    assert locate(wanted) == paths(sandbox)
    assert server.asked[4:] == [f"/{TEST_IMAGES}"]  # only what was missing


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FASTNN_CACHE": "{0}/a", "XDG_CACHE_HOME": "{0}/b"}, "a/mnist"),
        ({"FASTNN_CACHE": "", "XDG_CACHE_HOME": "{0}/b"}, "b/fastnn/mnist"),
        ({"FASTNN_CACHE": "", "XDG_CACHE_HOME": "relative"}, "home/.cache/fastnn/mnist"),
        ({"FASTNN_CACHE": "~/c"}, "home/c/mnist"),
    ],
)
def test_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    put(tmp_path / expected)
    assert_made(mnist(download=False))


def test_named_folder_is_the_only_one_searched(tmp_path: Path, sandbox: Path) -> None:
    put(sandbox)
    with pytest.raises(DataNotFoundError, match=r"mnist: .*/nowhere: no such folder"):
        mnist(tmp_path / "nowhere")
    mine = put(tmp_path / "mine")
    (mine / TRAIN_LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=f"mnist: .*/mine: missing {TRAIN_LABELS}$"):
        mnist(mine)


def test_nothing_found_and_no_download(tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataNotFoundError, match="FASTNN_DATA is not set"):
        mnist(download=False)
    shared = put(tmp_path / "shared" / "mnist")
    (shared / TEST_LABELS).unlink()
    monkeypatch.setenv("FASTNN_DATA", str(shared.parent))
    with pytest.raises(DataNotFoundError) as caught:
        mnist(download=False)
    assert f"FASTNN_DATA: {shared}: missing {TEST_LABELS}" in str(caught.value)
    assert f"the cache: {sandbox}: no such folder" in str(caught.value)


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FASTNN_CACHE")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="set FASTNN_CACHE"):
        mnist()


# ------------------------------------------------------------------------------------------------------ checksums


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-5], "truncated, or another file"),
        (lambda data: b"", "truncated, or another file: 0 bytes"),
        (flipped, "damaged, or another file"),
        (lambda data: data + b"\0", "longer than expected"),
    ],
)
@pytest.mark.parametrize("place", ["root", "FASTNN_DATA", "cache"])
def test_damaged_file_is_named(
    tmp_path: Path,
    sandbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[bytes], bytes],
    message: str,
    place: str,
) -> None:
    damaged = damage(CONTENT[name])
    folder = put(sandbox if place == "cache" else tmp_path / "folder" / "mnist", {**CONTENT, name: damaged})
    if place == "FASTNN_DATA":
        monkeypatch.setenv("FASTNN_DATA", str(folder.parent))
    with pytest.raises(DataError, match=message) as caught:
        mnist(folder if place == "root" else None, download=False)
    text = str(caught.value)
    assert str(folder / name) in text
    assert f"{len(damaged)} bytes" in text
    for content in (CONTENT[name], damaged):
        assert hashlib.sha256(content).hexdigest() in text
    if len(damaged) != len(CONTENT[name]):
        assert f"expected {len(CONTENT[name])}" in text


def test_swapped_files_are_recognised(tmp_path: Path) -> None:
    folder = put(tmp_path / "mine", {**CONTENT, TRAIN_IMAGES: CONTENT[TRAIN_LABELS]})
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES}: .*\(this is the content of {TRAIN_LABELS}\)"):
        mnist(folder)


def test_other_files_without_verification(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = {name: rng.integers(0, 256, (n, 3, 8), np.uint8) for name, n in ((TRAIN_IMAGES, 5), (TEST_IMAGES, 2))}
    own = {TRAIN_LABELS: np.arange(5, dtype=np.uint8), TEST_LABELS: np.array([9, 0], np.uint8), **images}
    folder = put(tmp_path / "own", {name: gzip.compress(idx(array)) for name, array in own.items()})
    with pytest.raises(DataError, match="SHA-256"):
        mnist(folder)
    data = mnist(folder, verify=False)
    assert data.x_train.shape == (5, 1, 3, 8)
    np.testing.assert_array_equal(data.x_test[:, 0], images[TEST_IMAGES] / np.float32(255))
    assert data.y_test.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAIN_LABELS, idx(np.zeros(29, np.uint8)), "expected 30 labels, one per image, got 29"),
        (TEST_LABELS, idx(np.r_[np.zeros(7), 10, np.zeros(12)].astype(np.uint8)), "labels 0..9, got 10 at index 7"),
        (TEST_IMAGES, idx(np.zeros((20, 5, 6), np.uint8)), r"expected \(6, 5\) as in train-.*, got \(5, 6\)"),
        (TRAIN_IMAGES, CONTENT[TRAIN_LABELS], "expected 3 dimensions"),
        (TRAIN_LABELS, CONTENT[TRAIN_IMAGES], "expected 1 dimensions"),
        (TRAIN_IMAGES, CONTENT[TRAIN_IMAGES][:-50], "gzip stream breaks off"),
        (TEST_IMAGES, flipped(CONTENT[TEST_IMAGES]), "corrupt gzip stream"),
    ],
)
def test_format_is_checked_without_verification(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = put(tmp_path / "own", {**CONTENT, name: content})
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        mnist(folder, verify=False)


# ------------------------------------------------------------------------------------------------------- download


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def garbled(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"what?\r\n\r\n")


def mirror_reply(path: str) -> Answer:
    """Mirrors in all states of repair, by the first folder of the path."""
    kind, data = path.split("/")[1], content_of(path)
    if kind == "none":
        return missing
    if kind == "short":
        return lambda handler: send(handler, data[:-7], len(data))
    if kind == "page":
        return b"<html>Please log in</html>"
    if kind == "wrong":
        return flipped(data)
    if kind == "long":
        return data + b"more"
    if kind == "garbled":
        return garbled
    assert kind == "good"
    return data


def test_mirrors_are_tried_in_turn(sandbox: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(mirror_reply)
    kinds = ["none", "short", "page", "wrong", "long", "garbled", "good"]
    mirrors = [NOBODY, "no-url", *(f"{server.url}/{kind}/" for kind in kinds)]
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, *mirrors))
    assert_made(mnist())
    assert server.asked == [f"/{kind}/{name}" for name in CONTENT for kind in kinds]
    assert all_in(sandbox) == sorted(CONTENT)
    assert {(sandbox / name).read_bytes() for name in CONTENT} == set(CONTENT.values())
    server.asked.clear()
    assert_made(mnist())
    assert not server.asked


def test_all_mirrors_fail(tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(mirror_reply)
    kinds = ["none", "short", "page", "wrong", "long", "garbled"]
    mirrors = [NOBODY, "no-url", *(f"{server.url}/{kind}" for kind in kinds)]
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, *mirrors))
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "shared"))
    with pytest.raises(DataError) as caught:
        mnist()
    reasons = dict(line.strip().split(f"/{TRAIN_IMAGES}: ") for line in str(caught.value).split("\n")[1:9])
    assert list(reasons) == [mirror.rstrip("/") for mirror in mirrors]
    size = len(CONTENT[TRAIN_IMAGES])
    for expected, reason in zip(
        [
            "Connection refused",
            "unknown url type",
            "HTTP 404 Not Found",
            f"truncated, or another file: {size - 7} bytes, expected {size}",
            f"truncated, or another file: 26 bytes, expected {size}",
            f"damaged, or another file: {size} bytes",
            f"longer than the expected {size} bytes",
            "what?",
        ],
        reasons.values(),
        strict=True,
    ):
        assert expected in reason
    assert f"FASTNN_DATA: {tmp_path / 'shared' / 'mnist'}: no such folder" in str(caught.value)
    assert f"the cache: {sandbox}: missing {', '.join(CONTENT)}" in str(caught.value)
    assert all_in(tmp_path) == []


def test_no_mirror_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT))
    with pytest.raises(DataError, match=f"mnist: {TRAIN_IMAGES} cannot be downloaded: no mirror is known"):
        mnist()


def test_own_mirror_comes_first(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    class_room, public = serve(lambda path: missing if TEST_LABELS in path else content_of(path)), serve(content_of)
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, public.url))
    monkeypatch.setenv("FASTNN_MIRROR", f"{class_room.url}/data/")
    assert_made(mnist())
    assert class_room.asked == [f"/data/mnist/{name}" for name in CONTENT]
    assert public.asked == [f"/{TEST_LABELS}"]


def test_damaged_cache_is_downloaded_again(sandbox: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(content_of)
    put(sandbox, {**CONTENT, TEST_IMAGES: CONTENT[TEST_IMAGES][:9]})
    with pytest.warns(UserWarning, match=f"{TEST_IMAGES}: truncated"), pytest.raises(DataError) as caught:
        mnist()  # nobody serves it
    assert f"{TEST_IMAGES}: truncated, or another file: 9 bytes" in str(caught.value)
    assert (sandbox / TEST_IMAGES).read_bytes() == CONTENT[TEST_IMAGES][:9]
    monkeypatch.setenv("FASTNN_MIRROR", server.url)
    with pytest.warns(UserWarning, match="downloading it again"):
        assert_made(mnist())
    assert server.asked == [f"/mnist/{TEST_IMAGES}"]


def test_silent_mirror_times_out(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    done = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        send(handler, b"some", 1000)
        done.wait(5)

    silent = serve(lambda path: stall)
    monkeypatch.setattr(download_module, "TIMEOUT", 0.1)
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, silent.url))
    with pytest.raises(DataError, match="timed out"):
        mnist()
    done.set()


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """Control-C while the second file's body is half-way."""
    seen: list[list[str]] = []
    done = threading.Event()

    def interrupt(handler: BaseHTTPRequestHandler) -> None:
        send(handler, CONTENT[TRAIN_LABELS][:9], len(CONTENT[TRAIN_LABELS]))
        seen.append(all_in(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)
        done.wait(5)

    server = serve(lambda path: interrupt if TRAIN_LABELS in path else content_of(path))
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, server.url))
    with pytest.raises(KeyboardInterrupt):
        mnist()
    done.set()
    assert len(seen[0]) == 2  # the first file and, at that time, a temporary one
    assert all_in(tmp_path) == [TRAIN_IMAGES]


def test_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, serve(content_of).url))
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written: .*FASTNN_CACHE"):
        mnist()


def test_several_downloads_at_once(sandbox: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    together = threading.Barrier(2)

    def hold(handler: BaseHTTPRequestHandler) -> None:
        """Half of the file, then the rest once the other download is as far."""
        data = content_of(handler.path)
        send(handler, data[:20], len(data))
        together.wait(5)
        handler.wfile.write(data[20:])

    server = serve(lambda path: hold if TRAIN_IMAGES in path else content_of(path))
    monkeypatch.setattr(mnist_module, "FILES", known(CONTENT, server.url))
    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(mnist) for _ in range(2)]:
            assert_made(result.result())
    assert server.asked.count(f"/{TRAIN_IMAGES}") == 2
    assert all_in(sandbox) == sorted(CONTENT)


def test_progress_bar(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """With tqdm and without it (None in sys.modules has an import fail)."""
    counts: list[int] = []

    class Bar:
        def __init__(self, **options: object) -> None:
            counts.append(-int(str(options["total"])))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None: ...

        update = staticmethod(counts.append)

    server = serve(content_of)
    for fake in (SimpleNamespace(tqdm=Bar), None):
        monkeypatch.setitem(sys.modules, "tqdm.auto", fake)
        target = Path(os.environ["FASTNN_CACHE"]) / ("bare" if fake is None else "bar")
        file = mnist_module.FILES.files[0]
        download_module.download_file(file, [f"{server.url}/{file.name}"], target)
        assert target.read_bytes() == CONTENT[file.name]
    assert counts[0] == -file.size
    assert sum(counts) == 0
