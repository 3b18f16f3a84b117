"""save and load: what comes back, what a damaged or hostile file does, and what is on the disk at every moment."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES

import fastnn as fn
from fastnn import init
from fastnn._kernels import Array
from fastnn.layers.layer import REGISTRY, Backward

safetensors_numpy = pytest.importorskip("safetensors.numpy")


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """Layers that a test registers are forgotten after it."""
    kept = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(kept)


def same_weights(a: fn.Layer, b: fn.Layer) -> bool:
    """Keys, their order, shapes, dtypes and bits."""
    one, two = a.state_dict(), b.state_dict()
    return list(one) == list(two) and all(
        one[key].shape == two[key].shape
        and one[key].dtype == two[key].dtype
        and one[key].tobytes() == two[key].tobytes()
        for key in one
    )


def structure(value: Any) -> Any:
    """Kinds, names and arguments of a layer and of all layers inside it, in their order."""
    if isinstance(value, fn.Layer):
        return type(value), value.name, structure(value.config())
    return [(key, structure(inner)) for key, inner in value.items()] if isinstance(value, dict) else value


def small() -> fn.Sequential:
    return fn.Sequential(fn.Linear(2, 3), fn.ReLU(), fn.Linear(3, 2))


def saved(model: fn.Layer, folder: Path) -> Path:
    path = folder / "model.safetensors"
    fn.save(model, path)
    return path


def refusal(path: Path, model: fn.Layer | None = None) -> str:
    """What `load` says, which always begins with the file's name."""
    with pytest.raises(fn.CheckpointError) as caught:
        fn.load(path, model)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# --- what comes back --------------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], fn.Layer]] = {
    **{f"layers: {name}": partial(make, dtype="float32") for name, (make, _, _) in CASES.items()},
    "linear": lambda: fn.Linear(3, 4),
    "linear without bias": lambda: fn.Linear(3, 4, bias=False),
    "linear float64": lambda: fn.Linear(3, 4, dtype="float64"),
    "conv": lambda: fn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    "conv without bias": lambda: fn.Conv2d(1, 2, 3, bias=False, dtype="float64"),
    "depthwise conv": lambda: fn.Conv2d(8, 8, 1, groups=8, bias=False),
    "dropout": lambda: fn.Dropout(0.25),
    "flatten": lambda: fn.Flatten(2, 3),
    "max pool": lambda: fn.MaxPool2d((3, 2), stride=2, padding=(1, 0), dilation=(1, 2), ceil_mode=True),
    "relu": fn.ReLU,
    "empty": fn.Sequential,
    "cnn": lambda: fn.Sequential(
        fn.Conv2d(1, 4, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Dropout(), fn.Linear(36, 5)
    ),
    "nested": lambda: fn.Sequential(fn.Sequential(fn.Linear(3, 3), fn.Sequential(fn.ReLU())), fn.Linear(3, 2)),
    "named": lambda: fn.Sequential({"größe": fn.Linear(2, 2), "b a": fn.Sequential({"x": fn.ReLU()})}),
    "names that need escapes": lambda: fn.Sequential({'q"\\': fn.Linear(2, 2), "sha256": fn.Linear(2, 1)}),
    "more than ten": lambda: fn.Sequential(*[fn.Linear(2, 2) for _ in range(12)]),
    "batch norm": lambda: fn.BatchNorm1d(5, 1e-3, None, biased_variance=True, dtype="float64"),
    "batch norm of nothing": lambda: fn.BatchNorm1d(5, affine=False, track_running_stats=False),
    "batch norm of images": lambda: fn.Sequential(fn.Conv2d(1, 3, 2), fn.BatchNorm2d(3, affine=False)),
    "layer norm": lambda: fn.LayerNorm((3, 4), 1e-3, bias=False),
    "layer norm without weight": lambda: fn.LayerNorm(3, elementwise_affine=False),
    "augmentation": lambda: fn.Sequential(
        fn.RandomCrop((8, 6), (1, 0), 0.5), fn.RandomShift((2, 1)), fn.RandomHorizontalFlip(0.3), fn.Cutout((3, 2), -1)
    ),
    "numpy sizes": lambda: fn.Linear(np.int64(3), np.int32(4)),
    "avg pool": lambda: fn.AvgPool2d((3, 2), 2, (1, 0), True, False, 5),
    "adaptive avg pool": lambda: fn.AdaptiveAvgPool2d((None, 3)),
    "transposed conv": lambda: fn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (1, 2)),
    "residual": lambda: fn.Residual(fn.Sequential(fn.Linear(3, 4), fn.ReLU()), fn.Linear(3, 4), fn.ReLU()),
    "plain residual": lambda: fn.Residual(fn.Linear(3, 3)),
    "branches": lambda: fn.Parallel(fn.Linear(3, 3), fn.Residual(fn.Linear(3, 3)), mode="concatenate", dim=-1),
    "named branches": lambda: fn.Parallel({"low": fn.Linear(2, 3), "high": fn.Linear(2, 4)}, mode="tuple"),
}


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = saved(model, tmp_path)
    loaded = fn.load(path)
    assert structure(loaded) == structure(model)
    assert same_weights(loaded, model)
    assert loaded.dtype == model.dtype
    other = MODELS[name]()
    assert fn.load(path, other) is other
    assert same_weights(other, model)
    second = tmp_path / "again"
    fn.save(loaded, second)
    assert second.read_bytes() == path.read_bytes()


