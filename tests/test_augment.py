"""Augmentation: what is drawn, its gradient, and that it depends on nothing but seed, layer, step and image."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_native

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.gradcheck import numerical_gradient

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

LAYERS: dict[str, Callable[[], Any]] = {
    "crop": lambda: fn.RandomCrop((5, 4), (2, 1)),
    "inner crop": lambda: fn.RandomCrop(3),
    "filled crop": lambda: fn.RandomCrop(6, 2, fill=0.5),
    "shift": lambda: fn.RandomShift((1, 3)),
    "flip": lambda: fn.RandomHorizontalFlip(),
    "cutout": lambda: fn.Cutout((3, 2)),
    "filled cutout": lambda: fn.Cutout(3, fill=-1),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def images(N: int = 6, C: int = 3, H: int = 6, W: int = 7, dtype: str = "float64", seed: int = 0) -> Array:
    """Numbers of which no two are alike, none of them 0, from 1 to 2."""
    size = N * C * H * W
    values: Array = 1 + np.random.default_rng(seed).permutation(size).reshape(N, C, H, W) / size
    return values.astype(dtype)


def trained(layer: fn.Layer, x: Array) -> Array:
    y: Array = layer.forward(x, train=True)[0]
    return y


# --- what is drawn ----------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_come_up(backend: str, dtype: str) -> None:
    x = images(2000, 2, 4, 5, dtype)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)), constant_values=0.5)
    with fn.use_backend(backend):
        y = trained(fn.RandomCrop((3, 5), (1, 2), fill=0.5), x)
    assert y.shape == (2000, 2, 3, 5) and y.dtype == dtype
    places = {(h, w): (padded[:, :, h : h + 3, w : w + 5] == y).all((1, 2, 3)) for h in range(4) for w in range(5)}
    counts = np.array([same.sum() for same in places.values()])
    assert counts.sum() >= 2000 and np.stack(list(places.values())).any(0).all()
    assert abs(counts - 100).max() < 5 * 10


@every_backend
def test_a_shift_keeps_the_size(backend: str) -> None:
    x = images(500, 1, 6, 6)
    with fn.use_backend(backend):
        y = trained(fn.RandomShift((2, 0)), x)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (0, 0)))
    same = np.stack([(padded[:, :, h : h + 6] == y).all((1, 2, 3)) for h in range(5)])
    assert same.any(0).all() and (same.sum(1) > 60).all()


@every_backend
@every_dtype
@pytest.mark.parametrize("C", [1, 3, 5])
@pytest.mark.parametrize("p", [0.2, 0.5, 1.0])
def test_a_flip_mirrors_a_share_of_the_images(backend: str, dtype: str, C: int, p: float) -> None:
    x = images(2000, C, 2, 5, dtype)
    with fn.use_backend(backend):
        y = trained(fn.RandomHorizontalFlip(p), x)
    mirrored, same = (y == x[..., ::-1]).all((1, 2, 3)), (y == x).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - p) < 5 * math.sqrt(p * (1 - p) / 2000) + 1e-12


@every_backend
@every_dtype
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 4), (20, 3)])
def test_cutout_blanks_one_rectangle_around_any_pixel(backend: str, dtype: str, size: tuple[int, int]) -> None:
    x = images(1500, 3, 5, 6, dtype)
    with fn.use_backend(backend):
        y = trained(fn.Cutout(size, fill=-2), x)
    blank = y == -2
    assert (blank == blank[:, :1]).all() and (y[~blank] == x[~blank]).all()
    expected = np.zeros((5, 6))
    for h, w in np.ndindex(5, 6):  # each centre as often as any other
        top, left = h - size[0] // 2, w - size[1] // 2
        rectangle = np.zeros((5, 6), bool)
        rectangle[max(top, 0) : top + size[0], max(left, 0) : left + size[1]] = True
        expected += rectangle / 30
        assert (blank[:, 0] == rectangle).all((1, 2)).any()
    np.testing.assert_allclose(blank[:, 0].mean(0), expected, atol=0.07)


@every_layer
def test_nothing_happens_outside_of_training_but_for_the_size(name: str) -> None:
    layer, x = LAYERS[name](), images()
    y, backward = layer.forward(x)
    assert (layer.state[2:] == 0).all()
    if name == "crop":
        assert (y == x[:, :, :5, 1:5]).all()
    elif name == "inner crop":
        assert (y == x[:, :, 1:4, 2:5]).all()
    elif name == "filled crop":
        assert (y == x[:, :, :, :6]).all()
    else:
        assert (y == x).all() and (backward(x) == x).all()
    assert backward(y, need_dx=False) is None


def test_a_crop_larger_than_the_image_is_padded_outside_of_training_too() -> None:
    x = images(2, 1, 3, 3)
    y = fn.RandomCrop(5, 1, fill=7)(x)
    assert (y == np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=7)).all()


# --- gradients --------------------------------------------------------------------------------------------------------


@every_backend
@every_layer
def test_gradients_are_the_numerical_ones(name: str, backend: str) -> None:
    layer, x = LAYERS[name](), images(4, 2)

    def forward(x: Array) -> Array:
        layer.reseed(3, 5)
        return trained(layer, x)

    with fn.use_backend(backend):
        layer.reseed(3, 5)
        y, backward = layer.forward(x, train=True)
        dy = images(*y.shape, seed=1)
        dx = backward(dy)
        np.testing.assert_allclose(dx, numerical_gradient(forward, x, dy), atol=1e-7)
        assert backward(dy, need_dx=False) is None
        y, backward = layer.forward(x)  # and of the window in the middle
        np.testing.assert_allclose(backward(dy), numerical_gradient(layer, x, dy), atol=1e-7)


# --- the same bits ----------------------------------------------------------------------------------------------------


def steps(layer: Any, x: Array, count: int = 3) -> list[bytes]:
    return [np.ascontiguousarray(trained(layer, x)).tobytes() for _ in range(count)]


@every_layer
def test_each_step_is_new_and_a_seed_begins_again(name: str) -> None:
    layer, other, x = LAYERS[name](), LAYERS[name](), images(20)
    layer.reseed(1, 0)
    first = steps(layer, x)
    assert len(set(first)) == 3
    other.reseed(1, 0)
    assert steps(other, x) == first
    kept = pickle.loads(pickle.dumps(layer))
    later = steps(layer, x)
    assert steps(kept, x) == later and not set(first) & set(later)
    for seed, number in ((1, 1), (2, 0)):
        layer.reseed(seed, number)
        assert not set(first) & set(steps(layer, x))
    fn.manual_seed(4)
    made = LAYERS[name]()
    fn.manual_seed(4)
    assert steps(LAYERS[name](), x) == steps(made, x)
    assert (copy.deepcopy(made).state[:2] != made.state[:2]).any()


@every_layer
def test_an_image_is_changed_alike_in_any_batch_layout_backend_and_number_of_threads(name: str, threads: None) -> None:
    layer, x = LAYERS[name](), images(50)
    results = []
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for count, backend in ((1, "reference"), *((n, next(reversed(backends()))) for n in (1, 2, 3))):
        for same in (x, channels_last, x[:, :, ::-1].copy()[:, :, ::-1]):
            fn.set_num_threads(count)
            layer.reseed(1, 0)
            with fn.use_backend(backend):
                results.append(trained(layer, same))
    assert all((y == results[0]).all() for y in results)
    layer.reseed(1, 0)
    assert (trained(layer, x[:7]) == results[0][:7]).all()


# --- in a network -----------------------------------------------------------------------------------------------------


def network(dtype: str = "float32") -> fn.Sequential:
    """Augmentation below everything, and above a layer that is trained, so that gradients pass through it as well."""
    return fn.Sequential(
        *(fn.RandomCrop(8, 2), fn.RandomHorizontalFlip(), fn.Cutout(3), fn.Conv2d(3, 4, 3, dtype=dtype)),
        *(fn.RandomShift(1), fn.RandomHorizontalFlip(), fn.RandomCrop(5), fn.Cutout(2), fn.ReLU()),
        *(fn.Flatten(), fn.Linear(100, 3, dtype=dtype)),
    )


def data(N: int = 40, dtype: str = "float32") -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 3, 8, 8)).astype(dtype), rng.integers(0, 3, N)


def bits(model: fn.Layer) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in model.state_dict().items()}


@needs_native
@every_dtype
def test_a_captured_step_is_the_eager_one_to_the_bit(dtype: str) -> None:
    x, y = data(dtype=dtype)
    results = []
    for captured in (False, True):
        fn.manual_seed(1)
        model, loss = network(dtype), fn.CrossEntropyLoss()
        optimizer = fn.SGD(model.parameters(), lr=0.1, momentum=0.9)
        losses = []
        step = fn.capture(model, loss, optimizer, x[:8], y[:8]) if captured else None
        for i in range(0, 40, 8):
            a, b = x[i : i + 8], y[i : i + 8]
            if step is not None:
                losses.append(step(a, b))
                continue
            scores, backward = model.forward(a, train=True)
            value, loss_backward = loss.forward(scores, b)
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            losses.append(value)
        results.append((losses, bits(model), [layer.state.tolist() for layer in model if hasattr(layer, "state")]))
    assert results[0] == results[1]


@every_backend
def test_fit_repeats_itself(backend: str) -> None:
    x, y = data()
    with fn.use_backend(backend):
        results = []
        for _ in range(2):
            fn.manual_seed(1)
            model = network()
            history = fn.fit(model, x, y, epochs=3, batch_size=16, seed=2, validation_data=(x, y))
            results.append((history.loss, bits(model)))
    assert results[0] == results[1]


def test_a_model_with_augmentation_is_saved(tmp_path: Path) -> None:
    model, (x, _) = network(), data()
    fn.save(model, tmp_path / "m.safetensors")
    loaded = fn.load(tmp_path / "m.safetensors")
    assert repr(loaded) == repr(model)
    assert (loaded.scores(x) == model.scores(x)).all()
    for make in LAYERS.values():
        json.dumps(make().config())


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "crop of 0": (lambda: fn.RandomCrop(0), fn.ShapeError, "RandomCrop: expected size as one or two whole numbers"),
    "padding": (lambda: fn.RandomCrop(3, -1), fn.ShapeError, "RandomCrop: expected padding .* at least 0, got -1"),
    "shift": (lambda: fn.RandomShift(1.5), fn.ShapeError, "RandomShift: expected pixels"),  # type: ignore[arg-type]
    "cutout": (lambda: fn.Cutout((1, 2, 3)), fn.ShapeError, "Cutout: expected size"),  # type: ignore[arg-type]
    "p": (lambda: fn.RandomHorizontalFlip(1.1), ValueError, r"RandomHorizontalFlip: expected p from 0 to 1, got 1\.1"),
    "p is NaN": (lambda: fn.RandomHorizontalFlip(math.nan), ValueError, "got nan"),
    "fill": (lambda: fn.Cutout(2, fill=math.inf), ValueError, "Cutout: expected fill as a finite number, got inf"),
    "too small": (
        lambda: fn.Sequential({"crop": fn.RandomCrop((9, 4), (1, 0))})(images()),
        fn.ShapeError,
        r"crop \(RandomCrop\): expected images that have room for 9x4 with padding \(1, 0\), got \(6, 3, 6, 7\)",
    ),
    "no images": (
        lambda: fn.Cutout(1)(np.ones((3, 4))),
        fn.ShapeError,
        r"Cutout: expected \(N, C, H, W\), got \(3, 4\)",
    ),
    "integers": (lambda: fn.RandomShift(1)(np.ones((1, 1, 2, 2), int)), fn.DTypeError, "RandomShift: expected float32"),
    "gradient": (
        lambda: fn.RandomCrop(3).forward(images(), train=True)[1](images()),
        fn.ShapeError,
        r"RandomCrop: expected the gradient of its output, \(6, 3, 3, 3\), got \(6, 3, 6, 7\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
