"""Weights from PyTorch and to it, by safetensors files: every layer that both have, whatever lies how in the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import CASES, assert_close, drawn, every_case, every_dtype, random

import fastnn as fn
from fastnn._kernels import Array

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


def twins(case: str, dtype: str = "float32") -> tuple[fn.Layer, Any, Array]:
    """A layer, PyTorch's with other weights, and an input."""
    make, make_theirs, shape = CASES[case]
    theirs = make_theirs(torch.nn).to(getattr(torch, dtype)).eval()
    for buffer in theirs.buffers():  # running statistics as after a training
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return make(dtype=dtype), theirs, drawn(shape, dtype)


def each(y: Any) -> tuple[Any, ...]:
    """The arrays of an output that may be a tuple."""
    return y if isinstance(y, tuple) else (y,)


def assert_same_outputs(ours: fn.Layer, theirs: Any, x: Array) -> None:
    with torch.no_grad():
        found, expected = ours(x), theirs(torch.from_numpy(x))
    for y, ty in zip(each(found), each(expected), strict=True):
        assert_close(y, ty.numpy(), ours.dtype if x.dtype.kind == "i" else x.dtype.name, "y")


# --- every layer ------------------------------------------------------------------------------------------------------


@every_case
@every_dtype
def test_from_pytorch(case: str, dtype: str, tmp_path: Path) -> None:
    ours, theirs, x = twins(case, dtype)
    safetensors_torch.save_model(theirs, tmp_path / "m")
    assert fn.load(tmp_path / "m", ours) is ours
    assert_same_outputs(ours, theirs, x)
    safetensors_torch.save_file({key: t.clone() for key, t in theirs.state_dict().items()}, tmp_path / "n")
    for key, value in fn.load(tmp_path / "n", CASES[case][0](dtype=dtype)).state_dict().items():
        assert (value == theirs.state_dict()[key].numpy()).all()


@every_case
@every_dtype
def test_to_pytorch(case: str, dtype: str, tmp_path: Path) -> None:
    ours, theirs, x = twins(case, dtype)
    fn.save(ours, tmp_path / "m")
    state = safetensors_torch.load_file(tmp_path / "m")
    wanted = theirs.state_dict()
    assert {key: (t.shape, t.dtype) for key, t in state.items()} == {
        key: (t.shape, t.dtype) for key, t in wanted.items()
    }
    theirs.load_state_dict(state, strict=True)
    assert_same_outputs(ours, theirs, x)
    assert safetensors_torch.load_model(theirs, tmp_path / "m", strict=True) == (set(), [])


@every_case
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_from_half_precision(case: str, dtype: str, tmp_path: Path) -> None:
    """Every number of half precision is one of float32."""
    ours, theirs, x = twins(case)
    safetensors_torch.save_model(theirs.to(getattr(torch, dtype)), tmp_path / "m")
    assert fn.load(tmp_path / "m", ours).dtype == "float32"
    assert_same_outputs(ours, theirs.to(torch.float32), x)


@every_case
def test_from_channels_last(case: str, tmp_path: Path) -> None:
    ours, theirs, x = twins(case)
    theirs = theirs.to(memory_format=torch.channels_last)
    safetensors_torch.save_model(theirs, tmp_path / "m")
    fn.load(tmp_path / "m", ours)
    assert_same_outputs(ours, theirs, x)
    again = CASES[case][0](dtype="float32")
    again.load_state_dict(theirs.state_dict())  # tensors as they lie in memory
    assert_same_outputs(again, theirs, x)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_special_numbers_of_bfloat16(tmp_path: Path) -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf"), float("nan"), 1e-40, 3.3e38, 1e-3])
    safetensors_torch.save_file({"bias": values.bfloat16(), "weight": torch.ones(10, 1)}, tmp_path / "m")
    layer = fn.load(tmp_path / "m", fn.Linear(1, 10))
    found = layer.state_dict()["bias"]
    assert found.tobytes() == values.bfloat16().float().numpy().tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "bool", "float16", "float32", "float64"])
def test_numbers_of_any_kind_are_converted(dtype: str, tmp_path: Path) -> None:
    weight = torch.tensor([[1, 0], [3, 1]]).to(getattr(torch, dtype))
    safetensors_torch.save_file({"weight": weight}, tmp_path / "m")
    layer = fn.load(tmp_path / "m", fn.Linear(2, 2, bias=False))
    assert (layer.state_dict()["weight"] == weight.numpy()).all()


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64"])
def test_numbers_that_are_no_weights_are_refused(dtype: str, tmp_path: Path) -> None:
    safetensors_torch.save_file({"weight": torch.ones(2, 2).to(getattr(torch, dtype))}, tmp_path / "m")
    with pytest.raises(fn.CheckpointError, match=r"it holds numbers of type (F8_E4M3|C64), which"):
        fn.load(tmp_path / "m", fn.Linear(2, 2, bias=False))


# --- tied parameters --------------------------------------------------------------------------------------------------