def test_every_registered_layer_is_covered() -> None:
    found = {type(layer).__name__ for make in MODELS.values() for layer in make().modules()}
    covered = {name for name in found if not name.startswith("_")}  # parts of a BertModel are not found by name
    builtin = {name for name, cls in REGISTRY.items() if cls.__module__.startswith("fastnn.")}
    assert builtin == covered


def test_a_loaded_model_computes_and_trains_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 1, 8, 8)), rng.integers(0, 5, 40)
    model = MODELS["cnn"]()
    fn.fit(model, x, y, epochs=1)
    loaded = fn.load(saved(model, tmp_path))
    assert (loaded.scores(x) == model.scores(x)).all()
    histories = [fn.fit(m, x, y, epochs=2, seed=0).loss for m in (model, loaded)]
    assert histories[0] == histories[1]
    assert same_weights(model, loaded)


@given(
    st.sampled_from(["float32", "float64"]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 5e-324, 1.5]), min_size=1, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_every_bit_comes_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, i: int, o: int, values: list[float]
) -> None:
    model = fn.Linear(i, o, dtype=dtype)
    model.weight.data[...] = np.resize(np.array(values, dtype), (o, i))
    loaded = fn.load(saved(model, tmp_path_factory.getbasetemp()))
    assert same_weights(model, loaded)


def test_weights_are_in_c_order_under_pytorchs_keys(tmp_path: Path) -> None:
    model = MODELS["cnn"]()
    tensors = safetensors_numpy.load_file(saved(model, tmp_path))
    assert set(tensors) == {"0.weight", "0.bias", "5.weight", "5.bias"}
    for key, value in model.state_dict().items():
        assert (tensors[key] == value).all() and tensors[key].dtype == np.float32


def test_pytorch_reads_the_file_and_writes_one_that_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    model = MODELS["cnn"]()
    theirs = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()),
        *(torch.nn.Dropout(), torch.nn.Linear(36, 5)),
    ).eval()
    theirs.load_state_dict(load_file(saved(model, tmp_path)))
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(theirs(torch.from_numpy(x)).numpy(), model.scores(x), rtol=1e-5, atol=1e-5)

    path = tmp_path / "torch.safetensors"
    save_file(theirs.state_dict(), path)
    assert "no architecture" in refusal(path)
    assert same_weights(fn.load(path, MODELS["cnn"]()), model)
    save_file({"weight": torch.zeros(2, 2, dtype=torch.bfloat16)}, path)
    assert not fn.load(path, fn.Linear(2, 2, bias=False)).weight.data.any()  # type: ignore[attr-defined]


def test_weights_are_converted_to_the_given_models_dtype(tmp_path: Path) -> None:
    wide = fn.Linear(3, 2, dtype="float64")
    narrow = fn.load(saved(wide, tmp_path), fn.Linear(3, 2))
    assert narrow.dtype == "float32"
    assert (narrow.state_dict()["weight"] == wide.state_dict()["weight"].astype(np.float32)).all()


def test_loading_keeps_an_optimizer_attached(tmp_path: Path) -> None:
    model = small()
    path = saved(model, tmp_path)
    optimizer = fn.SGD(model.parameters(), lr=0.1)
    buffers = [p.data for p in model.parameters()]
    fn.load(path, model)
    assert all(p.data is data for p, data in zip(model.parameters(), buffers, strict=True))
    fn.fit(model, np.ones((4, 2)), np.zeros(4, int), optimizer=optimizer, epochs=1)
    assert not same_weights(model, fn.load(path))


def test_loading_draws_nothing(tmp_path: Path) -> None:
    path = saved(small(), tmp_path)
    fn.manual_seed(3)
    expected = init.generator().random()
    fn.manual_seed(3)
    fn.load(path)
    assert init.generator().random() == expected


def test_importing_fastnn_does_not_import_safetensors() -> None:
    code = "import sys, fastnn; sys.exit('safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- tied parameters --------------------------------------------------------------------------------------------------


def tied() -> fn.Sequential:
    a, b, c = fn.Linear(3, 3), fn.Linear(3, 3), fn.Linear(3, 3)
    b.weight = a.weight
    c.weight, c.bias = a.weight, b.bias
    return fn.Sequential(a, fn.Sequential(b, c))


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    model = tied()
    path = saved(model, tmp_path)
    loaded = fn.load(path)
    assert same_weights(loaded, model)
    assert [key for key, _ in loaded.named_parameters()] == [key for key, _ in model.named_parameters()]
    x, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 3
    for each in (model, loaded):
        fn.fit(each, x, y, epochs=2, seed=0)
    assert same_weights(loaded, model)
    assert same_weights(fn.load(path, tied()), fn.load(path))


def test_a_layer_used_twice_stays_one(tmp_path: Path) -> None:
    layer = fn.Linear(3, 3)
    loaded = fn.load(saved(fn.Sequential(layer, fn.ReLU(), layer), tmp_path))
    assert len(list(loaded.parameters())) == 2
    assert len(loaded.state_dict()) == 4


# --- models without an architecture -----------------------------------------------------------------------------------


class Doubled(fn.Layer):
    """A layer of a user's own."""

    def __init__(self, features: int) -> None:
        self.inner = fn.Linear(features, features)

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        y, backward = self.inner.forward(x, train)
        return y + y, lambda dy, need_dx=True: backward(dy + dy, need_dx)


class Described(Doubled):
    """The same, with a description."""

    def config(self) -> dict[str, Any]:
        return {"features": self.inner.in_features}


@pytest.mark.parametrize("make", [Doubled, Described])
def test_without_an_architecture_a_model_is_needed(make: type[Doubled], tmp_path: Path) -> None:
    model = fn.Sequential(make(2), fn.ReLU())
    path = saved(model, tmp_path)
    reason = "Described is not registered" if make is Described else "Doubled"
    message = refusal(path)
    assert reason in message and "model=" in message
    assert same_weights(fn.load(path, fn.Sequential(make(2), fn.ReLU())), model)


def test_a_registered_layer_comes_back(tmp_path: Path) -> None:
    fn.register(Described)
    model = fn.Sequential(Described(2), fn.ReLU())
    path = saved(model, tmp_path)
    loaded = fn.load(path)
    assert isinstance(loaded, fn.Sequential) and type(loaded[0]) is Described
    assert same_weights(loaded, model)
    del REGISTRY["Described"]
    message = refusal(path)
    assert "unknown layer 'Described'" in message
    assert all(word in message for word in ("Conv2d", "Flatten", "register", "load(path, model=...)"))
    assert same_weights(fn.load(path, fn.Sequential(Described(2), fn.ReLU())), model)