def tied(tie: bool = True) -> tuple[fn.Sequential, Any]:
    ours = fn.Sequential(*(fn.Linear(4, 4) for _ in range(3)))
    theirs = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    for model in (ours, theirs):
        if tie:
            model[2].weight = model[0].weight
    return ours, theirs.eval()


@pytest.mark.parametrize("tie", [True, False])
def test_ties_that_pytorch_leaves_out(tie: bool, tmp_path: Path) -> None:
    """Whether or not our model ties them as well."""
    ours, theirs = tied(tie)[0], tied()[1]
    safetensors_torch.save_model(theirs, tmp_path / "m")
    assert set(safetensors_torch.load_file(tmp_path / "m")) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.bias"}
    fn.load(tmp_path / "m", ours)
    assert_same_outputs(ours, theirs, random((3, 4), "float32"))
    assert (ours[2].weight is ours[0].weight) == tie


@pytest.mark.parametrize("kept", ["0.weight", "2.weight"])
def test_ties_that_are_left_out_without_a_word(kept: str, tmp_path: Path) -> None:
    ours, theirs = tied()
    state = {key: t for key, t in theirs.state_dict().items() if key == kept or key not in ("0.weight", "2.weight")}
    safetensors_torch.save_file(state, tmp_path / "m")
    fn.load(tmp_path / "m", ours)
    assert_same_outputs(ours, theirs, random((3, 4), "float32"))
    with pytest.raises(fn.CheckpointError, match=r"lacks \['[02]\.weight'\]"):
        fn.load(tmp_path / "m", tied(False)[0])


def test_ties_to_pytorch(tmp_path: Path) -> None:
    """Our file holds all keys, so that a plain load_state_dict takes it."""
    ours, theirs = tied()
    fn.save(ours, tmp_path / "m")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "m"), strict=True)
    assert_same_outputs(ours, theirs, random((3, 4), "float32"))


def test_metadata_of_others_is_not_taken_for_ties(tmp_path: Path) -> None:
    layer = fn.Linear(2, 2)
    state = {key: torch.from_numpy(value) for key, value in layer.state_dict().items()}
    safetensors_torch.save_file(state, tmp_path / "m", metadata={"format": "pt", "bias": "weight", "note": "é"})
    assert (fn.load(tmp_path / "m", fn.Linear(2, 2)).state_dict()["bias"] == layer.state_dict()["bias"]).all()


def test_metadata_may_be_null(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": None, "weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}})
    data = len(header).to_bytes(8, "little") + header.encode() + np.float32(3).tobytes()
    (tmp_path / "m").write_bytes(data)
    assert fn.load(tmp_path / "m", fn.Linear(1, 1, bias=False)).state_dict()["weight"] == 3


# --- other files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["state", "model", "old format"])
def test_pickles_are_refused_with_the_way_out(what: str, tmp_path: Path) -> None:
    model, path = torch.nn.Linear(2, 2), tmp_path / "m.pt"
    saved = model if what == "model" else model.state_dict()
    torch.save(saved, path, _use_new_zipfile_serialization=what != "old format")
    for into in (None, fn.Linear(2, 2)):
        with pytest.raises(fn.CheckpointError, match=r"m\.pt: no safetensors file but a pickle.*torch\.load"):
            fn.load(path, into)
    if what != "model":  # and the way out leads out
        safetensors_torch.save_file(torch.load(path, weights_only=True), tmp_path / "m.safetensors")
        loaded = fn.load(tmp_path / "m.safetensors", fn.Linear(2, 2))
        assert_same_outputs(loaded, model, random((3, 2), "float32"))


def test_a_header_as_long_as_a_pickles_first_bytes_is_read(tmp_path: Path) -> None:
    """The first bytes of a safetensors file are its header's size, which may look like those of a pickle."""
    layer, about = fn.Linear(1, 1), ""
    while True:
        safetensors_torch.save_file({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, tmp_path / "m", {"a": about})
        data = (tmp_path / "m").read_bytes()
        if data[:2] == b"\x80\x02":
            break
        about += "x"
        assert len(about) < 1000
    assert (fn.load(tmp_path / "m", layer).state_dict()["weight"] == 1).all()


def test_keys_with_a_prefix_are_named(tmp_path: Path) -> None:
    state = {f"module.{key}": t for key, t in torch.nn.Linear(2, 2).state_dict().items()}
    safetensors_torch.save_file(state, tmp_path / "m")
    with pytest.raises(fn.CheckpointError, match=r"lacks \['weight', 'bias'\], unexpected: \['module\.bias'"):
        fn.load(tmp_path / "m", fn.Linear(2, 2))


def test_reading_pytorchs_file_needs_no_pytorch(tmp_path: Path) -> None:
    safetensors_torch.save_model(torch.nn.Linear(2, 2), tmp_path / "m")
    code = (
        "import sys, fastnn, json\n"
        f"layer = fastnn.load({json.dumps(str(tmp_path / 'm'))}, fastnn.Linear(2, 2))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_big_endian_machine_would_read_the_same() -> None:
    """Types in the file are little-endian, whatever the machine is."""
    from fastnn.checkpoint import _TYPES

    assert all(np.dtype(name).itemsize == 1 or name.startswith("<") for name in _TYPES.values())