def test_a_config_that_is_not_json_is_no_architecture(tmp_path: Path) -> None:
    @fn.register
    class Odd(fn.Linear):
        def config(self) -> dict[str, Any]:
            return {"function": len}

    path = saved(Odd(2, 2), tmp_path)
    assert "not JSON serializable" in refusal(path)
    assert fn.load(path, Odd(2, 2)).state_dict().keys() == {"weight", "bias"}


def test_a_subclass_of_sequential_comes_back(tmp_path: Path) -> None:
    @fn.register
    class Block(fn.Sequential):
        pass

    assert type(fn.load(saved(Block(fn.Linear(2, 2)), tmp_path))) is Block


@pytest.mark.parametrize("bad", [None, {}, fn.Linear])
def test_only_layers_are_saved_and_filled(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^save: expected a layer"):
        fn.save(bad, tmp_path / "m")
    assert not list(tmp_path.iterdir())
    if bad is not None:
        with pytest.raises(TypeError, match=r"^load: expected a layer"):
            fn.load(saved(small(), tmp_path), bad)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_model", [False, True])
def test_any_changed_byte_is_noticed(given_model: bool, tmp_path: Path) -> None:
    path = saved(fn.Linear(2, 2), tmp_path)
    good = path.read_bytes()
    model = fn.Linear(2, 2) if given_model else None
    for i in range(len(good)):
        bad = bytearray(good)
        bad[i] ^= 1 << i % 8
        path.write_bytes(bad)
        refusal(path, model)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_other_change_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = saved(fn.Linear(2, 2), folder)
    good = path.read_bytes()
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, min(len(good), start + 20)))
    bad = good[:start] + data.draw(st.binary(max_size=20)) + good[stop:]
    if bad != good:
        path.write_bytes(bad)
        refusal(path)


def test_any_truncation_is_noticed(tmp_path: Path) -> None:
    path = saved(small(), tmp_path)
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        refusal(path)
    path.write_bytes(good + b"\0")
    refusal(path)


def test_a_changed_weight_is_called_damage(tmp_path: Path) -> None:
    path = saved(small(), tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert refusal(path).startswith("damaged: its SHA-256 is ")
    assert refusal(path, small()).startswith("damaged: its SHA-256 is ")


@pytest.mark.parametrize(
    "content", [b"", b"12345678", b"\x80\x04\x95pickle", b"PK\x03\x04" + bytes(100), b"{}", bytes(64), b"\xff" * 64]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert "no safetensors file" in refusal(path)
    assert "no safetensors file" in refusal(path, small())


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        fn.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(IsADirectoryError):
        fn.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fn.save(small(), tmp_path / "nowhere" / "m")


def test_other_models_are_refused_and_not_changed(tmp_path: Path) -> None:
    path = saved(small(), tmp_path)
    for model, reason in (
        (fn.Sequential(fn.Linear(2, 3)), "unexpected: ['2.bias', '2.weight']"),
        (fn.Sequential(fn.Linear(2, 3), fn.Linear(3, 3), fn.Linear(3, 2)), "lacks ['1.weight', '1.bias']"),
        (fn.Sequential(fn.Linear(2, 3), fn.ReLU(), fn.Linear(3, 4)), "expected 2.weight of shape (4, 3), got (2, 3)"),
    ):
        before = model.state_dict()
        assert reason in refusal(path, model)
        assert all((value == before[key]).all() for key, value in model.state_dict().items())


# --- hostile files: the digest is right, the rest is not --------------------------------------------------------------


def forged(path: Path, about: dict[str, Any], tensors: dict[str, Array] | None = None) -> Path:
    """A file as fastnn would write it, with any content."""
    about = {
        **{
            "format": 1,
            "fastnn_version": "0.1.0",
            "dtype": "float32",
            "architecture": None,
            "reason": None,
            "tied": [],
        },
        **about,
        "sha256": "0" * 64,
    }
    weights = {"weight": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)} if tensors is None else tensors
    data = safetensors_numpy.save(weights, metadata={"fastnn": json.dumps(about)})
    path.write_bytes(data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1))
    return path


def layer(name: Any, **config: Any) -> dict[str, Any]:
    return {"layer": name, "config": config}


def test_a_forged_file_is_well_formed(tmp_path: Path) -> None:
    path = forged(tmp_path / "m", {"architecture": layer("Linear", in_features=2, out_features=2)})
    assert isinstance(fn.load(path), fn.Linear)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = forged(tmp_path / "m", {"format": 2, "fastnn_version": "9.1"})
    for model in (None, fn.Linear(2, 2)):
        assert "format 2, written by fastnn 9.1; this version reads 1" in refusal(path, model)


#: A chain of layers, one inside the other, deeper than Python can follow.
DEEP = {"layer": "ReLU", "config": {}}
for _ in range(300):
    DEEP = layer("Sequential", layers={"0": DEEP})

HOSTILE: dict[str, tuple[Any, str]] = {
    "number": (3, "is no layer: 3"),
    "text": ("Linear", "is no layer: 'Linear'"),
    "list": ([layer("ReLU")], "is no layer: "),
    "no layer": ({"a": 1}, "is no layer: "),
    "unknown": (layer("os.system", command="x"), "unknown layer 'os.system'"),
    "no name": (layer(None), "unknown layer None"),
    "list as name": (layer(["Linear"]), "unknown layer ['Linear']"),
    "wrong arguments": (layer("Linear", a=1), "no Linear can be made from {'a': 1}: "),
    "arguments as list": ({"layer": "Linear", "config": [2, 2]}, "no Linear can be made"),
    "no arguments": ({"layer": "Linear", "config": None}, "no Linear can be made"),
    "negative": (layer("Linear", in_features=-1, out_features=2), "no Linear can be made"),
    "text as size": (layer("Linear", in_features="2", out_features=2), "no Linear can be made"),
    "dtype": (layer("Linear", in_features=2, out_features=2, dtype="object"), "no Linear can be made"),
    "layers as list": (layer("Sequential", layers=[layer("ReLU")]), "no Sequential can be made"),
    "layers missing": (layer("Sequential"), "no Sequential can be made"),
    "no layers": (layer("Sequential", layers={"0": 3}), "no Sequential can be made"),
    "dot in name": (layer("Sequential", layers={"a.b": layer("ReLU")}), "no Sequential can be made"),
    "other shape": (layer("Linear", in_features=1, out_features=2), "expected weight of shape (2, 1), got (2, 2)"),
    "other keys": (layer("Sequential", layers={"0": layer("Linear", in_features=2, out_features=2)}), "lacks "),
    "long": (layer("x" * 10**5), "unknown layer 'xxx"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_architectures(case: str, tmp_path: Path) -> None:
    architecture, message = HOSTILE[case]
    found = refusal(forged(tmp_path / "m", {"architecture": architecture}))
    assert message in found
    assert len(found) < 1000


@pytest.mark.parametrize("digest", [None, 3, "", "0" * 64, "x" * 64, "é" * 64, "\ud800" * 64, ["0" * 64]])
def test_hostile_digests(digest: Any, tmp_path: Path) -> None:
    about = {"format": 1, "fastnn_version": "0.1.0", "architecture": layer("ReLU"), "tied": [], "sha256": digest}
    path = tmp_path / "m"
    path.write_bytes(safetensors_numpy.save({}, metadata={"fastnn": json.dumps(about)}))
    assert "SHA-256" in refusal(path)
    path.write_bytes(safetensors_numpy.save({}, metadata={"fastnn": json.dumps([about])}))
    assert "SHA-256" in refusal(path, fn.ReLU())


def test_deep_nesting(tmp_path: Path) -> None:
    refusal(forged(tmp_path / "m", {"architecture": DEEP}))
    path = tmp_path / "n"
    text = '{"a":' * 100_000
    path.write_bytes(safetensors_numpy.save({}, metadata={"fastnn": text}))
    assert "damaged" in refusal(path)


BILLION = 10**9
HUGE = [
    layer("Linear", in_features=BILLION, out_features=BILLION),
    layer("Linear", in_features=10**30, out_features=1),
    layer("Linear", in_features=60_000, out_features=60_000),
    layer("Linear", in_features=1, out_features=BILLION),
    layer("Conv2d", in_channels=1, out_channels=1, kernel_size=[BILLION, BILLION]),
    layer("Conv2d", in_channels=BILLION, out_channels=BILLION, kernel_size=1, groups=BILLION),
    layer("BatchNorm1d", num_features=BILLION),
    layer("BatchNorm2d", num_features=65_536, affine=False),
    layer("LayerNorm", normalized_shape=[60_000, 60_000]),
    layer("Sequential", layers={str(i): layer("Linear", in_features=2, out_features=2) for i in range(20_000)}),
]


@pytest.mark.parametrize("architecture", HUGE, ids=lambda a: f"{a['layer']}-{next(iter(a['config'].values()))}"[:30])
def test_a_small_file_cannot_ask_for_much_memory(architecture: dict[str, Any], tmp_path: Path) -> None:
    path = forged(tmp_path / "m", {"architecture": architecture})
    tracemalloc.start()
    refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6 + 40 * path.stat().st_size


@pytest.mark.parametrize(
    "key", ["nothing", "weight.data", "", ".", "forward", "__class__", "name", 3, None, ["weight"]]
)
def test_hostile_ties(key: Any, tmp_path: Path) -> None:
    architecture = layer("Linear", in_features=2, out_features=2)
    for keys in (["weight", key], [key, "weight"], [key]):
        assert "ties" in refusal(forged(tmp_path / "m", {"architecture": architecture, "tied": [keys]}))


def test_ties_of_different_shapes(tmp_path: Path) -> None:
    architecture = layer("Linear", in_features=2, out_features=2)
    groups: list[Any] = [[["weight", "bias"]], 3, None, "weight", [[]], [3]]
    for tied in groups:
        assert "ties" in refusal(forged(tmp_path / "m", {"architecture": architecture, "tied": tied}))


def test_huge_sizes_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for shape, end in (([BILLION, BILLION], 16), ([2, 2], 10**15), ([2**63, 4], 0)):
        header = json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
        assert "no safetensors file" in refusal(path, fn.Linear(2, 2, bias=False))


# --- on the disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = small()
    path = saved(old, tmp_path)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            fn.save(small(), path)
    assert list(tmp_path.iterdir()) == [path]
    assert same_weights(fn.load(path), old)


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    old = small()
    path = saved(old, tmp_path)
    with path.open("rb") as reader:  # someone reads while it is saved
        first = reader.read(10)
        fn.save(fn.Linear(50, 50), path)
        assert (first + reader.read()).count(b"fastnn_version") == 1
    assert isinstance(fn.load(path), fn.Linear)
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "m", tmp_path / "link"
    for link_to in (target, Path("real/m")):  # at first it dangles
        link.unlink(missing_ok=True)
        link.symlink_to(link_to)
        model = small()
        fn.save(model, link)
        assert link.is_symlink() and target.is_file() and not target.is_symlink()
        assert same_weights(fn.load(link), model)
    assert {p.name for p in tmp_path.iterdir()} == {"real", "link"}


def test_permissions(tmp_path: Path) -> None:
    path = saved(small(), tmp_path)
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode  # as any other new file
    path.chmod(0o640)
    fn.save(small(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_paths_may_be_text_and_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = small()
    fn.save(model, "m.safetensors")
    assert same_weights(fn.load("m.safetensors"), model)
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(fn.CheckpointError, match=r"^bad: "):
        fn.load("bad")
